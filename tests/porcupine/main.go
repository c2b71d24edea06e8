// Judges histories of clients by Porcupine, a linearizability checker written by others.
//
//	porcupine FILE …     each an NDJSON file of operations; prints a verdict for each
//
// Exit codes: 0 linearizable, 1 not (a picture is written beside the file), 2 no verdict in time or an unreadable file.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	// lineBytesMax bounds one operation of a file.
	lineBytesMax = 1 << 20
	// patience bounds the search for one file.
	patience = 5 * time.Minute
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: porcupine FILE …")
		os.Exit(2)
	}
	code := 0
	for _, path := range os.Args[1:] {
		code = max(code, judge(path))
	}
	os.Exit(code)
}

// judge prints what Porcupine thinks of one file.
func judge(path string) int {
	history, unknown, err := read(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	began := time.Now()
	result, info := porcupine.CheckOperationsVerbose(documents, history, patience)
	fmt.Printf("PORCUPINE %s: %d operations, %d of unknown outcome, %d keys: %s after %.1f s\n",
		path, len(history), unknown, len(byKey(history)), result, time.Since(began).Seconds())
	switch result {
	case porcupine.Ok:
		return 0
	case porcupine.Illegal:
		picture := path + ".html"
		if err := porcupine.VisualizePath(documents, info, picture); err == nil {
			fmt.Println("the longest order that was found:", picture)
		}
		return 1
	default:
		return 2
	}
}

// read gives the operations of a file, and how many of them nobody knows the outcome of: these may take effect at any
// time after their call.
func read(path string) (history []porcupine.Operation, unknown int, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, lineBytesMax)
	for number := 1; lines.Scan(); number++ {
		var op Operation
		if err := json.Unmarshal(lines.Bytes(), &op); err != nil {
			return nil, 0, fmt.Errorf("%s, line %d: %w", path, number, err)
		}
		end := op.Return
		if op.Status == 0 {
			unknown++
			end = math.MaxInt64
		}
		if end < op.Call || op.Key == "" {
			return nil, 0, fmt.Errorf("%s, line %d: it returns before its call, or has no key", path, number)
		}
		history = append(history, porcupine.Operation{
			ClientId: op.Client, Input: op, Call: op.Call, Output: op.Status, Return: end,
		})
	}
	return history, unknown, lines.Err()
}

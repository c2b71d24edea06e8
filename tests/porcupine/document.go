// What a document is to a client: the sequential specification that every history is held against. It is written from
// the API's description alone, and shares no code with the nodes.
package main

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// Operation is one line of a history: a request of a client and what came of it. Retries under one Idempotency-Key are
// one operation, from the first call to the last answer.
type Operation struct {
	Client int    `json:"client"`
	Key    string `json:"key"`
	// "put" sets `a` and forgets `b`, "patch" sets `b`, "delete", "read" (linearizable).
	Op string `json:"op"`
	// If-Match of the revision with this version; 0: none.
	IfVersion uint64 `json:"ifVersion"`
	// If-None-Match: *
	IfAbsent bool  `json:"ifAbsent"`
	Sent     int64 `json:"sent"`
	// Nanoseconds since the history began. Return is 0 when the outcome is not known.
	Call   int64 `json:"call"`
	Return int64 `json:"return"`
	// Status of HTTP, 0 when the outcome is not known.
	Status  int    `json:"status"`
	Version uint64 `json:"version"`
	A       int64  `json:"a"`
	B       int64  `json:"b"`
}

// document is the state of one key. A deleted document keeps its version: the next one counts on.
type document struct {
	Live    bool
	Version uint64
	A, B    int64
}

// conditionHolds says whether the preconditions of a write are true of a document.
func conditionHolds(state document, op Operation) bool {
	if op.IfAbsent && state.Live {
		return false
	}
	return op.IfVersion == 0 || state.Live && state.Version == op.IfVersion
}

// applied is the document after a write that was carried out; false if there is nothing to carry out.
func applied(state document, op Operation) (document, bool) {
	next := document{Live: true, Version: state.Version + 1, A: op.Sent}
	switch op.Op {
	case "put":
		return next, true
	case "patch":
		next.A, next.B = state.A, op.Sent
		return next, state.Live
	case "delete":
		return document{Version: state.Version + 1}, state.Live
	}
	return state, false
}

// step says whether an operation may have had its answer at this state, and what the state is then.
func step(state document, op Operation) (bool, document) {
	if op.Op == "read" {
		return readAgrees(state, op), state
	}
	holds := conditionHolds(state, op)
	next, does := applied(state, op)
	switch {
	case op.Status == 0:
		if holds && does {
			return true, next
		}
		return true, state
	case op.Status == 412:
		return !holds && (!state.Live || op.Version == 0 || op.Version == state.Version), state
	case op.Status == 404:
		return holds && !does, state
	case op.Status == 201 && state.Live, op.Status == 200 && !state.Live:
		return false, state
	case op.Status == 200, op.Status == 201, op.Status == 204:
		return holds && does && (op.Version == 0 || op.Version == next.Version), next
	}
	return false, state
}

func readAgrees(state document, op Operation) bool {
	switch op.Status {
	case 0:
		return true
	case 404:
		return !state.Live
	case 200:
		return state == document{Live: true, Version: op.Version, A: op.A, B: op.B}
	}
	return false
}

func byKey(history []porcupine.Operation) [][]porcupine.Operation {
	keys := map[string][]porcupine.Operation{}
	for _, operation := range history {
		key := operation.Input.(Operation).Key
		keys[key] = append(keys[key], operation)
	}
	var parts [][]porcupine.Operation
	for _, part := range keys {
		parts = append(parts, part)
	}
	return parts
}

// documents is the specification in Porcupine's terms: keys are independent of each other.
var documents = porcupine.Model{
	Partition: byKey,
	Init:      func() any { return document{} },
	Step: func(state, input, _ any) (bool, any) {
		ok, next := step(state.(document), input.(Operation))
		return ok, next
	},
	Equal: func(one, other any) bool { return one == other },
	DescribeOperation: func(input, _ any) string {
		op := input.(Operation)
		return fmt.Sprintf("%s %s sent=%d if=%d absent=%t -> %d v%d a=%d b=%d",
			op.Op, op.Key, op.Sent, op.IfVersion, op.IfAbsent, op.Status, op.Version, op.A, op.B)
	},
	DescribeState: func(state any) string { return fmt.Sprintf("%+v", state) },
}

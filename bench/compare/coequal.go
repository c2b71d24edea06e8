package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// coequal is three nodes under `coequal-operator local`, as a user would start them.
type coequal struct {
	folder   string
	operator *process
	version  string
	port     int
	nodes    int
}

const manifest = `apiVersion: coequal.dev/v1alpha1
kind: ReplicatedDatabase
metadata:
  name: bench
spec:
  replicas: 3
  databases:
  - name: bench
`

func startCoequal(folder string, s settings) (system, error) {
	programs, err := filepath.Abs(s.programs)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(folder, "bench.yaml")
	if err := os.WriteFile(file, []byte(manifest), 0o644); err != nil {
		return nil, err
	}
	port, err := freePorts()
	if err != nil {
		return nil, err
	}
	program := filepath.Join(programs, "coequal-operator")
	operator, err := launch(filepath.Join(folder, "operator.log"), nil, program,
		"local", "-f", file, "--data", filepath.Join(folder, "data"), "--port", strconv.Itoa(port))
	if err != nil {
		return nil, err
	}
	c := &coequal{folder: folder, operator: operator, version: output(program, "--version"), port: port, nodes: 3}
	if err := until("database bench is ONLINE on three nodes", time.Minute, c.online); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// freePorts finds a port with those free that local mode takes from there for four nodes.
func freePorts() (int, error) {
	for range 50 {
		port := 20_000 + rand.IntN(10_000)
		free := true
		for _, more := range []int{0, 1, 2, 3, 100, 101, 102, 103} {
			listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+more))
			if err != nil {
				free = false
				break
			}
			listener.Close()
		}
		if free {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free ports between 20000 and 30000")
}

func (c *coequal) describe() string {
	return c.version + " as shipped (64 MiB of cache and 32 MiB for what waits for a checkpoint for each database); HTTP/1.1 with kept connections spread over three nodes; every acknowledged write is in the log of a majority, fsynced"
}

func (c *coequal) can(kind) bool { return true }

func (c *coequal) address(node int) string { return fmt.Sprintf("127.0.0.1:%d", c.port+node) }

func (c *coequal) online() error {
	for node := range c.nodes {
		seen, err := c.look(node)
		if err != nil {
			return err
		}
		if seen.Status != "ONLINE" {
			return fmt.Errorf("node %d is %s", node, seen.Status)
		}
	}
	return c.voters()
}

// voters: it is not enough that the database is there; all nodes have to vote, and no other.
func (c *coequal) voters() error {
	seen, err := c.replication(0)
	if err != nil {
		return err
	}
	voters := 0
	for _, node := range seen.Nodes {
		if strings.EqualFold(node.Role, "voter") && node.Status == "ONLINE" {
			voters++
		}
	}
	if voters != c.nodes || seen.Changing {
		return fmt.Errorf("%d voters are ONLINE, not %d", voters, c.nodes)
	}
	return nil
}

func (c *coequal) client(node int) (client, error) {
	return &coequalClient{http: newHTTP(c.address(node), "")}, nil
}

// kill sends SIGKILL to the node's process; local mode starts it again after a moment.
func (c *coequal) kill(node int) error {
	pid, err := listener(c.port + node)
	if err != nil {
		return err
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

func (c *coequal) restart(int) error { return until("ONLINE again", time.Minute, c.online) }

func (c *coequal) stop() { c.operator.end(syscall.SIGTERM, 30*time.Second) }

type coequalClient struct {
	http *httpClient
	seen string // entity tag of the document that conditional changes
	out  []byte
}

const documents = "/v1/databases/bench/collections/items/documents"

func (c *coequalClient) document(value []byte) []byte {
	c.out = append(c.out[:0], `{"v":"`...)
	c.out = append(c.out, value...)
	c.out = append(c.out, `"}`...)
	return c.out
}

func (c *coequalClient) put(key, more string, value []byte) (int, error) {
	return c.http.send("PUT", documents+"/"+key, more+"Content-Type: application/json\r\n", c.document(value))
}

func (c *coequalClient) insert(key string, value []byte) error {
	status, err := c.put(key, "If-None-Match: *\r\n", value)
	if err == nil && status != 201 {
		err = c.http.wrong("insert", status)
	}
	return err
}

func (c *coequalClient) update(key string, value []byte) error {
	status, err := c.put(key, "", value)
	if err == nil && status != 200 && status != 201 && status != 204 {
		err = c.http.wrong("update", status)
	}
	return err
}

func (c *coequalClient) conditional(key string, value []byte) error {
	if c.seen == "" {
		if err := c.read(key, "?consistency=linearizable"); err != nil {
			return err
		}
		c.seen = c.http.etag
	}
	status, err := c.put(key, "If-Match: "+c.seen+"\r\n", value)
	// What the answer says is there now, whether it was changed or not.
	c.seen = c.http.etag
	switch {
	case err != nil:
		return err
	case status == 412:
		return errConflict
	case status != 200 && status != 204:
		return c.http.wrong("conditional update", status)
	}
	return nil
}

func (c *coequalClient) read(key, query string) error {
	status, err := c.http.send("GET", documents+"/"+key+query, "", nil)
	if err == nil && status != 200 {
		err = c.http.wrong("read", status)
	}
	return err
}

func (c *coequalClient) local(key string) error  { return c.read(key, "") }
func (c *coequalClient) latest(key string) error { return c.read(key, "?consistency=linearizable") }

func (c *coequalClient) list(first string, count int) error {
	status, err := c.http.send("GET", fmt.Sprintf("%s?start=%s&limit=%d", documents, first, count), "", nil)
	if err == nil && status != 200 {
		err = c.http.wrong("list", status)
	}
	return err
}

func (c *coequalClient) bulk(keys []string, value []byte) error {
	var lines bytes.Buffer
	for _, key := range keys {
		fmt.Fprintf(&lines, `{"_key":"%s","v":"%s"}`+"\n", key, value)
	}
	status, err := c.http.send("POST", documents+":batch", "Content-Type: application/x-ndjson\r\n", lines.Bytes())
	if err != nil {
		return err
	}
	// Each line has its own status.
	written := bytes.Count(c.http.body, []byte(`"status":201`)) + bytes.Count(c.http.body, []byte(`"status":200`))
	if status != 200 || written != len(keys) {
		return c.http.wrong(fmt.Sprintf("batch, %d of %d written", written, len(keys)), status)
	}
	return nil
}

func (c *coequalClient) close() { c.http.close() }

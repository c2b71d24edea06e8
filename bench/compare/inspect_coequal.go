package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// database is what a node says of the database.
type database struct {
	Status    string `json:"status"`
	Documents int    `json:"documents"`
	Epoch     *int   `json:"epoch"`
}

// replication is what a node says of the database's nodes.
type replication struct {
	Changing bool `json:"changing"`
	Nodes    []struct {
		Name    string `json:"name"`
		Role    string `json:"role"`
		Status  string `json:"status"`
		Backlog int    `json:"backlogEntries"`
	} `json:"nodes"`
}

// ask a node for something in JSON over a connection of its own: nodes come and go here.
func (c *coequal) ask(node int, path string, into any) error {
	http := newHTTP(c.address(node), "")
	defer http.close()
	status, err := http.send("GET", path, "", nil)
	if err != nil {
		return err
	}
	if status != 200 {
		return http.wrong(path, status)
	}
	return json.Unmarshal(http.body, into)
}

// metric of a node, over all its peers or whatever else its samples are told apart by, for the database in question.
func (c *coequal) metric(node int, name string) (float64, error) {
	http := newHTTP(c.address(node), "")
	defer http.close()
	status, err := http.send("GET", "/metrics", "", nil)
	if err != nil {
		return 0, err
	}
	if status != 200 {
		return 0, http.wrong("/metrics", status)
	}
	sum, found := 0.0, false
	for line := range strings.Lines(string(http.body)) {
		sample, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		labels, is := strings.CutPrefix(sample, name)
		if !is || labels != "" && labels[0] != '{' || strings.Contains(labels, `database="_`) {
			continue
		}
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		sum, found = sum+number, true
	}
	if !found {
		return 0, fmt.Errorf("node %d has no metric %s", node, name)
	}
	return sum, nil
}

// metrics is the same over all nodes.
func (c *coequal) metrics(name string) (float64, error) {
	sum := 0.0
	for node := range c.nodes {
		value, err := c.metric(node, name)
		if err != nil {
			return 0, err
		}
		sum += value
	}
	return sum, nil
}

func (c *coequal) look(node int) (database, error) {
	var seen database
	err := c.ask(node, "/v1/databases/bench", &seen)
	if err == nil && seen.Epoch == nil {
		err = fmt.Errorf("node %d says no epoch of the database", node)
	}
	return seen, err
}

func (c *coequal) replication(node int) (replication, error) {
	var seen replication
	err := c.ask(node, "/v1/databases/bench/replication", &seen)
	return seen, err
}

// backlog of a node: what the others have for it, the most of all.
func (c *coequal) backlog(of int) (int, error) {
	most := 0
	for node := range c.nodes {
		if node == of {
			continue
		}
		seen, err := c.replication(node)
		if err != nil {
			return 0, err
		}
		for _, replica := range seen.Nodes {
			if replica.Name == nodeName(of) {
				most = max(most, replica.Backlog)
			}
		}
	}
	return most, nil
}

func nodeName(node int) string { return fmt.Sprintf("bench-%d", node) }

func (c *coequal) pid(node int) (int, error) { return listener(c.port + node) }

func (c *coequal) folders() []string {
	var folders []string
	for node := range c.nodes {
		folders = append(folders, filepath.Join(c.folder, "data", nodeName(node)))
	}
	return folders
}

// revive: local mode does it by itself, after a second at first.
func (c *coequal) revive(int) error { return nil }

func (c *coequal) answers(node int) error {
	http := newHTTP(c.address(node), "")
	defer http.close()
	status, err := http.send("GET", "/livez", "", nil)
	if err == nil && status != 200 {
		err = http.wrong("/livez", status)
	}
	return err
}

func (c *coequal) ready() error { return c.online() }

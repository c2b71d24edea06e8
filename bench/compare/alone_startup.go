package main

import (
	"fmt"
	"sync"
	"time"
)

const (
	// lookEach: how often a node that starts is asked for an answer.
	lookEach     = 2 * time.Millisecond
	startsWithin = 5 * time.Minute
)

// startUp after SIGKILL of one node and of all. Times count from the kill, with the second or more that whoever starts
// the node again waits before; and from the start of its process.
func (a *alone) startUp() error {
	if err := a.startAfter("one node", 2); err != nil {
		return err
	}
	if a.name == "galera" {
		return nil // without any node left Galera has to be told by hand which one begins
	}
	return a.startAfter("all nodes", 0, 1, 2)
}

// revival is when a node that was killed came back.
type revival struct {
	process  time.Time // its new process began
	answered time.Time // to anything
	read     time.Time // a document that is there
	err      error
}

func (a *alone) startAfter(what string, nodes ...int) error {
	a.progress("kills %s", what)
	killed := time.Now()
	for _, node := range nodes {
		if err := a.system.kill(node); err != nil {
			return err
		}
	}
	for _, node := range nodes {
		if err := a.system.revive(node); err != nil {
			return err
		}
	}
	back := make([]revival, len(nodes))
	var group sync.WaitGroup
	for i, node := range nodes {
		group.Go(func() { back[i] = a.await(node) })
	}
	group.Wait()
	var answer, start, read time.Duration
	for _, one := range back {
		if one.err != nil {
			return one.err
		}
		answer, start = max(answer, one.answered.Sub(killed)), max(start, one.answered.Sub(one.process))
		read = max(read, one.read.Sub(one.process))
	}
	if err := untilEach(lookEach, "all nodes take part again", startsWithin, a.system.ready); err != nil {
		return err
	}
	took := time.Since(killed)
	a.note(starting, what+": kill to first answer", "ms", milliseconds(answer))
	a.note(starting, what+": start of the process to first answer", "ms", milliseconds(start))
	a.note(starting, what+": start of the process to first document read from it", "ms", milliseconds(read))
	a.note(starting, what+": kill to all nodes ONLINE", "ms", milliseconds(took))
	return nil
}

// await a node's new process, its first answer, and the first document that it reads out.
func (a *alone) await(node int) (back revival) {
	back.err = untilEach(lookEach, fmt.Sprintf("node %d answers", node), startsWithin, func() error { return a.system.answers(node) })
	back.answered = time.Now()
	if back.err != nil {
		return back
	}
	back.err = untilEach(lookEach, fmt.Sprintf("node %d reads a document", node), startsWithin, func() error { return readFrom(a.system, node) })
	back.read = time.Now()
	if back.err != nil {
		return back
	}
	pid, err := a.system.pid(node)
	if err != nil {
		back.err = err
		return back
	}
	age, err := processAge(pid)
	back.process, back.err = time.Now().Add(-age), err
	return back
}

// readFrom a node, over a connection of its own, a document that is there.
func readFrom(system system, node int) error {
	c, err := system.client(node)
	if err != nil {
		return err
	}
	defer c.close()
	return c.local(filled(0))
}

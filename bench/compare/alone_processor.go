package main

import (
	"fmt"
	"time"
)

// idleFor is how long nodes without load are watched.
const idleFor = 10 * time.Second

// processor time of an insert as documents become more, and what nodes take that have nothing to do.
func (a *alone) processor() error {
	if err := a.settle(); err != nil {
		return err
	}
	pids, err := a.pids()
	if err != nil {
		return err
	}
	watched := idleFor
	if a.s.smoke {
		watched = 300 * time.Millisecond
	}
	a.progress("watches the nodes without load for %s", watched)
	idle, busiest, err := a.shares(pids, watched)
	if err != nil {
		return err
	}
	many, err := a.inserts()
	if err != nil {
		return err
	}
	a.note(processor, fmt.Sprintf("all nodes, an insert, 64 connections, from %d documents", a.s.few), "µs", a.costOfFew)
	a.note(processor, fmt.Sprintf("all nodes, an insert, 64 connections, from %d documents", a.s.documents), "µs", many.processor)
	a.note(processor, "the same as a ratio", "", many.processor/a.costOfFew)
	a.note(processor, "all nodes without load", "% of a processor", 100*idle)
	a.note(processor, "the busiest node without load", "% of a processor", 100*busiest)
	return nil
}

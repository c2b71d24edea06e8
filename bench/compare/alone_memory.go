package main

import (
	"errors"
	"fmt"
	"time"
)

const mebi = 1 << 20

// memory and disk: what the documents take when all that writing them left to do is done.
func (a *alone) memory() error {
	a.progress("waits until the nodes have nothing to do")
	if err := a.settle(); err != nil {
		return err
	}
	pids, err := a.pids()
	if err != nil {
		return err
	}
	for node, pid := range pids {
		for _, of := range []struct{ line, name string }{{"VmRSS", "memory (RSS)"}, {"VmHWM", "memory at its peak (VmHWM)"}} {
			kibi, err := numberIn(fmt.Sprintf("/proc/%d/status", pid), of.line)
			if err != nil {
				return err
			}
			a.note(memory, fmt.Sprintf("%s, node %d", of.name, node), "MiB", kibi*1024/mebi)
		}
	}
	for node, folder := range a.system.folders() {
		bytes, err := diskUsage(folder)
		if err != nil {
			return err
		}
		a.note(memory, fmt.Sprintf("disk, all of node %d's folder", node), "B/document", bytes/float64(a.written))
	}
	cost, err := a.inserts()
	if err != nil {
		return err
	}
	a.note(memory, "written to disk by all nodes for an insert, 64 connections", "B", cost.written)
	for _, counter := range counters {
		if value, is := cost.counted[counter.metric]; is {
			a.note(memory, counter.shown, counter.unit, value)
		}
	}
	return nil
}

// counters of Coequal's nodes that say what an insert takes.
var counters = []struct{ metric, shown, unit string }{
	{"coequal_log_commits_total", "commits (fsyncs) of all nodes' logs for an insert, 64 connections", ""},
	{"coequal_network_sent_bytes_total", "sent between all nodes for an insert, 64 connections", "B"},
	{"coequal_network_sent_frames_total", "frames between all nodes for an insert, 64 connections", ""},
}

// cost of one insert to all nodes together.
type cost struct {
	processor float64 // µs
	written   float64 // bytes
	counted   map[string]float64
}

// inserts over 64 connections for twice the usual time: what each cost.
func (a *alone) inserts() (cost, error) {
	pids, err := a.pids()
	if err != nil {
		return cost{}, err
	}
	taken := func() (time.Duration, float64, map[string]float64) {
		busy, failure := processorTime(pids)
		written, other := writtenBytes(pids)
		err = errors.Join(err, failure, other)
		counted := map[string]float64{}
		if c, is := a.system.(*coequal); is {
			for _, counter := range counters {
				counted[counter.metric], failure = c.metrics(counter.metric)
				err = errors.Join(err, failure)
			}
		}
		return busy, written, counted
	}
	busy, written, counted := taken()
	longer := a.s
	longer.time *= 2
	seen, failure := measure(a.ctx, a.system, workload{kind: insert, connections: 64, bytes: 256}, longer)
	busyAfter, writtenAfter, countedAfter := taken()
	if err = errors.Join(err, failure); err != nil {
		return cost{}, err
	}
	if seen.Requests == 0 {
		return cost{}, fmt.Errorf("no insert was acknowledged: %v", seen.Errors)
	}
	a.written += int(seen.Requests)
	count := float64(seen.Requests)
	for name, after := range countedAfter {
		countedAfter[name] = (after - counted[name]) / count
	}
	return cost{processor: float64((busyAfter - busy).Microseconds()) / count, written: (writtenAfter - written) / count,
		counted: countedAfter}, nil
}

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
	return nil
}

// cost of one insert to all nodes together.
type cost struct {
	processor float64 // µs
	written   float64 // bytes
}

// inserts over 64 connections for twice the usual time: what each cost.
func (a *alone) inserts() (cost, error) {
	pids, err := a.pids()
	if err != nil {
		return cost{}, err
	}
	taken := func() (time.Duration, float64) {
		busy, failure := processorTime(pids)
		written, other := writtenBytes(pids)
		err = errors.Join(err, failure, other)
		return busy, written
	}
	busy, written := taken()
	longer := a.s
	longer.time *= 2
	seen, failure := measure(a.ctx, a.system, workload{kind: insert, connections: 64, bytes: 256}, longer)
	busyAfter, writtenAfter := taken()
	if err = errors.Join(err, failure); err != nil {
		return cost{}, err
	}
	if seen.Requests == 0 {
		return cost{}, fmt.Errorf("no insert was acknowledged: %v", seen.Errors)
	}
	a.written += int(seen.Requests)
	count := float64(seen.Requests)
	return cost{processor: float64((busyAfter - busy).Microseconds()) / count, written: (writtenAfter - written) / count}, nil
}

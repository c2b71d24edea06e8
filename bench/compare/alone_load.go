package main

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// loadConnections is how many write at once while memory is watched.
const loadConnections = 64

// watched is what was seen of the nodes at one moment of the load.
type watched struct {
	// memory of the node that has most, in MiB.
	memory float64
	// written since the load began.
	written int64
}

// fullLoad keeps all nodes busy with updates of all documents for -load, and watches whether their memory stays level.
func (a *alone) fullLoad() error {
	pids, err := a.pids()
	if err != nil {
		return err
	}
	workers, err := newWorkers(a.system, workload{kind: update, connections: loadConnections}, a.s.documents)
	if err != nil {
		return err
	}
	defer closeAll(workers)
	var written, failed atomic.Int64
	until := time.Now().Add(a.s.load)
	var group sync.WaitGroup
	for _, w := range workers {
		text := value(w.random, 256)
		group.Go(func() {
			for a.ctx.Err() == nil && time.Now().Before(until) {
				if _, err := w.operation(update, text); err != nil {
					failed.Add(1)
					time.Sleep(5 * time.Millisecond)
					continue
				}
				written.Add(1)
			}
		})
	}
	seen, failure := a.watch(pids, until, &written)
	group.Wait()
	if failure != nil {
		return failure
	}
	a.noteLoad(seen, failed.Load())
	return a.ctx.Err()
}

// watch looks at the nodes a hundred times until the load ends, and says what it sees now and then.
func (a *alone) watch(pids []int, until time.Time, written *atomic.Int64) ([]watched, error) {
	const looks = 100
	pause := time.Until(until) / looks
	var seen []watched
	for len(seen) < looks && a.ctx.Err() == nil {
		select {
		case <-a.ctx.Done():
			return seen, a.ctx.Err()
		case <-time.After(pause):
		}
		most := 0.0
		for _, pid := range pids {
			kibi, err := numberIn(fmt.Sprintf("/proc/%d/status", pid), "VmRSS")
			if err != nil {
				return seen, err
			}
			most = max(most, kibi*1024/mebi)
		}
		seen = append(seen, watched{memory: most, written: written.Load()})
		if len(seen)%10 == 0 {
			a.progress("under load: %.0f MiB, %d writes", most, written.Load())
		}
	}
	return seen, nil
}

// noteLoad sets the last tenth of the load against its first.
func (a *alone) noteLoad(seen []watched, failed int64) {
	tenth := len(seen) / 10
	if tenth == 0 {
		return
	}
	memoryOf := func(part []watched) float64 {
		var values []float64
		for _, one := range part {
			values = append(values, one.memory)
		}
		return middle(slices.Sorted(slices.Values(values)))
	}
	first, last := memoryOf(seen[:tenth]), memoryOf(seen[len(seen)-tenth:])
	most := slices.MaxFunc(seen, func(a, b watched) int { return cmp.Compare(a.memory, b.memory) }).memory
	a.note(loading, "minutes of updates over 64 connections", "", a.s.load.Minutes())
	a.note(loading, "updates a second", "", float64(seen[len(seen)-1].written)/a.s.load.Seconds())
	a.note(loading, "updates that failed", "", float64(failed))
	a.note(loading, "memory (RSS) of the largest node, first tenth", "MiB", first)
	a.note(loading, "the same, last tenth", "MiB", last)
	a.note(loading, "last over first", "", last/first)
	a.note(loading, "memory (RSS) of the largest node at its most", "MiB", most)
}

package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// shape of an import: documents in a request, and requests at once.
type shape struct{ lines, connections int }

// usual is the shape where none was searched for.
var usual = shape{lines: 500, connections: 9}

const (
	// leastSlice and mostSlice are the parts of all documents that a shape is tried with.
	leastSlice, mostSlice = 50, 20
	// toldEvery is how often a long import says where it is.
	toldEvery = 10 * time.Second
	// caughtUpWithin bounds the wait for all nodes to hold the same.
	caughtUpWithin = 5 * time.Minute
)

func shapes() []shape {
	var all []shape
	for _, lines := range []int{500, 2_000, 8_000} {
		for _, connections := range []int{3, 9, 24, 48} {
			all = append(all, shape{lines, connections})
		}
	}
	return all
}

// fill imports all documents: the few first, what they cost, a slice with each shape, the rest with the best of them.
func (a *alone) fill() error {
	a.progress("imports %d documents", a.s.few)
	if _, err := a.load(0, a.s.few, usual, 0, 1, 2); err != nil {
		return err
	}
	if a.s.wantsStep(processor) {
		a.progress("inserts beside %d documents", a.s.few)
		few, err := a.inserts()
		if err != nil {
			return err
		}
		a.costOfFew = few.processor
	}
	next, best := a.s.few, usual
	if a.name == "coequal" && a.s.wantsStep(importing) {
		var err error
		if next, best, err = a.bestShape(next); err != nil {
			return err
		}
	}
	if next >= a.s.documents {
		return nil
	}
	count := a.s.documents - next
	a.progress("imports %d documents, %d in a request, %d requests at once", count, best.lines, best.connections)
	return a.importRest(next, best)
}

func (a *alone) importRest(next int, shape shape) error {
	pids, err := a.pids()
	if err != nil {
		return err
	}
	busy, err := processorTime(pids)
	if err != nil {
		return err
	}
	generator, begun := cpuTime(), time.Now()
	acknowledged, err := a.load(next, a.s.documents, shape, 0, 1, 2)
	if err != nil {
		return err
	}
	generator = cpuTime() - generator
	equal := acknowledged
	c, isCoequal := a.system.(*coequal)
	if isCoequal {
		if err := c.caughtUp(a.written); err != nil {
			return err
		}
		equal = time.Since(begun)
	}
	busyAfter, err := processorTime(pids)
	if err != nil || !a.s.wantsStep(importing) {
		return err
	}
	count := float64(a.s.documents - next)
	a.note(importing, "acknowledged", "documents/s", count/acknowledged.Seconds())
	if isCoequal {
		a.note(importing, "until all nodes are ONLINE and hold all", "documents/s", count/equal.Seconds())
	}
	a.note(importing, "documents in a request", "", float64(shape.lines))
	a.note(importing, "requests at once", "", float64(shape.connections))
	a.note(importing, "all nodes, processor time for a document", "µs", float64((busyAfter-busy).Microseconds())/count)
	a.note(importing, "generator", "processors", generator.Seconds()/acknowledged.Seconds())
	return nil
}

// bestShape tries every shape with a slice of its own; the next document and the fastest.
func (a *alone) bestShape(next int) (int, shape, error) {
	best, most := usual, 0.0
	for _, tried := range shapes() {
		// Each connection has a full request at least, or the shape would not be what is tried.
		count := max(a.s.documents/leastSlice, tried.lines*tried.connections)
		if count > a.s.documents/mostSlice || next+count >= a.s.documents {
			continue
		}
		took, err := a.load(next, next+count, tried, 0, 1, 2)
		if err != nil {
			return next, best, err
		}
		next += count
		rate := float64(count) / took.Seconds()
		a.progress("%d in a request, %d at once: %.0f documents/s", tried.lines, tried.connections, rate)
		if rate > most {
			best, most = tried, rate
		}
	}
	return next, best, nil
}

// load writes the documents of these numbers in batches over some nodes; how long until all were acknowledged.
func (a *alone) load(from, to int, shape shape, nodes ...int) (time.Duration, error) {
	workers, err := newWorkersOn(a.system, nodes, workload{kind: bulk, connections: shape.connections}, 1)
	if err != nil {
		return 0, err
	}
	defer closeAll(workers)
	text := value(rand.New(rand.NewPCG(uint64(from), 9)), 256)
	next := atomic.Int64{}
	next.Store(int64(from))
	failures := make([]error, len(workers))
	begun := time.Now()
	var group sync.WaitGroup
	for i, w := range workers {
		group.Go(func() {
			for a.ctx.Err() == nil && failures[i] == nil {
				first := int(next.Add(int64(shape.lines))) - shape.lines
				if first >= to {
					return
				}
				keys := make([]string, min(shape.lines, to-first))
				for at := range keys {
					keys[at] = filled(first + at)
				}
				failures[i] = w.client.bulk(keys, text)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	for waiting := true; waiting; {
		select {
		case <-done:
			waiting = false
		case <-time.After(toldEvery):
			a.progress("%d of %d documents", min(int(next.Load()), to)-from, to-from)
		}
	}
	took := time.Since(begun)
	a.written += to - from
	return took, errors.Join(append(failures, a.ctx.Err())...)
}

// caughtUp waits until all nodes are ONLINE and hold the same number of documents, at least so many.
func (c *coequal) caughtUp(atLeast int) error {
	what := fmt.Sprintf("all nodes are ONLINE and hold the same, at least %d documents", atLeast)
	return untilEach(20*time.Millisecond, what, caughtUpWithin, func() error {
		first := 0
		for node := range c.nodes {
			seen, err := c.look(node)
			if err != nil {
				return err
			}
			if node == 0 {
				first = seen.Documents
			}
			if seen.Status != "ONLINE" || seen.Documents != first || seen.Documents < atLeast {
				return fmt.Errorf("node %d is %s with %d documents, node 0 has %d", node, seen.Status, seen.Documents, first)
			}
		}
		return c.online()
	})
}

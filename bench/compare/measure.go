package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// measured is what one workload over one system gave in one round. Times are in microseconds.
type measured struct {
	Rate      float64          `json:"per_second"`
	P50       float64          `json:"p50_us"`
	P99       float64          `json:"p99_us"`
	Max       float64          `json:"max_us"`
	Requests  int64            `json:"requests"`
	Conflicts int64            `json:"conflicts,omitempty"`
	Errors    map[string]int64 `json:"errors,omitempty"`
	// Fairness is the most successes of a client over the fewest; only where all want the same document.
	Fairness float64 `json:"fairness,omitempty"`
	// Generator is the part of one processor that this program took.
	Generator float64 `json:"generator_processors"`
	// Gap is the longest time without an acknowledged write after a kill, in milliseconds.
	Gap float64 `json:"gap_ms,omitempty"`
	// GapSince is when it began, in milliseconds after the kill.
	GapSince float64 `json:"gap_since_ms,omitempty"`
	// GapAtOnce is the longest one within the second after the kill, what reaches beyond it left out.
	GapAtOnce float64 `json:"gap_at_once_ms,omitempty"`
	// GapOfAll is the longest time in which nobody's write was acknowledged.
	GapOfAll float64 `json:"gap_of_all_ms,omitempty"`
	// Stalled is how long, within it, a thread of this program that sleeps a millisecond at a time was not woken.
	Stalled float64 `json:"gap_stalled_ms,omitempty"`
	// Before is the longest such time in as long before the kill.
	Before float64 `json:"gap_before_ms,omitempty"`
	// SecondBefore and SecondAfter are the p99 of writes in the second before and after the kill, in milliseconds.
	SecondBefore float64 `json:"p99_second_before_ms,omitempty"`
	SecondAfter  float64 `json:"p99_second_after_ms,omitempty"`
	// SecondsBefore is the same of each second before, the last one first.
	SecondsBefore []float64 `json:"p99_seconds_before_ms,omitempty"`
	// Failed writes after the kill; the p99 are of those that were acknowledged.
	Failed int `json:"failed_after_kill,omitempty"`
	// Stuck requests waited for an answer until the generator's patience ended.
	Stuck int `json:"stuck,omitempty"`
}

// stoodStill: each connection waited for an answer until its patience ended.
func (m measured) stoodStill(w workload) bool { return m.Stuck >= w.connections }

func (m measured) String() string {
	if m.Gap > 0 {
		return fmt.Sprintf("longest gap %.0f ms (before the kill: %.0f ms)", m.Gap, m.Before)
	}
	text := fmt.Sprintf("%8.0f/s  p50 %7.2f ms  p99 %7.2f ms", m.Rate, m.P50/1000, m.P99/1000)
	if m.Conflicts > 0 {
		text += fmt.Sprintf("  %d conflicts, fairness %.1f", m.Conflicts, m.Fairness)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Errors)) {
		text += fmt.Sprintf("  %d × %s", m.Errors[name], name)
	}
	return text
}

// longestMicroseconds that is told apart.
const longestMicroseconds = 120_000_000

var runs atomic.Uint64

// worker is one connection and what it saw.
type worker struct {
	number    int
	run       uint64
	client    client
	choose    *chooser
	random    *rand.Rand
	times     *hdrhistogram.Histogram
	conflicts int64
	errors    map[string]int64
	made      int
	// until is the end of the time that is measured; within are the documents that were answered by then.
	until  time.Time
	within int64
	stuck  int
}

func newWorkers(system system, w workload, keys int) ([]*worker, error) {
	return newWorkersOn(system, []int{0, 1, 2}, w, keys)
}

// newWorkersOn spreads connections over some of the nodes.
func newWorkersOn(system system, nodes []int, w workload, keys int) ([]*worker, error) {
	run := runs.Add(1)
	workers := make([]*worker, w.connections)
	for i := range workers {
		c, err := system.client(nodes[i%len(nodes)])
		if err != nil {
			closeAll(workers)
			return nil, err
		}
		seed := run<<20 | uint64(i)
		workers[i] = &worker{number: i, run: run, client: c, choose: newChooser(seed, keys, w.kind),
			random: rand.New(rand.NewPCG(seed, 9)), times: hdrhistogram.New(1, longestMicroseconds, 3), errors: map[string]int64{}}
	}
	return workers, nil
}

func closeAll(workers []*worker) {
	for _, w := range workers {
		if w != nil {
			w.client.close()
		}
	}
}

func (w *worker) newKey() string {
	w.made++
	return "i" + strconv.FormatUint(w.run, 36) + "-" + strconv.Itoa(w.number) + "-" + strconv.Itoa(w.made)
}

// operation makes one request of the workload; how many documents it was about.
func (w *worker) operation(k kind, value []byte) (int64, error) {
	switch k {
	case insert, fixedRate, kill:
		return 1, w.client.insert(w.newKey(), value)
	case update, zipfian:
		return 1, w.client.update(w.choose.key(), value)
	case conditional:
		return 1, w.client.conditional(filled(0), value)
	case half, mostly:
		reads := 50
		if k == mostly {
			reads = 95
		}
		if w.random.IntN(100) < reads {
			return 1, w.client.local(w.choose.key())
		}
		return 1, w.client.update(w.choose.key(), value)
	case local:
		return 1, w.client.local(w.choose.key())
	case latest:
		return 1, w.client.latest(w.choose.key())
	case list:
		return 1, w.client.list(w.choose.key(), listed)
	default:
		keys := make([]string, batch)
		for i := range keys {
			keys[i] = w.newKey()
		}
		return batch, w.client.bulk(keys, value)
	}
}

func (w *worker) note(begun time.Time, documents int64, err error) {
	switch {
	case err == nil:
		now := time.Now()
		// Within the bounds that the histogram was made for, so it takes it.
		_ = w.times.RecordValues(min(max(1, now.Sub(begun).Microseconds()), longestMicroseconds), documents)
		if !now.After(w.until) {
			w.within += documents
		}
	case errors.Is(err, errConflict):
		w.conflicts++
	default:
		w.errors[short(err)]++
		if time.Since(begun) >= patience {
			w.stuck++
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// short is the same for all connections: errors of the network have their ports in their words.
func short(err error) string {
	text := err.Error()
	if network, is := errors.AsType[*net.OpError](err); is {
		text = fmt.Sprintf("%s: %v", network.Op, network.Err)
	}
	if len(text) > 80 {
		text = text[:80]
	}
	return text
}

// measure runs a workload for its time. In a closed loop each connection sends its next request when the last one was
// answered; in an open one requests are due at fixed moments and their times count from these (no coordinated omission).
func measure(ctx context.Context, system system, w workload, s settings) (measured, error) {
	workers, err := newWorkers(system, w, s.keys)
	if err != nil {
		return measured{}, err
	}
	defer closeAll(workers)
	cpu, begun := cpuTime(), time.Now()
	until := begun.Add(s.time)
	var group sync.WaitGroup
	for i, worker := range workers {
		text := value(worker.random, w.bytes)
		worker.until = until
		group.Go(func() {
			if w.rate > 0 {
				worker.open(ctx, w, text, begun, until, i)
				return
			}
			for ctx.Err() == nil {
				sent := time.Now()
				if sent.After(until) {
					return
				}
				documents, err := worker.operation(w.kind, text)
				worker.note(sent, documents, err)
			}
		})
	}
	group.Wait()
	took := time.Since(begun)
	m := sum(workers, s.time)
	m.Generator = (cpuTime() - cpu).Seconds() / took.Seconds()
	if w.kind == conditional {
		m.Fairness = fairness(workers)
	}
	return m, ctx.Err()
}

// open sends this worker's share: one request each connections/rate seconds.
func (w *worker) open(ctx context.Context, load workload, value []byte, begun, until time.Time, place int) {
	step := time.Duration(float64(time.Second) * float64(load.connections) / float64(load.rate))
	due := begun.Add(step * time.Duration(place) / time.Duration(load.connections))
	for ; due.Before(until) && ctx.Err() == nil; due = due.Add(step) {
		time.Sleep(time.Until(due))
		if time.Since(due) > patience {
			// Whoever waits for this one has given up; a backlog of such requests would take for ever.
			w.errors["not sent in time"]++
			continue
		}
		documents, err := w.operation(load.kind, value)
		w.note(due, documents, err)
	}
}

// sum: the rate is of what was answered within the time; the times are of all, stragglers too.
func sum(workers []*worker, measuredFor time.Duration) measured {
	all, within := hdrhistogram.New(1, longestMicroseconds, 3), int64(0)
	m := measured{Errors: map[string]int64{}}
	for _, w := range workers {
		all.Merge(w.times)
		m.Conflicts += w.conflicts
		m.Stuck += w.stuck
		within += w.within
		for name, count := range w.errors {
			m.Errors[name] += count
		}
	}
	m.Requests = all.TotalCount()
	m.Rate = float64(within) / measuredFor.Seconds()
	m.P50, m.P99, m.Max = float64(all.ValueAtQuantile(50)), float64(all.ValueAtQuantile(99)), float64(all.Max())
	return m
}

func fairness(workers []*worker) float64 {
	least, most := workers[0].times.TotalCount(), int64(0)
	for _, w := range workers {
		least, most = min(least, w.times.TotalCount()), max(most, w.times.TotalCount())
	}
	return float64(most) / float64(max(least, 1))
}

// fill writes the documents that reads and updates choose from.
func fill(ctx context.Context, system system, keys int) error {
	workers, err := newWorkers(system, workload{kind: insert, connections: 16}, keys)
	if err != nil {
		return err
	}
	defer closeAll(workers)
	text := value(workers[0].random, 256)
	failures := make(chan error, len(workers))
	for i, worker := range workers {
		go func() {
			for key := i; key < keys && ctx.Err() == nil; key += len(workers) {
				if err := worker.client.insert(filled(key), text); err != nil {
					failures <- err
					return
				}
			}
			failures <- nil
		}()
	}
	for range workers {
		err = errors.Join(err, <-failures)
	}
	return errors.Join(err, ctx.Err())
}

// cpuTime is what this process has taken of the processors.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

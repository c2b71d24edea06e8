package main

import (
	"context"
	"slices"
	"sync"
	"time"
)

// sample is one request of a background writer.
type sample struct {
	begun, ended time.Time
	failed       bool
}

// background is writers that insert until they are told to stop while something else happens, and remember every
// request, so that times before and during it can be told apart afterwards.
type background struct {
	workers []*worker
	samples [][]sample
	cancel  context.CancelFunc
	group   sync.WaitGroup
}

// writeBehind starts writers, each with a connection of its own, spread over these nodes.
func writeBehind(ctx context.Context, system system, connections int, nodes []int) (*background, error) {
	ctx, cancel := context.WithCancel(ctx)
	b := &background{cancel: cancel, samples: make([][]sample, connections)}
	workers, err := newWorkersOn(system, nodes, workload{kind: insert, connections: connections}, 1)
	if err != nil {
		cancel()
		return nil, err
	}
	b.workers = workers
	for i, w := range workers {
		text := value(w.random, 256)
		b.group.Go(func() {
			for ctx.Err() == nil {
				begun := time.Now()
				err := w.client.insert(w.newKey(), text)
				b.samples[i] = append(b.samples[i], sample{begun: begun, ended: time.Now(), failed: err != nil})
				if err != nil {
					w.errors[short(err)]++
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
	}
	return b, nil
}

// stop ends the writers; only then may their samples be looked at. It may be called twice.
func (b *background) stop() {
	b.cancel()
	b.group.Wait()
	closeAll(b.workers)
}

// span is what the writers saw in a time.
type span struct {
	requests, failed int
	rate             float64 // acknowledged a second
	p50, p99         float64 // milliseconds
}

// before gives the writes that were answered within a time. One that hangs over its end belongs to what comes then.
func (b *background) before(from, to time.Time) span {
	return b.chosen(from, to, func(s sample) bool { return s.ended.After(from) && !s.ended.After(to) })
}

// during gives the writes that were under way at any moment of a time, those included that hang over its ends.
func (b *background) during(from, to time.Time) span {
	return b.chosen(from, to, func(s sample) bool { return s.ended.After(from) && s.begun.Before(to) })
}

func (b *background) chosen(from, to time.Time, counts func(sample) bool) span {
	var times []float64
	seen := span{}
	for _, samples := range b.samples {
		for _, s := range samples {
			switch {
			case !counts(s):
			case s.failed:
				seen.failed++
			default:
				times = append(times, milliseconds(s.ended.Sub(s.begun)))
			}
		}
	}
	slices.Sort(times)
	seen.requests = len(times)
	if to.After(from) {
		seen.rate = float64(len(times)) / to.Sub(from).Seconds()
	}
	if len(times) > 0 {
		seen.p50, seen.p99 = times[len(times)/2], times[len(times)*99/100]
	}
	return seen
}

// noteWriters says what writers felt of something that went on beside them.
func noteWriters(note func(name, unit string, value float64), before, during span) {
	note("writes a second before", "", before.rate)
	note("writes a second meanwhile", "", during.rate)
	note("p99 of writers before", "ms", before.p99)
	note("p99 of writers meanwhile", "ms", during.p99)
	note("meanwhile over before", "", during.p99/before.p99)
}

// gap is the longest time between two acknowledged writes of one client, the worst of all, and when it began.
func (b *background) gap(from, to time.Time) (worst time.Duration, since time.Time) {
	for _, samples := range b.samples {
		var times []time.Time
		for _, s := range samples {
			if !s.failed {
				times = append(times, s.ended)
			}
		}
		if gap, at := longest(times, from, to); gap > worst {
			worst, since = gap, at
		}
	}
	return worst, since
}

// gapOfAll is the longest time in which no client at all had a write acknowledged.
func (b *background) gapOfAll(from, to time.Time) time.Duration {
	var times []time.Time
	for _, samples := range b.samples {
		for _, s := range samples {
			if !s.failed {
				times = append(times, s.ended)
			}
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	gap, _ := longest(times, from, to)
	return gap
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

package main

import (
	"time"
)

const (
	// lookEvery is how often the nodes are asked how many checkpoints they have written.
	lookEvery = 100 * time.Millisecond
	// takes: a checkpoint counts as under way for so long before it was seen to have ended.
	takes = time.Second
)

// checkpoints: what 64 writers feel of the checkpoints that come while they write.
func (a *alone) checkpoints() error {
	c, err := a.coequal()
	if err != nil {
		return err
	}
	writers, err := writeBehind(a.ctx, a.system, fullLoad, []int{0, 1, 2})
	if err != nil {
		return err
	}
	defer writers.stop()
	begun := time.Now()
	ended, err := a.checkpointsUntil(c, begun.Add(6*a.s.time))
	if err != nil {
		return err
	}
	end := time.Now()
	writers.stop()
	beside := func(s sample) bool {
		for _, at := range ended {
			if s.ended.After(at.Add(-takes)) && s.begun.Before(at) {
				return true
			}
		}
		return false
	}
	a.written += writers.before(begun, end).requests
	with := writers.chosen(begun, end, beside)
	without := writers.chosen(begun, end, func(s sample) bool { return !beside(s) })
	a.note(checkpointing, "checkpoints of all nodes", "", float64(len(ended)))
	if with.requests > 0 && without.requests > 0 {
		a.note(checkpointing, "p99 of 64 writers while none is under way", "ms", without.p99)
		a.note(checkpointing, "p99 of 64 writers while one is", "ms", with.p99)
		a.note(checkpointing, "with over without", "", with.p99/without.p99)
	}
	return nil
}

// checkpointsUntil gives the times at which checkpoints were seen to have ended.
func (a *alone) checkpointsUntil(c *coequal, until time.Time) ([]time.Time, error) {
	var ended []time.Time
	known := make([]float64, c.nodes)
	for first := true; time.Now().Before(until) && a.ctx.Err() == nil; first = false {
		for node := range c.nodes {
			count, err := c.metric(node, "coequal_checkpoints_total")
			if err != nil {
				return nil, err
			}
			if !first && count > known[node] {
				ended = append(ended, time.Now())
			}
			known[node] = count
		}
		wait(a.ctx, lookEvery)
	}
	return ended, a.ctx.Err()
}

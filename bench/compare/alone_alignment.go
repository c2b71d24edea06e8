package main

import (
	"fmt"
	"slices"
	"syscall"
	"time"
)

const (
	// missed: the part of all documents that a node misses.
	missed = 4
	// fullLoad: connections that write while a node catches up.
	fullLoad = 64
	// away: this node is stopped; writes go to the others.
	away = 2
	// drainedAt: under load a backlog is never empty; it counts as drained at this part of what it was.
	drainedAt     = 20
	drainedWithin = 5 * time.Minute
	knownWithin   = 30 * time.Second
)

// alignment: how fast a node that was away takes in what it missed, without load and under full load.
func (a *alone) alignment() error {
	c, err := a.coequal()
	if err != nil {
		return err
	}
	if err := a.alignIdle(c); err != nil {
		return fmt.Errorf("without load: %w", err)
	}
	if err := c.caughtUp(a.written); err != nil {
		return err
	}
	if err := a.alignLoaded(c); err != nil {
		return fmt.Errorf("under load: %w", err)
	}
	return c.caughtUp(a.written)
}

// pause stops a node's process as SIGSTOP does: its connections stay, nobody answers. The function ends the pause.
func (c *coequal) pause(node int) (func() error, error) {
	pid, err := c.pid(node)
	if err != nil {
		return nil, err
	}
	return func() error { return syscall.Kill(pid, syscall.SIGCONT) }, syscall.Kill(pid, syscall.SIGSTOP)
}

func (a *alone) alignIdle(c *coequal) error {
	resume, err := c.pause(away)
	if err != nil {
		return err
	}
	defer resume()
	count := a.s.documents / missed
	a.progress("node %d is paused and misses %d documents", away, count)
	if _, err := a.load(a.s.documents, a.s.documents+count, usual, 0, 1); err != nil {
		return err
	}
	if _, err := c.missing(count); err != nil {
		return err
	}
	begun := time.Now()
	if err := resume(); err != nil {
		return err
	}
	first, err := c.firstTaken(away)
	if err != nil {
		return err
	}
	if err := c.caughtUp(a.written); err != nil {
		return err
	}
	ended := time.Now()
	note := func(name, unit string, value float64) { a.note(alignment, "without load: "+name, unit, value) }
	note("entries missed", "", float64(count))
	note("resumed to ONLINE with all", "s", ended.Sub(begun).Seconds())
	note("drained, from when it was resumed", "entries/s", float64(count)/ended.Sub(begun).Seconds())
	note("drained, from the first entry taken in", "entries/s", float64(count)/ended.Sub(first).Seconds())
	return nil
}

// firstTaken is the moment before a node's documents become more, or at which they are all there already.
func (c *coequal) firstTaken(node int) (time.Time, error) {
	start, at := -1, time.Now()
	err := untilEach(5*time.Millisecond, "the node takes in what it missed", drainedWithin, func() error {
		asked := time.Now()
		seen, err := c.look(node)
		if err != nil {
			return err
		}
		full, err := c.look((node + 1) % c.nodes)
		if err != nil {
			return err
		}
		if start < 0 {
			start = seen.Documents
		}
		if seen.Documents > start || seen.Documents >= full.Documents {
			return nil
		}
		at = asked
		return fmt.Errorf("node %d has %d documents still", node, start)
	})
	return at, err
}

// level is a backlog at a moment.
type level struct {
	at      time.Time
	entries int
}

func (a *alone) alignLoaded(c *coequal) error {
	writers, err := writeBehind(a.ctx, c, fullLoad, []int{0, 1})
	if err != nil {
		return err
	}
	defer writers.stop()
	a.progress("%d connections write", fullLoad)
	wait(a.ctx, a.s.time)
	resume, err := c.pause(away)
	if err != nil {
		return err
	}
	defer resume()
	paused := time.Now()
	first, count := a.s.documents+a.s.documents/missed, a.s.documents/missed
	a.progress("node %d is paused and misses %d documents and what the connections write", away, count)
	if _, err := a.load(first, first+count, usual, 0, 1); err != nil {
		return err
	}
	levels, err := a.drain(c, count, resume)
	if err != nil {
		return err
	}
	resumed, drained := levels[0], levels[len(levels)-1]
	wait(a.ctx, a.s.time)
	ended := time.Now()
	writers.stop()
	before, during := writers.before(paused.Add(-a.s.time), paused), writers.during(resumed.at, drained.at)
	took := drained.at.Sub(resumed.at).Seconds()
	most := slices.MaxFunc(levels, func(x, y level) int { return x.entries - y.entries })
	note := func(name, unit string, value float64) { a.note(alignment, "under load: "+name, unit, value) }
	note("backlog when it is resumed", "entries", float64(resumed.entries))
	note("the most", "entries", float64(most.entries))
	note("at the end", "entries", float64(drained.entries))
	note("resumed to that and ONLINE", "s", took)
	note("the backlog shrinks by", "entries/s", float64(resumed.entries-drained.entries)/took)
	note("entries drained, those written meanwhile included", "entries/s", float64(resumed.entries-drained.entries)/took+during.rate)
	noteWriters(note, before, during)
	// All three nodes write at full speed again: what the load alone makes of it.
	after := writers.before(ended.Add(-a.s.time), ended)
	note("writes a second afterwards", "", after.rate)
	note("p99 of writers afterwards", "ms", after.p99)
	return nil
}

// missing waits until the others know how much the paused node misses: they hold it for reachable for a moment, and do
// not count meanwhile what is on its way.
func (c *coequal) missing(atLeast int) (int, error) {
	entries := 0
	err := untilEach(50*time.Millisecond, "the backlog is known", knownWithin, func() (err error) {
		entries, err = c.backlog(away)
		if err == nil && entries < atLeast {
			err = fmt.Errorf("%d entries of at least %d", entries, atLeast)
		}
		return err
	})
	return entries, err
}

// drain resumes the node, and watches its backlog until little is left and it is ONLINE. One that does not shrink away
// is a result, too: then the levels end at the limit.
func (a *alone) drain(c *coequal, atLeast int, resume func() error) ([]level, error) {
	full, err := c.missing(atLeast)
	if err != nil {
		return nil, err
	}
	levels := []level{{time.Now(), full}}
	if err := resume(); err != nil {
		return nil, err
	}
	err = untilEach(50*time.Millisecond, "the backlog is drained", drainedWithin, func() error {
		if a.ctx.Err() != nil {
			return nil
		}
		entries, err := c.backlog(away)
		if err != nil {
			return err
		}
		levels = append(levels, level{time.Now(), entries})
		if entries > full/drainedAt {
			return fmt.Errorf("%d entries are left of %d", entries, full)
		}
		seen, err := c.look(away)
		if err == nil && seen.Status != "ONLINE" {
			err = fmt.Errorf("node %d is %s", away, seen.Status)
		}
		return err
	})
	if err != nil {
		a.progress("%v", err)
	}
	return levels, a.ctx.Err()
}

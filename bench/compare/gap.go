package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	gapClients = 8
	// secondsBefore: what is usual without a kill.
	secondsBefore = 5
)

// killGap kills a node in the middle of writes over the two others, and gives the longest time in which none of their
// clients had a write acknowledged: of one client, the worst of all.
func killGap(ctx context.Context, system system, s settings, victim, clients int) (measured, error) {
	staying := slices.DeleteFunc([]int{0, 1, 2}, func(node int) bool { return node == victim })
	writers, err := writeBehind(ctx, system, clients, staying)
	if err != nil {
		return measured{}, err
	}
	defer writers.stop()
	// The writers' first second is no measure.
	before, after, seconds := max(s.time, (secondsBefore+1)*time.Second), max(s.time, 8*time.Second), secondsBefore
	if s.smoke {
		before, after, seconds = time.Second, time.Second, 1
	}
	machine := watchStalls()
	defer machine.stop()
	begun := time.Now()
	wait(ctx, before)
	killed := time.Now()
	killing := system.kill(victim)
	wait(ctx, after)
	end := time.Now()
	writers.stop()
	if err := errors.Join(killing, ctx.Err()); err != nil {
		return measured{}, err
	}
	machine.stop()
	usual, _ := writers.gap(begun, killed)
	gap, since := writers.gap(killed, end)
	m := measured{Before: milliseconds(usual), Gap: milliseconds(gap), GapSince: milliseconds(since.Sub(killed))}
	atOnce, _ := writers.gap(killed, killed.Add(time.Second))
	m.GapAtOnce = milliseconds(atOnce)
	m.GapOfAll = milliseconds(writers.gapOfAll(killed, end))
	m.Stalled = milliseconds(machine.longest(since, since.Add(gap)))
	m.Requests = int64(writers.before(begun, end).requests)
	for second := range seconds {
		end := killed.Add(-time.Duration(second) * time.Second)
		m.SecondsBefore = append(m.SecondsBefore, writers.before(end.Add(-time.Second), end).p99)
	}
	m.SecondBefore = m.SecondsBefore[0]
	m.SecondAfter = writers.during(killed, killed.Add(time.Second)).p99
	m.Failed = writers.during(killed, end).failed
	if err := system.restart(victim); err != nil {
		return m, err
	}
	return m, ctx.Err()
}

// wait for a time, or until the measurement is given up.
func wait(ctx context.Context, pause time.Duration) {
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
}

// longest gap between successes within a time, its ends included, and when it began.
func longest(successes []time.Time, from, to time.Time) (gap time.Duration, since time.Time) {
	last := from
	for _, at := range append(successes, to) {
		if at.Before(from) {
			continue
		}
		if at.After(to) {
			at = to
		}
		if at.Sub(last) > gap {
			gap, since = at.Sub(last), last
		}
		last = at
	}
	return gap, since
}

// listener finds the process that listens on a port of loopback.
func listener(port int) (int, error) {
	inode := ""
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) > 9 && fields[3] == "0A" && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port)) {
			inode = "socket:[" + fields[9] + "]"
		}
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return 0, err
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == inode && inode != "" {
			return strconv.Atoi(strings.Split(link, "/")[2])
		}
	}
	return 0, fmt.Errorf("nobody listens on port %d", port)
}

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const gapClients = 8

// killGap kills a node in the middle of writes over the two others, and gives the longest time in which none of their
// clients had a write acknowledged: of one client, the worst of all.
func killGap(ctx context.Context, system system, s settings) (measured, error) {
	// Of three nodes the third; clients of 0 and 1 stay. (With OrientDB all clients are on node 0.)
	const victim = 2
	workers, err := newWorkers(system, workload{kind: insert, connections: gapClients * 3 / 2}, s.keys)
	if err != nil {
		return measured{}, err
	}
	defer closeAll(workers)
	var staying []*worker
	for _, w := range workers {
		if w.number%3 != victim {
			staying = append(staying, w)
		}
	}
	before, after := s.time, max(s.time, 8*time.Second)
	if s.smoke {
		after = 2 * time.Second
	}
	begun := time.Now()
	killed, end := begun.Add(before), begun.Add(before+after)
	successes := make([][]time.Time, len(staying))
	var group sync.WaitGroup
	for i, w := range staying {
		text := value(w.random, 256)
		group.Go(func() {
			for ctx.Err() == nil && time.Now().Before(end) {
				if w.client.insert(w.newKey(), text) == nil {
					successes[i] = append(successes[i], time.Now())
				} else {
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
	}
	time.Sleep(time.Until(killed))
	killed = time.Now()
	killing := system.kill(victim)
	group.Wait()
	if killing != nil {
		return measured{}, killing
	}
	m := measured{}
	for _, times := range successes {
		m.Before = max(m.Before, longest(times, begun, killed))
		m.Gap = max(m.Gap, longest(times, killed, end))
		m.Requests += int64(len(times))
	}
	if err := system.restart(victim); err != nil {
		return m, err
	}
	return m, ctx.Err()
}

// longest gap between successes within a time, its ends included, in milliseconds.
func longest(successes []time.Time, from, to time.Time) float64 {
	last, gap := from, time.Duration(0)
	for _, at := range append(successes, to) {
		if at.Before(from) {
			continue
		}
		if at.After(to) {
			at = to
		}
		gap = max(gap, at.Sub(last))
		last = at
	}
	return float64(gap.Microseconds()) / 1000
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

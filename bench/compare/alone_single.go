package main

import (
	"os"
	"path/filepath"
	"slices"
	"time"
)

// alonePieces is how often a round trip and an fsync are measured: half before the inserts, half after.
const alonePieces = 600

// single: an insert over one connection beside the least that it could take: a round trip over loopback and an fsync of
// a page on the same disk, each measured alone.
func (a *alone) single() error {
	c, err := a.coequal()
	if err != nil {
		return err
	}
	pieces := alonePieces
	if a.s.smoke {
		pieces = 100
	}
	var trips, syncs []float64
	both := func() error {
		more, err := c.roundTrips(pieces / 2)
		if err != nil {
			return err
		}
		trips = append(trips, more...)
		more, err = syncsOfPages(filepath.Join(c.folder, "fsync"), pieces/2)
		syncs = append(syncs, more...)
		return err
	}
	if err := both(); err != nil {
		return err
	}
	seen, err := measure(a.ctx, a.system, workload{kind: insert, connections: 1, bytes: 256}, a.s)
	if err != nil {
		return err
	}
	if err := both(); err != nil {
		return err
	}
	slices.Sort(trips)
	slices.Sort(syncs)
	trip, sync := middle(trips), middle(syncs)
	a.note(single, "insert, p50", "ms", seen.P50/1000)
	a.note(single, "GET /livez alone, p50", "ms", trip)
	a.note(single, "fsync of 4 KiB that were appended, alone, p50", "ms", sync)
	a.note(single, "insert over the sum of both", "", seen.P50/1000/(trip+sync))
	return nil
}

// roundTrips over a kept connection, in milliseconds.
func (c *coequal) roundTrips(count int) ([]float64, error) {
	http := newHTTP(c.address(0), "")
	defer http.close()
	var times []float64
	for range count {
		begun := time.Now()
		if status, err := http.send("GET", "/livez", "", nil); err != nil || status != 200 {
			return times, http.wrong("/livez", status)
		}
		times = append(times, milliseconds(time.Since(begun)))
	}
	return times, nil
}

// syncsOfPages appends a page and syncs it, again and again, in milliseconds each.
func syncsOfPages(path string, count int) ([]float64, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer os.Remove(path)
	defer file.Close()
	var times []float64
	page := make([]byte, 4<<10)
	for range count {
		begun := time.Now()
		if _, err := file.Write(page); err != nil {
			return times, err
		}
		if err := file.Sync(); err != nil {
			return times, err
		}
		times = append(times, milliseconds(time.Since(begun)))
	}
	return times, nil
}

package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ticks a second in /proc/PID/stat: always 100 on Linux, whatever the kernel's own rate.
const ticks = 100

// processStat gives the fields of /proc/PID/stat that come after the program's name; the first of them is field 3.
func processStat(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	_, after, found := bytes.Cut(text, []byte(") "))
	fields := strings.Fields(string(after))
	if !found || len(fields) < 20 {
		return nil, fmt.Errorf("/proc/%d/stat has not the fields of proc(5)", pid)
	}
	return fields, nil
}

// processorTime that processes have taken, user and system.
func processorTime(pids []int) (time.Duration, error) {
	total := int64(0)
	for _, pid := range pids {
		fields, err := processStat(pid)
		if err != nil {
			return 0, err
		}
		for _, at := range []int{14, 15} {
			taken, err := strconv.ParseInt(fields[at-3], 10, 64)
			if err != nil {
				return 0, err
			}
			total += taken
		}
	}
	return time.Duration(total) * time.Second / ticks, nil
}

// processAge is how long ago a process was started, to 10 ms.
func processAge(pid int) (time.Duration, error) {
	fields, err := processStat(pid)
	if err != nil {
		return 0, err
	}
	started, err := strconv.ParseInt(fields[22-3], 10, 64)
	if err != nil {
		return 0, err
	}
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0, err
	}
	up, _, _ := strings.Cut(string(text), " ")
	seconds, err := strconv.ParseFloat(up, 64)
	if err != nil {
		return 0, err
	}
	return time.Duration(seconds*float64(time.Second)) - time.Duration(started)*time.Second/ticks, nil
}

// numberIn finds a line "name: 123 …" in a file of /proc.
func numberIn(file, name string) (float64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, name+":"); found {
			return strconv.ParseFloat(strings.Fields(rest)[0], 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, name)
}

// writtenBytes that processes made the disk write.
func writtenBytes(pids []int) (float64, error) {
	total := 0.0
	for _, pid := range pids {
		written, err := numberIn(fmt.Sprintf("/proc/%d/io", pid), "write_bytes")
		if err != nil {
			return 0, err
		}
		total += written
	}
	return total, nil
}

// diskUsage of a folder in bytes: the blocks that its files take.
func diskUsage(folder string) (float64, error) {
	total := int64(0)
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if os.IsNotExist(err) {
			return nil // removed since it was listed
		}
		if err != nil {
			return err
		}
		if stat, is := info.Sys().(*syscall.Stat_t); is {
			total += stat.Blocks * 512
		}
		return nil
	})
	return float64(total), err
}

const (
	// quiet: below this part of a processor nodes do nothing but wait.
	quiet      = 0.05
	quietFor   = 500 * time.Millisecond
	quietLimit = 30 * time.Second
)

// settle waits until the nodes have done what writes left them to do, as checkpoints; it tells if they never were.
func (a *alone) settle() error {
	pids, err := a.pids()
	if err != nil {
		return err
	}
	for begun := time.Now(); time.Since(begun) < quietLimit && a.ctx.Err() == nil; {
		share, _, err := a.shares(pids, quietFor)
		if err != nil || share < quiet {
			return err
		}
	}
	a.progress("the nodes took more than %.0f %% of a processor without load, still after %s", 100*quiet, quietLimit)
	return a.ctx.Err()
}

// shares of one processor that processes take during a time: of all together, and of the busiest.
func (a *alone) shares(pids []int, during time.Duration) (float64, float64, error) {
	before := make([]time.Duration, len(pids))
	for i, pid := range pids {
		var err error
		if before[i], err = processorTime([]int{pid}); err != nil {
			return 0, 0, err
		}
	}
	begun := time.Now()
	wait(a.ctx, during)
	took := time.Since(begun).Seconds()
	all, busiest := 0.0, 0.0
	for i, pid := range pids {
		after, err := processorTime([]int{pid})
		if err != nil {
			return 0, 0, err
		}
		share := (after - before[i]).Seconds() / took
		all, busiest = all+share, max(busiest, share)
	}
	return all, busiest, nil
}

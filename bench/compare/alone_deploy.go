package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	fourth         = 3
	deployWriters  = 16
	deployedWithin = 10 * time.Minute
	copyBuffer     = 1 << 20
	// documentsFile of the database in a node's folder.
	documentsFile = "databases/bench/documents.redb"
)

// deployment of a fourth node, beside writers and without load, and what copying the same bytes takes.
func (a *alone) deployment() error {
	c, err := a.coequal()
	if err != nil {
		return err
	}
	if err := a.deployBesideWriters(c); err != nil {
		return err
	}
	if a.s.smoke {
		return nil
	}
	a.progress("removes it again")
	if err := c.scale(fourth); err != nil {
		return err
	}
	if err := a.settle(); err != nil {
		return err
	}
	a.progress("deploys it without load")
	took, started, err := c.deploy()
	if err != nil {
		return err
	}
	seen, err := c.look(fourth)
	if err != nil {
		return err
	}
	bytes, copied, err := copyThroughLoopback(filepath.Join(c.folders()[fourth], documentsFile), filepath.Join(c.folder, "copy"))
	if err != nil {
		return err
	}
	note := func(name, unit string, value float64) { a.note(deployment, "without load: "+name, unit, value) }
	note("manifest saved to ONLINE", "s", took.Seconds())
	note("start of its process to ONLINE", "s", started.Seconds())
	note("documents", "", float64(seen.Documents))
	note("documents a second", "", float64(seen.Documents)/took.Seconds())
	note("documents file that it wrote", "MiB", bytes/mebi)
	note("the same bytes through one loopback connection, then fsync", "s", copied.Seconds())
	note("manifest saved to ONLINE, over that", "", took.Seconds()/copied.Seconds())
	return nil
}

func (a *alone) deployBesideWriters(c *coequal) error {
	writers, err := writeBehind(a.ctx, c, deployWriters, []int{0, 1, 2})
	if err != nil {
		return err
	}
	defer writers.stop()
	a.progress("%d connections write, then a fourth node is deployed", deployWriters)
	wait(a.ctx, a.s.time)
	begun := time.Now()
	took, started, err := c.deploy()
	if err != nil {
		return err
	}
	ended := time.Now()
	writers.stop()
	before, during := writers.before(begun.Add(-a.s.time), begun), writers.during(begun, ended)
	note := func(name, unit string, value float64) {
		a.note(deployment, fmt.Sprintf("%d writers: %s", deployWriters, name), unit, value)
	}
	note("manifest saved to ONLINE", "s", took.Seconds())
	note("start of its process to ONLINE", "s", started.Seconds())
	noteWriters(note, before, during)
	return nil
}

// deploy scales to four; how long until the fourth node votes and is ONLINE, from the saved manifest and from the start
// of its process.
func (c *coequal) deploy() (time.Duration, time.Duration, error) {
	begun := time.Now()
	if err := c.scale(fourth + 1); err != nil {
		return 0, 0, err
	}
	ended := time.Now()
	pid, err := c.pid(fourth)
	if err != nil {
		return 0, 0, err
	}
	age, err := processAge(pid)
	return ended.Sub(begun), age - time.Since(ended), err
}

// scale saves another number of replicas in the manifest, and waits until so many vote and are ONLINE.
func (c *coequal) scale(replicas int) error {
	text := strings.Replace(manifest, "replicas: 3", fmt.Sprintf("replicas: %d", replicas), 1)
	// Renamed into its place, or half a manifest might be read.
	file := filepath.Join(c.folder, "bench.yaml")
	if err := os.WriteFile(file+".new", []byte(text), 0o644); err != nil {
		return err
	}
	if err := os.Rename(file+".new", file); err != nil {
		return err
	}
	fewer := replicas < c.nodes
	c.nodes = replicas
	return untilEach(20*time.Millisecond, fmt.Sprintf("%d nodes are ONLINE", replicas), deployedWithin, func() error {
		if fewer {
			if _, err := os.Stat(filepath.Join(c.folder, "data", nodeName(replicas))); err == nil {
				return fmt.Errorf("%s has its folder still", nodeName(replicas))
			}
		}
		return c.online()
	})
}

// copyThroughLoopback sends a file over one connection to a receiver that writes and syncs it; its bytes, and the time.
func copyThroughLoopback(from, to string) (float64, time.Duration, error) {
	source, err := os.Open(from)
	if err != nil {
		return 0, 0, err
	}
	defer source.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, 0, err
	}
	defer listener.Close()
	defer os.Remove(to)
	begun := time.Now()
	received := make(chan error, 1)
	go func() { received <- receive(listener, to) }()
	stream, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return 0, 0, err
	}
	// Neither sendfile nor splice: a node could not use them on what it has to read, check and write.
	bytes, err := io.CopyBuffer(struct{ io.Writer }{stream}, struct{ io.Reader }{source}, make([]byte, copyBuffer))
	stream.Close()
	if err != nil {
		return 0, 0, err
	}
	err = <-received
	return float64(bytes), time.Since(begun), err
}

func receive(listener net.Listener, to string) error {
	stream, err := listener.Accept()
	if err != nil {
		return err
	}
	defer stream.Close()
	file, err := os.Create(to)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := io.CopyBuffer(struct{ io.Writer }{file}, struct{ io.Reader }{stream}, make([]byte, copyBuffer)); err != nil {
		return err
	}
	return file.Sync()
}

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// errConflict: a conditional update whose condition did not hold any more; what a client tries again.
var errConflict = errors.New("the condition does not hold")

// client is one connection to one node with one request at a time.
type client interface {
	insert(key string, value []byte) error
	update(key string, value []byte) error
	// conditional changes the document if nobody did since this client last saw it; errConflict if somebody did.
	conditional(key string, value []byte) error
	// local reads from the node that is asked; latest sees every write that was acknowledged before.
	local(key string) error
	latest(key string) error
	list(first string, count int) error
	// bulk inserts many documents at once.
	bulk(keys []string, value []byte) error
	close()
}

// system is three nodes that run.
type system interface {
	describe() string
	can(kind kind) bool
	client(node int) (client, error)
	// kill sends SIGKILL to a node.
	kill(node int) error
	// restart brings a killed node back, and waits until it takes part.
	restart(node int) error
	stop()
}

func known() []string { return []string{"coequal", "etcd", "galera", "orientdb"} }

func start(name string, s settings) (system, error) {
	folder := filepath.Join(s.data, name)
	if err := os.RemoveAll(folder); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	folder, err := filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	switch name {
	case "coequal":
		return startCoequal(folder, s)
	case "etcd":
		return startEtcd(folder)
	case "galera":
		return startGalera(folder)
	default:
		return startOrient(folder)
	}
}

// process is a program under test.
type process struct {
	command *exec.Cmd
	ended   chan struct{}
}

func launch(log string, environment []string, program string, arguments ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	command := exec.Command(program, arguments...)
	command.Stdout, command.Stderr = out, out
	command.Env = append(os.Environ(), environment...)
	// Ends with this program, however that ends.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	p := &process{command: command, ended: make(chan struct{})}
	go func() {
		_ = command.Wait()
		close(p.ended)
	}()
	return p, nil
}

// end asks politely and then does not.
func (p *process) end(signal syscall.Signal, patience time.Duration) {
	if p == nil {
		return
	}
	_ = p.command.Process.Signal(signal)
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = syscall.Kill(-p.command.Process.Pid, syscall.SIGKILL)
		<-p.ended
	}
}

// until waits for something that takes a moment.
func until(what string, patience time.Duration, holds func() error) error {
	return untilEach(50*time.Millisecond, what, patience, holds)
}

// untilEach looks that often.
func untilEach(pause time.Duration, what string, patience time.Duration, holds func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := holds()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %s: %s; seen last: %w", patience, what, err)
		}
		time.Sleep(pause)
	}
}

func output(program string, arguments ...string) string {
	out, err := exec.Command(program, arguments...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s: %v", program, err)
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

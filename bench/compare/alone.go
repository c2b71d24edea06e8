package main

import (
	"context"
	"fmt"
	"time"
)

// inspected is a system whose processes and data can be looked at.
type inspected interface {
	system
	// pid of a node's process.
	pid(node int) (int, error)
	// folders in which the three nodes keep their data.
	folders() []string
	// revive begins to start a killed node again; it does not wait.
	revive(node int) error
	// answers says whether a node answers a request, whatever it holds.
	answers(node int) error
	// ready says whether all nodes take part.
	ready() error
}

// alone is one run over what a system does by itself: how it starts, grows, fills up and comes back.
type alone struct {
	ctx     context.Context
	s       settings
	name    string
	system  inspected
	results *results
	begun   time.Time
	// costOfFew: µs of processor time for an insert when few documents were there.
	costOfFew float64
	// written: documents that were acknowledged so far.
	written int
}

// The steps of it, in the order in which they are measured.
const (
	importing     = "batch import"
	memory        = "memory and disk"
	processor     = "processor time"
	loading       = "full load"
	checkpointing = "writes beside checkpoints"
	single        = "one connection"
	alignment     = "hot alignment"
	starting      = "start-up after kill -9"
	gapsOfEach    = "gap after kill -9"
	deployment    = "deploy of a fourth node"
)

// wantsStep: "alone" stands before the names, so that -only can choose all of these at once.
func (s settings) wantsStep(name string) bool { return s.wants("alone: " + name) }

// step is one of them.
type step struct {
	name string
	// forAll systems that can be inspected; others are for Coequal.
	forAll bool
	run    func(*alone) error
}

// chosenSteps after the import. What changes nothing comes first; a fourth node comes last.
func chosenSteps(s settings, name string) []step {
	var chosen []step
	for _, one := range []step{
		{memory, true, (*alone).memory},
		{processor, true, (*alone).processor},
		{loading, true, (*alone).fullLoad},
		{checkpointing, false, (*alone).checkpoints},
		{single, false, (*alone).single},
		{alignment, false, (*alone).alignment},
		{starting, true, (*alone).startUp},
		{gapsOfEach, true, (*alone).gaps},
		{deployment, false, (*alone).deployment},
	} {
		if one.name == loading && s.load == 0 {
			continue
		}
		if s.wantsStep(one.name) && (one.forAll || name == "coequal") {
			chosen = append(chosen, one)
		}
	}
	return chosen
}

// measureAlone starts a system afresh, imports the documents, and goes through the steps.
func measureAlone(ctx context.Context, s settings, name string, round int, results *results) error {
	steps := chosenSteps(s, name)
	if !s.alone || name == "orientdb" || len(steps) == 0 && !s.wantsStep(importing) {
		return nil
	}
	begun := time.Now()
	started, err := start(name, s)
	if err != nil {
		return err
	}
	defer started.stop()
	system, can := started.(inspected)
	if !can {
		return nil
	}
	results.describe(name, system.describe())
	fmt.Printf("round %d of %d: %s alone runs after %.1f s\n", round+1, s.rounds, name, time.Since(begun).Seconds())
	a := &alone{ctx: ctx, s: s, name: name, system: system, results: results, begun: begun}
	if err := a.fill(); err != nil {
		return fmt.Errorf("%s: %w", importing, err)
	}
	for _, one := range steps {
		if err := one.run(a); err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// pids of the three nodes.
func (a *alone) pids() ([]int, error) {
	var pids []int
	for node := range 3 {
		pid, err := a.system.pid(node)
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

func (a *alone) note(step, name, unit string, value float64) {
	a.results.note(a.name, step, name, unit, value)
}

// progress tells what takes a while.
func (a *alone) progress(format string, arguments ...any) {
	fmt.Printf("  %-9s %5.1f s: %s\n", a.name, time.Since(a.begun).Seconds(), fmt.Sprintf(format, arguments...))
}

// coequal of these steps that only it has.
func (a *alone) coequal() (*coequal, error) {
	c, is := a.system.(*coequal)
	if !is {
		return nil, fmt.Errorf("%s cannot be asked for this", a.name)
	}
	return c, nil
}

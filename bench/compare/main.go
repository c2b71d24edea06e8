// Compare starts Coequal and what users would take instead, each with three nodes on this machine and durable settings,
// runs the same workloads over all of them in turns, then what each does by itself, and writes a table, JSON and plots.
//
//	settings ─► for each round: for each system in turn ─► every workload ─► measurements ─┬► table.md, results.json, *.svg
//	                                                   └─► afresh: every step ─► figures ───┘
//
// `bench/run` calls it; see bench/README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

type settings struct {
	systems  []string
	rounds   int
	time     time.Duration
	keys     int
	out      string
	data     string
	programs string
	only     string
	smoke    bool
	matrix   bool
	gaps     bool
	alone    bool
	// documents that are there for what is measured of a system alone; few is what their cost is compared with.
	documents, few int
	// load: how long memory is watched under full load; 0 leaves that out.
	load time.Duration
}

func parse(arguments []string) (settings, error) {
	flags := flag.NewFlagSet("bench/run", flag.ContinueOnError)
	var s settings
	systems := flags.String("systems", "coequal,etcd,galera,orientdb", "which systems, in which order")
	flags.IntVar(&s.rounds, "rounds", 3, "how often everything is measured; the table has the median and the spread")
	flags.DurationVar(&s.time, "time", 5*time.Second, "how long each measurement takes")
	flags.IntVar(&s.keys, "keys", 10_000, "documents that reads and updates choose from")
	flags.StringVar(&s.out, "out", "bench/results", "folder for table.md, results.json and the plots")
	flags.StringVar(&s.data, "data", "", "folder on the disk that is measured (default: a temporary one under -out)")
	flags.StringVar(&s.programs, "programs", "target/release", "folder of coequal-operator and coequal-node")
	flags.StringVar(&s.only, "only", "", "only workloads and steps whose name contains this, or one of several as a|b; \"alone\" is in all names of steps")
	flags.BoolVar(&s.smoke, "smoke", false, "one short round of a few workloads: does the benchmark still work?")
	flags.BoolVar(&s.matrix, "matrix", false, "every workload with every number of connections and every size: hours")
	flags.BoolVar(&s.gaps, "kill", true, "also measure the gap in writes when a node is killed")
	flags.BoolVar(&s.alone, "alone", true, "also measure start-up, deploy, alignment, memory and what else a system does by itself")
	flags.IntVar(&s.documents, "documents", 1_000_000, "documents that are there for that")
	flags.DurationVar(&s.load, "load", 0, "how long memory is watched under full load, as 1h (0: not)")
	if err := flags.Parse(arguments); err != nil {
		return s, err
	}
	for _, name := range strings.Split(*systems, ",") {
		if !slices.Contains(known(), name) {
			return s, fmt.Errorf("-systems: %q is not one of %s", name, strings.Join(known(), ", "))
		}
		s.systems = append(s.systems, name)
	}
	if s.rounds < 1 || s.time <= 0 || s.keys < 1 || s.documents < 1 || s.load < 0 {
		return s, fmt.Errorf("-rounds, -time, -keys and -documents have to be above zero, -load not below")
	}
	s.few = min(100_000, (s.documents+9)/10)
	if s.smoke {
		s.rounds, s.time, s.keys, s.documents, s.few, s.load = 1, 500*time.Millisecond, 500, 2_000, 500, time.Second
	}
	return s, nil
}

// wants says whether something of this name is to be measured.
func (s settings) wants(name string) bool {
	return slices.ContainsFunc(strings.Split(s.only, "|"), func(words string) bool { return strings.Contains(name, words) })
}

func main() {
	s, err := parse(os.Args[1:])
	if err != nil {
		if err != flag.ErrHelp {
			fmt.Fprintln(os.Stderr, "bench/run:", err)
		}
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "bench/run:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	if err := os.MkdirAll(s.out, 0o755); err != nil {
		return err
	}
	if s.data == "" {
		folder, err := os.MkdirTemp(s.out, "data-")
		if err != nil {
			return err
		}
		s.data = folder
		defer os.RemoveAll(folder)
		// Galera's nodes run as another user.
		if err := os.Chmod(folder, 0o711); err != nil {
			return err
		}
	}
	results := newResults(s)
	// One system at a time has processes: what runs beside it must not take its processor.
	for round := range s.rounds {
		// Each comes first once, so that none always follows the same one.
		first := round % len(s.systems)
		for _, name := range slices.Concat(s.systems[first:], s.systems[:first]) {
			if err := measureSystem(ctx, s, name, round, results); err != nil {
				results.fail(name, fmt.Errorf("round %d: %w", round+1, err))
			}
			if err := measureAlone(ctx, s, name, round, results); err != nil {
				results.fail(name, fmt.Errorf("round %d, alone: %w", round+1, err))
			}
			// What was measured before something failed is kept.
			if err := errors.Join(results.write(s.out), ctx.Err()); err != nil {
				return err
			}
		}
	}
	fmt.Println(results.table())
	return results.failure()
}

// tries: so many clusters of a system are started for one measurement if it stands still in them.
const tries = 3

// running is a system under its workloads.
type running struct {
	ctx     context.Context
	s       settings
	name    string
	system  system
	results *results
}

// measureSystem starts a system, runs every workload over it, and ends it.
func measureSystem(ctx context.Context, s settings, name string, round int, results *results) error {
	chosen := workloads(s)
	gaps := s.gaps && s.wants(string(kill))
	if len(chosen) == 0 && !gaps {
		return nil
	}
	begun := time.Now()
	r := &running{ctx: ctx, s: s, name: name, results: results}
	defer r.stop()
	if err := r.begin(); err != nil {
		return err
	}
	results.describe(name, r.system.describe())
	fmt.Printf("round %d of %d: %s runs and has its documents after %.1f s\n", round+1, s.rounds, name, time.Since(begun).Seconds())
	for _, w := range chosen {
		if !r.system.can(w.kind) {
			continue
		}
		measured, err := r.measure(w)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name(), err)
		}
		results.add(name, w, measured)
		fmt.Printf("  %-9s %-42s %s\n", name, w.name(), measured)
	}
	if gaps {
		// Each round another node: with etcd one of them leads.
		victim := round % 3
		if name == "orientdb" {
			victim = 1 + round%2 // all its clients are on node 0
		}
		gap, err := killGap(ctx, r.system, s, victim, gapClients)
		if err != nil {
			return fmt.Errorf("kill -9: %w", err)
		}
		results.add(name, workload{kind: kill, connections: gapClients, bytes: 256}, gap)
		fmt.Printf("  %-9s %-42s %s\n", name, fmt.Sprintf("kill -9 of node %d", victim), gap)
	}
	return nil
}

func (r *running) stop() {
	if r.system != nil {
		r.system.stop()
		r.system = nil
	}
}

// begin starts the system afresh, with its documents.
func (r *running) begin() error {
	for try := 1; ; try++ {
		r.stop()
		var err error
		if r.system, err = start(r.name, r.s); err != nil {
			r.system = nil
			return err
		}
		if err = fill(r.ctx, r.system, r.s.keys); err == nil {
			return nil
		}
		if try == tries || r.isOurs() || r.ctx.Err() != nil {
			return fmt.Errorf("filling: %w", err)
		}
		r.stalled("while its documents were written: " + short(err))
	}
}

// isOurs: what Coequal does counts, whatever it is.
func (r *running) isOurs() bool { return r.name == "coequal" }

// measure runs one workload; over another cluster where this one stands still, so that the figures are those of a peer
// that works. Each time stands in the results.
func (r *running) measure(w workload) (measured, error) {
	for try := 1; ; try++ {
		m, err := measure(r.ctx, r.system, w, r.s)
		if err != nil || r.isOurs() || !m.stoodStill(w) {
			return m, err
		}
		r.stalled(fmt.Sprintf("%s: %s", w.name(), m))
		// Whatever comes next does not begin in a cluster that stands still.
		if err := r.begin(); err != nil || try == tries {
			return m, err
		}
	}
}

func (r *running) stalled(when string) {
	r.results.Stalls[r.name] = append(r.results.Stalls[r.name], when)
	fmt.Printf("  %-9s stood still (%s); another cluster is started\n", r.name, when)
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// results of all rounds so far.
type results struct {
	Taken    string               `json:"taken"`
	Machine  string               `json:"machine"`
	Rounds   int                  `json:"rounds"`
	Seconds  float64              `json:"seconds"`
	Systems  map[string]string    `json:"systems"`
	Measured map[string][]outcome `json:"measured"`
	// Stalls: when all connections of a cluster waited in vain, and another one was started.
	Stalls map[string][]string `json:"stalls"`
	// Failures: what could not be measured.
	Failures map[string][]string `json:"failures"`
	// Documents were there when what is in Alone was measured.
	Documents int       `json:"documents"`
	Alone     []*figure `json:"alone"`
	order     []string
	names     []string
}

// outcome is one workload over one system in every round.
type outcome struct {
	System      string     `json:"system"`
	Connections int        `json:"connections"`
	Bytes       int        `json:"bytes"`
	Rounds      []measured `json:"rounds"`
}

func newResults(s settings) *results {
	return &results{Taken: time.Now().UTC().Format(time.RFC3339), Machine: machine(s), Rounds: s.rounds,
		Seconds: s.time.Seconds(), Systems: map[string]string{}, Measured: map[string][]outcome{}, Stalls: map[string][]string{}, Failures: map[string][]string{},
		Documents: s.documents, order: s.systems}
}

func machine(s settings) string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d × %s, %s of memory, Linux %s, data on %s; three nodes and the load generator on one machine", runtime.NumCPU(), model,
		machineMemory(), output("uname", "-r"), output("stat", "--file-system", "--format=%T", s.data))
}

// machineMemory is all that there is.
func machineMemory() string {
	text, err := os.ReadFile("/proc/meminfo")
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 2 {
		return "unknown size"
	}
	kib, err := strconv.Atoi(fields[1])
	if err != nil {
		return "unknown size"
	}
	return fmt.Sprintf("%.0f GiB", float64(kib)/(1<<20))
}

// fail keeps what could not be measured; what comes next is measured all the same.
func (r *results) fail(system string, err error) {
	fmt.Fprintf(os.Stderr, "bench/run: %s: %v\n", system, err)
	r.Failures[system] = append(r.Failures[system], err.Error())
}

func (r *results) failure() error {
	var all []error
	for system, failures := range r.Failures {
		all = append(all, fmt.Errorf("%s: %s", system, strings.Join(failures, "; ")))
	}
	return errors.Join(all...)
}

func (r *results) describe(system, words string) { r.Systems[system] = words }

func (r *results) add(system string, w workload, m measured) {
	name := w.name()
	if w.kind == kill {
		name = string(kill)
	}
	if _, found := r.Measured[name]; !found {
		r.names = append(r.names, name)
	}
	outcomes := r.Measured[name]
	at := slices.IndexFunc(outcomes, func(o outcome) bool { return o.System == system })
	if at < 0 {
		outcomes, at = append(outcomes, outcome{System: system, Connections: w.connections, Bytes: w.bytes}), len(outcomes)
	}
	outcomes[at].Rounds = append(outcomes[at].Rounds, m)
	r.Measured[name] = outcomes
}

func (r *results) of(name, system string) *outcome {
	for i := range r.Measured[name] {
		if r.Measured[name][i].System == system {
			return &r.Measured[name][i]
		}
	}
	return nil
}

func (o *outcome) median(of func(measured) float64) float64 {
	values := make([]float64, len(o.Rounds))
	for i, m := range o.Rounds {
		values[i] = of(m)
	}
	slices.Sort(values)
	return middle(values)
}

// spread is the distance from the least to the most, in parts of the median.
func (o *outcome) spread(of func(measured) float64) float64 {
	least, most := math.Inf(1), math.Inf(-1)
	for _, m := range o.Rounds {
		least, most = min(least, of(m)), max(most, of(m))
	}
	if median := o.median(of); median > 0 {
		return (most - least) / median
	}
	return 0
}

func rate(m measured) float64 { return m.Rate }
func p50(m measured) float64  { return m.P50 / 1000 }
func p99(m measured) float64  { return m.P99 / 1000 }
func gap(m measured) float64  { return m.Gap }

func (o *outcome) cell() string {
	if o == nil {
		return "–"
	}
	if o.median(gap) > 0 {
		return fmt.Sprintf("%.0f ms (before: %.0f)", o.median(gap), o.median(func(m measured) float64 { return m.Before }))
	}
	text := fmt.Sprintf("%.0f ±%.0f %% (%.1f / %.1f)", o.median(rate), 50*o.spread(rate), o.median(p50), o.median(p99))
	if fair := o.median(func(m measured) float64 { return m.Fairness }); fair > 0 {
		text += fmt.Sprintf(", fairness %.1f", fair)
	}
	failed := int64(0)
	for _, m := range o.Rounds {
		for _, count := range m.Errors {
			failed += count
		}
	}
	if failed > 0 {
		text += fmt.Sprintf(", %d errors", failed)
	}
	return text
}

// table in Markdown: a row for each workload, a column for each system, and Coequal's rate over each other's.
func (r *results) table() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s, %s. %d rounds of %g s each; median rate per second ± half the spread (p50 / p99 in ms).\n\n", r.Taken, r.Machine, r.Rounds, r.Seconds)
	if len(r.names) > 0 {
		fmt.Fprintf(&text, "| | %s |\n|---|%s\n", strings.Join(r.order, " | "), strings.Repeat("---|", len(r.order)))
	}
	for _, name := range r.names {
		fmt.Fprintf(&text, "| %s |", name)
		for _, system := range r.order {
			fmt.Fprintf(&text, " %s |", r.of(name, system).cell()+r.ratio(name, system))
		}
		text.WriteString("\n")
	}
	text.WriteString("\n")
	for _, system := range r.order {
		fmt.Fprintf(&text, "- %s: %s", system, r.Systems[system])
		if stalls := r.Stalls[system]; len(stalls) > 0 {
			fmt.Fprintf(&text, ". All connections of %d clusters waited for %s in vain; another one was started each time, and up to %d were tried for a figure", len(stalls), patience, tries)
		}
		for _, failure := range r.Failures[system] {
			fmt.Fprintf(&text, ". Failed: %s", failure)
		}
		text.WriteString("\n")
	}
	if len(r.names) > 0 {
		fmt.Fprintf(&text, "- the generator took at most %.2f processors\n", r.generator())
	}
	return text.String() + r.aloneTable()
}

func (r *results) ratio(name, system string) string {
	ours, theirs := r.of(name, "coequal"), r.of(name, system)
	if system == "coequal" || ours == nil || theirs == nil || theirs.median(rate) == 0 {
		return ""
	}
	return fmt.Sprintf(", **×%.2f**", ours.median(rate)/theirs.median(rate))
}

func (r *results) generator() float64 {
	most := 0.0
	for _, outcomes := range r.Measured {
		for _, o := range outcomes {
			for _, m := range o.Rounds {
				most = max(most, m.Generator)
			}
		}
	}
	return most
}

func (r *results) write(folder string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "results.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "table.md"), []byte(r.table()), 0o644); err != nil {
		return err
	}
	for file, chart := range r.charts() {
		if err := os.WriteFile(filepath.Join(folder, file), []byte(chart), 0o644); err != nil {
			return err
		}
	}
	return nil
}

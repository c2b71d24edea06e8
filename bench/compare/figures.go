package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// figure is one number of what a system does alone, for each system in every round.
type figure struct {
	Step   string               `json:"step"`
	Name   string               `json:"name"`
	Unit   string               `json:"unit"`
	Values map[string][]float64 `json:"values"`
}

// note keeps a figure of one round, and shows it. One that is not finite had nothing to be measured by.
func (r *results) note(system, step, name, unit string, value float64) {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		fmt.Printf("  %-9s %-23s %-72s not measured\n", system, step, name)
		return
	}
	at := slices.IndexFunc(r.Alone, func(f *figure) bool { return f.Step == step && f.Name == name })
	if at < 0 {
		// Figures of a step stand together, whichever system and round they came from first.
		at = len(r.Alone)
		for i, f := range r.Alone {
			if f.Step == step {
				at = i + 1
			}
		}
		r.Alone = slices.Insert(r.Alone, at, &figure{Step: step, Name: name, Unit: unit, Values: map[string][]float64{}})
	}
	r.Alone[at].Values[system] = append(r.Alone[at].Values[system], value)
	fmt.Printf("  %-9s %-23s %-72s %s %s\n", system, step, name, number(value), unit)
}

// number with four digits that say something.
func number(value float64) string {
	switch {
	case value >= 1000 || value == math.Trunc(value):
		return fmt.Sprintf("%.0f", value)
	case value >= 100:
		return fmt.Sprintf("%.1f", value)
	default:
		return fmt.Sprintf("%.3g", value)
	}
}

// cell has the median, and the least and the most where there was more than one round.
func (f *figure) cell(system string) string {
	values := slices.Sorted(slices.Values(f.Values[system]))
	switch len(values) {
	case 0:
		return "–"
	case 1:
		return number(values[0])
	default:
		return fmt.Sprintf("%s (%s to %s)", number(middle(values)), number(values[0]), number(values[len(values)-1]))
	}
}

// middle of values in order.
func middle(values []float64) float64 {
	half := len(values) / 2
	if len(values)%2 == 0 {
		return (values[half-1] + values[half]) / 2
	}
	return values[half]
}

// aloneTable is the section "Coequal alone": what is not a rate of requests. Other systems stand beside it where the same
// can be said of them.
func (r *results) aloneTable() string {
	if len(r.Alone) == 0 {
		return ""
	}
	var columns []string
	for _, system := range r.order {
		if slices.ContainsFunc(r.Alone, func(f *figure) bool { return len(f.Values[system]) > 0 }) {
			columns = append(columns, system)
		}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "\n## Coequal alone\n\n%d documents of 256 B on three nodes; median (least to most) of the rounds.\n\n", r.Documents)
	fmt.Fprintf(&text, "| | | unit | %s |\n|---|---|---|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	step := ""
	for _, f := range r.Alone {
		shown := f.Step
		if shown == step {
			shown = ""
		}
		step = f.Step
		fmt.Fprintf(&text, "| %s | %s | %s |", shown, f.Name, f.Unit)
		for _, system := range columns {
			fmt.Fprintf(&text, " %s |", f.cell(system))
		}
		text.WriteString("\n")
	}
	return text.String()
}

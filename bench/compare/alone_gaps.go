package main

import (
	"fmt"
	"slices"
)

// gaps: each node is killed in turn while writers go on over the two others.
func (a *alone) gaps() error {
	victims := []int{0, 1, 2}
	if a.s.smoke {
		victims = victims[:1] // local mode waits longer each time that it starts a node again
	}
	for _, victim := range victims {
		a.progress("kills node %d under writes", victim)
		seen, err := killGap(a.ctx, a.system, a.s, victim)
		if err != nil {
			return err
		}
		note := func(name, unit string, value float64) {
			a.note(gapsOfEach, fmt.Sprintf("node %d: %s", victim, name), unit, value)
		}
		note("longest time of a survivors' client without an acknowledged write", "ms", seen.Gap)
		note("when it began, after the kill", "ms", seen.GapSince)
		note("the longest in the second after the kill", "ms", seen.GapAtOnce)
		note("within it, how long a thread that sleeps 1 ms at a time was not woken", "ms", seen.Stalled)
		note("the same before the kill", "ms", seen.Before)
		note("p99 of survivors' acknowledged writes in the second before", "ms", seen.SecondBefore)
		note("the same of each second before: least", "ms", slices.Min(seen.SecondsBefore))
		note("the same of each second before: most", "ms", slices.Max(seen.SecondsBefore))
		note("p99 of survivors' acknowledged writes in the second after", "ms", seen.SecondAfter)
		note("survivors' writes that failed", "", float64(seen.Failed))
		note("after over before", "", seen.SecondAfter/seen.SecondBefore)
	}
	return nil
}

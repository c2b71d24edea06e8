package main

import (
	"fmt"
	"slices"
)

// gaps: each node is killed in turn while writers go on over the two others; first with few of them, whose times say most
// of the kill itself, then with as many as the rates are measured with.
func (a *alone) gaps() error {
	victims, writers := []int{0, 1, 2}, []int{gapClients, fullLoad}
	if a.s.smoke {
		victims, writers = victims[:1], writers[:1] // local mode waits longer each time that it starts a node again
	}
	for _, clients := range writers {
		for _, victim := range victims {
			a.progress("kills node %d under the writes of %d connections", victim, clients)
			seen, err := killGap(a.ctx, a.system, a.s, victim, clients)
			if err != nil {
				return err
			}
			a.noteGap(fmt.Sprintf("node %d, %d connections: ", victim, clients), seen)
		}
	}
	return nil
}

func (a *alone) noteGap(of string, seen measured) {
	note := func(name, unit string, value float64) { a.note(gapsOfEach, of+name, unit, value) }
	note("longest time of a survivors' client without an acknowledged write", "ms", seen.Gap)
	note("when it began, after the kill", "ms", seen.GapSince)
	note("within it, how long a thread that sleeps 1 ms at a time was not woken", "ms", seen.Stalled)
	note("the longest within the second after the kill", "ms", seen.GapAtOnce)
	note("the longest before the kill", "ms", seen.Before)
	note("longest time without an acknowledged write of any client", "ms", seen.GapOfAll)
	note("p99 of survivors' acknowledged writes in the second before", "ms", seen.SecondBefore)
	note("the same of each second before: least", "ms", slices.Min(seen.SecondsBefore))
	note("the same of each second before: most", "ms", slices.Max(seen.SecondsBefore))
	note("p99 of survivors' acknowledged writes in the second after", "ms", seen.SecondAfter)
	note("after over before", "", seen.SecondAfter/seen.SecondBefore)
	note("survivors' writes that failed", "", float64(seen.Failed))
}

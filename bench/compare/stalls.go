package main

import (
	"sync"
	"time"
)

// stalls is how the machine itself keeps a thread waiting that wants little: what a gap would be without any system.
type stalls struct {
	quit  chan struct{}
	once  sync.Once
	group sync.WaitGroup
	// from sleeping to being awake again, where that took much longer than it should
	found []sample
}

const (
	stallStep  = time.Millisecond
	stallNoted = 3 * time.Millisecond
)

func watchStalls() *stalls {
	s := &stalls{quit: make(chan struct{})}
	s.group.Go(func() {
		for {
			begun := time.Now()
			select {
			case <-s.quit:
				return
			case <-time.After(stallStep):
			}
			if ended := time.Now(); ended.Sub(begun) > stallNoted {
				s.found = append(s.found, sample{begun: begun, ended: ended})
			}
		}
	})
	return s
}

// stop ends the watch; only then may be asked what it saw. It may be called twice.
func (s *stalls) stop() {
	s.once.Do(func() { close(s.quit) })
	s.group.Wait()
}

// longest stall that overlaps a time.
func (s *stalls) longest(from, to time.Time) (found time.Duration) {
	for _, stall := range s.found {
		if stall.ended.After(from) && stall.begun.Before(to) {
			found = max(found, stall.ended.Sub(stall.begun))
		}
	}
	return found
}

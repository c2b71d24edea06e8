package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

type kind string

const (
	insert      kind = "insert"
	update      kind = "update"
	zipfian     kind = "update, zipfian"
	conditional kind = "conditional update of one key"
	half        kind = "mixed, half reads"
	mostly      kind = "mixed, 95 % reads"
	local       kind = "local read"
	latest      kind = "linearizable read"
	list        kind = "list of 100"
	bulk        kind = "batches of 500"
	fixedRate   kind = "insert at a fixed rate"
	kill        kind = "kill -9 of a node"
)

const (
	listed = 100
	batch  = 500
)

type workload struct {
	kind        kind
	connections int
	bytes       int
	// rate: requests a second of an open loop; 0 is a closed one.
	rate int
}

func (w workload) name() string {
	text := fmt.Sprintf("%s, %d connections, %s", w.kind, w.connections, size(w.bytes))
	if w.rate > 0 {
		text += fmt.Sprintf(", %d/s", w.rate)
	}
	return text
}

func size(bytes int) string {
	if bytes%1024 == 0 {
		return fmt.Sprintf("%d KiB", bytes/1024)
	}
	return fmt.Sprintf("%d B", bytes)
}

func workloads(s settings) []workload {
	var all []workload
	if s.smoke {
		for _, k := range []kind{insert, update, zipfian, conditional, half, mostly, local, latest, list, bulk} {
			all = append(all, workload{kind: k, connections: 8, bytes: 256})
		}
		return s.chosen(append(all, workload{kind: fixedRate, connections: 8, bytes: 256, rate: 100}))
	}
	if s.matrix {
		return s.chosen(matrix())
	}
	for _, connections := range []int{1, 16, 64, 256} {
		for _, k := range []kind{insert, update, local, latest} {
			all = append(all, workload{kind: k, connections: connections, bytes: 256})
		}
	}
	for _, k := range []kind{zipfian, half, mostly, list} {
		all = append(all, workload{kind: k, connections: 64, bytes: 256})
	}
	all = append(all, workload{kind: conditional, connections: 16, bytes: 256}, workload{kind: bulk, connections: 8, bytes: 256})
	for _, bytes := range []int{1 << 10, 16 << 10} {
		for _, k := range []kind{insert, local} {
			all = append(all, workload{kind: k, connections: 64, bytes: bytes})
		}
	}
	for _, rate := range []int{200, 1000} {
		all = append(all, workload{kind: fixedRate, connections: 64, bytes: 256, rate: rate})
	}
	return s.chosen(all)
}

// matrix is every kind with every number of connections and every size.
func matrix() []workload {
	var all []workload
	for _, k := range []kind{insert, update, zipfian, conditional, half, mostly, local, latest, list, bulk} {
		for _, bytes := range []int{256, 1 << 10, 16 << 10} {
			for _, connections := range []int{1, 16, 64, 256} {
				all = append(all, workload{kind: k, connections: connections, bytes: bytes})
			}
		}
	}
	return all
}

func (s settings) chosen(all []workload) []workload {
	return slices.DeleteFunc(all, func(w workload) bool { return !s.wants(w.name()) })
}

// chooser gives keys of documents that are there.
type chooser struct {
	random *rand.Rand
	keys   int
	zipf   *rand.Zipf
}

func newChooser(seed uint64, keys int, k kind) *chooser {
	random := rand.New(rand.NewPCG(seed, 7))
	c := &chooser{random: random, keys: keys}
	if k == zipfian {
		// YCSB's constant is 0.99; this generator needs more than 1.
		c.zipf = rand.NewZipf(random, 1.01, 1, uint64(keys-1))
	}
	return c
}

func (c *chooser) key() string {
	if c.zipf != nil {
		return filled(int(c.zipf.Uint64()))
	}
	return filled(c.random.IntN(c.keys))
}

func filled(number int) string { return fmt.Sprintf("k%08d", number) }

// value is text that is neither escaped nor easily compressed.
func value(random *rand.Rand, bytes int) []byte {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	text := make([]byte, bytes)
	for i := range text {
		text[i] = letters[random.IntN(len(letters))]
	}
	return text
}

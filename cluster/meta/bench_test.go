package meta

import (
	"fmt"
	"sync/atomic"
	"testing"

	"blocktree"
)

// BenchmarkCreateFile makes files in a group of one on the real file system, 64 at a time.
func BenchmarkCreateFile(b *testing.B) {
	g, err := Open(b.Context(), Config{Dir: b.TempDir(), Node: 1, Founders: founders(1), Clock: &fakeClock{},
		Send: func(blocktree.NodeID, []byte) {}})
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close()
	do := func(o Op) {
		if r, err := g.Propose(b.Context(), Command{ID: NewCommandID(), Op: o}); err != nil || r.Kind != 0 {
			b.Fatal(r, err)
		}
	}
	do(Found{Dir: rootDir, Generation: 1, Runtimes: founders(1)})
	do(StartNode{1, incarnation(1), 1, 0})
	var n atomic.Int64
	b.SetParallelism(64)
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			i := n.Add(1)
			do(file(fmt.Sprintf("/d%d/f%d", i%1000, i)))
		}
	})
}

// BenchmarkSync reads linearizably at a follower of three, 64 at a time.
func BenchmarkSync(b *testing.B) {
	w := newWorld(b)
	w.found(3)
	g := w.group(w.leader()%3 + 1)
	b.SetParallelism(64)
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if err := g.Sync(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

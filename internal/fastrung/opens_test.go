package fastrung

import (
	"fmt"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/bttp"
)

// opensSoon is how long it takes where nobody is away: some messages of half a millisecond each, nine or eleven of them.
const opensSoon = 7 * time.Millisecond

// opensAtOnce is how long a file may take to open that need not wait for anybody.
const opensAtOnce = 500 * time.Millisecond

// TestOpensWithoutOne opens files while a node is away, one after the other: a client that begins only now waits for it once, not with each file, and one that
// has called it down does not wait at all.
func TestOpensWithoutOne(t *testing.T) {
	carriers(t, func(b *bed) {
		const files = 4
		for i := range files {
			b.Create(b.client, name(i), 1<<20, blocktree.Code{Data: 2, Parity: 1})
		}
		b.Healthy(b.client)
		node := (b.Leader(b.client) + 1) % 3
		b.Stop(node)
		b.noticed(node)
		took := b.opens(b.client, 0)
		b.between("to open a file, when the node was called down", took, 0, opensAtOnce)
		late := b.Client()
		b.between("to open the first file", b.opens(late, 1), 0, memberTimeout+opensAtOnce)
		for i := 2; i < files; i++ {
			b.between("to open another", b.opens(late, i), 0, opensAtOnce)
		}
		b.Start(node)
		b.Healthy(b.client)
	})
}

func name(i int) string { return fmt.Sprintf("/vm/disk%d", i+1) }

// opens opens a file, writes to it, and returns how long both took.
func (b *bed) opens(c *cluster.Client, i int) time.Duration {
	b.T.Helper()
	begun := time.Now()
	f := b.Open(c, name(i))
	if err := f.WriteSectors(b.T.Context(), 0, numbered(0, 1)); err != nil {
		b.T.Fatal(err)
	}
	took := time.Since(begun)
	if err := f.Close(); err != nil {
		b.T.Fatal(err)
	}
	return took
}

// TestOpensSoon: who opens a file waits for the messages that take it over, by the world's own time, and for nothing else.
func TestOpensSoon(t *testing.T) {
	within(t, bttp.TCP, 1, func(b *bed) {
		b.Create(b.client, name(0), 1<<20, blocktree.Code{Data: 2, Parity: 1})
		b.opens(b.client, 0) // everybody is connected
		for range 4 {
			b.between("to open a file again", b.opens(b.client, 0), 0, opensSoon)
		}
	})
}

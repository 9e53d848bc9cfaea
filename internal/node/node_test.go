package node_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/testenv"
)

func pattern(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// TestWholeLine writes through the whole line, stops a node, goes on, starts it again and reads everything back through
// a new holder after every node was restarted.
func TestWholeLine(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 3)
	d.StartAll()
	c := d.Client()
	d.Create(c, "/vm/disk0", 64<<20, blocktree.Code{Data: 2, Parity: 1})
	f := d.Open(c, "/vm/disk0")
	ctx := patience(t)
	check := func(what string, first blocktree.SectorIndex, want []byte) {
		t.Helper()
		got := make([]byte, len(want))
		if err := f.ReadSectors(ctx, first, got); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%s: read other bytes than were written", what)
		}
	}
	one, two, three := pattern(1, 1<<20), pattern(2, 3<<20), pattern(3, 4096)
	if err := f.WriteSectors(ctx, 0, one); err != nil {
		t.Fatal(err)
	}
	check("healthy", 0, one)
	check("absent", 8192, make([]byte, 1<<20))

	d.Stop(1)
	if err := f.WriteSectors(ctx, 512, two); err != nil {
		t.Fatal(err)
	}
	if err := f.ZeroSectors(ctx, 600, 10); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteSectors(ctx, 601, three); err != nil {
		t.Fatal(err)
	}
	copy(two[(600-512)*4096:], make([]byte, 10*4096))
	copy(two[(601-512)*4096:], three)
	check("degraded", 512, two)

	d.Start(1)
	d.Await("copy-up", func() bool {
		s, err := c.Status(ctx)
		return err == nil && s.Health == cluster.HealthOK && len(s.Files) == 1 && s.Files[0].InSync == 3 && s.Files[0].Tolerates == 1
	})
	check("healed", 512, two)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		d.Stop(i)
	}
	d.StartAll()
	d.Stop(0) // the copied-up node must be able to stand in
	f = d.Open(c, "/vm/disk0")
	check("restarted, first", 0, one)
	check("restarted, second", 512, two)
	if err := f.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

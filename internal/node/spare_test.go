package node_test

import (
	"context"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/testenv"
)

// TestSpare stops a node of four for longer than the grace, with a file that is held and with one that nobody holds: both are on
// three nodes again, and the node can be removed.
func TestSpare(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 4)
	d.SpareAfter = 2 * time.Second
	d.StartAll()
	ctx := patience(t)
	c := d.Client()
	code := blocktree.Code{Data: 2, Parity: 1}
	fiveFiles(ctx, t, d, c, code)
	f := d.Open(c, "/vm/a")
	w := startWriters(ctx, f, 4)
	admin := d.Client()
	whole := func() bool {
		s, err := c.Status(ctx)
		if err != nil {
			return false
		}
		for _, x := range s.Files {
			if x.InSync < code.Shards() {
				return false
			}
		}
		return len(s.Files) == 5
	}
	d.Await("all in sync", whole)
	d.Stop(1)
	if err := admin.RemoveNode(ctx, d.Members[1].Path, false); blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" {
		t.Errorf("with places: %v", err)
	}
	d.Await("the others have its places", func() bool {
		return whole() && admin.RemoveNode(ctx, d.Members[1].Path, false) == nil
	})
	if err := admin.AwaitVoters(ctx); err != nil {
		t.Fatal(err)
	}
	w.finish(t, false)
	d.Stop(0)
	w.check(ctx, t, f)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	d.Start(0)
	if err := d.TryStart(1); err == nil {
		select {
		case err = <-d.Fatal(1):
			if blocktree.HintOf(err) == "" {
				t.Errorf("without a hint: %v", err)
			}
		case <-ctx.Done():
			t.Error("a removed node goes on")
		}
	}
}

// fiveFiles makes five files with something in them, each on three of the four nodes.
func fiveFiles(ctx context.Context, t *testing.T, d *testenv.Domain, c *cluster.Client, code blocktree.Code) {
	t.Helper()
	for _, name := range []string{"/vm/a", "/vm/b", "/vm/c", "/vm/d", "/vm/e"} {
		d.Create(c, name, 8<<20, code)
		f := d.Open(c, name)
		if err := f.WriteSectors(ctx, 0, pattern(1, 4<<20)); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

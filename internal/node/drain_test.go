package node_test

import (
	"context"
	"testing"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/testenv"
)

// TestDrain drains a running node of four, with a file that is held and written and with some that nobody holds: no
// file misses a member at any time, and in the end the node is removed without force while it runs.
func TestDrain(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 4)
	d.StartAll()
	ctx := patience(t)
	c := d.Client()
	code := blocktree.Code{Data: 2, Parity: 1}
	fiveFiles(ctx, t, d, c, code)
	f := d.Open(c, "/vm/a")
	w := startWriters(ctx, f, 4)
	admin := d.Client()
	path := d.Members[1].Path
	beginDrain(ctx, t, d, admin)
	drained := func() *cluster.DrainStatus {
		s, err := c.Status(ctx)
		if err != nil || len(s.Files) != 5 {
			return nil
		}
		for _, x := range s.Files {
			if x.InSync < code.Shards() {
				t.Errorf("%s has %d members in sync", x.Path, x.InSync)
			}
		}
		for i := range s.Nodes {
			if s.Nodes[i].Path == blocktree.Path(path.Short()) {
				return s.Nodes[i].Drain
			}
		}
		return nil
	}
	d.Await("nothing is left", func() bool { x := drained(); return x != nil && x.Places == 0 })
	w.finish(t, false)
	if err := admin.RemoveNode(ctx, path, false); err != nil {
		t.Fatal(err)
	}
	if err := admin.AwaitVoters(ctx); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-d.Fatal(1):
		if blocktree.HintOf(err) == "" {
			t.Errorf("without a hint: %v", err)
		}
	case <-ctx.Done():
		t.Error("a removed node goes on")
	}
	d.Stop(1)
	w.check(ctx, t, f)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// beginDrain drains the second of four nodes, and tries what must be refused.
func beginDrain(ctx context.Context, t *testing.T, d *testenv.Domain, admin *cluster.Client) {
	t.Helper()
	for _, x := range []struct {
		path blocktree.Path
		kind blocktree.Kind
	}{{d.Members[0].Path + "0", blocktree.NotFound}, {d.Members[1].Path, blocktree.Other}} {
		if err := admin.DrainNode(ctx, x.path, false); blocktree.KindOf(err) != x.kind || err != nil && blocktree.HintOf(err) == "" {
			t.Fatalf("%s: %v", x.path.Short(), err)
		}
	}
	if err := admin.DrainNode(ctx, d.Members[2].Path, false); blocktree.KindOf(err) != blocktree.Unavailable || blocktree.HintOf(err) == "" {
		t.Errorf("a second one: %v", err)
	}
	if _, err := admin.ReplaceNode(ctx, d.Members[1].Path, true); blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" {
		t.Errorf("replaced: %v", err)
	}
}

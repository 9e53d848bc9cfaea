package node_test

import (
	"bytes"
	"testing"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/file"
	"blocktree/internal/testenv"
)

// gatewayOf is the node (from 0) through which a client reaches node i, -1 if it does not, or does so directly.
func gatewayOf(d *testenv.Domain, c *cluster.Client, i int) int {
	s, err := c.Status(d.T.Context())
	if err != nil {
		return -1
	}
	for _, n := range s.Nodes {
		if n.Path != blocktree.Path(d.Members[i].Path.Short()) || n.State != "up" {
			continue
		}
		for j, m := range d.Members {
			if blocktree.Path(m.Path.Short()) == n.Via {
				return j
			}
		}
	}
	return -1
}

// TestOneNodeReachable has clients that reach a single node of three: they make a file, hold it and read it, and every member is in sync.
func TestOneNodeReachable(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 3)
	d.StartAll()
	ctx := patience(t)
	c, other := d.ClientWithout(1, 2), d.ClientWithout(0, 2)
	d.Create(c, "/vm/disk0", 16<<20, blocktree.Code{Data: 2, Parity: 1})
	f := d.Open(c, "/vm/disk0")
	w := startWriters(ctx, f, 4)
	r, err := file.Open(ctx, other, d.Path("/vm/disk0"), file.OpenOptions{Reader: d.Reader, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	d.Await("writes", func() bool { return w.total() > 100 })
	w.finish(t, false)
	healthy(ctx, d, c)
	if g := [3]int{gatewayOf(d, c, 0), gatewayOf(d, c, 1), gatewayOf(d, c, 2)}; g != [3]int{-1, 0, 0} {
		t.Errorf("the nodes are reached through %v", g)
	}
	w.check(ctx, t, f)
	w.check(ctx, t, r)
	for _, f := range []blocktree.File{r, f} {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f = d.Open(other, "/vm/disk0") // takes the file over, through another gateway
	w.check(ctx, t, f)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestGatewayKilled kills the node through which a holder reaches a third one, in mid-write: the writes go on with the other two. Started again
// it is copied up, and then the member behind the gateway carries the file with one of them.
func TestGatewayKilled(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 3)
	ctx := patience(t)
	processes := []*testenv.Process{d.StartProcess(0), d.StartProcess(1), d.StartProcess(2)}
	c := d.ClientWithout(2)
	d.Create(c, "/vm/disk0", 16<<20, blocktree.Code{Data: 2, Parity: 1})
	f := d.Open(c, "/vm/disk0")
	w := startWriters(ctx, f, 8)
	d.Await("writes", func() bool { return w.total() > 200 })
	healthy(ctx, d, c)
	gateway := gatewayOf(d, c, 2)
	if gateway != 0 && gateway != 1 {
		t.Fatalf("the third node is reached through %d", gateway)
	}
	processes[gateway].Kill()
	before := w.total()
	d.Await("writes without the gateway", func() bool { return w.total() > before+200 })
	if g := gatewayOf(d, c, 2); g != 1-gateway {
		t.Errorf("the third node is reached through %d", g)
	}
	processes[gateway] = d.StartProcess(gateway)
	healthy(ctx, d, c)
	w.finish(t, false)
	w.check(ctx, t, f)
	processes[1-gateway].Kill()
	w.check(ctx, t, f) // of the shards that node gateway and the third have
	d.StartProcess(1 - gateway)
	healthy(ctx, d, c)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, sectorBytes)
	whole := d.Open(d.Client(), "/vm/disk0")
	if err := whole.ReadSectors(ctx, 0, got); err != nil || !bytes.Equal(got, numbered(0, w.acked[0])) {
		t.Errorf("another client reads another sector: %v", err)
	}
	if err := whole.Close(); err != nil {
		t.Fatal(err)
	}
}

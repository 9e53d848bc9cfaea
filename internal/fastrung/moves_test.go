package fastrung

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/testenv"
)

// movesTo restarts a node with a configuration that has another address for it; those of the others stay as they are.
func movesTo(d *testenv.Simulated, i int, port int) (at string) {
	d.Stop(i)
	before := d.Members
	d.Members = slices.Clone(before)
	at = fmt.Sprintf("%s:%d", d.NodeAddr(i), port)
	d.Members[i].Endpoints = []string{at}
	d.Start(i)
	d.Members = before
	return at
}

// endpoints are the addresses that a cluster's record of a runtime has.
func endpoints(t *testing.T, records []blocktree.Runtime, path blocktree.Path) []string {
	t.Helper()
	for _, r := range records {
		if r.Path == path {
			return r.Endpoints
		}
	}
	t.Fatalf("no record of %s", path.Short())
	return nil
}

// TestNodeMoves: a node whose configuration has another address than at its last start corrects its own process record, whatever it has put behind that, and is found there by whoever knew the old one; a record that somebody has changed since stays.
func TestNodeMoves(t *testing.T) {
	withChild(t, func(b *bed, child *testenv.Simulated) {
		ctx := b.T.Context()
		inside := child.Client()
		healthy := func() {
			t.Helper()
			for d, c := range map[*testenv.Simulated]*cluster.Client{b.Simulated: b.client, child: inside} {
				d.Await("all in sync", func() bool { s := d.Status(c); return len(s.Nodes) == 3 && s.Health == cluster.HealthOK })
			}
		}
		healthy()
		root, below := b.Members[1].Path, child.Members[1].Path
		ofRoot := func() []string {
			hosts, err := b.client.Hosts(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return endpoints(t, hosts, root)
		}
		ofChild := func() (above, own []string) {
			_, records, err := b.client.Below(ctx, b.Path("/rack1"))
			if err != nil {
				t.Fatal(err)
			}
			hosts, err := inside.Hosts(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return endpoints(t, records, below), endpoints(t, hosts, below)
		}
		// It has been elsewhere, without another configuration, and so its record has that behind (0043).
		seen := "10.0.77.1:7000"
		r := b.Members[1]
		r.Endpoints = append(slices.Clone(r.Endpoints), seen)
		if err := b.client.AddNode(ctx, r); err != nil {
			t.Fatal(err)
		}
		for _, port := range []int{7001, 7002} {
			want := movesTo(b.Simulated, 1, port)
			b.Await("the record of a node of the root directory", func() bool { return slices.Equal(ofRoot(), []string{want, seen}) })
			want = movesTo(child, 1, port)
			child.Await("both records of a node below", func() bool {
				above, own := ofChild()
				return slices.Equal(above, []string{want}) && slices.Equal(own, []string{want})
			})
			healthy()
		}
		// Somebody gives it another one, which counts, whatever its configuration says next.
		r = b.Members[1]
		r.Endpoints = []string{"10.9.9.9:7000", b.NodeAddr(1).String() + ":7003"}
		if err := b.client.AddNode(ctx, r); err != nil {
			t.Fatal(err)
		}
		movesTo(b.Simulated, 1, 7003)
		time.Sleep(time.Minute)
		if got := ofRoot(); !slices.Equal(got, r.Endpoints) {
			t.Errorf("somebody's addresses are replaced: %v", got)
		}
		healthy()
	})
}

// TestMovesAfterRoaming: a record that a node has added an address to, as it was reached there, follows its configuration as any other: what it was configured to have is replaced, what stands behind stays behind, and nothing is
// put back and forth.
func TestMovesAfterRoaming(t *testing.T) {
	withChild(t, func(b *bed, child *testenv.Simulated) {
		inside := child.Client()
		of := func(c *cluster.Client, path blocktree.Path) []string {
			hosts, err := c.Hosts(b.T.Context())
			if err != nil {
				t.Fatal(err)
			}
			return endpoints(t, hosts, path)
		}
		for i, x := range []struct {
			d *testenv.Simulated
			c *cluster.Client
		}{{b.Simulated, b.client}, {child, inside}} {
			path, before := x.d.Members[1].Path, x.d.Members[1].Endpoints[0]
			seen := fmt.Sprintf("10.0.77.%d", i+1)
			x.d.Move(x.d.NodeAddr(1), netip.MustParseAddr(seen))
			x.d.Await("it to be noted where it is seen", func() bool { return slices.Equal(of(x.c, path), []string{before, seen + ":7000"}) })
			x.d.Stop(1)
			members := x.d.Members
			x.d.Members = slices.Clone(members)
			x.d.Members[1].Endpoints = []string{seen + ":7001"}
			x.d.Start(1)
			x.d.Members = members
			x.d.Await("its record to follow its configuration", func() bool { return of(x.c, path)[0] == seen+":7001" })
			now := of(x.c, path)
			time.Sleep(time.Minute)
			if got := of(x.c, path); !slices.Equal(got, now) || slices.Contains(got, before) {
				t.Errorf("its record had %v, and has %v", now, got)
			}
		}
	})
}

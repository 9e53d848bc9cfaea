package fastrung

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"blocktree"
	"blocktree/internal/bttp"
	"blocktree/internal/testenv"
)

// TestNodeRoamsBelow: Y2. A node of a child has another address, twice, the second time while nobody above can be reached: its record above says so, behind where it began, and its record in the child says where it is all the while.
func TestNodeRoamsBelow(t *testing.T) {
	withNodes(t, bttp.TCP, 3, 1, func(*testenv.Simulated) {}, func(b *bed) {
		if err := b.client.MakeDir(b.T.Context(), b.Path("/rack1"), 0o755, false); err != nil {
			t.Fatal(err)
		}
		child := b.Below("/rack1", 3)
		addAll(b.Simulated, b.client, child)
		child.StartAll()
		answers(b.Simulated, b.client, "/rack1")
		inside := child.Client()
		child.Await("all three in the group", func() bool { return len(child.Status(inside).Nodes) == 3 })
		_ = b.file.Close() // its nodes are off for a while
		own, began := child.Members[1].Path, child.Members[1].Endpoints[0]
		of := func(records []blocktree.Runtime, err error) []string {
			i := slices.IndexFunc(records, func(r blocktree.Runtime) bool { return r.Path == own })
			if err != nil || i < 0 {
				return []string{""}
			}
			return records[i].Endpoints
		}
		for n, to := range []string{"10.0.77.1", "10.0.77.2"} {
			away := n == 1
			at := netip.MustParseAddr(to)
			if away {
				for i := range 3 {
					b.Off(b.NodeAddr(i))
				}
			}
			child.Move(child.NodeAddr(1), at)
			if away {
				time.Sleep(8 * time.Second)
				if got := of(inside.Hosts(b.T.Context())); got[len(got)-1] != to+":7000" {
					t.Errorf("while nobody is above: %v", got)
				}
				for i := range 3 {
					b.On(b.NodeAddr(i))
				}
			}
			b.await("the record above to have "+to, 2*time.Minute, func() bool {
				_, records, err := b.client.Below(b.T.Context(), b.Path("/rack1"))
				got := of(records, err)
				return got[len(got)-1] == to+":7000" && got[0] == began
			})
			time.Sleep(3 * time.Second) // whoever has the uplink has looked
			if got := of(inside.Hosts(b.T.Context())); got[len(got)-1] != to+":7000" || got[0] != began {
				t.Errorf("%s is above, and in the child there is %v", to, got)
			}
		}
	})
}

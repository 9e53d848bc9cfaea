package node_test

import (
	"testing"
	"time"

	"blocktree"
	"blocktree/internal/testenv"
)

// TestReopenedBySameClient: the same client opens a file twice. The second take-over does not wait for the first lease, and
// the first handle's lease goes on being renewed: what it has cached counts as fresh for ever.
func TestReopenedBySameClient(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 3)
	d.StartAll()
	c := d.Client()
	d.Create(c, "/vm/disk0", 8<<20, blocktree.Code{Data: 2, Parity: 1})
	one := d.Open(c, "/vm/disk0")
	ctx := patience(t)
	two := d.Open(c, "/vm/disk0")
	if err := two.WriteSectors(ctx, 0, pattern(1, 4096)); err != nil {
		t.Fatal(err)
	}
	type lease interface {
		Lease() (blocktree.Epoch, bool)
	}
	for range 3 {
		e1, ok1 := one.(lease).Lease()
		e2, ok2 := two.(lease).Lease()
		t.Log(e1, ok1, e2, ok2)
		if ok1 && ok2 && e1 != e2 {
			t.Errorf("epochs %d and %d both have the lease, after the second wrote", e1, e2)
		}
		time.Sleep(3 * time.Second)
	}
	_ = one.Close()
	_ = two.Close()
}

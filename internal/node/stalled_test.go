package node_test

import (
	"sync"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/testenv"
	"blocktree/internal/vfs"
)

// TestStalledDisk: a node whose disk stops to sync, while its network is as good as ever, is voted out within 2 to 5 seconds: so long
// writes wait, and no longer. Once it syncs again it is copied up.
func TestStalledDisk(t *testing.T) {
	d := testenv.New(t, 3)
	disk, stall := vfs.NewFault(vfs.Disk{}), make(chan struct{})
	resume := sync.OnceFunc(func() { disk.Clear(); close(stall) })
	defer resume() // else the node could not be stopped
	d.Disks = map[int]vfs.FS{2: disk}
	d.StartAll()
	ctx := within(t, 2*time.Minute)
	c := d.Client()
	d.Create(c, "/vm/disk0", 16<<20, blocktree.Code{Data: 2, Parity: 1})
	f := d.Open(c, "/vm/disk0")
	w := startWriters(ctx, f, 8)
	d.Await("writes", func() bool { return w.total() > 200 })
	disk.Inject(vfs.Injection{Op: vfs.FaultSync, Times: -1, Stall: stall})
	d.Await("a sync that stalls", func() bool { return disk.Injected() > 0 })
	begun, before := time.Now(), w.total()
	d.Await("writes without the node", func() bool { return w.total() > before+16 }) // eight were in flight
	pause := time.Since(begun)
	if pause < 2*time.Second || pause > 5*time.Second {
		t.Errorf("writes waited for %v", pause)
	}
	s, err := c.Status(ctx)
	if err != nil || len(s.Files) != 1 || s.Files[0].InSync != 2 || s.Health != cluster.HealthDegraded {
		t.Errorf("%+v, %v", s, err)
	}
	for _, n := range s.Nodes {
		t.Logf("%+v", n)
	}
	var longest time.Duration // of a pause from now on, while the disk still stalls
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		begun, before := time.Now(), w.total()
		d.Await("writes", func() bool { return w.total() > before })
		longest = max(longest, time.Since(begun))
	}
	t.Logf("writes waited %v until the node was voted out, later at most %v", pause, longest)
	if longest > time.Second {
		t.Errorf("later they waited for %v", longest)
	}
	resume()
	healthy(ctx, d, c)
	w.finish(t, false)
	w.check(ctx, t, f)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

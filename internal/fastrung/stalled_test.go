package fastrung

import (
	"sync"
	"testing"
	"time"

	"blocktree/cluster"
	"blocktree/internal/bttp"
	"blocktree/internal/testenv"
	"blocktree/internal/vfs"
)

// TestStalledDisk: a node whose disk stops to sync, while its network is as good as ever, is voted out after MemberTimeout: so long writes
// wait, and no longer; those after it wait for nothing. Once the disk syncs again the node is copied up.
func TestStalledDisk(t *testing.T) {
	for _, transport := range []bttp.Transport{bttp.QUIC, bttp.TCP} {
		t.Run(string(transport), func(t *testing.T) {
			var disk *vfs.Fault
			withNodes(t, transport, 3, 1, func(s *testenv.Simulated) {
				disk = vfs.NewFault(s.Disk(2))
				s.Disks = map[int]vfs.FS{2: disk}
			}, func(b *bed) { b.stall(disk) })
		})
	}
}

func (b *bed) stall(disk *vfs.Fault) {
	stall := make(chan struct{})
	resume := sync.OnceFunc(func() { disk.Clear(); close(stall) })
	b.T.Cleanup(resume) // else the node could not be stopped
	w := b.write(b.file, 8)
	time.Sleep(time.Second)
	before := stats(b.file)
	disk.Inject(vfs.Injection{Op: vfs.FaultSync, Times: -1, Stall: stall})
	begun := time.Now()
	b.await("removal", 10*time.Second, func() bool { return stats(b.file).Removed > before.Removed })
	b.between("to vote the node out", time.Since(begun), memberTimeout, memberTimeout+2*writePause)
	time.Sleep(100 * time.Millisecond)
	b.between("the pause of writes", w.pause(), memberTimeout, memberTimeout+50*time.Millisecond)
	if s := b.Status(b.client); len(s.Files) != 1 || s.Files[0].InSync != 2 || s.Health != cluster.HealthDegraded {
		b.T.Errorf("%+v", s)
	}
	w.forget()
	time.Sleep(time.Minute)
	b.between("the slowest write while it stalls", w.pause(), 0, 10*time.Millisecond)
	resume()
	b.Healthy(b.client)
	w.finishWell()
	w.check(b.file, "in the end")
}

package fastrung

import (
	"sync"
	"testing"
	"time"

	"blocktree/internal/bttp"
	"blocktree/internal/testenv"
	"blocktree/internal/vfs"
)

// TestRestingHandle: L6 of 0065. A file that nobody uses has its machine look for what is late four times a second; as soon as something is asked of it, forty times: a node that does
// not answer is voted out as soon as ever.
func TestRestingHandle(t *testing.T) {
	var disk *vfs.Fault
	withNodes(t, bttp.TCP, 3, 1, func(s *testenv.Simulated) {
		disk = vfs.NewFault(s.Disk(2))
		s.Disks = map[int]vfs.FS{2: disk}
	}, func(b *bed) {
		time.Sleep(5 * time.Second)
		before := stats(b.file)
		time.Sleep(10 * time.Second)
		if n := stats(b.file).Looks - before.Looks; n < 30 || n > 60 {
			b.T.Errorf("%d looks in 10 s without requests", n)
		}
		stall := make(chan struct{})
		resume := sync.OnceFunc(func() { disk.Clear(); close(stall) })
		b.T.Cleanup(resume)
		disk.Inject(vfs.Injection{Op: vfs.FaultSync, Times: -1, Stall: stall})
		begun := time.Now()
		if err := b.file.WriteSectors(b.T.Context(), 0, numbered(0, 1)); err != nil { // one, and nothing else that would have its machine look
			b.T.Fatal(err)
		}
		b.between("to vote the node out", time.Since(begun), memberTimeout, memberTimeout+100*time.Millisecond)
		resume()
		b.Healthy(b.client)
	})
}

package fastrung

import (
	"context"
	"testing"
	"time"

	"blocktree"
	"blocktree/internal/vfs"
)

// TestReplacedOnAFullDisk replaces a node whose disk is lost, and starts it where others have taken all the space: it waits for some, as
// any node does, can be stopped meanwhile, and is copied up when there is.
func TestReplacedOnAFullDisk(t *testing.T) {
	carriers(t, func(b *bed) {
		w := b.write(b.file, 4)
		time.Sleep(time.Second)
		node := (b.Leader(b.client) + 1) % 3
		b.Stop(node)
		b.Wipe(node)
		time.Sleep(5 * time.Second)
		if _, err := b.client.ReplaceNode(b.T.Context(), b.Members[node].Path, false); err != nil {
			b.T.Fatal(err)
		}
		disk := b.Disk(node).(*vfs.Crash)
		disk.SetCapacity(1)
		ctx, cancel := context.WithTimeout(b.T.Context(), 20*time.Second)
		if err := b.TryStartWithin(ctx, node); blocktree.KindOf(err) != blocktree.NoSpace {
			b.T.Errorf("told to stop while it waits: %v", err)
		}
		cancel()
		begun, started := time.Now(), make(chan error, 1)
		go func() { started <- b.TryStart(node) }()
		for _, bytes := range []int64{1 << 20, 0} { // enough to know which store it is to be, and for all
			time.Sleep(20 * time.Second)
			select {
			case err := <-started:
				b.T.Fatalf("it did not wait for space: %v", err)
			default:
			}
			disk.SetCapacity(bytes)
		}
		if err := <-started; err != nil {
			b.T.Fatal(err)
		}
		b.between("to start once there was space", time.Since(begun), 40*time.Second, 50*time.Second)
		w.finishWell()
		b.Healthy(b.client)
		w.checkWithout(b.file)
	})
}

// TestNewOnAFullDisk starts a node of a cluster that nobody has founded yet on a full disk: it says so, and ends.
func TestNewOnAFullDisk(t *testing.T) {
	carriers(t, func(b *bed) {
		for i := range 3 {
			b.Stop(i)
			b.Wipe(i)
		}
		b.Disk(0).(*vfs.Crash).SetCapacity(1)
		if err := b.TryStart(0); blocktree.KindOf(err) != blocktree.NoSpace || blocktree.HintOf(err) == "" {
			b.T.Errorf("%v, want no space, with a hint", err)
		}
	})
}

package node_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/bttp"
	"blocktree/internal/file"
	"blocktree/internal/testenv"
)

// TestReplaceWiped wipes a node's disk while a file is being written, replaces the node and starts it: it gets a new store, is copied
// up, becomes a voter, and stands in for another. It keeps its store over a restart; the old store is not welcome any more.
func TestReplaceWiped(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 3)
	d.StartAll()
	ctx := patience(t)
	c := d.Client()
	d.Create(c, "/vm/disk0", 16<<20, blocktree.Code{Data: 2, Parity: 1})
	f := d.Open(c, "/vm/disk0")
	w := startWriters(ctx, f, 8)
	d.Await("writes", func() bool { return w.total() > 200 })
	admin := d.Client()
	path := d.Members[2].Path
	if _, err := admin.ReplaceNode(ctx, path, false); blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" {
		t.Fatalf("a node that answers: %v", err)
	}
	if _, err := admin.ReplaceNode(ctx, d.Path("/nobody"), false); blocktree.KindOf(err) != blocktree.NotFound || blocktree.HintOf(err) == "" {
		t.Fatalf("a node that is none: %v", err)
	}
	lose(d, f, 2)
	yesterday := filepath.Join(t.TempDir(), "old")
	if err := os.Rename(d.NodeDir(2), yesterday); err != nil {
		t.Fatal(err)
	}
	d.Await("writes without the node", func() bool { n := w.total(); time.Sleep(10 * time.Millisecond); return w.total() > n })
	if err := d.TryStart(2); blocktree.KindOf(err) != blocktree.Invalid {
		t.Fatalf("wiped and not replaced: %v", err)
	}
	if err := os.RemoveAll(d.NodeDir(2)); err != nil {
		t.Fatal(err)
	}
	one, err := admin.ReplaceNode(ctx, path, false)
	if err != nil || one.Old != d.Members[2].Node || one.New == one.Old {
		t.Fatalf("%+v, %v", one, err)
	}
	again, err := admin.ReplaceNode(ctx, path, false)
	if err != nil || again.New != one.New || again.Old != 0 {
		t.Fatalf("again: %+v, %v", again, err)
	}
	other, err := admin.ReplaceNode(ctx, path, true)
	if err != nil || other.Old != one.New || other.New == one.New {
		t.Fatalf("again, by force: %+v, %v", other, err)
	}
	one = other
	if err := admin.AwaitVoters(ctx); err != nil {
		t.Fatal(err)
	}
	d.Start(2)
	healthy(ctx, d, c)
	d.Await("the new store is a voter", func() bool { _, voter := admin.Records(ctx, one.New); return voter })
	before := w.total()
	d.Await("writes with the node", func() bool { return w.total() > before+200 })
	lose(d, f, 0)
	before = w.total()
	d.Await("writes without another", func() bool { return w.total() > before+200 })
	d.Start(0)
	healthy(ctx, d, c)
	lose(d, f, 2)
	d.Start(2) // under the id that the cluster gave it
	healthy(ctx, d, c)
	w.finish(t, false)
	d.Stop(1)
	w.check(ctx, t, f)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	d.Start(1)
	d.Stop(2)
	unwelcome(t, d, yesterday)
}

// lose stops node i and waits until the holder of f does without it. Until then the cluster calls itself healthy, and a node that was
// started again might be voted out after that.
func lose(d *testenv.Domain, f blocktree.File, i int) {
	d.T.Helper()
	h := f.(*file.File).Handle()
	before := h.Stats().Removed
	d.Stop(i)
	d.Await("the node is missed", func() bool { return h.Stats().Removed > before })
}

// unwelcome puts the store back that was replaced: the node must end.
func unwelcome(t *testing.T, d *testenv.Domain, yesterday string) {
	t.Helper()
	if err := os.Rename(d.NodeDir(2), d.NodeDir(2)+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(yesterday, d.NodeDir(2)); err != nil {
		t.Fatal(err)
	}
	if err := d.TryStart(2); err == nil { // it opens, and is refused by the others
		select {
		case err = <-d.Fatal(2):
		case <-patience(t).Done():
			t.Fatal("the old store goes on")
		}
		if blocktree.HintOf(err) == "" {
			t.Errorf("without a hint: %v", err)
		}
	}
}

// TestAssignedIsOfOnePlace: the directory of another node, or of another configured store, is refused.
func TestAssignedIsOfOnePlace(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 3)
	d.StartAll()
	ctx := patience(t)
	c := d.Client()
	healthy(ctx, d, c)
	d.Stop(2)
	if err := os.RemoveAll(d.NodeDir(2)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ReplaceNode(ctx, d.Members[2].Path, false); err != nil {
		t.Fatal(err)
	}
	d.Start(2)
	healthy(ctx, d, c)
	d.Stop(2)
	d.Stop(1)
	name := filepath.Join(d.NodeDir(2), "assigned")
	b, err := os.ReadFile(name)
	if err != nil || len(b) == 0 {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.NodeDir(1), "assigned"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.TryStart(1); blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
		t.Errorf("another node's: %v", err)
	}
	if err := os.WriteFile(name, bytes.Replace(b, []byte("node3"), []byte("node4"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.TryStart(2); blocktree.KindOf(err) != blocktree.Corrupt || blocktree.HintOf(err) == "" {
		t.Errorf("damaged: %v", err)
	}
}

// TestOldCopyOfReplacedIsRefused puts a copy of a store back that was replaced since, from before its last start: it has forgotten what
// it voted for, and may not take part in the group at all.
func TestOldCopyOfReplacedIsRefused(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 3)
	d.StartAll()
	ctx := patience(t)
	c := d.Client()
	healthy(ctx, d, c)
	d.Stop(2)
	yesterday := t.TempDir()
	if err := os.CopyFS(yesterday, os.DirFS(d.NodeDir(2))); err != nil {
		t.Fatal(err)
	}
	d.Start(2)
	d.Await("the cluster knows of the new start", func() bool {
		mark, old := startMark(t, d.NodeDir(2)), startMark(t, yesterday)
		return !bytes.Equal(mark, old) && bytes.Equal(mark[:8], mark[8:])
	})
	d.Stop(2)
	if _, err := c.ReplaceNode(ctx, d.Members[2].Path, false); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(d.NodeDir(2)); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(d.NodeDir(2), os.DirFS(yesterday)); err != nil {
		t.Fatal(err)
	}
	if err := d.TryStart(2); blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
		t.Errorf("an old copy of a store that was replaced: %v, want a refusal of kind invalid with a hint", err)
	}
}

// TestRemovedAndWiped starts a node that was removed on an empty directory: it is told so, and makes no store of an id that has voted.
func TestRemovedAndWiped(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 4)
	d.StartAll()
	ctx := patience(t)
	c := d.Client()
	healthy(ctx, d, c)
	d.Stop(3)
	if err := c.RemoveNode(ctx, d.Members[3].Path, false); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(d.NodeDir(3)); err != nil {
		t.Fatal(err)
	}
	if err := d.TryStart(3); blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
		t.Errorf("a node that was removed: %v, want a refusal of kind invalid with a hint", err)
	}
	if names, err := os.ReadDir(d.NodeDir(3)); err != nil || len(names) > 0 {
		t.Errorf("it made %v (%v)", names, err)
	}
}

// TestReplaceOneOfTwo replaces a node that runs, of a cluster of two: its vote is needed to leave the group, so it stays until it has.
func TestReplaceOneOfTwo(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 2)
	d.StartAll()
	ctx := patience(t)
	c := d.Client()
	d.Create(c, "/vm/disk0", 8<<20, blocktree.Code{Data: 1, Parity: 1})
	f := d.Open(c, "/vm/disk0")
	want := pattern(1, 1<<20)
	if err := f.WriteSectors(ctx, 0, want); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	healthy(ctx, d, c)
	ended := make(chan error, 1)
	fatal := d.Fatal(1)
	go func() { // as a process does
		select {
		case err := <-fatal:
			d.Stop(1)
			ended <- err
		case <-ctx.Done():
		}
	}()
	if _, err := c.ReplaceNode(ctx, d.Members[1].Path, true); err != nil {
		t.Fatal(err)
	}
	if err := c.AwaitVoters(ctx); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if blocktree.HintOf(err) == "" {
			t.Errorf("without a hint: %v", err)
		}
	case <-ctx.Done():
		t.Fatal("the node goes on with a store that was replaced")
	}
	if err := os.RemoveAll(d.NodeDir(1)); err != nil {
		t.Fatal(err)
	}
	d.Start(1)
	healthy(ctx, d, c)
	f = d.Open(c, "/vm/disk0")
	got := make([]byte, len(want))
	if err := f.ReadSectors(ctx, 0, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("what was written is not there: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// wipedAndReplaced is a cluster of three with a file, of which the third node was wiped and given another store, and none runs.
func wipedAndReplaced(t *testing.T) (*testenv.Domain, *cluster.Client, context.Context, cluster.Replaced) {
	d := testenv.New(t, 3)
	d.StartAll()
	ctx := patience(t)
	c := d.Client()
	healthy(ctx, d, c)
	d.Create(c, "/vm/disk0", 8<<20, blocktree.Code{Data: 2, Parity: 1})
	d.Stop(2)
	if err := os.RemoveAll(d.NodeDir(2)); err != nil {
		t.Fatal(err)
	}
	one, err := c.ReplaceNode(ctx, d.Members[2].Path, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AwaitVoters(ctx); err != nil {
		t.Fatal(err)
	}
	d.Stop(0)
	d.Stop(1)
	return d, c, ctx, one
}

// TestReplacedBesideNobody: a node that was replaced starts on its empty directory while nobody answers, as one does that is to found a cluster.
// What it makes then is never used, and no hindrance to the store that it gets when it hears of it, at another start or while it runs.
func TestReplacedBesideNobody(t *testing.T) {
	t.Parallel()
	for name, restarts := range map[string]bool{"and starts again": true, "and runs on": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			replacedBesideNobody(t, restarts)
		})
	}
}

func replacedBesideNobody(t *testing.T, restarts bool) {
	d, c, ctx, one := wipedAndReplaced(t)
	d.Start(2)
	for _, dir := range []string{"sectors", "meta"} {
		if names, err := os.ReadDir(filepath.Join(d.NodeDir(2), dir)); err != nil || len(names) == 0 {
			t.Fatalf("it has not made a store: %v", err)
		}
	}
	if restarts {
		d.Stop(2)
	}
	d.Start(0)
	d.Start(1)
	d.Await("the others serve", func() bool { _, err := c.Status(ctx); return err == nil })
	if restarts {
		d.Start(2)
	}
	healthy(ctx, d, c)
	d.Await("its new store is a voter", func() bool { _, voter := c.Records(ctx, one.New); return voter })
}

// TestReplacedNeverComesBack: a node that has been told that it is replaced has given its store up for good. Cut off before it wrote down which it
// is now, it waits for whoever can say so: made anew, the old store could vote twice.
func TestReplacedNeverComesBack(t *testing.T) {
	t.Parallel()
	d, c, ctx, one := wipedAndReplaced(t)
	d.Start(2)
	d.Stop(2)
	d.Start(0)
	d.Start(1)
	d.Await("the others serve", func() bool { _, err := c.Status(ctx); return err == nil })
	obstacle := filepath.Join(d.NodeDir(2), "assigned.new")
	if err := os.Mkdir(obstacle, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.TryStart(2); err == nil {
		t.Fatal("it starts, and cannot have written down under which id")
	}
	d.Stop(0)
	d.Stop(1)
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithCancel(ctx)
	time.AfterFunc(time.Second, cancel)
	if err := d.TryStartWithin(short, 2); blocktree.KindOf(err) != blocktree.Unavailable || blocktree.HintOf(err) == "" {
		t.Errorf("stopped while it waits beside nobody: %v, want an error of kind unavailable with a hint", err)
	}
	if names, err := os.ReadDir(filepath.Join(d.NodeDir(2), "meta")); err != nil || len(names) > 0 {
		t.Errorf("the store that it was is made anew: %v, %v", names, err)
	}
	d.Stop(2)
	d.Start(0)
	d.Start(1)
	d.Await("the others serve again", func() bool { _, err := c.Status(ctx); return err == nil })
	d.Start(2)
	healthy(ctx, d, c)
	d.Await("its new store is a voter", func() bool { _, voter := c.Records(ctx, one.New); return voter })
	d.Stop(2)
	mark := filepath.Join(d.NodeDir(2), "sectors", "unused")
	if err := os.WriteFile(mark, nil, 0o600); err != nil { // as if the power had failed at its last step
		t.Fatal(err)
	}
	d.Start(2) // wiped, it would be refused
	healthy(ctx, d, c)
	if _, err := os.Stat(mark); !os.IsNotExist(err) {
		t.Errorf("the mark stays: %v", err)
	}
}

// TestReplacedHearsLate: nobody answers a node that was replaced when it asks which store it has, and the others do when it opens the one that it had.
func TestReplacedHearsLate(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 3)
	d.Transport = bttp.TCP
	d.StartAll()
	ctx := patience(t)
	c := d.Client()
	healthy(ctx, d, c)
	d.Create(c, "/vm/disk0", 8<<20, blocktree.Code{Data: 2, Parity: 1})
	d.Stop(2)
	if err := os.RemoveAll(d.NodeDir(2)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ReplaceNode(ctx, d.Members[2].Path, false); err != nil {
		t.Fatal(err)
	}
	late := &lateNetwork{}
	d.Networks = map[int]bttp.Network{2: late}
	d.Start(2)
	if late.refused.Load() == 0 {
		t.Error("it asked nobody before it opened a store")
	}
	healthy(ctx, d, c)
}

// lateNetwork lets nobody be dialled until somebody listens.
type lateNetwork struct {
	bttp.Machine
	listens atomic.Bool
	refused atomic.Int32
}

func (n *lateNetwork) Listen(ctx context.Context, addr string) (net.Listener, error) {
	n.listens.Store(true)
	return n.Machine.Listen(ctx, addr)
}

func (n *lateNetwork) Dial(ctx context.Context, addr string) (net.Conn, error) {
	if !n.listens.Load() {
		n.refused.Add(1)
		return nil, syscall.ECONNREFUSED
	}
	return n.Machine.Dial(ctx, addr)
}

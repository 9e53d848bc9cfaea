package fastrung

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/fs"
	"blocktree/internal/dispatch"
	"blocktree/internal/simnet"
)

// TestDispatch: D3 and D4 over three clusters, two of which have a filesystem service (0048). One world for all of it, as to make one takes most of the time.
func TestDispatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFoundWorld(t, "root+child")
		owner := w.Finder(nil, "owner", 1000, 1000)
		all := w.Everybody()
		w.losesAnswer(owner, all[len(all)-1])
		w.findsAnother(owner)
	})
}

// losesAnswer has a service make a directory and its answer lost. That is undeliverable at the time at which the runtime counts as dead, maybe done; and nobody else is asked to do it, though the service above could.
func (w *foundWorld) losesAnswer(c *fs.Client, at netip.Addr) {
	t, ctx, path := w.T, w.T.Context(), w.Path("/rack1/lab/once")
	if got := w.try(c, "/rack1/lab/f", false); got != "r /rack1" {
		t.Fatalf("before: %s", got)
	}
	admin, alice := w.Client(), uint32(1000)
	if _, err := admin.SetOwner(ctx, w.Path("/rack1/lab"), &alice, &alice); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Second) // aboveInterval, and what it takes
	service := w.child.NodeAddr(0)
	w.Net.Set(service, at, simnet.Link{Cut: true})
	begun := time.Now()
	err := c.Mkdir(ctx, path, 0o755)
	if dispatch.WhyOf(err) != dispatch.RuntimeGone || blocktree.KindOf(err) != blocktree.Unavailable {
		t.Errorf("the answer is lost: %v", err) // Exists, if the service above was asked, too
	}
	if d := time.Since(begun); d > deadAfter+2*heartbeat {
		t.Errorf("that took %v", d)
	}
	w.Net.Set(service, at, simnet.Link{})
	time.Sleep(5 * time.Second) // as long as the service may take
	if _, err := admin.Stat(ctx, path); err != nil {
		t.Errorf("it was not done: %v", err)
	}
	if got := w.try(c, "/rack1/lab/f", false); got != "r /rack1" {
		t.Errorf("afterwards: %s", got)
	}
}

// findsAnother kills the runtime of an open file, then has it come back as no service: what is open is gone, and by a route that is in the cache the service above is found.
func (w *foundWorld) findsAnother(c *fs.Client) {
	t, ctx := w.T, w.T.Context()
	f, err := c.Open(ctx, w.Path("/rack1/lab/f"), fs.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.child.Kill(0)
	begun := time.Now()
	_, err = f.ReadAt(ctx, make([]byte, 10), 0)
	if blocktree.KindOf(err) != blocktree.Undeliverable || dispatch.WhyOf(err) != dispatch.RuntimeGone {
		t.Errorf("the runtime of an open file was killed: %v", err)
	}
	if d := time.Since(begun); d > deadAfter+2*heartbeat {
		t.Errorf("that took %v", d)
	}
	short, cancel := context.WithTimeout(ctx, time.Second)
	_, err = c.Stat(short, w.Path("/rack1/lab/f"))
	cancel()
	if dispatch.WhyOf(err) == 0 {
		t.Errorf("a service that is down: %v", err)
	}
	records := w.child.Records()
	w.child.Filesystems = nil
	w.child.On(w.child.NodeAddr(0))
	w.child.StartAll()
	admin := w.Client()
	answers(w.Simulated, admin, "/rack1")
	if _, in, err := c.Nearest(ctx, w.Path("/rack1/lab")); err != nil || in[0].Path != records[0].Path {
		t.Fatalf("the route is gone before it is used: %v, %v", in, err)
	}
	r := w.child.Records()[0]
	if slices.Contains(r.Services, blocktree.ServiceFilesystem) {
		t.Fatal("it is a service still")
	}
	if err := admin.AddNode(ctx, r); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Second) // so much until the child has heard of its record
	if got := w.try(c, "/rack1/lab/f", true); got != "rw /" {
		t.Errorf("after the service has moved: %s", got)
	}
	_, err = f.ReadAt(ctx, make([]byte, 10), 0)
	if blocktree.KindOf(err) != blocktree.Undeliverable {
		t.Errorf("what was open: %v", err)
	}
}

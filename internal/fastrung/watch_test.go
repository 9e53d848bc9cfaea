package fastrung

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/fs"
	"blocktree/internal/bttp"
	"blocktree/internal/node"
	"blocktree/internal/testenv"
)

// watchWorld is an unlinkWorld whose directory is watched by alice.
type watchWorld struct {
	unlinkWorld
	watch *fs.Watch
	named int // events that said what happened, and not to look at all again
}

// TestWatchOverACluster: W1 and W2 of 0059, over three nodes that are filesystem services: what is made, flushed, given another name and removed by the service that is watched is told by name, or as "look at all again", as is what is done past it, and a watch whose service dies ends with an error, upon which another one tells all on.
func TestWatchOverACluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &watchWorld{unlinkWorld: unlinkWorld{Simulated: testenv.NewSimulated(t, 3, 1)}}
		w.Transport, w.Filesystems = bttp.TCP, map[int]*node.Filesystem{}
		for i := range 3 {
			w.Filesystems[i] = &node.Filesystem{Reader: w.Reader}
		}
		w.StartAll()
		w.admin, w.owner = w.Client(), w.Finder(nil, "alice", 1000, 1000)
		ctx, alice := t.Context(), uint32(1000)
		w.must(w.admin.MakeDir(ctx, w.Path("/files"), 0o755, false))
		_, err := w.admin.SetOwner(ctx, w.Path("/files"), &alice, &alice)
		w.must(err)
		w.begin()
		service := w.events()
		w.rest()
		w.must(w.admin.Remove(ctx, w.Path("/files/b"))) // by no service
		w.next("what another did", fs.Event{Overflow: true})
		w.Kill(slices.IndexFunc(w.Members, func(r blocktree.Runtime) bool { return r.Path == service }))
		w.ends()
		w.begin()
		if now := w.events(); now == service {
			t.Errorf("%s was killed", now.Short())
		}
		w.must(w.watch.Close())
	})
}

// begin watches, by a service that is there.
func (w *watchWorld) begin() {
	w.T.Helper()
	w.Await("the directory to be watched", func() (ok bool) {
		var err error
		w.watch, err = w.owner.Watch(w.T.Context(), w.Path("/files"))
		return err == nil
	})
}

// events changes the directory in each way, and returns the service that it was done by.
func (w *watchWorld) events() blocktree.Path {
	w.T.Helper()
	ctx := w.T.Context()
	f := w.open(w.owner, "a")
	w.next("a creation", fs.Event{Name: "a", Kind: fs.EventMade})
	w.must(f.Flush(ctx))
	w.next("a flush", fs.Event{Name: "a", Kind: fs.EventChanged})
	w.must(f.Close())
	w.must(w.owner.Rename(ctx, w.Path("/files/a"), w.Path("/files/b"), false))
	w.next("a rename, the old name", fs.Event{Name: "a", Kind: fs.EventGone})
	w.next("a rename, the new name", fs.Event{Name: "b", Kind: fs.EventMade})
	w.must(w.owner.Remove(ctx, w.Path("/files/b")))
	w.next("a removal", fs.Event{Name: "b", Kind: fs.EventGone})
	w.must(w.open(w.owner, "b").Close())
	w.next("another creation", fs.Event{Name: "b", Kind: fs.EventMade})
	if w.named < 3 { // of seven: a judgement comes once in FSJudgeEvery
		w.T.Errorf("%d events said what happened", w.named)
	}
	w.named = 0
	return fs.ServiceOf(f)
}

// rest waits until nothing more is told.
func (w *watchWorld) rest() {
	time.Sleep(3 * blocktree.FSJudgeEvery)
	for err := error(nil); err == nil; {
		ctx, cancel := context.WithTimeout(w.T.Context(), time.Second)
		_, err = w.watch.Next(ctx)
		cancel()
	}
}

// next waits for an event, in the place of which there may be one that says to look at all again, as nobody says by whom names change that the cluster has changed. That a file changed once more, as it was closed, may come before.
func (w *watchWorld) next(what string, want fs.Event) {
	w.T.Helper()
	ctx, cancel := context.WithTimeout(w.T.Context(), time.Minute)
	defer cancel()
	for {
		e, err := w.watch.Next(ctx)
		switch {
		case err != nil:
			w.T.Fatalf("%s: %v", what, err)
		case e == want:
			w.named++
			return
		case e.Overflow:
			return
		case e.Kind != fs.EventChanged:
			w.T.Fatalf("%s: %+v, not %+v", what, e, want)
		}
	}
}

// ends demands that a watch whose service is gone says so.
func (w *watchWorld) ends() {
	w.T.Helper()
	ctx, cancel := context.WithTimeout(w.T.Context(), time.Minute)
	defer cancel()
	for {
		_, err := w.watch.Next(ctx)
		switch blocktree.KindOf(err) {
		case blocktree.Undeliverable:
			return
		case blocktree.Unavailable: // ask again
		case blocktree.Other:
			if err == nil { // told before it was killed
				continue
			}
			fallthrough
		default:
			w.T.Fatalf("a watch whose service was killed: %v", err)
		}
	}
}

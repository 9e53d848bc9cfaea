package fs

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
)

// watched begins to watch a directory for an owner, as a request does.
func watched(t *testing.T, s *Service, o *owner, path blocktree.Path) *actor {
	t.Helper()
	b, err := s.openWatch(t.Context(), o, &pathRequest{path: path})
	if err != nil {
		t.Fatal(err)
	}
	handle, _, err := decodeOpened(b)
	if err != nil {
		t.Fatal(err)
	}
	return o.find(handle)
}

type heard struct {
	last   uint64
	events []Event
	err    error
}

// after asks a watch what came after an event, and returns what it says, once it does.
func (a *actor) after(last uint64) chan heard {
	done := make(chan heard, 1)
	m := &message{code: codeWatched, off: last, done: func(b []byte, err error) {
		h := heard{err: err}
		if err == nil {
			h.last, h.events, h.err = decodeEvents(b)
		}
		done <- h
	}}
	if err := a.box.put(m); err != nil {
		done <- heard{err: err}
	}
	return done
}

// inDir runs a test in a bubble with a service, a directory that ann may list, and one that nobody may.
func inDir(t *testing.T, do func(t *testing.T, c *fake, s *Service, o *owner, dir blocktree.Path)) {
	synctest.Test(t, func(t *testing.T) {
		c, ann := newFake(), somebody("ann")
		dir := testRoot.Join("dir")
		c.dir(dir, ann)
		c.set(dir, func(n *fakeNode) { n.inode.Changed = 1 })
		s := newTestService(t, c, nil)
		do(t, c, s, ownerFor(s, ann), dir)
	})
}

// change has something done by way of the service.
func (s *Service) change(t *testing.T, o *owner, code uint16, r *pathRequest) {
	t.Helper()
	if _, err := s.doPath(t.Context(), o, code, r); err != nil {
		t.Fatalf("%s: %v", nameOf(code), err)
	}
}

// TestWatch: W1 of 0059. What is done by a service in a directory is told at once, in order, once; what is done elsewhere, or fails, is not.
func TestWatch(t *testing.T) {
	inDir(t, func(t *testing.T, c *fake, s *Service, o *owner, dir blocktree.Path) {
		w := watched(t, s, o, dir)
		waits := w.after(0)
		synctest.Wait()
		s.change(t, o, codeCreate, &pathRequest{path: testRoot.Join("elsewhere"), sizeBytes: fakeMakes})
		_, _ = s.doPath(t.Context(), o, codeCreate, &pathRequest{path: dir.Join("failed")})
		synctest.Wait()
		if len(waits) != 0 {
			t.Fatalf("told %+v", <-waits)
		}
		s.change(t, o, codeCreate, &pathRequest{path: dir.Join("made"), sizeBytes: fakeMakes})
		h := <-waits
		if want := []Event{{Name: "made", Kind: EventMade}}; h.err != nil || !slices.Equal(h.events, want) {
			t.Fatalf("%+v, want %+v", h, want)
		}
		path := c.file("dir/f", Read|Write|Lease, o.caller())
		c.file("g", Read|Write|Lease|Admin, o.caller())
		s.change(t, o, codeLength, &pathRequest{path: path, sizeBytes: 100})
		f := open(t, s, o, path, flagWrite)
		if _, err := f.ask(message{code: codeFlush}); err != nil {
			t.Fatal(err)
		}
		s.change(t, o, codeRename, &pathRequest{path: path, to: testRoot.Join("h")})
		s.change(t, o, codeRename, &pathRequest{path: testRoot.Join("g"), to: dir.Join("k")})
		s.change(t, o, codeSetTimes, &pathRequest{path: dir.Join("k"), attr: attrRequest{path: dir.Join("k"), time: 5}})
		want := []Event{{Name: "f", Kind: EventChanged}, {Name: "f", Kind: EventGone}, {Name: "k", Kind: EventMade}, {Name: "k", Kind: EventChanged}}
		s.change(t, o, codeSetTimes, &pathRequest{path: dir.Join("k"), attr: attrRequest{path: dir.Join("k"), time: 6}}) // nobody has heard of the one before
		for range 2 {                                                                                                    // nobody said that the answer came
			again := <-w.after(h.last)
			if again.err != nil || !slices.Equal(again.events, want) {
				t.Fatalf("%+v, want %+v", again, want)
			}
		}
		s.change(t, o, codeSetTimes, &pathRequest{path: dir.Join("k"), attr: attrRequest{path: dir.Join("k"), time: 7}}) // somebody may have heard of the one before
		if once := <-w.after(5); once.err != nil || once.last != 6 || len(once.events) != 1 {
			t.Errorf("changed once more: %+v", once)
		}
		if bad := <-w.after(99); blocktree.KindOf(bad.err) != blocktree.Invalid {
			t.Errorf("an event that never was: %+v", bad)
		}
		begun := time.Now()
		if quiet := <-w.after(6); quiet.err != nil || len(quiet.events) != 0 || time.Since(begun) != blocktree.FSWatchWaitMax {
			t.Errorf("nothing happened: %+v after %v", quiet, time.Since(begun))
		}
	})
}

// TestWatchOverflows: W2 of 0059. Who does not ask is told to look at all again, and costs no more than the bound; so is who watches what others change, or of which nobody notes when it changes.
func TestWatchOverflows(t *testing.T) {
	inDir(t, func(t *testing.T, c *fake, s *Service, o *owner, dir blocktree.Path) {
		w := watched(t, s, o, dir)
		create := func(n int) {
			for i := range n {
				s.change(t, o, codeCreate, &pathRequest{path: dir.Join(fmt.Sprint(i)), sizeBytes: fakeMakes})
			}
		}
		overflow := []Event{{Overflow: true}}
		ask := func(what string, last uint64, want int, events []Event) uint64 {
			t.Helper()
			h := <-w.after(last)
			if h.err != nil || len(h.events) != want || events != nil && !slices.Equal(h.events, events) {
				t.Fatalf("%s: %d events %+v, %v", what, len(h.events), h.events, h.err)
			}
			return h.last
		}
		create(blocktree.FSWatchEventsMax)
		last := ask("as many as wait", 0, blocktree.FSWatchEventsMax, nil)
		create(blocktree.FSWatchEventsMax + 1)
		last = ask("one more", last, 1, overflow)
		create(3)
		last = ask("after that", last, 3, nil)

		c.set(dir, func(n *fakeNode) { n.inode.Changed = 2 })
		last = ask("others", last, 1, overflow)
		last = ask("nothing", last, 0, nil)
		c.set(dir, func(n *fakeNode) { n.inode.Changed = 0 })
		for range 3 {
			last = ask("nobody notes it", last, 1, overflow)
		}
	})
}

// TestWatchIsJudged: W3 of 0059. Nobody is told of an event who may not list the directory when it happens; the watch ends then, as it does when the directory is another, its owner has ended, or nobody asks.
func TestWatchIsJudged(t *testing.T) {
	for name, x := range map[string]struct {
		ends func(t *testing.T, c *fake, s *Service, o *owner, dir blocktree.Path)
		want blocktree.Kind
	}{
		"revoked": {func(t *testing.T, c *fake, s *Service, o *owner, dir blocktree.Path) {
			c.revoke(dir, o.caller(), true)
			s.change(t, o, codeCreate, &pathRequest{path: dir.Join("secret"), sizeBytes: fakeMakes})
		}, blocktree.Permission},
		"revoked, in silence": {func(t *testing.T, c *fake, s *Service, o *owner, dir blocktree.Path) {
			c.revoke(dir, o.caller(), false)
			time.Sleep(blocktree.FSJudgeEvery)
			synctest.Wait()
			s.change(t, o, codeCreate, &pathRequest{path: dir.Join("secret"), sizeBytes: fakeMakes})
		}, blocktree.Permission},
		"moved": {func(t *testing.T, c *fake, s *Service, o *owner, dir blocktree.Path) {
			s.change(t, o, codeRename, &pathRequest{path: dir, to: testRoot.Join("other")})
		}, blocktree.NotFound},
		"another": {func(t *testing.T, c *fake, s *Service, o *owner, dir blocktree.Path) {
			c.dir(dir, o.caller())
		}, blocktree.NotFound},
		"disconnected": {func(_ *testing.T, _ *fake, _ *Service, o *owner, _ blocktree.Path) { o.end() }, blocktree.Undeliverable},
		"stopped":      {func(_ *testing.T, _ *fake, s *Service, _ *owner, _ blocktree.Path) { _ = s.Close() }, blocktree.Undeliverable},
	} {
		inDir(t, func(t *testing.T, c *fake, s *Service, o *owner, dir blocktree.Path) {
			w := watched(t, s, o, dir)
			waits := w.after(0)
			synctest.Wait()
			x.ends(t, c, s, o, dir)
			h := <-waits
			if blocktree.KindOf(h.err) != x.want || len(h.events) != 0 {
				t.Errorf("%s: %+v", name, h)
			}
			synctest.Wait()
			if h := <-w.after(0); blocktree.KindOf(h.err) != blocktree.Undeliverable {
				t.Errorf("%s: after its end %+v", name, h)
			}
			if s.OpenFiles() != 0 || len(s.watches.all) != 0 || len(o.watches) != 0 || o.find(w.handle) != nil {
				t.Errorf("%s: something is left", name)
			}
		})
	}
	inDir(t, func(t *testing.T, c *fake, s *Service, o *owner, dir blocktree.Path) { // the cluster does not answer: that is no yes
		w := watched(t, s, o, dir)
		down := func(err error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.down = err
		}
		down(blocktree.E("fake", blocktree.Unavailable, nil))
		c.number.Add(1)
		s.watches.tell(dir.Join("x"), EventMade)
		for range 2 {
			if h := <-w.after(0); blocktree.KindOf(h.err) != blocktree.Unavailable {
				t.Errorf("%+v", h)
			}
		}
		down(nil)
		if h := <-w.after(0); h.err != nil || len(h.events) != 1 || h.events[0].Name != "x" {
			t.Errorf("%+v", h)
		}
		time.Sleep(blocktree.FSIdleMax)
		synctest.Wait()
		if s.OpenFiles() != 0 {
			t.Error("nobody asks, and it is there")
		}
	})
}

// TestWatchesAreBounded: W4 of 0059. Of one connection, and in all; a file is not watched, nor a directory that may not be listed, and neither takes a place.
func TestWatchesAreBounded(t *testing.T) {
	inDir(t, func(t *testing.T, c *fake, s *Service, o *owner, dir blocktree.Path) {
		for _, path := range []blocktree.Path{c.file("f", Read|List, o.caller()), testRoot.Join("absent")} {
			for range 2 * blocktree.FSWatchesMax {
				if _, err := s.openWatch(t.Context(), o, &pathRequest{path: path}); blocktree.KindOf(err) != blocktree.Invalid && blocktree.KindOf(err) != blocktree.NotFound {
					t.Fatal(err)
				}
			}
		}
		all := 0
		for range blocktree.FSWatchesMax / blocktree.FSWatchesPerConnectionMax {
			o := ownerFor(s, o.caller())
			for range blocktree.FSWatchesPerConnectionMax {
				watched(t, s, o, dir)
				all++
			}
			_, err := s.openWatch(t.Context(), o, &pathRequest{path: dir})
			wantKind(t, "one more of a connection", err, blocktree.TooLarge)
		}
		last := ownerFor(s, o.caller())
		_, err := s.openWatch(t.Context(), last, &pathRequest{path: dir})
		wantKind(t, "one more in all", err, blocktree.Unavailable)
		if s.OpenFiles() != all || len(last.watches) != 0 {
			t.Errorf("%d are open of %d", s.OpenFiles(), all)
		}
	})
}

// TestWatchFromAfar: by way of the wire, events come once each, in order, whoever gives up waiting; the handle is that of a watch alone.
func TestWatchFromAfar(t *testing.T) {
	b := newBed(t, nil)
	ann, who := b.dial("ann")
	dir := testRoot.Join("dir")
	b.fake.dir(dir, who)
	b.fake.set(dir, func(n *fakeNode) { n.inode.Changed = 1 })
	w, err := ann.Watch(t.Context(), dir)
	b.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error, 1)
	go func() {
		_, err := w.Next(ctx)
		given <- err
	}()
	cancel()
	wantKind(t, "given up", <-given, blocktree.Canceled)
	for i := range 3 {
		_, err := ann.Make(t.Context(), dir.Join(fmt.Sprint(i)), CreateOptions{SizeBytes: fakeMakes})
		b.must(err)
	}
	for i := range 3 {
		if e, err := w.Next(t.Context()); err != nil || e != (Event{Name: fmt.Sprint(i), Kind: EventMade}) {
			t.Errorf("%+v, %v", e, err)
		}
	}
	_, err = w.at.ReadAt(t.Context(), make([]byte, 1), 0)
	wantKind(t, "a read of a watch", err, blocktree.Invalid)
	b.must(w.Close())
	_, err = w.Next(t.Context())
	wantKind(t, "after its end", err, blocktree.Undeliverable)
	bob, _ := b.dial("bob")
	_, err = bob.Watch(t.Context(), dir)
	wantKind(t, "without the right", err, blocktree.Permission)
	_, err = mustConn(t, bob).CallWait(t.Context(), codeWatched, fileRequest{handle: 1}.encode())
	wantKind(t, "no such watch", err, blocktree.Undeliverable)
}

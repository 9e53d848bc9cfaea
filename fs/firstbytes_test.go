package fs

import (
	"context"
	"testing"
	"testing/synctest"

	"blocktree"
)

// TestWrittenAndFinished: B5 of 0080. What was written first comes with the finish, or it is said why not, and then the file is open yet; nothing is written over what somebody else has written meanwhile.
func TestWrittenAndFinished(t *testing.T) {
	for what, x := range map[string]struct {
		before func(t *testing.T, c *fake, s *Service, path blocktree.Path)
		want   blocktree.Kind
		wrote  string
	}{
		"alone": {func(*testing.T, *fake, *Service, blocktree.Path) {}, blocktree.Other, "first"},
		"somebody came": {func(t *testing.T, _ *fake, s *Service, path blocktree.Path) {
			bob, _ := under(t, s, ownerFor(s, somebody("bob")), path, flagTell)
			for _, m := range []message{{code: codeWrite, data: []byte("bob's")}, {code: codeFinish}} {
				_, err := bob.ask(m)
				wantKind(t, "bob", err, blocktree.Other)
			}
		}, blocktree.Fenced, "bob's"},
		"it was removed": {func(t *testing.T, _ *fake, s *Service, path blocktree.Path) {
			s.sharing.mu.Lock()
			defer s.sharing.mu.Unlock()
			for _, x := range s.sharing.files {
				x.nameless.Store(true)
			}
		}, blocktree.Unsupported, ""},
		"there is no room": {func(*testing.T, *fake, *Service, blocktree.Path) {}, blocktree.NoSpace, ""},
		"it cannot be flushed": {func(_ *testing.T, c *fake, _ *Service, path blocktree.Path) {
			c.flushHook(path, func(context.Context) error { return blocktree.E("fake", blocktree.IO, nil) })
		}, blocktree.IO, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := newFake()
			path := c.moving("f", somebody("ann"), somebody("bob"))
			c.set(path, func(n *fakeNode) { n.epochs = true })
			s := newTestService(t, c, nil)
			ann, _ := under(t, s, ownerFor(s, somebody("ann")), path, flagTell)
			x.before(t, c, s, path)
			data := []byte("first")
			if x.want == blocktree.NoSpace {
				data = make([]byte, 1<<20)
			}
			_, err := ann.ask(message{code: codeWriteFinish, data: data})
			wantKind(t, what, err, x.want)
			_, err = ann.ask(message{code: codeFileStat})
			if gone := blocktree.KindOf(err) == blocktree.Undeliverable; gone != (x.want == blocktree.Other || x.want == blocktree.IO) {
				t.Errorf("%s: it is gone: %v, %v", what, gone, err)
			}
			_, _ = ann.ask(message{code: codeClose})
			synctest.Wait()
			bob, _ := under(t, s, ownerFor(s, somebody("bob")), path, 0)
			if got, err := bob.ask(message{code: codeRead, count: 5}); string(got) != x.wrote && x.want != blocktree.IO || err != nil {
				t.Errorf("%s: it is %q, %v", what, got, err)
			}
		})
	}
}

// TestWrittenAndFinishedFromAfar: B5, by a client.
func TestWrittenAndFinishedFromAfar(t *testing.T) {
	b := newBed(t, nil)
	ann, she := b.dial("ann")
	path := b.fake.moving("f", she)
	b.fake.set(path, func(n *fakeNode) { n.epochs = true })
	f, err := ann.Open(t.Context(), path, OpenOptions{Write: true, Tell: true})
	b.must(err)
	b.must(f.(WriteFinisher).WriteFinish(t.Context(), []byte("first"), 0))
	wantKind(t, "a flush after that", f.Flush(t.Context()), blocktree.Undeliverable)
	if found, err := b.fake.Look(t.Context(), she, path); err != nil || found.Inode.Length() != 5 {
		t.Errorf("%v, it ends at %d", err, found.Inode.Length())
	}
}

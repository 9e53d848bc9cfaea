package fs

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"blocktree"
	"blocktree/blockdev/memfile"
)

// shrinker is who follows a file, and its size.
func (c *fake) shrinker(path blocktree.Path) (shrink func(context.Context, uint64) error, size uint64) {
	c.set(path, func(n *fakeNode) { shrink, size = n.shrink, n.inode.SizeBytes })
	return shrink, size
}

// TestMadeIsMadeSmaller: a file that was made, and opened, at once is made smaller as any, until it is closed.
func TestMadeIsMadeSmaller(t *testing.T) {
	c := newFake()
	path := c.moving("f", somebody("ann"))
	f, err := c.Open(t.Context(), nobody, path, OpenOptions{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	b := newMade(f, nil)
	err = b.do(t.Context(), func() error { return b.write(t.Context(), make([]byte, 2000), 0) })
	wantKind(t, "a write", err, blocktree.Other)
	shrink, _ := c.shrinker(path)
	if shrink == nil {
		t.Fatal("nobody makes it smaller")
	}
	wantKind(t, "smaller", shrink(t.Context(), 512), blocktree.Other)
	if _, size := c.shrinker(path); size != 512 || b.end() != 512 {
		t.Errorf("%d bytes, which end at %d", size, b.end())
	}
	wantKind(t, "a close", b.close(t.Context(), errClosed), blocktree.Other)
	if shrink, _ := c.shrinker(path); shrink != nil {
		t.Error("somebody follows a file that is closed")
	}
}

// TestShrunkIsNotAlone: R4 of 0075. Where somebody else has a file made smaller that one writes who was told that it is alone, that is done under a later epoch: what that one has is not written again behind the end. It goes on.
func TestShrunkIsNotAlone(t *testing.T) {
	ann, bob := somebody("ann"), somebody("bob")
	for name, smaller := range map[string]func(*testing.T, *fake, *Service, blocktree.Path) error{
		"asked for": func(t *testing.T, c *fake, _ *Service, path blocktree.Path) error {
			to := testRoot.Join("renamed")
			wantKind(t, "a rename", c.Rename(t.Context(), ann, path, to, false), blocktree.Other)
			defer c.Rename(t.Context(), ann, to, path, false)
			shrink, _ := c.shrinker(to)
			if err := shrink(t.Context(), 512); !errors.Is(err, errSucceeded) {
				t.Errorf("under the epoch that was told: %v", err)
			}
			shrink, size := c.shrinker(to)
			if size != 1024 {
				t.Errorf("it was cut to %d bytes", size)
			}
			return shrink(t.Context(), 512)
		},
		"by path": func(t *testing.T, _ *fake, s *Service, path blocktree.Path) error {
			return s.resize(t.Context(), bob, &pathRequest{path: path, sizeBytes: 512})
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := newFake()
			path := c.moving("f", ann, bob)
			c.set(path, func(n *fakeNode) { n.epochs, n.inode.SizeBytes = true, 1024 })
			s := newTestService(t, c, nil)
			a, u := under(t, s, ownerFor(s, ann), path, flagTell)
			if u.held != 1 {
				t.Errorf("%s: told %v", name, u)
			}
			_, err := a.ask(message{code: codeWrite, data: make([]byte, 1000)})
			wantKind(t, name+", a write", err, blocktree.Other)
			wantKind(t, name+", smaller", smaller(t, c, s, path), blocktree.Other)
			c.set(path, func(n *fakeNode) {
				if n.inode.SizeBytes != 512 || n.epoch != 2 || n.wrote != 2 {
					t.Errorf("%s: %d bytes, cut under epoch %d, of which it is %d", name, n.inode.SizeBytes, n.wrote, n.epoch)
				}
			})
			_, err = a.ask(message{code: codeAppend, data: []byte("on")})
			wantKind(t, name+", an append", err, blocktree.Other)
			_, err = a.ask(message{code: codeFinish})
			wantKind(t, name+", a close", err, blocktree.Other)
			if found, _ := c.Look(t.Context(), ann, path); found.Inode.Length() != 514 || c.opened.Load() != 0 {
				t.Errorf("%s: it ends at %d, %d are open", name, found.Inode.Length(), c.opened.Load())
			}
		})
	}
}

// TestShrinkOutlivesItsAsker: who asks by path that a file be made smaller, and waits no more, leaves no file of which nobody knows where it ends: that goes on, until it is done or the file is closed.
func TestShrinkOutlivesItsAsker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, path, ann, bob := sharers(t)
		gate := make(chan struct{})
		c.set(path, func(n *fakeNode) {
			n.inode.SizeBytes = 1024
			n.hook = func(ctx context.Context, call memfile.Call) error {
				if call.Op != memfile.Zero {
					return nil
				}
				select {
				case <-gate:
					return nil
				case <-ctx.Done():
					return blocktree.E("fake", blocktree.Canceled, ctx.Err())
				}
			}
		})
		resize := func(what string) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), pathTimeout)
			defer cancel()
			wantKind(t, what, s.resize(ctx, bob.owner.caller(), &pathRequest{path: path, sizeBytes: 512}), blocktree.Unavailable)
		}
		resize("for long")
		close(gate)
		synctest.Wait()
		if _, size := c.shrinker(path); size != 512 {
			t.Errorf("%d bytes", size)
		}
		_, err := ann.ask(message{code: codeWrite, off: 600, data: []byte("on")})
		wantKind(t, "a write behind", err, blocktree.Other)
		gate = make(chan struct{})
		resize("for ever")
		for _, a := range []*openFile{ann, bob} {
			_, err := a.ask(message{code: codeClose})
			wantKind(t, "a close", err, blocktree.Other)
		}
	})
}

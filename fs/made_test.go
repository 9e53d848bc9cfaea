package fs

import (
	"context"
	"testing"
	"testing/synctest"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/crypto/cred"
)

// heldFake is a fake that makes files and opens them at once.
type heldFake struct {
	*fake
	between func(path blocktree.Path) // what happens when it is made, before the service knows
	unheld  bool                      // it makes files, and gives no lease
	spoils  error                     // what comes of opening them
	removed []blocktree.FileID
}

func (c *heldFake) CreateHeld(ctx context.Context, caller cred.Identity, path blocktree.Path, o CreateOptions) (blocktree.File, *meta.Inode, error) {
	c.moving(path.Base(), caller)
	c.set(path, func(n *fakeNode) { n.inode.SizeBytes = o.SizeBytes })
	found, err := c.Look(ctx, caller, path)
	if err != nil || c.unheld {
		return nil, found.Inode, err
	}
	if c.spoils != nil {
		return nil, found.Inode, c.spoils
	}
	f, err := c.Open(ctx, caller, path, OpenOptions{Write: true})
	if c.between != nil {
		c.between(path)
	}
	return f, found.Inode, err
}

func (c *heldFake) RemoveFile(_ context.Context, _ cred.Identity, _ blocktree.Path, id blocktree.FileID) error {
	c.removed = append(c.removed, id)
	return nil
}

// closing is the file of a cluster that closes and moves the end at once.
type closing struct {
	*endingFile
	fails error
}

func (f *closing) CloseEnd(ctx context.Context, was, bytes uint64) error {
	err := f.fails
	if err == nil {
		_, err = f.SetEnd(ctx, was, bytes)
	}
	_ = f.Close() // it cannot fail
	return err
}

func newHeld(t *testing.T) (*heldFake, *Service) {
	c := &heldFake{fake: newFake()}
	return c, newTestService(t, c.fake, func(o *Config) { o.Cluster = c })
}

// make makes a file for an owner, as a request does.
func makes(t *testing.T, s *Service, o *owner, path blocktree.Path) *openFile {
	t.Helper()
	b, err := s.doPath(t.Context(), o, codeMakeOpen, &pathRequest{path: path, sizeBytes: 4096})
	if err != nil {
		t.Fatal(err)
	}
	handle, info, err := decodeOpened(b)
	if err != nil || info.Length != 0 {
		t.Fatalf("%+v, %v", info, err)
	}
	return o.find(handle).open
}

// TestMadeAndFinished: H4 of 0067. What is made is open for who made it, and when that is finished it is flushed, others see its end, and may write it; whether the lease comes with it or not.
func TestMadeAndFinished(t *testing.T) {
	for _, unheld := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c, s := newHeld(t)
			c.unheld = unheld
			path := testRoot.Join("f")
			a := makes(t, s, ownerFor(s, somebody("ann")), path)
			flushes := 0
			c.flushHook(path, func(context.Context) error { flushes++; return nil })
			for _, m := range []message{{code: codeWrite, data: []byte("hello")}, {code: codeFinish}} {
				_, err := a.ask(m)
				wantKind(t, nameOf(m.code), err, blocktree.Other)
			}
			synctest.Wait()
			if found, _ := c.Look(t.Context(), somebody("ann"), path); found.Inode.Length() != 5 || flushes == 0 || c.nodes[path].held || s.OpenFiles() != 0 || len(s.sharing.files) != 0 {
				t.Errorf("%d bytes, %d flushes, held %v, %d open", found.Inode.Length(), flushes, c.nodes[path].held, s.OpenFiles())
			}
			_, err := a.ask(message{code: codeFlush})
			wantKind(t, "a flush after that", err, blocktree.Undeliverable)
		})
	}
}

// TestFinishBesideOthers: H4. Where others have the file open yet it is flushed all the same, and told when that fails.
func TestFinishBesideOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, want := range []blocktree.Kind{blocktree.Other, blocktree.IO} {
			c, _, path, ann, bob := sharers(t)
			_, err := ann.ask(message{code: codeAppend, data: []byte("ann's")})
			wantKind(t, "an append", err, blocktree.Other)
			flushes := 0
			c.flushHook(path, func(context.Context) error {
				if flushes++; want != blocktree.Other {
					return blocktree.E("fake", want, nil)
				}
				return nil
			})
			_, err = ann.ask(message{code: codeFinish})
			wantKind(t, "the first", err, want)
			if flushes == 0 || !c.nodes[path].held {
				t.Errorf("%d flushes, held %v", flushes, c.nodes[path].held)
			}
			_, err = bob.ask(message{code: codeFinish})
			wantKind(t, "the last", err, want)
		}
	})
}

// TestMadeTwice: who opens a file in the moment in which it was made shares it with who made it.
func TestMadeTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newHeld(t)
		path := testRoot.Join("f")
		var other *openFile
		c.between = func(path blocktree.Path) { // as of a lease that is taken over within the session
			c.set(path, func(n *fakeNode) { n.held = false })
			other = open(t, s, ownerFor(s, somebody("ann")), path, flagWrite)
		}
		a := makes(t, s, ownerFor(s, somebody("ann")), path)
		if other == nil || a.body != other.body || a.made != nil {
			t.Error("they write different files")
		}
	})
}

// TestMadeInVain: what cannot be opened does not stay.
func TestMadeInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newHeld(t)
		o := ownerFor(s, somebody("ann"))
		o.filesMax = 0
		_, err := s.doPath(t.Context(), o, codeMakeOpen, &pathRequest{path: testRoot.Join("f"), sizeBytes: 4096})
		wantKind(t, "too many open files", err, blocktree.TooLarge)
		if len(c.removed) != 1 || c.nodes[testRoot.Join("f")].held || s.OpenFiles() != 0 {
			t.Errorf("%d removed, %d open", len(c.removed), s.OpenFiles())
		}
		for _, kind := range []blocktree.Kind{blocktree.IO, blocktree.Unsupported} {
			c.spoils = blocktree.E("fake", kind, nil) // as when its pin cannot be stored
			_, err = s.doPath(t.Context(), ownerFor(s, somebody("ann")), codeMakeOpen, &pathRequest{path: testRoot.Join("g"), sizeBytes: 4096})
			wantKind(t, "a failed open", err, kind)
			if id := c.nodes[testRoot.Join("g")].inode.ID; c.removed[len(c.removed)-1] != id || s.OpenFiles() != 0 {
				t.Errorf("%v are removed, not %v", c.removed, id)
			}
		}
	})
}

// TestCloseThatTellsTheEnd: E7 of 0059 where both are done at once: an error is told, and nobody hears of another end.
func TestCloseThatTellsTheEnd(t *testing.T) {
	for _, fails := range []error{nil, blocktree.E("fake", blocktree.Fenced, nil)} {
		c := newFake()
		path := c.moving("f", somebody("ann"))
		f, err := c.Open(t.Context(), somebody("ann"), path, OpenOptions{Write: true})
		if err != nil {
			t.Fatal(err)
		}
		b := newMade(&closing{f.(*endingFile), fails}, nil)
		if err := b.do(t.Context(), func() error { return b.write(t.Context(), []byte("12345"), 0) }); err != nil {
			t.Fatal(err)
		}
		wantKind(t, "close", b.close(t.Context(), errAnew), blocktree.KindOf(fails))
		if found, _ := c.Look(t.Context(), somebody("ann"), path); found.Inode.Length() != map[bool]uint64{true: 5}[fails == nil] {
			t.Errorf("%v: it ends at %d", fails, found.Inode.Length())
		}
	}
}

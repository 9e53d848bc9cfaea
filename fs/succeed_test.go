package fs

import (
	"context"
	"testing"
	"testing/synctest"

	"blocktree"
	"blocktree/blockdev/memfile"
)

// heldFile is one that is held under an epoch, and can do nothing under a later one.
type heldFile struct {
	*endingFile
	epoch, written blocktree.Epoch
}

func (f *heldFile) Epochs() (held, written blocktree.Epoch) { return f.epoch, f.written }

// fenced is after it was done.
func (f *heldFile) fenced(err error, writes bool) error {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if f.n.epoch != f.epoch {
		return blocktree.E("fake", blocktree.Fenced, nil)
	}
	if writes {
		f.n.wrote = f.epoch
	}
	return err
}

func (f *heldFile) ReadSectors(ctx context.Context, first blocktree.SectorIndex, dst []byte) error {
	return f.fenced(f.endingFile.ReadSectors(ctx, first, dst), false)
}

func (f *heldFile) WriteSectors(ctx context.Context, first blocktree.SectorIndex, src []byte) error {
	if err := f.fenced(nil, true); err != nil {
		return err
	}
	return f.endingFile.WriteSectors(ctx, first, src)
}

func (f *heldFile) Shrink(ctx context.Context, bytes uint64) error {
	if err := f.fenced(nil, true); err != nil {
		return err
	}
	return f.endingFile.Shrink(ctx, bytes)
}

func (f *heldFile) Flush(ctx context.Context) error {
	return f.fenced(f.endingFile.Flush(ctx), false)
}

func (f *heldFile) Close() error {
	if f.fenced(nil, false) != nil { // its lease is another's
		f.c.opened.Add(-1)
		return nil
	}
	return f.endingFile.Close()
}

// under opens a file, and returns what was told of epochs.
func under(t *testing.T, s *Service, o *owner, path blocktree.Path, flags uint8) (*openFile, epochs) {
	t.Helper()
	b, err := s.openFile(t.Context(), o, &pathRequest{path: path, flags: flags | flagWrite})
	if err != nil {
		t.Fatal(err)
	}
	handle, _, u, err := decodeUnder(b)
	if err != nil {
		t.Fatal(err)
	}
	return o.find(handle).open, u
}

// TestToldAlone: R2 of 0075. Who is told under which epoch it writes is alone under it: who comes to write the file beside it does under a later one, and takes nothing from it.
func TestToldAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		path := c.moving("f", somebody("ann"), somebody("bob"))
		c.set(path, func(n *fakeNode) { n.epochs = true })
		s := newTestService(t, c, nil)
		does := func(what string, a *openFile, m message) string {
			t.Helper()
			b, err := a.ask(m)
			wantKind(t, what, err, blocktree.Other)
			return string(b)
		}
		ann, u := under(t, s, ownerFor(s, somebody("ann")), path, flagTell)
		if u != (epochs{held: 1}) {
			t.Errorf("the first one is told %v", u)
		}
		does("ann writes", ann, message{code: codeWrite, data: []byte("ann's")})
		lock := lockRequest{op: lockTake, bytes: 1, exclusive: true}
		wantKind(t, "ann locks", <-ann.asks(lock), blocktree.Other)
		if _, err := s.openFile(t.Context(), ownerFor(s, somebody("ann")), &pathRequest{path: path, flags: flagWrite | flagTell | flagAnew}); blocktree.KindOf(err) != blocktree.Busy {
			t.Errorf("beside her own: %v", err)
		}

		gate := make(chan struct{}) // a read that is on its way
		c.set(path, func(n *fakeNode) {
			n.hook = func(_ context.Context, call memfile.Call) error {
				if call.Op == memfile.Read {
					<-gate
				}
				return nil
			}
		})
		read := make(chan string, 1)
		go func() { read <- does("ann's read on its way", ann, message{code: codeRead, count: 5}) }()
		synctest.Wait()
		bob, u := under(t, s, ownerFor(s, somebody("bob")), path, flagTell)
		close(gate)
		if got := <-read; got != "ann's" {
			t.Errorf("ann reads %q", got)
		}
		if u != (epochs{}) {
			t.Errorf("who comes second is told %v", u)
		}
		c.set(path, func(n *fakeNode) {
			if n.epoch != 2 || n.inode.Length() != 5 {
				t.Errorf("it is held under %d, and ends at %d: it was not flushed before", n.epoch, n.inode.Length())
			}
		})
		wantKind(t, "bob locks what ann has", <-bob.asks(lock), blocktree.Busy)
		does("bob writes", bob, message{code: codeWrite, data: []byte("bob")})
		does("ann adds", ann, message{code: codeAppend, data: []byte(", more")})
		if got := does("bob reads", bob, message{code: codeRead, count: 20}); got != "bob's, more" {
			t.Errorf("they have %q", got)
		}
		third, _ := under(t, s, ownerFor(s, somebody("bob")), path, 0)
		does("ann closes", ann, message{code: codeFinish})
		does("bob closes", bob, message{code: codeFinish})
		does("the third closes", third, message{code: codeClose})
		c.set(path, func(n *fakeNode) {
			if n.held || n.epoch != 2 || n.wrote != 2 {
				t.Errorf("held: %v, under %d, written under %d", n.held, n.epoch, n.wrote)
			}
		})
		if _, u = under(t, s, ownerFor(s, somebody("bob")), path, flagTell); u != (epochs{3, 2}) {
			t.Errorf("the next one is told %v", u)
		}
	})
}

// TestClosesWhileAnotherComes: R2. Who was told, and closes without having used the file since another came, leaves it to that one.
func TestClosesWhileAnotherComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		path := c.moving("f", somebody("ann"), somebody("bob"))
		c.set(path, func(n *fakeNode) { n.epochs = true })
		s := newTestService(t, c, nil)
		ann, _ := under(t, s, ownerFor(s, somebody("ann")), path, flagTell)
		bob, _ := under(t, s, ownerFor(s, somebody("bob")), path, 0)
		_, err := ann.ask(message{code: codeClose})
		wantKind(t, "ann closes", err, blocktree.Other)
		_, err = bob.ask(message{code: codeWrite, data: []byte("bob")})
		wantKind(t, "bob writes", err, blocktree.Other)
		_, err = bob.ask(message{code: codeFinish})
		wantKind(t, "bob closes", err, blocktree.Other)
		c.set(path, func(n *fakeNode) {
			if n.held || c.opened.Load() != 0 {
				t.Errorf("it is held: %v, %d are open", n.held, c.opened.Load())
			}
		})
	})
}

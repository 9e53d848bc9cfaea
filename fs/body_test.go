package fs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"

	"blocktree"
	"blocktree/blockdev/memfile"
)

// opens opens the body of a file, as who has it alone.
func (c *fake) body(t *testing.T, path blocktree.Path) *body {
	t.Helper()
	f, err := c.Open(t.Context(), nobody, path, OpenOptions{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	found, err := c.Look(t.Context(), somebody("ann"), path)
	if err != nil {
		t.Fatal(err)
	}
	info := InfoOf(found.Inode)
	b, err := newBody(t.Context(), f, &info)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestEndAgainstBytes: E1 of 0059. By any order of writes, appends, cuts, growths and holes the file is a flat array of bytes that grows with zeros, also when its writer is gone and another one opens it: that one finds the end of the last flush,
// and nothing of what was behind it.
func TestEndAgainstBytes(t *testing.T) {
	for _, dear := range []bool{false, true} {
		for seed := range uint64(30) {
			c := newFake()
			path := c.moving("f", somebody("ann"))
			c.set(path, func(n *fakeNode) { n.zeros = dear })
			endAgainstBytes(t, c, path, seed)
		}
	}
}

func endAgainstBytes(t *testing.T, c *fake, path blocktree.Path, seed uint64) {
	const most = 60 * 512
	r := newRandom(seed)
	var model []byte
	told := 0 // where others see it end
	b := c.body(t, path)
	to := func(n int) {
		model = append(model, make([]byte, max(0, n-len(model)))...)
	}
	for step := range 300 {
		off, n := r.IntN(len(model)+2000), 1+r.IntN(3000)
		if r.IntN(4) == 0 {
			off, n = off/512*512, (n+511)/512*512
		}
		off, n = min(off, most-n), min(n, most)
		p := bytes.Repeat([]byte{byte(step) | 1}, n)
		var err error
		switch op := r.IntN(13); {
		case op < 3:
			to(off + n)
			copy(model[off:], p)
			err = b.do(t.Context(), func() error { return b.write(t.Context(), p, uint64(off)) })
		case op < 5 && len(model)+n <= most:
			at, e := b.add(t.Context(), p)
			if err = e; int(at) != len(model) {
				t.Fatalf("seed %d step %d: appended at %d of %d", seed, step, at, len(model))
			}
			model = append(model, p...)
		case op < 7:
			to(off)
			clear(model[off:])
			model, told = model[:off], off
			err = b.do(t.Context(), func() error { return b.truncate(t.Context(), uint64(off)) })
		case op == 7:
			to(off + n)
			told = len(model)
			err = b.do(t.Context(), func() error { return b.lengthen(t.Context(), uint64(off+n)) })
		case op == 8 && off <= len(model):
			clear(model[off:min(off+n, len(model))])
			err = b.do(t.Context(), func() error { return b.view().punch(t.Context(), uint64(off), uint64(n)) })
		case op == 9:
			told = len(model)
			err = b.do(t.Context(), func() error { return b.flush(t.Context()) })
		case op == 10: // it is closed well
			told = len(model)
			err = b.close(t.Context(), errClosed)
			b = c.body(t, path)
		case op == 12: // somebody asks that it be smaller, and it is, or it comes to nothing but zeros
			model, told = asksSmaller(t, c, path, r.IntN(blocktree.FSGrowBytesMax), r.IntN(3) == 0, model, told)
		case op == 11: // its service is killed
			_ = b.file.Close()
			model = model[:told]
			b = c.body(t, path)
		}
		if err != nil {
			t.Fatalf("seed %d step %d: %v", seed, step, err)
		}
		got := make([]byte, most+1)
		m, err := b.read(t.Context(), got, 0)
		if err != io.EOF || !bytes.Equal(got[:m], model) {
			t.Fatalf("seed %d step %d: %d bytes of %d, or other ones, %v", seed, step, m, len(model), err)
		}
		found, _ := c.Look(t.Context(), somebody("ann"), path)
		if len := found.Inode.Length(); int(len) != told || len > found.Inode.SizeBytes {
			t.Fatalf("seed %d step %d: others see %d bytes, want %d", seed, step, len, told)
		}
	}
}

// asksSmaller asks for some smaller size of a file that is written, which may come to nothing but zeros behind it, and returns what the file is then, and where others see it end.
func asksSmaller(t *testing.T, c *fake, path blocktree.Path, some int, uncut bool, model []byte, told int) ([]byte, int) {
	t.Helper()
	var shrink func(context.Context, uint64) error
	size := 0
	c.set(path, func(n *fakeNode) { n.uncut, shrink, size = uncut, n.shrink, int(n.inode.SizeBytes) })
	if size == 512 {
		return model, told
	}
	to := 512 + some%(size/512-1)*512
	if err := shrink(t.Context(), uint64(to)); (err != nil) != uncut {
		t.Fatalf("made smaller: %v", err)
	}
	clear(model[min(to, len(model)):])
	if !uncut {
		model, told = model[:min(to, len(model))], min(to, told)
	}
	return model, told
}

// TestCutInTheMiddle: E2 of 0059. Whatever a cut ends at, the file is the old one or the new one, and what was cut is never seen again.
func TestCutInTheMiddle(t *testing.T) {
	for step := range 6 {
		c := newFake()
		path := c.moving("f", somebody("ann"))
		b := c.body(t, path)
		was := bytes.Repeat([]byte{7}, 5000)
		if _, err := b.add(t.Context(), was); err != nil {
			t.Fatal(err)
		}
		if err := b.flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		left := step
		dies := func() error {
			if left--; left < 0 {
				return blocktree.E("fake", blocktree.Unavailable, errors.New("it died"))
			}
			return nil
		}
		c.set(path, func(n *fakeNode) {
			n.ending = func(uint64, uint64) error { return dies() }
			n.hook = func(context.Context, memfile.Call) error { return dies() }
		})
		err := b.do(t.Context(), func() error { return b.truncate(t.Context(), 1000) })
		c.set(path, func(n *fakeNode) { n.ending, n.hook = nil, nil })
		_ = b.file.Close()
		b = c.body(t, path)
		if end := b.end(); end != 1000 && (end != 5000 || err == nil) {
			t.Errorf("after %d steps it ends at %d, %v", step, end, err)
		}
		got := make([]byte, 6000)
		if n, _ := b.read(t.Context(), got, 0); !bytes.Equal(got[:n], was[:n]) {
			t.Errorf("after %d steps what is there is not what was", step)
		}
		if b.end() == 1000 {
			if err := b.lengthen(t.Context(), 6000); err != nil {
				t.Fatal(err)
			}
			if n, _ := b.read(t.Context(), got, 0); n != 6000 || !bytes.Equal(got[:1000], was[:1000]) || !bytes.Equal(got[1000:], make([]byte, 5000)) {
				t.Errorf("after %d steps what was cut is seen again", step)
			}
		}
	}
}

// TestCutThatLostItsLease: R4 of 0075. A cut of which nothing was written, as somebody else has the file by then, is not done: whoever keeps what it wrote could not see it.
func TestCutThatLostItsLease(t *testing.T) {
	c := newFake()
	path := c.moving("f", somebody("ann"))
	b := c.body(t, path)
	if _, err := b.add(t.Context(), make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	c.set(path, func(n *fakeNode) {
		n.hook = func(_ context.Context, call memfile.Call) error {
			if call.Op == memfile.Flush {
				return nil
			}
			return blocktree.E("fake", blocktree.Fenced, nil)
		}
	})
	err := b.do(t.Context(), func() error { return b.truncate(t.Context(), 10) })
	wantKind(t, "the cut", err, blocktree.Fenced)
	_ = b.file.Close()
}

// TestLengthOfItsOwn: a file that ends at its size has an end of its own before it is made larger, so that nobody ever sees it longer than it was written.
func TestLengthOfItsOwn(t *testing.T) {
	c := newFake()
	path := c.moving("f", somebody("ann"))
	c.set(path, func(n *fakeNode) { n.inode.HasLength = false })
	b := c.body(t, path)
	c.set(path, func(n *fakeNode) {
		n.ending = func(was, bytes uint64) error {
			if !n.inode.HasLength && (bytes != 512 || n.inode.SizeBytes != 512) {
				t.Errorf("%d bytes become %d of %d", was, bytes, n.inode.SizeBytes)
			}
			return nil
		}
	})
	if err := b.do(t.Context(), func() error { return b.write(t.Context(), []byte{1}, 600) }); err != nil {
		t.Fatal(err)
	}
	if found, _ := c.Look(t.Context(), somebody("ann"), path); found.Inode.Length() != 512 || b.end() != 601 {
		t.Errorf("others see %d, the writer %d", found.Inode.Length(), b.end())
	}
}

// TestWritersShare: E4 of 0059. Writers of one service share a file: each appends where the others have ended, all see that at once, who only reads too, and only the last one gives it back, with its end told.
func TestWritersShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		ann, bob := somebody("ann"), somebody("bob")
		path := c.moving("f", ann, bob)
		s := newTestService(t, c, nil)
		owners := []*owner{ownerFor(s, ann), ownerFor(s, bob)}
		reader := open(t, s, ownerFor(s, bob), path, 0)
		files := []*openFile{open(t, s, owners[0], path, flagWrite), open(t, s, owners[1], path, flagWrite)}
		if n := c.opened.Load(); n != 1 {
			t.Fatalf("%d times open", n)
		}
		seen := map[uint64]bool{}
		for i := range 100 {
			reply, err := files[i%2].ask(message{code: codeAppend, data: []byte{byte(i), 1, 2}})
			if err != nil {
				t.Fatal(err)
			}
			off, err := decodeOffset(reply)
			if err != nil || seen[off] || off != uint64(3*i) {
				t.Fatalf("append %d at %d, %v", i, off, err)
			}
			seen[off] = true
			for _, f := range []*openFile{files[0], files[1], reader} {
				got, err := f.ask(message{code: codeRead, off: off, count: 10})
				if err != nil || !bytes.Equal(got, []byte{byte(i), 1, 2}) {
					t.Fatalf("after append %d: %v, %v", i, got, err)
				}
			}
		}
		owners[0].end()
		synctest.Wait()
		if c.opened.Load() == 0 {
			t.Fatal("the first that left took it along")
		}
		_, err := files[1].ask(message{code: codeWrite, data: []byte{9}, off: 300})
		wantKind(t, "a write of who is left", err, blocktree.Other)
		if found, _ := c.Look(t.Context(), ann, path); found.Inode.Length() != 0 {
			t.Errorf("others see %d bytes that nobody flushed", found.Inode.Length())
		}
		owners[1].end()
		synctest.Wait()
		if found, _ := c.Look(t.Context(), ann, path); found.Inode.Length() != 301 {
			t.Errorf("others see %d bytes", found.Inode.Length())
		}
		if got, err := reader.ask(message{code: codeRead, off: 299, count: 10}); err != nil || len(got) != 2 {
			t.Errorf("who has had it open all the time reads %v, %v", got, err)
		}
		reader.owner.end()
		synctest.Wait()
		if n := len(s.sharing.files); n != 0 || c.opened.Load() != 0 {
			t.Errorf("%d files are left, %d open", n, c.opened.Load())
		}
	})
}

// TestFailedFlushIsEverybodys: E5 of 0059. After a flush that failed nobody who has the file open writes or flushes it; who opens it then has it anew.
func TestFailedFlushIsEverybodys(t *testing.T) {
	in(t, func(t *testing.T, c *fake, s *Service, o *owner, path blocktree.Path) {
		a, b := open(t, s, o, path, flagWrite), open(t, s, ownerFor(s, o.caller()), path, flagWrite)
		fails := errors.New("no disk")
		c.set(path, func(n *fakeNode) {
			n.hook = func(_ context.Context, call memfile.Call) error {
				if call.Op == memfile.Flush && fails != nil {
					return blocktree.E("fake", blocktree.IO, fails)
				}
				return nil
			}
		})
		_, err := a.ask(message{code: codeFlush})
		wantKind(t, "the flush", err, blocktree.IO)
		fails = nil
		for _, f := range []*openFile{a, b} {
			for _, m := range []message{{code: codeFlush}, {code: codeWrite, data: []byte("x")}} {
				_, err := f.ask(m)
				wantKind(t, "after it", err, blocktree.IO)
			}
		}
		anew := open(t, s, o, path, flagWrite)
		_, err = anew.ask(message{code: codeFlush})
		wantKind(t, "opened anew", err, blocktree.Other)
		_, err = b.ask(message{code: codeWrite, data: []byte("x")})
		wantKind(t, "who has it open still", err, blocktree.IO)
		for _, f := range []*openFile{a, b} {
			_, _ = f.ask(message{code: codeClose})
		}
		_, err = anew.ask(message{code: codeWrite, data: []byte("x")})
		wantKind(t, "opened anew, when the others are closed", err, blocktree.Other)
	})
}

// TestEndIsAWrite: E6 of 0059. Who may not write moves no end, by handle or by path.
func TestEndIsAWrite(t *testing.T) {
	b := newBed(t, nil)
	ann, who := b.dial("ann")
	bob, other := b.dial("bob")
	path := b.fake.moving("f", who)
	b.fake.set(path, func(n *fakeNode) { n.rights[other.Principal] = Read })
	f, err := bob.Open(t.Context(), path, OpenOptions{})
	b.must(err)
	for what, err := range map[string]error{"truncate": f.(Truncater).Truncate(t.Context(), 9), "allocate": f.(Allocater).Allocate(t.Context(), 1, 9), "append": second(f.(Appender).Append(t.Context(), []byte("x")))} {
		wantKind(t, what, err, blocktree.ReadOnly)
	}
	wantKind(t, "by path", bob.Truncate(t.Context(), path, 9), blocktree.Permission)
	b.must(ann.Truncate(t.Context(), path, 9))
	info, err := ann.Stat(t.Context(), path)
	if b.must(err); info.Length != 9 {
		t.Errorf("%d bytes", info.Length)
	}
	w, err := ann.Open(t.Context(), path, OpenOptions{Write: true})
	b.must(err)
	b.must(w.WriteAt(t.Context(), []byte("hello"), 1000))
	off, err := w.(Appender).Append(t.Context(), []byte("!"))
	if b.must(err); off != 1005 {
		t.Errorf("appended at %d", off)
	}
	b.must(w.(Allocater).Allocate(t.Context(), 2000, 5))
	b.must(w.(Allocater).Allocate(t.Context(), 3, 5))
	for what, stat := range map[string]func() (Info, error){"by path": func() (Info, error) { return ann.Stat(t.Context(), path) }, "by handle": func() (Info, error) { return w.(Stater).Stat(t.Context()) },
		"of a reader": func() (Info, error) { return f.(Stater).Stat(t.Context()) }} {
		if info, err := stat(); err != nil || info.Length != 2005 {
			t.Errorf("%s: %+v, %v", what, info, err)
		}
	}
	b.must(ann.Truncate(t.Context(), path, 1003))
	got := make([]byte, 10)
	if n, err := w.ReadAt(t.Context(), got, 1000); n != 3 || err != io.EOF || string(got[:3]) != "hel" {
		t.Errorf("cut by its path: %q, %v", got[:n], err)
	}
	wantKind(t, "far", w.(Truncater).Truncate(t.Context(), 1<<62), blocktree.TooLarge)
	wantKind(t, "farther", w.(Allocater).Allocate(t.Context(), 1<<63, 1<<63), blocktree.TooLarge)
	wantKind(t, "no room", w.(Truncater).Truncate(t.Context(), 1<<40), blocktree.NoSpace)
	wantKind(t, "too much", second(w.(Appender).Append(t.Context(), make([]byte, blocktree.FSTransferBytesMax+1))), blocktree.TooLarge)
	b.must(w.Close())
}

func second[T any](_ T, err error) error { return err }

package fs

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/blockdev/memfile"
)

// in runs a test in a bubble with a service over a fake, one file that ann may read and write, and her connection.
func in(t *testing.T, do func(t *testing.T, c *fake, s *Service, o *owner, path blocktree.Path)) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		path := c.file("f", Read|Write|Lease, somebody("ann"))
		s := newTestService(t, c, nil)
		do(t, c, s, ownerFor(s, somebody("ann")), path)
	})
}

// A right that is gone, and said so, is gone for the next request; else two seconds after it was last judged. The file is closed then.
func TestOpenFileIsJudgedAgain(t *testing.T) {
	for _, loud := range []bool{true, false} {
		in(t, func(t *testing.T, c *fake, s *Service, o *owner, path blocktree.Path) {
			f := open(t, s, o, path, 0)
			read := message{code: codeRead, count: 10}
			_, err := f.ask(read)
			wantKind(t, "before", err, blocktree.Other)
			looks := c.looks.Load()
			_, err = f.ask(read)
			wantKind(t, "again", err, blocktree.Other)
			if c.looks.Load() != looks {
				t.Error("judged for each request")
			}
			c.revoke(path, o.caller(), loud)
			if !loud {
				_, err = f.ask(read)
				wantKind(t, "believed", err, blocktree.Other)
				time.Sleep(blocktree.FSJudgeEvery)
			}
			_, err = f.ask(read)
			wantKind(t, "revoked", err, blocktree.Permission)
			_, err = f.ask(read)
			wantKind(t, "closed", err, blocktree.Undeliverable)
			synctest.Wait()
			if o.find(f.handle) != nil || s.OpenFiles() != 0 || c.opened.Load() != 0 {
				t.Error("the file is still open")
			}
		})
	}
}

// What was read is not sent when the right went while it was.
func TestRightGoesDuringARead(t *testing.T) {
	in(t, func(t *testing.T, c *fake, s *Service, o *owner, path blocktree.Path) {
		f := open(t, s, o, path, 0)
		c.set(path, func(n *fakeNode) {
			n.hook = func(context.Context, memfile.Call) error {
				c.revoke(path, o.caller(), true)
				return nil
			}
		})
		b, err := f.ask(message{code: codeRead, count: 10})
		wantKind(t, "read", err, blocktree.Permission)
		if len(b) > 0 {
			t.Error("bytes were given out")
		}
	})
}

// What was read is not sent either when it took longer than what was said is believed, and the right has ended by then: that of a grant moves no number.
func TestRightEndsDuringASlowRead(t *testing.T) {
	in(t, func(t *testing.T, c *fake, s *Service, o *owner, path blocktree.Path) {
		f := open(t, s, o, path, 0)
		c.set(path, func(n *fakeNode) {
			n.hook = func(context.Context, memfile.Call) error {
				time.Sleep(2 * blocktree.FSJudgeEvery)
				c.revoke(path, o.caller(), false)
				return nil
			}
		})
		b, err := f.ask(message{code: codeRead, count: 10})
		wantKind(t, "read", err, blocktree.Permission)
		if len(b) > 0 {
			t.Error("bytes were given out")
		}
	})
}

// A file that is open for writing keeps a lease: it is judged though nothing is asked.
func TestIdleWriterIsJudged(t *testing.T) {
	in(t, func(t *testing.T, c *fake, s *Service, o *owner, path blocktree.Path) {
		f := open(t, s, o, path, flagWrite)
		time.Sleep(10 * blocktree.FSJudgeEvery)
		synctest.Wait()
		if c.opened.Load() != 1 {
			t.Fatal("closed without a reason")
		}
		c.revoke(path, o.caller(), false)
		time.Sleep(blocktree.FSJudgeEvery)
		synctest.Wait()
		if c.opened.Load() != 0 || s.OpenFiles() != 0 {
			t.Error("the lease is still held")
		}
		_, err := f.ask(message{code: codeWrite, data: []byte("x")})
		wantKind(t, "write", err, blocktree.Undeliverable)
	})
}

// A cluster that does not answer has not said yes: nothing is done, and the file stays open for when it does.
func TestNoAnswerIsNoYes(t *testing.T) {
	for _, flags := range []uint8{0, flagWrite} {
		in(t, func(t *testing.T, c *fake, s *Service, o *owner, path blocktree.Path) {
			f := open(t, s, o, path, flags)
			down := func(err error) {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.down = err
			}
			down(blocktree.E("fake", blocktree.Unavailable, nil))
			time.Sleep(blocktree.FSJudgeEvery + time.Millisecond)
			synctest.Wait()
			_, err := f.ask(message{code: codeRead, count: 1})
			wantKind(t, "read", err, blocktree.Unavailable)
			down(nil)
			_, err = f.ask(message{code: codeRead, count: 1})
			wantKind(t, "read", err, blocktree.Other)
		})
	}
}

// A file that was removed and made anew under its name is another one, which was never judged for this handle.
func TestAnotherFileOfThatName(t *testing.T) {
	in(t, func(t *testing.T, c *fake, s *Service, o *owner, path blocktree.Path) {
		f := open(t, s, o, path, 0)
		c.file("f", Read, o.caller())
		_, err := f.ask(message{code: codeRead, count: 1}) // judged just now, and only opened now
		wantKind(t, "read", err, blocktree.NotFound)
		time.Sleep(blocktree.FSJudgeEvery)
		_, err = f.ask(message{code: codeRead, count: 1})
		wantKind(t, "read", err, blocktree.NotFound)
		_, err = f.ask(message{code: codeRead, count: 1})
		wantKind(t, "read", err, blocktree.Undeliverable)
	})
}

// The owner's end closes its files, gives leases back, and fails what waits; no more are opened for it.
func TestOwnerEnds(t *testing.T) {
	in(t, func(t *testing.T, c *fake, s *Service, o *owner, path blocktree.Path) {
		f := open(t, s, o, path, flagWrite)
		c.set(path, func(n *fakeNode) {
			n.hook = func(ctx context.Context, _ memfile.Call) error {
				<-ctx.Done()
				return blocktree.E("fake", blocktree.Canceled, ctx.Err())
			}
		})
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				if _, err := f.ask(message{code: codeRead, count: 1}); err == nil {
					t.Errorf("read %d was done", i)
				}
			})
		}
		synctest.Wait()
		another := newTestService(t, c, nil)
		_, err := another.openFile(t.Context(), ownerFor(another, somebody("ann")), &pathRequest{path: path, flags: flagWrite})
		wantKind(t, "a writer at another service", err, blocktree.Busy)
		o.end()
		wg.Wait()
		synctest.Wait()
		if c.opened.Load() != 0 || s.OpenFiles() != 0 {
			t.Error("the file is still open")
		}
		_, err = s.openFile(t.Context(), o, &pathRequest{path: path})
		wantKind(t, "open", err, blocktree.Closed)
		c.set(path, func(n *fakeNode) { n.hook = nil })
		open(t, s, ownerFor(s, somebody("ann")), path, flagWrite)
	})
}

// Every message is answered once, whenever the file is closed.
func TestEveryMessageIsAnswered(t *testing.T) {
	for round := range 50 {
		in(t, func(t *testing.T, c *fake, s *Service, o *owner, path blocktree.Path) {
			f := open(t, s, o, path, flagWrite)
			var wg sync.WaitGroup
			for i := range 30 {
				wg.Go(func() {
					m := message{code: codeRead, count: 1}
					if i == round%30 {
						m.code = codeClose
					}
					_, err := f.ask(m) // hangs, and the bubble with it, if there is no answer
					switch blocktree.KindOf(err) {
					case blocktree.Other, blocktree.Undeliverable:
					default:
						t.Error(err)
					}
				})
			}
			wg.Wait()
		})
	}
}

// A mailbox has room for so many messages, and says so.
func TestMailboxIsBounded(t *testing.T) {
	in(t, func(t *testing.T, c *fake, s *Service, o *owner, path blocktree.Path) {
		f := open(t, s, o, path, 0)
		gate := make(chan struct{})
		c.set(path, func(n *fakeNode) {
			n.hook = func(context.Context, memfile.Call) error { <-gate; return nil }
		})
		done := make(chan error, blocktree.FSMailboxMax+1)
		put := func() error {
			return f.box.put(&message{code: codeRead, count: 1, done: func(_ []byte, err error) { done <- err }})
		}
		wantKind(t, "first", put(), blocktree.Other)
		synctest.Wait() // it is taken
		for range blocktree.FSMailboxMax {
			wantKind(t, "put", put(), blocktree.Other)
		}
		wantKind(t, "over", put(), blocktree.Unavailable)
		closed := make(chan error, 2) // there is room for that, once
		last := func() error {
			return f.box.put(&message{code: codeClose, done: func(_ []byte, err error) { closed <- err }})
		}
		wantKind(t, "close", last(), blocktree.Other)
		wantKind(t, "close again", last(), blocktree.Unavailable)
		close(gate)
		for range blocktree.FSMailboxMax + 1 {
			wantKind(t, "read", <-done, blocktree.Other)
		}
		wantKind(t, "closed", <-closed, blocktree.Other)
	})
}

// A file of which nothing is asked for too long is closed.
func TestIdleFileIsClosed(t *testing.T) {
	in(t, func(t *testing.T, c *fake, s *Service, o *owner, path blocktree.Path) {
		f := open(t, s, o, path, flagWrite)
		time.Sleep(blocktree.FSIdleMax - time.Minute)
		_, err := f.ask(message{code: codeRead, count: 1})
		wantKind(t, "read", err, blocktree.Other)
		time.Sleep(blocktree.FSIdleMax - time.Second)
		_, err = f.ask(message{code: codeRead, count: 1})
		wantKind(t, "read", err, blocktree.Other)
		time.Sleep(blocktree.FSIdleMax + time.Second)
		_, err = f.ask(message{code: codeRead, count: 1})
		wantKind(t, "read", err, blocktree.Undeliverable)
	})
}

// The sectors of a file that is not read are not kept open. What was lost meanwhile is not passed over.
func TestSectorsOfAnIdleReader(t *testing.T) {
	in(t, func(t *testing.T, c *fake, s *Service, o *owner, path blocktree.Path) {
		f := open(t, s, o, path, 0)
		if c.opened.Load() != 0 {
			t.Error("sectors are open that nobody reads")
		}
		read := message{code: codeRead, count: 1}
		for range 2 {
			_, err := f.ask(read)
			wantKind(t, "read", err, blocktree.Other)
			if c.opened.Load() != 1 {
				t.Error("no sectors are open")
			}
			time.Sleep(blocktree.FSReadIdleMax)
			synctest.Wait()
			if c.opened.Load() != 0 || s.OpenFiles() != 1 {
				t.Error("sectors are open though nobody reads, or the file is closed")
			}
		}
		c.set(path, func(n *fakeNode) { n.loss.Add(1) })
		for range 2 {
			_, err := f.ask(read)
			wantKind(t, "read after a loss", err, blocktree.Lost)
		}
		_, err := open(t, s, o, path, 0).ask(read)
		wantKind(t, "read of who opened after it", err, blocktree.Other)
	})
}

// A flush that failed is not forgotten by the handle.
func TestFailedFlushStays(t *testing.T) {
	in(t, func(t *testing.T, c *fake, s *Service, o *owner, path blocktree.Path) {
		f := open(t, s, o, path, flagWrite)
		fail := true
		c.set(path, func(n *fakeNode) {
			n.hook = func(_ context.Context, call memfile.Call) error {
				if call.Op == memfile.Flush && fail {
					return blocktree.E("fake", blocktree.IO, nil)
				}
				return nil
			}
		})
		_, err := f.ask(message{code: codeFlush})
		wantKind(t, "flush", err, blocktree.IO)
		fail = false
		_, err = f.ask(message{code: codeFlush})
		wantKind(t, "flush again", err, blocktree.IO)
		_, err = f.ask(message{code: codeWrite, data: []byte("x")})
		wantKind(t, "write", err, blocktree.IO)
	})
}

// Handles are of one connection, and never come twice.
func TestHandles(t *testing.T) {
	in(t, func(t *testing.T, c *fake, s *Service, o *owner, path blocktree.Path) {
		f := open(t, s, o, path, 0)
		if ownerFor(s, o.caller()).find(f.handle) != nil {
			t.Error("another connection found it")
		}
		seen := map[uint64]bool{f.handle: true}
		for range 200 {
			f := open(t, s, o, path, 0)
			if seen[f.handle] {
				t.Fatal("a handle came twice")
			}
			seen[f.handle] = true
			_, err := f.ask(message{code: codeClose})
			wantKind(t, "close", err, blocktree.Other)
			synctest.Wait()
			if o.find(f.handle) != nil {
				t.Error("found after its end")
			}
		}
		for range blocktree.FSOpenFilesPerConnectionMax - 1 {
			open(t, s, o, path, 0)
		}
		_, err := s.openFile(t.Context(), o, &pathRequest{path: path})
		wantKind(t, "one too many", err, blocktree.TooLarge)
		if got := s.OpenFiles(); got != blocktree.FSOpenFilesPerConnectionMax {
			t.Errorf("%d files are open", got)
		}
		for _, handle := range []uint64{0, 1, ^uint64(0), f.handle + 1<<placeBits, f.handle | 0xffff} {
			if o.find(handle) != nil {
				t.Errorf("found %x", handle)
			}
		}
	})
}

// A writer needs more than a reader, and a plain file is written only by who says that it is one.
func TestOpenWants(t *testing.T) {
	in(t, func(t *testing.T, c *fake, s *Service, o *owner, path blocktree.Path) {
		for _, x := range []struct {
			rights Rights
			flags  uint8
			plain  bool
			want   blocktree.Kind
		}{
			{Read, 0, false, blocktree.Other},
			{Read, 0, true, blocktree.Other},
			{Write | Lease | List | Admin, 0, false, blocktree.Permission},
			{0, 0, false, blocktree.Permission},
			{Read, flagWrite, false, blocktree.Permission},
			{Read | Write, flagWrite, false, blocktree.Permission},
			{Read | Lease, flagWrite, false, blocktree.Permission},
			{Write | Lease, flagWrite, false, blocktree.Permission},
			{Read | Write | Lease, flagWrite, false, blocktree.Other},
			{Read | Write | Lease, flagWrite, true, blocktree.Permission},
			{Read | Write | Lease, flagWrite | flagPlain, true, blocktree.Other},
		} {
			c.set(path, func(n *fakeNode) {
				n.rights[o.caller().Principal] = x.rights
				n.inode.Suite = 1
				if x.plain {
					n.inode.Suite = 0
				}
			})
			o := ownerFor(s, o.caller())
			_, err := s.openFile(t.Context(), o, &pathRequest{path: path, flags: x.flags})
			if blocktree.KindOf(err) != x.want {
				t.Errorf("%+v: %v", x, err)
			}
			o.end()
			synctest.Wait()
			if c.opened.Load() != 0 || s.OpenFiles() != 0 {
				t.Errorf("%+v: something is open", x)
			}
		}
		f := open(t, s, ownerFor(s, somebody("ann")), c.file("r", Read, somebody("ann")), 0)
		for _, code := range []uint16{codeWrite, codeFlush} {
			_, err := f.ask(message{code: code, data: []byte("x")})
			wantKind(t, "a change through a handle to read", err, blocktree.ReadOnly)
		}
	})
}

// What a file is written and read as is what a slice would be, whatever the alignment; and where it ends.
func TestView(t *testing.T) {
	const size = 16 * 512
	mem := memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: size, SectorBytes: 512}})
	v, model := view{mem, &Info{}}, make([]byte, size)
	r := newRandom(1)
	for i := range 5000 {
		off, n := r.IntN(size), r.IntN(4*512)
		p := make([]byte, min(n, size-off))
		if i%2 == 0 {
			for j := range p {
				p[j] = byte(r.IntN(256))
			}
			copy(model[off:], p)
			if err := v.write(t.Context(), p, uint64(off)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := v.read(t.Context(), p, uint64(off))
		if err != nil || got != len(p) || !bytes.Equal(p, model[off:off+len(p)]) {
			t.Fatalf("read %d at %d: %d, %v", len(p), off, got, err)
		}
	}
	p := make([]byte, 1000)
	if n, err := v.read(t.Context(), p, size-10); n != 10 || err == nil || !bytes.Equal(p[:n], model[size-10:]) {
		t.Errorf("at the end: %d, %v", n, err)
	}
	_, err := v.read(t.Context(), p, size+1)
	wantKind(t, "behind the end", err, blocktree.OutOfRange)
	for _, off := range []uint64{size - 999, size, size + 1, ^uint64(0) - 10} {
		wantKind(t, "write over the end", v.write(t.Context(), p, off), blocktree.OutOfRange)
	}
}

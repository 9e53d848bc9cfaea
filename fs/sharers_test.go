package fs

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/blockdev/memfile"
)

// starts has a message done, and returns what comes of it, once it does.
func (a *openFile) starts(m message) chan error {
	done := make(chan error, 1)
	m.done = func(_ []byte, err error) { done <- err }
	if err := a.box.put(&m); err != nil {
		done <- err
	}
	return done
}

// flushHook has the flushes of a file do something.
func (c *fake) flushHook(path blocktree.Path, do func(context.Context) error) {
	c.set(path, func(n *fakeNode) {
		n.hook = func(ctx context.Context, call memfile.Call) error {
			if call.Op == memfile.Flush {
				return do(ctx)
			}
			return nil
		}
	})
}

// sharers are two callers who have one file open for writing.
func sharers(t *testing.T) (c *fake, s *Service, path blocktree.Path, ann, bob *openFile) {
	c = newFake()
	path = c.moving("f", somebody("ann"), somebody("bob"))
	s = newTestService(t, c, nil)
	return c, s, path, open(t, s, ownerFor(s, somebody("ann")), path, flagWrite), open(t, s, ownerFor(s, somebody("bob")), path, flagWrite)
}

// TestGoesWhileItFlushes: of 0059. A caller who goes, or a request by path that waits no more, while the file is flushed takes nothing from the others: no flush has failed, and theirs is of all that was written.
func TestGoesWhileItFlushes(t *testing.T) {
	for name, flushes := range map[string]func(s *Service, path blocktree.Path, ann *openFile) chan error{
		"by handle": func(_ *Service, _ blocktree.Path, ann *openFile) chan error {
			done := ann.starts(message{code: codeFlush})
			synctest.Wait()
			ann.owner.end()
			return done
		},
		"by path": func(s *Service, path blocktree.Path, ann *openFile) chan error {
			done := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), pathTimeout)
				defer cancel()
				done <- s.truncate(ctx, ann.owner, &pathRequest{path: path, sizeBytes: 1})
			}()
			return done
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, s, path, ann, bob := sharers(t)
			_, err := bob.ask(message{code: codeAppend, data: []byte("bob's")})
			wantKind(t, "an append", err, blocktree.Other)
			c.flushHook(path, func(ctx context.Context) error {
				<-ctx.Done()
				return blocktree.E("fake", blocktree.Unavailable, ctx.Err())
			})
			wantKind(t, name, <-flushes(s, path, ann), blocktree.Unavailable)
			c.flushHook(path, func(context.Context) error { return nil })
			for _, m := range []message{{code: codeAppend, data: []byte(" more")}, {code: codeFlush}} {
				_, err := bob.ask(m)
				wantKind(t, name+", then "+nameOf(m.code), err, blocktree.Other)
			}
			if found, _ := c.Look(t.Context(), somebody("bob"), path); found.Inode.Length() != 10 {
				t.Errorf("%s: others see %d bytes", name, found.Inode.Length())
			}
		})
	}
}

// TestRightGoesBeforeTheTurn: who waits for others who write the file, and loses the right meanwhile, writes nothing any more, by handle or by path.
func TestRightGoesBeforeTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, path, ann, bob := sharers(t)
		_, err := ann.ask(message{code: codeAppend, data: []byte("ann's")})
		wantKind(t, "an append", err, blocktree.Other)
		gate := make(chan struct{})
		c.flushHook(path, func(context.Context) error {
			<-gate
			return nil
		})
		flush := ann.starts(message{code: codeFlush})
		synctest.Wait()
		waits := map[string]chan error{"a write": bob.starts(message{code: codeWrite, data: []byte("bob's")}), "truncate": make(chan error, 1), "length": make(chan error, 1)}
		for name, do := range map[string]func(context.Context, *owner) error{
			"truncate": func(ctx context.Context, o *owner) error {
				return s.truncate(ctx, o, &pathRequest{path: path, sizeBytes: 1})
			},
			"length": func(ctx context.Context, o *owner) error {
				return s.setLength(ctx, o.caller(), &pathRequest{path: path, sizeBytes: 1})
			},
		} {
			go func() { waits[name] <- do(t.Context(), bob.owner) }()
		}
		synctest.Wait()
		c.revoke(path, somebody("bob"), true)
		close(gate)
		wantKind(t, "the flush", <-flush, blocktree.Other)
		for name, done := range waits {
			wantKind(t, name, <-done, blocktree.Permission)
		}
		got, err := ann.ask(message{code: codeRead, count: 10})
		if err != nil || string(got) != "ann's" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// TestWhatFailedTellsNothing: what the writers of this service knew of a file is not told any more once they can do nothing, though they have it open yet: the cluster is asked, and a length is set there.
func TestWhatFailedTellsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, path, ann, _ := sharers(t)
		reader := open(t, s, ownerFor(s, somebody("bob")), path, 0)
		_, err := ann.ask(message{code: codeAppend, data: []byte("never flushed")})
		wantKind(t, "an append", err, blocktree.Other)
		c.flushHook(path, func(context.Context) error { return blocktree.E("fake", blocktree.IO, nil) })
		_, err = ann.ask(message{code: codeFlush})
		wantKind(t, "a flush", err, blocktree.IO)
		ends := func(what string, want uint64) {
			t.Helper()
			b, err := s.doPath(t.Context(), reader.owner, codeStat, &pathRequest{path: path})
			if err != nil {
				t.Fatal(err)
			}
			if info, err := decodeInfo(b); err != nil || info.Length != want {
				t.Errorf("%s: it ends at %d, want %d, %v", what, info.Length, want, err)
			}
			time.Sleep(blocktree.FSJudgeEvery)
			if got, err := reader.ask(message{code: codeRead, count: 100}); err != nil || len(got) != int(want) {
				t.Errorf("%s: %q is read, %v", what, got, err)
			}
		}
		ends("flushed in vain", 0)
		wantKind(t, "a length", s.setLength(t.Context(), somebody("bob"), &pathRequest{path: path, sizeBytes: 3}), blocktree.Other)
		ends("with a length", 3)
	})
}

// TestLengthIsFlushed: E3 of 0059. Who sets a length by path, beyond what others have written and not flushed, has that flushed first.
func TestLengthIsFlushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, path, ann, bob := sharers(t)
		var flushed atomic.Bool
		c.flushHook(path, func(context.Context) error {
			flushed.Store(true)
			return nil
		})
		c.set(path, func(n *fakeNode) {
			n.ending = func(_, bytes uint64) error {
				if !flushed.Load() {
					t.Errorf("others hear of %d bytes that are not flushed", bytes)
				}
				return nil
			}
		})
		_, err := ann.ask(message{code: codeAppend, data: []byte("five!")})
		wantKind(t, "an append", err, blocktree.Other)
		wantKind(t, "a length", s.setLength(t.Context(), bob.owner.caller(), &pathRequest{path: path, sizeBytes: 5}), blocktree.Other)
		if !flushed.Load() {
			t.Error("nothing was flushed")
		}
	})
}

// TestTimesThatAreRefused: T3 of 0058. Who may not say what time a file is of has no write forgotten by asking; who may has where it ends told before.
func TestTimesThatAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, path, ann, bob := sharers(t)
		c.set(path, func(n *fakeNode) { n.rights[somebody("ann").Principal] |= Admin })
		_, err := bob.ask(message{code: codeAppend, data: []byte("x")})
		wantKind(t, "an append", err, blocktree.Other)
		check := func(what string, a *openFile, at int64, want blocktree.Kind, forgot int, told uint64) {
			t.Helper()
			_, err := s.doPath(t.Context(), a.owner, codeSetTimes, &pathRequest{path: path, attr: attrRequest{path: path, time: at}})
			wantKind(t, what, err, want)
			c.set(path, func(n *fakeNode) {
				if n.forgot != forgot || n.inode.Length() != told {
					t.Errorf("%s: %d times forgotten, it ends at %d", what, n.forgot, n.inode.Length())
				}
			})
		}
		check("any time, by who may write", bob, 5, blocktree.Exists, 0, 0)
		check("now", bob, TimeNow, blocktree.Other, 1, 1)
		check("any time, by its owner", ann, 5, blocktree.Other, 2, 1)
		b := s.sharing.written(ann.info.ID)
		wantKind(t, "in vain", b.do(t.Context(), func() error {
			return b.timed(t.Context(), func() error { return blocktree.E("fake", blocktree.IO, nil) })
		}), blocktree.IO)
		c.set(path, func(n *fakeNode) {
			if n.forgot != 2 {
				t.Errorf("%d times forgotten", n.forgot)
			}
		})
	})
}

// TestResizeBesideWriters: a file that is written by this service is made smaller through what its writers have, whose lease is the service's, by who might take that; where that cannot be it is Busy, until they have closed it. It is made larger by the cluster.
func TestResizeBesideWriters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, path, ann, bob := sharers(t)
		c.set(path, func(n *fakeNode) { n.inode.SizeBytes = 2 * 512 })
		resize := func(bytes uint64) error {
			_, err := s.doPath(t.Context(), bob.owner, codeResize, &pathRequest{path: path, sizeBytes: bytes})
			return err
		}
		wantKind(t, "of no such size", resize(513), blocktree.Exists) // which the cluster says
		wantKind(t, "smaller", resize(512), blocktree.Other)
		if b := s.sharing.written(ann.info.ID); b.size() != 512 || b.end() > 512 {
			t.Errorf("%d bytes, which end at %d", b.size(), b.end())
		}
		wantKind(t, "larger", resize(4*512), blocktree.Exists)
		c.set(path, func(n *fakeNode) { n.inode.SizeBytes, n.rights[bob.owner.caller().Principal] = 2*512, Read|Write })
		wantKind(t, "smaller, by who may not hold it", resize(512), blocktree.Permission)
		c.set(path, func(n *fakeNode) { n.rights[bob.owner.caller().Principal] = Read | Write | Lease })
		for _, a := range []*openFile{ann, bob} {
			_, err := a.ask(message{code: codeClose})
			wantKind(t, "a close", err, blocktree.Other)
		}
		wantKind(t, "smaller, of nobody's", resize(512), blocktree.Exists)
	})
}

// TestOpenedAnew: who may have the file open for writing by a connection that broke has it anew only when that handle is gone: a write on its way to it would be done after newer ones. Others are in nobody's way.
func TestOpenedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, path, ann, bob := sharers(t)
		anew := func() error {
			_, err := s.openFile(t.Context(), ownerFor(s, somebody("ann")), &pathRequest{path: path, flags: flagWrite | flagAnew})
			return err
		}
		err := anew()
		if wantKind(t, "beside her own", err, blocktree.Busy); blocktree.HintOf(err) == "" {
			t.Error("it has no hint")
		}
		ann.owner.end()
		synctest.Wait()
		wantKind(t, "beside somebody else's", anew(), blocktree.Other)
		wantKind(t, "beside the new one", anew(), blocktree.Busy)
		_, err = bob.ask(message{code: codeWrite, data: []byte("x")})
		wantKind(t, "the other one's write", err, blocktree.Other)
	})
}

package fs

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
)

// stalls has writes from now on wait for a channel, nil: for nothing.
func (c *keptFake) stalls(stall chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stall = stall
}

// wholesOf is wholes, and again with the spare that the service says.
func wholesOf(t testing.TB, s *Service, o *owner, path blocktree.Path, spare blocktree.FileID, content string) (Info, Filling, error) {
	t.Helper()
	i, f, err := wholes(t, s, o, path, spare, content)
	if err == ErrOtherSpare {
		i, f, err = wholes(t, s, o, path, f.Spares[0], content)
	}
	return i, f, err
}

// TestWholesEnd: who asks for what is in a directory does not wait for all that another one goes on to make there.
func TestWholesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o, dir := ownerFor(s, somebody("ann")), below("d")
		filled(t, s, o, dir)
		write, end := make(chan struct{}), make(chan struct{})
		c.stalls(write)
		var all sync.WaitGroup
		for i := range 2 { // one is on its way at any time
			all.Go(func() {
				for n := 0; ; n++ {
					_, _, err := wholesOf(t, s, o, dir.Join(fmt.Sprint(i, "-", n)), blocktree.FileID{}, "hello")
					wantKind(t, "whole", err, blocktree.Other)
					select {
					case <-end:
						return
					default:
					}
				}
			})
		}
		all.Go(func() {
			for {
				time.Sleep(blocktree.FSFillFor / 5)
				select {
				case write <- struct{}{}:
				case <-end:
					close(write)
					return
				}
			}
		})
		time.Sleep(blocktree.FSFillFor)
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), pathTimeout)
		defer cancel()
		_, err := s.doPath(ctx, ownerFor(s, somebody("ann")), codeList, &pathRequest{path: dir})
		wantKind(t, "a listing", err, blocktree.Other)
		if took := time.Since(begun); took > 3*blocktree.FSFillFor {
			t.Errorf("after %v", took)
		}
		close(end)
		all.Wait()
	})
}

// TestWholeIsTold: who watches a directory is told of a file that was made after its maker waited for it no more.
func TestWholeIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o, dir := ownerFor(s, somebody("ann")), below("d")
		wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: dir}), blocktree.Other)
		told := watched(t, s, o, dir).after(0)
		stall := make(chan struct{})
		c.stalls(stall)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		spare := filled(t, s, o, below("e")).Spares[0]
		_, err := s.doPath(ctx, o, codeMakeWhole, &pathRequest{path: dir.Join("f"), sizeBytes: 4096, flags: flagSpare, file: spare, whole: &whole{content: []byte("hello")}})
		wantKind(t, "whole", err, blocktree.Unavailable)
		close(stall)
		synctest.Wait()
		if len(told) != 1 {
			t.Fatal("nobody was told")
		}
		if h := <-told; h.err != nil || len(h.events) != 1 || h.events[0] != (Event{Name: "f", Kind: EventMade}) {
			t.Errorf("told %+v", h)
		}
	})
}

// TestWholeOnItsWay: D6 of 0086. Who asks again by another connection, in a directory that is not kept, waits for what he asked before: no file comes after its name was removed.
func TestWholeOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o, again, path := ownerFor(s, somebody("ann")), ownerFor(s, somebody("ann")), below("e/f")
		spare := filled(t, s, o, below("d")).Spares[0]
		s.cfg.KeepNoNames = true
		wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: path.Parent()}), blocktree.Other)
		s.cfg.KeepNoNames = false
		stall, done := make(chan struct{}), make(chan error, 2)
		c.stalls(stall)
		go func() {
			_, _, err := wholes(t, s, o, path, spare, "hello")
			done <- err
		}()
		synctest.Wait()
		c.stalls(nil)
		o.end()
		go func() {
			i, _, err := wholes(t, s, again, path, spare, "hello")
			if err == nil && i.ID != spare {
				t.Errorf("it was made twice, as %v", i.ID)
			}
			if err == nil {
				err = does(t, s, again, codeRemove, pathRequest{path: path})
			}
			done <- err
		}()
		synctest.Wait()
		close(stall)
		for range 2 {
			wantKind(t, "whole", <-done, blocktree.Other)
		}
		if n := c.length(path); n != -1 {
			t.Errorf("it was removed, and ends at %d", n)
		}
		c.ended(t, s)
	})
}

// TestWholeByAnother: L1 and L2 of 0089. A service that does not have the spare which a request names makes nothing, and names one of its own; by that, or by the one of before, whatever service finds what was made, for whom it may have been made; nobody else is told that it was his.
func TestWholeByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		next := newTestService(t, c.fake, func(o *Config) { o.Cluster = c })
		path, asked := below("f"), blocktree.FileID{Generation: 7, Inode: 7}
		var spares []blocktree.FileID
		for _, none := range []blocktree.FileID{asked, {}} {
			_, f, err := wholes(t, s, ownerFor(s, somebody("ann")), path, none, "hello")
			if err != ErrOtherSpare || len(f.Spares) != 1 || f.Term != 0 || c.length(path) != -1 {
				t.Fatalf("with %v: %+v, %v, it ends at %d", none, f, err, c.length(path))
			}
			_, _, err = wholes(t, s, ownerFor(s, somebody("ann")), path, f.Spares[0], "hello")
			wantKind(t, "by another connection", err, blocktree.StaleView)
			spares = append(spares, f.Spares[0])
		}
		o := ownerFor(s, somebody("ann"))
		_, f, _ := wholes(t, s, o, path, asked, "hello")
		c.names(true, func(*spare) error { return blocktree.E("fake", blocktree.Unavailable, nil) })
		_, _, err := wholes(t, s, o, path, f.Spares[0], "hello")
		wantKind(t, "whole", err, blocktree.Unavailable)
		c.names(false, nil)
		i, _, err := wholes(t, next, ownerFor(next, somebody("ann")), path, f.Spares[0], "hello")
		if err != nil || i.ID != f.Spares[0] || i.Length != 5 {
			t.Errorf("again: %+v, %v", i, err)
		}
		for _, spare := range append(spares, asked, blocktree.FileID{}) {
			_, _, err = wholes(t, next, ownerFor(next, somebody("ann")), path, spare, "hello")
			wantKind(t, "another file", err, blocktree.Exists)
		}
		_, _, err = wholes(t, s, o, below("g"), asked, "hello")
		wantKind(t, "a name that is free", err, blocktree.StaleView)
		time.Sleep(blocktree.FSFillSpareFor + 2*blocktree.FSKeptSweepEvery)
		if n := c.keeping(s).spares; n != 0 {
			t.Errorf("%d spares", n)
		}
	})
}

// TestWholeNoSession: where no other spare can be set aside as no session is to be had just now, nobody is told that there are no spares: he would make the file with no identity that he knows.
func TestWholeNoSession(t *testing.T) {
	for unable, want := range map[blocktree.Kind]blocktree.Kind{
		blocktree.Unavailable: blocktree.Unavailable, blocktree.Closed: blocktree.Unavailable, blocktree.Lost: blocktree.Unavailable, blocktree.Fenced: blocktree.Unavailable,
		blocktree.Unsupported: blocktree.Unsupported, blocktree.NoSpace: blocktree.Unsupported,
	} {
		c, s := newKept(t)
		c.unable = unable
		_, _, err := wholes(t, s, ownerFor(s, somebody("ann")), below("f"), blocktree.FileID{Generation: 7, Inode: 7}, "hello")
		wantKind(t, fmt.Sprint(unable), err, want)
		if c.length(below("f")) != -1 || c.keeping(s).spares != 0 {
			t.Errorf("%v: something was made", unable)
		}
	}
}

// TestWholeWaitsForASpare: one that takes longer to be had than spares are kept for who makes nothing is set aside all the same, for as long as any.
func TestWholeWaitsForASpare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o, path := ownerFor(s, somebody("ann")), below("f")
		c.slow = 2 * blocktree.FSFillSparesFor
		_, f, err := wholes(t, s, o, path, blocktree.FileID{Generation: 7, Inode: 7}, "hello")
		wantKind(t, "whole", err, blocktree.StaleView)
		time.Sleep(blocktree.FSFillSparesFor / 2)
		if err == ErrOtherSpare {
			i, _, err := wholes(t, s, o, path, f.Spares[0], "hello")
			if err != nil || i.ID != f.Spares[0] {
				t.Errorf("with that: %+v, %v", i, err)
			}
		}
		o.end()
		c.ended(t, s)
	})
}

// TestWholeOlderClient: who does not say that he knows of other spares is told that none is to be had, and nothing was done; what was done with his he is told of.
func TestWholeOlderClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o, dir := ownerFor(s, somebody("ann")), below("d")
		f := filled(t, s, o, dir)
		older := func(o *owner, name string, spare blocktree.FileID) error {
			r := pathRequest{path: dir.Join(name), sizeBytes: 4096, file: spare, whole: &whole{content: []byte("hello")}}
			if spare != (blocktree.FileID{}) {
				r.flags = flagSpare
			}
			return does(t, s, o, codeMakeWhole, r)
		}
		wantKind(t, "his spare", older(o, "f", f.Spares[0]), blocktree.Other)
		o.end()
		o = ownerFor(s, somebody("ann"))
		wantKind(t, "once more", older(o, "f", f.Spares[0]), blocktree.Other)
		wantKind(t, "no spare", older(o, "g", blocktree.FileID{}), blocktree.Unsupported)
		wantKind(t, "another service's", older(o, "g", f.Spares[1]), blocktree.Unsupported)
		wantKind(t, "what is there", older(o, "f", f.Spares[1]), blocktree.Exists)
		if c.length(dir.Join("g")) != -1 {
			t.Error("it was made")
		}
	})
}

// TestMakeOnly: L1 of 0089 of `make`. With a spare that is not the caller's, is gone, or is of no use as the directory is not kept, nothing is made; as of a version before it is, with another.
func TestMakeOnly(t *testing.T) {
	for _, only := range []bool{true, false} {
		for what, x := range map[string]func(c *keptFake, s *Service, f *Filling) blocktree.Path{
			"not his": func(_ *keptFake, _ *Service, f *Filling) blocktree.Path {
				f.Spares[0].Inode += 1000
				return below("d")
			},
			"gone": func(_ *keptFake, s *Service, f *Filling) blocktree.Path {
				for _, x := range s.kept.asides {
					x.spares[f.Spares[0]].Leave()
				}
				return below("d")
			},
			"not kept": func(*keptFake, *Service, *Filling) blocktree.Path { return testRoot },
		} {
			synctest.Test(t, func(t *testing.T) {
				c, s := newKept(t)
				o := ownerFor(s, somebody("ann"))
				f := filled(t, s, o, below("d"))
				path := x(c, s, &f).Join("f")
				want := map[bool]blocktree.Kind{true: blocktree.StaleView}[only]
				wantKind(t, what, does(t, s, o, codeMakeOpen, pathRequest{path: path, sizeBytes: 4096, flags: flagSpare, file: f.Spares[0], only: only}), want)
				if made := c.length(path) != -1 || len(s.kept.given) > 0; made == only {
					t.Errorf("%s, only %v: made: %v", what, only, made)
				}
				if d := s.kept.dirs[below("d")]; only && d.leaving {
					t.Errorf("%s: the directory is left", what)
				}
			})
		}
	}
}

// TestWholeOfStranger: who may not write in a directory has nothing made ahead for that; what he made while he might is his.
func TestWholeOfStranger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o, dir := ownerFor(s, somebody("ann")), below("d")
		wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: dir}), blocktree.Other)
		c.set(dir, func(n *fakeNode) { n.rights[somebody("bob").Principal] = List })
		_, _, err := wholes(t, s, ownerFor(s, somebody("bob")), dir.Join("f"), blocktree.FileID{}, "hello")
		wantKind(t, "whole", err, blocktree.Unsupported)
		if c.length(dir.Join("f")) != -1 || c.keeping(s).spares != 0 {
			t.Error("it was made")
		}
		asked := blocktree.FileID{Generation: 7, Inode: 7}
		i, _, err := wholesOf(t, s, o, dir.Join("f"), asked, "hello")
		wantKind(t, "by who may", err, blocktree.Other)
		c.set(dir, func(n *fakeNode) { n.rights[somebody("ann").Principal] = List })
		s.kept.drop(s.kept.dirs[dir])
		again, _, err := wholes(t, s, o, dir.Join("f"), i.ID, "hello")
		if err != nil || again.ID != i.ID {
			t.Errorf("what was done while he might: %+v, %v", again, err)
		}
		_, _, err = wholes(t, s, o, dir.Join("g"), asked, "hello")
		wantKind(t, "another", err, blocktree.Unsupported)
	})
}

// TestWholeIsAwaited: D7 of 0086. A service that stops waits for what is being made whole, but not for what hangs.
func TestWholeIsAwaited(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c, s := newKept(t)
			o, dir := ownerFor(s, somebody("ann")), below("d")
			filled(t, s, o, dir)
			stall, sent := make(chan struct{}), make(chan error, 1)
			c.stalls(stall)
			go func() {
				_, _, err := wholesOf(t, s, o, dir.Join("f"), blocktree.FileID{}, "hello")
				sent <- err
			}()
			synctest.Wait()
			begun := time.Now()
			go func() {
				time.Sleep(map[bool]time.Duration{false: blocktree.FSFillFor * 3 / 2, true: 3 * blocktree.FSFillFor}[hangs])
				close(stall)
			}()
			s.kept.stop()
			if took := time.Since(begun); took != map[bool]time.Duration{false: blocktree.FSFillFor * 3 / 2, true: 2 * blocktree.FSFillFor}[hangs] {
				t.Errorf("hangs %v: after %v", hangs, took)
			}
			synctest.Wait()
			if done := len(sent) == 1; done == hangs {
				t.Errorf("hangs %v: answered: %v", hangs, done)
			}
			wantKind(t, "whole", <-sent, blocktree.Other)
		})
	}
}

// TestWholesBeforeLeft: H2. A directory that another service wants is not left before what its filler had pending, and sends after his term, some at a time; but it is left though he goes on.
func TestWholesBeforeLeft(t *testing.T) {
	for _, files := range []int{2, 1000} {
		synctest.Test(t, func(t *testing.T) {
			c, s := newKept(t)
			o, dir := ownerFor(s, somebody("ann")), below("d")
			filled(t, s, o, dir)
			write, done := make(chan struct{}), make(chan struct{})
			c.stalls(write)
			close(c.dirsKept[dir].wanted)
			time.Sleep(blocktree.FSFillFor * 9 / 10)
			var sends sync.WaitGroup
			for at := range 2 { // a time
				sends.Go(func() {
					for i := 0; i < files && (files == 2 || c.keeps(dir)); i++ {
						_, _, err := wholesOf(t, s, o, dir.Join(fmt.Sprint(at, "-", i)), blocktree.FileID{}, "hello")
						wantKind(t, "whole", err, blocktree.Other)
					}
				})
			}
			go func() {
				sends.Wait()
				close(done)
			}()
			begun := time.Now()
			var writes sync.WaitGroup
			writes.Go(func() {
				for {
					time.Sleep(blocktree.FSFillFor / 5)
					select {
					case write <- struct{}{}:
					case <-done:
						return
					}
				}
			})
			for c.keeps(dir) && time.Since(begun) < time.Minute {
				time.Sleep(time.Millisecond)
			}
			for at := range 2 {
				if n := c.length(dir.Join(fmt.Sprint(at, "-", 1))); n != 5 {
					t.Errorf("%d files: it is left, and the last one ends at %d", files, n)
				}
			}
			if took := time.Since(begun); took > 2*blocktree.FSFillFor {
				t.Errorf("%d files: it is left after %v", files, took)
			}
			writes.Wait()
		})
	}
}

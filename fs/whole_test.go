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
					_, _, err := wholes(t, s, o, dir.Join(fmt.Sprint(i, "-", n)), blocktree.FileID{}, "hello")
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
		_, err := s.doPath(ctx, o, codeMakeWhole, &pathRequest{path: dir.Join("f"), sizeBytes: 4096, whole: &whole{content: []byte("hello")}})
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

// TestWholeByAnother: what a service made with a spare of its own, and could not answer, it knows when the same one asks for the same again; nobody else is told that it was his.
func TestWholeByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		path, asked := below("f"), blocktree.FileID{Generation: 7, Inode: 7}
		c.names(true, func(*spare) error { return blocktree.E("fake", blocktree.Unavailable, nil) })
		_, _, err := wholes(t, s, ownerFor(s, somebody("ann")), path, asked, "hello")
		wantKind(t, "whole", err, blocktree.Unavailable)
		c.names(false, nil)
		i, _, err := wholes(t, s, ownerFor(s, somebody("ann")), path, asked, "hello")
		if err != nil || i.ID != c.nodes[path].inode.ID || i.Length != 5 {
			t.Errorf("again: %+v, %v", i, err)
		}
		c.set(testRoot, func(n *fakeNode) { n.rights[somebody("bob").Principal] = List | Write })
		_, _, err = wholes(t, s, ownerFor(s, somebody("bob")), path, asked, "hello")
		wantKind(t, "another one", err, blocktree.Exists)
		_, _, err = wholes(t, s, ownerFor(s, somebody("ann")), path, blocktree.FileID{Generation: 7, Inode: 8}, "hello")
		wantKind(t, "another file", err, blocktree.Exists)
		for n := range uint64(2 * othersMax) {
			s.kept.noteOther(otherSpare{asked: blocktree.FileID{Inode: blocktree.Inode(n)}})
			time.Sleep(time.Millisecond)
		}
		if n := len(s.kept.others); n != othersMax || !s.kept.isOther(otherSpare{asked: blocktree.FileID{Inode: 2*othersMax - 1}}) {
			t.Errorf("%d are remembered", n)
		}
		time.Sleep(othersFor)
		if s.kept.isOther(otherSpare{asked: blocktree.FileID{Inode: 2*othersMax - 1}}) {
			t.Error("it is remembered for ever")
		}
	})
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
		if c.length(dir.Join("f")) != -1 || c.opened.Load() != 0 {
			t.Error("it was made")
		}
		asked := blocktree.FileID{Generation: 7, Inode: 7}
		i, _, err := wholes(t, s, o, dir.Join("f"), asked, "hello")
		wantKind(t, "by who may", err, blocktree.Other)
		c.set(dir, func(n *fakeNode) { n.rights[somebody("ann").Principal] = List })
		s.kept.drop(s.kept.dirs[dir])
		again, _, err := wholes(t, s, o, dir.Join("f"), asked, "hello")
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
				_, _, err := wholes(t, s, o, dir.Join("f"), blocktree.FileID{}, "hello")
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
						_, _, err := wholes(t, s, o, dir.Join(fmt.Sprint(at, "-", i)), blocktree.FileID{}, "hello")
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

package fs

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/blockdev/memfile"
)

// slowly has a request about a path wait at the cluster after it was done there, until it is let go.
func (c *keptFake) slowly(t *testing.T, s *Service, o *owner, code uint16, r pathRequest) (goOn func() error) {
	t.Helper()
	gate, done := make(chan struct{}), make(chan error, 1)
	c.mu.Lock()
	c.after = gate
	c.mu.Unlock()
	go func() { done <- does(t, s, o, code, r) }()
	synctest.Wait()
	c.mu.Lock()
	c.after = nil
	c.mu.Unlock()
	return func() error {
		close(gate)
		return <-done
	}
}

// TestKeptMaking: G1 and G2. What the keeper's word for another directory lets into one that is being made, or has it moved, before its maker has heard that it is made, is not forgotten: it is not kept then.
func TestKeptMaking(t *testing.T) {
	k, d := below("k"), below("d")
	for _, r := range []struct {
		pathRequest
		there blocktree.Path
	}{
		{pathRequest{path: k.Join("x"), to: d.Join("x")}, d.Join("x")},
		{pathRequest{path: d, to: k.Join("e")}, k.Join("e")},
		{pathRequest{path: k.Join("x"), to: k.Join("y")}, k.Join("y")}, // which has nothing to do with it
	} {
		for _, order := range []bool{false, true} { // which of the two hears first
			synctest.Test(t, func(t *testing.T) {
				c, s := newKept(t)
				o := ownerFor(s, somebody("ann"))
				wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: k}), blocktree.Other)
				wantKind(t, "another", does(t, s, o, codeCreate, pathRequest{path: k.Join("x")}), blocktree.Other)
				made := c.slowly(t, s, o, codeMkdir, pathRequest{path: d})
				moved := c.slowly(t, s, o, codeRename, r.pathRequest)
				if order {
					made, moved = moved, made
				}
				wantKind(t, "the first", made(), blocktree.Other)
				wantKind(t, "the second", moved(), blocktree.Other)
				if kept, other := c.keeps(d), r.there == k.Join("y"); kept != other {
					t.Errorf("rename to %s: it is kept: %v", r.to.Short(), kept)
				}
				if seen(t, s, o, r.there) < 0 {
					t.Errorf("%s is there, and not seen", r.there.Short())
				}
				c.same(t, s)
				wantKind(t, "make what is there", does(t, s, o, codeMakeOpen, pathRequest{path: r.there}), blocktree.Exists)
			})
		}
	}
}

// TestKeptDrains: G2. What is kept beneath a directory that is renamed is left before, also where it was made while the rename waited for a name, and what was given away there is not lost.
func TestKeptDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o := ownerFor(s, somebody("ann"))
		p := below("p")
		for _, dir := range []blocktree.Path{p, p.Join("a")} {
			wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: dir}), blocktree.Other)
		}
		wantKind(t, "a file", does(t, s, o, codeCreate, pathRequest{path: p.Join("b")}), blocktree.Other)
		first := c.slowly(t, s, o, codeRename, pathRequest{path: p.Join("b"), to: p.Join("q")})
		second := make(chan error, 1)
		go func() { second <- does(t, s, o, codeRename, pathRequest{path: p.Join("a"), to: p.Join("b")}) }()
		synctest.Wait()
		wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: p.Join("a").Join("x")}), blocktree.Other)
		a := makes(t, s, o, p.Join("a").Join("x").Join("f"))
		wantKind(t, "the first", first(), blocktree.Other)
		wantKind(t, "the second", <-second, blocktree.Other)
		if was, is := c.length(p.Join("a").Join("x").Join("f")), c.length(p.Join("b").Join("x").Join("f")); was >= 0 || is != 0 {
			t.Errorf("it ends at %d where it was, and at %d where it is", was, is)
		}
		_, err := a.ask(message{code: codeClose})
		wantKind(t, "its close", err, blocktree.Other)
		c.same(t, s)
	})
}

// TestKeptLeavesLater: G1. A directory is not left while it is not known whether a file has its name there, or else what its name was would come again after somebody has taken it; others are left meanwhile, and it is when that is known.
func TestKeptLeavesLater(t *testing.T) {
	for _, renamed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c, s := newKept(t)
			o := ownerFor(s, somebody("ann"))
			dir, path, a := keptDirOf(t, s, o)
			wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: below("e")}), blocktree.Other)
			c.names(true, func(*spare) error { return blocktree.E("fake", blocktree.Unavailable, nil) })
			if renamed {
				wantKind(t, "rename", does(t, s, o, codeRename, pathRequest{path: dir, to: below("x")}), blocktree.Unavailable)
			}
			time.Sleep(fileTimeout / 2)
			synctest.Wait()
			if !c.keeps(dir) || c.keeps(below("e")) {
				t.Errorf("it is kept: %v, another: %v", c.keeps(dir), c.keeps(below("e")))
			}
			c.names(false, nil)
			time.Sleep(2 * (blocktree.FSUnnamedMax + blocktree.FSKeptSweepEvery))
			synctest.Wait()
			if c.keeps(dir) {
				t.Error("it is kept yet")
			}
			_, err := a.ask(message{code: codeClose})
			wantKind(t, "its close", err, blocktree.Other)
			if n := c.length(path); n != 5 {
				t.Errorf("it ends at %d", n)
			}
			c.ended(t, s)
		})
	}
	synctest.Test(t, func(t *testing.T) { // nor for ever
		c, s := newKept(t)
		dir, _, _ := keptDirOf(t, s, ownerFor(s, somebody("ann")))
		c.names(false, func(*spare) error { return blocktree.E("fake", blocktree.Unavailable, nil) })
		time.Sleep(fileTimeout + 2*blocktree.FSUnnamedMax + 2*blocktree.FSKeptSweepEvery)
		synctest.Wait()
		if c.keeps(dir) {
			t.Error("it is kept for ever")
		}
		c.names(false, nil)
	})
}

// TestKeptLeavesBeside: G3. A directory with a name that nobody answers for does not keep others from being left.
func TestKeptLeavesBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o := ownerFor(s, somebody("ann"))
		dir, _, _ := keptDirOf(t, s, o)
		other := below("e")
		wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: other}), blocktree.Other)
		makes(t, s, o, other.Join("f"))
		c.mu.Lock()
		c.hangs = dir
		for _, d := range c.dirsKept {
			d.want.Do(func() { close(d.wanted) })
		}
		c.mu.Unlock()
		time.Sleep(3 * blocktree.FSKeptSweepEvery)
		synctest.Wait()
		if !c.keeps(dir) || c.keeps(other) || c.length(other.Join("f")) != 0 {
			t.Errorf("it is kept: %v, the other: %v", c.keeps(dir), c.keeps(other))
		}
		c.mu.Lock()
		c.hangs = ""
		c.mu.Unlock()
	})
}

// TestKeptFlushTold: G4. A flush that goes on while the name is refused, by the question of somebody else, says so, also of an empty file.
func TestKeptFlushTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o := ownerFor(s, somebody("ann"))
		path := below("d/f")
		wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: path.Parent()}), blocktree.Other)
		a := makes(t, s, o, path)
		c.names(false, func(*spare) error { return blocktree.E("fake", blocktree.Exists, nil) })
		c.mu.Lock()
		a.body.file.(*spare).n.hook = func(_ context.Context, call memfile.Call) error {
			if call.Op == memfile.Flush {
				_ = a.body.name(t.Context())
				c.names(false, nil)
			}
			return nil
		}
		c.mu.Unlock()
		_, err := a.ask(message{code: codeFlush})
		wantKind(t, "a flush", err, blocktree.Exists)
		if n := c.length(path); n >= 0 {
			t.Errorf("it ends at %d", n)
		}
	})
}

// TestKeptCloseTold: G4. The close of a file that failed before it had its name says that there is nothing of it.
func TestKeptCloseTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		_, path, a := keptDirOf(t, s, ownerFor(s, somebody("ann")))
		c.mu.Lock()
		a.body.file.(*spare).n.hook = func(_ context.Context, call memfile.Call) error {
			if call.Op == memfile.Write {
				return blocktree.E("fake", blocktree.Fenced, nil)
			}
			return nil
		}
		c.mu.Unlock()
		_, err := a.ask(message{code: codeWrite, data: []byte("!")})
		wantKind(t, "a write", err, blocktree.Fenced)
		_, err = a.ask(message{code: codeClose})
		wantKind(t, "its close", err, blocktree.Closed)
		if n := c.length(path); n >= 0 || c.keeping(s).spares != 0 {
			t.Errorf("it ends at %d", n)
		}
		c.same(t, s)
	})
}

// TestKeptNamedWrong: G2. A file that got its name, and of which an error says otherwise than that it was refused, is there for who asks.
func TestKeptNamedWrong(t *testing.T) {
	for _, kind := range []blocktree.Kind{blocktree.Corrupt, blocktree.IO, blocktree.Lost} {
		synctest.Test(t, func(t *testing.T) {
			c, s := newKept(t)
			o := ownerFor(s, somebody("ann"))
			_, path, _ := keptDirOf(t, s, o)
			c.names(true, func(*spare) error { return blocktree.E("fake", kind, nil) })
			if n := seen(t, s, o, path); n < 0 {
				t.Errorf("%v: it is there, and not seen", kind)
			}
			wantKind(t, "make it once more", does(t, s, o, codeMakeOpen, pathRequest{path: path}), blocktree.Exists)
			c.same(t, s)
		})
	}
}

// TestKeptStranger: who may not rename or remove a directory, or what is in it, has nobody leave it.
func TestKeptStranger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		dir, path, a := keptDirOf(t, s, ownerFor(s, somebody("ann")))
		for _, r := range []pathRequest{{path: dir, to: below("e")}, {path: path, to: below("e")}} {
			for _, code := range []uint16{codeRename, codeRemove} {
				if does(t, s, ownerFor(s, somebody("bob")), code, r) == nil {
					t.Errorf("%s of %s is done", nameOf(code), r.path.Short())
				}
				if k := c.keeping(s); !c.keeps(dir) || k.dirs != 1 || k.given != 1 {
					t.Errorf("%s of %s: %+v", nameOf(code), r.path.Short(), k)
				}
			}
		}
		_, err := a.ask(message{code: codeClose})
		wantKind(t, "its close", err, blocktree.Other)
	})
}

// TestKeptNoSpare: where there are no spares a directory is left at once: nobody is kept out of it for nothing.
func TestKeptNoSpare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o := ownerFor(s, somebody("ann"))
		wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: below("d")}), blocktree.Other)
		c.mu.Lock()
		c.unable = blocktree.Unsupported
		c.mu.Unlock()
		makes(t, s, o, below("d/f"))
		time.Sleep(2 * blocktree.FSKeptSweepEvery)
		synctest.Wait()
		if c.length(below("d/f")) != 0 || c.keeps(below("d")) {
			t.Error("it is kept yet")
		}
	})
}

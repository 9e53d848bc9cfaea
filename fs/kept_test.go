package fs

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/blockdev/memfile"
	"blocktree/cluster/meta"
)

// keptDirOf makes a directory that is kept, and a file of 5 bytes in it that has no name yet.
func keptDirOf(t *testing.T, s *Service, o *owner) (dir, path blocktree.Path, a *openFile) {
	t.Helper()
	dir = below("d")
	wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: dir}), blocktree.Other)
	path = dir.Join("f")
	a = makes(t, s, o, path)
	_, err := a.ask(message{code: codeWrite, data: []byte("hello")})
	wantKind(t, "a write", err, blocktree.Other)
	return dir, path, a
}

// TestKeptCosts: G6 of 0079, and 0087. In a directory that was made just now a small file is one command, and no question, also the first, with a look at its directory before each.
func TestKeptCosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o, dir := ownerFor(s, somebody("ann")), below("d")
		wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: dir}), blocktree.Other)
		c.asked()
		for i, ends := range [][]uint16{{codeWrite, codeFinish}, {codeWrite, codeFlush, codeClose}, {codeClose}, {codeFlush, codeClose}, {codeFinish}} {
			path := dir.Join(fmt.Sprint(i))
			wantKind(t, "a stat of the directory", does(t, s, o, codeStat, pathRequest{path: dir}), blocktree.Other)
			wantKind(t, "what is not there", does(t, s, o, codeStat, pathRequest{path: path}), blocktree.NotFound)
			a := makes(t, s, o, path)
			if n := c.length(path); n != -1 {
				t.Errorf("it ends at %d before it has a name", n)
			}
			for _, code := range ends {
				_, err := a.ask(message{code: code, data: []byte("hello")})
				wantKind(t, nameOf(code), err, blocktree.Other)
			}
			if n, want := c.length(path), map[bool]int{true: 5}[slices.Contains(ends, codeWrite)]; n != want {
				t.Errorf("%d: it ends at %d", i, n)
			}
			if got := c.asked(); got != "1 commands, 0 questions" {
				t.Errorf("%d: %s", i, got)
			}
		}
		synctest.Wait()
		c.same(t, s)
		if c.spares != 0 || s.OpenFiles() != 0 || len(s.sharing.files) != 0 {
			t.Errorf("%d spares, %d open", c.spares, s.OpenFiles())
		}
		c.ended(t, s)
	})
}

// TestKeptSettles: whoever asks for a file that has no name yet, by any way, finds it as it was written.
func TestKeptSettles(t *testing.T) {
	dir, path, other := below("d"), below("d/f"), below("d/g")
	for _, r := range []struct {
		code uint16
		pathRequest
		want blocktree.Kind
		at   blocktree.Path // where it is then
	}{
		{codeStat, pathRequest{path: path}, 0, path},
		{codeList, pathRequest{path: dir}, 0, path},
		{codeOpen, pathRequest{path: path}, 0, path},
		{codeOpen, pathRequest{path: path, flags: flagWrite}, 0, path},
		{codeTruncate, pathRequest{path: path, sizeBytes: 5}, 0, path},
		{codeLength, pathRequest{path: path, sizeBytes: 5}, 0, path},
		{codeResize, pathRequest{path: path, sizeBytes: 8192}, blocktree.Exists, path},
		{codeSetTimes, pathRequest{path: path}, 0, path},
		{codeSetTimes, pathRequest{path: dir}, 0, path},
		{codeSetTimes, pathRequest{path: other, attr: attrRequest{file: blocktree.FileID{Generation: 1, Inode: 1 << 20}}}, 0, path},
		{codeListXattr, pathRequest{path: path}, 0, path},
		{codeSpace, pathRequest{path: path}, 0, path},
		{codeWatch, pathRequest{path: dir}, 0, path},
		{codeCreate, pathRequest{path: path}, blocktree.Exists, path},
		{codeMakeOpen, pathRequest{path: path}, blocktree.Exists, path},
		{codeMkdir, pathRequest{path: path}, blocktree.Exists, path},
		{codeSymlink, pathRequest{path: path}, blocktree.Exists, path},
		{codeRename, pathRequest{path: path, to: other}, 0, other},
		{codeRename, pathRequest{path: dir, to: below("e")}, 0, below("e/f")},
		{codeRemove, pathRequest{path: dir}, blocktree.Busy, path},
		{codeRemove, pathRequest{path: path}, 0, ""},
		{codeRemoveFile, pathRequest{path: path, file: blocktree.FileID{Generation: 1, Inode: 1 << 20}}, 0, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, s := newKept(t)
			o := ownerFor(s, somebody("ann"))
			wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: dir}), blocktree.Other)
			c.lastID = 1<<20 - 1
			a := makes(t, s, o, path)
			_, err := a.ask(message{code: codeWrite, data: []byte("hello")})
			wantKind(t, "a write", err, blocktree.Other)
			wantKind(t, fmt.Sprintf("%s of %s", nameOf(r.code), r.path.Short()), does(t, s, o, r.code, r.pathRequest), r.want)
			if r.at != "" && (c.length(r.at) < 0 || seen(t, s, o, r.at) != 5) {
				t.Errorf("%s of %s: it ends at %d, and here at %d", nameOf(r.code), r.path.Short(), c.length(r.at), seen(t, s, o, r.at))
			}
			synctest.Wait()
			if k := c.keeping(s); k.given != 0 || k.spares != 0 {
				t.Errorf("%s of %s: %+v", nameOf(r.code), r.path.Short(), k)
			}
			_, err = a.ask(message{code: codeWrite, data: []byte("!"), off: 5})
			wantKind(t, "a write after that", err, blocktree.Other)
			if r.at != "" {
				_, err = a.ask(message{code: codeFinish})
				wantKind(t, "its close", err, blocktree.Other)
			}
			if r.at != "" && c.length(r.at) != 6 {
				t.Errorf("%s of %s: it is closed with %d bytes", nameOf(r.code), r.path.Short(), c.length(r.at))
			}
			c.same(t, s)
			o.end()
			c.ended(t, s)
		})
	}
}

// TestKeptOther: what has nothing to do with a file that has no name yet leaves it so; what needs the name, by its handle, gets it.
func TestKeptOther(t *testing.T) {
	for _, r := range []struct {
		message
		named bool
	}{
		{message{code: codeRead, count: 5}, false}, {message{code: codeFileStat}, false}, {message{code: codeAppend, data: []byte("!")}, false},
		{message{code: codePunch, count: 1}, false}, {message{code: codeLock, lock: lockRequest{op: lockTake, bytes: 1}}, false},
		{message{code: codeFlush}, true}, {message{code: codeCut, off: 2}, true}, {message{code: codeAllocate, off: 9}, true},
		{message{code: codeWrite, off: 8000, data: []byte("!")}, true}, // more than it has room for
	} {
		synctest.Test(t, func(t *testing.T) {
			c, s := newKept(t)
			o := ownerFor(s, somebody("ann"))
			dir, path, a := keptDirOf(t, s, o)
			wantKind(t, "another", does(t, s, o, codeMkdir, pathRequest{path: dir.Join("sub")}), blocktree.Other)
			wantKind(t, "its directory", does(t, s, o, codeStat, pathRequest{path: dir}), blocktree.Other)
			_, err := a.ask(r.message)
			wantKind(t, nameOf(r.code), err, blocktree.Other)
			if c.length(path) >= 0 != r.named {
				t.Errorf("%s: it ends at %d", nameOf(r.code), c.length(path))
			}
			c.number.Add(1) // somebody's right has gone
			_, err = a.ask(message{code: codeRead, count: 1})
			wantKind(t, "a read after that", err, blocktree.Other)
			if c.length(path) < 0 {
				t.Error("it was judged without a name")
			}
		})
	}
}

// TestKeptInTime: what is not closed has its name after FSUnnamedMax, and nothing is kept for longer than it is used, or wanted.
func TestKeptInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o := ownerFor(s, somebody("ann"))
		dir, path, a := keptDirOf(t, s, o)
		time.Sleep(blocktree.FSUnnamedMax - blocktree.FSKeptSweepEvery)
		synctest.Wait()
		if n := c.length(path); n >= 0 {
			t.Errorf("it is named already, with %d bytes", n)
		}
		_, err := makes(t, s, o, dir.Join("another")).ask(message{code: codeClose}) // else it is left
		wantKind(t, "a close", err, blocktree.Other)
		time.Sleep(2*blocktree.FSKeptSweepEvery + 1)
		synctest.Wait()
		if n := c.length(path); n != 0 { // nothing of it was flushed
			t.Errorf("it ends at %d", n)
		}
		for range 10 { // as long as something is made
			time.Sleep(blocktree.FSKeptIdleMax * 3 / 4)
			b := makes(t, s, o, dir.Join(fmt.Sprint(time.Now().UnixNano())))
			_, err := b.ask(message{code: codeClose})
			wantKind(t, "a close", err, blocktree.Other)
		}
		synctest.Wait()
		if !c.keeps(dir) {
			t.Error("it is left")
		}
		_, _ = a.ask(message{code: codeClose})
		c.ended(t, s)
		synctest.Wait()
		if !slices.Equal(c.left, []blocktree.Path{dir}) || len(c.dirsKept) > 0 {
			t.Errorf("%v are left", c.left)
		}
	})
}

// TestKeptWanted: G3. Who wants a name of a kept directory gets it soon, after what was given away there.
func TestKeptWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o := ownerFor(s, somebody("ann"))
		dir, path, _ := keptDirOf(t, s, o)
		_, err := c.Create(t.Context(), somebody("ann"), dir.Join("theirs"), CreateOptions{})
		wantKind(t, "another's, at once", err, blocktree.Busy)
		time.Sleep(2 * blocktree.FSKeptSweepEvery)
		synctest.Wait()
		_, err = c.Create(t.Context(), somebody("ann"), dir.Join("theirs"), CreateOptions{})
		wantKind(t, "another's, soon", err, blocktree.Other)
		if n := c.length(path); n != 0 {
			t.Errorf("what was given away ends at %d", n)
		}
		c.refused = nil
		wantKind(t, "a stat", does(t, s, o, codeStat, pathRequest{path: dir.Join("theirs")}), blocktree.Other)
		c.asked()
		makes(t, s, o, dir.Join("ours"))
		synctest.Wait()
		if got := c.asked(); got != "1 commands, 0 questions" || c.spares != 0 {
			t.Errorf("one made as any is %s", got)
		}
		for range 2 {
			for _, p := range []blocktree.Path{path, dir.Join("theirs"), dir.Join("ours"), dir} {
				if c.length(p) >= 0 {
					wantKind(t, "remove", does(t, s, o, codeRemove, pathRequest{path: p}), blocktree.Other)
				}
			}
			wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: dir}), blocktree.Other)
			synctest.Wait()
			if !c.keeps(dir) {
				t.Error("one that is made anew is not kept")
			}
		}
		c.ended(t, s)
	})
}

// TestKeptRefused: G1 and G5. A name that the cluster refuses is told to whoever has the file open, once and for all, whoever asked for it; and of one of which nobody knows it is asked again.
func TestKeptRefused(t *testing.T) {
	for _, kind := range []blocktree.Kind{blocktree.Permission, blocktree.Exists, blocktree.NotFound, blocktree.Fenced, blocktree.NoSpace} {
		for _, by := range []uint16{codeFlush, codeFinish, codeClose, codeStat, 0} {
			synctest.Test(t, func(t *testing.T) {
				c, s := newKept(t)
				o := ownerFor(s, somebody("ann"))
				_, path, a := keptDirOf(t, s, o)
				c.names(false, func(*spare) error { return blocktree.E("fake", kind, nil) })
				switch by {
				case codeStat:
					wantKind(t, "a stat", does(t, s, o, codeStat, pathRequest{path: path}), blocktree.NotFound)
				case 0:
					time.Sleep(blocktree.FSUnnamedMax + 2*blocktree.FSKeptSweepEvery)
				default:
					_, err := a.ask(message{code: by})
					wantKind(t, nameOf(by), err, kind)
				}
				synctest.Wait()
				c.names(false, nil)
				if by != codeFinish && by != codeClose {
					for _, m := range []message{{code: codeWrite, data: []byte("!")}, {code: codeFlush}, {code: codeClose}} {
						_, err := a.ask(m)
						wantKind(t, nameOf(m.code)+" after "+fmt.Sprint(by), err, kind)
					}
				}
				synctest.Wait()
				wantKind(t, "a stat after that", does(t, s, o, codeStat, pathRequest{path: path}), blocktree.NotFound)
				if c.spares != 0 || c.opened.Load() != 0 {
					t.Errorf("%d spares, %d open", c.spares, c.opened.Load())
				}
				c.same(t, s)
				c.ended(t, s)
			})
		}
	}
}

// TestKeptUnknown: where nobody knows whether a file has its name it is asked again, done or not, and the directory is left, as nobody knows its names.
func TestKeptUnknown(t *testing.T) {
	for _, late := range []bool{false, true} {
		for _, by := range []uint16{codeFlush, codeFinish, codeStat, 0} {
			synctest.Test(t, func(t *testing.T) {
				c, s := newKept(t)
				o := ownerFor(s, somebody("ann"))
				dir, path, a := keptDirOf(t, s, o)
				c.names(late, func(*spare) error { return blocktree.E("fake", blocktree.Unavailable, nil) })
				switch by {
				case codeStat:
					wantKind(t, "a stat", does(t, s, o, codeStat, pathRequest{path: path}), blocktree.Unavailable)
				case 0:
					time.Sleep(blocktree.FSUnnamedMax + 2*blocktree.FSKeptSweepEvery)
				default:
					_, err := a.ask(message{code: by})
					wantKind(t, nameOf(by), err, blocktree.Unavailable)
				}
				synctest.Wait()
				c.names(false, nil)
				if by != codeFinish {
					_, err := a.ask(message{code: codeFlush})
					wantKind(t, "a flush after that", err, blocktree.Other)
					if n := c.length(path); n != 5 {
						t.Errorf("it ends at %d", n)
					}
					_, err = a.ask(message{code: codeClose})
					wantKind(t, "its close", err, blocktree.Other)
				}
				time.Sleep(2 * blocktree.FSKeptSweepEvery)
				synctest.Wait()
				if c.keeps(dir) {
					t.Error("the directory is kept yet")
				}
				c.ended(t, s)
			})
		}
	}
}

// TestKeptFinishFlushes: H4 of 0067, where a file got its name by somebody else's question, with the end that it has: what was written over since is flushed.
func TestKeptFinishFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o := ownerFor(s, somebody("ann"))
		_, path, a := keptDirOf(t, s, o)
		c.names(false, func(*spare) error { return blocktree.E("fake", blocktree.Unavailable, nil) })
		_, err := a.ask(message{code: codeFlush})
		wantKind(t, "a flush", err, blocktree.Unavailable)
		c.names(false, nil)
		wantKind(t, "a stat", does(t, s, o, codeStat, pathRequest{path: path}), blocktree.Other)
		_, err = a.ask(message{code: codeWrite, data: []byte("HELLO")})
		wantKind(t, "a write", err, blocktree.Other)
		flushes := 0
		c.flushHook(path, func(context.Context) error { flushes++; return nil })
		_, err = a.ask(message{code: codeFinish})
		wantKind(t, "its end", err, blocktree.Other)
		if flushes == 0 || c.length(path) != 5 {
			t.Errorf("%d flushes, it ends at %d", flushes, c.length(path))
		}
	})
}

// TestKeptFlushFails: a file that cannot be flushed has no name with an end for bytes that are not there, and its close says so.
func TestKeptFlushFails(t *testing.T) {
	for _, by := range []uint16{codeFlush, codeFinish, codeClose, codeStat, 0} {
		synctest.Test(t, func(t *testing.T) {
			c, s := newKept(t)
			o := ownerFor(s, somebody("ann"))
			_, path, a := keptDirOf(t, s, o)
			c.mu.Lock()
			a.body.file.(*spare).n.hook = func(_ context.Context, call memfile.Call) error {
				if call.Op == memfile.Flush {
					return blocktree.E("fake", blocktree.IO, nil)
				}
				return nil
			}
			c.mu.Unlock()
			switch by {
			case codeStat:
				wantKind(t, "a stat", does(t, s, o, codeStat, pathRequest{path: path}), blocktree.Other)
			case 0:
				time.Sleep(blocktree.FSUnnamedMax + 2*blocktree.FSKeptSweepEvery)
			default:
				_, err := a.ask(message{code: by})
				wantKind(t, nameOf(by), err, blocktree.IO)
			}
			synctest.Wait()
			if by != codeFinish && by != codeClose {
				_, err := a.ask(message{code: codeClose})
				wantKind(t, "its close", err, blocktree.IO)
			}
			if n := c.length(path); n > 0 || (n == 0) != (by == codeStat || by == 0) {
				t.Errorf("after %d it ends at %d", by, n)
			}
			synctest.Wait()
			c.same(t, s)
		})
	}
}

// TestKeptEnds: what is open when its owner goes, or the service stops, is closed, with its name; what was not given away has none.
func TestKeptEnds(t *testing.T) {
	for _, service := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c, s := newKept(t)
			o := ownerFor(s, somebody("ann"))
			dir, path, _ := keptDirOf(t, s, o)
			full := ownerFor(s, somebody("ann"))
			full.filesMax = 0
			wantKind(t, "too many", does(t, s, full, codeMakeOpen, pathRequest{path: dir.Join("none")}), blocktree.TooLarge)
			synctest.Wait()
			if k := c.keeping(s); k.given != 1 || k.spares != 1 {
				t.Errorf("%+v", k)
			}
			if service {
				_ = s.Close()
			} else {
				o.end()
			}
			synctest.Wait()
			if c.length(path) != 5 || c.length(dir.Join("none")) >= 0 || c.spares != 0 || c.opened.Load() != 0 {
				t.Errorf("%d and %d bytes, %d spares", c.length(path), c.length(dir.Join("none")), c.spares)
			}
			if service && c.keeps(dir) {
				t.Error("the directory is kept yet")
			}
			c.same(t, s)
		})
	}
}

// TestKeptRights: G5. Who may not make files in a directory is not given any, nor told what is not there; and it is asked again in time, and when somebody's right has gone.
func TestKeptRights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		ann, bob := ownerFor(s, somebody("ann")), ownerFor(s, somebody("bob"))
		dir, _, _ := keptDirOf(t, s, ann)
		wantKind(t, "bob makes one", does(t, s, bob, codeMakeOpen, pathRequest{path: dir.Join("b")}), blocktree.Permission)
		c.set(dir, func(n *fakeNode) { n.rights[somebody("bob").Principal] = Write })
		c.number.Add(1)
		wantKind(t, "bob makes one", does(t, s, bob, codeMakeOpen, pathRequest{path: dir.Join("b")}), blocktree.Other)
		c.asked()
		wantKind(t, "bob may not list", does(t, s, bob, codeStat, pathRequest{path: dir.Join("x")}), blocktree.NotFound)
		if got := c.asked(); got != "0 commands, 1 questions" { // which the cluster answers
			t.Error(got)
		}
		wantKind(t, "ann may", does(t, s, ann, codeStat, pathRequest{path: dir.Join("x")}), blocktree.NotFound)
		ann.end()
		bob.end()
		ann = ownerFor(s, somebody("ann"))
		wantKind(t, "ann may", does(t, s, ann, codeStat, pathRequest{path: dir.Join("x")}), blocktree.NotFound)
		synctest.Wait()
		c.asked()
		for want, moves := range map[string]func(){"0 commands, 0 questions": func() {}, "0 commands, 1 questions": func() { c.number.Add(1) }} {
			moves()
			wantKind(t, "ann may", does(t, s, ann, codeStat, pathRequest{path: dir.Join("x")}), blocktree.NotFound)
			if got := c.asked(); got != want {
				t.Errorf("%s, not %s", got, want)
			}
		}
		for range 15 { // for longer than FSJudgeEvery
			time.Sleep(blocktree.FSKeptIdleMax - 2*blocktree.FSKeptSweepEvery)
			_, err := makes(t, s, ann, dir.Join(fmt.Sprint(time.Now().UnixNano()))).ask(message{code: codeClose})
			wantKind(t, "a close", err, blocktree.Other)
		}
		if looks := c.looks.Load(); looks != 1 {
			t.Errorf("%d questions in that time", looks)
		}
		c.set(dir, func(n *fakeNode) { n.rights = map[blocktree.Principal]Rights{somebody("ann").Principal: List} })
		c.number.Add(1)
		wantKind(t, "ann makes one", does(t, s, ann, codeMakeOpen, pathRequest{path: dir.Join("c")}), blocktree.Permission)
		c.same(t, s)
	})
}

// TestKeptNot: without a spare, with a version before, when the session is not certain, or where another directory has the path, all is as for any directory.
func TestKeptNot(t *testing.T) {
	for name, change := range map[string]func(*keptFake){
		"no spare": func(c *keptFake) { c.unable = blocktree.Unsupported },
		"lapses":   func(c *keptFake) { c.lapses = true },
		"lapsed": func(c *keptFake) {
			c.dirsKept[below("d")].lost = true
			c.nodes[below("d/theirs")] = c.new(below("d/theirs"), meta.KindFile, somebody("ann"))
		},
		"replaced": func(c *keptFake) {
			c.nodes[below("d")].inode.ID.Inode += 1000
			c.number.Add(1) // else nobody is asked
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, s := newKept(t)
			o, path := ownerFor(s, somebody("ann")), below("d/f")
			wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: below("d")}), blocktree.Other)
			c.mu.Lock()
			change(c)
			theirs := c.nodes[below("d/theirs")] != nil
			c.naming = func(f *spare) error {
				t.Errorf("%s: %s is named", name, f.path.Short())
				return nil
			}
			c.mu.Unlock()
			if there := seen(t, s, o, below("d/theirs")) >= 0; there != theirs {
				t.Errorf("%s: what somebody else made is there: %v", name, there)
			}
			wantKind(t, "a stat", does(t, s, o, codeStat, pathRequest{path: path}), blocktree.NotFound)
			a := makes(t, s, o, path)
			synctest.Wait()
			if c.length(path) != 0 || c.keeping(s).spares != 0 {
				t.Errorf("%s: it ends at %d", name, c.length(path))
			}
			_, err := a.ask(message{code: codeClose})
			wantKind(t, "its close", err, blocktree.Other)
			synctest.Wait()
			if name != "lapsed" {
				c.same(t, s)
			}
			c.ended(t, s)
		})
	}
	for _, older := range []bool{true, false} { // or it is said that none are to be kept
		synctest.Test(t, func(t *testing.T) {
			c, s := newKept(t)
			if c.older = older; !older {
				s = newTestService(t, c.fake, func(o *Config) { o.Cluster, o.KeepNoNames = c, true })
			}
			o := ownerFor(s, somebody("ann"))
			wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: below("d")}), blocktree.Other)
			if c.length(below("d")) < 0 || !s.kept.idle() || c.keeps(below("d")) {
				t.Errorf("of a version before: %v; it is kept", older)
			}
			c.asked()
			makes(t, s, o, below("d/f"))
			if got := c.asked(); c.length(below("d/f")) != 0 || got != "1 commands, 0 questions" {
				t.Errorf("of a version before: %v; a file is %s", older, got)
			}
		})
	}
}

// TestKeptBounds: no more is remembered than that, and what is too much is done as before.
func TestKeptBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o := ownerFor(s, somebody("ann"))
		for i := range blocktree.FSKeptDirsMax + 10 {
			wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: below(fmt.Sprint(i))}), blocktree.Other)
		}
		if k := c.keeping(s); k != (keeping{dirs: blocktree.FSKeptDirsMax, theirs: blocktree.FSKeptDirsMax}) {
			t.Errorf("%+v", k)
		}
		c.ended(t, s)
		dir, _, _ := keptDirOf(t, s, o)
		s.kept.mu.Lock()
		for i := len(s.kept.dirs[dir].names); i < blocktree.FSKeptNamesMax; i++ {
			s.kept.add(s.kept.dirs[dir], fmt.Sprint("n", i))
		}
		s.kept.mu.Unlock()
		wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: below("x")}), blocktree.Other)
		if k := c.keeping(s); k.dirs != 1 {
			t.Errorf("%+v", k)
		}
		makes(t, s, o, dir.Join("last"))
		time.Sleep(2 * blocktree.FSKeptSweepEvery)
		synctest.Wait()
		if k := c.keeping(s); k.dirs != 0 || k.names != 0 {
			t.Errorf("%+v", k)
		}
	})
}

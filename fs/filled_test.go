package fs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/blockdev/memfile"
)

// fills asks to fill a directory.
func fills(t testing.TB, s *Service, o *owner, dir blocktree.Path, spares uint32) (Filling, error) {
	t.Helper()
	b, err := s.doPath(t.Context(), o, codeFill, &pathRequest{path: dir, sizeBytes: 4096, limit: spares})
	if err != nil {
		return Filling{}, err
	}
	f, err := decodeFilling(b)
	if err != nil {
		t.Fatal(err)
	}
	return f, nil
}

// wholes makes a whole file, of a spare that is not zero.
func wholes(t testing.TB, s *Service, o *owner, path blocktree.Path, spare blocktree.FileID, content string) (Info, Filling, error) {
	t.Helper()
	r := pathRequest{path: path, sizeBytes: 4096, whole: &whole{content: []byte(content)}, only: true}
	if r.file = spare; spare != (blocktree.FileID{}) {
		r.flags = flagSpare
	}
	b, err := s.doPath(t.Context(), o, codeMakeWhole, &r)
	if err != nil {
		return Info{}, Filling{}, err
	}
	i, f, err := decodeMadeWhole(b)
	if err != nil && err != ErrOtherSpare {
		t.Fatal(err)
	}
	return i, f, err
}

// filled has an owner make a directory and fill it.
func filled(t testing.TB, s *Service, o *owner, dir blocktree.Path) Filling {
	t.Helper()
	if err := does(t, s, o, codeMkdir, pathRequest{path: dir}); err != nil {
		t.Fatal(err)
	}
	f, err := fills(t, s, o, dir, 4)
	if err != nil || f.Term != blocktree.FSFillFor || len(f.Spares) != 4 {
		t.Fatalf("%+v, %v", f, err)
	}
	return f
}

// TestFillCosts: H7 of 0086. In a directory that its maker fills a file is one request and one command, and no question, has the identity that was promised, and its answer goes on with the term and the spares.
func TestFillCosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o, dir := ownerFor(s, somebody("ann")), below("d")
		spares := filled(t, s, o, dir).Spares
		c.asked()
		for i := range 20 {
			path, content := dir.Join(fmt.Sprint(i)), "hello"[:i%6]
			info, f, err := wholes(t, s, o, path, spares[0], content)
			if err != nil || info.ID != spares[0] || info.Length != uint64(len(content)) || c.length(path) != len(content) {
				t.Fatalf("%d: %+v, %v, it ends at %d", i, info, err, c.length(path))
			}
			if f.Term != blocktree.FSFillFor || len(f.Spares) != 1 {
				t.Errorf("%d: it goes on with %+v", i, f)
			}
			spares = append(spares[1:], f.Spares...)
			if got := c.asked(); got != "1 commands, 0 questions" {
				t.Errorf("%d: %s", i, got)
			}
			time.Sleep(blocktree.FSKeptIdleMax / 2) // it is not idle
		}
		got := make([]byte, 512)
		if err := c.nodes[dir.Join("5")].mem.ReadSectors(t.Context(), 0, got); err != nil || string(got[:6]) != "hello\x00" {
			t.Errorf("%q, %v", got[:6], err)
		}
		c.same(t, s)
		if n := c.keeping(s).spares; n != 4 {
			t.Errorf("%d spares", n)
		}
		o.end()
		c.ended(t, s)
		if n := c.keeping(s).spares; n != 0 || c.opened.Load() != 0 {
			t.Errorf("%d spares, %d open", n, c.opened.Load())
		}
	})
}

// TestFillOthersWait: H1 and H2. Whoever else asks for what is in the directory, or changes it, waits until the term has run out, and finds what was made until then; from then on nobody fills it. The one who fills it waits for nothing.
func TestFillOthersWait(t *testing.T) {
	dir, path, late := below("d"), below("d/f"), below("d/late")
	for _, r := range []struct {
		code uint16
		pathRequest
		want blocktree.Kind
		own  bool // the one who fills it may go on after that
	}{
		{codeStat, pathRequest{path: late}, 0, true},
		{codeStat, pathRequest{path: below("d/none")}, blocktree.NotFound, true},
		{codeList, pathRequest{path: dir}, 0, true},
		{codeOpen, pathRequest{path: late}, 0, true},
		{codeSetTimes, pathRequest{path: dir}, 0, true},
		{codeListXattr, pathRequest{path: late}, 0, true},
		{codeWatch, pathRequest{path: dir}, 0, true},
		{codeCreate, pathRequest{path: late}, blocktree.Exists, true},
		{codeMakeOpen, pathRequest{path: late, sizeBytes: 4096}, blocktree.Exists, true},
		{codeMakeWhole, pathRequest{path: late, sizeBytes: 4096, whole: &whole{content: []byte("other")}}, blocktree.Exists, true},
		{codeMkdir, pathRequest{path: late}, blocktree.Exists, true},
		{codeRemove, pathRequest{path: late}, 0, true},
		{codeRename, pathRequest{path: late, to: below("d/g")}, 0, true},
		{codeRename, pathRequest{path: below("x"), to: late}, 0, true},
		{codeRename, pathRequest{path: dir, to: below("e")}, 0, false},
		{codeRemove, pathRequest{path: dir}, blocktree.Busy, false},
	} {
		for _, own := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				c, s := newKept(t)
				o, other := ownerFor(s, somebody("ann")), ownerFor(s, somebody("ann"))
				wantKind(t, "another file", does(t, s, o, codeCreate, pathRequest{path: below("x")}), blocktree.Other)
				f := filled(t, s, o, dir)
				begun, done := time.Now(), make(chan time.Duration, 1)
				if own {
					other = o
					_, _, err := wholes(t, s, o, late, f.Spares[0], "late")
					wantKind(t, "what is pending", err, blocktree.Other)
				}
				go func() {
					wantKind(t, fmt.Sprintf("%s of %s, own %v", nameOf(r.code), r.path.Short(), own), does(t, s, other, r.code, r.pathRequest), r.want)
					done <- time.Since(begun)
				}()
				if !own {
					time.Sleep(blocktree.FSFillFor / 2)
					if _, err := fills(t, s, o, dir, 1); blocktree.KindOf(err) != blocktree.Unsupported {
						t.Errorf("%s: it is filled yet: %v", nameOf(r.code), err)
					}
					i, next, err := wholes(t, s, o, late, f.Spares[0], "late")
					if err != nil || i.ID != f.Spares[0] || next.Term != 0 || len(next.Spares) != 0 {
						t.Errorf("%s: what was pending: %+v, %+v, %v", nameOf(r.code), i, next, err)
					}
				}
				if took := <-done; took != map[bool]time.Duration{false: blocktree.FSFillFor}[own] {
					t.Errorf("%s of %s, own %v: after %v", nameOf(r.code), r.path.Short(), own, took)
				}
				if _, err := fills(t, s, o, dir, 1); (err == nil) != (own && r.own) {
					t.Errorf("%s, own %v: %v", nameOf(r.code), own, err)
				}
				if own || r.code == codeRename || r.code == codeRemove {
					return
				}
				_, _, err := wholes(t, s, o, path, f.Spares[1], "x") // after the term, too
				wantKind(t, "whole after "+nameOf(r.code), err, blocktree.Other)
				c.same(t, s)
			})
		}
	}
}

// TestFillMakes: `make` with a spare, while others wait, has its identity, too, and others find it.
func TestFillMakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o, other, dir := ownerFor(s, somebody("ann")), ownerFor(s, somebody("ann")), below("d")
		f := filled(t, s, o, dir)
		renamed := make(chan error, 1)
		go func() { renamed <- does(t, s, other, codeRename, pathRequest{path: dir, to: below("e")}) }()
		synctest.Wait()
		b, err := s.doPath(t.Context(), o, codeMakeOpen, &pathRequest{path: dir.Join("f"), sizeBytes: 4096, flags: flagSpare, file: f.Spares[2]})
		if err != nil {
			t.Fatal(err)
		}
		handle, info, err := decodeOpened(b)
		if err != nil || info.ID != f.Spares[2] {
			t.Errorf("%+v, %v", info, err)
		}
		_, err = o.find(handle).open.ask(message{code: codeWrite, data: []byte("hello")})
		wantKind(t, "a write", err, blocktree.Other)
		wantKind(t, "the rename", <-renamed, blocktree.Other)
		_, err = o.find(handle).open.ask(message{code: codeFinish})
		wantKind(t, "a finish", err, blocktree.Other)
		if c.length(below("e/f")) != 5 {
			t.Error("it is not there")
		}
		dir = below("h")
		spares := filled(t, s, o, dir).Spares
		b, err = s.doPath(t.Context(), o, codeMakeOpen, &pathRequest{path: dir.Join("g"), sizeBytes: 4096, flags: flagSpare, file: f.Spares[2]})
		if err != nil {
			t.Fatal(err)
		}
		if _, info, err = decodeOpened(b); err != nil || info.ID == f.Spares[2] || slices.Contains(spares, info.ID) {
			t.Errorf("a spare that was used: %+v, %v", info, err)
		}
	})
}

// TestFillNot: who may not fill a directory is told so, and it is all as before.
func TestFillNot(t *testing.T) {
	dir := below("d")
	for name, may := range map[string]func(c *keptFake, s *Service, o *owner) (*owner, blocktree.Path){
		"another": func(_ *keptFake, s *Service, _ *owner) (*owner, blocktree.Path) {
			return ownerFor(s, somebody("ann")), dir
		},
		"elsewhere": func(_ *keptFake, _ *Service, o *owner) (*owner, blocktree.Path) { return o, below("e") },
		"no spares": func(c *keptFake, _ *Service, o *owner) (*owner, blocktree.Path) { c.atHand = 0; return o, dir },
		"no room": func(c *keptFake, _ *Service, o *owner) (*owner, blocktree.Path) {
			c.room = blocktree.FSFillRoomBytes - 1
			return o, dir
		},
		"unknown": func(c *keptFake, _ *Service, o *owner) (*owner, blocktree.Path) { c.room = 0; return o, dir },
		"lost": func(c *keptFake, _ *Service, o *owner) (*owner, blocktree.Path) {
			c.dirsKept[dir].lost = true
			return o, dir
		},
		"wanted": func(c *keptFake, _ *Service, o *owner) (*owner, blocktree.Path) {
			close(c.dirsKept[dir].wanted)
			return o, dir
		},
		"no right": func(c *keptFake, _ *Service, o *owner) (*owner, blocktree.Path) {
			c.revoke(dir, o.caller(), true)
			return o, dir
		},
		"not kept": func(c *keptFake, s *Service, o *owner) (*owner, blocktree.Path) {
			s.cfg.KeepNoNames = true
			return o, below("g")
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, s := newKept(t)
			o := ownerFor(s, somebody("ann"))
			wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: dir}), blocktree.Other)
			who, where := may(c, s, o)
			if where != dir {
				wantKind(t, "mkdir", does(t, s, ownerFor(s, somebody("ann")), codeMkdir, pathRequest{path: where}), blocktree.Other)
			}
			_, err := fills(t, s, who, where, 4)
			wantKind(t, name, err, blocktree.Unsupported)
			if n := c.keeping(s).spares; n != 0 {
				t.Errorf("%s: %d spares", name, n)
			}
			if _, _, err := wholesOf(t, s, who, where.Join("f"), blocktree.FileID{Generation: 9, Inode: 9}, "hello"); (err != nil) != (name == "no right" || name == "not kept" || name == "no spares") {
				t.Errorf("%s: a whole file: %v", name, err)
			}
		})
	}
}

// TestFillRoom: what fills the cluster ends when there is little room left, soon after that is known.
func TestFillRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o, dir := ownerFor(s, somebody("ann")), below("d")
		filled(t, s, o, dir)
		c.mu.Lock()
		c.room = blocktree.FSFillRoomBytes - 1
		c.mu.Unlock()
		begun := time.Now()
		for i := 0; ; i++ {
			_, f, err := wholesOf(t, s, o, dir.Join(fmt.Sprint(i)), blocktree.FileID{}, "hello")
			if err != nil {
				t.Fatal(err)
			}
			if f.Term == 0 {
				break
			}
			time.Sleep(blocktree.FSKeptIdleMax / 2)
		}
		if took := time.Since(begun); took < blocktree.SpaceBelievedFor || took > blocktree.SpaceBelievedFor+blocktree.FSKeptIdleMax {
			t.Errorf("after %v", took)
		}
		if _, err := fills(t, s, o, dir, 1); blocktree.KindOf(err) != blocktree.Unsupported {
			t.Errorf("it is filled: %v", err)
		}
	})
}

// TestFillLeaves: H1 and H5. A directory that another service wants, or that is idle, is left when the term has run out, with what was made until then; spares go with their owner, or when nothing came for so long.
func TestFillLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o, dir := ownerFor(s, somebody("ann")), below("d")
		f := filled(t, s, o, dir)
		close(c.dirsKept[dir].wanted)
		time.Sleep(blocktree.FSFillFor - time.Millisecond)
		if !c.keeps(dir) {
			t.Error("it was left before the term had run out")
		}
		i, next, err := wholes(t, s, o, dir.Join("f"), f.Spares[0], "hello")
		if err != nil || i.ID != f.Spares[0] || next.Term != 0 {
			t.Errorf("%+v, %+v, %v", i, next, err)
		}
		time.Sleep(2 * blocktree.FSKeptSweepEvery)
		if c.keeps(dir) {
			t.Error("it is not left")
		}
		if n := c.keeping(s).spares; n != 3 {
			t.Errorf("%d spares", n)
		}
		i, _, err = wholes(t, s, o, dir.Join("g"), f.Spares[1], "hello")
		if err != nil || c.length(dir.Join("g")) != 5 || i.ID != f.Spares[1] {
			t.Errorf("after it was left: %+v, %v", i, err)
		}
		time.Sleep(blocktree.FSFillSparesFor + 2*blocktree.FSKeptSweepEvery)
		if n := c.keeping(s).spares; n != 0 {
			t.Errorf("%d spares after a while", n)
		}

		filled(t, s, o, below("e"))
		o.end()
		if n := c.keeping(s).spares; n != 0 {
			t.Errorf("%d spares, and no owner", n)
		}
		begun := time.Now()
		wantKind(t, "a look after its owner has ended", does(t, s, ownerFor(s, somebody("ann")), codeStat, pathRequest{path: below("e/f")}), blocktree.NotFound)
		if took := time.Since(begun); took != blocktree.FSFillFor { // whoever fills it may not know yet
			t.Errorf("after %v", took)
		}
		c.ended(t, s)
	})
}

// TestFillBounds: no more spares are set aside than there may be, of one owner and of all, and none for ever.
func TestFillBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		c.atHand = 1000
		var owners []*owner
		for i, x := range []struct {
			who  string
			want int
		}{{"ann", blocktree.FSFillSparesOfAllMax / 2}, {"ann", 0}, {"bob", blocktree.FSFillSparesOfAllMax / 2}, {"cyd", 0}} {
			o, dir, want := ownerFor(s, somebody(x.who)), below(fmt.Sprint("d", i)), x.want
			owners = append(owners, o)
			wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: dir}), blocktree.Other)
			f, err := fills(t, s, o, dir, 1<<30)
			if len(f.Spares) != want || (err == nil) != (want > 0) {
				t.Errorf("%d: %d spares, %v", i, len(f.Spares), err)
			}
		}
		for range int(blocktree.FSFillSpareFor/time.Second) + 1 { // who fills goes on, and never uses them
			wantKind(t, "mkdir", does(t, s, owners[0], codeMkdir, pathRequest{path: below("again")}), blocktree.Other)
			_, err := fills(t, s, owners[0], below("again"), 0)
			wantKind(t, "to fill another", err, blocktree.Other)
			wantKind(t, "its removal", does(t, s, owners[0], codeRemove, pathRequest{path: below("again")}), blocktree.Other)
			time.Sleep(time.Second)
		}
		if n := c.keeping(s).spares; n != 0 {
			t.Errorf("%d spares", n)
		}
		if s.kept.aside != 0 {
			t.Errorf("%d are counted", s.kept.aside)
		}
		for _, o := range owners {
			o.end()
		}
		c.ended(t, s)
	})
}

// TestWholeFails: what cannot be written, or named, is not there, and says why; what nobody knows is asked again, and found by its identity.
func TestWholeFails(t *testing.T) {
	dir, path := below("d"), below("d/f")
	for _, kind := range []blocktree.Kind{blocktree.Permission, blocktree.NoSpace, blocktree.NotFound, blocktree.Fenced, blocktree.Unavailable} {
		for _, late := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				c, s := newKept(t)
				o := ownerFor(s, somebody("ann"))
				f := filled(t, s, o, dir)
				want := kind
				if kind == blocktree.Fenced { // it is to be asked for with another spare, unless it was done
					want = map[bool]blocktree.Kind{false: blocktree.StaleView}[late]
				}
				c.names(late, func(*spare) error { return blocktree.E("fake", kind, nil) })
				_, _, err := wholes(t, s, o, path, f.Spares[0], "hello")
				wantKind(t, "whole", err, want)
				c.names(false, nil)
				if n := c.length(path); n != map[bool]int{true: 5, false: -1}[late] {
					t.Errorf("%v, late %v: it ends at %d", kind, late, n)
				}
				i, _, err := wholesOf(t, s, o, path, f.Spares[0], "hello")
				if err != nil || late != (i.ID == f.Spares[0]) || c.length(path) != 5 {
					t.Errorf("%v, late %v: again: %+v, %v", kind, late, i, err)
				}
				_, _, err = wholes(t, s, o, path, f.Spares[1], "hello")
				wantKind(t, "by another identity", err, blocktree.Exists)
				again, _, err := wholes(t, s, o, path, i.ID, "hello!")
				if err != nil || again.ID != i.ID || again.Length != 5 { // others may have made it longer, or shorter
					t.Errorf("%v, late %v: what was done: %+v, %v", kind, late, again, err)
				}
				c.same(t, s)
				o.end()
				c.ended(t, s)
				if n := c.keeping(s).spares; n != 0 || c.opened.Load() != 0 {
					t.Errorf("%d spares, %d open", n, c.opened.Load())
				}
			})
		}
	}
}

// TestWholeNot: where nothing is made ahead, or not so large, nothing is done, and it is said.
func TestWholeNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o, dir := ownerFor(s, somebody("ann")), below("d")
		filled(t, s, o, dir)
		_, _, err := wholesOf(t, s, o, dir.Join("f"), blocktree.FileID{}, strings.Repeat("x", 4097))
		wantKind(t, "more than its size", err, blocktree.Unsupported)
		c.older = true
		wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: below("e")}), blocktree.Other)
		_, _, err = wholesOf(t, s, o, below("e/f"), blocktree.FileID{}, "hello")
		wantKind(t, "an older cluster", err, blocktree.Unsupported)
		if c.length(dir.Join("f")) != -1 || c.length(below("e/f")) != -1 {
			t.Error("something was made")
		}
		c.older, c.broken = false, blocktree.E("fake", blocktree.NoSpace, nil)
		_, _, err = wholesOf(t, s, o, dir.Join("g"), blocktree.FileID{}, "hello")
		wantKind(t, "what cannot be written", err, blocktree.NoSpace)
		if c.length(dir.Join("g")) != -1 || c.opened.Load() != 0 {
			t.Error("it is there")
		}
	})
}

// TestFillMeans: D4 of 0086. What was made in a directory is not put into another one that has its path by then.
func TestFillMeans(t *testing.T) {
	for _, kept := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c, s := newKept(t)
			o, dir := ownerFor(s, somebody("ann")), below("d")
			f := filled(t, s, o, dir)
			if f.Dir != c.dirsKept[dir].id {
				t.Errorf("it is filled as %v", f.Dir)
			}
			wantKind(t, "another place", does(t, s, o, codeRename, pathRequest{path: dir, to: below("e")}), blocktree.Other)
			s.cfg.KeepNoNames = !kept
			wantKind(t, "another directory", does(t, s, o, codeMkdir, pathRequest{path: dir}), blocktree.Other)
			s.cfg.KeepNoNames = false
			for _, code := range []uint16{codeMakeWhole, codeMakeOpen} {
				r := pathRequest{path: dir.Join(nameOf(code)), sizeBytes: 4096, flags: flagSpare, file: f.Spares[0], dir: f.Dir, whole: &whole{}}
				wantKind(t, fmt.Sprintf("%s, kept %v", nameOf(code), kept), does(t, s, o, code, r), blocktree.NotFound)
			}
		})
	}
}

// TestFillStops: a service that stops gives no terms, and takes what was made in those that run.
func TestFillStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o, dir := ownerFor(s, somebody("ann")), below("d")
		f := filled(t, s, o, dir)
		stopped := make(chan time.Time, 1)
		begun := time.Now()
		go func() {
			_ = s.Close() // it cannot fail
			stopped <- time.Now()
		}()
		time.Sleep(blocktree.FSFillFor / 2)
		i, next, err := wholes(t, s, o, dir.Join("f"), f.Spares[0], "hello")
		if err != nil || i.ID != f.Spares[0] || next.Term != 0 || !c.keeps(dir) {
			t.Errorf("%+v, %+v, %v", i, next, err)
		}
		if at := <-stopped; at.Sub(begun) != blocktree.FSFillFor || c.keeps(dir) || c.keeping(s).spares != 0 {
			t.Errorf("it stops after %v, and keeps %+v", at.Sub(begun), c.keeping(s))
		}
		_, _, err = wholes(t, s, o, dir.Join("g"), f.Spares[1], "hello")
		wantKind(t, "after that", err, blocktree.Closed)
	})
}

// TestWholeInDoubt: D6 of 0086. As long as it is not known what became of a file its name is nobody else's, and nobody takes it away.
func TestWholeInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o, dir, path := ownerFor(s, somebody("ann")), below("d"), below("d/f")
		f := filled(t, s, o, dir)
		c.mu.Lock()
		c.hangs = dir
		c.mu.Unlock()
		begun := time.Now()
		for _, code := range []uint16{codeMakeWhole, codeRemove} {
			ctx, cancel := context.WithTimeout(t.Context(), pathTimeout)
			_, err := s.doPath(ctx, o, code, &pathRequest{path: path, sizeBytes: 4096, flags: flagSpare, file: f.Spares[0], whole: &whole{content: []byte("hello")}})
			cancel()
			wantKind(t, nameOf(code), err, blocktree.Unavailable)
		}
		if took := time.Since(begun); took != 2*pathTimeout {
			t.Errorf("after %v", took)
		}
		if !c.keeps(dir) {
			t.Error("it is left, and nobody knows what is in it")
		}
		c.mu.Lock()
		c.hangs = ""
		c.mu.Unlock()
		i, _, err := wholesOf(t, s, o, path, f.Spares[0], "hello")
		if took := time.Since(begun); err != nil || took != fileTimeout || c.length(path) != 5 || i.Length != 5 {
			t.Errorf("once it is known: %+v, %v, after %v", i, err, took)
		}
		time.Sleep(fileTimeout)
		if c.keeps(dir) || c.keeping(s).spares != 0 || c.opened.Load() != 0 || o.bytes.Load() != 0 {
			t.Errorf("kept: %v, %d spares, %d open, %d bytes", c.keeps(dir), c.keeping(s).spares, c.opened.Load(), o.bytes.Load())
		}
	})
}

// breaks has writes wait, or fail.
func (c *keptFake) breaks(_ context.Context, call memfile.Call) error {
	if call.Op != memfile.Write {
		return nil
	}
	c.mu.Lock()
	stall, broken := c.stall, c.broken
	c.mu.Unlock()
	if stall != nil {
		<-stall
	}
	return broken
}

// TestFillOnTheWay: H2. What the one who fills the directory has sent in his term, and is not done when that has run out, is waited for by others who ask for it, and before the directory is left; by nobody else.
func TestFillOnTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o, dir, path := ownerFor(s, somebody("ann")), below("d"), below("d/f")
		spare := filled(t, s, o, dir).Spares[0]
		c.mu.Lock()
		c.stall = make(chan struct{})
		c.mu.Unlock()
		sent := make(chan error, 1)
		go func() {
			_, _, err := wholes(t, s, o, path, spare, "hello")
			sent <- err
		}()
		synctest.Wait()
		type asked struct {
			what string
			err  error
		}
		answers := make(chan asked, 8)
		ask := func(what string, code uint16, r pathRequest) {
			go func() { answers <- asked{what, does(t, s, ownerFor(s, somebody("ann")), code, r)} }()
		}
		ask("a look", codeStat, pathRequest{path: path})
		ask("a listing", codeList, pathRequest{path: dir})
		ask("another maker", codeMakeWhole, pathRequest{path: path, sizeBytes: 4096, whole: &whole{}})
		ask("", codeStat, pathRequest{path: below("d/g")})
		close(c.dirsKept[dir].wanted)
		time.Sleep(2 * blocktree.FSFillFor)
		if a := <-answers; a.what != "" || blocktree.KindOf(a.err) != blocktree.NotFound || len(answers) > 0 || !c.keeps(dir) {
			t.Errorf("%q is answered: %v, %d others, kept: %v", a.what, a.err, len(answers), c.keeps(dir))
		}
		close(c.stall)
		wantKind(t, "what was on its way", <-sent, blocktree.Other)
		for range 3 {
			a := <-answers
			wantKind(t, a.what, a.err, map[bool]blocktree.Kind{true: blocktree.Exists}[a.what == "another maker"])
		}
		if n := c.length(path); n != 5 {
			t.Errorf("it ends at %d", n)
		}
		o.end()
		c.ended(t, s)
	})
}

// TestFillOlder: H8, and 0089, 4. A service of a version before, which refuses a format and a flag that it does not know, is asked without these, in a request that it reads.
func TestFillOlder(t *testing.T) {
	r := requestToMake(testRoot.Join("a"), CreateOptions{SizeBytes: 4096, Spare: blocktree.FileID{Generation: 1, Inode: 2}})
	r.only = true
	asked := 0
	err := r.asKnown(func() error {
		asked++
		got, err := decodePath(r.encode())
		if err != nil {
			return err
		}
		if got.only || got.flags&flagSpare != 0 {
			return blocktree.E("older", blocktree.NewerFormat, nil)
		}
		if got.makes().Spare != (blocktree.FileID{}) || got.sizeBytes != 4096 {
			t.Errorf("asked for %+v", got)
		}
		return nil
	}, flagSpare, flagFlush, flagTell)
	if err != nil || asked != 3 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}

package fs

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
)

// mkdirFill has an owner make a directory, and fill it.
func mkdirFill(t testing.TB, s *Service, o *owner, dir blocktree.Path, spares uint32) (Info, Filling, error) {
	t.Helper()
	b, err := s.doPath(t.Context(), o, codeMkdirFill, &pathRequest{path: dir, mode: 0o755, sizeBytes: 4096, limit: spares})
	if err != nil {
		return Info{}, Filling{}, err
	}
	i, f, err := decodeMkdirFill(b)
	if err != nil {
		t.Fatal(err)
	}
	return i, f, nil
}

// knowsRoom is newKept whose service knows that there is room.
func knowsRoom(t testing.TB) (*keptFake, *Service, *owner) {
	c, s := newKept(t)
	o := ownerFor(s, somebody("ann"))
	filled(t, s, o, below("first"))
	s.kept.forget(o)
	return c, s, o
}

// TestMkdirFillCosts: 0088. A directory is made by one command and no question, is described as a look just afterwards would, and filled; room is asked for once in a while, of all directories of a cluster, and by none that is made.
func TestMkdirFillCosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o := ownerFor(s, somebody("ann"))
		if i, f, err := mkdirFill(t, s, o, below("first"), 4); err != nil || i.ID == (blocktree.FileID{}) || f.Term != 0 || len(f.Spares) != 0 {
			t.Errorf("room is not known: %+v, %+v, %v", i, f, err)
		}
		synctest.Wait() // it is asked for beside
		for n := range 20 {
			dir := below(fmt.Sprint(n))
			c.asked()
			info, f, err := mkdirFill(t, s, o, dir, 1)
			if got := c.asked(); err != nil || got != "1 commands, 0 questions" {
				t.Fatalf("%d: %s, %v", n, got, err)
			}
			if f.Term != blocktree.FSFillFor || len(f.Spares) != 1 || f.Dir != info.ID {
				t.Errorf("%d: filled by %+v", n, f)
			}
			b, err := s.doPath(t.Context(), o, codeStat, &pathRequest{path: dir})
			if err != nil {
				t.Fatal(err)
			}
			if i, err := decodeInfo(b); err != nil || i != info || !i.Dir || i.ID != c.nodes[dir].inode.ID {
				t.Errorf("%d: described as %+v, and looked at it is %+v, %v", n, info, i, err)
			}
			if i, next, err := wholes(t, s, o, dir.Join("f"), f.Spares[0], "hello"); err != nil || i.ID != f.Spares[0] || next.Term != blocktree.FSFillFor || len(next.Spares) != 1 {
				t.Errorf("%d: %+v, %+v, %v", n, i, next, err)
			}
		}
		if c.spaces != 1 {
			t.Errorf("room was asked for %d times", c.spaces)
		}
		time.Sleep(blocktree.SpaceBelievedFor)
		for n := range 3 {
			if _, f, err := mkdirFill(t, s, o, below(fmt.Sprint("late", n)), 1); err != nil || (f.Term != 0) != (n > 0) {
				t.Errorf("%d later ones: %+v, %v", n, f, err)
			}
			synctest.Wait()
		}
		if c.spaces != 2 {
			t.Errorf("then room was asked for %d times", c.spaces)
		}
		o.end()
		c.ended(t, s)
		if n := c.keeping(s).spares; n != 0 {
			t.Errorf("%d spares", n)
		}
	})
}

// TestMkdirFillNot: whatever is not to be had after a directory was made is missing in the answer, which waits for nothing.
func TestMkdirFillNot(t *testing.T) {
	dir := below("d")
	for name, x := range map[string]struct {
		is   func(c *keptFake, s *Service)
		told bool
	}{
		"names are not kept":      {func(_ *keptFake, s *Service) { s.cfg.KeepNoNames = true }, false},
		"a cluster of before":     {func(c *keptFake, _ *Service) { c.older = true }, false},
		"too many names are kept": {func(_ *keptFake, s *Service) { s.kept.names = blocktree.FSKeptNamesMax }, false},
		"no spares":               {func(c *keptFake, _ *Service) { c.atHand = 0 }, true},
		"stopping":                {func(_ *keptFake, s *Service) { s.kept.stop() }, true},
		"no room": {func(c *keptFake, s *Service) {
			c.room = blocktree.FSFillRoomBytes - 1
			time.Sleep(blocktree.SpaceBelievedFor)
			_, _, _ = mkdirFill(t, s, ownerFor(s, somebody("ann")), below("before"), 1)
			synctest.Wait()
		}, true},
		"room is not said": {func(c *keptFake, _ *Service) { c.room = 0; time.Sleep(blocktree.SpaceBelievedFor) }, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, s, o := knowsRoom(t)
			x.is(c, s)
			begun := time.Now()
			info, f, err := mkdirFill(t, s, o, dir, 4)
			if err != nil || f.Term != 0 || len(f.Spares) != 0 || (info.ID != blocktree.FileID{}) != x.told || time.Since(begun) != 0 {
				t.Errorf("%s: %+v, %+v, %v, after %v", name, info, f, err, time.Since(begun))
			}
			if d := s.kept.dirs[dir]; d != nil && !d.term.IsZero() {
				t.Errorf("%s: others wait for nothing", name)
			}
			if n := c.keeping(s).spares; n != 0 || c.nodes[dir] == nil {
				t.Errorf("%s: %d spares, made: %v", name, n, c.nodes[dir] != nil)
			}
			c.mu.Lock()
			c.atHand, c.room = 8, 1<<40
			c.mu.Unlock()
			if _, err := fills(t, s, o, dir, 4); (err == nil) != (name == "no spares" || name == "room is not said") {
				t.Errorf("%s: asked for anew: %v", name, err)
			}
		})
	}
}

// TestMkdirFillOthers: K2 of 0088, H1 of 0086. Who was about to make a name when the directory was made, and has been asked to yield before it was there, waits for the term as any.
func TestMkdirFillOthers(t *testing.T) {
	dir := below("d")
	path := dir.Join("f")
	for _, r := range []struct {
		code uint16
		pathRequest
	}{
		{codeCreate, pathRequest{path: path}}, {codeMkdir, pathRequest{path: path}}, {codeRename, pathRequest{path: below("x"), to: path}},
		{codeMakeOpen, pathRequest{path: path, sizeBytes: 4096}}, {codeMakeWhole, pathRequest{path: path, sizeBytes: 4096, whole: &whole{content: []byte("other")}}},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, s, o := knowsRoom(t)
			other := ownerFor(s, somebody("ann"))
			wantKind(t, "a file", does(t, s, o, codeCreate, pathRequest{path: below("x")}), blocktree.Other)
			if r.whole != nil {
				_, f, err := wholes(t, s, other, below("y"), blocktree.FileID{}, "")
				if err != ErrOtherSpare {
					t.Fatal(err)
				}
				r.file, r.flags, r.only = f.Spares[0], flagSpare, true
			}
			wantKind(t, "nobody fills it", s.kept.yields(t.Context(), other, r.code, &r.pathRequest), blocktree.Other)
			_, f, err := mkdirFill(t, s, o, dir, 4)
			if err != nil || f.Term != blocktree.FSFillFor {
				t.Fatalf("%+v, %v", f, err)
			}
			begun, done := time.Now(), make(chan error, 1)
			go func() {
				_, err := s.doChange(t.Context(), other, r.code, &r.pathRequest)
				done <- err
			}()
			time.Sleep(blocktree.FSFillFor / 2)
			if i, next, err := wholes(t, s, o, path, f.Spares[0], "mine"); err != nil || i.ID != f.Spares[0] || next.Term != 0 {
				t.Errorf("%s: the filler's: %+v, %+v, %v", nameOf(r.code), i, next, err)
			}
			want := blocktree.Exists
			if r.code == codeRename { // it replaces it
				want = blocktree.Other
			}
			wantKind(t, nameOf(r.code), <-done, want)
			if took := time.Since(begun); took != blocktree.FSFillFor {
				t.Errorf("%s: after %v", nameOf(r.code), took)
			}
			c.same(t, s)
		})
	}
}

// TestMkdirFillIsOf: K1 and K2 of 0088. Of a directory whose path another one has by then, or about which somebody has asked, nothing is said, or granted.
func TestMkdirFillIsOf(t *testing.T) {
	dir := below("d")
	for name, x := range map[string]struct {
		meanwhile func(s *Service, o, other *owner)
		told      bool
	}{
		"nothing": {func(*Service, *owner, *owner) {}, true},
		"a look at a name": {func(s *Service, _, other *owner) {
			_ = does(t, s, other, codeStat, pathRequest{path: dir.Join("f")})
		}, true},
		"a listing": {func(s *Service, _, other *owner) { _ = does(t, s, other, codeList, pathRequest{path: dir}) }, true},
		"a rename": {func(s *Service, _, other *owner) {
			_ = does(t, s, other, codeRename, pathRequest{path: dir, to: below("e")})
		}, false},
		"another one": {func(s *Service, o, other *owner) {
			_ = does(t, s, other, codeRename, pathRequest{path: dir, to: below("e")})
			_ = does(t, s, o, codeMkdir, pathRequest{path: dir})
		}, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			_, s, o := knowsRoom(t)
			r := &pathRequest{path: dir, sizeBytes: 4096, limit: 4}
			d, err := s.makeDir(t.Context(), o, r)
			if err != nil || d == nil {
				t.Fatal(d, err)
			}
			x.meanwhile(s, o, ownerFor(s, somebody("ann")))
			info, f := s.mayFill(t.Context(), o, d, r)
			if (info != nil) != x.told || info != nil && info.ID != d.ID() || (f.Term != 0) != (name == "nothing") || (len(f.Spares) != 0) != (name == "nothing") {
				t.Errorf("%s: %+v, %+v", name, info, f)
			}
		})
	}
}

// TestRoomsAreBounded: of too many clusters, and codes, those that are not believed any more are forgotten first.
func TestRoomsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, o := knowsRoom(t)
		for n := range 3 * blocktree.FSRoomsMax {
			code := blocktree.Code{Data: n + 1, Parity: 1}
			if !s.roomy(t.Context(), o, s.kept.dirs[below("first")], code) {
				t.Error("no room")
			}
			time.Sleep(time.Millisecond)
		}
		was := c.spaces
		if len(s.kept.rooms) != blocktree.FSRoomsMax || !s.roomy(t.Context(), o, s.kept.dirs[below("first")], blocktree.Code{Data: 3 * blocktree.FSRoomsMax, Parity: 1}) || c.spaces != was {
			t.Errorf("%d are remembered, %d were asked for", len(s.kept.rooms), c.spaces-was)
		}
	})
}

// TestMkdirFillOnTheWire: an answer outlasts the wire, and says no more than makes sense.
func TestMkdirFillOnTheWire(t *testing.T) {
	id, other := blocktree.FileID{Generation: 2, Inode: 1 << 40}, blocktree.FileID{Inode: 3}
	dir, filling := Info{ID: id, Dir: true, Mode: 0o755, Modified: 5, Changed: 7}, Filling{Dir: id, Term: blocktree.FSFillFor, Spares: []blocktree.FileID{other, {Inode: 4}}}
	for _, told := range []*Info{nil, &dir} {
		got, f, err := decodeMkdirFill(encodeMkdirFill(told, &filling))
		if err != nil || (told == nil) != (got == Info{}) || told != nil && got != dir || f.Term != filling.Term || f.Dir != filling.Dir || !slices.Equal(f.Spares, filling.Spares) {
			t.Errorf("%+v, %+v, %v", got, f, err)
		}
	}
	for name, i := range map[string]Info{"a file": {ID: id}, "no identity": {Dir: true}, "another": {Dir: true, ID: other}} {
		if _, _, err := decodeMkdirFill(encodeMkdirFill(&i, &filling)); blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("%s in the place of the directory: %v", name, err)
		}
	}
}

// TestMkdirFillIsTold: who watches the directory above is told of one that was made so.
func TestMkdirFillIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s := newKept(t)
		o := ownerFor(s, somebody("ann"))
		w := watched(t, s, o, testRoot)
		told := w.after(0)
		synctest.Wait()
		s.change(t, o, codeMkdirFill, &pathRequest{path: below("made")})
		synctest.Wait()
		if len(told) != 1 {
			t.Fatal("nothing is told")
		}
		if h, want := <-told, []Event{{Name: "made", Kind: EventMade}}; h.err != nil || !slices.Equal(h.events, want) {
			t.Errorf("%+v, want %+v", h, want)
		}
		o.end()
	})
}

// TestMkdirFillOthersOfOneName: two who were about to make one name whole as its directory was made wait for the term, and not for each other.
func TestMkdirFillOthersOfOneName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, o := knowsRoom(t)
		dir, done := below("d"), make(chan error)
		var all []func()
		for i := range 2 {
			other := ownerFor(s, somebody("ann"))
			_, f, err := wholes(t, s, other, below(fmt.Sprint(i)), blocktree.FileID{}, "")
			if err != ErrOtherSpare {
				t.Fatal(err)
			}
			r := &pathRequest{path: dir.Join("f"), sizeBytes: 4096, whole: &whole{content: []byte("other")}, file: f.Spares[0], flags: flagSpare, only: true}
			wantKind(t, "nobody fills it", s.kept.yields(t.Context(), other, codeMakeWhole, r), blocktree.Other)
			all = append(all, func() {
				_, err := s.doChange(t.Context(), other, codeMakeWhole, r)
				done <- err
			})
		}
		if _, f, err := mkdirFill(t, s, o, dir, 4); err != nil || f.Term != blocktree.FSFillFor {
			t.Fatalf("%+v, %v", f, err)
		}
		begun := time.Now()
		for _, do := range all {
			go do()
		}
		kinds := []blocktree.Kind{blocktree.KindOf(<-done), blocktree.KindOf(<-done)}
		slices.Sort(kinds)
		if want := []blocktree.Kind{blocktree.Other, blocktree.Exists}; !slices.Equal(kinds, want) && !slices.Equal(kinds, []blocktree.Kind{want[1], want[0]}) || time.Since(begun) != blocktree.FSFillFor {
			t.Errorf("%v, after %v", kinds, time.Since(begun))
		}
		c.same(t, s)
	})
}

// TestRoomOfOneThatIsGone: that a cluster does not say what room it has to who asks by a directory that is gone, or where he may not, is nothing to those who fill others.
func TestRoomOfOneThatIsGone(t *testing.T) {
	for _, kind := range []blocktree.Kind{blocktree.NotFound, blocktree.Permission} {
		synctest.Test(t, func(t *testing.T) {
			c, s, o := knowsRoom(t)
			asks := func(dir blocktree.Path, why error, want bool) {
				c.mu.Lock()
				c.noRoom = why
				c.mu.Unlock()
				_, f, err := mkdirFill(t, s, o, dir, 1)
				if synctest.Wait(); err != nil || (f.Term != 0) != want { // what is not known is asked for beside
					t.Errorf("%v: %s: %+v, %v", kind, dir.Base(), f, err)
				}
			}
			time.Sleep(blocktree.SpaceBelievedFor)
			asks(below("gone"), blocktree.E("fake", kind, nil), false)
			if x := s.kept.room(s.kept.dirs[below("gone")], blocktree.Code{}); !x.enough || x.asking {
				t.Errorf("%v: %+v", kind, x)
			}
			asks(below("asks anew"), nil, false)
			asks(below("knows"), nil, true)
			o.end()
			c.ended(t, s)
		})
	}
}

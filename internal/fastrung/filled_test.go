package fastrung

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/fs"
	"blocktree/internal/simnet"
	"blocktree/internal/vfs"
)

// newFilledWorld is newKeptWorld whose disks say what room there is.
func newFilledWorld(t *testing.T) *unlinkWorld {
	w := newKeptWorld(t)
	for i := range 3 {
		w.Disk(i).(*vfs.Crash).SetCapacity(1 << 40)
	}
	return w
}

// fill makes a directory and fills it. It returns the term and the spares, with those that there were.
func (w *unlinkWorld) fill(t *testing.T, c *fs.Client, dir blocktree.Path, spares ...blocktree.FileID) (time.Duration, []blocktree.FileID) {
	t.Helper()
	w.must(c.Mkdir(t.Context(), dir, 0o755))
	f, err := c.Fill(t.Context(), dir, small, blocktree.FSFillSparesMax)
	w.must(err)
	if spares = append(spares, f.Spares...); f.Term <= 0 || f.Term > blocktree.FSFillFor || len(spares) < 8 {
		t.Fatalf("filled for %v, with %d spares", f.Term, len(spares))
	}
	return f.Term, spares
}

// TestFilled: H1, H2, H6 and H7 of 0086. In a directory that its maker fills a file is one request and one command, of the identity that was promised; nobody is told that it is not there, nor makes it, at whatever service, before it is, and nobody else uses its spares.
func TestFilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFilledWorld(t)
		c, dir := w.DoorAt(0, "alice", 1000, 1000), w.Path("/files/d")
		_, spares := w.fill(t, c, dir)
		_, f, err := c.MakeWhole(t.Context(), dir.Join("first"), small, fs.Whole{Spare: spares[0], Content: []byte("x")})
		w.must(err)
		spares = append(spares[1:], f.Spares...)
		const files = 40
		x, _ := w.Node(0).Stats()
		begun, before := time.Now(), x.Meta.Applied
		for i := range files {
			wrote := int64(i+1) * int64(time.Hour)
			info, f, err := c.MakeWhole(t.Context(), dir.Join(fmt.Sprint(i)), small, fs.Whole{Spare: spares[0], Wrote: wrote, Content: bytes.Repeat([]byte{byte(i)}, i*1000)})
			w.must(err)
			if info.ID != spares[0] || info.Length != uint64(i*1000) || info.Modified != wrote {
				t.Errorf("%d: %+v", i, info)
			}
			if is, err := w.admin.Stat(t.Context(), dir.Join(fmt.Sprint(i))); err != nil || fs.InfoOf(is) != info {
				t.Errorf("%d: the cluster says %+v, not %+v: %v", i, is, info, err)
			}
			spares = append(spares[1:], f.Spares...)
		}
		x, _ = w.Node(0).Stats()
		if n := x.Meta.Applied - before; n < files || n > files+files/4 { // and spares are made
			t.Errorf("%d commands for %d files, in %v", n, files, time.Since(begun))
		}
		haveContents(t, w.DoorAt(1, "alice", 1000, 1000), dir, 2, func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, i*1000) })

		w.othersWait(t, c, w.Path("/files/e"), spares)
	})
}

// othersWait: for what the one who fills a directory has sent when others ask.
func (w *unlinkWorld) othersWait(t *testing.T, c *fs.Client, dir blocktree.Path, spares []blocktree.FileID) {
	asked := time.Now()
	term, spares := w.fill(t, c, dir, spares...)
	var wg sync.WaitGroup
	for name, x := range map[string]struct {
		by   int
		kind blocktree.Kind
		soon bool // once it is there, it is there
	}{"a": {0, blocktree.Exists, false}, "b": {1, blocktree.Exists, true}, "own": {1, blocktree.Other, false}} {
		other := w.DoorAt(x.by, "alice", 1000, 1000)
		wg.Go(func() {
			if err := made(t, other, dir.Join(name), []byte("other")); blocktree.KindOf(err) != x.kind || (err == nil) != (name == "own") {
				t.Errorf("another makes %s: %v", name, err)
			}
			if took := time.Since(asked); !x.soon && took < term-20*simnet.DelayDefault {
				t.Errorf("%s: nobody waited: %v", name, took)
			}
		})
	}
	other := w.DoorAt(0, "alice", 1000, 1000)
	wg.Go(func() { w.has(mustOpen(t, other, dir.Join("a")), "whole") })
	time.Sleep(term / 2)
	for i, name := range []string{"a", "b"} {
		info, _, err := c.MakeWhole(t.Context(), dir.Join(name), small, fs.Whole{Spare: spares[i], Content: []byte("whole")})
		if err != nil || info.ID != spares[i] {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
	}
	wg.Wait()
	bob := w.DoorAt(0, "bob", 1001, 1001)
	if _, _, err := bob.MakeWhole(t.Context(), dir.Join("bob"), small, fs.Whole{Spare: spares[2]}); blocktree.KindOf(err) != blocktree.Unsupported {
		t.Errorf("who may not write: %v", err)
	}
	if err := made(t, bob, dir.Join("bob"), nil); blocktree.KindOf(err) != blocktree.Permission {
		t.Errorf("as any: %v", err)
	}
	another := w.DoorAt(0, "alice", 1000, 1000)
	if _, _, err := another.MakeWhole(t.Context(), dir.Join("c"), small, fs.Whole{Spare: spares[2], Content: []byte("c")}); !errors.Is(err, fs.ErrOtherSpare) {
		t.Errorf("with another's spare: %v", err)
	}
	if _, _, err := c.MakeWhole(t.Context(), dir.Join("own"), small, fs.Whole{Spare: spares[3], Content: []byte("late")}); blocktree.KindOf(err) != blocktree.Exists {
		t.Errorf("after its term: %v", err)
	}
	w.has(mustOpen(t, w.DoorAt(2, "alice", 1000, 1000), dir.Join("b")), "whole")
	w.has(mustOpen(t, w.DoorAt(2, "alice", 1000, 1000), dir.Join("own")), "other")
}

// TestFilledServiceDies: H2 and H4. The service dies while what was closed is sent to it: the next one is sent what was not answered, and each file is there once, whole, whatever became of it before.
func TestFilledServiceDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFilledWorld(t)
		c, dir := w.DoorAt(0, "alice", 1000, 1000), w.Path("/files/d")
		_, spares := w.fill(t, c, dir)
		const files = 8
		whole := func(i int) fs.Whole {
			return fs.Whole{Spare: spares[i], Content: bytes.Repeat([]byte{byte(i)}, 100*i)}
		}
		var wg sync.WaitGroup
		var answered [files]bool
		send := func(i int) {
			_, _, err := c.MakeWhole(t.Context(), dir.Join(fmt.Sprint(i)), small, whole(i))
			answered[i] = err == nil
		}
		send(0)
		for i := 1; i < files-1; i++ { // these are on their way, each somewhere else
			wg.Go(func() {
				time.Sleep(time.Duration(i) * simnet.DelayDefault)
				send(i)
			})
		}
		time.Sleep(files * simnet.DelayDefault)
		w.Kill(0)
		send(files - 1)
		wg.Wait()
		next := w.DoorAt(1, "alice", 1000, 1000)
		for i := range files {
			if answered[i] {
				continue
			}
			var err error
			for range 100 {
				var f fs.Filling
				if _, f, err = next.MakeWhole(t.Context(), dir.Join(fmt.Sprint(i)), small, whole(i)); err == nil || blocktree.KindOf(err) == blocktree.Exists {
					break
				}
				if errors.Is(err, fs.ErrOtherSpare) {
					spares[i] = f.Spares[0]
					continue
				}
				time.Sleep(100 * time.Millisecond)
			}
			if err != nil {
				t.Errorf("%d: %v", i, err)
			}
		}
		if !answered[0] || answered[files-1] {
			t.Errorf("answered: %v", answered)
		}
		haveContents(t, w.DoorAt(2, "alice", 1000, 1000), dir, files, func(i int) []byte { return whole(i).Content })
	})
}

// TestFilledNextDies: L1, L2 and L4 of 0089. A service that has not the spare makes nothing, and names one of its own; it dies after it has made the file with that, before it has answered: the next one knows it by that, and by no other. Where the first service makes it after all it is found by the first spare.
func TestFilledNextDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFilledWorld(t)
		c, next, dir := w.DoorAt(0, "alice", 1000, 1000), w.DoorAt(1, "alice", 1000, 1000), w.Path("/files/d")
		_, spares := w.fill(t, c, dir)
		content := []byte("whole")
		whole := func(by *fs.Client, name string, spare blocktree.FileID) (blocktree.FileID, fs.Filling, error) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			info, f, err := by.MakeWhole(ctx, dir.Join(name), small, fs.Whole{Spare: spare, Content: content})
			return info.ID, f, err
		}
		named := func(name string, spare blocktree.FileID) blocktree.FileID {
			_, f, err := whole(next, name, spare)
			if !errors.Is(err, fs.ErrOtherSpare) || len(f.Spares) == 0 {
				t.Fatalf("%s: %+v, %v", name, f, err)
			}
			return f.Spares[0]
		}
		other := named("0", spares[0])
		if _, _, err := whole(c, "0", spares[0]); err != nil {
			t.Errorf("the first service: %v", err)
		}
		if _, _, err := whole(next, "0", other); blocktree.KindOf(err) != blocktree.Exists {
			t.Errorf("by what was named: %v", err)
		}
		if id, _, err := whole(next, "0", spares[0]); err != nil || id != spares[0] {
			t.Errorf("by what was asked for first: %v, %v", id, err)
		}

		o := small
		o.Spare = spares[2]
		if _, err := next.MakeOpen(t.Context(), dir.Join("2"), o); !errors.Is(err, fs.ErrOtherSpare) {
			t.Errorf("made empty: %v", err)
		}

		other = named("1", spares[1])
		w.Net.Set(w.NodeAddr(1), w.ClientAddr(3), simnet.Link{Cut: true})
		asked := make(chan error, 1)
		go func() {
			_, _, err := whole(next, "1", other)
			asked <- err
		}()
		w.Await("it to be made", func() bool {
			_, err := w.admin.Stat(t.Context(), dir.Join("1"))
			return err == nil
		})
		w.Kill(1)
		if err := <-asked; err == nil {
			t.Error("it was answered")
		}
		last := w.DoorAt(2, "alice", 1000, 1000)
		for spare, kind := range map[blocktree.FileID]blocktree.Kind{spares[1]: blocktree.Exists, {}: blocktree.Exists, other: 0} {
			if id, _, err := whole(last, "1", spare); blocktree.KindOf(err) != kind || err == nil && id != other {
				t.Errorf("of %v as %v: %v, %v", other, spare, id, err)
			}
		}
		haveContents(t, last, dir, 2, func(int) []byte { return content })
	})
}

// TestFilledSessionEnds: H1 and H2. The keeper is cut off from the cluster until its session has ended, while what was closed is sent to it, and another one makes the same names by another service: each is made by one, who knows it, and is whole.
func TestFilledSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFilledWorld(t)
		c, other, dir := w.DoorAt(0, "alice", 1000, 1000), w.DoorAt(1, "alice", 1000, 1000), w.Path("/files/d")
		_, spares := w.fill(t, c, dir)
		const files, step = 8, 40 * simnet.DelayDefault
		content := func(who byte, i int) []byte { return bytes.Repeat([]byte{who, byte(i)}, 200*(i+1)) }
		whole := func(by *fs.Client, i int, x fs.Whole) (won bool) {
			var before []blocktree.FileID
			for {
				_, f, err := by.MakeWhole(t.Context(), dir.Join(fmt.Sprint(i)), small, x)
				if err == nil {
					return true
				}
				if errors.Is(err, fs.ErrOtherSpare) {
					before = append(before, x.Spare)
					x.Spare = f.Spares[0]
					continue
				}
				if blocktree.KindOf(err) == blocktree.Exists {
					is, err := w.admin.Stat(t.Context(), dir.Join(fmt.Sprint(i)))
					w.must(err)
					return slices.Contains(before, is.ID)
				}
				if kind := blocktree.KindOf(err); kind != blocktree.Unavailable {
					t.Errorf("%d: %v", i, err)
					return false
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
		var wg sync.WaitGroup
		var won, lost [files]bool
		for i := range files {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * step)
				won[i] = whole(c, i, fs.Whole{Spare: spares[i], Content: content('c', i)})
			})
			wg.Go(func() {
				time.Sleep(files * step)
				lost[i] = whole(other, i, fs.Whole{Spare: blocktree.FileID{Generation: 9, Inode: blocktree.Inode(i + 1)}, Content: content('o', i)})
			})
		}
		time.Sleep(files / 2 * step)
		for _, i := range []int{1, 2} {
			w.Net.Set(w.NodeAddr(0), w.NodeAddr(i), simnet.Link{Cut: true})
			w.Net.Set(w.NodeAddr(i), w.NodeAddr(0), simnet.Link{Cut: true})
		}
		time.Sleep(2 * blocktree.LeaseTerm)
		for _, i := range []int{1, 2} {
			w.Net.Set(w.NodeAddr(0), w.NodeAddr(i), simnet.Link{})
			w.Net.Set(w.NodeAddr(i), w.NodeAddr(0), simnet.Link{})
		}
		wg.Wait()
		for i := range files {
			if won[i] == lost[i] {
				t.Errorf("%d: made by the one who fills it: %v, by another: %v", i, won[i], lost[i])
			}
		}
		haveContents(t, w.DoorAt(2, "alice", 1000, 1000), dir, files, func(i int) []byte {
			return content(map[bool]byte{true: 'c', false: 'o'}[won[i]], i)
		})
		if !won[0] || won[files-1] {
			t.Errorf("made by the one who fills it: %v", won)
		}
	})
}

// TestFilledMeans: D4. What is made says in which directory: none that has its path by then, though that is filled, too.
func TestFilledMeans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFilledWorld(t)
		c, dir, moved := w.DoorAt(0, "alice", 1000, 1000), w.Path("/files/d"), w.Path("/files/e")
		_, spares := w.fill(t, c, dir)
		old, err := w.admin.Stat(t.Context(), dir)
		w.must(err)
		w.must(c.Rename(t.Context(), dir, moved, false))
		_, spares = w.fill(t, c, dir, spares...)
		o := small
		o.Dir, o.Spare = old.ID, spares[0]
		if _, _, err := c.MakeWhole(t.Context(), dir.Join("f"), o, fs.Whole{Spare: spares[0]}); blocktree.KindOf(err) != blocktree.NotFound {
			t.Errorf("whole: %v", err)
		}
		if _, err := c.MakeOpen(t.Context(), dir.Join("f"), o); blocktree.KindOf(err) != blocktree.NotFound {
			t.Errorf("open: %v", err)
		}
		for i, path := range []blocktree.Path{moved.Join("f"), dir.Join("f")} {
			_, _, err := c.MakeWhole(t.Context(), path, o, fs.Whole{Spare: spares[i+1], Content: []byte("hello")})
			w.must(err)
			o.Dir = blocktree.FileID{} // that which was filled last
		}
	})
}

// TestMadeAndFilled: 0088. A directory is made, described as the cluster has it, and filled by one request and one command; it is refused as any is, and of a mode under which its maker may not write there is nothing to fill.
func TestMadeAndFilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFilledWorld(t)
		c, files := w.DoorAt(0, "alice", 1000, 1000), w.Path("/files")
		w.fill(t, c, files.Join("first")) // the service knows what room there is
		time.Sleep(blocktree.FSFillSparesFor)
		x, _ := w.Node(0).Stats()
		before := x.Meta.Applied
		var spares []blocktree.FileID
		const dirs = 8
		for i := range dirs {
			dir := files.Join(fmt.Sprint(i))
			info, f, err := c.MkdirFill(t.Context(), dir, 0o750, small, 2)
			w.must(err)
			is, err := w.admin.Stat(t.Context(), dir)
			w.must(err)
			looked, err := c.Stat(t.Context(), dir)
			w.must(err)
			if want := fs.InfoOf(is); info != want || looked != want || info.Mode != 0o750 || f.Dir != info.ID || f.Term <= 0 || f.Term > blocktree.FSFillFor {
				t.Errorf("%d: %+v, %+v; it is %+v", i, info, f, want)
			}
			spares = append(spares, f.Spares...)
			made, f, err := c.MakeWhole(t.Context(), dir.Join("f"), small, fs.Whole{Spare: spares[0], Content: []byte("hello")})
			w.must(err)
			if made.ID != spares[0] {
				t.Errorf("%d: %+v", i, made)
			}
			spares = append(spares[1:], f.Spares...)
		}
		x, _ = w.Node(0).Stats()
		if n := x.Meta.Applied - before; n < 2*dirs || n > 2*dirs+dirs { // and spares are made
			t.Errorf("%d commands for %d directories and as many files", n, dirs)
		}
		_, f, err := c.MkdirFill(t.Context(), files.Join("waits"), 0o755, small, 2)
		w.must(err)
		begun := time.Now()
		if _, err := w.DoorAt(1, "alice", 1000, 1000).Stat(t.Context(), files.Join("waits/none")); blocktree.KindOf(err) != blocktree.NotFound || time.Since(begun) < f.Term/2 {
			t.Errorf("another service: %v, after %v", err, time.Since(begun))
		}
		for _, mode := range []uint32{0o555, 0o700, 0} {
			info, f, err := c.MkdirFill(t.Context(), files.Join(fmt.Sprint("mode", mode)), mode, small, 2)
			if err != nil || info.ID != (blocktree.FileID{}) && info.Mode != mode || (f.Term > 0) != (mode&0o200 != 0) || f.Term == 0 && len(f.Spares) > 0 {
				t.Errorf("mode %o: %+v, %+v, %v", mode, info, f, err)
			}
		}
		bob := w.DoorAt(0, "bob", 1001, 1001)
		for what, x := range map[string]struct {
			c    *fs.Client
			path blocktree.Path
			want blocktree.Kind
		}{"there": {c, files.Join("0"), blocktree.Exists}, "a file": {c, files.Join("0/f"), blocktree.Exists}, "in nothing": {c, files.Join("none/d"), blocktree.NotFound}, "no right": {bob, files.Join("0/d"), blocktree.Permission}} {
			info, f, err := x.c.MkdirFill(t.Context(), x.path, 0o755, small, 2)
			if blocktree.KindOf(err) != x.want || info != (fs.Info{}) || f.Term != 0 {
				t.Errorf("%s: %+v, %+v, %v", what, info, f, err)
			}
			if err := x.c.Mkdir(t.Context(), x.path, 0o755); blocktree.KindOf(err) != x.want {
				t.Errorf("%s: mkdir: %v", what, err)
			}
		}
	})
}

package fastrung

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/fs"
	"blocktree/internal/bttp"
	"blocktree/internal/node"
	"blocktree/internal/simnet"
	"blocktree/internal/testenv"
)

// newKeptWorld is three nodes, each a filesystem service, and a directory of alice's.
func newKeptWorld(t *testing.T) *unlinkWorld {
	w := &unlinkWorld{Simulated: testenv.NewSimulated(t, 3, 1)}
	w.Transport, w.Filesystems = bttp.TCP, map[int]*node.Filesystem{}
	for i := range 3 {
		w.Filesystems[i] = &node.Filesystem{Reader: w.Reader}
	}
	w.StartAll()
	w.Await("all to be up", w.AllStarted) // else there are no spares for a while
	w.admin = w.Client()
	alice := uint32(1000)
	w.must(w.admin.MakeDir(t.Context(), w.Path("/files"), 0o755, false))
	_, err := w.admin.SetOwner(t.Context(), w.Path("/files"), &alice, &alice)
	w.must(err)
	return w
}

// small are the options of a small file.
var small = fs.CreateOptions{SizeBytes: 64 << 10, Code: blocktree.Code{Data: 1, Parity: 2}, Mode: 0o600}

// made makes a file, writes it, and closes it.
func made(t *testing.T, c *fs.Client, path blocktree.Path, content []byte) error {
	f, err := c.MakeOpen(t.Context(), path, small)
	if err != nil {
		return err
	}
	if err = f.WriteAt(t.Context(), content, 0); err == nil {
		err = f.(fs.Finisher).Finish(t.Context())
	}
	if err != nil {
		_ = f.Close() // the first error is the one to tell
	}
	return err
}

// TestKeptRounds: G6 of 0079. In a directory that was made just now a look for what is not there, and to make it, ask nobody but the service.
func TestKeptRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newKeptWorld(t)
		c, dir := w.DoorAt(0, "alice", 1000, 1000), w.Path("/files/d")
		w.must(c.Mkdir(t.Context(), dir, 0o755))
		w.must(made(t, c, dir.Join("first"), []byte("x"))) // what may be done is asked, and there are no spares yet
		time.Sleep(50 * time.Millisecond)
		begun := time.Now()
		_, err := c.Stat(t.Context(), dir.Join("f"))
		if took := time.Since(begun); blocktree.KindOf(err) != blocktree.NotFound || took > 2*simnet.DelayDefault {
			t.Errorf("a look: %v, in %v", err, took)
		}
		begun = time.Now()
		f, err := c.MakeOpen(t.Context(), dir.Join("f"), small)
		took := time.Since(begun)
		w.must(err)
		if took > 2*simnet.DelayDefault {
			t.Errorf("to make it takes %v", took)
		}
		w.must(f.WriteAt(t.Context(), []byte("hello"), 0))
		w.must(f.(fs.Finisher).Finish(t.Context()))
		w.has(mustOpen(t, w.DoorAt(1, "alice", 1000, 1000), dir.Join("f")), "hello")
	})
}

// TestKeptIsDescribed: J3 of 0087. In a directory that was made just now, in one where files were made before, a look at it before each file, and to make that, ask nobody but the service, also for the first; and what it says is what the cluster says.
func TestKeptIsDescribed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newKeptWorld(t)
		c, dir := w.DoorAt(0, "alice", 1000, 1000), w.Path("/files/d")
		w.must(c.Mkdir(t.Context(), w.Path("/files/before"), 0o755))
		w.must(made(t, c, w.Path("/files/before/first"), []byte("x"))) // there are no spares yet
		time.Sleep(50 * time.Millisecond)
		w.must(c.Mkdir(t.Context(), dir, 0o755))
		look := func(what string, asks bool) {
			t.Helper()
			begun := time.Now()
			said, err := c.Stat(t.Context(), dir)
			took := time.Since(begun)
			w.must(err)
			inode, err := w.admin.Stat(t.Context(), dir)
			w.must(err)
			if is := fs.InfoOf(inode); said != is || took > 2*simnet.DelayDefault != asks {
				t.Errorf("%s: a look says %+v, in %v; it is %+v", what, said, took, is)
			}
		}
		for i := range 10 {
			path := dir.Join(fmt.Sprint(i))
			look(path.Short(), false)
			begun := time.Now()
			f, err := c.MakeOpen(t.Context(), path, small)
			if took := time.Since(begun); took > 2*simnet.DelayDefault {
				t.Errorf("to make %s takes %v", path.Short(), took)
			}
			w.must(err)
			look(path.Short()+", which has no name", false)
			w.must(f.WriteAt(t.Context(), []byte("hello"), 0))
			if i%2 == 0 {
				w.must(f.Flush(t.Context()))
			}
			w.must(f.(fs.Finisher).Finish(t.Context()))
		}
		look("all are named", false)
		for what, do := range map[string]func() error{
			"a removal":   func() error { return c.Remove(t.Context(), dir.Join("0")) },
			"a rename":    func() error { return c.Rename(t.Context(), dir.Join("1"), w.Path("/files/1"), false) },
			"a directory": func() error { return c.Mkdir(t.Context(), dir.Join("sub"), 0o755) },
			"a link":      func() error { return c.Symlink(t.Context(), dir.Join("link"), "x") },
			"a time":      func() error { return c.SetTimes(t.Context(), dir, 77) },
			"now":         func() error { return c.SetTimes(t.Context(), dir, fs.TimeNow) },
			"a mode":      func() error { _, err := w.admin.SetMode(t.Context(), dir, 0o700); return err },
		} {
			w.must(do())
			look(what, true)
			look("after "+what, false)
			w.must(made(t, c, dir.Join("after "+what), []byte("x")))
			look("a file after "+what, false)
		}
	})
}

// TestKeptBelowIsAsked: J3 of 0087. A directory that a service keeps in a cluster below its own is told as that cluster has it: of its rights and mode the service's node hears nothing.
func TestKeptBelowIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFoundWorld(t, "root")
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		ctx, admin, alice := t.Context(), w.Client(), uint32(1000)
		home, dir := w.Path("/rack1/alice"), w.Path("/rack1/alice/d")
		must(admin.MakeDir(ctx, home, 0o755, false))
		_, err := admin.SetOwner(ctx, home, &alice, &alice)
		must(err)
		c := w.DoorAt(0, "alice", alice, alice)
		must(c.Mkdir(ctx, home.Join("first"), 0o755)) // there is a session from then on
		must(c.Mkdir(ctx, dir, 0o755))
		made, _, err := c.MkdirFill(ctx, home.Join("e"), 0o755, small, 2)
		if err != nil || made != (fs.Info{}) { // it may be another by then
			t.Errorf("one that was made is told as %+v, %v", made, err)
		}
		for _, mode := range []uint32{0o755, 0o700, 0o711} {
			_, err = admin.SetMode(ctx, dir, mode)
			must(err)
			for range 2 {
				if info, err := c.Stat(ctx, dir); err != nil || info.Mode != mode {
					t.Errorf("mode %o is told as %o, %v", mode, info.Mode, err)
				}
			}
		}
	})
}

// TestOthersSeeWhatIsOpen: what one service has made, and given no name yet, is found by who looks for it, lists its directory, or asks for its attributes, by another, which has the directory given back; then nobody waits any more.
func TestOthersSeeWhatIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newKeptWorld(t)
		c, other := w.DoorAt(0, "alice", 1000, 1000), w.DoorAt(1, "alice", 1000, 1000)
		for what, look := range map[string]func(dir blocktree.Path) (bool, error){
			"a look": func(dir blocktree.Path) (bool, error) {
				_, err := other.Stat(t.Context(), dir.Join("f"))
				return err == nil, err
			},
			"a listing": func(dir blocktree.Path) (bool, error) {
				names, err := other.ReadDir(t.Context(), dir)
				return slices.ContainsFunc(names, func(e fs.Entry) bool { return e.Name == "f" }), err
			},
			"its attributes": func(dir blocktree.Path) (bool, error) {
				_, err := other.ListXattr(t.Context(), dir.Join("f"))
				return err == nil, err
			},
			"by any client": func(dir blocktree.Path) (bool, error) {
				_, _, err := w.admin.Allowed(t.Context(), dir.Join("f"))
				return err == nil, err
			},
		} {
			dir := w.Path("/files/" + strings.ReplaceAll(what, " ", "-"))
			w.must(c.Mkdir(t.Context(), dir, 0o755))
			w.must(made(t, c, dir.Join("first"), []byte("x"))) // what may be done is asked, and there are no spares yet
			time.Sleep(50 * time.Millisecond)
			f, err := c.MakeOpen(t.Context(), dir.Join("f"), small)
			w.must(err)
			begun := time.Now()
			there, err := look(dir)
			if took := time.Since(begun); !there || took > time.Second {
				t.Errorf("%s at what was made and has no name: there %v, %v, in %v", what, there, err, took)
			}
			begun = time.Now()
			if _, err := other.Stat(t.Context(), dir.Join("g")); blocktree.KindOf(err) != blocktree.NotFound || time.Since(begun) > 40*time.Millisecond { // less than the first pause
				t.Errorf("%s, and a look at what is not there: %v, in %v", what, err, time.Since(begun))
			}
			w.must(f.Close())
		}
	})
}

func mustOpen(t *testing.T, c *fs.Client, path blocktree.Path) fs.File {
	t.Helper()
	f, err := c.Open(t.Context(), path, fs.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// keptRace is one of two who make the same files, by a service each.
type keptRace struct {
	w   *unlinkWorld
	who int
	c   *fs.Client
	won map[blocktree.Path]bool
	own int   // that are there, and may be its own: of an answer that was missing
	err error // other than Exists
}

const raceDirs, raceFiles = 6, 8

func (r *keptRace) path(d, f int) blocktree.Path {
	return r.w.Path(fmt.Sprintf("/files/d%d/f%d", d, f))
}

// content is what one writes into a file.
func (r *keptRace) content(p blocktree.Path) []byte {
	return bytes.Repeat([]byte{byte('a' + r.who)}, 100+len(p))
}

// run makes all files; the first one's service dies in the middle, with a file that is open.
func (r *keptRace) run(t *testing.T) {
	for d := range raceDirs {
		if r.who == 0 && d == raceDirs/2 {
			f, err := r.c.MakeOpen(t.Context(), r.path(d-1, raceFiles), small)
			if err == nil {
				err = f.WriteAt(t.Context(), []byte("lost"), 0)
			}
			if err != nil {
				t.Error(err)
			}
			r.w.Kill(0)
			return
		}
		if err := r.c.Mkdir(t.Context(), r.path(d, 0).Parent(), 0o755); err != nil && blocktree.KindOf(err) != blocktree.Exists {
			r.err = err
			return
		}
		for f := range raceFiles {
			p := r.path(d, (f+r.who*raceFiles/2)%raceFiles) // each begins elsewhere
			err, again := made(t, r.c, p, r.content(p)), false
			for blocktree.KindOf(err) == blocktree.Unavailable || blocktree.KindOf(err) == blocktree.Busy { // the other one has died
				time.Sleep(100 * time.Millisecond)
				err, again = made(t, r.c, p, r.content(p)), true
			}
			switch {
			case err == nil:
				r.won[p] = true
			case again:
				r.own++
			case blocktree.KindOf(err) != blocktree.Exists:
				r.err = err
			}
		}
	}
}

// TestKeptByTwo: G1, G3 and G4 of 0079. Of two who make the same names in the same directories, by two services of which one dies, one gets each, and what was closed without an error is there.
func TestKeptByTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newKeptWorld(t)
		var both [2]keptRace
		var wg sync.WaitGroup
		for who := range both {
			r := &both[who]
			*r = keptRace{w: w, who: who, c: w.DoorAt(who, "alice", 1000, 1000), won: map[blocktree.Path]bool{}}
			wg.Go(func() { r.run(t) })
		}
		wg.Wait()
		if both[0].err != nil || both[1].err != nil {
			t.Errorf("%v, and %v", both[0].err, both[1].err)
		}
		if n := len(both[0].won) + len(both[1].won); n > raceDirs*raceFiles || n+both[0].own+both[1].own < raceDirs*raceFiles {
			t.Errorf("%d and %d of %d names were made", len(both[0].won), len(both[1].won), raceDirs*raceFiles)
		}
		c := w.DoorAt(2, "alice", 1000, 1000)
		for who := range both {
			for p := range both[who].won {
				if both[1-who].won[p] {
					t.Errorf("both have made %s", p.Short())
				}
				f, want := mustOpen(t, c, p), both[who].content(p)
				got := make([]byte, len(want)+1)
				n, err := f.ReadAt(t.Context(), got, 0)
				if !bytes.Equal(got[:n], want) {
					t.Errorf("%s, made by %d, has %d bytes, its length is %d: %v", p.Short(), who, n, f.Info().Length, err)
				}
			}
		}
		if i, err := c.Stat(t.Context(), both[0].path(raceDirs/2-1, raceFiles)); err == nil && i.Length != 0 && i.Length != 4 {
			t.Errorf("what was not closed has %d bytes", i.Length)
		}
	})
}

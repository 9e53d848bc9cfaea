package meta

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// fullEnv makes the test binary the process whose store waits for space in files of that name: what stands still in it ends with it.
const fullEnv = "BT_TEST_META_FULL"

// What a store waits for may be any of its files: a table, while the group waits for that; the manifest, of which Pebble's readers
// wait, too; the log, or a new file for it, where an error has Pebble unlock what it has not locked. Reads go on, or say that they
// cannot, and a stop ends the group.
func TestClosesWhileItWaits(t *testing.T) {
	if at := os.Getenv(fullEnv); at != "" {
		fmt.Println("closed:", closeWhileItWaits(t, at))
		select {} // until the other process has read it
	}
	for _, at := range []string{"write .sst", "create .sst", "write MANIFEST", "write .log", "create .log"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			c := exec.Command(os.Args[0], "-test.run=^TestClosesWhileItWaits$")
			c.Env = append(os.Environ(), fullEnv+"="+at)
			out, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			kill := time.AfterFunc(60*time.Second, func() { _ = c.Process.Kill() })
			said := ""
			for lines := bufio.NewScanner(out); said == "" && lines.Scan(); {
				said, _ = strings.CutPrefix(lines.Text(), "closed: ")
			}
			kill.Stop()
			_ = c.Process.Kill()
			_ = c.Wait() // killed
			if said != "<nil>" {
				t.Fatalf("it said %q", said)
			}
		})
	}
}

// closeWhileItWaits fills the disk for what at says, has a group work until it waits, asks it, and closes it.
func closeWhileItWaits(t *testing.T, at string) error {
	what, files, _ := strings.Cut(at, " ")
	var full atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !full.Load() || !strings.Contains(op.Path, files) {
			return nil
		}
		switch {
		case what == "write" && op.Kind == errorfs.OpFileWrite,
			what == "create" && (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpReuseForWrite):
			return syscall.ENOSPC
		}
		return nil
	}))
	g := openSmall(t, fs)
	found(t, g)
	full.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var made, asked atomic.Int64
	go dirs(ctx, g, &made)
	go func() {
		for ; ctx.Err() == nil; time.Sleep(time.Millisecond) {
			_, _ = g.Stat(path("/d000000"))
			asked.Add(1)
		}
	}()
	eventually(g.cfg.room.waits)
	for last := int64(-1); last != made.Load(); time.Sleep(time.Second) { // until the group waits, too
		last = made.Load()
	}
	n := asked.Load()
	eventually(func() bool { return asked.Load() > n+10 })
	return g.Close()
}

// found makes a group of one a cluster.
func found(t *testing.T, g *Group) {
	t.Helper()
	if _, err := g.Propose(t.Context(), Command{ID: NewCommandID(), Op: Found{Dir: rootDir, Generation: 1, Runtimes: founders(1), Mode: 0o755}}); err != nil {
		t.Fatal(err)
	}
}

// TestViewsAreBounded: readers whose snapshots cannot be closed are refused one day, and all of them leave.
func TestViewsAreBounded(t *testing.T) {
	var g gate
	for range viewsMax {
		if err := g.enter(); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.enter(); err == nil {
		t.Error("there is no bound")
	}
	g.leave()
	if err := g.enter(); err != nil {
		t.Error(err)
	}
	for range viewsMax {
		g.leave()
	}
	g.close()
	if err := g.enter(); err == nil {
		t.Error("it is not closed")
	}
}

// TestSlowDiskIsNoFullDisk: a store that takes long to close is waited for.
func TestSlowDiskIsNoFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slow atomic.Bool
		fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if slow.Load() && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) {
				time.Sleep(10 * closeWait)
			}
			return nil
		}))
		g := openSmall(t, fs)
		found(t, g)
		slow.Store(true)
		began := time.Now()
		if err := g.Close(); err != nil || time.Since(began) < 10*closeWait {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if err := g.fail.get(); err != nil {
			t.Error(err)
		}
	})
}

// nameFS has files that were found without their space, as a crash leaves them.
type nameFS struct{ *smallFS }

func (n nameFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := n.FS.OpenReadWrite(name, c, o...)
	return &smallFile{File: f, fs: n.smallFS, name: name}, err
}

// TestRoomIsNoName: a crash may leave the names of the room's files and not their space. It is allocated anew; what cannot be is no room.
func TestRoomIsNoName(t *testing.T) {
	for _, c := range []struct {
		space int64
		files int
	}{{512 << 20, testRoomFiles}, {roomFileBytes + 1<<20, 1}} {
		fs := nameFS{newSmallFS(c.space)}
		if err := fs.MkdirAll("meta/room", 0o700); err != nil {
			t.Fatal(err)
		}
		for i := range testRoomFiles {
			f, err := fs.Create(fmt.Sprintf("meta/room/room-1-%d", i), vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
		cfg := Config{FS: fs, Dir: "meta", Logger: discard, RoomBytes: testRoomFiles * roomFileBytes}
		r, err := openRoom(&cfg, newFailure())
		if err != nil {
			t.Fatal(err)
		}
		if n := r.has(); n != c.files || c.space-fs.left() != int64(n)*roomFileBytes {
			t.Errorf("%d files of room take %d bytes", n, c.space-fs.left())
		}
		r.close()
		if names, err := fs.List("meta/room"); err != nil || len(names) != c.files {
			t.Errorf("%v, %v", names, err)
		}
	}
}

// noDirFS is full: no directory can be made.
type noDirFS struct {
	vfs.FS
	full atomic.Bool
}

func (n *noDirFS) MkdirAll(dir string, perm os.FileMode) error {
	if n.full.Load() {
		return syscall.ENOSPC
	}
	return n.FS.MkdirAll(dir, perm)
}

// TestFirstRoomOnAFullDisk: a node of before, which has no room yet, starts on a full disk, and makes it when it can.
func TestFirstRoomOnAFullDisk(t *testing.T) {
	fs := &noDirFS{FS: newSmallFS(512 << 20)}
	if err := fs.MkdirAll("meta", 0o700); err != nil {
		t.Fatal(err)
	}
	fs.full.Store(true)
	cfg := Config{FS: fs, Dir: "meta", Logger: discard, RoomBytes: testRoomFiles * roomFileBytes}
	r, err := openRoom(&cfg, newFailure())
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	if r.has() != 0 {
		t.Error("there is room")
	}
	fs.full.Store(false)
	if r.makeUp(); r.has() != testRoomFiles {
		t.Errorf("%d files of room", r.has())
	}
}

// partFS finds no space every now and then, in the middle of a write.
type partFS struct {
	vfs.FS
	mu   sync.Mutex
	rng  *rand.Rand
	part int
}

type partFile struct {
	vfs.File
	fs *partFS
}

func (p *partFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := p.FS.Create(name, c)
	return partFile{f, p}, err
}

func (p *partFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := p.FS.ReuseForWrite(from, to, c)
	return partFile{f, p}, err
}

func (f partFile) Write(b []byte) (int, error) {
	f.fs.mu.Lock()
	n := -1
	if f.fs.rng.IntN(3) == 0 {
		n = f.fs.rng.IntN(len(b) + 1)
		f.fs.part++
	}
	f.fs.mu.Unlock()
	if n < 0 {
		return f.File.Write(b)
	}
	if n > 0 {
		if n, err := f.File.Write(b[:n]); err != nil {
			return n, err
		}
	}
	return n, syscall.ENOSPC
}

// A write of which a part was done when space ran out is done whole, in its place: no power failure, at any sync and at any answer, then
// loses what was acknowledged.
func TestCrashWithWritesInParts(t *testing.T) {
	var parts []*partFS
	points := crashRunOn(t, 1, hooks{}, 14, func(fs vfs.FS) vfs.FS {
		room := &room{fs: vfs.NewMem(), log: discard, fail: newFailure(), stop: make(chan struct{})}
		for i := range 10000 { // enough of it
			name := fmt.Sprint(i)
			f, err := room.fs.Create(name, vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			room.files = append(room.files, name)
		}
		p := &partFS{FS: fs, rng: rand.New(rand.NewPCG(1, uint64(len(parts))))}
		parts = append(parts, p)
		return roomFS{p, room}
	})
	for i, p := range parts {
		if p.part == 0 {
			t.Errorf("member %d: %d writes were done in part", i+1, p.part)
		}
	}
	for i := range points {
		if err := points[i].check(t); err != nil {
			t.Fatalf("crash %d of %d (kept %s): %v", i, len(points), points[i].mode, err)
		}
	}
}

// TestNewOnAFullDisk: a store that is made when others have just taken what was free waits for space; told to stop, it does.
func TestNewOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := &noDirFS{FS: newSmallFS(512 << 20)}
		fs.full.Store(true)
		opened := make(chan *Group, 1)
		go func() { opened <- openSmall(t, fs) }()
		time.Sleep(time.Minute)
		select {
		case <-opened:
			t.Fatal("there is a store, without space for it")
		default:
		}
		fs.full.Store(false)
		if err := (<-opened).Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestRoomSyncFails: a sync that fails ends the store whatever it is of, also a file of the room without content: when room is made, and when
// it is found at a start.
func TestRoomSyncFails(t *testing.T) {
	for _, x := range []struct {
		name  string
		found bool // there is room, of an earlier start
	}{{"room that is made", false}, {"room that is found", true}} {
		t.Run(x.name, func(t *testing.T) {
			below := newSmallFS(512 << 20)
			if x.found {
				if err := openSmall(t, below).Close(); err != nil {
					t.Fatal(err)
				}
			}
			failed := false
			fs := errorfs.Wrap(below, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if failed || op.Kind != errorfs.OpFileSync || !strings.Contains(op.Path, roomDir+"-") {
					return nil
				}
				failed = true // by the one goroutine that opens the store; once: the next sync says that all is well
				return syscall.EIO
			}))
			g, err := Open(t.Context(), Config{Dir: "meta", FS: fs, Node: 1, Founders: founders(1), Send: func(blocktree.NodeID, []byte) {},
				Clock: &fakeClock{}, Logger: discard, RoomBytes: testRoomFiles * roomFileBytes})
			if err == nil {
				_ = g.Close()
			}
			if !failed || blocktree.KindOf(err) != blocktree.IO {
				t.Errorf("failed %v: %v, want an I/O error", failed, err)
			}
		})
	}
}

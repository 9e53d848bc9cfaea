package meta

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"blocktree"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// smallFS is a file system in memory that has only so much space. Space that was allocated ahead is a file's own.
type smallFS struct {
	vfs.FS
	mu    sync.Mutex
	space int64 // that is left
	sizes map[string]int64
}

func newSmallFS(space int64) *smallFS {
	return &smallFS{FS: vfs.NewMem(), space: space, sizes: map[string]int64{}}
}

// take has a file be at least so long.
func (s *smallFS) take(name string, to int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	need := to - s.sizes[name]
	if need > s.space {
		return syscall.ENOSPC
	}
	if need > 0 {
		s.space -= need
		s.sizes[name] = to
	}
	return nil
}

// fill leaves so much space, and returns how much it took.
func (s *smallFS) fill(leave int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := max(s.space-leave, 0)
	s.space -= taken
	return taken
}

func (s *smallFS) give(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.space += n
}

func (s *smallFS) left() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.space
}

func (s *smallFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.Create(name, c)
	if err != nil {
		return nil, err
	}
	s.give(s.forget(name))
	return &smallFile{File: f, fs: s, name: name}, nil
}

func (s *smallFS) forget(name string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.sizes[name]
	delete(s.sizes, name)
	return n
}

func (s *smallFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.ReuseForWrite(from, to, c)
	if err != nil {
		return nil, err
	}
	s.moved(from, to)
	return &smallFile{File: f, fs: s, name: to}, nil
}

func (s *smallFS) moved(from, to string) {
	n := s.forget(from)
	s.give(s.forget(to))
	s.mu.Lock()
	s.sizes[to] = n
	s.mu.Unlock()
}

func (s *smallFS) Rename(from, to string) error {
	err := s.FS.Rename(from, to)
	if err == nil {
		s.moved(from, to)
	}
	return err
}

func (s *smallFS) Remove(name string) error {
	err := s.FS.Remove(name)
	if err == nil {
		s.give(s.forget(name))
	}
	return err
}

func (s *smallFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: uint64(s.left())}, nil
}

func (s *smallFS) Unwrap() vfs.FS { return s.FS }

type smallFile struct {
	vfs.File
	fs   *smallFS
	name string
	at   int64
}

func (f *smallFile) Write(p []byte) (int, error) {
	if err := f.fs.take(f.name, f.at+int64(len(p))); err != nil {
		return 0, err
	}
	n, err := f.File.Write(p)
	f.at += int64(n)
	return n, err
}

func (f *smallFile) Preallocate(off, n int64) error { return f.fs.take(f.name, off+n) }

// testRoomFiles is as little room as a store can do with for a while.
const testRoomFiles = 3

// openSmall opens a group of one on a file system.
func openSmall(t *testing.T, fs vfs.FS) *Group {
	t.Helper()
	g, err := Open(t.Context(), Config{Dir: "meta", FS: fs, Node: 1, Founders: founders(1), Send: func(blocktree.NodeID, []byte) {},
		Clock: &fakeClock{}, Logger: discard, RoomBytes: testRoomFiles * roomFileBytes})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// dirs makes directories, each of which takes some kilobytes of metadata, until ctx ends; made counts them.
func dirs(ctx context.Context, g *Group, made *atomic.Int64) {
	deep := strings.Repeat("/"+strings.Repeat("x", 200), 12)
	for ctx.Err() == nil {
		op := MakeDir{Path: path(fmt.Sprintf("/d%06d", made.Load())) + blocktree.Path(deep), Parents: true, Mode: 0o755}
		if _, err := g.Propose(ctx, Command{ID: NewCommandID(), Op: op}); err == nil {
			made.Add(1)
		}
	}
}

// eventually waits for something that must come, however long it takes; the test's own limit is the bound.
func eventually(done func() bool) {
	for !done() {
		time.Sleep(time.Millisecond)
	}
}

func (r *room) waits() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.told.IsZero()
}

func (r *room) has() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.files)
}

// TestFullDiskIsWaitedFor: others fill the disk. The group goes on in its room; when that is used up it waits, answers what it knows, and goes on
// by itself when there is space. Nothing that was acknowledged is lost, and the room is made up.
func TestFullDiskIsWaitedFor(t *testing.T) {
	fs := newSmallFS(512 << 20)
	g := openSmall(t, fs)
	if _, err := g.Propose(t.Context(), Command{ID: NewCommandID(), Op: Found{Dir: rootDir, Generation: 1, Runtimes: founders(1), Mode: 0o755}}); err != nil {
		t.Fatal(err)
	}
	if n := g.cfg.room.has(); n != testRoomFiles {
		t.Fatalf("%d files of room", n)
	}
	taken := fs.fill(0)
	ctx, cancel := context.WithCancel(t.Context())
	var made atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() { dirs(ctx, g, &made) })
	eventually(g.cfg.room.waits)
	full := made.Load()
	if full < 100 || g.cfg.room.has() > 0 {
		t.Errorf("%d directories were made in the room; %d files of it are left", full, g.cfg.room.has())
	}
	if _, err := g.Stat(path("/d000000")); err != nil {
		t.Errorf("what it knows: %v", err)
	}
	fs.give(taken)
	eventually(func() bool { return made.Load() > full+1000 })
	cancel()
	wg.Wait()
	select {
	case err := <-g.Fatal():
		t.Errorf("it is at its end: %v", err)
	default:
	}
	if g.cfg.room.makeUp(); g.cfg.room.has() != testRoomFiles {
		t.Errorf("%d files of room at the end", g.cfg.room.has())
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	g = openSmall(t, fs)
	for i := range made.Load() {
		if _, err := g.Stat(path(fmt.Sprintf("/d%06d", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestStartsOnAFullDisk: a group that was stopped starts again though others have taken all that was free, and does what it is asked.
func TestStartsOnAFullDisk(t *testing.T) {
	fs := newSmallFS(512 << 20)
	g := openSmall(t, fs)
	if _, err := g.Propose(t.Context(), Command{ID: NewCommandID(), Op: Found{Dir: rootDir, Generation: 1, Runtimes: founders(1), Mode: 0o755}}); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	fs.fill(0)
	g = openSmall(t, fs)
	if _, err := g.Propose(t.Context(), Command{ID: NewCommandID(), Op: MakeDir{Path: path("/d"), Mode: 0o755}}); err != nil {
		t.Fatal(err)
	}
	if n := g.cfg.room.has(); n == 0 || n == testRoomFiles {
		t.Errorf("%d files of room are left", n)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
}

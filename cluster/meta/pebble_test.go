package meta

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"blocktree"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// While the store is made, opened again and its manifest replaced, the power fails at every sync, many times over; of the names
// that no sync of the directory covers any may be lost. Whatever is left opens.
func TestPebbleOpensAfterAnyCrash(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	disk := vfs.NewCrashableMem()
	clones := 0
	crash := func() {
		for range 40 {
			clone := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng})
			db, err := openPebble(&Config{Dir: "meta", FS: clone, Logger: discard}, newFailure())
			if err != nil {
				names, _ := clone.List("meta")
				t.Fatalf("clone %d: %v; it has %q", clones, err, names)
			}
			clones++
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 3 {
		db, err := openPebble(&Config{Dir: "meta", FS: syncFS{disk, crash}, Logger: discard}, newFailure())
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if clones < 500 {
		t.Fatalf("only %d crashes", clones)
	}
	t.Logf("%d crashes", clones)
}

// A log on a disk has zeros ahead of what is written to it; and what a kill leaves of it opens.
func TestLogsAhead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "meta")
	cfg := Config{Dir: dir, FS: vfs.Default, Node: 1, Founders: founders(1), Send: func(blocktree.NodeID, []byte) {}, Clock: &fakeClock{}, Logger: discard}
	g, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	const dirs = 3
	for i, op := range []Op{Found{Dir: rootDir, Generation: 1, Runtimes: founders(1)}, MakeDir{Path: path("/a")}, MakeDir{Path: path("/b")}, MakeDir{Path: path("/c")}} {
		if r, err := g.Propose(t.Context(), Command{ID: NewCommandID(), Op: op}); err != nil || r.Kind != blocktree.Other {
			t.Fatal(i, r, err)
		}
	}
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatal(logs, err)
	}
	for _, name := range logs {
		if b, err := os.ReadFile(name); err != nil || len(b) < logPieceBytes || len(bytes.TrimRight(b, "\x00")) > len(b)/2 {
			t.Errorf("%s has %d bytes, no zeros ahead: %v", name, len(b), err)
		}
	}
	cfg.Dir = filepath.Join(t.TempDir(), "meta")
	if err := os.CopyFS(cfg.Dir, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if g, err = Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := g.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if names, _, err := g.List(rootDir, "", 0); err != nil || len(names) != dirs {
		t.Errorf("%d names: %v", len(names), err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
}

// writesFS counts how often a log is written to where it was not before.
type writesFS struct {
	*vfs.MemFS
	first *int
}

type writesFile struct {
	vfs.File
	first        *int
	end, written int64
}

func (w writesFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := w.MemFS.Create(name, c)
	return &writesFile{File: f, first: w.first}, err
}

func (w writesFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := w.MemFS.ReuseForWrite(from, to, c)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	return &writesFile{File: f, first: w.first, written: info.Size()}, err
}

func (f *writesFile) Write(p []byte) (int, error) {
	if f.end += int64(len(p)); f.end > f.written {
		f.written = f.end
		*f.first++
	}
	return f.File.Write(p)
}

func (f *writesFile) WriteAt(p []byte, at int64) (int, error) {
	f.written = max(f.written, at+int64(len(p)))
	return f.File.WriteAt(p, at)
}

// Few of many small writes to a log go where none went before, in a new file and in one that was used, and what is read back is what was written, and zeros.
func TestLogsAheadOfSmallWrites(t *testing.T) {
	first := 0
	fs := logsAhead{FS: writesFS{vfs.NewMem(), &first}, memory: true}
	const writes = 2000
	write := func(f vfs.File, err error, size, most int) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		first = 0
		for i := range writes {
			if _, err := f.Write(bytes.Repeat([]byte{byte(i) | 1}, size)); err != nil {
				t.Fatal(err)
			}
		}
		if first > most {
			t.Errorf("%d of %d writes were the first to their blocks", first, writes)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f, err := fs.Create("1.log", vfs.WriteCategoryUnspecified)
	write(f, err, 300, 8)
	f, err = fs.ReuseForWrite("1.log", "2.log", vfs.WriteCategoryUnspecified)
	write(f, err, 900, 4)
	if f, err = fs.Open("2.log"); err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, info.Size())
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	for i := range writes * 900 {
		if b[i] != byte(i/900)|1 {
			t.Fatalf("%d at %d", b[i], i)
		}
	}
	if rest := b[writes*900:]; len(bytes.Trim(rest, "\x00")) > 0 || len(rest) > logAheadBytesMax {
		t.Errorf("%d bytes behind it, not all zeros", len(rest))
	}
}

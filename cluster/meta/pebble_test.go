package meta

import (
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

// A new log has its blocks, so that a sync of a command makes no metadata of the file durable; and what a kill leaves of it opens.
func TestNewLogsAreWritten(t *testing.T) {
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
		if info, err := os.Stat(name); err != nil || info.Size() != logZeroBytes {
			t.Errorf("%s is of another length: %v, %v", name, info.Size(), err)
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

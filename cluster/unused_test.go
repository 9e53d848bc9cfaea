package cluster

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"blocktree"
	"blocktree/cluster/store"
	"blocktree/internal/vfs"
)

// TestUnused: a store is taken for unused only if nothing says that it was ever used.
func TestUnused(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(t *testing.T, disk vfs.FS)
		unused bool
	}{
		{"as it is made", func(*testing.T, vfs.FS) {}, true},
		{"a start was proposed", func(t *testing.T, disk vfs.FS) { saved(t, disk, "/n/sectors", startMark{next: 5}) }, true},
		{"it has served", func(t *testing.T, disk vfs.FS) { saved(t, disk, "/n/sectors", startMark{current: 5, next: 5}) }, false},
		{"its metadata has", func(t *testing.T, disk vfs.FS) { saved(t, disk, "/n/meta", startMark{current: 5, next: 5}) }, false},
		{"nobody can say", func(t *testing.T, disk vfs.FS) {
			f, err := disk.Create("/n/sectors/" + startFile)
			if err != nil {
				t.Fatal(err)
			}
			_ = f.Close()
		}, false},
		{"its marks are gone, not the sectors, of which no checkpoint knows", func(t *testing.T, disk vfs.FS) { kept(t, disk) }, false},
		{"it was cut off when it was made", func(t *testing.T, disk vfs.FS) {
			if err := disk.Remove("/n/sectors/superblock"); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"it had no space, again and again", func(t *testing.T, disk vfs.FS) {
			full := vfs.NewFault(disk)
			full.Inject(vfs.Injection{Op: vfs.FaultAllocate, Times: -1, Err: blocktree.E("test", blocktree.NoSpace, nil)})
			for range 3 {
				if _, err := openMember(full, "/n/sectors", 7, slog.New(slog.DiscardHandler), 0); blocktree.KindOf(err) != blocktree.NoSpace {
					t.Fatal(err)
				}
			}
		}, true},
		{"it lost its superblock", func(t *testing.T, disk vfs.FS) {
			kept(t, disk)
			if err := disk.Remove("/n/sectors/superblock"); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"another's", func(t *testing.T, disk vfs.FS) { made(t, disk, 8) }, false},
		{"it is being removed", func(t *testing.T, disk vfs.FS) { marked(t, disk); damaged(t, disk) }, true},
		{"the mark of that is on one that has served", func(t *testing.T, disk vfs.FS) {
			marked(t, disk)
			saved(t, disk, "/n/sectors", startMark{current: 5, next: 5})
		}, false},
	} {
		disk := vfs.NewCrash()
		if err := disk.MkdirAll("/n/meta"); err != nil {
			t.Fatal(err)
		}
		made(t, disk, 7)
		c.change(t, disk)
		if got := Unused(disk, "/n/sectors", "/n/meta", 7); got != c.unused {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

func made(t *testing.T, disk vfs.FS, id blocktree.NodeID) {
	if err := disk.MkdirAll("/n/sectors"); err != nil {
		t.Fatal(err)
	}
	names, _ := disk.List("/n/sectors")
	for _, n := range names {
		_ = disk.Remove("/n/sectors/" + n)
	}
	if err := store.Create(disk, "/n/sectors", id, store.Options{}); err != nil {
		t.Fatal(err)
	}
}

// kept writes one sector into the store, and ends as if the power had failed.
func kept(t *testing.T, disk vfs.FS) {
	crash := disk.(*vfs.Crash)
	m, err := openMember(crash, "/n/sectors", 7, slog.New(slog.DiscardHandler), 0)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	record := store.Record{Kind: store.KindData, File: memberFile, Count: 1, ShardBytes: 4096, Version: blocktree.Version{Epoch: 1, Sequence: 1},
		Payload: make([]byte, 4096), Seals: make([]byte, store.SealBytes)}
	if _, err := m.store.Append([]store.Record{record}, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	before := crash.Clone(1)
	if err := m.close(); err != nil {
		t.Fatal(err)
	}
	made(t, disk, 7)
	for _, name := range listed(t, disk) {
		if err := disk.Remove("/n/sectors/" + name); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range listed(t, before) {
		copied(t, disk, before, "/n/sectors/"+name)
	}
}

func listed(t *testing.T, disk vfs.FS) []string {
	names, err := disk.List("/n/sectors")
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func copied(t *testing.T, to, from vfs.FS, name string) {
	size, err := from.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := from.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	g, err := to.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Truncate(size); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, min(size, 1<<20)) // the rest is space taken ahead
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := g.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), g.Close()); err != nil {
		t.Fatal(err)
	}
}

func marked(t *testing.T, disk vfs.FS) {
	if err := replaceFile(disk, "/n/sectors", unusedFile, nil, true); err != nil {
		t.Fatal(err)
	}
}

func damaged(t *testing.T, disk vfs.FS) {
	if err := disk.Remove("/n/sectors/superblock"); err != nil {
		t.Fatal(err)
	}
}

func saved(t *testing.T, disk vfs.FS, dir string, mark startMark) {
	if err := mark.save(disk, dir); err != nil {
		t.Fatal(err)
	}
}

func nothing() error { return nil }

// TestDiscard removes an unused store, unless a process has it.
func TestDiscard(t *testing.T) {
	root := t.TempDir()
	disk, sectors, metadata := vfs.Disk{}, root+"/sectors", root+"/meta"
	if err := os.MkdirAll(metadata+"/deeper", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := store.Create(disk, sectors, 7, store.Options{}); err != nil {
		t.Fatal(err)
	}
	lock, err := store.Lock(disk, sectors)
	if err != nil {
		t.Fatal(err)
	}
	if err := Discard(disk, nil, sectors, metadata, 7, nothing); blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" {
		t.Errorf("in use: %v", err)
	}
	if _, err := store.Inspect(disk, sectors); blocktree.KindOf(err) != blocktree.Busy {
		t.Errorf("it is gone: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Discard(disk, nil, sectors, metadata, 7, nothing); err != nil {
		t.Fatal(err)
	}
	if names, err := disk.List(sectors); err != nil || len(names) > 0 {
		t.Errorf("left: %v, %v", names, err)
	}
	if names, err := os.ReadDir(metadata); err != nil || len(names) > 0 {
		t.Errorf("left: %v, %v", names, err)
	}
}

// TestDiscardedUntilItIsKnown: a store counts as given up until it is written down which one the node has instead, after all of it is gone.
func TestDiscardedUntilItIsKnown(t *testing.T) {
	disk := vfs.NewCrash()
	made(t, disk, 7)
	failed := errors.New("nowhere to write it down")
	err := Discard(disk, pebblevfs.NewMem(), "/n/sectors", "/n/meta", 7, func() error {
		if names := listed(t, disk); len(names) != 1 || names[0] != unusedFile {
			t.Errorf("left: %v", names)
		}
		return failed
	})
	if !errors.Is(err, failed) {
		t.Fatal(err)
	}
	for seed := range uint64(20) {
		if after := disk.Clone(seed); !Discarded(after, "/n/sectors") {
			t.Fatalf("seed %d: forgotten", seed)
		}
	}
	if err := Discard(disk, pebblevfs.NewMem(), "/n/sectors", "/n/meta", 7, nothing); err != nil || Discarded(disk.Clone(1), "/n/sectors") {
		t.Errorf("not ended: %v", err)
	}
}

// TestDiscardLooksAgain: a store that a process began to serve after somebody had looked is not removed.
func TestDiscardLooksAgain(t *testing.T) {
	disk := vfs.Disk{}
	root := t.TempDir()
	for what, use := range map[string]func(sectors string){
		"served":    func(sectors string) { saved(t, disk, sectors, startMark{current: 5, next: 5}) },
		"another's": func(string) {},
	} {
		sectors, metadata := filepath.Join(root, what, "sectors"), filepath.Join(root, what, "meta")
		id := blocktree.NodeID(7)
		if what == "another's" {
			id = 8
		}
		if err := store.Create(disk, sectors, id, store.Options{}); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(metadata, "log"), 0o700); err != nil {
			t.Fatal(err)
		}
		use(sectors)
		if err := Discard(disk, nil, sectors, metadata, 7, nothing); blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" {
			t.Errorf("%s: %v", what, err)
		}
		if info, err := store.Inspect(disk, sectors); err != nil || info.Store != id {
			t.Errorf("%s: it is gone: %v", what, err)
		}
		if _, err := os.Stat(filepath.Join(metadata, "log")); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestDiscardCutOff: wherever the power fails, what is left is unused as before, so that it is removed at the next start.
func TestDiscardCutOff(t *testing.T) {
	for n := 0; ; n++ {
		crash := vfs.NewCrash()
		made(t, crash, 7)
		saved(t, crash, "/n/sectors", startMark{next: 5})
		m, err := openMember(crash, "/n/sectors", 7, slog.New(slog.DiscardHandler), 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.close(); err != nil {
			t.Fatal(err)
		}
		disk := vfs.NewFault(crash)
		disk.Inject(vfs.Injection{Op: vfs.FaultRemove, Skip: n, Times: -1})
		err = Discard(disk, pebblevfs.NewMem(), "/n/sectors", "/n/meta", 7, nothing)
		for seed := range uint64(30) {
			after := crash.Clone(seed)
			if !Unused(after, "/n/sectors", "/n/meta", 7) {
				names, _ := after.List("/n/sectors")
				t.Fatalf("cut off at removal %d, seed %d: it counts as used: %v", n, seed, names)
			}
		}
		if err == nil {
			if n < 4 {
				t.Errorf("only %d removals", n)
			}
			return
		}
	}
}

// TestDiscardStaysOnItsDisk: where the metadata has a disk of its own, by a symbolic link or a mount, it has it afterwards, too.
func TestDiscardStaysOnItsDisk(t *testing.T) {
	root := t.TempDir()
	elsewhere, metadata := filepath.Join(root, "disk"), filepath.Join(root, "meta")
	if err := os.MkdirAll(filepath.Join(elsewhere, "log"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, metadata); err != nil {
		t.Fatal(err)
	}
	if err := store.Create(vfs.Disk{}, filepath.Join(root, "sectors"), 7, store.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := Discard(vfs.Disk{}, nil, filepath.Join(root, "sectors"), metadata, 7, nothing); err != nil {
		t.Fatal(err)
	}
	if names, err := os.ReadDir(elsewhere); err != nil || len(names) > 0 {
		t.Errorf("left there: %v, %v", names, err)
	}
	if to, err := os.Readlink(metadata); err != nil || to != elsewhere {
		t.Errorf("the link: %s, %v", to, err)
	}
}

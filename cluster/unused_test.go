package cluster

import (
	"os"
	"testing"

	"blocktree"
	"blocktree/cluster/meta"
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
		{"another's", func(t *testing.T, disk vfs.FS) { made(t, disk, 8) }, false},
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

func saved(t *testing.T, disk vfs.FS, dir string, mark startMark) {
	if err := mark.save(disk, dir); err != nil {
		t.Fatal(err)
	}
}

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
	if err := Discard(disk, nil, sectors, metadata); blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" {
		t.Errorf("in use: %v", err)
	}
	if _, err := store.Inspect(disk, sectors); blocktree.KindOf(err) != blocktree.Busy {
		t.Errorf("it is gone: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Discard(disk, nil, sectors, metadata); err != nil {
		t.Fatal(err)
	}
	if names, err := disk.List(sectors); err != nil || len(names) > 0 || !meta.Missing(nil, metadata) {
		t.Errorf("left: %v, %v", names, err)
	}
}

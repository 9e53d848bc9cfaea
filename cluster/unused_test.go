package cluster

import (
	"testing"

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
		{"another's", func(t *testing.T, disk vfs.FS) { made(t, disk, 8) }, false},
		{"in use", func(t *testing.T, disk vfs.FS) {
			lock, err := store.Lock(disk, "/n/sectors")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = lock.Close() })
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

func saved(t *testing.T, disk vfs.FS, dir string, mark startMark) {
	if err := mark.save(disk, dir); err != nil {
		t.Fatal(err)
	}
}

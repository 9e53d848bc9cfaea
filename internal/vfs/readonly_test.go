package vfs

import (
	"path/filepath"
	"testing"

	"blocktree"
)

// TestReadOnly: everything can be read, nothing changed, and the lock is the one that Disk takes.
func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a")
	f := must[File](t)(Disk{}.Create(name))
	must[int](t)(f.WriteAt([]byte("kept"), 0))
	ok(t, f.Close())
	ro := DiskReadOnly{}
	wantKind(t, "lock without a lock file", func() error { _, err := ro.Lock(filepath.Join(dir, "lock")); return err }(), blocktree.NotFound)
	lock, err := Disk{}.Lock(filepath.Join(dir, "lock"))
	ok(t, err)
	wantKind(t, "taken lock", func() error { _, err := ro.Lock(filepath.Join(dir, "lock")); return err }(), blocktree.Busy)
	ok(t, lock.Close())
	lock, err = ro.Lock(filepath.Join(dir, "lock"))
	ok(t, err)
	wantKind(t, "lock of Disk", func() error { _, err := Disk{}.Lock(filepath.Join(dir, "lock")); return err }(), blocktree.Busy)
	ok(t, lock.Close())

	r := must[File](t)(ro.Open(name))
	for what, change := range map[string]func() error{
		"Create":     func() error { _, err := ro.Create(name); return err },
		"Create new": func() error { _, err := ro.Create(name + "2"); return err },
		"Rename":     func() error { return ro.Rename(name, name+"2") },
		"Remove":     func() error { return ro.Remove(name) },
		"MkdirAll":   func() error { return ro.MkdirAll(filepath.Join(dir, "b")) },
		"SyncDir":    func() error { return ro.SyncDir(dir) },
		"WriteAt":    func() error { _, err := r.WriteAt([]byte("x"), 0); return err },
		"WritevAt":   func() error { _, err := r.WritevAt([][]byte{{'x'}}, 0); return err },
		"Datasync":   r.Datasync, "Sync": r.Sync,
		"Truncate": func() error { return r.Truncate(1) },
		"Allocate": func() error { return r.Allocate(100) },
	} {
		wantKind(t, what, change(), blocktree.ReadOnly)
	}
	ok(t, r.Close())
	names := must[[]string](t)(ro.List(dir))
	if len(names) != 2 || string(content(t, ro, name)) != "kept" || must[int64](t)(ro.Stat(name)) != 4 {
		t.Errorf("%v: changed, or not read", names)
	}
	wantKind(t, "a file that is not there", func() error { _, err := ro.Open(name + "2"); return err }(), blocktree.NotFound)
}

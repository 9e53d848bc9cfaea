package main

import (
	"log/slog"
	"testing"

	"blocktree"
	"blocktree/crypto/tree"
	"blocktree/internal/file"
	"blocktree/internal/vfs"
)

func someSeen(number uint64) file.Seen {
	return file.Seen{File: blocktree.FileID{Generation: 1, Inode: 9}, Root: tree.Root{Generation: 1, Number: number, Random: [16]byte{2}, Hash: [16]byte{byte(number)}}}
}

// TestRootsAreKept: what was saved is there for the next server, unless that accepts a rollback; within one server nothing older replaces it.
func TestRootsAreKept(t *testing.T) {
	dir, p := t.TempDir(), blocktree.Path("/e1/vm/disk0")
	server := func(accept bool) *roots {
		l := &losses{fs: vfs.Disk{}, dir: dir, log: slog.New(slog.DiscardHandler)}
		t.Cleanup(func() { _ = l.close() })
		return newRoots(l, func(blocktree.Path) bool { return accept }, l.log)
	}
	one := server(true)
	for _, s := range []file.Seen{someSeen(1), someSeen(3), someSeen(2)} {
		if err := one.Save(p, s); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := one.Load(p); err != nil || got == nil || *got != someSeen(3) {
		t.Errorf("what this server saw itself: %v, %v", got, err)
	}
	if got, err := one.Load(p + "x"); err != nil || got != nil {
		t.Errorf("another path: %v, %v", got, err)
	}
	if err := one.state.close(); err != nil {
		t.Fatal(err)
	}
	if got, err := server(false).Load(p); err != nil || got == nil || *got != someSeen(3) {
		t.Errorf("the next server: %v, %v", got, err)
	}
	if got, err := server(true).Load(p); err != nil || got != nil {
		t.Errorf("one that accepts: %v, %v", got, err)
	}
	two := server(false)
	if err := two.state.open(); err != nil {
		t.Fatal(err)
	}
	if err := two.state.replace(two.state.file(p, "root"), []byte("blocktree root record 1\npath /x\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := two.Load(p); blocktree.KindOf(err) != blocktree.Corrupt || blocktree.HintOf(err) == "" {
		t.Errorf("a damaged record: %v", err)
	}
}

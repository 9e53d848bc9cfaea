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
		return &roots{state: l, accept: func(blocktree.Path) bool { return accept }, log: l.log, saved: map[blocktree.Path]file.Seen{}}
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

// TestRootRecord reads what it writes, to the byte, and nothing else.
func TestRootRecord(t *testing.T) {
	for _, s := range []file.Seen{someSeen(5), {File: someSeen(1).File}} {
		r := rootRecord{"/e1/vm/disk0", s}
		text := r.encode()
		if got, err := decodeRootRecord(text); err != nil || got != r {
			t.Errorf("%v, %v", got, err)
		}
		for i := range text {
			bad := append([]byte(nil), text...)
			bad[i] ^= 1
			if _, err := decodeRootRecord(bad); blocktree.KindOf(err) != blocktree.Corrupt {
				t.Fatalf("byte %d makes no difference: %v", i, err)
			}
		}
	}
}

// FuzzRootRecord decodes anything, and encodes what it could decode to the same bytes.
func FuzzRootRecord(f *testing.F) {
	f.Add(rootRecord{"/e1/vm/disk0", someSeen(5)}.encode())
	f.Fuzz(func(t *testing.T, text []byte) {
		if r, err := decodeRootRecord(text); err == nil && string(r.encode()) != string(text) {
			t.Fatal("another encoding")
		}
	})
}

package vfs

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"blocktree"
)

// TestBootFiles: what was put is read, by the same boot and by another one that looks in the same place; a second start replaces it.
func TestBootFiles(t *testing.T) {
	dir := t.TempDir()
	b := BootAt([16]byte{1}, filepath.Join(dir, "none"), dir)
	if got := b.Read("mark", 8); len(got) != 0 {
		t.Fatalf("an empty directory has %q", got)
	}
	f, err := b.Create("mark", []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Put([]byte("two")); err != nil {
		t.Fatal(err)
	}
	if got := BootAt([16]byte{2}, dir).Read("mark", 8); len(got) != 1 || string(got[0]) != "two" {
		t.Errorf("read %q", got)
	}
	if got := b.Read("mark", 2); len(got) != 1 || string(got[0]) != "tw" {
		t.Errorf("read %q of at most 2 bytes", got)
	}
	again, err := b.Create("mark", []byte("new"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Put([]byte("old")); err != nil { // a process that was replaced changes nothing any more
		t.Fatal(err)
	}
	if got := b.Read("mark", 8); len(got) != 1 || string(got[0]) != "new" {
		t.Errorf("read %q", got)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := again.Remove(); err != nil {
		t.Error(err)
	}
	if got := b.Read("mark", 8); len(got) != 0 {
		t.Errorf("after it was removed: %q", got)
	}
}

// TestBootFilesOfOthers: links and what has a second name are passed over; a directory in the way leaves no place.
func TestBootFilesOfOthers(t *testing.T) {
	dir := t.TempDir()
	b := BootAt([16]byte{1}, dir)
	real := filepath.Join(dir, "real")
	if err := os.WriteFile(real, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, filepath.Join(dir, "symbolic")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(real, filepath.Join(dir, "hard")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "taken", "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"symbolic", "hard", "taken"} {
		if got := b.Read(name, 8); len(got) != 0 {
			t.Errorf("%s reads %q", name, got)
		}
	}
	if _, err := b.Create("taken", []byte("x")); blocktree.KindOf(err) != blocktree.Unavailable {
		t.Errorf("a name that is taken: %v", err)
	}
	if _, err := (Boot{}).Create("mark", []byte("x")); blocktree.KindOf(err) != blocktree.Unavailable {
		t.Errorf("without a tmpfs: %v", err)
	}
}

// TestMachineBoot: every place is a tmpfs, and the service's own directory comes first if it is one.
func TestMachineBoot(t *testing.T) {
	places := MachineBoot().dirs
	for _, given := range []string{"relative", "/proc", "/none/there"} {
		t.Setenv("RUNTIME_DIRECTORY", given)
		if got := MachineBoot().dirs; !slices.Equal(got, places) {
			t.Errorf("RUNTIME_DIRECTORY %s: %v, want %v", given, got, places)
		}
	}
	for _, dir := range places {
		t.Setenv("RUNTIME_DIRECTORY", dir+":/other")
		if b := MachineBoot(); b.dirs[0] != dir || len(b.dirs) != len(places)+1 || b.ID() == [16]byte{} {
			t.Errorf("given %s: %v, boot %x", dir, b.dirs, b.ID())
		}
	}
}

func TestParseBootID(t *testing.T) {
	id, err := parseBootID("01234567-89ab-cdef-0123-456789abcdef\n")
	if err != nil || id[0] != 0x01 || id[15] != 0xef {
		t.Errorf("%x, %v", id, err)
	}
	for _, s := range []string{"", "\n", "01234567-89ab-cdef-0123-456789abcd", "00000000-0000-0000-0000-000000000000", "x1234567-89ab-cdef-0123-456789abcdef"} {
		if id, err := parseBootID(s); err == nil {
			t.Errorf("%q is %x", s, id)
		}
	}
}

// BenchmarkBootFilePut is what advancing a tail mark costs, in a tmpfs if there is one.
func BenchmarkBootFilePut(b *testing.B) {
	boot := MachineBoot()
	if len(boot.dirs) == 0 {
		boot = BootAt([16]byte{1}, b.TempDir())
	}
	f, err := boot.Create("blocktree-benchmark", make([]byte, 64))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Remove()
	content := make([]byte, 64)
	for b.Loop() {
		if err := f.Put(content); err != nil {
			b.Fatal(err)
		}
	}
}

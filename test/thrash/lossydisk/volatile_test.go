package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// bed is a disk without FUSE: a test calls what the kernel would.
type bed struct {
	t *testing.T
	d *disk
}

func newBed(t *testing.T) *bed {
	dir := t.TempDir()
	d, err := newDisk(filepath.Join(dir, "data"), filepath.Join(dir, "removed"))
	if err != nil {
		t.Fatal(err)
	}
	return &bed{t, d}
}

func (b *bed) path(name string) string { return filepath.Join(b.d.data, name) }

// create makes a file whose name is not safe yet.
func (b *bed) create(name string) *handle {
	b.t.Helper()
	p := b.path(name)
	if err := b.d.change(change{kind: created, path: p}, "", func() error { return os.WriteFile(p, nil, 0o600) }); err != nil {
		b.t.Fatal(err)
	}
	return b.open(name)
}

func (b *bed) open(name string) *handle {
	b.t.Helper()
	h, errno := b.d.open(b.path(name), 0)
	if errno != 0 {
		b.t.Fatal(errno)
	}
	return h
}

func (b *bed) write(h *handle, off int64, fill byte, n int) {
	b.t.Helper()
	if _, errno := h.Write(b.t.Context(), bytes.Repeat([]byte{fill}, n), off); errno != 0 {
		b.t.Fatal(errno)
	}
}

func (b *bed) sync(h *handle) {
	b.t.Helper()
	if errno := h.Fsync(b.t.Context(), 0); errno != 0 {
		b.t.Fatal(errno)
	}
}

// What was synced is there after every loss of power; what was not is old or new in units of a sector of a disk, and over
// some seeds it is both.
func TestCutKeepsWhatWasSynced(t *testing.T) {
	kept, lost := 0, 0
	for seed := range uint64(60) {
		b := newBed(t)
		h := b.create("a")
		b.write(h, 0, 1, 3*blockBytes)
		b.sync(h)
		b.d.commitAll()
		b.write(h, blockBytes, 2, 4*blockBytes)
		if err := h.truncate(10 * blockBytes); err != nil {
			t.Fatal(err)
		}
		if _, err := b.d.cut(seed); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(b.path("a"))
		if err != nil || len(got) < 3*blockBytes {
			t.Fatalf("seed %d: %d bytes, %v", seed, len(got), err)
		}
		for at := 0; at < len(got); at += tearBytes {
			want := []byte{0, 2}
			switch {
			case at < blockBytes:
				want = []byte{1}
			case at < 3*blockBytes:
				want = []byte{1, 2}
			}
			if x := got[at]; !bytes.Contains(want, got[at:at+1]) || !bytes.Equal(got[at:at+tearBytes], bytes.Repeat([]byte{x}, tearBytes)) {
				t.Fatalf("seed %d: at %d there is %x", seed, at, got[at:at+8])
			}
		}
		if got[blockBytes] == 2 {
			kept++
		} else {
			lost++
		}
		if _, errno := h.Write(t.Context(), []byte{1}, 0); errno == 0 {
			t.Fatal("written without power")
		}
	}
	if kept < 10 || lost < 10 {
		t.Fatalf("kept %d times, lost %d times", kept, lost)
	}
}

// A truncation that was not synced may be taken back with all that it cut off.
func TestCutTakesTruncationBack(t *testing.T) {
	whole := 0
	for seed := range uint64(40) {
		b := newBed(t)
		h := b.create("a")
		b.write(h, 0, 7, 2*blockBytes+100)
		b.sync(h)
		b.d.commitAll()
		if err := h.truncate(10); err != nil {
			t.Fatal(err)
		}
		if _, err := b.d.cut(seed); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(b.path("a")); bytes.Equal(got, bytes.Repeat([]byte{7}, 2*blockBytes+100)) {
			whole++
		} else if len(got) != 10 && len(got) != 2*blockBytes+100 {
			t.Fatalf("seed %d: %d bytes", seed, len(got))
		}
	}
	if whole == 0 || whole == 40 {
		t.Fatalf("whole again %d times of 40", whole)
	}
}

// Of names that are not safe the first so many survive, and an fsync of a file does not make its name safe.
func TestCutKeepsNamesInOrder(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(80) {
		b := newBed(t)
		b.sync(b.create("old"))
		b.d.commitAll()
		b.sync(b.create("new"))
		from, to := b.path("new"), b.path("old")
		if err := b.d.change(change{kind: renamed, path: from, to: to}, to, func() error { return os.Rename(from, to) }); err != nil {
			t.Fatal(err)
		}
		if err := b.d.change(change{kind: removedFile, path: to}, to, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		if _, err := b.d.cut(seed); err != nil {
			t.Fatal(err)
		}
		names := ""
		entries, err := os.ReadDir(b.d.data)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names += e.Name() + " "
		}
		seen[names] = true
	}
	for _, want := range []string{"old ", "new old ", ""} { // nothing; the creation; all or the rename is "old " too
		if !seen[want] {
			t.Errorf("never saw %q: %v", want, seen)
		}
	}
	if len(seen) != 3 {
		t.Errorf("saw %v", seen)
	}
}

// After a failed fsync a later one that succeeds proves nothing.
func TestFailedSync(t *testing.T) {
	b := newBed(t)
	h := b.create("a")
	b.write(h, 0, 1, blockBytes)
	b.sync(h)
	b.d.commitAll()
	b.write(h, 0, 2, blockBytes)
	b.d.failSync.Store(true)
	if errno := h.Fsync(t.Context(), 0); errno == 0 {
		t.Fatal("the fsync succeeded")
	}
	b.sync(h)
	if _, err := b.d.cut(1); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(b.path("a")); !bytes.Equal(got, bytes.Repeat([]byte{1}, blockBytes)) {
		t.Fatalf("%x… is there", got[:8])
	}
}

// A drive to measure with counts each fsync, takes its time for those that have something to write, and remembers nothing.
func TestDriveThatKeeps(t *testing.T) {
	b := newBed(t)
	b.d.keeps = true
	if _, err := b.d.command("slow 0.5"); err != nil || b.d.slow.Load() != 500_000 {
		t.Fatalf("%d ns, %v", b.d.slow.Load(), err)
	}
	h := b.create("a")
	b.sync(h)
	for range 3 {
		b.write(h, 0, 1, blockBytes)
		b.sync(h)
		b.sync(h)
	}
	if got := []int64{b.d.flushes.Load(), b.d.idle.Load()}; got[0] != 7 || got[1] != 4 {
		t.Errorf("%d fsyncs, %d with nothing to write", got[0], got[1])
	}
	if ns := b.d.flushing.Load(); ns < 3*500_000 {
		t.Errorf("three took %d ns", ns)
	}
	if h.file.dirty || len(b.d.names) > 0 {
		t.Error("it remembers what could be lost")
	}
	if answer, err := b.d.command("cut 1"); err == nil {
		t.Errorf("it lost something: %s", answer)
	}
}

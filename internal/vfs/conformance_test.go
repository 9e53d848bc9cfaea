package vfs

import (
	"bytes"
	"errors"
	"io"
	"path"
	"slices"
	"testing"

	"blocktree"
)

// TestConformance runs the same expectations on every implementation.
func TestConformance(t *testing.T) {
	for _, impl := range []struct {
		name string
		make func(t *testing.T) (FS, string)
	}{
		{"disk", func(t *testing.T) (FS, string) { return Disk{}, t.TempDir() }},
		{"crash", func(*testing.T) (FS, string) { return NewCrash(), "/top" }},
		{"clone", func(*testing.T) (FS, string) { return NewCrash().Clone(1), "/top" }},
		{"fault over crash", func(*testing.T) (FS, string) { return NewFault(NewCrash()), "/top" }},
		{"fault over disk", func(t *testing.T) (FS, string) { return NewFault(Disk{}), t.TempDir() }},
	} {
		for _, c := range []struct {
			name string
			run  func(*testing.T, FS, string)
		}{
			{"files", conformFiles}, {"names", conformNames}, {"errors", conformErrors}, {"lock", conformLock}, {"vectors", conformVectors}, {"direct", conformDirect},
		} {
			t.Run(impl.name+"/"+c.name, func(t *testing.T) {
				fs, dir := impl.make(t)
				dir = path.Join(dir, "a", "b")
				if err := fs.MkdirAll(dir); err != nil {
					t.Fatal(err)
				}
				if err := fs.MkdirAll(dir); err != nil {
					t.Fatalf("again: %v", err)
				}
				c.run(t, fs, dir)
			})
		}
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t *testing.T, what string, err error, kind blocktree.Kind) {
	t.Helper()
	if blocktree.KindOf(err) != kind || err == nil {
		t.Errorf("%s: got %v, want kind %v", what, err, kind)
	}
}

func content(t *testing.T, fs FS, name string) []byte {
	t.Helper()
	f := must[File](t)(fs.Open(name))
	defer f.Close()
	b := make([]byte, must[int64](t)(f.Size()))
	if n, err := f.ReadAt(b, 0); n != len(b) {
		t.Fatal(n, err)
	}
	return b
}

func conformFiles(t *testing.T, fs FS, dir string) {
	name := path.Join(dir, "f")
	f := must[File](t)(fs.Create(name))
	defer f.Close()
	if n, err := f.WriteAt([]byte("world"), 6); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := f.WriteAt([]byte("hello "), 0); n != 6 || err != nil {
		t.Fatal(n, err)
	}
	ok(t, f.Datasync())
	ok(t, f.Sync())
	if got := content(t, fs, name); string(got) != "hello world" {
		t.Errorf("got %q", got)
	}
	b := make([]byte, 8)
	if n, err := f.ReadAt(b, 6); n != 5 || err != io.EOF || string(b[:n]) != "world" {
		t.Errorf("read at the end: %d %v %q", n, err, b[:n])
	}
	if n, err := f.ReadAt(b, 100); n != 0 || err != io.EOF {
		t.Errorf("read past the end: %d %v", n, err)
	}
	ok(t, f.Truncate(4))
	ok(t, f.Truncate(6))
	if got := content(t, fs, name); string(got) != "hell\x00\x00" {
		t.Errorf("after truncating: %q", got)
	}
	ok(t, f.Allocate(4096))
	if n := must[int64](t)(fs.Stat(name)); n != 4096 {
		t.Errorf("allocated: %d bytes", n)
	}
	ok(t, f.Allocate(10))
	if n := must[int64](t)(f.Size()); n != 4096 {
		t.Errorf("allocating less made it %d bytes", n)
	}
	g := must[File](t)(fs.Create(name))
	defer g.Close()
	if n := must[int64](t)(g.Size()); n != 0 {
		t.Errorf("created again: %d bytes", n)
	}
}

func conformVectors(t *testing.T, fs FS, dir string) {
	name := path.Join(dir, "v")
	f := must[File](t)(fs.Create(name))
	defer f.Close()
	var bufs [][]byte
	var want []byte
	for i := range 3000 { // more than a system takes in one call
		b := bytes.Repeat([]byte{byte(i)}, i%7)
		bufs = append(bufs, b)
		want = append(want, b...)
	}
	if n, err := f.WritevAt(bufs, 0); n != len(want) || err != nil {
		t.Fatal(n, err)
	}
	bufs[10][0] = 99 // must not be kept
	if !bytes.Equal(content(t, fs, name), want) {
		t.Error("bytes differ")
	}
	if n, err := f.WritevAt([][]byte{[]byte("x"), []byte("yz")}, int64(len(want))+2); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	want = append(want, "\x00\x00xyz"...)
	if !bytes.Equal(content(t, fs, name), want) {
		t.Error("bytes behind a hole differ")
	}
}

func conformNames(t *testing.T, fs FS, dir string) {
	for _, n := range []string{"c", "a", "b"} {
		f := must[File](t)(fs.Create(path.Join(dir, n)))
		_ = must[int](t)(f.WriteAt([]byte(n), 0))
		ok(t, f.Close())
	}
	if got := must[[]string](t)(fs.List(dir)); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("list: %q", got)
	}
	ok(t, fs.Rename(path.Join(dir, "a"), path.Join(dir, "b")))
	open := must[File](t)(fs.Open(path.Join(dir, "c")))
	defer open.Close()
	ok(t, fs.Remove(path.Join(dir, "c")))
	ok(t, fs.SyncDir(dir))
	if got := must[[]string](t)(fs.List(dir)); !slices.Equal(got, []string{"b"}) {
		t.Errorf("list: %q", got)
	}
	if got := content(t, fs, path.Join(dir, "b")); string(got) != "a" {
		t.Errorf("the renamed file holds %q", got)
	}
	b := make([]byte, 1)
	if n, err := open.ReadAt(b, 0); n != 1 || b[0] != 'c' {
		t.Errorf("a removed file that is open: %d %v", n, err)
	}
}

func conformErrors(t *testing.T, fs FS, dir string) {
	none := path.Join(dir, "none")
	_, err := fs.Open(none)
	wantKind(t, "open", err, blocktree.NotFound)
	_, err = fs.Stat(none)
	wantKind(t, "stat", err, blocktree.NotFound)
	wantKind(t, "remove", fs.Remove(none), blocktree.NotFound)
	wantKind(t, "rename", fs.Rename(none, path.Join(dir, "x")), blocktree.NotFound)
	_, err = fs.List(none)
	wantKind(t, "list", err, blocktree.NotFound)
	wantKind(t, "sync directory", fs.SyncDir(none), blocktree.NotFound)
	_, err = fs.Create(path.Join(none, "x"))
	wantKind(t, "create", err, blocktree.NotFound)
	_, err = fs.Lock(path.Join(none, "x"))
	wantKind(t, "lock", err, blocktree.NotFound)
	f := must[File](t)(fs.Create(path.Join(dir, "f")))
	ok(t, f.Close())
	_, err = f.WriteAt([]byte("x"), 0)
	wantKind(t, "write", err, blocktree.Closed)
	wantKind(t, "sync", f.Datasync(), blocktree.Closed)
	wantKind(t, "close", f.Close(), blocktree.Closed)
}

func conformLock(t *testing.T, fs FS, dir string) {
	name := path.Join(dir, "lock")
	l := must[io.Closer](t)(fs.Lock(name))
	_, err := fs.Lock(name)
	wantKind(t, "second lock", err, blocktree.Busy)
	ok(t, l.Close())
	l = must[io.Closer](t)(fs.Lock(name))
	ok(t, l.Close())
}

func TestWrapKeepsCause(t *testing.T) {
	_, err := Disk{}.Open("/none/such")
	var e *blocktree.Error
	if !errors.As(err, &e) || e.Path != "/none/such" || e.Op != "vfs.Open" {
		t.Errorf("got %#v", err)
	}
}

package files

import (
	"bytes"
	"context"
	"errors"
	"io"
	iofs "io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"testing/iotest"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/fs"
	"blocktree/internal/bttp"
)

// twin is a file, and what it should be.
type twin struct {
	t     *testing.T
	r     *rand.Rand
	tree  *Tree
	f     *File
	model []byte
	pos   int
}

func (w *twin) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// put has the model have bytes at a position.
func (w *twin) put(p []byte, off int) {
	if end := off + len(p); len(p) > 0 && end > len(w.model) {
		w.model = append(w.model, make([]byte, end-len(w.model))...)
	}
	if len(p) > 0 {
		copy(w.model[off:], p)
	}
}

// same compares what was read.
func (w *twin) same(p []byte, off, n int, err error) {
	w.t.Helper()
	want := w.model[min(off, len(w.model)):]
	want = want[:min(len(p), len(want))]
	if !bytes.Equal(p[:n], want) || err != nil && err != io.EOF || n == 0 && len(p) > 0 && err != io.EOF {
		w.t.Fatalf("%d bytes at %d of %d: %d, %v", len(p), off, len(w.model), n, err)
	}
}

// step does one thing.
func (w *twin) step() {
	p := make([]byte, w.r.IntN(3000))
	for i := range p {
		p[i] = byte(1 + w.r.IntN(255))
	}
	off := w.r.IntN(len(w.model) + 2000)
	var err error
	switch w.r.IntN(8) {
	case 0:
		_, err = w.f.WriteAt(p, int64(off))
		w.put(p, off)
	case 1:
		_, err = w.f.Write(p)
		w.put(p, w.pos)
		w.pos += len(p)
	case 2:
		err = w.f.Truncate(int64(off))
		w.put(make([]byte, max(0, off-len(w.model))), len(w.model))
		w.model = w.model[:off:off]
	case 3:
		n, e := w.f.ReadAt(p, int64(off))
		w.same(p, off, n, e)
		if (n < len(p)) != (e == io.EOF) {
			w.t.Fatalf("%d of %d bytes, %v", n, len(p), e)
		}
	case 4:
		n, e := w.f.Read(p)
		w.same(p, w.pos, n, e)
		w.pos += n
	case 5:
		var at int64
		at, err = w.f.Seek(int64(-w.r.IntN(len(w.model)+1)), io.SeekEnd)
		w.pos = int(at)
	case 6:
		err = w.f.Sync()
	case 7:
		w.must(w.f.Close())
		w.f, err = w.tree.OpenFile(w.t.Context(), "/f", os.O_RDWR, 0)
		w.pos = 0
	}
	w.must(err)
	if info, err := w.f.Stat(); err != nil || info.Size() != int64(len(w.model)) {
		w.t.Fatalf("it is said to end at %d, not %d: %v", info.Size(), len(w.model), err)
	}
}

// A2: a file does what bytes do, whatever is written, cut, read and sought, and however often it is closed in between; and is all zeros where nothing was written.
func TestFileAgainstBytes(t *testing.T) {
	for seed := range uint64(20) {
		m, tree := newMemory(t)
		w := &twin{t: t, r: rand.New(rand.NewPCG(seed, 1)), tree: tree}
		var err error
		w.f, err = tree.Create(t.Context(), "/f")
		w.must(err)
		for range 400 {
			w.step()
		}
		w.must(w.f.Close())
		got, err := tree.ReadFile(t.Context(), "/f")
		if err != nil || !bytes.Equal(got, w.model) {
			t.Errorf("seed %d: %d bytes, %v, want %d", seed, len(got), err, len(w.model))
		}
		if m.open != 0 {
			t.Errorf("seed %d: %d are still open", seed, m.open)
		}
	}
}

// A file that grows by small writes is not opened anew for each.
func TestGrowsByDoubling(t *testing.T) {
	m, tree := newMemory(t)
	f, err := tree.Create(t.Context(), "/f")
	if err != nil {
		t.Fatal(err)
	}
	for range 4096 {
		if _, err := f.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil || m.opens > 10 {
		t.Errorf("%v, opened %d times for 4 MB", err, m.opens)
	}
}

// A3: errors are those of io/fs, and keep kind and hint.
func TestErrors(t *testing.T) {
	m, tree := newMemory(t)
	ctx := t.Context()
	if err := tree.WriteFile(ctx, "/f", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := tree.Open(ctx, "/absent")
	wantKind(t, "absent", err, blocktree.NotFound, iofs.ErrNotExist)
	_, err = tree.Stat(ctx, "/absent")
	wantKind(t, "stat", err, blocktree.NotFound, iofs.ErrNotExist)
	_, err = tree.ReadDir(ctx, "/absent")
	wantKind(t, "list", err, blocktree.NotFound, iofs.ErrNotExist)
	_, err = tree.OpenFile(ctx, "/f", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	wantKind(t, "there already", err, blocktree.Exists, iofs.ErrExist)
	_, err = tree.OpenFile(ctx, "/f", os.O_RDWR|os.O_SYNC, 0)
	wantKind(t, "a flag", err, blocktree.Unsupported, nil)
	_, err = tree.OpenFile(ctx, "/f", os.O_RDONLY|os.O_TRUNC, 0)
	wantKind(t, "truncated to read", err, blocktree.Invalid, iofs.ErrInvalid)
	wantKind(t, "a mode", tree.Mkdir(ctx, "/d", 0o755|iofs.ModeSetuid), blocktree.Invalid, iofs.ErrInvalid)
	f, err := tree.Open(ctx, "/f")
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write([]byte("y"))
	wantKind(t, "written", err, blocktree.Permission, iofs.ErrPermission)
	_, err = f.Seek(-1, io.SeekStart)
	wantKind(t, "sought", err, blocktree.Invalid, iofs.ErrInvalid)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"closed again": f.Close(), "synced": f.Sync()} {
		if !errors.Is(err, iofs.ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	m.fail = func(string) error { return kind(blocktree.Permission) }
	_, err = tree.Open(ctx, "/f")
	wantKind(t, "denied", err, blocktree.Permission, iofs.ErrPermission)
	var pe *iofs.PathError
	if !errors.As(err, &pe) || pe.Path != "/f" || pe.Op != "open" {
		t.Errorf("%v", err)
	}
	m.fail = nil
	_, err = tree.Open(ctx, "no/slash")
	if !errors.Is(err, iofs.ErrInvalid) {
		t.Errorf("a name without a slash: %v", err)
	}
}

// A4: a file whose context has ended is closed, and what was written is flushed; nobody is kept from it.
func TestCloseAfterContext(t *testing.T) {
	m, tree := newMemory(t)
	ctx, cancel := context.WithCancel(t.Context())
	f, err := tree.Create(ctx, "/f")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("dear")); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := f.Write([]byte("x")); blocktree.KindOf(err) != blocktree.Canceled {
		t.Errorf("written after its context: %v", err)
	}
	if _, err := f.With(t.Context()).WriteAt([]byte("D"), 0); err != nil {
		t.Errorf("under another: %v", err)
	}
	if err := f.Close(); err != nil || m.open != 0 {
		t.Errorf("%v, %d open", err, m.open)
	}
	if got, err := tree.ReadFile(t.Context(), "/f"); string(got) != "Dear" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// Whoever grows a file whose name is another's by then changes nothing of that.
func TestGrowsUnderItsName(t *testing.T) {
	_, tree := newMemory(t)
	ctx := t.Context()
	f, err := tree.Create(ctx, "/f")
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.Rename(ctx, "/f", "/g"); err != nil {
		t.Fatal(err)
	}
	if err := tree.WriteFile(ctx, "/f", []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, 5000)); blocktree.KindOf(err) != blocktree.NotFound {
		t.Errorf("grown: %v", err)
	}
	_ = f.Close() // it says the same
	if got, err := tree.ReadFile(ctx, "/f"); string(got) != "other" || err != nil {
		t.Errorf("the other file: %q, %v", got, err)
	}
}

// Flags, modes, and directories by pages.
func TestOpenFile(t *testing.T) {
	_, tree := newMemory(t)
	ctx := t.Context()
	if err := tree.MkdirAll(ctx, "/a/b/c", 0o750); err != nil {
		t.Fatal(err)
	}
	if err := tree.MkdirAll(ctx, "/a/b", 0o750); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		flags int
		text  string
		want  string
	}{
		{os.O_RDWR | os.O_CREATE, "one", "one"}, {os.O_WRONLY | os.O_APPEND, "two", "onetwo"}, {os.O_RDWR, "ONE", "ONEtwo"},
		{os.O_WRONLY | os.O_CREATE | os.O_TRUNC, "x", "x"}, {os.O_WRONLY | os.O_APPEND | os.O_CREATE, "y", "xy"},
	} {
		f, err := tree.OpenFile(ctx, "/a/f", x.flags, 0o640)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = io.Copy(f, strings.NewReader(x.text)); err == nil {
			err = f.Close()
		}
		if got, e := tree.ReadFile(ctx, "/a/f"); string(got) != x.want || e != nil || err != nil {
			t.Errorf("flags %x: %q, %v, %v, want %q", x.flags, got, e, err, x.want)
		}
	}
	info, err := tree.Stat(ctx, "/a/f")
	if err != nil || info.Mode() != 0o640 || info.Name() != "f" || info.Size() != 2 {
		t.Errorf("%v, %v", info, err)
	}
	f, err := tree.OpenFile(ctx, "/a/f", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tree.OpenFile(ctx, "/a/f", os.O_RDWR, 0)
	wantKind(t, "a second writer", err, blocktree.Busy, nil)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := tree.Remove(ctx, "/a/f"); err != nil {
		t.Error(err)
	}
}

// A1, without a service: what fstest finds of it.
func TestView(t *testing.T) {
	_, tree := newMemory(t)
	ctx := t.Context()
	var names []string
	for _, name := range []string{"a", "b/c", "b/d/e", "b/d/f", "b/g", "b/h", "b/i", "j"} {
		full := "/top/" + name
		if err := tree.MkdirAll(ctx, full[:strings.LastIndexByte(full, '/')], 0o755); err != nil {
			t.Fatal(err)
		}
		if err := tree.WriteFile(ctx, full, bytes.Repeat([]byte(name), 700), 0o644); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	v, err := tree.FS(ctx, "/top")
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(v, names...); err != nil {
		t.Error(err)
	}
	_, err = v.Open("../f")
	wantKind(t, "a name with dots", err, blocktree.Invalid, iofs.ErrInvalid)
}

// A3: where no service is found nobody is told that a file does not exist.
func TestNoServiceIsNotAbsence(t *testing.T) {
	key, err := cred.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	client, err := fs.Dial(fs.ClientConfig{Root: key.Principal(), Transport: bttp.TCP, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	tree := New(client, key.Principal(), Options{})
	defer tree.Close()
	_, errOpen := tree.Open(t.Context(), "/f")
	_, errStat := tree.Stat(t.Context(), "/f")
	_, errMake := tree.OpenFile(t.Context(), "/f", os.O_CREATE|os.O_RDWR, 0o600)
	for what, err := range map[string]error{"open": errOpen, "stat": errStat, "made": errMake, "removed": tree.Remove(t.Context(), "/f"), "directories": tree.MkdirAll(t.Context(), "/a/b", 0o755)} {
		if !fs.NoService(err) || errors.Is(err, iofs.ErrNotExist) || blocktree.HintOf(err) == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A source that ends before its time is no end: what says that bytes are missing is told, and what came before is there.
func TestReadFromTellsOfACutSource(t *testing.T) {
	_, tree := newMemory(t)
	f, err := tree.Create(t.Context(), "/f")
	if err != nil {
		t.Fatal(err)
	}
	cut := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(io.ErrUnexpectedEOF))
	if n, err := io.Copy(f, cut); n != 4 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a source that was cut: %d, %v", n, err)
	}
	if n, err := io.Copy(f, strings.NewReader("whole")); n != 5 || err != nil {
		t.Errorf("one that was not: %d, %v", n, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := tree.ReadFile(t.Context(), "/f"); string(got) != "halfwhole" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// A8: what somebody else adds while a file is opened anew to grow is not written over; who grows it is told Busy, and of nothing that they do after that comes anything.
func TestGrowsOverNobody(t *testing.T) {
	for _, when := range []string{"stat", "open", "open after what failed"} {
		m, tree := newMemory(t)
		ctx := t.Context()
		if err := tree.WriteFile(ctx, "/f", []byte("first "), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := tree.OpenFile(ctx, "/f", os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		var theirs []byte
		m.fail = func(op string) error {
			n := m.nodes[m.root.Join("f")]
			if op == "resize" && theirs == nil && when == "open after what failed" {
				return kind(blocktree.NoSpace)
			}
			if strings.HasPrefix(when, op) && theirs == nil && !n.held {
				n.bytes = append(n.bytes[:n.info.Length:n.info.Length], make([]byte, 512)...)
				copy(n.bytes[n.info.Length:], "theirs")
				n.info.Length += 6
				n.bytes = append(n.bytes, make([]byte, 511-(len(n.bytes)-1)%512)...)
				n.info.SizeBytes = uint64(len(n.bytes))
				theirs = bytes.Clone(n.bytes[:n.info.Length])
			}
			return nil
		}
		for range 3 {
			_, err = f.Write([]byte("ours"))
			wantKind(t, when+": written", err, blocktree.Busy, nil)
		}
		wantKind(t, when+": truncated", f.Truncate(0), blocktree.Busy, nil)
		wantKind(t, when+": closed", f.Close(), blocktree.Busy, nil)
		if got, err := tree.ReadFile(ctx, "/f"); !bytes.Equal(got, theirs) || err != nil || m.open != 0 {
			t.Errorf("%s: %q, %v, %d open, want %q", when, got, err, m.open, theirs)
		}
	}
}

// What the cluster did though nobody answered is not taken for what somebody else did.
func TestGrowsAfterNoAnswer(t *testing.T) {
	m, tree := newMemory(t)
	ctx := t.Context()
	f, err := tree.Create(ctx, "/f")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("dear")); err != nil {
		t.Fatal(err)
	}
	m.fail = func(op string) error {
		if op != "length" {
			return nil
		}
		m.nodes[m.root.Join("f")].info.Length = 4
		return kind(blocktree.Unavailable)
	}
	wantKind(t, "an end that nobody answers for", f.Sync(), blocktree.Unavailable, nil)
	m.fail = nil
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := tree.Stat(ctx, "/f"); err != nil || info.Size() != 4+1<<20 {
		t.Errorf("%v, %v", info, err)
	}
}

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blocktree"
	"blocktree/fs"
)

// memory is a file of the size of its bytes.
type memory struct{ bytes []byte }

func (m *memory) Info() fs.Info {
	return fs.Info{SizeBytes: uint64(len(m.bytes)), Length: uint64(len(m.bytes))}
}

func (m *memory) ReadAt(_ context.Context, p []byte, off uint64) (int, error) {
	return bytes.NewReader(m.bytes).ReadAt(p, int64(off))
}

func (m *memory) WriteAt(_ context.Context, p []byte, off uint64) error {
	copy(m.bytes[off:], p)
	return nil
}

func (m *memory) Flush(context.Context) error { return nil }
func (m *memory) Close() error                { return nil }

// broken fails once what it has was read, or when it is written to.
type broken struct {
	io.Reader
	err error
}

func (b broken) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		err = b.err
	}
	return n, err
}

func (b broken) Write([]byte) (int, error) { return 0, b.err }

// What cannot be read, or is not there any more, is an error, wherever in the file that is: it must not pass for zeros.
func TestPutTakesAllOrFails(t *testing.T) {
	const whole = 2*copyBytes + 4096
	text := strings.Repeat("x", whole+1)
	for _, c := range []struct {
		name string
		from io.Reader
		want blocktree.Kind
	}{
		{"all of it", strings.NewReader(text[:whole]), blocktree.Other},
		{"a bad disk at the first byte", broken{strings.NewReader(""), unix.EIO}, blocktree.IO},
		{"a bad disk at a piece's begin", broken{strings.NewReader(text[:copyBytes]), unix.EIO}, blocktree.IO},
		{"a bad disk within a piece", broken{strings.NewReader(text[:copyBytes+5]), unix.EIO}, blocktree.IO},
		{"a bad disk at the end", broken{strings.NewReader(text[:whole]), unix.EIO}, blocktree.IO},
		{"shorter at a piece's begin", strings.NewReader(text[:copyBytes]), blocktree.Invalid},
		{"shorter by a byte", strings.NewReader(text[:whole-1]), blocktree.Invalid},
		{"longer", strings.NewReader(text), blocktree.Invalid},
	} {
		to := &memory{make([]byte, whole)}
		err := copyIn(t.Context(), to, c.from, "disk.img", whole, &progress{})
		if blocktree.KindOf(err) != c.want || (err == nil) != (c.want == blocktree.Other) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil && string(to.bytes) != text[:whole] {
			t.Errorf("%s: other bytes", c.name)
		}
		if err != nil && blocktree.HintOf(err) == "" {
			t.Errorf("%s: %v has no hint", c.name, err)
		}
	}
}

// A source that is written to in place while it is read, though it keeps its size, or is another one by then, is an error.
func TestPutNoticesChanges(t *testing.T) {
	name := filepath.Join(t.TempDir(), "disk.img")
	write := func(text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-time.Hour)
	for what, change := range map[string]func(){
		"":                   func() {},
		"written to":         func() { write("bbbb") },
		"shorter":            func() { write("aaa") },
		"replaced":           func() { _ = os.Remove(name); write("aaaa"); _ = os.Chtimes(name, long, long) },
		"removed":            func() { _ = os.Remove(name) },
		"read by others too": func() { _, _ = os.ReadFile(name) },
	} {
		write("aaaa")
		if err := os.Chtimes(name, long, long); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		change()
		err = unchanged(f, info, name)
		if good := what == "" || what == "read by others too"; (err == nil) != good || !good && (blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "") {
			t.Errorf("%q: %v", what, err)
		}
		f.Close()
	}
}

// A full disk is said to be one, with what to do.
func TestGetSaysWhyItCannotWrite(t *testing.T) {
	for errno, want := range map[unix.Errno]blocktree.Kind{unix.ENOSPC: blocktree.NoSpace, unix.EDQUOT: blocktree.NoSpace, unix.EIO: blocktree.IO, unix.EPIPE: blocktree.IO} {
		err := copyOut(t.Context(), &memory{make([]byte, 4096)}, broken{err: errno}, "copy", &progress{})
		if blocktree.KindOf(err) != want || blocktree.HintOf(err) == "" || !errors.Is(err, errno) {
			t.Errorf("%v: %v, hint %q", errno, err, blocktree.HintOf(err))
		}
	}
}

// Of a creation without an answer nobody knows what became.
func TestUnsure(t *testing.T) {
	if hint := blocktree.HintOf(unsure(blocktree.E("create", blocktree.Unavailable, nil))); !strings.Contains(hint, "may have been made") {
		t.Errorf("hint %q", hint)
	}
	if hint := blocktree.HintOf(unsure(blocktree.E("create", blocktree.Exists, nil))); strings.Contains(hint, "may have been made") {
		t.Errorf("hint %q", hint)
	}
}

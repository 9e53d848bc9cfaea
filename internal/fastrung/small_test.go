package fastrung

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/fs"
	"blocktree/internal/file"
)

// TestSmallFilesCost: H5 of 0067, D4 of 0078, and G6 of 0079. A file that is made, written and closed costs two commands, and one that is flushed before three, of whatever length up to the room that it is made with, and is there for others when it is closed. In a directory that was made just now it is one.
func TestSmallFilesCost(t *testing.T) {
	const files = 20
	synctest.Test(t, func(t *testing.T) {
		w := newFoundWorld(t, "root")
		ctx, alice := t.Context(), uint32(1000)
		admin, c := w.Client(), w.Finder(nil, "alice", alice, alice)
		dir := w.Path("/home")
		if err := admin.MakeDir(ctx, dir, 0o755, false); err != nil {
			t.Fatal(err)
		}
		if _, err := admin.SetOwner(ctx, dir, &alice, &alice); err != nil {
			t.Fatal(err)
		}
		applied := func() uint64 {
			x, _ := w.Node(0).Stats()
			return x.Meta.Applied
		}
		content := func(i int) []byte { return bytes.Repeat([]byte{byte(i + 1)}, i*3000) }
		in := dir
		write := func(i int, flushed bool) { writeSmall(t, c, in.Join(fmt.Sprint(i)), content(i), flushed) }
		write(0, false) // the service opens its session
		time.Sleep(time.Second)
		for least, flushed := range map[uint64]bool{2: false, 3: true} {
			begun, before := time.Now(), applied()
			for i := 1; i <= files/2; i++ {
				write(i+files/2*int(least-2), flushed)
			}
			if n := applied() - before; n < least*files/2 || n >= (least+1)*files/2 {
				t.Errorf("%d commands for %d files, flushed before they are closed: %v, in %v", n, files/2, flushed, time.Since(begun))
			}
		}
		haveContents(t, w.Finder(nil, "alice", alice, alice), dir, files+1, content)
		in = dir.Join("kept")
		if err := c.Mkdir(ctx, in, 0o755); err != nil {
			t.Fatal(err)
		}
		write(0, false) // there are no spares yet
		before := applied()
		for i := 1; i <= files; i++ {
			write(i, i%2 == 0)
		}
		// One that is flushed before it is closed gives its lease back then; and spares are made, and time passes.
		if n := applied() - before; n < files*3/2 || n >= files*3/2+files/4 {
			t.Errorf("%d commands for %d files in a directory of its own", n, files)
		}
		haveContents(t, w.Finder(nil, "alice", alice, alice), in, files+1, content)
		again, err := c.Open(ctx, dir.Join("3"), fs.OpenOptions{Write: true}) // its lease is free
		if err != nil {
			t.Fatal(err)
		}
		_ = again.Close() // nothing was written
		roundsOfReading(t, c, dir.Join("3"), content(3))
	})
}

// writeSmall makes a file, writes it, and finishes it, or flushes it first.
func writeSmall(t *testing.T, c *fs.Client, path blocktree.Path, b []byte, flushed bool) {
	t.Helper()
	ctx := t.Context()
	f, err := c.MakeOpen(ctx, path, fs.CreateOptions{SizeBytes: 64 << 10, Code: blocktree.Code{Data: 1}, Mode: 0o600})
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 0 {
		if err := f.WriteAt(ctx, b, 0); err != nil {
			t.Fatal(err)
		}
	}
	if flushed {
		if err := f.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		err = f.Close()
	} else {
		err = f.(fs.Finisher).Finish(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestModeIsSoon: who changes a mode waits for the nodes, by the world's own time, and for nothing else.
func TestModeIsSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFoundWorld(t, "root")
		admin, dir := w.Client(), w.Path("/home")
		if err := admin.MakeDir(t.Context(), dir, 0o755, false); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		a, err := admin.SetMode(t.Context(), dir, 0o700)
		if took := time.Since(begun); err != nil || len(a.Missing) > 0 || took >= 20*time.Millisecond {
			t.Errorf("%v, not in force at %v, in %v", err, a.Missing, took)
		}
	})
}

// TestModeByIdentity: U8 of 0066. A mode that is set of a file by its identity reaches it under its new name, and not what has the one of before.
func TestModeByIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFoundWorld(t, "root")
		ctx, admin, p, moved := t.Context(), w.Client(), w.Path("/a"), w.Path("/b")
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(admin.MakeDir(ctx, p, 0o700, false))
		i, err := admin.Stat(ctx, p)
		must(err)
		must(file.Rename(ctx, admin, p, moved, file.RenameOptions{}))
		must(admin.MakeDir(ctx, p, 0o700, false))
		_, err = admin.SetModeOf(ctx, p, i.ID, 0o755)
		must(err)
		for p, want := range map[blocktree.Path]uint32{p: 0o700, moved: 0o755} {
			if i, err := admin.Stat(ctx, p); err != nil || i.Mode != want {
				t.Errorf("%s has mode %o, %v", p.Short(), i.Mode, err)
			}
		}
		must(admin.Remove(ctx, moved))
		if _, err := admin.SetModeOf(ctx, p, i.ID, 0o777); blocktree.KindOf(err) != blocktree.NotFound {
			t.Errorf("the mode of what is gone: %v", err)
		}
	})
}

// haveContents compares what another client reads.
func haveContents(t *testing.T, c *fs.Client, dir blocktree.Path, files int, content func(int) []byte) {
	t.Helper()
	for i := range files {
		f, err := c.Open(t.Context(), dir.Join(fmt.Sprint(i)), fs.OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want := content(i)
		got := make([]byte, len(want)+1)
		if n, _ := f.ReadAt(t.Context(), got, 0); !bytes.Equal(got[:n], want) || f.Info().Length != uint64(len(want)) {
			t.Errorf("file %d has %d bytes, its length is %d", i, n, f.Info().Length)
		}
		_ = f.Close() // it was only read from
	}
}

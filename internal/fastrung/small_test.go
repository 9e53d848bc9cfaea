package fastrung

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/fs"
)

// TestSmallFilesCost: H5 of 0067. A file that is made, written and closed costs two commands, of whatever length up to the room that it is made with, and is there for others when it is closed.
func TestSmallFilesCost(t *testing.T) {
	const files, least = 20, 2
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
		write := func(i int) {
			f, err := c.MakeOpen(ctx, dir.Join(fmt.Sprint(i)), fs.CreateOptions{SizeBytes: 64 << 10, Code: blocktree.Code{Data: 1}, Mode: 0o600})
			if err != nil {
				t.Fatal(err)
			}
			if b := content(i); len(b) > 0 {
				if err := f.WriteAt(ctx, b, 0); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.(fs.Finisher).Finish(ctx); err != nil {
				t.Fatal(err)
			}
		}
		write(0) // the service opens its session
		time.Sleep(time.Second)
		begun, before := time.Now(), applied()
		for i := 1; i <= files; i++ {
			write(i)
		}
		took := time.Since(begun)
		if n := applied() - before; n < least*files || n >= (least+1)*files {
			t.Errorf("%d commands for %d files, in %v", n, files, took)
		}
		other := w.Finder(nil, "alice", alice, alice)
		for i := range files + 1 {
			f, err := other.Open(ctx, dir.Join(fmt.Sprint(i)), fs.OpenOptions{})
			if err != nil {
				t.Fatal(err)
			}
			want := content(i)
			got := make([]byte, len(want)+1)
			if n, _ := f.ReadAt(ctx, got, 0); !bytes.Equal(got[:n], want) || f.Info().Length != uint64(len(want)) {
				t.Errorf("file %d has %d bytes, its length is %d", i, n, f.Info().Length)
			}
			_ = f.Close() // it was only read from
		}
		again, err := c.Open(ctx, dir.Join("3"), fs.OpenOptions{Write: true}) // its lease is free
		if err != nil {
			t.Fatal(err)
		}
		_ = again.Close() // nothing was written
	})
}

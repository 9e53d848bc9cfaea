package fastrung

import (
	"bytes"
	"os"
	"testing"
	"testing/synctest"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/internal/file"
)

// TestTwoDoors: A8 of 0052. What is open as a block device for writing is busy for whoever writes it as a file, and the other way; whoever reads by either door sees what was flushed by the other.
func TestTwoDoors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, tree := newTree(t)
		ctx, owner := t.Context(), w.Client()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		open := func(o file.OpenOptions) (*blockdev.Device, error) {
			o.Reader = w.Reader
			f, err := file.Open(ctx, owner, w.Path("/f"), o)
			if err != nil {
				return nil, err
			}
			return blockdev.Open(f, blockdev.Options{ReadOnly: o.ReadOnly})
		}
		device, err := open(file.OpenOptions{})
		must(err)
		must(device.WriteAt(ctx, []byte("by the device"), 4090, false)) // over the end of a sector
		must(device.Flush(ctx))
		if _, err := tree.OpenFile(ctx, "/f", os.O_RDWR, 0); blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" {
			t.Errorf("a file writer beside a device: %v", err)
		}
		reads := func(want string) {
			t.Helper()
			f, err := tree.Open(ctx, "/f")
			must(err)
			defer f.Close()
			got := make([]byte, len(want))
			if _, err := f.ReadAt(got, 4090); err != nil || string(got) != want {
				t.Errorf("read as a file: %q, %v, want %q", got, err, want)
			}
		}
		reads("by the device")
		must(device.Close())

		f, err := tree.OpenFile(ctx, "/f", os.O_RDWR, 0)
		must(err)
		if _, err := open(file.OpenOptions{}); blocktree.KindOf(err) != blocktree.Busy {
			t.Errorf("a device beside a file writer: %v", err)
		}
		_, err = f.WriteAt([]byte("by the file !"), 4090)
		must(err)
		must(f.Sync())
		seen, err := open(file.OpenOptions{ReadOnly: true})
		must(err)
		got := make([]byte, 13)
		if must(seen.ReadAt(ctx, got, 4090)); !bytes.Equal(got, []byte("by the file !")) {
			t.Errorf("read as a device: %q", got)
		}
		must(seen.Close())
		must(f.Close())
		device, err = open(file.OpenOptions{})
		must(err)
		must(device.Close())
	})
}

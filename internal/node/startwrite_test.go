package node_test

import (
	"bytes"
	"testing"
	"time"

	"blocktree"
	"blocktree/internal/testenv"
)

// TestStartedWriteKeepsNothing: what was given to StartWrite may be overwritten as soon as that has returned, as the next request overwrites it in the buffer
// of an NBD connection, though nothing was sent yet. Whatever the code, each sector keeps what it was given.
func TestStartedWriteKeepsNothing(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 3)
	d.StartAll()
	c := d.Client()
	for path, code := range map[string]blocktree.Code{"/vm/coded": {Data: 2, Parity: 1}, "/vm/copies": {Data: 1, Parity: 2}} {
		d.Create(c, path, 1<<20, code)
		f := d.Open(c, path)
		want := pattern(1, 256<<10)
		file, starts := f.(blocktree.Batcher), f.(blocktree.WriteStarter)
		const writes = 16
		ended := make(chan error, writes)
		buf := make([]byte, len(want)/writes)
		file.Cork()
		for i := range writes {
			copy(buf, want[i*len(buf):])
			if !starts.StartWrite(blocktree.SectorIndex(i*len(buf)/4096), buf, func(err error) { ended <- err }) {
				t.Fatal("not started")
			}
			clear(buf)
		}
		file.Uncork()
		for range writes {
			select {
			case err := <-ended:
				if err != nil {
					t.Fatal(err)
				}
			case <-time.After(time.Minute):
				t.Fatal("a write never ended")
			}
		}
		got := make([]byte, len(want))
		if err := f.ReadSectors(t.Context(), 0, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v, or other bytes", path, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

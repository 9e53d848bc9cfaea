package vfs

import (
	"path/filepath"
	"testing"
)

// TestWritevAllocates: as much for many buffers as for one.
func TestWritevAllocates(t *testing.T) {
	f, err := Disk{}.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	bufs := make([][]byte, 300)
	for i := range bufs {
		bufs[i] = []byte{byte(i)}
	}
	many := testing.AllocsPerRun(100, func() {
		if n, err := f.WritevAt(bufs, 4096); n != len(bufs) || err != nil {
			t.Fatal(n, err)
		}
	})
	one := testing.AllocsPerRun(100, func() {
		if _, err := f.WritevAt(bufs[:1], 4096); err != nil {
			t.Fatal(err)
		}
	})
	if many > one+4 { // the pool is emptied now and then, and more often under the race detector; without it there are seven more
		t.Errorf("%v allocations for %d buffers, %v for one", many, len(bufs), one)
	}
}

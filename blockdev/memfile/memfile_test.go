package memfile

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"blocktree"
)

func TestContract(t *testing.T) {
	f := New(Options{Info: blocktree.FileInfo{SizeBytes: 1000 * 4096}})
	one := bytes.Repeat([]byte{1}, 300*4096)
	if err := f.WriteSectors(t.Context(), 200, one); err != nil { // over two chunks
		t.Fatal(err)
	}
	if err := f.ZeroSectors(t.Context(), 250, 512); err != nil { // a whole chunk and parts of two
		t.Fatal(err)
	}
	got := make([]byte, 1000*4096)
	if err := f.ReadSectors(t.Context(), 0, got); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 1000*4096)
	copy(want[200*4096:], one[:50*4096])
	if !bytes.Equal(got, want) {
		t.Fatal("other bytes")
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, x := range []struct {
		err  error
		kind blocktree.Kind
	}{
		{f.ReadSectors(t.Context(), 999, make([]byte, 8192)), blocktree.OutOfRange},
		{f.ZeroSectors(t.Context(), 1001, 0), blocktree.OutOfRange},
		{f.ZeroSectors(t.Context(), 1, 1<<63), blocktree.OutOfRange},
		{f.WriteSectors(t.Context(), 0, make([]byte, 100)), blocktree.Invalid},
		{f.ReadSectors(canceled, 0, got), blocktree.Canceled},
		{f.Close(), blocktree.Other},
		{f.Close(), blocktree.Closed},
		{f.Flush(t.Context()), blocktree.Closed},
	} {
		if blocktree.KindOf(x.err) != x.kind {
			t.Errorf("%v, want kind %v", x.err, x.kind)
		}
	}
	ro := New(Options{Info: blocktree.FileInfo{SizeBytes: 4096, ReadOnly: true}})
	if err := ro.ZeroSectors(t.Context(), 0, 1); blocktree.KindOf(err) != blocktree.ReadOnly {
		t.Error(err)
	}
}

func TestCrash(t *testing.T) {
	f := New(Options{Info: blocktree.FileInfo{SizeBytes: 4 * 4096}, Volatile: true})
	write := func(sector blocktree.SectorIndex, b byte) {
		t.Helper()
		if err := f.WriteSectors(t.Context(), sector, bytes.Repeat([]byte{b}, 4096)); err != nil {
			t.Fatal(err)
		}
	}
	write(0, 1)
	if err := f.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	write(0, 2)
	write(0, 3)
	write(1, 4)
	f.Crash()
	got := make([]byte, 4*4096)
	if err := f.ReadSectors(t.Context(), 0, got); err != nil {
		t.Fatal(err)
	}
	if got[0] != 1 || got[4096] != 0 {
		t.Fatalf("%d %d", got[0], got[4096])
	}
}

func Example() {
	f := New(Options{Info: blocktree.FileInfo{SizeBytes: 4096}, Hook: func(_ context.Context, c Call) error {
		if c.Op == Write {
			return blocktree.E("disk", blocktree.NoSpace, nil)
		}
		return nil
	}})
	fmt.Println(f.WriteSectors(context.Background(), 0, make([]byte, 4096)))
	// Output: disk: no space
}

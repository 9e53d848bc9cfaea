package file

import (
	"sync"
	"testing"

	"blocktree"
	"blocktree/crypto/tree"
	"blocktree/internal/vfs"
)

func seenAt(inode blocktree.Inode, number uint64) Seen {
	return Seen{File: blocktree.FileID{Generation: 1, Inode: inode}, Root: tree.Root{Generation: 3, Number: number, Random: [16]byte{2}}}
}

// TestKeptRoots: what was saved is there for the next process; nothing older of the same file replaces it, another file does; what is damaged is said to be.
func TestKeptRoots(t *testing.T) {
	dir, p := t.TempDir()+"/not/there/yet", blocktree.Path("/e1/vm/disk0")
	one, two := KeepRoots(vfs.Disk{}, dir), KeepRoots(vfs.Disk{}, dir)
	if got, err := one.Load(p); got != nil || err != nil {
		t.Fatalf("%v, %v", got, err)
	}
	for _, x := range []struct {
		by         *KeptRoots
		save, want Seen
	}{{one, seenAt(9, 1), seenAt(9, 1)}, {two, seenAt(9, 3), seenAt(9, 3)}, {one, seenAt(9, 2), seenAt(9, 3)}, {one, Seen{File: seenAt(8, 0).File}, Seen{File: seenAt(8, 0).File}}} {
		if err := x.by.Save(p, x.save); err != nil {
			t.Fatal(err)
		}
		if got, err := two.Load(p); err != nil || got == nil || *got != x.want {
			t.Errorf("after %+v: %+v, %v", x.save, got, err)
		}
		if got, err := two.Load(p + "x"); got != nil || err != nil {
			t.Errorf("another path: %v, %v", got, err)
		}
	}
	f, err := vfs.Disk{}.Create(one.Where(p))
	if err == nil {
		_, err = f.WriteAt([]byte("blocktree root record 1\npath /x\n"), 0)
		_ = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := two.Load(p); blocktree.KindOf(err) != blocktree.Corrupt || blocktree.HintOf(err) == "" {
		t.Errorf("damaged: %v", err)
	}
}

// TestKeptRootsOfTwo: two processes save at the same time, and the newest stays, whole.
func TestKeptRootsOfTwo(t *testing.T) {
	dir, p, last := t.TempDir(), blocktree.Path("/e1/vm/disk0"), uint64(120)
	var wg sync.WaitGroup
	for i := range uint64(2) {
		k := KeepRoots(vfs.Disk{}, dir)
		wg.Go(func() {
			for n := 9 + i; n <= last+i; n += 2 {
				if err := k.Save(p, seenAt(9, n)); err != nil {
					t.Errorf("%d: %v", n, err)
				}
				if got, err := k.Load(p); err != nil || got == nil || got.Root.Number < n {
					t.Errorf("after %d: %+v, %v", n, got, err)
				}
			}
		})
	}
	wg.Wait()
}

// FuzzSeen decodes anything, and encodes what it could decode to the same bytes.
func FuzzSeen(f *testing.F) {
	f.Add(EncodeSeen("/e1/vm/disk0", seenAt(1, 2)))
	f.Fuzz(func(t *testing.T, text []byte) {
		if p, s, err := DecodeSeen(text); err == nil && string(EncodeSeen(p, s)) != string(text) {
			t.Fatal("another encoding")
		}
	})
}

package fs

import (
	"bytes"
	"context"
	"testing"

	"blocktree"
	"blocktree/blockdev/memfile"
	"blocktree/cluster"
)

// A hole is zeros and changes nothing outside of it, whatever its alignment, up to where the file ends and not behind that.
func TestPunch(t *testing.T) {
	const size, length = 16 * 512, 15*512 + 100
	mem := memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: size, SectorBytes: 512}})
	all := view{mem, &Info{}}
	v, model := view{mem, &Info{SizeBytes: size, Length: length}}, make([]byte, size)
	r := newRandom(3)
	check := func(off, n int) {
		t.Helper()
		for i := range model {
			model[i] = byte(1 + r.IntN(255))
		}
		if err := all.write(t.Context(), model, 0); err != nil {
			t.Fatal(err)
		}
		clear(model[off:min(length, off+n)])
		if err := v.punch(t.Context(), uint64(off), uint64(n)); err != nil {
			t.Fatalf("%d bytes at %d: %v", n, off, err)
		}
		got := make([]byte, size)
		if _, err := all.read(t.Context(), got, 0); err != nil || !bytes.Equal(got, model) {
			t.Fatalf("%d bytes at %d: other bytes than those were changed, or not all of them, %v", n, off, err)
		}
	}
	for range 1000 {
		check(r.IntN(length+1), r.IntN(4*512))
	}
	for _, at := range [][2]int{{0, 512}, {512, 1024}, {0, size}, {1, 511}, {511, 2}, {511, 1}, {0, 0}, {length, 1}, {512, 0}} {
		check(at[0], at[1])
	}
	check(512, 1<<62)
	wantKind(t, "behind the end", v.punch(t.Context(), length+1, 1), blocktree.OutOfRange)
	wantKind(t, "far behind it", v.punch(t.Context(), ^uint64(0), ^uint64(0)), blocktree.OutOfRange)
}

// By way of the service a hole is what it is here, also one that takes several requests and reaches over the end.
func TestPunchFiles(t *testing.T) {
	b := newBed(t, nil)
	ann, who := b.dial("ann")
	path := b.fake.file("f", Read|Write|Lease, who)
	const size = 2*blocktree.FSPunchBytesMax + 4096
	b.fake.set(path, func(n *fakeNode) {
		n.inode.SizeBytes = size
		n.mem = memfile.New(memfile.Options{Info: blocktree.FileInfo{ID: n.inode.ID, Path: path, SizeBytes: size, SectorBytes: 512}})
	})
	far, err := ann.Open(t.Context(), path, OpenOptions{Write: true})
	b.must(err)
	mem := memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: size, SectorBytes: 512}})
	for name, f := range map[string]File{"remote": far, "local": localOver(t, mem, Info{})} {
		marks := []uint64{0, 99, 100, blocktree.FSPunchBytesMax + 99, blocktree.FSPunchBytesMax + 100, 2*blocktree.FSPunchBytesMax + 100, size - 1}
		for _, n := range []uint64{2*blocktree.FSPunchBytesMax + 1, size, ^uint64(0)} {
			for _, off := range marks {
				b.must(f.WriteAt(t.Context(), []byte{1}, off))
			}
			b.must(f.(Puncher).Punch(t.Context(), 100, n))
			for _, off := range marks {
				p, want := []byte{7}, byte(1)
				if off >= 100 && off-100 < n {
					want = 0
				}
				if _, err := f.ReadAt(t.Context(), p, off); err != nil || p[0] != want {
					t.Errorf("%s, %d bytes: at %d is %d, want %d, %v", name, n, off, p[0], want, err)
				}
			}
		}
		wantKind(t, name+" behind the end", f.(Puncher).Punch(t.Context(), size+1, size), blocktree.OutOfRange)
		b.must(f.Close())
	}
}

// Who has a file open to read makes no hole in it, nor does anybody whose flush failed or whose right is gone, and no request is about more than its bound.
func TestPunchIsAWrite(t *testing.T) {
	if forAnybody(codePunch) {
		t.Error("anonymous callers may punch")
	}
	long := fileRequest{handle: 1, count: blocktree.FSPunchBytesMax + 1}
	_, err := decodeOfHandle(codePunch, long.encode())
	wantKind(t, "a long hole", err, blocktree.TooLarge)
	if known(cluster.CodesOfOthers-1) || !known(codePunch) || !ofHandle(codePunch) || nameOf(codePunch) != "punch" {
		t.Error("the code is not what it is said to be")
	}
	in(t, func(t *testing.T, c *fake, s *Service, o *owner, path blocktree.Path) {
		punch := message{code: codePunch, count: 1000}
		_, err := open(t, s, o, path, 0).ask(punch)
		wantKind(t, "a handle to read", err, blocktree.ReadOnly)
		f := open(t, s, o, path, flagWrite)
		fail := true
		c.set(path, func(n *fakeNode) {
			n.hook = func(_ context.Context, call memfile.Call) error {
				if call.Op == memfile.Flush && fail {
					return blocktree.E("fake", blocktree.IO, nil)
				}
				return nil
			}
		})
		_, err = f.ask(punch)
		wantKind(t, "a handle to write", err, blocktree.Other)
		_, err = f.ask(message{code: codeFlush})
		wantKind(t, "flush", err, blocktree.IO)
		fail = false
		_, err = f.ask(punch)
		wantKind(t, "after a flush that failed", err, blocktree.IO)
		c.revoke(path, o.caller(), true)
		_, err = f.ask(punch)
		wantKind(t, "revoked", err, blocktree.Permission)
	})
}

// Where zeros are written as any data a hole takes long: who loses the right in the middle of it writes no more, as with any write; and whoever keeps it gets all of the hole, wherever it begins.
func TestPunchIsJudgedInTheMiddle(t *testing.T) {
	const size, off = 4 * blocktree.FSTransferBytesMax, 100
	for _, revoked := range []bool{false, true} {
		in(t, func(t *testing.T, c *fake, s *Service, o *owner, path blocktree.Path) {
			zeroed := uint64(0)
			c.set(path, func(n *fakeNode) {
				n.zeros, n.inode.SizeBytes = true, size
				n.mem = memfile.New(memfile.Options{Info: blocktree.FileInfo{ID: n.inode.ID, Path: path, SizeBytes: size, SectorBytes: 512}, Hook: func(_ context.Context, call memfile.Call) error {
					if call.Op == memfile.Zero {
						if zeroed += call.Count * 512; revoked {
							c.revoke(path, o.caller(), true)
						}
					}
					return nil
				}})
			})
			f := open(t, s, o, path, flagWrite)
			for at := uint64(0); at < size; at += blocktree.FSTransferBytesMax {
				_, err := f.ask(message{code: codeWrite, off: at, data: bytes.Repeat([]byte{1}, blocktree.FSTransferBytesMax)})
				wantKind(t, "before", err, blocktree.Other)
			}
			_, err := f.ask(message{code: codePunch, off: off, count: size})
			if revoked {
				wantKind(t, "revoked in the middle", err, blocktree.Permission)
				if zeroed > blocktree.FSTransferBytesMax {
					t.Errorf("%d bytes were zeroed by who may not", zeroed)
				}
				return
			}
			wantKind(t, "a long hole", err, blocktree.Other)
			got, err := f.ask(message{code: codeRead, count: blocktree.FSTransferBytesMax})
			if want := append(bytes.Repeat([]byte{1}, off), make([]byte, blocktree.FSTransferBytesMax-off)...); err != nil || !bytes.Equal(got, want) {
				t.Errorf("the beginning is another, %v", err)
			}
			for at := uint64(blocktree.FSTransferBytesMax); at < size; at += blocktree.FSTransferBytesMax {
				if got, err = f.ask(message{code: codeRead, off: at, count: blocktree.FSTransferBytesMax}); err != nil || !bytes.Equal(got, make([]byte, len(got))) {
					t.Errorf("at %d it is not zeros, %v", at, err)
				}
			}
		})
	}
}

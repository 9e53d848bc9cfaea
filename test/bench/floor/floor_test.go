package main

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/crypto/cred"
)

const testMiB = 4

// startFloor runs the nodes in this process.
func startFloor(t *testing.T) (*file, []*node) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var nodes []*node
	var ends []endpoint
	for range allShards {
		key, err := cred.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		n, err := newNode(t.TempDir(), testMiB<<20/dataShards*logFactor)
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		wg.Go(func() { _ = n.serve(ctx, l, key) })
		nodes, ends = append(nodes, n), append(ends, endpoint{l.Addr().String(), key.Principal()})
	}
	key, err := cred.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	f, err := connect(ctx, blocktree.FileInfo{Path: "/floor", SizeBytes: testMiB << 20, SectorBytes: sectorBytes}, key, ends)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = f.Close()
		cancel()
		wg.Wait()
	})
	return f, nodes
}

// TestBytes: what was written, long or short, started or waited for, one by one or corked, is what is read. So each step that is measured is done.
func TestBytes(t *testing.T) {
	f, _ := startFloor(t)
	d, err := blockdev.Open(f, blockdev.Options{Memory: blockdev.NewMemory(blocktree.InFlightBytesMax)})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	model := make([]byte, testMiB<<20)
	fill := func(b []byte) {
		for i := range b {
			b[i] = byte(random.Uint32())
		}
	}
	ctx := context.Background()
	for at := 0; at < len(model); at += 1 << 20 {
		fill(model[at : at+1<<20])
		if err := d.WriteAt(ctx, model[at:at+1<<20], uint64(at), false); err != nil {
			t.Fatal(err)
		}
	}
	var writes sync.WaitGroup
	for i := range 400 {
		n := sectorBytes << random.IntN(3)
		first := random.IntN(len(model)/n) * n
		b := model[first : first+n]
		if i%8 == 0 {
			writes.Wait() // of the same sector the later one must win
			f.Cork()
		}
		fill(b)
		writes.Add(1)
		if !f.StartWrite(blocktree.SectorIndex(first/sectorBytes), b, func(err error) {
			if err != nil {
				t.Error(err)
			}
			writes.Done()
		}) {
			t.Fatal("a short write is not started")
		}
		if i%8 == 7 {
			f.Uncork()
			writes.Wait()
		}
	}
	for _, n := range []int{sectorBytes, 2 * sectorBytes, 64 << 10, 1 << 20, 2 << 20} {
		for range 20 {
			at := random.IntN((len(model)-n)/sectorBytes+1) * sectorBytes
			got := make([]byte, n)
			if err := d.ReadAt(ctx, got, uint64(at)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, model[at:at+n]) {
				t.Fatalf("other bytes at %d, %d long", at, n)
			}
		}
	}
}

// TestNothingIsLeftOut: what is on the disks is sealed, coded and under a CRC; a bad byte of it ends the floor.
func TestNothingIsLeftOut(t *testing.T) {
	f, nodes := startFloor(t)
	plain := bytes.Repeat([]byte("blocktree"), sectorBytes)[:sectorBytes]
	if err := f.WriteSectors(t.Context(), 0, plain); err != nil {
		t.Fatal(err)
	}
	var shards [allShards][]byte
	for s := range shards {
		n := nodes[nodeOf(0, s)]
		shards[s] = make([]byte, shardBytes)
		if _, err := n.log.ReadAt(shards[s], recordHeaderBytes); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if bytes.Contains(shards[s], []byte("blocktree")) || bytes.Count(shards[s], []byte{0}) > shardBytes/4 {
			t.Errorf("shard %d is not sealed", s)
		}
	}
	coded := [][]byte{shards[0], shards[1], nil}
	if err := f.codec.Reconstruct(coded); err != nil || !bytes.Equal(coded[2], shards[2]) {
		t.Error("the third shard is not of the code", err)
	}
	n := nodes[nodeOf(0, 0)]
	if _, err := n.log.WriteAt([]byte{shards[0][7] ^ 1}, recordHeaderBytes+7); err != nil {
		t.Fatal(err)
	}
	if err := f.ReadSectors(t.Context(), 0, make([]byte, sectorBytes)); err == nil {
		t.Error("a bad byte was read")
	}
}

// FuzzFrame: what a frame's header says is what was put into it.
func FuzzFrame(f *testing.F) {
	f.Add(make([]byte, headerBytes))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < headerBytes {
			return
		}
		h := decodeFrame(b)
		var again [headerBytes]byte
		if h.encode(again[:]); !bytes.Equal(again[:], b[:headerBytes]) {
			t.Fatalf("%x became %x", b[:headerBytes], again)
		}
	})
}

package node_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/file"
	"blocktree/internal/testenv"
)

// settled is when idle regions' members have been told the watermark: what is pending is copied again, and a node that was
// not told anything since it was promoted does not know that it is whole.
const settled = 300 * time.Millisecond

// TestRejoin stops a node of three, changes a little of much, and starts it: it is in sync by itself, having got only what
// changed; a second time, with nothing changed, nothing.
func TestRejoin(t *testing.T) {
	t.Parallel()
	const stored, changed, shards = 64 << 20, 1 << 20, 2
	d := testenv.New(t, 3)
	d.StartAll()
	c := d.Client()
	d.Create(c, "/vm/disk0", stored, blocktree.Code{Data: shards, Parity: 1})
	f := d.Open(c, "/vm/disk0")
	ctx := patience(t)
	for at := 0; at < stored; at += 4 << 20 {
		if err := f.WriteSectors(ctx, blocktree.SectorIndex(at/sectorBytes), pattern(uint64(at), 4<<20)); err != nil {
			t.Fatal(err)
		}
	}
	whole := func() bool {
		s, err := c.Status(ctx)
		return err == nil && s.Health == cluster.HealthOK && len(s.Files) == 1 && s.Files[0].InSync == 3
	}
	h := f.(*file.File).Handle()
	time.Sleep(settled)
	d.Stop(1)
	const first = 1100
	if err := f.WriteSectors(ctx, first, pattern(1, changed)); err != nil {
		t.Fatal(err)
	}
	d.Start(1)
	d.Await("copy-up", whole)
	one := h.Stats()
	t.Logf("%d bytes copied in %d sectors, %d sectors skipped", one.CopiedBytes, one.CopiedSectors, one.SkippedSectors)
	const seals = changed / sectorBytes * 72
	if min, max := uint64(changed/shards), uint64(changed/shards+seals+64<<10); one.CopiedBytes < min || one.CopiedBytes > max {
		t.Errorf("%d bytes copied, want %d to %d", one.CopiedBytes, min, max)
	}
	if want := uint64((stored - changed) / sectorBytes); one.SkippedSectors != want || one.Incremental != 1 {
		t.Errorf("%d sectors skipped, want %d: %+v", one.SkippedSectors, want, one)
	}

	time.Sleep(settled)
	d.Stop(1)
	d.Await("the node is missed", func() bool { return h.Stats().Removed == 2 })
	d.Start(1)
	d.Await("it is back", func() bool { return h.Stats().Promoted == 2 })
	d.Await("all in sync", whole)
	if two := h.Stats(); two.CopiedBytes != one.CopiedBytes || two.Unchanged != 1 {
		t.Errorf("with nothing changed: %+v", two)
	}
	d.Stop(0) // what it kept must serve
	got := make([]byte, 4<<20)
	for at := 0; at < stored; at += 4 << 20 {
		if err := f.ReadSectors(ctx, blocktree.SectorIndex(at/sectorBytes), got); err != nil {
			t.Fatal(err)
		}
		want := pattern(uint64(at), 4<<20)
		if at == 4<<20 {
			copy(want[(first-1024)*sectorBytes:], pattern(1, changed))
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("other bytes than were written at %d", at)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRejoinWithoutSegment takes a segment's file away while a node is stopped, or cuts it short: what the node's index still names
// must be copied, though its versions are the newest.
func TestRejoinWithoutSegment(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(file string) error{
		"removed": os.Remove,
		"cut":     func(file string) error { return os.Truncate(file, 1<<20) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const stored = 16 << 20
			d := testenv.New(t, 3)
			d.StartAll()
			c := d.Client()
			d.Create(c, "/vm/disk0", stored, blocktree.Code{Data: 2, Parity: 1})
			f := d.Open(c, "/vm/disk0")
			ctx := patience(t)
			want := pattern(1, stored)
			for at := 0; at < stored; at += 4 << 20 {
				if err := f.WriteSectors(ctx, blocktree.SectorIndex(at/sectorBytes), want[at:at+4<<20]); err != nil {
					t.Fatal(err)
				}
			}
			h := f.(*file.File).Handle()
			time.Sleep(settled)
			d.Stop(1)
			d.Await("the node is missed", func() bool { return h.Stats().Removed == 1 })
			files, err := filepath.Glob(filepath.Join(d.NodeDir(1), "sectors", "segment-*"))
			if err != nil || len(files) == 0 {
				t.Fatal(files, err)
			}
			largest, bytesOf := "", int64(0)
			for _, name := range files {
				if info, err := os.Stat(name); err != nil {
					t.Fatal(err)
				} else if info.Size() > bytesOf {
					largest, bytesOf = name, info.Size()
				}
			}
			if err := harm(largest); err != nil {
				t.Fatal(err)
			}
			d.Start(1)
			d.Await("it is back", func() bool { return h.Stats().Promoted == 1 })
			d.Stop(0)
			got := make([]byte, stored)
			for at := 0; at < stored; at += 4 << 20 {
				if err := f.ReadSectors(ctx, blocktree.SectorIndex(at/sectorBytes), got[at:at+4<<20]); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(got, want) {
				t.Error("other bytes than were written")
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

package fastrung

import (
	"hash/crc32"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/bttp"
	"blocktree/internal/testenv"
	"blocktree/internal/vfs"
	"blocktree/internal/wire"
)

// TestNobodyIsNamedByOutsiders: three nodes of six that do not keep a file say that they have seen one that does lie of it, and that it bears no liar. Their word is shown, and nothing is certain;
// it is once both others that keep the file say so.
func TestNobodyIsNamedByOutsiders(t *testing.T) {
	withNodes(t, bttp.TCP, 6, 1, func(*testenv.Simulated) {}, func(b *bed) {
		inode, err := b.client.Stat(b.T.Context(), b.Path("/vm/disk0"))
		if err != nil {
			b.T.Fatal(err)
		}
		if err := b.file.WriteSectors(b.T.Context(), 0, make([]byte, sectorBytes)); err != nil {
			b.T.Fatal(err)
		}
		keeps, accused := map[int]bool{}, 0
		for i := range 6 {
			if x, _ := b.Node(i).Stats(); x.Store.Records > 0 {
				keeps[i], accused = true, i
			}
		}
		if len(keeps) != 3 {
			b.T.Fatalf("%v keep the file", keeps)
		}
		accuse := func(outsiders bool) {
			for i := range 6 {
				if i == accused || keeps[i] == outsiders {
					continue
				}
				b.Stop(i)
				if err := vfs.Replace(b.Disk(i), b.NodeDir(i)+"/sectors/suspects", accusation(inode.ID, b.Members[accused].Node)); err != nil {
					b.T.Fatal(err)
				}
				b.Start(i)
				b.Healthy(b.client)
			}
		}
		said := func(nodes int, certain bool) bool {
			s := b.Status(b.client).Nodes[accused].Suspects
			if len(s) == 1 && s[0].Certain && !certain {
				b.T.Fatalf("%+v is certain", s)
			}
			return len(s) == 1 && s[0].Nodes == nodes && s[0].Certain == certain
		}
		accuse(true)
		b.await("what the three outsiders say", time.Minute, func() bool { return said(3, false) })
		accuse(false)
		b.await("certainty, as both others say so", time.Minute, func() bool { return said(5, true) })
	})
}

// accusation is what a node keeps that has seen another give wrong shards, once, of a file that bears no liar.
func accusation(file blocktree.FileID, of blocktree.NodeID) []byte {
	var e wire.Encoder
	e.U8(1)
	e.U32(1)
	e.U64(uint64(of))
	e.U8(uint8(stripe.SuspectShard))
	e.U64(1)
	for range 2 {
		e.U64(uint64(time.Now().Unix()))
	}
	e.File(file)
	e.U64(0)
	e.U8(0)
	e.U8(0)
	e.U32(0)
	e.U32(crc32.Checksum(e.Buf, crc32.MakeTable(crc32.Castagnoli)))
	return e.Buf
}

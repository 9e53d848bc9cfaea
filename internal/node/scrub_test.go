package node_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/file"
	"blocktree/internal/testenv"
	"blocktree/internal/vfs"
)

// scrubBed is three nodes and a file whose content is known.
type scrubBed struct {
	*testenv.Domain
	t    *testing.T
	ctx  context.Context
	c    *cluster.Client
	want []byte
}

const scrubBytes = 8 << 20

func newScrubBed(t *testing.T) *scrubBed { return newScrubBedOf(t, blocktree.Code{Data: 2, Parity: 1}) }

func newScrubBedOf(t *testing.T, code blocktree.Code) *scrubBed {
	d := testenv.New(t, code.Shards())
	d.StartAll()
	b := &scrubBed{Domain: d, t: t, ctx: patience(t), c: d.Client(), want: pattern(1, scrubBytes)}
	d.Create(b.c, "/vm/disk0", scrubBytes, code)
	b.write(0, b.want)
	b.Await("all in sync", b.whole)
	return b
}

// write opens the file, writes and closes it, so that nobody holds it.
func (b *scrubBed) write(first blocktree.SectorIndex, p []byte) {
	b.t.Helper()
	f := b.Open(b.c, "/vm/disk0")
	copy(b.want[first*sectorBytes:], p)
	for at := 0; at < len(p); at += 1 << 20 {
		part := p[at:min(at+1<<20, len(p))]
		if err := f.WriteSectors(b.ctx, first+blocktree.SectorIndex(at/sectorBytes), part); err != nil {
			b.t.Fatal(err)
		}
	}
	time.Sleep(settled)
	if err := f.Close(); err != nil {
		b.t.Fatal(err)
	}
}

// scrub scrubs everything and returns the sum of what all nodes did meanwhile. That is not only what their scrubs tell: a node mends what another's scrub meets there, too, and
// may have done so before its own was asked for.
func (b *scrubBed) scrub() (sum cluster.ScrubCounts) {
	b.t.Helper()
	b.Await("all in sync", b.whole) // a node that is not passes what it has
	before := b.totals()
	nodes, err := b.c.Scrub(b.ctx, nil, func([]cluster.NodeScrub) {})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, n := range nodes {
		if n.Error != "" || n.Left > 0 {
			b.t.Errorf("%s: %s, %d left", n.Path, n.Error, n.Left)
		}
		sum.Add(n.Counts)
	}
	after := b.totals()
	if told, did := sum.Found(), after.Found()-before.Found(); told > did {
		b.t.Errorf("the scrubs tell of %d, the nodes of %d", told, did)
	}
	return cluster.ScrubCounts{Sectors: sum.Sectors, BitRot: after.BitRot - before.BitRot, Lost: after.Lost - before.Lost, Misdirected: after.Misdirected - before.Misdirected,
		Mixed: after.Mixed - before.Mixed, Repaired: after.Repaired - before.Repaired, Beyond: after.Beyond - before.Beyond}
}

// totals are what all nodes found and repaired since they were made.
func (b *scrubBed) totals() (sum cluster.ScrubCounts) {
	b.t.Helper()
	b.Await("what each node has done", func() bool {
		s, err := b.c.Status(b.ctx)
		if err != nil {
			return false
		}
		sum = cluster.ScrubCounts{}
		for _, n := range s.Nodes {
			if n.Scrub == nil {
				return false
			}
			sum.Add(n.Scrub.Total)
		}
		return len(s.Nodes) == len(b.Members)
	})
	return sum
}

// clean demands that a scrub finds nothing, that all are in sync, and that everything reads, without one node.
func (b *scrubBed) clean(without int) {
	b.t.Helper()
	if sum := b.scrub(); sum.Found() != 0 || sum.Sectors != 3*scrubBytes/sectorBytes {
		b.t.Errorf("the second scrub: %+v", sum)
	}
	b.Stop(without)
	f := b.Open(b.c, "/vm/disk0")
	got := make([]byte, scrubBytes)
	for at := 0; at < scrubBytes; at += 1 << 20 {
		if err := f.ReadSectors(b.ctx, blocktree.SectorIndex(at/sectorBytes), got[at:at+1<<20]); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		b.t.Fatal(err)
	}
	if !bytes.Equal(got, b.want) {
		b.t.Error("other bytes than were written")
	}
}

// segment is the segment file of a node with the most in it.
func (b *scrubBed) segment(node int) string {
	b.t.Helper()
	files, err := filepath.Glob(filepath.Join(b.NodeDir(node), "sectors", "segment-*"))
	if err != nil || len(files) == 0 {
		b.t.Fatal(files, err)
	}
	best, most := "", 0
	for _, name := range files {
		p, err := os.ReadFile(name)
		if err != nil {
			b.t.Fatal(err)
		}
		if n := len(p) - bytes.Count(p, []byte{0}); n > most {
			best, most = name, n
		}
	}
	return best
}

// TestScrubBitRot flips a bit of one node's segment while it runs.
func TestScrubBitRot(t *testing.T) {
	t.Parallel()
	b := newScrubBed(t)
	f, err := os.OpenFile(b.segment(1), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	one := []byte{0}
	if _, err := f.ReadAt(one, 2<<20); err != nil {
		t.Fatal(err)
	}
	one[0] ^= 0x10
	if _, err := f.WriteAt(one, 2<<20); err != nil {
		t.Fatal(err)
	}
	if sum := b.scrub(); sum.BitRot != 1 || sum.Found() != 1 || sum.Repaired != 1 || sum.Beyond != 0 {
		t.Errorf("%+v", sum)
	}
	s, err := b.c.Status(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	found := s.Nodes[1].Scrub.Findings
	if len(found) != 1 || found[0].Count != 1 || found[0].Kind != cluster.ScrubBitRot || found[0].Outcome != cluster.ScrubRepaired {
		t.Errorf("status names %+v", found)
	}
	b.clean(0)
}

// TestScrubTruncated cuts a segment of one node short while it runs.
func TestScrubTruncated(t *testing.T) {
	t.Parallel()
	b := newScrubBed(t)
	if err := os.Truncate(b.segment(1), 1<<20); err != nil {
		t.Fatal(err)
	}
	if sum := b.scrub(); sum.Lost < 1000 || sum.Repaired != sum.Found() || sum.Beyond != 0 {
		t.Errorf("%+v", sum)
	}
	b.clean(0)
}

// TestScrubBeyondRepair damages one sector at two nodes of three.
func TestScrubBeyondRepair(t *testing.T) {
	t.Parallel()
	b := newScrubBed(t)
	for _, node := range []int{1, 2} {
		if err := os.Truncate(b.segment(node), 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	if sum := b.scrub(); sum.Beyond < 1000 || sum.Repaired != 0 {
		t.Errorf("%+v", sum)
	}
}

// whole reports whether all members are in sync.
func (b *scrubBed) whole() bool {
	s, err := b.c.Status(b.ctx)
	return err == nil && s.Health == cluster.HealthOK && s.Files[0].InSync == len(b.Members)
}

// putBack gives nodes the sectors that they had before meanwhile, with the start mark from after it, so that nothing tells them so.
func (b *scrubBed) putBack(meanwhile func(), nodes ...int) {
	b.t.Helper()
	must := func(err error) {
		b.t.Helper()
		if err != nil {
			b.t.Fatal(err)
		}
	}
	yesterday := b.t.TempDir()
	dir := func(i int) (sectors, copied string) {
		return filepath.Join(b.NodeDir(i), "sectors"), filepath.Join(yesterday, fmt.Sprint(i))
	}
	for _, i := range nodes {
		b.Stop(i)
		sectors, copied := dir(i)
		must(os.CopyFS(copied, os.DirFS(sectors)))
		b.Start(i)
		b.Await("in sync", b.whole)
	}
	meanwhile()
	for _, i := range nodes {
		b.Stop(i)
		sectors, copied := dir(i)
		mark, err := os.ReadFile(filepath.Join(sectors, "start"))
		must(err)
		must(os.RemoveAll(sectors))
		must(os.CopyFS(sectors, os.DirFS(copied)))
		must(os.WriteFile(filepath.Join(sectors, "start"), mark, 0o600))
		b.Start(i)
		b.Await("it believes to be in sync", b.whole)
	}
}

// TestScrubOldDirectory gives a node an older copy of its sectors, with today's start mark, so that nothing tells it so: while
// nobody holds the file, only a scrub finds what it misses.
func TestScrubOldDirectory(t *testing.T) {
	t.Parallel()
	b := newScrubBed(t)
	const changed = 100
	b.putBack(func() { b.write(500, pattern(7, changed*sectorBytes)) }, 1)
	if sum := b.scrub(); sum.Lost != changed || sum.Found() != changed || sum.Repaired != changed || sum.Beyond != 0 {
		t.Errorf("%+v", sum)
	}
	b.clean(0)
}

// TestScrubTwoOldDirectories puts two members of three back: they may not leave at the same time, as then too few would stay for a
// write, and with parity less than that to lose nothing by it. Whichever goes first is copied up from the third: the other looks as it does.
func TestScrubTwoOldDirectories(t *testing.T) {
	t.Parallel()
	b := newScrubBedOf(t, blocktree.Code{Data: 1, Parity: 2})
	const changed = 100
	b.putBack(func() { b.write(500, pattern(7, changed*sectorBytes)) }, 1, 2)
	ctx, cancel := context.WithCancel(b.ctx)
	var fewest atomic.Int64
	fewest.Store(3)
	var watch sync.WaitGroup
	watch.Go(func() {
		for ctx.Err() == nil {
			if s, err := b.c.Status(ctx); err == nil && len(s.Files) == 1 {
				fewest.Store(min(fewest.Load(), int64(s.Files[0].InSync)))
			}
		}
	})
	found := uint64(1)
	for i := 0; i < 20 && found > 0; i++ { // each is copied up after a scrub of its own, and one may meet that the other is
		nodes, err := b.c.Scrub(b.ctx, nil, func([]cluster.NodeScrub) {})
		if err != nil {
			t.Fatal(err)
		}
		found = 0
		for i := range nodes {
			if found += nodes[i].Counts.Found() + nodes[i].Left; nodes[i].Error != "" {
				found++
			}
		}
		b.Await("in sync", b.whole)
	}
	cancel()
	watch.Wait()
	if n := fewest.Load(); n != 2 {
		t.Errorf("at one time %d members were in sync", n)
	}
	b.clean(0) // in particular nobody had to leave again, which takes ten minutes
}

// flip changes a bit in the middle of what a node has, of another sector for each node.
func (b *scrubBed) flip(node int) {
	b.t.Helper()
	f, err := os.OpenFile(b.segment(node), os.O_RDWR, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	at, one := int64(2<<20+node<<16), []byte{0}
	if _, err := f.ReadAt(one, at); err != nil {
		b.t.Fatal(err)
	}
	one[0] ^= 0x10
	if _, err := f.WriteAt(one, at); err != nil {
		b.t.Fatal(err)
	}
}

// TestScrubAfterClose: what was written just before the file was closed is no longer pending, so that it is scrubbed.
func TestScrubAfterClose(t *testing.T) {
	t.Parallel()
	b := newScrubBed(t)
	f := b.Open(b.c, "/vm/disk0")
	for at := 0; at < len(b.want); at += 1 << 20 {
		if err := f.WriteSectors(b.ctx, blocktree.SectorIndex(at/sectorBytes), b.want[at:at+1<<20]); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	b.clean(0)
}

// TestScrubWithoutMember damages a node of three while another is down: that is named and kept, not called beyond repair, and nobody
// leaves; it is repaired once all are there.
func TestScrubWithoutMember(t *testing.T) {
	t.Parallel()
	b := newScrubBed(t)
	b.flip(1)
	b.Stop(2)
	nodes, err := b.c.Scrub(b.ctx, nil, func([]cluster.NodeScrub) {})
	if err != nil {
		t.Fatal(err)
	}
	// The others' walks may have met the damage, too, while they took the third node to be there: then the node has looked at it again, and counted it again.
	if n := nodes[1]; n.Counts.BitRot == 0 || n.Counts.Found() != n.Counts.BitRot || n.Counts.Repaired != 0 || n.Counts.Beyond != 0 || n.Left != 1 {
		t.Errorf("%+v", n)
	}
	if n := nodes[0]; n.Counts.Found() != 0 || n.Left != 0 || n.Counts.Sectors != scrubBytes/sectorBytes {
		t.Errorf("%+v", n)
	}
	if nodes[2].Error == "" {
		t.Error("who is down is not named")
	}
	b.Start(2)
	// The nodes may not have found each other again at once, and one that a scrub could not compare with mends what another's scrub meets there, as for any reader: neither that
	// scrub nor the next tells of that. So what counts is all that each node has done since it was made.
	b.Await("a scrub that leaves nothing", func() bool {
		if !b.whole() {
			return false
		}
		nodes, err := b.c.Scrub(b.ctx, nil, func([]cluster.NodeScrub) {})
		if err != nil {
			t.Fatal(err)
		}
		return !slices.ContainsFunc(nodes, func(n cluster.NodeScrub) bool { return n.Error != "" || n.Left > 0 }) && b.totals().Repaired > 0
	})
	if sum := b.totals(); sum.BitRot == 0 || sum.Found() != sum.BitRot || sum.Repaired != 1 || sum.Beyond != 0 {
		t.Errorf("%+v", sum)
	}
	b.clean(0)
}

// TestScrubMisdirected writes the beginning of one record over another's, as a disk does that takes a wrong address.
func TestScrubMisdirected(t *testing.T) {
	t.Parallel()
	b := newScrubBed(t)
	f, err := os.OpenFile(b.segment(1), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const align = 512
	var records []int64
	magic := make([]byte, 4)
	for at := int64(0); at < 6<<20; at += align {
		if _, err := f.ReadAt(magic, at); err != nil {
			t.Fatal(err)
		}
		if string(magic) == "BTr1" { // as cluster/store/format.go has it
			records = append(records, at)
		}
	}
	records = slices.DeleteFunc(records, func(at int64) bool { // of those with sectors
		return !slices.ContainsFunc(records, func(next int64) bool { return next > at+512<<10 && next < at+1<<20 })
	})
	if len(records) < 5 {
		t.Fatalf("records at %v", records)
	}
	begin := make([]byte, 2048)
	if _, err := f.ReadAt(begin, records[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(begin, records[3]); err != nil {
		t.Fatal(err)
	}
	if sum := b.scrub(); sum.Misdirected != 1 || sum.Found() != 1 || sum.Repaired != 1 {
		t.Errorf("%+v", sum)
	}
	b.clean(0)
}

// TestScrubNext does what `store check --repair` does at all nodes, each of which has a damaged sector: nobody has to be copied up, and
// all is repaired without being asked for.
func TestScrubNext(t *testing.T) {
	t.Parallel()
	b := newScrubBed(t)
	for i := range 3 {
		b.Stop(i)
		b.flip(i)
		if err := cluster.ScrubNext(vfs.Disk{}, filepath.Join(b.NodeDir(i), "sectors")); err != nil {
			t.Fatal(err)
		}
	}
	b.StartAll()
	b.Await("repaired", func() bool {
		s, err := b.c.Status(b.ctx)
		if err != nil {
			return false
		}
		repaired := uint64(0)
		for _, n := range s.Nodes {
			if n.Scrub != nil && !n.Scrub.Asked.Active {
				repaired += n.Scrub.Total.Repaired
			}
		}
		return repaired == 3
	})
	b.clean(0)
}

// TestScrubUnderWrites scrubs again and again while a holder writes: nothing is taken for damage.
func TestScrubUnderWrites(t *testing.T) {
	t.Parallel()
	b := newScrubBed(t)
	f := b.Open(b.c, "/vm/disk0")
	w := startWriters(b.ctx, f, 8)
	began := w.total()
	for range 5 {
		if sum := b.scrub(); sum.Found() != 0 || sum.Sectors == 0 {
			t.Errorf("%+v", sum)
		}
	}
	if w.total() == began {
		t.Error("nothing was written meanwhile")
	}
	w.finish(t, false)
	if st := f.(*file.File).Handle().Stats(); st.Removed != 0 {
		t.Errorf("members were removed: %+v", st)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

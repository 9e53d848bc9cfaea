package meta

import (
	"bytes"
	"testing"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/wire"
)

const gib = 1 << 30

// resizeRows are of files' sizes: /w is inode 1, of 1 MiB, in view 1, or held by session 1 under epoch 1 in view 2.
func resizeRows() []opRow {
	made := []Op{with(coded("/w", 2, 1), func(o *CreateFile) { o.SizeBytes = 1 << 20 })}
	held := then(made, open(1), open(2), Acquire{session(1), fileID(1)})
	f := fileID(1)
	return []opRow{
		{"grow", made, Resize{File: f, Seq: 1, SizeBytes: 3 * gib}, 0, ""},
		{"grow held", held, Resize{File: f, Seq: 2, SizeBytes: 3 * gib}, 0, ""},
		{"grow stale", held, Resize{File: f, Seq: 1, SizeBytes: 3 * gib}, blocktree.StaleView, "2"},
		{"grow nothing", made, Resize{File: fileID(9), Seq: 1, SizeBytes: gib}, blocktree.NotFound, ""},
		{"grow a directory", oneFile(), Resize{File: fileID(1), Seq: 1, SizeBytes: gib}, blocktree.NotFound, ""},
		{"odd size", made, Resize{File: f, Seq: 1, SizeBytes: gib + 1}, blocktree.Invalid, "multiple"},
		{"size zero", made, Resize{File: f, Seq: 1}, blocktree.Invalid, "zero"},
		{"too large", made, Resize{File: f, Seq: 1, SizeBytes: blocktree.FileBytesMax + 4096}, blocktree.Invalid, "most"},
		{"largest", made, Resize{File: f, Seq: 1, SizeBytes: blocktree.FileBytesMax}, 0, ""},
		{"shrink", held, Resize{File: f, Seq: 2, SizeBytes: 4096, Session: session(1), Epoch: 1}, 0, ""},
		{"shrink held by nobody", made, Resize{File: f, Seq: 1, SizeBytes: 4096}, blocktree.Fenced, "lease"},
		{"shrink without a lease", held, Resize{File: f, Seq: 2, SizeBytes: 4096}, blocktree.Fenced, "lease"},
		{"shrink another's", held, Resize{File: f, Seq: 2, SizeBytes: 4096, Session: session(2), Epoch: 1}, blocktree.Fenced, ""},
		{"shrink another epoch", held, Resize{File: f, Seq: 2, SizeBytes: 4096, Session: session(1), Epoch: 2}, blocktree.Fenced, ""},
		{"shrink given up", then(held, Release{session(1), f, 1}), Resize{File: f, Seq: 2, SizeBytes: 4096, Session: session(1), Epoch: 1}, blocktree.Fenced, ""},
		{"shrink stale", held, Resize{File: f, Seq: 1, SizeBytes: 4096, Session: session(1), Epoch: 1}, blocktree.StaleView, ""},
		{"grow with too few", then(made, StartNode{1, incarnation(9), 2, 1}, StartNode{2, incarnation(9), 2, 1}), Resize{File: f, Seq: 3, SizeBytes: gib},
			blocktree.Unavailable, "in sync"},
	}
}

// TestResize: the inode and the layout say the same size at all times, and who grows within an epoch is told where that began.
func TestResize(t *testing.T) {
	m := founded(t, 3)
	f := m.must(with(coded("/w", 2, 1), func(o *CreateFile) { o.SizeBytes = 1 << 20 })).Inode.ID
	m.must(open(1))
	m.must(Acquire{session(1), f})
	kept := uint64(1 << 20)
	for i, x := range []struct {
		size uint64
		born blocktree.RegionIndex
	}{{2 << 20, 0}, {3 * gib, 1}, {4 * gib, 1}, {4096, 1}, {2 * gib, 1}, {4*gib + 4096, 1}} {
		seq := m.view().layout(f).Seq
		r := m.must(Resize{File: f, Seq: seq, SizeBytes: x.size, Session: session(1), Epoch: 1, Time: int64(i)})
		kept = max(kept, x.size)
		inode, l := m.view().inode(f), m.view().layout(f)
		if inode.SizeBytes != x.size || inode.Modified != int64(i) || l.Size() != x.size/4096 || l.Sectors != kept/4096 || l.Born != x.born || r.Layout.Seq != seq+1 || r.Inode.SizeBytes != x.size {
			t.Fatalf("%d: inode %+v, layout %+v", x.size, inode, l)
		}
		if len(m.last.Layouts) != 1 || m.last.Layouts[0].Seq != l.Seq {
			t.Errorf("%d: OnApply does not hear of it", x.size)
		}
	}
	if l := m.must(Acquire{session(1), f}).Layout; l.Born != 0 || l.Size() != (4*gib+4096)/4096 {
		t.Errorf("the next epoch: %+v", l)
	}
}

// TestNewRegionsGetHosts: a store that left the cluster has no place in what is new, one that came since may get it, and is then found by its starts.
func TestNewRegionsGetHosts(t *testing.T) {
	m := founded(t, 3)
	f := m.must(with(coded("/w", 2, 1), func(o *CreateFile) { o.SizeBytes = 1 << 20 })).Inode.ID
	m.must(PutRuntime{host(4)})
	m.must(StartNode{Node: 4, Incarnation: incarnation(4), StartCounter: 1})
	m.must(RemoveRuntime{host(1).Path})
	l := m.must(Resize{File: f, Seq: 1, SizeBytes: 2 * gib}).Layout
	if v := l.View(1); v.Count(stripe.InSync) != 3 || !l.HasPlace(4) {
		t.Fatalf("%+v", v)
	}
	if _, has := l.View(1).Shard(1); has {
		t.Errorf("a store that left is in %v", l.View(1))
	}
	m.must(StartNode{Node: 4, Incarnation: incarnation(44), StartCounter: 2, ExpectCounter: 1})
	if l := m.view().layout(f); !l.Marked[4] {
		t.Error("a start of the new host does not reach the file")
	}
}

// TestGrowsAsLongAsItFits: where a store has left, each region that is new is listed; a list that is too long changes nothing, and says what to do.
func TestGrowsAsLongAsItFits(t *testing.T) {
	m := founded(t, 3)
	f := m.must(with(coded("/w", 2, 1), func(o *CreateFile) { o.SizeBytes = 1 << 20 })).Inode.ID
	m.must(PutRuntime{host(4)})
	m.must(StartNode{Node: 4, Incarnation: incarnation(4), StartCounter: 1})
	m.must(RemoveRuntime{host(1).Path})
	r := m.do(Resize{File: f, Seq: 1, SizeBytes: blocktree.FileBytesMax})
	if r.Kind != blocktree.TooLarge || r.Hint == "" || r.Layout == nil || r.Layout.Seq != 1 {
		t.Errorf("%v %q, hint %q, layout %+v", r.Kind, r.Text, r.Hint, r.Layout)
	}
	if i, l := m.view().inode(f), m.view().layout(f); i.SizeBytes != 1<<20 || l.Seq != 1 || l.Regions() != 1 {
		t.Errorf("%+v, %+v", i, l)
	}
	m.must(Resize{File: f, Seq: 1, SizeBytes: 1 << 40})
}

// TestGrowsAfterStarts: nodes that started anew while they served nothing of a file, as after a power loss, are no reason to refuse a growth.
func TestGrowsAfterStarts(t *testing.T) {
	m := founded(t, 6)
	f := m.must(with(coded("/w", 2, 1), func(o *CreateFile) { o.SizeBytes = 1 << 20 })).Inode.ID
	l := m.view().layout(f)
	for n := blocktree.NodeID(1); n <= 6; n++ {
		if !l.HasPlace(n) {
			m.must(StartNode{Node: n, Incarnation: incarnation(90 + int(n)), StartCounter: 2, ExpectCounter: 1})
		}
	}
	seq := m.view().layout(f).Seq
	grown := m.must(Resize{File: f, Seq: seq, SizeBytes: 60 * gib}).Layout
	if len(grown.Marked) != 0 || grown.View(59).Count(stripe.InSync) != 3 {
		t.Errorf("%+v", grown)
	}
}

// TestResizedLayoutCodec: a layout whose size is all that is kept is encoded as ever; any other is refused by versions that do not know it.
func TestResizedLayoutCodec(t *testing.T) {
	encode := func(l *stripe.Layout) []byte {
		var e wire.Encoder
		putLayout(&e, l)
		return e.Buf
	}
	plain := someLayout()
	for _, flush := range []bool{false, true} {
		for _, x := range []struct {
			beyond uint64
			born   blocktree.RegionIndex
		}{{5, 0}, {0, 2}, {1 << 18, 1}} {
			l := *plain
			if flush {
				l.Durability, l.Back = stripe.DurabilityFlush, map[blocktree.NodeID]blocktree.Incarnation{2: incarnation(9)}
			}
			l.Beyond, l.Born = x.beyond, x.born
			b := encode(&l)
			if b[17]&resizedFlag == 0 {
				t.Errorf("%+v is not marked", x)
			}
			d := wire.NewDecoder(b)
			got := getLayout(d)
			if err := d.Finish(); err != nil || !bytes.Equal(encode(got), b) || got.Beyond != x.beyond || got.Born != x.born || got.Code != l.Code {
				t.Errorf("%+v: %+v, %v", x, got, err)
			}
		}
	}
	if b := encode(plain); b[17] != byte(plain.Code.Parity) {
		t.Errorf("a layout that nobody resized has parity byte %#x", b[17])
	}
	for _, x := range []struct {
		beyond uint64
		born   blocktree.RegionIndex
	}{{plain.Sectors, 0}, {^uint64(0), 0}, {0, 3}} {
		l := *plain
		l.Beyond, l.Born = x.beyond, x.born
		d := wire.NewDecoder(encode(&l))
		if getLayout(d); d.Finish() == nil {
			t.Errorf("%+v is taken", x)
		}
	}
}

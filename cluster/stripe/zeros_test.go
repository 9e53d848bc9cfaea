package stripe

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"blocktree"
)

// TestZerosOfAMember compares what a member says with sector after sector: zeros only where its index has none or zeros, and nothing
// but zeros is in flight.
func TestZerosOfAMember(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 2))
	for range 500 {
		const first, count = 100, 60
		var index, want [count]ExtentKind
		task := &ReadTask{Request: &Message{Kind: KindRead, Want: WantZeros, First: first, Count: count}}
		var committed []Extent
		for at := 0; at < count; {
			n := min(count-at, 1+r.IntN(12))
			kind := ExtentKind(r.IntN(4))
			committed = append(committed, Extent{First: blocktree.SectorIndex(first + at), Count: uint32(n), Kind: kind})
			for range n {
				index[at] = kind
				at++
			}
		}
		for i, k := range index {
			if want[i] = Zero; k == Data || k == Damaged {
				want[i] = Data
			}
		}
		for range r.IntN(5) { // some reach beyond what is asked about
			from, n := first-10+r.IntN(count+15), 1+r.IntN(20)
			h := &Held{First: blocktree.SectorIndex(from), Count: uint32(n), Kind: RecordData}
			if r.IntN(3) == 0 {
				h.Kind = RecordZero
			}
			task.Pending = append(task.Pending, h)
			for s := max(from, first); s < min(from+n, first+count) && h.Kind == RecordData; s++ {
				want[s-first] = Data
			}
		}
		a := task.Answer(1, committed, nil, nil, first+count, blocktree.Other)
		if a.Next != first+count || !checkZeros(task.Request, a) {
			t.Fatalf("%+v", a)
		}
		at := 0
		for i, x := range a.Extents {
			if i > 0 && a.Extents[i-1].Kind == x.Kind {
				t.Fatalf("extent %d of %+v", i, a.Extents)
			}
			for range x.Count {
				if x.Kind != want[at] {
					t.Fatalf("sector %d: kind %d, want %d", at, x.Kind, want[at])
				}
				at++
			}
		}
	}
}

// TestZerosEndEarly: an answer has room for so many extents, and says where it ends.
func TestZerosEndEarly(t *testing.T) {
	task := &ReadTask{Request: &Message{Kind: KindRead, Want: WantZeros, Count: 5000}}
	var committed []Extent
	for i := range 5000 {
		committed = append(committed, Extent{First: blocktree.SectorIndex(i), Count: 1, Kind: Zero + ExtentKind(i%2)})
	}
	a := task.Answer(1, committed, nil, nil, 5000, blocktree.Other)
	if len(a.Extents) != ZerosExtentsMax || a.Next != ZerosExtentsMax || !checkZeros(task.Request, a) {
		t.Fatalf("%d extents to %d", len(a.Extents), a.Next)
	}
	header, body := EncodeMessage(a)
	got, err := DecodeMessage(header, slices.Concat(body...))
	if err != nil || !slices.Equal(got.Extents, a.Extents) || got.Next != a.Next || got.Want != WantZeros || len(header) > blocktree.FrameHeaderBytesMax {
		t.Fatalf("%d extents in a header of %d: %v", len(got.Extents), len(header), err)
	}
}

// TestZerosOfAll: a sector is zeros if all say so, as far as all have told.
func TestZerosOfAll(t *testing.T) {
	x := func(kinds ...uint32) *Message { // counts, zeros first
		a := &Message{Next: 50}
		for i, n := range kinds {
			if n > 0 {
				a.Extents = append(a.Extents, Extent{First: a.Next, Count: n, Kind: Zero + ExtentKind(i%2)})
				a.Next += blocktree.SectorIndex(n)
			}
		}
		return a
	}
	for _, c := range []struct {
		answers []*Message
		want    *Message
	}{
		{[]*Message{x(20)}, x(20)},
		{[]*Message{x(20), nil, x(20)}, x(20)},
		{[]*Message{x(20), x(0, 20)}, x(0, 20)},
		{[]*Message{x(5, 5, 10), x(20)}, x(5, 5, 10)},
		{[]*Message{x(5, 5, 10), x(0, 7, 2, 1, 10)}, x(0, 10, 10)},
		{[]*Message{x(5, 5, 10), x(8)}, x(5, 3)},
		{[]*Message{x(0, 1, 30), x(3, 1, 3), x(40)}, x(0, 1, 2, 1, 3)},
	} {
		r := &read{c: &core{}, first: 50, count: 20}
		for _, a := range c.answers {
			r.slots = append(r.slots, readSlot{ans: a})
		}
		var got []Extent
		for _, p := range r.allZeros() {
			got = append(got, Extent{First: p.First, Count: p.Count, Kind: p.Kind})
		}
		if !slices.Equal(got, c.want.Extents) {
			t.Errorf("%+v, want %+v", got, c.want.Extents)
		}
	}
}

// TestZerosThatMakeNoSense are answers that are refused.
func TestZerosThatMakeNoSense(t *testing.T) {
	q := &Message{Kind: KindRead, Want: WantZeros, First: 10, Count: 10}
	for _, x := range []struct {
		name string
		next blocktree.SectorIndex
		xs   []Extent
		good bool
	}{
		{"whole", 20, []Extent{{First: 10, Count: 10, Kind: Zero}}, true},
		{"short", 12, []Extent{{First: 10, Count: 2, Kind: Data}}, true},
		{"nothing", 10, nil, false},
		{"nothing, but goes on", 20, nil, false},
		{"too long", 21, []Extent{{First: 10, Count: 11, Kind: Zero}}, false},
		{"a gap in front", 20, []Extent{{First: 11, Count: 9, Kind: Zero}}, false},
		{"a gap", 20, []Extent{{First: 10, Count: 2, Kind: Zero}, {First: 13, Count: 7, Kind: Data}}, false},
		{"ends elsewhere", 19, []Extent{{First: 10, Count: 10, Kind: Zero}}, false},
		{"empty extent", 20, []Extent{{First: 10, Kind: Data}, {First: 10, Count: 10, Kind: Zero}}, false},
		{"absent", 20, []Extent{{First: 10, Count: 10, Kind: Absent}}, false},
		{"damaged", 20, []Extent{{First: 10, Count: 10, Kind: Damaged}}, false},
		{"pending", 20, []Extent{{First: 10, Count: 10, Kind: Zero, Pending: true}}, false},
	} {
		if got := checkZeros(q, &Message{Extents: x.xs, Next: x.next}); got != x.good {
			t.Errorf("%s: %v", x.name, got)
		}
	}
}

// TestZerosOutOfBounds: members refuse what no holder asks; a run may be as long as its region, no longer.
func TestZerosOutOfBounds(t *testing.T) {
	l := testLayout(blocktree.Code{Data: 2, Parity: 1})
	l.SectorBytes, l.RegionSectors, l.Sectors = blocktree.SectorBytesMin, 4096, 8192
	m := &Member{}
	for _, x := range []struct {
		want         Want
		first, count uint64
		kind         blocktree.Kind
	}{
		{WantZeros, 0, 4096, blocktree.Other}, {WantVersions, 0, 4096, blocktree.OutOfRange}, {WantZeros, 1, 4096, blocktree.OutOfRange},
		{WantZeros, 0, 0, blocktree.OutOfRange}, {WantZeros, 4096, 1, blocktree.OutOfRange}, {WantZeros, 1, 1<<64 - 1, blocktree.OutOfRange},
		{WantZeros + 1, 0, 1, blocktree.OutOfRange},
	} {
		got := m.checkRun(l, memberView{}, &Message{Kind: KindRead, Want: x.want, First: blocktree.SectorIndex(x.first), Count: x.count})
		if got != x.kind {
			t.Errorf("%+v: %v", x, got)
		}
	}
}

// TestZerosGivenUp: what nobody waits for any more is gone from the machines, be it with the members or with Raft, and nothing else is.
func TestZerosGivenUp(t *testing.T) {
	d := newDesk(t, blocktree.Code{Data: 2, Parity: 1}, "")
	d.h.Zeros(50, 0, 0, 1)
	d.h.Read(51, 0, 0, 1)
	d.take()
	for op := uint64(0); op < 52; op++ { // of one that is no question for zeros nothing is given up
		d.h.GiveUp(op)
	}
	d.take()
	d.expect(50, true, blocktree.Canceled)
	d.expect(51, false, blocktree.Other)
	if len(d.h.reads) != 1 || len(d.h.calls) != 2 {
		t.Fatalf("%d reads and %d calls are left of one", len(d.h.reads), len(d.h.calls))
	}

	d = newDesk(t, blocktree.Code{Data: 2, Parity: 1}, "")
	d.tick(time.Minute) // the lease has run out
	d.h.Zeros(50, 0, 0, 1)
	d.take()
	for _, m := range d.sent {
		if m.Kind == KindRead {
			task := ReadTask{Request: m}
			d.h.Step(task.Answer(m.Node, []Extent{{Count: 1, Kind: Absent}}, nil, nil, 1, blocktree.Other))
		}
	}
	d.take()
	d.expect(50, false, blocktree.Other)
	d.h.GiveUp(50)
	d.take()
	d.expect(50, true, blocktree.Canceled)
	d.h.GiveUp(50)
	if d.take(); len(d.h.held) != 0 || d.h.Stats().GivenUp != 1 {
		t.Fatalf("%d wait for Raft, %d were given up", len(d.h.held), d.h.Stats().GivenUp)
	}

	r := NewReader(ReaderConfig{}, 0)
	r.Zeros(1, d.l, 0, 0, 1)
	r.GiveUp(2)
	r.GiveUp(1)
	if done := r.Ready().Done; len(done) != 1 || done[0].Err != blocktree.Canceled || len(r.reads) != 0 || len(r.calls) != 0 {
		t.Fatalf("%+v; %d reads and %d calls are left", done, len(r.reads), len(r.calls))
	}
}

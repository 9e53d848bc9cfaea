package stripe

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"blocktree"
)

// lies are what a member may make of its answer to a read. They say nothing of the bytes, which the machine does not judge.
var lies = []struct {
	name   string
	lie    func(w *world, a *Message)
	sealed bool          // of a version that, with k = 1, only the key shows not to be one
	named  []SuspectKind // one of them is told, if the read cannot do without asking the liar; none: nobody can know
}{
	{"absent", func(_ *world, a *Message) { replaceExtents(a, blocktree.Version{}, Absent) }, false, []SuspectKind{SuspectLost}},
	{"zero, of the right version", func(w *world, a *Message) { replaceExtents(a, newestOf(w, a), Zero) }, false, []SuspectKind{SuspectVersion, SuspectLost}},
	{"zero, newer", func(w *world, a *Message) { replaceExtents(a, higher(newestOf(w, a), 1), Zero) }, false, []SuspectKind{SuspectVersion, SuspectNonsense}},
	{"zero, of a later epoch", func(_ *world, a *Message) {
		replaceExtents(a, blocktree.Version{Epoch: a.Epoch + 7, Sequence: 3}, Zero)
	}, false, []SuspectKind{SuspectVersion}},
	{"version too high", func(w *world, a *Message) { renumber(w, a, higher(newestOf(w, a), 1000)) }, true, []SuspectKind{SuspectVersion, SuspectNonsense}},
	{"version of a later epoch", func(w *world, a *Message) { renumber(w, a, blocktree.Version{Epoch: a.Epoch + 1, Sequence: 1}) }, true, []SuspectKind{SuspectVersion}},
	{"version too low", func(w *world, a *Message) { renumber(w, a, blocktree.Version{Epoch: 1, Sequence: 0}) }, false, []SuspectKind{SuspectLost}},
	{"pending, newer", func(w *world, a *Message) {
		if a.Want != WantExact {
			a.Extents = append(slices.Clone(a.Extents), Extent{First: a.First, Count: uint32(a.Count), Version: higher(newestOf(w, a), 2), Kind: Data, Pending: true})
		}
	}, false, nil},
	{"no bytes", func(_ *world, a *Message) {
		if len(a.Payload) > 0 {
			a.Payload, a.Seals = nil, nil
		} else {
			a.Extents = nil
		}
	}, false, []SuspectKind{SuspectNonsense}},
	{"extents beyond the run", func(_ *world, a *Message) {
		a.Extents = []Extent{{First: a.First + 1, Count: 1 << 30, Version: blocktree.Version{Epoch: 1, Sequence: 1}, Kind: Data}}
	}, false, []SuspectKind{SuspectNonsense}},
	{"damaged", func(_ *world, a *Message) {
		for i := range a.Extents {
			if a.Extents[i].Kind == Data && a.Want != WantVersions {
				a.Extents = slices.Clone(a.Extents)
				a.Extents[i].Kind = Damaged
				a.Payload, a.Seals = nil, nil
			}
		}
	}, false, nil},
}

func replaceExtents(a *Message, v blocktree.Version, k ExtentKind) {
	if a.Want == WantExact {
		a.Extents, a.Payload, a.Seals = nil, nil, nil
		if k == Zero && v == a.Version {
			a.Extents = []Extent{{First: a.First, Count: uint32(a.Count), Version: v, Kind: k}}
		}
		return
	}
	a.Extents, a.Payload, a.Seals = []Extent{{First: a.First, Count: uint32(a.Count), Version: v, Kind: k}}, nil, nil
}

// renumber gives what the answer has another version; a sector of zeros becomes data with made-up bytes.
func renumber(w *world, a *Message, v blocktree.Version) {
	if a.Want == WantExact && a.Version != v {
		a.Extents, a.Payload, a.Seals = nil, nil, nil
		return
	}
	a.Extents = []Extent{{First: a.First, Count: uint32(a.Count), Version: v, Kind: Data}}
	if a.Want != WantVersions {
		a.Payload = make([]byte, int(a.Count)*w.codec.code.ShardBytes(testSector))
		a.Seals = make([]byte, int(a.Count)*SealBytes)
	}
}

func newestOf(w *world, a *Message) blocktree.Version { return w.floor[a.First] }

func higher(v blocktree.Version, n blocktree.Sequence) blocktree.Version {
	v.Sequence += n
	return v
}

// TestLiars: while at most as many members lie as the note allows, a read gives what was written, whoever reads and in whichever places they
// are, and names who lied; with more of them it fails, and gives nothing older or other.
func TestLiars(t *testing.T) {
	for _, code := range []blocktree.Code{{Data: 2, Parity: 1}, {Data: 4, Parity: 2}, {Data: 1, Parity: 2}, {Data: 2, Parity: 2}} {
		s := code.Shards()
		bear := min(code.Parity, s-max(code.Data, s/2+1))
		for x := range lies {
			for _, zero := range []bool{false, true} {
				for _, reader := range []bool{false, true} {
					for liars := 1; liars <= bear && !(code.Data == 1 && lies[x].sealed); liars++ {
						for from := range s {
							name := fmt.Sprintf("%v/%s/zero=%v/reader=%v/liars=%d from %d", code, lies[x].name, zero, reader, liars, from)
							testLie(t, name, code, x, zero, reader, liars, from)
						}
					}
				}
			}
		}
	}
}

func testLie(t *testing.T, name string, code blocktree.Code, x int, zero, reader bool, liars, from int) {
	t.Helper()
	if what := lieTo(calm(code), x, zero, reader, liars, from); what != "" {
		t.Errorf("%s: %s", name, what)
	}
}

// lieTo has a sector of two versions read while some members lie, and tells what is wrong.
func lieTo(w *world, lie int, zero, reader bool, liars, from int) string {
	x := &lies[lie]
	writeKind(w, 0, 4, false)
	writeKind(w, 0, 4, zero)
	w.turns(40, 20*time.Millisecond)
	var who []blocktree.NodeID
	for i := range liars {
		who = append(who, w.truth.View(0).Members[(from+i)%len(w.nodes)].Node)
	}
	lied := false
	w.lie = func(a *Message) {
		if slices.Contains(who, a.Node) {
			x.lie(w, a)
			lied = true
		}
	}
	w.suspects = nil
	before := w.readsOK
	w.nextOp++
	op := &testOp{read: true, first: 0, count: 4, holder: w.hid, reader: reader}
	for i := range op.count {
		op.floor = append(op.floor, w.floor[blocktree.SectorIndex(i)])
	}
	w.ops[w.nextOp] = op
	var kind ExtentKind
	w.onDone = func(_ *testOp, d Done) {
		if d.Read != nil {
			kind = d.Read.Pieces[0].Kind
		}
	}
	if reader {
		w.rd.Read(w.nextOp, w.truth, 0, 0, 4)
		w.runReader()
	} else {
		w.with(w.hid, func(h *Holder) { h.Read(w.nextOp, 0, 0, 4) })
	}
	w.turns(12, 20*time.Millisecond)
	if want := map[bool]ExtentKind{false: Data, true: Zero}[zero]; w.readsOK != before+1 || len(w.errs) > 0 || kind != want {
		return fmt.Sprintf("%d reads done, kind %d, failures %v: %v", w.readsOK-before, kind, w.fails, w.errs)
	}
	caught := false
	for _, s := range w.suspects {
		if !slices.Contains(who, s.Node) {
			return fmt.Sprintf("node %v is called a liar (%v), it is %v", s.Node, s.Kind, who)
		}
		caught = caught || slices.Contains(x.named, s.Kind)
	}
	noLie := zero && strings.HasPrefix(x.name, "zero, of the right")
	if lied && len(x.named) > 0 && !noLie && !(reader && lostOnly(x.named)) && !caught {
		return fmt.Sprintf("nobody is named: %v", w.suspects)
	}
	return ""
}

// lostOnly: that a write is lost a reader without a lease knows of earlier epochs only.
func lostOnly(kinds []SuspectKind) bool { return len(kinds) == 1 && kinds[0] == SuspectLost }

// TestLiarMutants: each rule about liars is needed. Where decision 10 of the note sees to it, too (who reads does not know that a version is settled, and fewer than k have it), the
// others would not be missed: so zeros are made up with k = 1, and settled ones denied to their holder.
func TestLiarMutants(t *testing.T) {
	mirrored, coded := blocktree.Code{Data: 1, Parity: 2}, blocktree.Code{Data: 2, Parity: 1}
	for _, x := range []struct {
		mutant string
		code   blocktree.Code
		lie    int
		zero   bool
		reader bool
	}{{"believeany", mirrored, 2, false, true}, {"believeany", mirrored, 3, false, true}, {"believeclaim", coded, 4, false, true}, {"denyany", coded, 0, true, false}} {
		bad := 0
		for from := range 3 {
			w := calm(x.code)
			w.h.mut, w.rd.mut = parseMutant(x.mutant), parseMutant(x.mutant)
			if lieTo(w, x.lie, x.zero, x.reader, 1, from) != "" {
				bad++
			}
		}
		if bad == 0 {
			t.Errorf("%s is not noticed: %s", x.mutant, lies[x.lie].name)
		}
	}
}

// writeKind writes sectors and waits for the answer.
func writeKind(w *world, first blocktree.SectorIndex, n uint32, zero bool) {
	v := w.h.Begin(0)
	kind := RecordData
	if zero {
		kind = RecordZero
		w.zeros[fmt.Sprint(v, blocktree.RegionIndex(0))] = true
	}
	for i := range n {
		s := first + blocktree.SectorIndex(i)
		w.issued[s] = append(w.issued[s], v)
	}
	w.nextOp++
	w.ops[w.nextOp] = &testOp{first: first, count: n, v: v, holder: w.hid}
	w.with(w.hid, func(h *Holder) { h.Write(w.nextOp, w.codec.write(kind, 0, first, n, v)) })
	w.turns(10, 20*time.Millisecond)
}

// TestLiarSpreadsNothing: a joiner is given no zeros that one of two members makes up, and what the other one has once that stops.
func TestLiarSpreadsNothing(t *testing.T) {
	for mutant, spreads := range map[string]bool{"": false, "copyzeros": true} {
		w := newWorld(blocktree.Code{Data: 2, Parity: 2}, 1, mutant)
		w.drop, w.quiet, w.lease = 0, true, true
		w.heal()
		writeKind(w, 0, 4, false)
		view := w.truth.View(0).Members
		liar, joiner := w.node(view[0].Node), w.node(view[3].Node)
		v := joiner.index[0].version
		w.nodeDown(joiner)
		joiner.crash()
		joiner.log, joiner.synced = nil, 0
		w.turns(10, 100*time.Millisecond)
		joiner.inc++
		w.lieLists = func(a *Message) {
			if a.Node != liar.id {
				return
			}
			if a.Kind == KindDigest {
				for i := range a.Payload {
					a.Payload[i] ^= 1
				}
			} else if a.First == 0 {
				a.Extents = []Extent{{First: 0, Count: 1, Version: higher(v, 0), Kind: Zero}}
			}
		}
		w.restart(joiner)
		w.turns(200, 20*time.Millisecond)
		if got := joiner.index[0]; (got.kind == Zero) != spreads || !spreads && got.version != v {
			t.Errorf("%q: the joiner has kind %d of %v, the others have %v", mutant, got.kind, got.version, v)
		}
	}
}

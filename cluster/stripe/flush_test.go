package stripe

import (
	"maps"
	"testing"
	"time"

	"blocktree"
)

func flushLayout(code blocktree.Code) *Layout {
	l := testLayout(code)
	l.Durability = DurabilityFlush
	for n := range l.Incarnations {
		l.Incarnations[n] = blocktree.Incarnation{byte(n), 8: 1}
	}
	return l
}

// volatileInc is the n-th volatile incarnation of a node on its first disk.
func volatileInc(node blocktree.NodeID, n int) blocktree.Incarnation {
	return blocktree.Incarnation{byte(node), 8: byte(n)}
}

// desk is a holder of a file of durability flush whose members are this test.
type desk struct {
	t     *testing.T
	h     *Holder
	now   time.Duration
	l     *Layout
	sent  []*Message
	metas []MetaRequest
	done  map[uint64]blocktree.Kind
	op    uint64
}

func newDesk(t *testing.T, code blocktree.Code, mutant string) *desk {
	d := openDesk(t, code, mutant)
	d.pump(func(*Message) bool { return true })
	if !d.h.Recovered() {
		t.Fatal("the take-over does not end")
	}
	return d
}

// openDesk is one whose take-over has not begun.
func openDesk(t *testing.T, code blocktree.Code, mutant string) *desk {
	d := &desk{t: t, l: flushLayout(code).Acquire(), done: map[uint64]blocktree.Kind{}}
	d.h = NewHolder(HolderConfig{Layout: d.l, FlushAfter: time.Second, FlushBytes: 4 * testSector, MemberTimeout: 10 * time.Second, Mutant: mutant}, 0)
	for _, n := range d.l.Hosts {
		d.h.NodeUp(n, d.l.Incarnations[n])
	}
	return d
}

// take collects what the holder wants.
func (d *desk) take() {
	r := d.h.Ready()
	d.sent = append(d.sent, r.Messages...)
	d.metas = append(d.metas, r.Metas...)
	for _, x := range r.Done {
		d.done[x.Op] = x.Err
	}
}

// pump answers, well, the messages that match, and what comes of that; the others stay.
func (d *desk) pump(match func(*Message) bool) {
	for {
		d.take()
		sent := d.sent
		d.sent = nil
		answered := false
		for _, m := range sent {
			if m.Kind == KindCommit {
				continue
			}
			if !match(m) {
				d.sent = append(d.sent, m)
				continue
			}
			answered = true
			d.h.Step(&Message{Kind: m.Kind, Answer: true, ID: m.ID, Node: m.Node, File: m.File, Region: m.Region, Epoch: m.Epoch,
				View: m.View, Seq: m.Seq, Version: m.Version, Last: m.Kind == KindFence,
				Held: m.Kind == KindReset || m.Kind == KindDigest && m.Held}) // nothing but the writes here has ever been
		}
		if !answered {
			d.take()
			return
		}
	}
}

// change lets Raft do what the holder wants.
func (d *desk) change() {
	metas := d.metas
	d.metas = nil
	for _, m := range metas {
		if m.Change != nil {
			l, err := d.l.Apply(*m.Change, func(n blocktree.NodeID) blocktree.Incarnation { return volatileInc(n, 1) })
			if err != nil {
				d.t.Fatalf("%+v: %v", *m.Change, err)
			}
			d.l = l
		}
		d.h.MetaDone(m.ID, d.l, blocktree.Other)
	}
	d.take()
}

func (d *desk) tick(by time.Duration) {
	d.now += by
	d.h.Tick(d.now)
}

func (d *desk) write() uint64 {
	d.op++
	code := d.l.Code
	w := &Write{Kind: RecordData, Count: 1, Version: d.h.Begin(0), ShardBytes: uint32(code.ShardBytes(testSector)), Seals: make([]byte, SealBytes)}
	for range code.Shards() {
		w.Shards = append(w.Shards, make([]byte, w.ShardBytes))
	}
	d.h.Write(d.op, w)
	return d.op
}

func (d *desk) flush() uint64 {
	d.op++
	d.h.Flush(d.op)
	return d.op
}

func (d *desk) count(k MessageKind) (n int) {
	for _, m := range d.sent {
		if m.Kind == k {
			n++
		}
	}
	return n
}

func (d *desk) expect(op uint64, ended bool, err blocktree.Kind) {
	d.t.Helper()
	if got, ok := d.done[op]; ok != ended || got != err {
		d.t.Fatalf("operation %d: ended %v with %q, wanted %v, %q", op, ok, got, ended, err)
	}
}

func kind(k MessageKind) func(*Message) bool { return func(m *Message) bool { return m.Kind == k } }

// TestFlushWaitsForSync: a write is acknowledged by answers alone, a FLUSH waits for a SYNC of every member that was sent after it had
// answered; the watermark moves no earlier.
func TestFlushWaitsForSync(t *testing.T) {
	d := newDesk(t, blocktree.Code{Data: 2, Parity: 1}, "")
	if op := d.flush(); true {
		d.take()
		d.expect(op, true, blocktree.Other) // nothing is volatile
	}
	w := d.write()
	d.pump(kind(KindPrepare))
	d.expect(w, true, blocktree.Other)
	if d.h.region(0).mark != 0 || d.count(KindSync) != 0 {
		t.Fatalf("watermark %d, %d SYNCs, before anybody asked", d.h.region(0).mark, d.count(KindSync))
	}
	f := d.flush()
	d.take()
	if d.count(KindSync) != 3 {
		t.Fatalf("%d SYNCs", d.count(KindSync))
	}
	late := d.write()
	d.pump(kind(KindPrepare)) // answered after the SYNC was sent: it says nothing of this one
	d.expect(late, true, blocktree.Other)
	one := d.l.Hosts[2]
	d.pump(func(m *Message) bool { return m.Kind == KindSync && m.Node != one })
	d.expect(f, false, blocktree.Other)
	d.pump(kind(KindSync))
	d.expect(f, true, blocktree.Other)
	if d.h.region(0).mark != 1 {
		t.Fatalf("watermark %d after a SYNC that was sent between two writes", d.h.region(0).mark)
	}
	d.tick(2 * time.Second) // unasked for
	d.pump(kind(KindSync))
	if d.h.region(0).mark != 2 {
		t.Fatalf("watermark %d after the second", d.h.region(0).mark)
	}
}

// TestWritesWaitForRoom: twice the bytes of a SYNC are in flight or volatile, and the write next above the watermark is never kept.
func TestWritesWaitForRoom(t *testing.T) {
	d := newDesk(t, blocktree.Code{Data: 2, Parity: 1}, "")
	gap := d.h.Begin(0)
	for range 12 {
		d.write()
	}
	d.pump(kind(KindPrepare))
	if got := len(d.done); got != 8 || d.h.Stats().Parked != 4 {
		t.Fatalf("%d writes ended, %d wait", got, d.h.Stats().Parked)
	}
	d.tick(2 * time.Second)
	d.pump(kind(KindSync))
	d.pump(kind(KindPrepare))
	if len(d.done) != 8 { // the watermark stands below the version that nobody has written
		t.Fatalf("%d writes ended over a gap", len(d.done))
	}
	d.h.Cancel(0, gap)
	d.pump(func(m *Message) bool { return m.Kind == KindSync || m.Kind == KindPrepare })
	d.tick(2 * time.Second)
	d.pump(func(m *Message) bool { return m.Kind == KindSync || m.Kind == KindPrepare })
	if len(d.done) != 12 || d.h.vol.writes != 0 || d.h.vol.bytes != 0 || d.h.vol.acked != 0 {
		t.Fatalf("%d writes ended; %+v", len(d.done), d.h.vol)
	}
}

// TestLossyEndsTheHolder: a holder whose file has turned lossy says so to every operation, until the file is opened anew.
func TestLossyEndsTheHolder(t *testing.T) {
	for _, mutant := range []string{"", "holdon"} {
		d := newDesk(t, blocktree.Code{Data: 2, Parity: 1}, mutant)
		w := d.write()
		d.pump(kind(KindPrepare))
		f := d.flush()
		l := d.l.MarkBack(1, volatileInc(1, 2)).MarkBack(2, volatileInc(2, 2))
		d.h.NodeUp(1, volatileInc(1, 2))
		d.take()
		d.h.MetaDone(d.metas[len(d.metas)-1].ID, l, blocktree.Other)
		d.take()
		if mutant != "" {
			if d.h.Lost() {
				t.Fatal("the mutant ends as well")
			}
			continue
		}
		d.expect(w, true, blocktree.Other)
		d.expect(f, true, blocktree.Lost)
		d.h.Renewed(time.Hour)
		for _, op := range []uint64{d.write(), d.flush()} {
			d.take()
			d.expect(op, true, blocktree.Lost)
		}
		d.h.Read(99, 0, 0, 1)
		d.take()
		d.expect(99, true, blocktree.Lost)
	}
}

// TestLostIsAskedFor: a holder that knows of a member that lost its memory, and cannot remove it, hears of the mark that makes its file lossy.
func TestLostIsAskedFor(t *testing.T) {
	d := newDesk(t, blocktree.Code{Data: 1, Parity: 1}, "")
	l := d.l.MarkBack(1, volatileInc(1, 2))
	d.h.NodeUp(1, volatileInc(1, 2))
	d.h.NodeUp(2, volatileInc(2, 2))
	d.take()
	for i := 0; i < 20 && !d.h.Lost(); i++ {
		if i == 5 {
			l = l.MarkBack(2, volatileInc(2, 2)) // only now
		}
		metas := d.metas
		d.metas = nil
		for _, m := range metas {
			d.h.MetaDone(m.ID, l, map[bool]blocktree.Kind{true: blocktree.StaleView}[m.Change != nil])
		}
		d.tick(5 * time.Second)
		d.take()
	}
	if !d.h.Lost() {
		t.Error("the holder does not hear of the loss")
	}
}

// TestMarkedStayWhereTooFewAnswer: members that lost what was not synced have all that was flushed. They stay until those that would
// remain are known to live.
func TestMarkedStayWhereTooFewAnswer(t *testing.T) {
	for _, mutant := range []string{"", "removeblind"} {
		d := newDesk(t, blocktree.Code{Data: 1, Parity: 2}, mutant)
		d.h.NodeDown(3)
		d.take()
		for _, m := range d.metas { // 3 may not leave: by the time this comes to Raft, the others are marked
			d.h.MetaDone(m.ID, nil, blocktree.Unavailable)
		}
		d.metas = nil
		l := d.l.MarkBack(1, volatileInc(1, 2)).MarkBack(2, volatileInc(2, 2))
		d.h.NodeUp(1, volatileInc(1, 2))
		d.h.NodeUp(2, volatileInc(2, 2))
		asked := false
		for range 3 {
			d.tick(100 * time.Millisecond)
			d.take()
			for _, m := range d.metas {
				if asked = asked || m.Change != nil && m.Change.Kind == ChangeRemove; m.Change == nil {
					d.h.MetaDone(m.ID, l, blocktree.Other)
				}
			}
			d.metas = nil
		}
		if asked != (mutant != "") {
			t.Fatalf("mutant %q: removal asked for: %v", mutant, asked)
		}
	}
}

// TestJoinerSyncsWhatWasFlushed: a flush that ended before a member joined did not wait for it. What it made durable and is above the
// watermark comes to the joiner as any write does, and has to be durable there before it counts.
func TestJoinerSyncsWhatWasFlushed(t *testing.T) {
	for _, mutant := range []string{"", "promotevolatile"} {
		d := newDesk(t, blocktree.Code{Data: 1, Parity: 2}, mutant)
		d.h.codec = testCodec{d.l.Code}
		d.h.Begin(0) // nobody writes it: the watermark stays
		all := func(*Message) bool { return true }
		d.h.NodeDown(3)
		d.pump(all)
		d.change()
		d.pump(all)
		w := d.write()
		d.pump(kind(KindPrepare))
		d.expect(w, true, blocktree.Other)
		f := d.flush()
		d.pump(kind(KindSync))
		d.expect(f, true, blocktree.Other)
		d.h.NodeUp(3, d.l.Incarnations[3])
		for range 20 {
			d.tick(100 * time.Millisecond)
			d.pump(func(m *Message) bool { return m.Kind != KindSync })
			d.change()
			if d.l.View(0).Count(InSync) == 3 {
				break
			}
		}
		if early := d.l.View(0).Count(InSync) == 3; early != (mutant != "") {
			t.Fatalf("mutant %q: promoted before the joiner has synced: %v; view %v", mutant, early, d.l.View(0))
		}
		d.pump(all)
		d.change()
		if d.l.View(0).Count(InSync) != 3 {
			t.Errorf("mutant %q: not promoted: %v", mutant, d.l.View(0))
		}
	}
}

// TestMemberOfFlush: a PREPARE is answered once its record is written, a SYNC once all is durable; in a file of durability ack a PREPARE waits for that, too. A
// watermark waits in neither, nor does the note that the node was in sync, with the first message after that.
func TestMemberOfFlush(t *testing.T) {
	for _, flush := range []bool{true, false} {
		l := flushLayout(blocktree.Code{Data: 1})
		if !flush {
			l.Durability = DurabilityAck
		}
		l = l.Acquire()
		m := NewMember(1, l.Incarnations[1])
		m.Learn(l)
		records := uint64(0)
		step := func(k MessageKind, rec *Record) (answered bool, sync bool) {
			msg := &Message{Kind: k, ID: records + 1, Node: 1, File: l.File, Epoch: l.Epoch, Seq: l.Seq, View: l.View(0).ID,
				Incarnation: l.Incarnations[1], Last: true, Record: rec}
			m.Step(msg)
			r := m.Ready()
			records += uint64(len(r.Records))
			refs := make([]Ref, len(r.Records))
			for i := range refs {
				refs[i][0] = byte(records)
			}
			m.Located(refs, nil)
			return len(r.Answers) > 0, r.SyncTo == records
		}
		answers := func() int { return len(m.Ready().Answers) }
		step(KindFence, nil)
		step(KindRepair, nil)
		m.Written(records)
		if n := answers(); n != 0 {
			t.Fatalf("flush %v: %d answers to promises that are only written", flush, n)
		}
		m.Durable(records)
		if n := answers(); n != 2 {
			t.Fatalf("flush %v: %d answers to durable promises", flush, n)
		}
		rec := &Record{Kind: RecordData, File: l.File, Count: 1, Version: blocktree.Version{Epoch: 1, Sequence: 1}, ShardBytes: testSector,
			Payload: make([]byte, testSector), Seals: make([]byte, SealBytes)}
		if answered, sync := step(KindPrepare, rec); answered || sync == flush {
			t.Fatalf("flush %v: answered %v before it is written, sync wanted %v", flush, answered, sync)
		}
		m.Written(records)
		if n := answers(); n != map[bool]int{true: 1}[flush] {
			t.Fatalf("flush %v: %d answers to a written record", flush, n)
		}
		if answered, sync := step(KindSync, nil); answered || !sync {
			t.Fatalf("flush %v: SYNC answered %v, sync wanted %v", flush, answered, sync)
		}
		m.Durable(records)
		if n := answers(); n != 2-map[bool]int{true: 1}[flush] {
			t.Fatalf("flush %v: %d answers once all is durable", flush, n)
		}
		m.Step(&Message{Kind: KindCommit, ID: records + 1, Node: 1, File: l.File, Epoch: l.Epoch, View: l.View(0).ID, Incarnation: l.Incarnations[1], Watermark: rec.Version})
		if r := m.Ready(); len(r.Records) != 1 || r.SyncTo > records {
			t.Errorf("flush %v: of a watermark %d records, and record %d of %d wanted durable", flush, len(r.Records), r.SyncTo, records+1)
		}
		m.Located([]Ref{{1}}, nil)
		records++
		m.Step(&Message{Kind: KindRead, ID: records + 1, Node: 1, File: l.File, Epoch: l.Epoch, View: l.View(0).ID, Incarnation: l.Incarnations[1], Count: 1, Want: WantShards})
		if r := m.Ready(); len(r.Records) != 1 || len(r.Reads) != 1 || r.SyncTo > records {
			t.Errorf("flush %v: of a read %d records, %d reads, and record %d of %d wanted durable", flush, len(r.Records), len(r.Reads), r.SyncTo, records+1)
		} else if r.SoonTo != records+1 {
			t.Errorf("flush %v: the note is record %d, and %d wanted durable soon", flush, records+1, r.SoonTo)
		}
	}
}

// TestUnwrittenIsNotHeld: what is not written yet is not told of to readers.
func TestUnwrittenIsNotHeld(t *testing.T) {
	r := &memberRegion{pending: []*Held{{Count: 1, Version: blocktree.Version{Epoch: 1, Sequence: 1}, no: 7}}}
	f := &memberFile{layout: flushLayout(blocktree.Code{Data: 1})}
	m := NewMember(1, blocktree.Incarnation{1})
	m.handed, m.written = 8, 6
	q := &Message{Kind: KindRead, Want: WantVersions, Count: 1}
	if got := r.overlapping(q, m.stored(f), false); len(got) != 0 {
		t.Error("an unwritten record is told of")
	}
	m.written = 7
	if got := r.overlapping(q, m.stored(f), false); len(got) != 1 {
		t.Error("a written record is not told of")
	}
	f.layout.Durability = DurabilityAck
	if got := r.overlapping(q, m.stored(f), false); len(got) != 0 {
		t.Error("in a file of durability ack a written record is told of")
	}
}

// TestRoomIsKept: writes that came before the take-over was complete wait for room as later ones do, and those that wait are not
// sent because a member joins.
func TestRoomIsKept(t *testing.T) {
	sent := func(d *desk) int {
		seen := map[blocktree.Version]bool{}
		for _, m := range d.sent {
			if m.Kind == KindPrepare {
				seen[m.Version] = true
			}
		}
		return len(seen)
	}
	d := openDesk(t, blocktree.Code{Data: 2, Parity: 1}, "")
	for range 12 {
		d.write()
	}
	d.pump(func(m *Message) bool { return m.Kind != KindPrepare })
	if n := sent(d); n != 8 {
		t.Errorf("%d of 12 writes are sent when the take-over is complete, room is for 8", n)
	}

	d = newDesk(t, blocktree.Code{Data: 1, Parity: 2}, "")
	d.h.codec = testCodec{d.l.Code}
	all := func(*Message) bool { return true }
	d.h.NodeDown(3)
	d.pump(all)
	d.change()
	d.pump(all)
	d.h.Begin(0) // nobody writes it: the watermark stays
	for range 12 {
		d.write()
	}
	d.pump(kind(KindPrepare))
	d.h.NodeUp(3, d.l.Incarnations[3])
	for range 20 {
		d.tick(100 * time.Millisecond)
		d.pump(func(m *Message) bool { return m.Kind != KindPrepare })
		d.change()
	}
	if n := sent(d); n != 8 || d.l.View(0).Count(Joining) != 1 {
		t.Errorf("%d writes are sent to a joiner, room is for 8; view %v", n, d.l.View(0))
	}
}

// TestMendIsStable: a shard is mended with a version that is stable only: in the index it would replace the one that is.
func TestMendIsStable(t *testing.T) {
	for _, mutant := range []string{"", "mendvolatile"} {
		d := newDesk(t, blocktree.Code{Data: 1, Parity: 1}, mutant)
		c := testCodec{d.l.Code}
		d.h.codec = c
		d.write()
		d.pump(kind(KindPrepare))
		v := blocktree.Version{Epoch: d.l.Epoch, Sequence: 1}
		m := &mend{h: d.h, op: 50, shard: 1, version: v, waited: true}
		r := &read{c: &d.h.core, host: d.h, region: 0, skip: 1, mend: m}
		m.found(r, blocktree.Other, &ReadResult{Pieces: []Piece{{Count: 1, Version: v, Kind: Data,
			Shards: []ShardRun{{Shard: 0, Payload: c.shard(0, v, 0), Seals: c.seal(0, v)}}}}})
		d.take()
		if n := d.count(KindInstall); n != map[bool]int{true: 1}[mutant != ""] {
			t.Errorf("mutant %q: %d installs of what is volatile", mutant, n)
		}
	}
}

// TestSilentOneIsNotWhatItWas: what a member said before its connection ended is old. That the views expect something else of it, as after a loss,
// is no sign that it has lost anything: it is asked first.
func TestSilentOneIsNotWhatItWas(t *testing.T) {
	for _, silent := range []bool{true, false} {
		d := newDesk(t, blocktree.Code{Data: 1, Parity: 2}, "")
		if silent {
			d.h.NodeSilent(3)
		}
		l := *d.l
		l.Seq, l.Incarnations = l.Seq+1, maps.Clone(l.Incarnations)
		l.Incarnations[3] = volatileInc(3, 2)
		removed := false
		for range 5 {
			d.h.wantConfirm()
			d.take()
			metas := d.metas
			d.metas = nil
			for _, m := range metas {
				if removed = removed || m.Change != nil && m.Change.Kind == ChangeRemove; m.Change == nil {
					d.h.MetaDone(m.ID, &l, blocktree.Other)
				}
			}
			d.tick(100 * time.Millisecond)
		}
		d.take()
		if d.h.Layout().Seq != l.Seq {
			t.Fatal("it knows nothing of it")
		}
		if removed == silent {
			t.Errorf("silent %v: removal asked for: %v", silent, removed)
		}
	}
}

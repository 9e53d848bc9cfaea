package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"blocktree"
	"blocktree/cluster/store"
	"blocktree/cluster/stripe"
	"blocktree/internal/bttp"
	"blocktree/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const memberNode = blocktree.NodeID(1)

var (
	memberInc  = blocktree.Incarnation{1}
	memberFile = blocktree.FileID{Generation: 1, Inode: 3}
)

// memberBed is a member of a file of one replica, without a network: messages go to its machine, answers are lost.
type memberBed struct {
	t      *testing.T
	disk   *vfs.Crash
	member *member
	layout *stripe.Layout
	sent   uint64
	epoch  blocktree.Epoch // that of what is sent
}

func newMemberBed(t *testing.T) *memberBed {
	b := &memberBed{t: t, disk: vfs.NewCrash(), epoch: 1}
	b.layout = &stripe.Layout{File: memberFile, Code: blocktree.Code{Data: 1}, SectorBytes: 4096, RegionSectors: 1 << 18, Sectors: 1 << 18,
		Hosts: []blocktree.NodeID{memberNode}, Epoch: 1, Seq: 1, Incarnations: map[blocktree.NodeID]blocktree.Incarnation{memberNode: memberInc}}
	b.open(b.layout)
	t.Cleanup(func() { _ = b.member.close() })
	return b
}

func (b *memberBed) open(layouts ...*stripe.Layout) {
	b.t.Helper()
	m, err := openMember(b.disk, "/sectors", memberNode, slog.New(slog.DiscardHandler), 0)
	if err != nil {
		b.t.Fatal(err)
	}
	b.member = m
	var there []blocktree.FileID
	for _, l := range layouts {
		there = append(there, l.File)
	}
	gone, err := missing(m.files(), eachOf(there...))
	if err != nil {
		b.t.Fatal(err)
	}
	m.start(incarnations{memberInc, memberInc}, gone)
	m.learn(layouts, nil)
}

func (b *memberBed) restart(layouts ...*stripe.Layout) {
	b.t.Helper()
	if err := b.member.close(); err != nil {
		b.t.Fatal(err)
	}
	b.open(layouts...)
}

func (b *memberBed) step(m *stripe.Message) {
	b.t.Helper()
	b.sent++
	m.ID, m.File, m.Epoch, m.Incarnation, m.View, m.Seq = b.sent, memberFile, b.epoch, memberInc, 0, 1
	b.member.mu.Lock()
	b.member.machine.Step(m)
	fx := b.member.turn()
	b.member.mu.Unlock()
	b.member.run(fx)
}

// takeOver fences and repairs, after which the file can be written.
func (b *memberBed) takeOver() {
	b.step(&stripe.Message{Kind: stripe.KindFence})
	b.step(&stripe.Message{Kind: stripe.KindRepair, Last: true})
}

func (b *memberBed) record(sequence uint64, first blocktree.SectorIndex, count uint32, installed bool) *stripe.Record {
	return &stripe.Record{Kind: stripe.RecordData, File: memberFile, First: first, Count: count, Installed: installed,
		Version:    blocktree.Version{Epoch: b.epoch, Sequence: blocktree.Sequence(sequence)},
		ShardBytes: 4096, Payload: bytes.Repeat([]byte{byte(sequence)}, int(count)*4096),
		Seals: bytes.Repeat([]byte{byte(sequence)}, int(count)*stripe.SealBytes)}
}

func (b *memberBed) install(sequence uint64, first blocktree.SectorIndex, count uint32) {
	b.step(&stripe.Message{Kind: stripe.KindInstall, Record: b.record(sequence, first, count, true)})
}

// settle waits until everything that was appended is durable.
func (b *memberBed) settle() {
	b.t.Helper()
	for {
		b.member.mu.Lock()
		n := b.member.appends
		b.member.mu.Unlock()
		if n == 0 {
			return
		}
	}
}

func (b *memberBed) content(first blocktree.SectorIndex) store.Content {
	b.t.Helper()
	xs, err := b.member.store.Lookup(memberFile, first, 1, nil)
	if err != nil || len(xs) != 1 {
		b.t.Fatalf("sector %d: %v, %v", first, xs, err)
	}
	return xs[0].Content
}

func (b *memberBed) healthy() {
	b.t.Helper()
	select {
	case err := <-b.member.fatal:
		b.t.Fatal(err)
	default:
	}
}

// TestMemberInstallWithoutSpace: a record that is committed at once and finds no space is refused; it is not indexed, and
// the node lives on.
func TestMemberInstallWithoutSpace(t *testing.T) {
	b := newMemberBed(t)
	b.takeOver()
	b.settle()
	b.install(1, 1, 256) // data is taken only once the reserve is made
	b.disk.SetCapacity(1)
	var refused blocktree.SectorIndex
	for i := blocktree.SectorIndex(1); i < 400 && refused == 0; i++ { // until what was allocated ahead is full
		b.install(uint64(i)+1, i*256+1, 256)
		b.healthy()
		if b.content(i*256+1) == store.Absent {
			refused = i*256 + 1
		}
	}
	if refused == 0 {
		t.Fatal("the disk never got full")
	}
	b.settle()
	b.healthy()
	b.disk.SetCapacity(0)
	b.install(1000, 200_000, 1) // without a restart
	if b.content(200_000) != store.Data {
		t.Error("there is space again, and the node takes no data")
	}
	b.settle()
	b.restart(b.layout)
	if b.content(refused) != store.Absent || b.content(1) != store.Data {
		t.Error("the restart found something else")
	}
}

// TestMemberWaitsForRoomBounded: data that waits for the store to make room is tried before the member is voted out for it. Time
// is the bubble's: how busy the machine is says nothing about the bound.
func TestMemberWaitsForRoomBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemberBed(t)
		b.takeOver()
		m := b.member
		m.mu.Lock()
		m.makingRoom = func() bool { return true } // for ever
		req := &bttp.Request{Body: make([]byte, 4096)}
		m.wait(req, &stripe.Message{Kind: stripe.KindInstall, File: memberFile, Record: b.record(1, 100, 1, true)})
		req.OneWay = true // nobody is there to be answered
		m.mu.Unlock()
		begun := time.Now()
		for waiting := 1; waiting > 0; time.Sleep(10 * time.Millisecond) {
			m.mu.Lock()
			waiting = len(m.backlog)
			m.mu.Unlock()
			if time.Since(begun) > blocktree.MemberTimeout/2 {
				t.Fatal("it still waits")
			}
		}
		if took := time.Since(begun); took < roomWaitMax/2 {
			t.Errorf("it waited %v only", took)
		}
	})
}

// TestMemberForgetsRemoved: a file that was removed while the node was away is forgotten at the start, index and all; one
// that is there is not.
func TestMemberForgetsRemoved(t *testing.T) {
	b := newMemberBed(t)
	b.takeOver()
	b.install(1, 100, 4)
	b.settle()
	b.restart(b.layout)
	if b.content(100) != store.Data {
		t.Fatal("a restart lost a sector")
	}
	b.restart()
	if b.content(100) != store.Absent || len(b.member.files()) != 0 {
		t.Errorf("kept a removed file: %v", b.member.files())
	}
}

// TestMemberBrokenDown: a log that failed late leaves no checkpoint behind, and nothing more is told to the machine.
func TestMemberBrokenDown(t *testing.T) {
	b := newMemberBed(t)
	b.takeOver()
	b.settle()
	checkpoints := b.member.store.Stats().Checkpoints
	b.member.mu.Lock()
	b.member.appends++
	done := b.member.told(news{calls: 1, durable: b.member.handed})
	b.member.mu.Unlock()
	done(blocktree.E("test", blocktree.NoSpace, nil))
	if err := <-b.member.fatal; blocktree.KindOf(err) != blocktree.NoSpace {
		t.Fatalf("fatal is %v", err)
	}
	b.install(1, 100, 4)
	if b.content(100) != store.Absent {
		t.Error("a member that broke down went on")
	}
	if err := b.member.close(); err != nil {
		t.Fatal(err)
	}
	if n := b.member.store.Stats().Checkpoints; n != checkpoints {
		t.Error("a member that broke down made a checkpoint")
	}
	b.open(b.layout)
	if b.member.store.Recovery().Clean {
		t.Error("and called it clean")
	}
}

// TestMemberLists: a list goes through a region in bounded steps, joins what a step has cut, and misses nothing.
func TestMemberLists(t *testing.T) {
	b := newMemberBed(t)
	b.takeOver()
	want := map[blocktree.SectorIndex]uint32{}
	for i, first := range []blocktree.SectorIndex{0, listStepSectors - 2, listSectorsMax - 1, 3 * listSectorsMax, 1<<18 - 5} {
		b.install(uint64(i)+1, first, 4)
		want[first] = 4
	}
	for i := range blocktree.SectorIndex(stripe.ExtentsMax + 10) {
		b.install(uint64(100+i), 5*listSectorsMax+2*i, 1)
		want[5*listSectorsMax+2*i] = 1
	}
	b.settle()
	b.healthy()
	got := map[blocktree.SectorIndex]uint32{}
	for next, rounds := blocktree.SectorIndex(0), 0; next < 1<<18; rounds++ {
		r := readTask{ReadTask: stripe.ReadTask{Request: &stripe.Message{Kind: stripe.KindList, File: memberFile, First: next, Count: uint64(1<<18 - next)}}}
		b.member.mu.Lock()
		r.list(b.member)
		b.member.mu.Unlock()
		if r.err != nil || r.next <= next || len(r.committed) > stripe.ExtentsMax || rounds > 100 {
			t.Fatalf("from %d to %d: %v", next, r.next, r.err)
		}
		next = r.next
		for _, x := range r.committed {
			if n, ok := got[x.First-1]; ok && n == 1 && want[x.First] == 0 { // cut where one list ended
				got[x.First-1] += x.Count
				continue
			}
			got[x.First] = x.Count
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("listed %d runs of %d", len(got), len(want))
	}
}

// TestMemberCommitIsNobodysRequest: the id that a Commit came with is its sender's choice; it neither ends another's request
// nor stays in the machine.
func TestMemberCommitIsNobodysRequest(t *testing.T) {
	b := newMemberBed(t)
	b.takeOver()
	b.settle()
	other := &bttp.Request{OneWay: true, Body: []byte("what another asker sent")}
	b.member.mu.Lock()
	b.member.lastID++
	id := b.member.lastID
	b.member.requests[id] = asked{req: other, id: 1}
	b.member.mu.Unlock()
	for _, view := range []blocktree.ViewID{0, 1, 100} { // its own, none of the region's, none that Raft has
		commit := &stripe.Message{Kind: stripe.KindCommit, ID: id, File: memberFile, Epoch: 1, View: view, Incarnation: memberInc}
		b.member.mu.Lock()
		b.member.step(&bttp.Request{OneWay: true}, commit)
		fx := b.member.turn()
		for range 2 {
			b.member.loading = nil // Raft has nothing newer
			b.member.machine.CaughtUp(memberFile)
			fx.add(b.member.turn())
		}
		b.member.mu.Unlock()
		b.member.run(fx)
		if commit.ID != 0 {
			t.Errorf("view %d: the machine has id %d of the sender's", view, commit.ID)
		}
	}
	b.member.mu.Lock()
	defer b.member.mu.Unlock()
	if _, there := b.member.requests[id]; !there || other.Body == nil {
		t.Error("a Commit ended another's request")
	}
	delete(b.member.requests, id)
}

// eachOf tells files as the group does.
func eachOf(files ...blocktree.FileID) func(func(blocktree.FileID) bool) error {
	return func(f func(blocktree.FileID) bool) error {
		for _, x := range files {
			if !f(x) {
				break
			}
		}
		return nil
	}
}

func TestMissing(t *testing.T) {
	file := func(generation, inode int) blocktree.FileID {
		return blocktree.FileID{Generation: blocktree.Generation(generation), Inode: blocktree.Inode(inode)}
	}
	known := []blocktree.FileID{file(1, 2), file(1, 3), file(1, 5), file(1, 9), file(2, 3), file(2, 4)}
	for want, there := range map[string][]blocktree.FileID{
		"[1.2 2.3 2.4 1.9]":         {file(1, 3), file(1, 4), file(1, 5), file(1, 7)},
		"[1.3 2.3 2.4 1.5]":         {file(1, 1), file(1, 2), file(1, 9), file(1, 10)},
		"[1.2 1.3 2.3 2.4 1.5 1.9]": nil,
	} {
		if got, err := missing(slices.Clone(known), eachOf(there...)); err != nil || fmt.Sprint(got) != want {
			t.Errorf("of %v, where there are %v, %v are missing (%v), not %s", known, there, got, err, want)
		}
	}
}

// flipHeaderOf flips a bit in the header of the data record whose payload is all of b.
func flipHeaderOf(t *testing.T, disk *vfs.Crash, b byte) {
	t.Helper()
	const header, step = 160, 512
	names, err := disk.List("/sectors")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "segment-") {
			continue
		}
		f, err := disk.Open("/sectors/" + name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		size, err := f.Size()
		buf := make([]byte, min(size, 1<<20))
		if _, e := f.ReadAt(buf, 0); err != nil || e != nil && e != io.EOF {
			t.Fatal(err, e)
		}
		for off := 0; off+2*step <= len(buf); off += step {
			if bytes.HasPrefix(buf[off+header:], bytes.Repeat([]byte{b}, step)) {
				if _, err := f.WriteAt([]byte{buf[off+30] ^ 1}, int64(off+30)); err != nil {
					t.Fatal(err)
				}
				if err := f.Sync(); err != nil {
					t.Fatal(err)
				}
				return
			}
		}
	}
	t.Fatal("there is no such record")
}

// TestDamageOutlivesAStartThatFails: what a start finds damaged is found again by the next one, as long as Raft has not been
// told: a start may end before, for want of a port or of a majority.
func TestDamageOutlivesAStartThatFails(t *testing.T) {
	b := newMemberBed(t)
	b.takeOver()
	for i := range uint64(4) {
		b.install(i+1, 100, 1)
		b.settle()
	}
	disk := b.disk.Kill()
	flipHeaderOf(t, disk, 2)
	for start := range 3 {
		m, err := openMember(disk, "/sectors", memberNode, slog.New(slog.DiscardHandler), 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(m.store.Damaged()) == 0 {
			t.Errorf("start %d: the damage is forgotten", start)
		}
		if err := m.close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRemovedWhileRead: a file that is forgotten while its layout is being read does not come back.
func TestRemovedWhileRead(t *testing.T) {
	b := newMemberBed(t)
	m := b.member
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, removed := range []bool{false, true} {
		m.reads(memberFile)
		if removed {
			m.forget(memberFile)
			m.reads(memberFile) // another one, which began after it: who asks of a file that is forgotten has it read again
		}
		if gone := m.wasRead(memberFile); gone != removed {
			t.Errorf("removed %v: gone %v", removed, gone)
		}
	}
	m.wasRead(memberFile)
	if m.forget(memberFile); len(m.reading) > 0 {
		t.Error("what nobody reads is noted")
	}
}

// TestReadsAgainWhileCrowded: who has to read the group's state to go on does not give up where too many others read.
func TestReadsAgainWhileCrowded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, want := range []blocktree.Kind{blocktree.Other, blocktree.Closed} {
			tries := 0
			err := whileCrowded(t.Context(), func() error {
				if tries++; tries < 3 {
					return blocktree.E("read", blocktree.Unavailable, nil)
				}
				if want == blocktree.Other {
					return nil
				}
				return blocktree.E("read", want, nil)
			})
			if tries != 3 || blocktree.KindOf(err) != want || (err == nil) != (want == blocktree.Other) {
				t.Errorf("%v after %d tries", err, tries)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := whileCrowded(ctx, func() error { return blocktree.E("read", blocktree.Unavailable, nil) }); err == nil {
			t.Error("nothing was read")
		}
	})
}

package meta

import (
	"testing"
	"time"

	"blocktree"

	"github.com/cockroachdb/pebble/v2"
)

// drawnAt is a command whose id was drawn at t on its client's clock.
func drawnAt(t time.Duration, o Op) Command {
	id := NewCommandID()
	copy(id[:], u64(uint64(t)))
	return Command{ID: id, Op: o}
}

// forget makes the machine forget every command that was done.
func (m *machine) forget() {
	m.t.Helper()
	for range DedupMax {
		m.must(SetAttr{File: fileID(0), Mask: AttrMode, Mode: 0o755})
	}
}

// An Acquire that waited in a node that stood still, while its client went on with another one, neither fences that one nor takes
// a lease that nobody knows of.
func TestDelayedAcquire(t *testing.T) {
	const start = time.Hour
	m := founded(t, 1)
	m.must(file("/f"))
	m.command(drawnAt(start, open(1)))
	m.must(open(2))
	m.must(Acquire{session(2), fileID(1)})
	old := drawnAt(start+1, Acquire{session(1), fileID(1)})
	if r := m.command(old); r.Kind != blocktree.Busy {
		t.Fatal(r.Kind)
	}
	m.must(Release{session(2), fileID(1), 1})
	wanted := drawnAt(start+2, Acquire{session(1), fileID(1)})
	if r := m.command(wanted); r.Kind != 0 || r.Lease.Epoch != 2 {
		t.Fatalf("%+v", r)
	}
	if r := m.command(old); r.Kind != blocktree.Busy || m.view().layout(fileID(1)).Epoch != 2 {
		t.Fatalf("a delayed command fenced the holder: %+v", r)
	}
	m.forget()
	if r := m.command(wanted); r.Kind != 0 || r.Lease.Epoch != 2 || r.Layout.Epoch != 2 {
		t.Fatalf("a repeated command fenced the holder: %+v", r)
	}
	m.must(Release{session(1), fileID(1), 2})
	m.forget()
	m.command(drawnAt(start+3+AcquireStaleAfter, RenewSession{session(1)}))
	for _, c := range []Command{old, wanted} {
		if r := m.command(c); r.Kind != blocktree.Busy || m.view().lease(fileID(1)) != nil {
			t.Fatalf("a delayed command took a lease: %+v", r)
		}
	}
	if r := m.command(drawnAt(start+3+AcquireStaleAfter, Acquire{session(1), fileID(1)})); r.Kind != 0 {
		t.Fatalf("%+v", r)
	}
	m.must(CloseSession{session(1)})
	if m.view().renewed(session(1)) != 0 {
		t.Fatal("a closed session left something behind")
	}
}

// unremember undoes that the newest command was remembered.
func (m *machine) unremember() {
	m.t.Helper()
	b := m.db.NewIndexedBatch()
	s := openState(b, b, spaceA)
	s.counts.nextDone--
	id, _ := s.get(kindDoneSeq, u64(s.counts.nextDone))
	s.del(kindDone, id)
	s.del(kindDoneSeq, u64(s.counts.nextDone))
	s.saveCounters()
	if err := b.Commit(pebble.NoSync); err != nil || s.err != nil {
		m.t.Fatal(err, s.err)
	}
}

// A Remove that was refused stays refused, and one that names the file spares another file of its name.
func TestDelayedRemove(t *testing.T) {
	m := founded(t, 1)
	m.must(file("/f"))
	m.must(open(1))
	m.must(Acquire{session(1), fileID(1)})
	refused := Command{ID: NewCommandID(), Op: Remove{Path: path("/f")}}
	if r := m.command(refused); r.Kind != blocktree.Busy || r.Lease == nil {
		t.Fatalf("%+v", r)
	}
	m.must(Release{session(1), fileID(1), 1})
	if r := m.command(refused); r.Kind != blocktree.Busy || r.Lease == nil || m.view().inode(fileID(1)) == nil {
		t.Fatalf("removed after it was refused: %+v", r)
	}
	old := Command{ID: NewCommandID(), Op: Remove{Path: path("/f"), File: fileID(1)}}
	if r := m.command(old); r.Kind != 0 {
		t.Fatal(r.Kind)
	}
	m.must(file("/f"))
	m.forget()
	if r := m.command(old); r.Kind != blocktree.NotFound || m.view().inode(fileID(2)) == nil {
		t.Fatalf("removed another file: %+v", r)
	}
}

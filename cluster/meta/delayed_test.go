package meta

import (
	"testing"
	"time"

	"blocktree"
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

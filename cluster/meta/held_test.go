package meta

import (
	"testing"

	"blocktree"
	"blocktree/cluster/stripe"
)

// TestCreateHeld: H1 of 0067. Who makes a file holds it from the first, under the first epoch, if it may and its session can; else the file is made, and nobody's. A copy that comes when the session is gone, or long after, makes none.
func TestCreateHeld(t *testing.T) {
	m := granted(t, 0o755, 0o600)
	owner, stranger := somebody(7, 70), somebody(10, 10)
	m.mustAs(owner, OpenSession{Session: session(7), Principal: owner.Principal, Path: owner.Path})
	m.mustAs(somebody(0, 0), SetAttr{File: fileID(2), Mask: AttrOwner, UID: 7, GID: 70})
	held := func(name string, mode uint32, s SessionID) CreateHeld {
		c := file(name)
		c.Mode = mode
		return CreateHeld{CreateFile: c, Durability: stripe.DurabilityFlush, Session: s, Bytes: 5}
	}
	id := NewCommandID()
	var first Result
	for range 2 { // asked twice it is done once
		r := m.command(Command{ID: id, Op: held("/d/e/new", 0o600, session(7)), Caller: owner, Time: 3})
		if first = r; r.Kind != blocktree.Other || r.Lease == nil || r.Lease.Epoch != 1 || r.Layout.Epoch != 1 || r.Layout.Durability != stripe.DurabilityFlush || r.Inode.Length() != 5 || r.Inode.UID != 7 {
			t.Fatalf("%+v", r)
		}
	}
	if x := m.view().session(session(7)); x.Leases != 1 || m.view().lease(first.Inode.ID) == nil {
		t.Errorf("%d leases", x.Leases)
	}
	if r := m.as(owner, 4, held("/d/e/b", 0o400, session(7))); r.Kind != blocktree.Other || r.Lease != nil || r.Inode == nil || m.view().lease(r.Inode.ID) != nil {
		t.Errorf("no right: %+v", r)
	}
	if x := m.view().session(session(7)); x.Leases != 1 {
		t.Errorf("%d leases are counted", x.Leases)
	}
	for name, r := range map[string]Result{"there": m.as(owner, 5, held("/d/e/new", 0o600, session(7))), "longer than it is large": m.as(owner, 5, CreateHeld{CreateFile: file("/d/e/c"), Bytes: 1 << 50}), "a stranger's": m.as(stranger, 5, held("/d/e/c", 0o600, session(7)))} {
		if r.Kind != map[string]blocktree.Kind{"there": blocktree.Exists, "longer than it is large": blocktree.Invalid, "a stranger's": blocktree.Permission}[name] {
			t.Errorf("%s: %v", name, r.Kind)
		}
	}
	late := NewCommandID()
	copy(late[:], make([]byte, 8)) // drawn long before the session was opened
	if r := m.command(Command{ID: late, Op: held("/d/e/late", 0o600, session(7)), Caller: owner, Time: 6}); r.Kind != blocktree.Busy {
		t.Errorf("a late copy: %+v", r)
	}
	gone := NewCommandID()
	m.mustAs(owner, CloseSession{session(7)})
	if r := m.command(Command{ID: gone, Op: held("/d/e/late", 0o600, session(7)), Caller: owner, Time: 7}); r.Kind != blocktree.Fenced {
		t.Errorf("a copy that comes after its session: %+v", r)
	}
	if _, r := m.view().stat(path("/d/e/late")); r.Kind != blocktree.NotFound {
		t.Errorf("a file was made: %v", r.Kind)
	}
}

// TestReleaseEnd: H2 of 0067. The end moves and the lease goes at once, or neither; by whom SetEnd and Release are done, and nobody else.
func TestReleaseEnd(t *testing.T) {
	m := granted(t, 0o755, 0o600)
	f, owner := fileID(3), somebody(7, 70)
	m.mustAs(owner, OpenSession{Session: session(7), Principal: owner.Principal, Path: owner.Path})
	epoch := m.mustAs(owner, Acquire{session(7), f}).Lease.Epoch
	size := m.view().inode(f).SizeBytes
	end := func(s SessionID, e blocktree.Epoch, was, bytes uint64) ReleaseEnd {
		return ReleaseEnd{Release{s, f, e}, was, bytes, 9}
	}
	for want, o := range map[blocktree.Kind]ReleaseEnd{blocktree.StaleView: end(session(7), epoch, 1, 100), blocktree.Fenced: end(session(7), epoch+1, size, 100), blocktree.Invalid: end(session(7), epoch, size, size+1)} {
		if r := m.as(owner, 20, o); r.Kind != want || m.view().lease(f) == nil || m.view().inode(f).Length() != size {
			t.Errorf("%v, not %v: %+v", r.Kind, want, m.view().inode(f))
		}
	}
	if r := m.as(somebody(10, 10), 20, end(session(7), epoch, size, 100)); r.Kind != blocktree.Permission || m.view().lease(f) == nil {
		t.Errorf("a stranger's: %v", r.Kind)
	}
	id := NewCommandID()
	for range 2 {
		if r := m.command(Command{ID: id, Op: end(session(7), epoch, size, 100), Caller: owner, Time: 20}); r.Kind != blocktree.Other {
			t.Fatal(r.Err("release"))
		}
	}
	if i := m.view().inode(f); i.Length() != 100 || i.Modified != 9 || m.view().lease(f) != nil || m.view().session(session(7)).Leases != 0 {
		t.Errorf("%+v, held by %+v", i, m.view().lease(f))
	}
	if r := m.as(owner, 21, end(session(7), epoch, 100, 200)); r.Kind != blocktree.Fenced {
		t.Errorf("nobody holds it: %v", r.Kind)
	}
}

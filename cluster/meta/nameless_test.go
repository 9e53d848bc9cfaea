package meta

import (
	"testing"

	"blocktree"
)

// kept is a cluster in which session 7, of the owner of /d/e/f, holds that file, which has no name any more.
func kept(t *testing.T) (m *machine, owner *Caller, lease *Lease) {
	m, owner = granted(t, 0o755, 0o600), somebody(7, 70)
	for n := 7; n <= 8; n++ {
		m.mustAs(owner, OpenSession{Session: session(n), Principal: owner.Principal, Path: owner.Path})
	}
	lease = m.mustAs(owner, Acquire{session(7), fileID(3)}).Lease
	m.mustAs(owner, Unlink{path("/d/e/f"), fileID(3), session(7)})
	return m, owner, lease
}

// removed reports whether nothing is left of a file.
func (m *machine) removed(f blocktree.FileID) bool {
	s := m.view()
	_, kept := s.keeper(f)
	hosted := false
	s.scan(kindHosted, nil, nil, func(rest, _ []byte) bool {
		hosted = inodeOf(rest) == f.Inode
		return !hosted
	})
	return s.inode(f) == nil && s.layout(f) == nil && s.lease(f) == nil && !kept && !hosted
}

// TestUnlink: U3 to U5 of 0066. Who may write the directory takes the name, for a session that holds the file or where nobody does; the name is free, the file is the keeper's alone, and no copy that comes late does anything.
func TestUnlink(t *testing.T) {
	m, owner := granted(t, 0o755, 0o600), somebody(7, 70)
	f, p := fileID(3), path("/d/e/f")
	for n := 7; n <= 8; n++ {
		m.mustAs(owner, OpenSession{Session: session(n), Principal: owner.Principal, Path: owner.Path})
	}
	refused := func(name string, r Result, want blocktree.Kind) {
		t.Helper()
		if r.Kind != want {
			t.Errorf("%s: %v %q, want %v", name, r.Kind, r.Text, want)
		}
	}
	plain := len(m.counters())
	refused("by a stranger", m.as(somebody(10, 10), 2, Unlink{p, f, session(7)}), blocktree.Permission)
	refused("of another file", m.as(owner, 2, Unlink{p, fileID(2), session(7)}), blocktree.NotFound)
	refused("for no session", m.as(owner, 2, Unlink{p, f, session(9)}), blocktree.Fenced)
	refused("of a directory", m.as(owner, 2, Unlink{path("/d/e"), fileID(2), session(7)}), blocktree.Invalid)
	lease := m.mustAs(owner, Acquire{session(8), f}).Lease
	late := Command{ID: NewCommandID(), Op: Unlink{p, f, session(7)}, Caller: owner, Time: 3}
	refused("of a file that another session holds", m.command(late), blocktree.Busy)
	m.mustAs(owner, Release{session(8), f, lease.Epoch})
	refused("a late copy of that", m.command(late), blocktree.Busy)
	lease = m.mustAs(owner, Acquire{session(7), f}).Lease
	m.mustAs(owner, ClaimLease{session(8), f, lease.Epoch})
	done := Command{ID: NewCommandID(), Op: Unlink{p, f, session(7)}, Caller: owner, Time: 3}
	m.command(done)
	if i := m.view().inode(f); i == nil || m.view().lease(f) == nil || m.view().layout(f) == nil {
		t.Fatalf("it is gone: %+v", i)
	}
	if len(m.counters()) <= plain+1 {
		t.Error("the counters are read by a version before, which would keep it for ever")
	}
	refused("who had claimed it", m.do(EndClaim{f, lease.Epoch, session(8), ^uint64(0), true}), blocktree.NotFound)
	refused("claimed by another session", m.as(owner, 4, ClaimLease{session(8), f, lease.Epoch}), blocktree.NotFound)
	refused("held by another session", m.as(owner, 4, Acquire{session(8), f}), blocktree.NotFound)
	if q := m.view().judged(Query{Kind: QueryAllowed, Path: p, Caller: owner, Time: 4}); q.Kind != blocktree.NotFound {
		t.Errorf("by its path: %v", q.Kind)
	}
	if q := m.view().judged(Query{Kind: QueryAllowed, File: f, Caller: owner, Time: 4}); q.Kind != 0 || q.Allowed.Rights&RightsHold != RightsHold {
		t.Errorf("by its identity: %v, %v", q.Kind, q.Allowed)
	}
	newer := m.mustAs(owner, coded("/d/e/f", 1, 0)).Inode.ID
	if newer == f || m.command(done).Kind != 0 || m.view().inode(newer) == nil {
		t.Error("a late copy took another file's name")
	}
	refused("by who still takes the name for its", m.as(owner, 5, Unlink{p, f, session(7)}), blocktree.NotFound)
	m.forget() // what was remembered of commands
	m.command(done)
	if r := m.as(owner, 5, Remove{Path: p, File: f}); r.Kind != blocktree.NotFound || m.view().inode(newer) == nil {
		t.Errorf("another file has the name: %v", r.Kind)
	}
	refused("forgotten by another session", m.as(owner, 5, Forget{session(8), f}), blocktree.NotFound)
	refused("forgotten while it is held", m.as(owner, 5, Forget{session(7), f}), blocktree.Busy)
	m.mustAs(owner, Release{session(7), f, lease.Epoch})
	m.mustAs(owner, Forget{session(7), f})
	if !m.removed(f) || len(m.last.Removed) != 1 {
		t.Error("something is left")
	}
	refused("once more", m.as(owner, 5, Forget{session(7), f}), blocktree.NotFound)
	if m.command(done); m.view().inode(newer) == nil {
		t.Error("a late copy removed another file")
	}
}

// TestKeeperEnds: U2 of 0066. With the session that keeps it a file is gone, however that ends, also one that is being healed, and its sectors are given back.
func TestKeeperEnds(t *testing.T) {
	f := fileID(3)
	for name, end := range map[string]func(m *machine) Op{
		"closed": func(*machine) Op { return CloseSession{session(7)} },
		"expired": func(m *machine) Op {
			return ExpireSession{session(7), m.view().session(session(7)).Renewals}
		},
		"healed": func(m *machine) Op {
			host := m.view().runtimes()[0]
			healer := &Caller{Principal: host.Principal, Path: host.Path}
			m.mustAs(healer, OpenSession{Session: session(9), Principal: healer.Principal, Path: healer.Path})
			m.mustAs(somebody(7, 70), Release{session(7), f, m.view().lease(f).Epoch})
			m.mustAs(healer, Acquire{session(9), f})
			return CloseSession{session(7)}
		},
	} {
		m, _, _ := kept(t)
		m.must(end(m))
		if !m.removed(f) || m.view().counts.nameless != 0 || len(m.last.Removed) != 1 {
			t.Errorf("%s: something is left", name)
		}
		if x := m.view().session(session(9)); x != nil && x.Leases != 0 {
			t.Errorf("%s: who healed it counts %d leases", name, x.Leases)
		}
	}
}

// TestKeptTree: a file of integrity tree is kept, and goes, with its companion.
func TestKeptTree(t *testing.T) {
	m, owner := granted(t, 0o755, 0o600), somebody(7, 70)
	m.mustAs(owner, OpenSession{Session: session(7), Principal: owner.Principal, Path: owner.Path})
	o := CreateTreeFile{CreateFile: coded("/d/e/t", 1, 0), TreeBytes: 1 << 20}
	i := m.mustAs(owner, o).Inode
	f, c := i.ID, i.companion()
	pages := m.mustAs(owner, Acquire{session(7), c}).Lease
	m.mustAs(owner, Unlink{path("/d/e/t"), f, session(7)})
	m.mustAs(owner, OpenSession{Session: session(8), Principal: owner.Principal, Path: owner.Path})
	for _, x := range []blocktree.FileID{f, c} {
		if r := m.as(owner, 2, Acquire{session(8), x}); r.Kind != blocktree.NotFound {
			t.Errorf("%v is held by another session: %v", x, r.Kind)
		}
		if r := m.as(owner, 2, Forget{session(7), x}); r.Kind == 0 {
			t.Errorf("%v is forgotten", x)
		}
	}
	m.mustAs(owner, Release{session(7), c, pages.Epoch})
	m.mustAs(owner, Forget{session(7), f})
	if !m.removed(f) || !m.removed(c) {
		t.Error("something is left")
	}
}

// TestRenameOverKept: what is replaced is kept, and what takes its place is not touched.
func TestRenameOverKept(t *testing.T) {
	m, owner := granted(t, 0o755, 0o600), somebody(7, 70)
	for n := 7; n <= 8; n++ {
		m.mustAs(owner, OpenSession{Session: session(n), Principal: owner.Principal, Path: owner.Path})
	}
	f, g := fileID(3), m.mustAs(owner, coded("/d/e/g", 1, 0)).Inode.ID
	o := RenameOver{Rename{From: path("/d/e/g"), To: path("/d/e/f"), File: g, Over: f}, session(7)}
	lease := m.mustAs(owner, Acquire{session(8), f}).Lease
	if r := m.as(owner, 2, o); r.Kind != blocktree.Busy {
		t.Errorf("over what another session holds: %v", r.Kind)
	}
	m.mustAs(owner, Release{session(8), f, lease.Epoch})
	m.mustAs(owner, o)
	if i, _ := m.view().stat(path("/d/e/f")); i == nil || i.ID != g || m.view().inode(f) == nil || m.view().layout(f) == nil {
		t.Errorf("%+v is there", i)
	}
	m.must(CloseSession{session(7)})
	if !m.removed(f) || m.removed(g) {
		t.Error("the wrong one is gone")
	}
}

// counters are the counters as they are stored.
func (m *machine) counters() []byte {
	v, _ := m.view().get(kindCounters, nil)
	return v
}

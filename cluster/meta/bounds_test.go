package meta

import (
	"fmt"
	"testing"

	"blocktree"

	"github.com/cockroachdb/pebble/v2"
)

// A member that has much to catch up with applies it in batches of a bounded size, not all that Raft hands out at once: a
// command of a hundred bytes may write a layout of a megabyte.
func TestApplyBatchesAreBounded(t *testing.T) {
	const applyBytes = 10 << 10
	w := newWorld(t)
	w.hooks.applyBytes = applyBytes
	w.found(3)
	away := node(int(w.leader())%3 + 1)
	fs := w.members[away].fs
	w.kill(away)
	for i := range 100 {
		w.must(file(fmt.Sprintf("/f%d", i)))
	}
	last := w.sync(w.leader()).Status().Applied
	w.start(away, fs, nil)
	w.sync(away)
	w.mu.Lock()
	defer w.mu.Unlock()
	files, most := 0, 0
	for _, c := range w.members[away].changes {
		files += len(c.Layouts)
		most = max(most, len(c.Layouts))
		if c.Index > last {
			t.Fatalf("applied %d of %d", c.Index, last)
		}
	}
	// A new file writes more than 256 bytes.
	if files != 100 || most > applyBytes/256 || most < 2 {
		t.Fatalf("%d files were heard of, at most %d at a time", files, most)
	}
}

// One principal cannot take the sessions of all others, and gets its own back.
func TestSessionsPerPrincipal(t *testing.T) {
	m := founded(t, 1)
	own := func(i int) OpenSession { return with(open(1), func(o *OpenSession) { o.Session = session(i) }) }
	for i := range SessionsPerPrincipalMax {
		m.must(own(i))
	}
	if r := m.do(own(SessionsPerPrincipalMax)); r.Kind != blocktree.Unavailable {
		t.Fatalf("%+v", r)
	}
	m.must(own(0)) // it is open
	m.must(open(200))
	m.must(CloseSession{session(3)})
	m.must(own(SessionsPerPrincipalMax))
	if r := m.do(own(3)); r.Kind != blocktree.Unavailable {
		t.Fatalf("%+v", r)
	}
}

// What is remembered of a command has no access record: 4,096 of them would be a gigabyte. A retry is answered with it anyway.
func TestRememberedWithoutAccess(t *testing.T) {
	m := founded(t, 1)
	c := file("/f")
	c.Access = make([]byte, AccessBytesMax)
	create := Command{ID: NewCommandID(), Op: c}
	set := Command{ID: NewCommandID(), Op: SetAttr{File: fileID(1), Mask: AttrAccess, Access: c.Access}}
	remove := Command{ID: NewCommandID(), Op: Remove{Path: path("/f")}}
	for i, x := range []Command{create, set, remove} {
		first := m.command(x)
		if first.Kind != 0 || len(first.Inode.Access) != AccessBytesMax {
			t.Fatalf("%T: %v", x.Op, first.Kind)
		}
		if b, ok := m.view().get(kindDone, x.ID[:]); !ok || len(b) > 4096 {
			t.Errorf("%T: %d bytes are remembered", x.Op, len(b))
		}
		if r := m.command(x); r.Kind != 0 || i < 2 && len(r.Inode.Access) != AccessBytesMax {
			t.Errorf("%T: a retry is answered with %d bytes", x.Op, len(r.Inode.Access))
		}
	}
}

// Clients cannot fill the disks of the cluster with names and access records; what is removed makes room.
func TestInodesAreBounded(t *testing.T) {
	m := founded(t, 1)
	count := func(f func(*counters)) {
		t.Helper()
		b := m.db.NewIndexedBatch()
		s := openState(b, b, spaceA)
		f(&s.counts)
		s.saveCounters()
		if err := b.Commit(pebble.NoSync); err != nil || s.err != nil {
			t.Fatal(err, s.err)
		}
	}
	refused := func(o Op) {
		t.Helper()
		if r := m.do(o); r.Kind != blocktree.NoSpace {
			t.Fatalf("%T: %v", o, r.Kind)
		}
	}
	count(func(c *counters) { c.inodes = InodesMax - 2 })
	refused(MakeDir{Path: path("/a/b/c"), Parents: true})
	refused(file("/a/b/f"))
	m.must(file("/a/f"))
	refused(MakeDir{Path: path("/b")})
	m.must(Remove{Path: path("/a/f")})
	m.must(file("/f"))
	refused(file("/g"))

	count(func(c *counters) { c.inodes, c.access = 2, AccessTotalBytesMax-100 })
	f := m.view().entryOf(t, "f")
	m.must(SetAttr{File: f, Mask: AttrAccess, Access: make([]byte, 100)})
	m.must(SetAttr{File: f, Mask: AttrAccess, Access: make([]byte, 90)})
	refused(SetAttr{File: f, Mask: AttrAccess, Access: make([]byte, 101)})
	refused(with(file("/g"), func(o *CreateFile) { o.Access = make([]byte, 11) }))
	m.must(Remove{Path: path("/f")})
	m.must(with(file("/g"), func(o *CreateFile) { o.Access = make([]byte, 100) }))
	refused(with(file("/h"), func(o *CreateFile) { o.Access = make([]byte, 1) }))
}

// entryOf returns what a name in the root directory names.
func (s *state) entryOf(t *testing.T, name string) blocktree.FileID {
	t.Helper()
	e, ok := s.entry(RootInode, name)
	if !ok {
		t.Fatal(name)
	}
	return e.file
}

package meta

import (
	"reflect"
	"testing"

	"blocktree"
	"blocktree/cluster/stripe"
)

func someMoves() []Move {
	return []Move{{From: fileID(3), To: blocktree.FileID{Generation: 2, Inode: 8}, Path: path("/a/f")}, {From: fileID(4), To: blocktree.FileID{Generation: 2, Inode: 9}, Path: path("/a/g"), Adopted: true}}
}

// mover is a family whose child has a host that runs, and a session of user id 0 in each.
func mover(t *testing.T) (parent, child *machine) {
	parent, child = family(t)
	child.must(StartNode{Node: below(1).Node, Incarnation: incarnation(1), StartCounter: 1})
	for i := 1; i <= 2; i++ {
		for _, m := range []*machine{parent, child} {
			m.mustAs(admin(), OpenSession{Session: session(i), Principal: admin().Principal, Path: admin().Path})
		}
	}
	return parent, child
}

// move is BeginMove of /rack/f.
func moveF(t uint64) BeginMove {
	o := BeginMove{From: fileID(3)}
	o.CreateFile, o.TreeBytes = file("/rack/f"), t
	return o
}

// begun has the copy of /rack/f made and held by a session, under the epoch that is returned; and the old file held.
func begun(parent, child *machine, id SessionID) (to blocktree.FileID, copyEpoch, epoch blocktree.Epoch) {
	to = child.mustAs(admin(), moveF(0)).Inode.ID
	copyEpoch = child.mustAs(admin(), Acquire{id, to}).Lease.Epoch
	return to, copyEpoch, parent.mustAs(admin(), Acquire{id, fileID(3)}).Lease.Epoch
}

// TestMoveIsFenced: whoever began a move before somebody else did adopts nothing, takes nothing back and has nothing left; and who repeats what was done is told so.
func TestMoveIsFenced(t *testing.T) {
	parent, child := mover(t)
	f := fileID(3)
	to, e1, old1 := begun(parent, child, session(1))
	for _, m := range []*machine{parent, child} { // the first is silent for a term
		m.must(CloseSession{session(1)})
	}
	if again, _, _ := begun(parent, child, session(2)); again != to {
		t.Fatalf("another copy: %v, %v", again, to)
	}
	e2, old2 := e1+1, old1+1
	adopt := Adopt{Session: session(2), File: to, Epoch: e2, From: f, Path: path("/rack/f"), Mode: 0o640, UID: 7, GID: 8, Created: 9, Modified: 10, HasLength: true, LengthBytes: 11,
		Grants: []Grant{grantTo(somebody(10, 10), RightRead)}}
	late := adopt
	late.Session, late.Epoch = session(1), e1
	if r := child.as(admin(), 2, late); r.Kind != blocktree.Fenced {
		t.Errorf("adopted by who has no lease any more: %v", r.Kind)
	}
	if r := parent.as(admin(), 2, Depart{session(1), f, old1, to, e1}); r.Kind != blocktree.Fenced {
		t.Errorf("left by who has no lease any more: %v", r.Kind)
	}
	parent.mustAs(admin(), Depart{session(2), f, old2, to, e2})
	if r := parent.as(admin(), 2, Stay{f, to, e1}); r.Kind != blocktree.Fenced || parent.view().left(f) == nil {
		t.Errorf("taken back by who began before: %v", r.Kind)
	}
	if r := parent.as(admin(), 2, Stay{f, blocktree.FileID{Generation: 2, Inode: to.Inode - 1}, 1 << 40}); r.Kind != blocktree.Fenced {
		t.Errorf("taken back for an older copy: %v", r.Kind)
	}
	for name, change := range map[string]func(*Adopt){"of another file": func(o *Adopt) { o.From = fileID(4) }, "at another path": func(o *Adopt) { o.Path = path("/rack/sub/g") }, "longer than it is": func(o *Adopt) { o.LengthBytes = 1 << 40 },
		"no mode": func(o *Adopt) { o.Mode = 0o1777 }} {
		o := adopt
		change(&o)
		if r := child.as(admin(), 2, o); r.Kind != blocktree.NotFound && r.Kind != blocktree.Invalid {
			t.Errorf("%s: %v", name, r.Kind)
		}
	}
	for range 2 {
		child.mustAs(admin(), adopt)
	}
	s := child.view()
	i, r := s.stat(path("/rack/f"))
	if r.Kind != 0 || i.ID != to || i.Mode != 0o640 || i.UID != 7 || i.GID != 8 || i.Created != 9 || i.Modified != 10 || !i.HasLength || i.LengthBytes != 11 || i.SizeBytes != 1<<30 {
		t.Errorf("%+v, %v", i, r.Kind)
	}
	if !s.may(somebody(10, 10), i, RightRead, 1) || s.may(somebody(12, 12), i, RightRead, 1) {
		t.Error("its grants are others")
	}
	if r := child.as(admin(), 2, DropCopy{to}); r.Kind != blocktree.Invalid {
		t.Errorf("dropped when it has its name: %v", r.Kind)
	}
	if r := child.as(admin(), 2, moveF(0)); r.Kind != blocktree.NotFound {
		t.Errorf("moved twice: %v", r.Kind)
	}
	if r := parent.as(admin(), 2, RemoveLeft{f, to}); r.Kind != blocktree.Busy {
		t.Errorf("removed while somebody has it: %v", r.Kind)
	}
	parent.mustAs(admin(), Release{session(2), f, old2})
	parent.mustAs(admin(), RemoveLeft{f, to})
	if parent.view().inode(f) != nil || parent.view().layout(f) != nil || parent.view().left(f) != nil || parent.view().counts.inodes != 4 {
		t.Errorf("something of it stays, %d inodes", parent.view().counts.inodes)
	}
	for range 2 {
		child.mustAs(admin(), EndMove{to})
	}
	if len(child.view().moves()) != 0 {
		t.Error("the move stays")
	}
	child.mustAs(admin(), Release{session(2), to, e2})
	child.mustAs(admin(), Acquire{session(1 + 1), to})
}

// TestLeft: a file that is left is changed, held and removed by nobody but the one who moves it; who may move is user id 0.
func TestLeft(t *testing.T) {
	parent, child := mover(t)
	f := fileID(3)
	to, copyEpoch, epoch := begun(parent, child, session(1))
	for _, c := range []*Caller{somebody(7, 70), hostCaller(below(1))} {
		for _, o := range []Op{Depart{session(1), f, epoch, to, copyEpoch}, Stay{f, to, 9}, RemoveLeft{f, to}} {
			if r := parent.as(c, 2, o); r.Kind != blocktree.Permission || r.Hint == "" {
				t.Errorf("%T by %v: %v", o, c, r.Kind)
			}
		}
	}
	if r := parent.as(admin(), 2, RemoveLeft{f, to}); r.Kind != blocktree.Invalid {
		t.Errorf("removed before it is left: %v", r.Kind)
	}
	if r := parent.as(admin(), 2, Depart{session(1), fileID(6), epoch, to, copyEpoch}); r.Kind != blocktree.Invalid {
		t.Errorf("a file that has its entry here: %v", r.Kind)
	}
	parent.mustAs(admin(), ClaimLease{session(2), f, epoch})
	if r := parent.as(admin(), 2, Depart{session(1), f, epoch, to, copyEpoch}); r.Kind != blocktree.Busy {
		t.Errorf("left while somebody claims it: %v", r.Kind)
	}
	parent.must(EndClaim{File: f, Epoch: epoch, Session: session(2), Asked: parent.view().claim(parent.view().lease(f)).asked})
	for range 2 {
		parent.mustAs(admin(), Depart{session(1), f, epoch, to, copyEpoch})
	}
	refused := []Op{Acquire{session(2), f}, ClaimLease{session(2), f, epoch}, SetAttr{File: f, Mask: AttrMode}, PutGrant{f, grantTo(somebody(10, 10), RightRead)}, RemoveGrant{f, Subject{Path: rootDir}},
		SetAccess{f, record(1)}, Resize{File: f, SizeBytes: 1 << 31, Seq: 1}, SetLength{File: f, Bytes: 5}, RemoveMoved{f},
		SetTimes{File: f, Modified: 1}, SetXattr{File: f, Name: "user.x"}}
	before := parent.view().inode(f)
	for _, o := range refused {
		for _, c := range []*Caller{nil, admin()} {
			if r := parent.as(c, 2, o); r.Kind != blocktree.Busy || r.Hint == "" {
				t.Errorf("%T of a file that is left: %v, %q", o, r.Kind, r.Hint)
			}
		}
	}
	if !reflect.DeepEqual(parent.view().inode(f), before) {
		t.Error("it is another now")
	}
	if r := parent.as(admin(), 2, RemoveLeft{f, blocktree.FileID{Generation: 2, Inode: to.Inode + 1}}); r.Kind != blocktree.Invalid {
		t.Errorf("removed for another copy: %v", r.Kind)
	}
	parent.mustAs(admin(), Stay{f, to, copyEpoch})
	parent.mustAs(admin(), Stay{f, to, copyEpoch})
	parent.mustAs(admin(), SetAttr{File: f, Mask: AttrMode, Mode: 0o600})
}

// TestCopyIsNobodys: a copy is held by user id 0 and by sector hosts alone, and changed by nobody, until it is adopted; then it is held by nobody until its move has ended. It goes with the entry of its old file.
func TestCopyIsNobodys(t *testing.T) {
	parent, child := mover(t)
	f, stranger := fileID(3), somebody(10, 10)
	parent.must(PutGrant{fileID(1), grantTo(stranger, rightsAll)})
	above := parent.view().judged(Query{Kind: QueryAbove, Path: path("/rack"), Caller: hostCaller(below(1))}).Above
	above.Number = parent.index
	child.must(SetAbove{*above})
	child.mustAs(stranger, OpenSession{Session: session(9), Principal: stranger.Principal, Path: stranger.Path})
	inodes := child.view().counts.inodes
	to, copyEpoch, _ := begun(parent, child, session(1))
	for _, o := range []Op{Acquire{session(9), to}, SetAttr{File: to, Mask: AttrMode}, PutGrant{to, grantTo(stranger, RightRead)}, Resize{File: to, SizeBytes: 1 << 31, Seq: 1}, SetLength{File: to, Bytes: 5}, SetTimes{File: to, Modified: 1}, SetXattr{File: to, Name: "user.x"}} {
		if r := child.as(stranger, 2, o); r.Kind != blocktree.Busy || r.Hint == "" {
			t.Errorf("%T of a copy: %v", o, r.Err("op"))
		}
	}
	if r := child.as(admin(), 2, DropEntry{path("/rack/f"), f}); r.Kind != blocktree.Busy {
		t.Errorf("its entry is dropped while it is copied: %v", r.Kind)
	}
	other := moveF(0)
	other.SizeBytes *= 2
	for name, o := range map[string]BeginMove{"larger": other, "with a tree": moveF(1 << 20)} {
		if r := child.as(admin(), 2, o); r.Kind != blocktree.Exists || r.Inode == nil || r.Inode.ID != to {
			t.Errorf("a copy that is %s: %v", name, r.Kind)
		}
	}
	child.mustAs(admin(), Adopt{Session: session(1), File: to, Epoch: copyEpoch, From: f, Path: path("/rack/f"), Mode: 0o666})
	child.mustAs(admin(), Release{session(1), to, copyEpoch})
	for _, c := range []*Caller{nil, admin(), stranger, hostCaller(below(1))} {
		if r := child.as(c, 2, Acquire{session(2), to}); r.Kind != blocktree.Busy || r.Hint == "" {
			t.Errorf("held before its move has ended, by %v: %v", c, r.Kind)
		}
	}
	child.mustAs(admin(), EndMove{to})
	child.mustAs(stranger, Acquire{session(9), to})

	// Another one, with a tree, that is given up: by DropCopy, and by the removal of its old file.
	g := moveF(1 << 20)
	g.From, g.Path = fileID(4), path("/rack/sub/g")
	for _, drop := range []func(blocktree.FileID) Op{func(to blocktree.FileID) Op { return DropCopy{to} }, func(blocktree.FileID) Op { return DropEntry{g.Path, g.From} }} {
		c := child.mustAs(admin(), g).Inode
		if c.Integrity != IntegrityTree || child.view().inode(c.companion()) == nil {
			t.Fatalf("%+v", c)
		}
		child.mustAs(admin(), drop(c.ID))
		s := child.view()
		if s.inode(c.ID) != nil || s.layout(c.ID) != nil || s.inode(c.companion()) != nil || s.layout(c.companion()) != nil || len(s.moves()) != 0 || s.counts.inodes != inodes+1 {
			t.Errorf("%T: something of it stays, %d inodes of %d", drop(c.ID), s.counts.inodes, inodes+1)
		}
	}
}

// TestMovesAreBounded: so many at a time, and a refusal leaves nothing.
func TestMovesAreBounded(t *testing.T) {
	_, child := mover(t)
	begin := func(n int) Result {
		f := blocktree.FileID{Generation: 1, Inode: blocktree.Inode(1000 + n)}
		name := "old" + string(rune('A'+n/26)) + string(rune('a'+n%26))
		w := child.db.NewIndexedBatch()
		s := openState(w, w, spaceA)
		s.setEntry(RootInode, name, entry{file: f, kind: KindFile})
		if err := w.Commit(nil); err != nil {
			t.Fatal(err)
		}
		o := BeginMove{From: f}
		o.CreateFile = file("/rack/" + name)
		return child.as(admin(), 2, o)
	}
	for n := range MovesMax {
		if r := begin(n); r.Kind != blocktree.Other {
			t.Fatal(r.Err("begin"))
		}
	}
	if r := begin(MovesMax); r.Kind != blocktree.Unavailable || r.Hint == "" {
		t.Errorf("one more: %v", r.Kind)
	}
	if n := len(child.view().moves()); n != MovesMax {
		t.Errorf("%d moves", n)
	}
	wide := moveF(0)
	wide.Code = blocktree.Code{Data: 2, Parity: 1}
	child.mustAs(admin(), DropCopy{child.view().moves()[0].To})
	before := child.view().counts
	if r := child.as(admin(), 2, wide); r.Kind != blocktree.Invalid || r.Hint == "" {
		t.Errorf("a code that the cluster has no nodes for: %v", r.Kind)
	}
	if after := child.view().counts; after != before {
		t.Errorf("%+v, before %+v", after, before)
	}
}

// TestMoveCodecs: what is noted of moves comes back, and is asked for by user id 0 alone.
func TestMoveCodecs(t *testing.T) {
	a := Answer{Moves: someMoves()}
	if out, err := DecodeAnswer(EncodeAnswer(nil, a)); err != nil || !reflect.DeepEqual(out, a) {
		t.Errorf("%+v, %v", out, err)
	}
	many := Answer{Moves: make([]Move, MovesMax+1)}
	if _, err := DecodeAnswer(EncodeAnswer(nil, many)); err == nil {
		t.Error("more than there can be are read")
	}
	_, child := mover(t)
	o := moveF(0)
	o.Durability = stripe.DurabilityFlush
	to := child.mustAs(admin(), o)
	if to.Layout.Durability != stripe.DurabilityFlush {
		t.Error("another durability")
	}
	q := Query{Kind: QueryMoves, Caller: admin(), Time: 2}
	if a := child.view().judged(q); !reflect.DeepEqual(a.Moves, []Move{{From: fileID(3), To: to.Inode.ID, Path: path("/rack/f")}}) {
		t.Errorf("%+v, %v", a.Moves, a.Kind)
	}
	q.Caller = somebody(10, 10)
	if a := child.view().judged(q); a.Kind != blocktree.Permission || len(a.Moves) != 0 {
		t.Errorf("told to anybody: %v", a.Kind)
	}
}

// TestOwnAddresses: of a process record its sector host changes the addresses, and nothing else, of none but its own.
func TestOwnAddresses(t *testing.T) {
	parent, _ := family(t)
	moved := func(r blocktree.Runtime) blocktree.Runtime {
		r.Endpoints = []string{"10.1.1.1:1"}
		return r
	}
	for name, x := range map[string]struct {
		c *Caller
		r blocktree.Runtime
	}{
		"another's":       {hostCaller(below(2)), moved(below(1))},
		"another store":   {hostCaller(below(1)), with(moved(below(1)), func(r *blocktree.Runtime) { r.Node = 77 })},
		"another service": {hostCaller(below(1)), with(moved(below(1)), func(r *blocktree.Runtime) { r.Services = append(r.Services, "filesystem") })},
		"another key":     {hostCaller(below(1)), with(moved(below(1)), func(r *blocktree.Runtime) { r.Principal = someone(9) })},
		"of no host":      {hostCaller(below(7)), moved(below(7))},
		"at another path": {&Caller{Principal: below(1).Principal, Path: path("/x/node1"), UID: 9}, moved(below(1))},
	} {
		if r := parent.as(x.c, 2, PutBelow{x.r}); r.Kind != blocktree.Permission || r.Hint == "" {
			t.Errorf("%s: %v", name, r.Kind)
		}
	}
	parent.mustAs(hostCaller(below(1)), PutBelow{moved(below(1))})
	parent.mustAs(hostCaller(host(2)), PutBelow{moved(host(2))}) // of the root directory
	s := parent.view()
	if got := s.below(path("/rack"))[0].Endpoints; !reflect.DeepEqual(got, moved(below(1)).Endpoints) {
		t.Errorf("below: %v", got)
	}
	if got := s.runtimes()[1].Endpoints; !reflect.DeepEqual(got, moved(host(2)).Endpoints) {
		t.Errorf("in the root directory: %v", got)
	}
}

package meta

import (
	"testing"

	"blocktree"
)

// everyOp has one of each op, about the file of granted and the session of a caller.
func everyOp(c *Caller) []Op {
	f, id := fileID(3), session(int(c.UID))
	start := StartNode{Node: 1, Incarnation: blocktree.Incarnation{7}, StartCounter: 1 << 40, ExpectCounter: 1}
	return []Op{
		Found{Dir: rootDir, Generation: 1}, MakeDir{Path: path("/d/e/new")}, file("/d/e/new"), Remove{Path: path("/d/e/f")}, SetAttr{File: f, Mask: AttrMode, Mode: 0o777},
		PutRuntime{host(1)}, RemoveRuntime{host(1).Path}, start, OpenSession{Session: id, Principal: c.Principal, Path: c.Path}, RenewSession{id}, CloseSession{id},
		ExpireSession{Session: id}, Acquire{id, f}, Release{Session: id, File: f, Epoch: 1}, ChangeView{}, ClaimLease{id, f, 1}, EndClaim{File: f, Epoch: 1, Session: id, Grant: true},
		ReplaceHost{Path: host(1).Path, Old: 1, New: 9}, RetireHost{Path: host(1).Path, Node: 1}, LeaveViews{start}, DrainHost{Path: host(1).Path, Node: 1},
		CreateFlushFile{file("/d/e/new")}, StartVolatile{StartNode: start}, Resize{File: f, SizeBytes: 1 << 30}, PutGrant{f, grantTo(c, rightsAll)}, RemoveGrant{f, Subject{Path: rootDir}},
		RevokePrincipal{Revocation{Principal: someone(1), Scope: rootDir, Time: 1, Until: 9}}, SetAccess{File: f, Access: []byte("x")}, NoteAccess{Session: id, File: f}, SetLength{f, 1, 2},
		CreateTreeFile{CreateFile: file("/d/e/new"), TreeBytes: 1 << 20}, Anchor{Session: id, File: f, Epoch: 1},
		ResizeTree{Resize{File: f, SizeBytes: 1 << 30}},
		PutBelow{host(1)}, RemoveBelow{path("/d/e/n")}, AssignGeneration{path("/d"), 1}, Delegate{path("/d"), 2, 1}, HandOver{path("/d"), 2}, DropMoved{path("/d"), 2}, RemoveMoved{f},
		DropEntry{path("/d/e/f"), f}, FoundChild{Found{Dir: path("/d"), Generation: 2}}, SetAbove{}, TakeEntries{Dir: path("/d")}, EndTaking{}, HandOverSum{Dir: path("/d"), Generation: 2}, TakeBack{Dir: path("/d"), Generation: 2},
		BeginMove{CreateTreeFile{CreateFile: file("/d/e/f")}, f}, DropCopy{f}, Depart{Session: id, File: f, Epoch: 1}, Stay{File: f}, Adopt{Session: id, File: f, Path: path("/d/e/f")},
		RemoveLeft{File: f}, EndMove{f},
		Rename{From: path("/d/e/f"), To: path("/d/e/new"), File: f}, Unlink{path("/d/e/f"), f, id}, RenameOver{Rename{From: path("/d/e/f"), To: path("/d/e/new"), File: f}, id}, Forget{id, f},
		AskShrink{File: f, Epoch: 1, SizeBytes: 4096}, AskShrinkTree{AskShrink{File: f, Epoch: 1, SizeBytes: 4096}},
		SetEnd{File: f, Session: id, Epoch: 1, Bytes: 1},
		Touch{Session: id, File: f, Epoch: 1, Time: 1}, ReleaseAt{Release{Session: id, File: f, Epoch: 1}, 1}, SetTimes{File: f, Modified: 1}, Symlink{Path: path("/d/e/new"), Target: "f"},
		SetXattr{File: f, Name: "user.x"}, PutXattrs{File: f},
		MakeDirKept{MakeDir{Path: path("/d/e/new")}, id}, Leave{Session: id}, MakeSpares{Session: id, N: 1}, NameFile{Session: id, File: f, CreateFile: file("/d/e/new")}, Want{f},
		CreateHeld{CreateFile: file("/d/e/new"), Session: id}, ReleaseEnd{Release{Session: id, File: f, Epoch: 1}, 0, 1, 1},
	}
}

// What judge says of an op.
type verdictOf uint8

const (
	byRights     verdictOf = iota + 1 // of a stranger: Permission
	takersAffair                      // the node that took it has judged it
	nobodys                           // the leader's, or sector hosts' of the directory: refused to every other caller
)

// TestEveryOpIsJudged: of each op there is a verdict, and an op without one is refused to whoever asks; a revoked caller is refused all of them.
func TestEveryOpIsJudged(t *testing.T) {
	verdicts := map[opcode]verdictOf{opFound: takersAffair, opMakeDir: byRights, opCreateFile: byRights, opRemove: byRights, opSetAttr: byRights, opPutRuntime: takersAffair,
		opRemoveRuntime: takersAffair, opStartNode: takersAffair, opOpenSession: takersAffair, opRenewSession: takersAffair, opCloseSession: takersAffair, opExpireSession: nobodys,
		opAcquire: byRights, opRelease: takersAffair, opChangeView: byRights, opClaimLease: byRights, opEndClaim: nobodys, opReplaceHost: byRights, opRetireHost: byRights,
		opLeaveViews: takersAffair, opDrainHost: byRights, opCreateFlushFile: byRights, opStartVolatile: takersAffair, opResize: byRights, opPutGrant: byRights, opRemoveGrant: byRights,
		opRevokePrincipal: byRights, opSetAccess: byRights, opNoteAccess: byRights, opSetLength: byRights, opResizeTree: byRights, opCreateTreeFile: byRights, opAnchor: byRights,
		opPutBelow: byRights, opRemoveBelow: byRights, opAssignGeneration: byRights, opDelegate: nobodys, opHandOver: nobodys, opDropMoved: nobodys, opRemoveMoved: byRights, opDropEntry: byRights,
		opFoundChild: takersAffair, opSetAbove: nobodys, opTakeEntries: nobodys, opEndTaking: nobodys, opHandOverSum: nobodys, opTakeBack: byRights,
		opBeginMove: byRights, opDropCopy: byRights, opDepart: byRights, opStay: byRights, opAdopt: byRights, opRemoveLeft: byRights, opEndMove: byRights, opRename: byRights,
		opAskShrink: byRights, opAskShrinkTree: byRights, opSetEnd: byRights,
		opTouch: byRights, opReleaseAt: takersAffair, opSetTimes: byRights, opSymlink: byRights, opSetXattr: byRights, opPutXattrs: byRights, opCreateHeld: byRights, opReleaseEnd: byRights,
		opUnlink: byRights, opRenameOver: byRights, opForget: takersAffair,
		opMakeDirKept: byRights, opLeave: takersAffair, opMakeSpares: byRights, opNameFile: byRights, opWant: byRights}
	m := granted(t, 0o700, 0o600)
	stranger, revoked := somebody(10, 10), somebody(0, 0)
	revoked.Chain = []blocktree.Principal{someone(40), revoked.Principal}
	m.must(revoke(40, 10, 100))
	ops := map[opcode]Op{}
	for _, o := range everyOp(stranger) {
		ops[o.opcode()] = o
	}
	for code := opcode(1); code < opEnd; code++ {
		o := ops[code]
		if o == nil || verdicts[code] == 0 {
			t.Errorf("opcode %d has no verdict here: who may?", code)
			continue
		}
		if c, ok := o.(ChangeView); ok {
			c.Change.File = fileID(3)
			o = c
		}
		s := m.view()
		s.caller, s.now = stranger, 2
		_, r := s.judge(o)
		want := blocktree.Permission
		if verdicts[code] == takersAffair {
			want = blocktree.Other
		}
		if r.Kind != want {
			t.Errorf("%T by a stranger: %v, want %v", o, r.Kind, want)
		}
		s.caller = somebody(0, 0)
		want = blocktree.Other
		if verdicts[code] == nobodys {
			want = blocktree.Permission
		}
		if rp, ok := o.(RevokePrincipal); ok { // it holds below one's own path
			if _, r = s.judge(rp); r.Kind != blocktree.Permission {
				t.Errorf("a revocation above one's own path: %v", r.Kind)
			}
			rp.Scope = s.caller.Path
			o = rp
		}
		if _, r = s.judge(o); r.Kind != want {
			t.Errorf("%T by user id 0: %v, want %v", o, r.Kind, want)
		}
		s.caller = revoked
		if _, r = s.judge(o); r.Kind != blocktree.Unauthenticated {
			t.Errorf("%T by a revoked caller: %v", o, r.Kind)
		}
	}
	s := m.view()
	s.caller = somebody(0, 0)
	if _, r := s.judge(unjudged{}); r.Kind != blocktree.Permission || r.Hint == "" {
		t.Errorf("an op that judge does not name: %v", r.Kind)
	}
}

// unjudged is an op that judge does not name.
type unjudged struct{ Op }

// TestEveryQueryIsJudged: of each query there is a verdict; a stranger learns nothing of a closed file, an anonymous or a revoked caller nothing at all.
func TestEveryQueryIsJudged(t *testing.T) {
	domains := map[QueryKind]bool{QueryRuntimes: true, QueryStarts: true, QueryDraining: true, QueryRevoked: true, QueryBelow: true, QueryGeneration: true, QueryChildren: true, QueryUnkeyed: true} // whoever has credentials
	hosts := map[QueryKind]bool{QueryAbove: true, QueryTake: true, QueryMoves: true, QueryKnown: true}                                                                                               // sector hosts of the directory
	rights := map[QueryKind]bool{QueryStat: true, QueryStatID: true, QueryList: true, QueryFiles: true, QueryLayout: true, QueryLease: true, QueryAllowed: true, QueryToRead: true, QueryShrink: true, QueryXattrs: true}
	m := granted(t, 0o700, 0o600)
	m.must(revoke(40, 10, 100))
	revoked := somebody(0, 0)
	revoked.Chain = []blocktree.Principal{someone(40), revoked.Principal}
	for kind := QueryKind(1); kind < queryEnd; kind++ {
		if kind == QueryStatus { // answered by Group, without a state
			continue
		}
		q := Query{Kind: kind, Path: path("/d/e/f"), File: fileID(3), Time: 2}
		if kind == QueryList || kind == QueryFiles {
			q.Path = path("/d/e")
		}
		if kind == QueryRevoked {
			q.Path = ""
		}
		if kind == QueryGeneration {
			q.File.Generation = 1
		}
		if kind == QueryBelow || kind == QueryAbove || kind == QueryTake {
			q.Path = path("/d/e")
		}
		if n := map[bool]int{true: 1}; n[domains[kind]]+n[rights[kind]]+n[hosts[kind]] != 1 {
			t.Errorf("query %d has no verdict here: who may?", kind)
		}
		for name, c := range map[string]*Caller{"a stranger": somebody(10, 10), "nobody": {}, "a revoked caller": revoked} {
			want := blocktree.Permission
			if name == "a stranger" && domains[kind] {
				want = blocktree.Other
			}
			if name == "a revoked caller" && domains[kind] {
				want = blocktree.Unauthenticated
			}
			q.Caller = c
			if a := m.view().judged(q); a.Kind != want {
				t.Errorf("query %d by %s: %v, want %v", kind, name, a.Kind, want)
			}
		}
	}
}

// TestResultsHaveNoRecords: what a command answers has the access record for those only that a query gives it to.
func TestResultsHaveNoRecords(t *testing.T) {
	m := granted(t, 0o755, 0o600)
	root, stranger, maker := somebody(0, 0), somebody(10, 10), somebody(12, 12)
	m.mustAs(root, SetAttr{File: fileID(3), Mask: AttrAccess, Access: []byte("wrapped")})
	if r := m.as(stranger, 2, SetAttr{File: fileID(3)}); r.Kind == blocktree.Other || r.Inode != nil {
		t.Errorf("who sets nothing is told all: %v, %+v", r.Kind, r.Inode)
	}
	s := m.view()
	d := s.inode(fileID(2))
	d.Access, d.Mode = []byte("wrapped"), 0
	b := m.db.NewIndexedBatch()
	w := openState(b, b, spaceA)
	w.setInode(d)
	if err := b.Commit(nil); err != nil {
		t.Fatal(err)
	}
	if r := m.as(stranger, 2, MakeDir{Path: path("/d/e"), Parents: true}); r.Inode != nil && len(r.Inode.Access) > 0 {
		t.Errorf("a directory that is there: %v", r.Kind)
	}
	// The maker of a file asks again when it was taken the file: what it is told is not the record of now.
	m.mustAs(root, MakeDir{Path: path("/open"), Mode: 0o777})
	c := Command{ID: NewCommandID(), Op: with(file("/open/f"), func(o *CreateFile) { o.Mode = 0o600 }), Caller: maker, Time: 2}
	made := m.command(c)
	if made.Kind != blocktree.Other {
		t.Fatal(made.Err("create"))
	}
	m.mustAs(root, SetAttr{File: made.Inode.ID, Mask: AttrOwner | AttrAccess, UID: 7, GID: 70, Access: []byte("newer")})
	if r := m.command(c); r.Kind != blocktree.Other || len(r.Inode.Access) > 0 {
		t.Errorf("asked again: %v, record %q", r.Kind, r.Inode.Access)
	}
	c.Caller.Chain = []blocktree.Principal{someone(41)}
	m.must(revoke(41, 10, 100))
	if r := m.command(c); r.Kind != blocktree.Unauthenticated {
		t.Errorf("asked again by who is revoked: %v", r.Kind)
	}
}

// TestClaimOfWhoMayNoMore: a claimant whose right went after it had claimed is not granted the lease.
func TestClaimOfWhoMayNoMore(t *testing.T) {
	m := granted(t, 0o755, 0o600)
	root, holder, claimant := somebody(0, 0), somebody(7, 70), somebody(11, 11)
	f := fileID(3)
	m.mustAs(root, PutGrant{f, grantTo(claimant, RightsHold)})
	for _, c := range []*Caller{holder, claimant} {
		m.mustAs(c, OpenSession{Session: session(int(c.UID)), Principal: c.Principal, Path: c.Path})
	}
	l := m.mustAs(holder, Acquire{session(7), f}).Lease
	m.mustAs(claimant, ClaimLease{session(11), f, l.Epoch})
	m.mustAs(root, RemoveGrant{f, Subject{Principal: claimant.Principal}})
	end := EndClaim{File: f, Epoch: l.Epoch, Session: session(11), Asked: 1 << 62, Grant: true}
	if r := m.must(end); r.Lease == nil || r.Lease.Session != session(7) {
		t.Errorf("granted to who may not hold it: %+v", r.Lease)
	}
	if now := m.view().lease(f); now == nil || now.Session != session(7) {
		t.Errorf("the holder has lost it: %+v", now)
	}
	if r := m.mustAs(holder, RenewSession{session(7)}); len(r.Firm) != 1 {
		t.Errorf("the claim stays: %+v", r)
	}
}

// TestHostIsAtItsPath: who has the key of a sector host and credentials for another path, as where the key was stolen and revoked at the host's, is none.
func TestHostIsAtItsPath(t *testing.T) {
	m := founded(t, 3)
	s := m.view()
	c := &Caller{Principal: host(1).Principal, Path: host(1).Path, UID: 12, GID: 12}
	if !s.isHost(c) {
		t.Error("a host is none")
	}
	c.Path = path("/elsewhere")
	if s.isHost(c) {
		t.Error("a host at another path")
	}
	o := revoke(1, 10, 100)
	o.Principal, o.Scope = host(1).Principal, host(1).Path
	m.must(o)
	c.Path, c.Chain = host(1).Path, []blocktree.Principal{host(1).Principal}
	if m.view().isHost(c) {
		t.Error("a host that is revoked")
	}
}

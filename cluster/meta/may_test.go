package meta

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"blocktree"
)

// somebody is a caller with user id, group id and further groups, at /somebody<uid>.
func somebody(uid, gid uint32, groups ...uint32) *Caller {
	return &Caller{Principal: blocktree.PrincipalOf([]byte(fmt.Sprint("user", uid))), Path: path(fmt.Sprintf("/somebody%d", uid)), UID: uid, GID: gid, Groups: groups}
}

// grantTo is what a caller's principal is given.
func grantTo(c *Caller, r Rights) Grant {
	return Grant{Subject: Subject{Principal: c.Principal}, Rights: r}
}

// granted is a founded machine with /d/e/f, where inode 1 is d, 2 is e, 3 is f; all belong to 7:70.
func granted(t testing.TB, dirMode, fileMode uint32) *machine {
	m := founded(t, 3)
	root := somebody(0, 0)
	m.mustAs(root, MakeDir{Path: path("/d/e"), Parents: true, Mode: dirMode, UID: 7, GID: 70})
	m.mustAs(root, with(file("/d/e/f"), func(o *CreateFile) { o.Mode, o.UID, o.GID = fileMode, 7, 70 }))
	return m
}

// TestMay: whoever asks, and whatever mode and grants there are, the rights are those of the rules.
func TestMay(t *testing.T) {
	owner, member, guest, stranger := somebody(7, 1), somebody(8, 70), somebody(9, 1, 3, 70), somebody(10, 10)
	const d, e, f = 1, 2, 3
	rw := RightRead | RightWrite | RightLease
	for _, x := range []struct {
		name   string
		mode   uint32
		on     int // inode of the grant; 0: none
		grant  Grant
		caller *Caller
		now    int64
		want   Rights
	}{
		{"root", 0, 0, Grant{}, somebody(0, 0), 1, rightsAll},
		{"the cluster", 0, 0, Grant{}, nil, 1, rightsAll},
		{"owner", 0o640, 0, Grant{}, owner, 1, rw | RightAdmin},
		{"owner without bits", 0o077, 0, Grant{}, owner, 1, RightAdmin},
		{"group", 0o640, 0, Grant{}, member, 1, RightRead},
		{"further group", 0o620, 0, Grant{}, guest, 1, RightWrite | RightLease},
		{"group counts before others", 0o607, 0, Grant{}, member, 1, 0},
		{"others", 0o604, 0, Grant{}, stranger, 1, RightRead},
		{"others nothing", 0o660, 0, Grant{}, stranger, 1, 0},
		{"execute is nothing", 0o111, 0, Grant{}, stranger, 1, 0},
		{"anonymous", 0o777, 0, Grant{}, &Caller{}, 1, RightRead},
		{"anonymous kept out", 0o770, 0, Grant{}, &Caller{}, 1, 0},
		{"granted", 0, f, grantTo(stranger, RightRead), stranger, 1, RightRead},
		{"granted above", 0, d, grantTo(stranger, rw), stranger, 1, rw},
		{"granted to another", 0, d, grantTo(member, rw), stranger, 1, 0},
		{"granted by path", 0, e, Grant{Subject: Subject{Path: stranger.Path}, Rights: RightRead}, stranger, 1, RightRead},
		{"granted by a path above", 0, e, Grant{Subject: Subject{Path: rootDir}, Rights: RightRead}, stranger, 1, RightRead},
		{"granted by a path beside", 0, e, Grant{Subject: Subject{Path: path("/somebody1")}, Rights: RightRead}, stranger, 1, 0},
		{"granted to all is not to nobody", 0, e, Grant{Subject: Subject{Path: rootDir}, Rights: RightRead}, &Caller{}, 1, 0},
		{"granted until then", 0, f, Grant{Subject{Principal: stranger.Principal}, RightRead, 100}, stranger, 99, RightRead},
		{"granted until now", 0, f, Grant{Subject{Principal: stranger.Principal}, RightRead, 100}, stranger, 100, 0},
		{"a grant adds", 0o604, f, grantTo(stranger, RightLease), stranger, 1, RightRead | RightLease},
	} {
		m := granted(t, 0o777, x.mode)
		if x.on > 0 {
			m.mustAs(somebody(0, 0), PutGrant{fileID(x.on), x.grant})
		}
		s := m.view()
		i := s.inode(fileID(f))
		if got := s.rights(x.caller, i, x.now); got != x.want || s.err != nil {
			t.Errorf("%s: %v, want %v, %v", x.name, got, x.want, s.err)
		}
		for _, n := range rightNames {
			if s.may(x.caller, i, n.right, x.now) != (x.want&n.right != 0) {
				t.Errorf("%s: may %s", x.name, n.name)
			}
		}
		m.close()
	}
}

// TestAnonymousNeedsParents: every directory up to the root must let others read, for an anonymous caller alone.
func TestAnonymousNeedsParents(t *testing.T) {
	for closed := range 4 { // which of the root, d and e keeps others out; 3: none
		m := granted(t, 0o755, 0o644)
		if closed < 3 {
			m.mustAs(somebody(0, 0), SetAttr{File: fileID(closed), Mask: AttrMode, Mode: 0o751})
		}
		s := m.view()
		i := s.inode(fileID(3))
		if got, want := s.rights(&Caller{}, i, 1) == RightRead, closed == 3; got != want {
			t.Errorf("%d closed: anonymous reads: %v", closed, got)
		}
		if s.rights(somebody(10, 10), i, 1) != RightRead {
			t.Errorf("%d closed: a caller with credentials needs no parents", closed)
		}
		m.close()
	}
}

// TestJudged: each op by whoever may and by whoever may not; what is refused changes nothing.
func TestJudged(t *testing.T) {
	root, owner, member, stranger, reader := somebody(0, 0), somebody(7, 1, 5), somebody(8, 70), somebody(10, 10), somebody(11, 11)
	node1 := &Caller{Principal: host(1).Principal, Path: host(1).Path, UID: 12, GID: 12}
	f, e := fileID(3), fileID(2)
	opened := func(c *Caller) Op {
		return OpenSession{Session: session(int(c.UID)), Principal: c.Principal, Path: c.Path}
	}
	for _, x := range []struct {
		name   string
		caller *Caller
		op     func(c *Caller) Op
		kind   blocktree.Kind
	}{
		{"make in an open directory", stranger, func(*Caller) Op { return MakeDir{Path: path("/open/x"), Mode: 0o700} }, 0},
		{"make in a closed one", stranger, func(*Caller) Op { return MakeDir{Path: path("/d/e/x")} }, blocktree.Permission},
		{"make far beneath a closed one", stranger, func(*Caller) Op { return MakeDir{Path: path("/d/e/x/y"), Parents: true} }, blocktree.Permission},
		{"make as owner", owner, func(*Caller) Op { return file("/d/e/x") }, 0},
		{"make flush as stranger", stranger, func(*Caller) Op { return CreateFlushFile{file("/d/e/x")} }, blocktree.Permission},
		{"make with a wild mode", root, func(*Caller) Op { return MakeDir{Path: path("/open/x"), Mode: 0o1777} }, blocktree.Invalid},
		{"remove as group", member, func(*Caller) Op { return Remove{Path: path("/d/e/f")} }, blocktree.Permission},
		{"remove as owner", owner, func(*Caller) Op { return Remove{Path: path("/d/e/f")} }, 0},
		{"remove what is not there", stranger, func(*Caller) Op { return Remove{Path: path("/d/e/no")} }, blocktree.Permission},
		{"mode as owner", owner, func(*Caller) Op { return SetAttr{File: f, Mask: AttrMode, Mode: 0o600} }, 0},
		{"mode as group", member, func(*Caller) Op { return SetAttr{File: f, Mask: AttrMode, Mode: 0o600} }, blocktree.Permission},
		{"owner as owner", owner, func(*Caller) Op { return SetAttr{File: f, Mask: AttrOwner, UID: 8, GID: 70} }, blocktree.Permission},
		{"group as owner in it", owner, func(*Caller) Op { return SetAttr{File: f, Mask: AttrOwner, UID: 7, GID: 5} }, 0},
		{"group as owner not in it", owner, func(*Caller) Op { return SetAttr{File: f, Mask: AttrOwner, UID: 7, GID: 6} }, blocktree.Permission},
		{"owner as root", root, func(*Caller) Op { return SetAttr{File: f, Mask: AttrOwner, UID: 8, GID: 6} }, 0},
		{"keys as reader", reader, func(*Caller) Op { return SetAttr{File: f, Mask: AttrAccess} }, blocktree.Permission},
		{"grant as owner", owner, func(*Caller) Op { return PutGrant{f, grantTo(stranger, RightRead)} }, 0},
		{"grant as reader", reader, func(*Caller) Op { return PutGrant{f, grantTo(stranger, RightRead)} }, blocktree.Permission},
		{"grant that has ended", owner, func(*Caller) Op { return PutGrant{f, Grant{Subject{Path: rootDir}, RightRead, 1}} }, blocktree.Invalid},
		{"revoke as reader", reader, func(c *Caller) Op { return RemoveGrant{f, Subject{Principal: c.Principal}} }, blocktree.Permission},
		{"revoke what was not granted", owner, func(c *Caller) Op { return RemoveGrant{e, Subject{Principal: c.Principal}} }, blocktree.NotFound},
		{"hold as owner", owner, func(c *Caller) Op { return Acquire{session(int(c.UID)), f} }, 0},
		{"hold as reader", reader, func(c *Caller) Op { return Acquire{session(int(c.UID)), f} }, blocktree.Permission},
		{"hold as a node", node1, func(c *Caller) Op { return Acquire{session(int(c.UID)), f} }, 0},
		{"make as a node", node1, func(*Caller) Op { return MakeDir{Path: path("/d/x")} }, blocktree.Permission},
		{"claim as reader", reader, func(c *Caller) Op { return ClaimLease{session(int(c.UID)), f, 1} }, blocktree.Permission},
		{"grow as reader", reader, func(*Caller) Op { return Resize{File: f, SizeBytes: 1 << 30} }, blocktree.Permission},
		{"drain as owner", owner, func(*Caller) Op { return DrainHost{Path: host(1).Path, Node: 1} }, blocktree.Permission},
		{"replace as a node", node1, func(*Caller) Op { return ReplaceHost{Path: host(1).Path, Old: 1, New: 9} }, blocktree.Permission},
		{"a session of nobody", &Caller{}, func(*Caller) Op { return OpenSession{Session: session(50)} }, blocktree.Permission},
		{"make as nobody", &Caller{}, func(*Caller) Op { return MakeDir{Path: path("/open/x")} }, blocktree.Permission},
	} {
		m := granted(t, 0o750, 0o640)
		m.mustAs(root, MakeDir{Path: path("/open"), Mode: 0o777})
		m.mustAs(root, PutGrant{f, grantTo(reader, RightRead)})
		if !x.caller.Anonymous() {
			m.mustAs(x.caller, opened(x.caller))
		}
		o := x.op(x.caller)
		before := m.hash()
		r := m.as(x.caller, 2, o)
		if r.Kind != x.kind {
			t.Errorf("%s: %v", x.name, r.Err("apply"))
		}
		if r.Kind == blocktree.Permission && (r.Text == "" || r.Hint == "") {
			t.Errorf("%s: %q, hint %q", x.name, r.Text, r.Hint)
		}
		if remembersRefusal(o) && x.kind != 0 {
			m.unremember()
		}
		if x.kind != 0 && m.hash() != before {
			t.Errorf("%s: refused, and something changed", x.name)
		}
		m.close()
	}
}

// TestOwnersOfNewFiles: whoever makes something owns it, whatever it says, unless it has user id 0.
func TestOwnersOfNewFiles(t *testing.T) {
	m := founded(t, 3)
	m.mustAs(somebody(0, 0), MakeDir{Path: path("/open"), Mode: 0o777})
	for i, x := range []struct {
		caller   *Caller
		uid, gid uint32
	}{{somebody(0, 0), 3, 4}, {somebody(7, 70), 7, 70}, {somebody(8, 70, 4), 8, 4}} {
		r := m.mustAs(x.caller, with(file(fmt.Sprintf("/open/%d/f", i)), func(o *CreateFile) { o.UID, o.GID = 3, 4 }))
		if r.Inode.UID != x.uid || r.Inode.GID != x.gid {
			t.Errorf("%v: %d:%d", x.caller, r.Inode.UID, r.Inode.GID)
		}
	}
}

// TestGrantsAreBounded: one for each subject, GrantsMax in all; those that have ended make room.
func TestGrantsAreBounded(t *testing.T) {
	m := granted(t, 0, 0)
	root := somebody(0, 0)
	for i := range GrantsMax {
		g := Grant{Subject{Path: path(fmt.Sprintf("/r%d", i))}, RightRead, 0}
		if i == 5 {
			g.Until = 10
		}
		m.mustAs(root, PutGrant{fileID(3), g})
		m.mustAs(root, PutGrant{fileID(3), g})
	}
	more := PutGrant{fileID(3), Grant{Subject{Path: path("/more")}, RightRead, 0}}
	if r := m.as(root, 9, more); r.Kind != blocktree.NoSpace {
		t.Fatal(r.Kind)
	}
	if r := m.as(root, 10, more); r.Kind != 0 {
		t.Fatal(r.Err("grant"))
	}
}

// TestRightsNumber: it counts what takes away, and nothing else; whoever was taken a right is told who did.
func TestRightsNumber(t *testing.T) {
	m := granted(t, 0o755, 0o640)
	root, reader := somebody(0, 0), somebody(11, 11)
	number := func(o Op, more uint64) {
		t.Helper()
		before := m.view().counts.rights
		m.mustAs(root, o)
		if got := m.view().counts.rights - before; got != more || !m.last.Rights {
			t.Errorf("%T counts %d, told %v", o, got, m.last.Rights)
		}
	}
	number(PutGrant{fileID(3), grantTo(reader, RightRead|RightList)}, 0)
	number(PutGrant{fileID(3), grantTo(reader, RightRead|RightList|RightWrite)}, 0)
	number(PutGrant{fileID(3), grantTo(reader, RightRead|RightWrite)}, 1)
	number(PutGrant{fileID(3), Grant{Subject{Principal: reader.Principal}, RightRead | RightWrite, 50}}, 1)
	number(SetAttr{File: fileID(3), Mask: AttrMode, Mode: 0o600}, 1)
	number(RemoveGrant{fileID(3), Subject{Principal: reader.Principal}}, 1)
	s := m.view()
	if r := s.denied(reader, s.inode(fileID(3)), RightRead, 2); !strings.Contains(r.Text, "/somebody0 has revoked read,write") {
		t.Errorf("%q", r.Text)
	}
	if r := s.denied(somebody(12, 12), s.inode(fileID(3)), RightRead, 2); strings.Contains(r.Text, "revoked") {
		t.Errorf("a stranger is told %q", r.Text)
	}
}

// TestRevokedHolder: the lease of a holder that may not hold its file any more is confirmed no more, is not another's before the leader ends it, and then is.
func TestRevokedHolder(t *testing.T) {
	root, holder, heir := somebody(0, 0), somebody(11, 11), somebody(12, 12)
	f := fileID(3)
	for name, take := range map[string]Op{
		"grant":             RemoveGrant{fileID(1), Subject{Principal: holder.Principal}},
		"narrowed":          PutGrant{fileID(1), grantTo(holder, RightRead)},
		"grant of the path": nil,
	} {
		m := granted(t, 0o755, 0o640)
		grant := PutGrant{fileID(1), grantTo(holder, RightsHold)}
		if take == nil {
			grant.Grant.Subject = Subject{Path: holder.Path}
			take = RemoveGrant{fileID(1), grant.Grant.Subject}
		}
		m.mustAs(root, grant)
		m.mustAs(root, PutGrant{fileID(2), grantTo(heir, RightsHold)})
		for _, c := range []*Caller{holder, heir} {
			m.mustAs(c, OpenSession{Session: session(int(c.UID)), Principal: c.Principal, Path: c.Path})
		}
		l := m.mustAs(holder, Acquire{session(11), f}).Lease
		if r := m.mustAs(holder, RenewSession{session(11)}); r.Claimed {
			t.Fatalf("%s: %+v", name, r)
		}
		m.mustAs(root, take)
		if r := m.mustAs(holder, RenewSession{session(11)}); !r.Claimed || len(r.Firm) != 0 {
			t.Errorf("%s: the lease is confirmed: %+v", name, r)
		}
		if r := m.as(holder, 3, Acquire{session(11), f}); r.Kind != blocktree.Permission {
			t.Errorf("%s: acquired again: %v", name, r.Kind)
		}
		if r := m.as(heir, 3, Acquire{session(12), f}); r.Kind != blocktree.Busy {
			t.Errorf("%s: another has it at once: %v", name, r.Kind)
		}
		if r := m.as(heir, 3, ClaimLease{session(12), f, l.Epoch}); r.Kind != 0 {
			t.Errorf("%s: %v", name, r.Err("claim"))
		}
		if r := m.do(EndClaim{File: f, Epoch: l.Epoch, Asked: 1}); r.Kind != blocktree.Busy {
			t.Errorf("%s: it lapsed: %v", name, r.Kind)
		}
		m.must(EndClaim{File: f, Epoch: l.Epoch, Asked: 1, Grant: true})
		if r := m.as(heir, 3, Acquire{session(12), f}); r.Kind != 0 || r.Lease.Epoch <= l.Epoch {
			t.Errorf("%s: %v", name, r.Err("acquire"))
		}
		if x := m.view().session(session(11)); x.Leases != 0 {
			t.Errorf("%s: %d leases", name, x.Leases)
		}
		m.close()
	}
}

// TestGrantThatEnds: a holder whose grant has ended keeps the lease until somebody else wants it.
func TestGrantThatEnds(t *testing.T) {
	m := granted(t, 0o755, 0o640)
	root, holder, heir := somebody(0, 0), somebody(11, 11), somebody(7, 1)
	m.mustAs(root, PutGrant{fileID(3), Grant{Subject{Principal: holder.Principal}, RightsHold, 100}})
	for _, c := range []*Caller{holder, heir} {
		m.mustAs(c, OpenSession{Session: session(int(c.UID)), Principal: c.Principal, Path: c.Path})
	}
	m.mustAs(holder, Acquire{session(11), fileID(3)})
	for _, now := range []int64{99, 100} {
		m.as(heir, now, Acquire{session(7), fileID(3)})
		s := m.view()
		if claimed := s.claim(s.lease(fileID(3))) != nil; claimed != (now == 100) {
			t.Errorf("at %d: claimed %v", now, claimed)
		}
	}
}

// TestNarrowedCredentials: a holder whose session is renewed by credentials that give less may not hold what these do not let it.
func TestNarrowedCredentials(t *testing.T) {
	m := granted(t, 0o755, 0o640)
	c := somebody(7, 1)
	m.mustAs(c, OpenSession{Session: session(7), Principal: c.Principal, Path: c.Path})
	m.mustAs(c, Acquire{session(7), fileID(3)})
	c.UID = 20
	if r := m.mustAs(c, RenewSession{session(7)}); !r.Claimed || len(r.Firm) > 0 {
		t.Errorf("%+v", r)
	}
}

// TestOldCommandsAreDone: commands without a caller, of which an older log is, are not judged, and do what they did.
func TestOldCommandsAreDone(t *testing.T) {
	m := founded(t, 3)
	m.must(MakeDir{Path: path("/d"), Mode: 0})
	m.must(with(file("/d/f"), func(o *CreateFile) { o.Mode, o.UID = 0o1777, 9 }))
	if i := m.view().inode(fileID(2)); i.Mode != 0o1777 || i.UID != 9 {
		t.Errorf("%+v", i)
	}
	m.must(open(1))
	m.must(Acquire{session(1), fileID(2)})
	m.must(Release{session(1), fileID(2), 1})
	m.must(Remove{Path: path("/d/f")})
}

// TestParentsOfOldStores: the first command with a caller makes the parent index of a store that has none; from then on it is kept.
func TestParentsOfOldStores(t *testing.T) {
	m := founded(t, 3)
	b := m.db.NewIndexedBatch()
	s := openState(b, b, spaceA)
	s.counts.parents = false
	s.saveCounters()
	if err := b.Commit(nil); err != nil {
		t.Fatal(err)
	}
	m.must(file("/d/e/f"))
	if _, ok := m.view().parent(fileID(3).Inode); ok {
		t.Fatal("the store is not an old one")
	}
	root, c := somebody(0, 0), somebody(10, 10)
	m.mustAs(root, file("/d/e/g"))
	m.mustAs(root, PutGrant{fileID(1), grantTo(c, RightRead)})
	for i := 3; i <= 4; i++ {
		if s := m.view(); !s.may(c, s.inode(fileID(i)), RightRead, 1) {
			t.Errorf("inode %d is not beneath /d", i)
		}
	}
	m.mustAs(root, Remove{Path: path("/d/e/g")})
	if _, ok := m.view().parent(fileID(4).Inode); ok {
		t.Error("a parent of what was removed")
	}
}

// TestMakersHearOfNothing (P3 of 0068): who may make what is not there is told that it is not, as making it would tell; of what is there he is told nothing.
func TestMakersHearOfNothing(t *testing.T) {
	m := granted(t, 0o733, 0o600)
	for short, want := range map[string]blocktree.Kind{"/d/e/no": blocktree.NotFound, "/d/e/f": blocktree.Permission} {
		q := Query{Kind: QueryAllowed, Path: path(short), Caller: somebody(10, 10), Time: 1}
		if a := m.view().judged(q); a.Kind != want {
			t.Errorf("%s: %v", short, a.Err("query"))
		}
	}
}

// TestAnswersAreJudged: what a query tells to whom.
func TestAnswersAreJudged(t *testing.T) {
	m := granted(t, 0o750, 0o640)
	root, owner, member, stranger, reader := somebody(0, 0), somebody(7, 1), somebody(8, 70), somebody(10, 10), somebody(11, 11)
	m.mustAs(root, PutGrant{fileID(3), grantTo(reader, RightRead)})
	m.mustAs(root, PutGrant{fileID(3), grantTo(member, RightLease)})
	m.mustAs(root, SetAttr{File: fileID(3), Mask: AttrAccess, Access: []byte("wrapped")})
	stat, list := Query{Kind: QueryStat, Path: path("/d/e/f")}, Query{Kind: QueryList, Path: path("/d/e")}
	missing := Query{Kind: QueryStat, Path: path("/d/e/no")}
	for _, x := range []struct {
		name   string
		q      Query
		caller *Caller
		kind   blocktree.Kind
	}{
		{"stat by a right on the file", stat, reader, 0},
		{"stat by list on the directory", Query{Kind: QueryStat, Path: path("/d")}, stranger, 0},
		{"stat by nothing", stat, stranger, blocktree.Permission},
		{"stat of nothing, to who may list", missing, member, blocktree.NotFound},
		{"stat of nothing, to others", missing, stranger, blocktree.Permission},
		{"list as group", list, member, 0},
		{"list as reader of one file", list, reader, blocktree.Permission},
		{"list as nobody", list, &Caller{}, blocktree.Permission},
		{"layout by a right on the file", Query{Kind: QueryLayout, File: fileID(3)}, reader, 0},
		{"layout by nothing", Query{Kind: QueryLayout, File: fileID(3)}, stranger, blocktree.Permission},
		{"lease by nothing", Query{Kind: QueryLease, File: fileID(3)}, stranger, blocktree.Permission},
		{"access by nothing", Query{Kind: QueryAllowed, Path: path("/d/e/f")}, stranger, blocktree.Permission},
		{"access that is wanted", Query{Kind: QueryAllowed, Path: path("/d/e/f"), Want: RightRead}, reader, 0},
		{"access that is not had", Query{Kind: QueryAllowed, Path: path("/d/e/f"), Want: RightsHold}, reader, blocktree.Permission},
		{"to read, by a right on the file", Query{Kind: QueryToRead, File: fileID(3), Want: RightRead}, reader, 0},
		{"to read, by nothing", Query{Kind: QueryToRead, File: fileID(3)}, stranger, blocktree.Permission},
		{"to read, without that right", Query{Kind: QueryToRead, File: fileID(3), Want: RightRead}, somebody(8, 71), blocktree.Permission},
		{"layout as a node", Query{Kind: QueryLayout, File: fileID(3)}, &Caller{Principal: host(1).Principal, Path: host(1).Path, UID: 12, GID: 12}, 0},
		{"stat as a node", stat, &Caller{Principal: host(1).Principal, Path: host(1).Path, UID: 12, GID: 12}, blocktree.Permission},
		{"records", Query{Kind: QueryRuntimes}, stranger, 0},
		{"records as nobody", Query{Kind: QueryRuntimes}, &Caller{}, blocktree.Permission},
	} {
		x.q.Caller, x.q.Time = x.caller, 1
		if a := m.view().judged(x.q); a.Kind != x.kind {
			t.Errorf("%s: %v", x.name, a.Err("query"))
		}
	}
	for c, want := range map[*Caller]Rights{root: rightsAll, owner: RightsHold | RightAdmin, reader: RightRead, member: RightRead | RightLease} {
		a := m.view().judged(Query{Kind: QueryAllowed, File: fileID(3), Caller: c, Time: 1})
		if a.Allowed == nil || a.Allowed.Rights != want || len(a.Allowed.Grants) != 2 || a.Inode == nil {
			t.Errorf("%v: %+v", c, a.Allowed)
		}
	}
	one := Query{Kind: QueryToRead, Path: path("/d/e"), File: fileID(3), Want: RightRead, Caller: reader, Time: 1} // whatever else it names
	both := Query{Kind: QueryAllowed, File: fileID(3), Want: RightRead, Caller: reader, Time: 1}
	a, allowed, layout := m.view().judged(one), m.view().judged(both), m.view().judged(Query{Kind: QueryLayout, File: fileID(3), Caller: reader, Time: 1})
	if allowed.Layout = layout.Layout; a.Layout == nil || !reflect.DeepEqual(a, allowed) {
		t.Errorf("to read: %+v, not %+v", a, allowed)
	}
	m.mustAs(root, SetAttr{File: fileID(3), Mask: AttrMode, Mode: 0o600})
	stat.Caller, stat.Time = member, 1
	if a := m.view().judged(stat); a.Inode == nil || len(a.Inode.Access) > 0 {
		t.Errorf("whoever may only lease is given the keys: %+v", a.Inode)
	}
}

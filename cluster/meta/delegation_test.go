package meta

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"blocktree"
)

// below is the i-th sector host of /rack, with store 20+i.
func below(i int) blocktree.Runtime {
	r := host(20 + i)
	r.Path = path(fmt.Sprintf("/rack/node%d", i))
	return r
}

// hostCaller is a sector host as it asks itself.
func hostCaller(r blocktree.Runtime) *Caller {
	return &Caller{Principal: r.Principal, Path: r.Path, UID: 30, GID: 30}
}

// racked is a root cluster with /rack (inode 1), /rack/sub (2), /rack/f (3), /rack/sub/g (4), /vm (5), /vm/h (6), and records of two sector hosts below /rack.
func racked(t *testing.T) *machine {
	m := founded(t, 3)
	m.must(MakeDir{Path: path("/rack/sub"), Parents: true, Mode: 0o755})
	m.must(file("/rack/f"))
	m.must(file("/rack/sub/g"))
	m.must(file("/vm/h"))
	m.must(PutBelow{below(1)})
	m.must(PutBelow{below(2)})
	return m
}

// delegatedTo is racked with /rack delegated to the cluster that its first host founds.
func delegatedTo(t *testing.T) *machine {
	m := racked(t)
	delegateTo(m)
	return m
}

func delegateTo(m *machine) {
	first := hostCaller(below(1))
	g := m.mustAs(first, AssignGeneration{path("/rack"), below(1).Node}).Generation
	m.mustAs(first, Delegate{path("/rack"), g, below(1).Node})
}

// childOf is the cluster of /rack, which is taking over.
func childOf(t *testing.T, parent *machine) *machine {
	m := newMachine(t)
	m.must(FoundChild{Found{Dir: path("/rack"), Generation: 2, Runtimes: []blocktree.Runtime{below(1)}, Mode: 0o755}})
	a := parent.view().judged(Query{Kind: QueryAbove, Path: path("/rack"), Caller: hostCaller(below(1))})
	if a.Above == nil {
		t.Fatal(a.Err("above"))
	}
	a.Above.Number = parent.index
	m.must(SetAbove{*a.Above})
	return m
}

// takeAll moves the entries of dir over, as a founder does.
func takeAll(t *testing.T, parent, child *machine, dir blocktree.Path, limit int) {
	t.Helper()
	for after := ""; ; {
		a := parent.view().judged(Query{Kind: QueryTake, Path: dir, After: after, Limit: limit, Caller: hostCaller(below(1))})
		if err := a.Err("take"); err != nil {
			t.Fatal(err)
		}
		child.must(TakeEntries{dir, a.Taken, a.Runtimes})
		for _, x := range a.Taken {
			if x.Inode.Kind == KindDir && x.Inode.Delegation == nil {
				takeAll(t, parent, child, dir.Join(x.Name), limit)
			}
			after = x.Name
		}
		if !a.More {
			return
		}
	}
}

// family is a parent and its child after everything has moved over.
func family(t *testing.T) (parent, child *machine) {
	parent = delegatedTo(t)
	child = childOf(t, parent)
	takeAll(t, parent, child, path("/rack"), 1)
	child.must(EndTaking{})
	child.must(EndTaking{Answer: true})
	first := hostCaller(below(1))
	parent.mustAs(first, HandOver{path("/rack"), 2})
	parent.mustAs(first, DropMoved{path("/rack"), 2})
	return parent, child
}

// where says who answers: here, up, down, or nobody for now.
func where(k blocktree.Kind, r *Redirect) string {
	switch {
	case r == nil && k == blocktree.Elsewhere, r != nil && k != blocktree.Elsewhere:
		return "broken"
	case r == nil:
		return "here"
	case r.File != (blocktree.FileID{}):
		return "home"
	case r.Dir == rootDir:
		return "up"
	}
	return "down"
}

// aboutPath has an op about p, and p again about a runtime there; aboutFile one about a file. Ops that are in none of the three are about the cluster itself.
func aboutPath(p blocktree.Path) []Op {
	f := file("/x")
	f.Path = p
	return []Op{MakeDir{Path: p}, f, CreateFlushFile{f}, CreateTreeFile{CreateFile: f, TreeBytes: 1 << 20}, CreateHeld{CreateFile: f}, MakeDirKept{MakeDir: MakeDir{Path: p}}, NameFile{CreateFile: f}, Remove{Path: p}, Symlink{Path: p, Target: "x"}, DropEntry{Path: p}, BeginMove{CreateTreeFile: CreateTreeFile{CreateFile: f}, From: blocktree.FileID{Generation: 9, Inode: 9}},
		PutBelow{with(below(9), func(r *blocktree.Runtime) { r.Path = p.Join("n") })}, RemoveBelow{p.Join("n")}, Delegate{Dir: p}, HandOver{Dir: p}, HandOverSum{Dir: p}, DropMoved{Dir: p}, TakeBack{Dir: p},
		Rename{From: p, To: path("/vm/other")}, Rename{From: p, To: p.Parent().Join("other")}, RenameOver{Rename: Rename{From: p, To: p.Parent().Join("other")}}, Unlink{Path: p, File: fileID(77)}}
}

func aboutHost(p blocktree.Path) []Op {
	return []Op{PutRuntime{with(below(9), func(r *blocktree.Runtime) { r.Path = p })}, RemoveRuntime{p}, ReplaceHost{Path: p}, RetireHost{Path: p}, DrainHost{Path: p}}
}

func aboutFile(f blocktree.FileID) []Op {
	var cv ChangeView
	cv.Change.File = f
	return []Op{SetAttr{File: f}, Acquire{File: f}, Release{File: f}, cv, ClaimLease{File: f}, EndClaim{File: f}, Resize{File: f}, PutGrant{f, Grant{Subject{Path: rootDir}, RightRead, 0}},
		RemoveGrant{f, Subject{Path: rootDir}}, SetAccess{File: f}, NoteAccess{File: f}, Anchor{File: f}, RemoveMoved{f}, ResizeTree{Resize{File: f}}, SetLength{File: f},
		DropCopy{f}, Depart{File: f}, Stay{File: f}, Adopt{File: f}, RemoveLeft{File: f}, EndMove{f}, AskShrink{File: f}, AskShrinkTree{AskShrink{File: f}}, SetEnd{File: f},
		Touch{File: f}, ReleaseAt{Release{File: f}, 1}, SetTimes{File: f}, SetXattr{File: f, Name: "user.x"}, PutXattrs{File: f}, ReleaseEnd{Release{File: f}, 0, 1, 1}, Forget{File: f}, Want{f}}
}

// ofTheCluster are about no path and no file, wherever they are asked; AssignGeneration is the root cluster's.
func ofTheCluster() []Op {
	return []Op{Found{Dir: rootDir, Generation: 1}, StartNode{}, OpenSession{}, RenewSession{}, CloseSession{}, ExpireSession{}, LeaveViews{}, StartVolatile{}, RevokePrincipal{},
		FoundChild{}, SetAbove{}, TakeEntries{}, EndTaking{}, Leave{}, MakeSpares{N: 1}}
}

// TestEveryOpIsRedirected: each op about something that another cluster keeps is redirected there, and changes nothing; each other is not.
func TestEveryOpIsRedirected(t *testing.T) {
	parent, child := family(t)
	seen := map[opcode]bool{opAssignGeneration: true}
	check := func(what string, m *machine, ops []Op, want string) {
		t.Helper()
		for _, o := range ops {
			seen[o.opcode()] = true
			before := m.hash()
			r := m.do(o)
			if got := where(r.Kind, r.Redirect); got != want {
				t.Errorf("%s: %T is answered %s, not %s: %v", what, o, got, want, r.Err("op"))
			}
			if want != "here" && m.hash() != before {
				t.Errorf("%s: %T changed something", what, o)
			}
		}
	}
	check("behind a delegated directory", parent, aboutPath(path("/rack/sub/x")), "down")
	check("deep behind it", parent, aboutPath(path("/rack/a/b/c")), "down")
	check("a host of it", parent, aboutHost(path("/rack/node1")), "down")
	check("a host behind it", parent, aboutHost(path("/rack/sub/node1")), "down")
	check("a file of the child", parent, aboutFile(blocktree.FileID{Generation: 2, Inode: 9}), "down")
	check("a path beside the child", child, aboutPath(path("/vm/x")), "up")
	check("the child's own directory", child, aboutPath(path("/rack")), "up")
	check("a host of the parent", child, aboutHost(path("/node1")), "up")
	check("a file of the parent", child, aboutFile(fileID(6)), "up")
	check("the root's", child, []Op{AssignGeneration{path("/rack/sub"), 9}}, "up")
	check("a moved file", child, []Op{Remove{Path: path("/rack/f")}}, "home")
	check("the child's", child, append(aboutPath(path("/rack/y")), aboutHost(path("/rack/node9"))...), "here")
	check("the child's files", child, aboutFile(blocktree.FileID{Generation: 2, Inode: 99}), "here")
	check("the parent's", parent, append(aboutPath(path("/vm/y")), aboutHost(path("/node9"))...), "here")
	check("the parent's files", parent, aboutFile(fileID(99)), "here")
	check("of nobody", parent, aboutFile(blocktree.FileID{Generation: 77, Inode: 3}), "here")
	check("the inode of the directory", parent, []Op{MakeDir{Path: path("/rack")}, Remove{Path: path("/rack")}, file("/rack"), RemoveBelow{below(1).Path}, Rename{From: path("/rack"), To: path("/rock")}}, "here")
	for _, m := range []*machine{parent, child} {
		check("of the cluster", m, ofTheCluster(), "here")
	}
	for code := opcode(1); code < opEnd; code++ {
		if !seen[code] {
			t.Errorf("of opcode %d it is not said where it is answered", code)
		}
	}
}

// TestEveryQueryIsRedirected: as for ops, whoever asks.
func TestEveryQueryIsRedirected(t *testing.T) {
	parent, child := family(t)
	byPath := map[QueryKind]bool{QueryStat: true, QueryList: true, QueryFiles: true, QueryAllowed: true, QueryBelow: true, QueryAbove: true, QueryXattrs: true, QueryUnkeyed: true}
	byFile := map[QueryKind]bool{QueryStatID: true, QueryToRead: true, QueryLayout: true, QueryLease: true, QueryAllowed: true, QueryShrink: true, QueryXattrs: true}
	here := map[QueryKind]bool{QueryRuntimes: true, QueryStatus: true, QueryStarts: true, QueryDraining: true, QueryRevoked: true, QueryTake: true, QueryGeneration: true, QueryMoves: true, QueryChildren: true, QueryKnown: true}
	ask := func(m *machine, q Query, want string) {
		t.Helper()
		for name, c := range map[string]*Caller{"the cluster": nil, "user id 0": somebody(0, 0), "a stranger": somebody(10, 10)} {
			q.Caller = c
			a := m.view().judged(q)
			if got := where(a.Kind, a.Redirect); got != want {
				t.Errorf("query %d of %s %v by %s is answered %s, not %s: %v", q.Kind, q.Path.Short(), q.File, name, got, want, a.Err("query"))
			}
		}
	}
	for kind := QueryKind(1); kind < queryEnd; kind++ {
		if !byPath[kind] && !byFile[kind] && !here[kind] {
			t.Errorf("of query %d it is not said where it is answered", kind)
		}
		if byPath[kind] {
			inside := map[bool]string{true: "down", false: "here"}[kind == QueryList || kind == QueryFiles]
			ask(parent, Query{Kind: kind, Path: path("/rack/sub")}, "down")
			ask(parent, Query{Kind: kind, Path: path("/rack")}, inside)
			ask(parent, Query{Kind: kind, Path: path("/vm")}, "here")
			ask(child, Query{Kind: kind, Path: path("/rack")}, map[bool]string{true: "here", false: "up"}[kind == QueryList || kind == QueryFiles])
			ask(child, Query{Kind: kind, Path: path("/rack/sub")}, "here")
			ask(child, Query{Kind: kind, Path: path("/vm/h")}, "up")
		}
		if byFile[kind] {
			ask(parent, Query{Kind: kind, File: blocktree.FileID{Generation: 2, Inode: 9}}, "down")
			ask(parent, Query{Kind: kind, File: fileID(6)}, "here")
			ask(child, Query{Kind: kind, File: fileID(6)}, "up")
			ask(child, Query{Kind: kind, File: blocktree.FileID{Generation: 2, Inode: 9}}, "here")
		}
	}
	ask(child, Query{Kind: QueryStat, Path: path("/rack/f")}, "home")
	ask(child, Query{Kind: QueryAllowed, Path: path("/rack/sub/g")}, "home")
	ask(child, Query{Kind: QueryGeneration, File: fileID(1)}, "up")
	ask(parent, Query{Kind: QueryGeneration, File: fileID(1)}, "here")
}

// TestGenerations: a number is of one directory and one founder, and who asks again is told the same.
func TestGenerations(t *testing.T) {
	m := racked(t)
	seen := map[blocktree.Generation]string{1: "the root cluster"}
	for _, dir := range []string{"/rack", "/rack/sub", "/vm"} {
		for founder := blocktree.NodeID(30); founder < 33; founder++ {
			o := AssignGeneration{path(dir), founder}
			c := &Caller{Principal: someone(3), Path: path(dir).Join("n"), UID: 9}
			g := m.mustAs(c, o).Generation
			if g == 0 || seen[g] != "" {
				t.Errorf("%s of %v: generation %d is also that of %s", dir, founder, g, seen[g])
			}
			seen[g] = dir
			if again := m.mustAs(c, o).Generation; again != g {
				t.Errorf("asked again: %d, then %d", g, again)
			}
			if a := m.view().answer(Query{Kind: QueryGeneration, File: blocktree.FileID{Generation: g}}); a.Home != path(dir) {
				t.Errorf("generation %d is of %s, not %s", g, a.Home, dir)
			}
		}
	}
	if r := m.as(&Caller{Principal: someone(3), Path: path("/vm/n"), UID: 9}, 2, AssignGeneration{path("/rack"), 99}); r.Kind != blocktree.Permission {
		t.Errorf("asked from beside: %v", r.Kind)
	}
	for i := range FoundersMax {
		m.do(AssignGeneration{path("/vm"), blocktree.NodeID(1000 + i)})
	}
	if r := m.do(AssignGeneration{path("/vm"), 5000}); r.Kind != blocktree.TooLarge {
		t.Errorf("without a bound: %v", r.Kind)
	}
	for _, o := range []AssignGeneration{{rootDir, 1}, {path("/x"), 0}, {"/other/x", 1}} {
		if r := m.do(o); r.Kind != blocktree.Invalid {
			t.Errorf("%+v: %v", o, r.Kind)
		}
	}
}

// TestDelegateOnce: of two founders one wins, whoever asks how often, with the number that it was given and in its own name.
func TestDelegateOnce(t *testing.T) {
	m := racked(t)
	one, two := hostCaller(below(1)), hostCaller(below(2))
	dir := path("/rack")
	g1 := m.mustAs(one, AssignGeneration{dir, below(1).Node}).Generation
	g2 := m.mustAs(two, AssignGeneration{dir, below(2).Node}).Generation
	for name, r := range map[string]Result{
		"another's number": m.as(one, 2, Delegate{dir, g2, below(1).Node}),
		"no number":        m.as(one, 2, Delegate{dir, 0, below(1).Node}),
		"the root's":       m.as(one, 2, Delegate{dir, 1, below(1).Node}),
		"for another":      m.as(one, 2, Delegate{dir, g2, below(2).Node}),
	} {
		if r.Kind != blocktree.Invalid {
			t.Errorf("%s: %v", name, r.Err("delegate"))
		}
	}
	if r := m.as(somebody(0, 0), 2, Delegate{dir, g1, below(1).Node}); r.Kind != blocktree.Permission {
		t.Errorf("by who is no host: %v", r.Kind)
	}
	won := m.mustAs(one, Delegate{dir, g1, below(1).Node})
	if r := m.as(two, 2, Delegate{dir, g2, below(2).Node}); r.Kind != blocktree.Exists || r.Inode == nil || r.Inode.Delegation.Founder != below(1).Node {
		t.Errorf("the second: %+v", r)
	}
	if r := m.mustAs(one, Delegate{dir, g1, below(1).Node}); !reflect.DeepEqual(r.Inode.Delegation, won.Inode.Delegation) {
		t.Errorf("asked again: %+v", r.Inode.Delegation)
	}
	if r := m.do(Remove{Path: dir}); r.Kind != blocktree.Busy {
		t.Errorf("a delegated directory is removed: %v", r.Kind)
	}
	m.must(RemoveBelow{below(2).Path})
	if r := m.do(RemoveBelow{below(1).Path}); r.Kind != blocktree.Busy {
		t.Errorf("its last sector host is removed: %v", r.Kind)
	}
}

// TestTakingOver: whatever batch the founder is cut off in and begins again, in the end every entry is in the child and only there, with all that there was of directories, and
// until then nobody answers for them but with Unavailable.
func TestTakingOver(t *testing.T) {
	parent := racked(t)
	stranger := somebody(10, 10)
	parent.must(PutGrant{fileID(2), grantTo(stranger, RightWrite)})
	delegateTo(parent)
	child := childOf(t, parent)
	for range 3 { // begun again
		for _, p := range []string{"/rack/f", "/rack/sub/g", "/rack/nothing"} {
			if a := child.view().judged(Query{Kind: QueryStat, Path: path(p)}); a.Kind != blocktree.Unavailable {
				t.Errorf("%s is answered for before it is there: %v", p, a.Kind)
			}
			if a := parent.view().judged(Query{Kind: QueryStat, Path: path(p)}); a.Redirect == nil {
				t.Errorf("%s is answered for by the parent, too: %v", p, a.Kind)
			}
		}
		if r := parent.as(hostCaller(below(1)), 2, DropMoved{path("/rack"), 2}); r.Kind != blocktree.Fenced {
			t.Errorf("dropped before it was handed over: %v", r.Kind)
		}
		takeAll(t, parent, child, path("/rack"), 1)
	}
	if r := parent.as(hostCaller(below(1)), 2, HandOver{path("/rack"), 3}); r.Kind != blocktree.Fenced {
		t.Errorf("handed over to another generation: %v", r.Kind)
	}
	parent.mustAs(hostCaller(below(1)), HandOver{path("/rack"), 2})
	parent.mustAs(hostCaller(below(1)), DropMoved{path("/rack"), 2})
	if r := child.do(EndTaking{Answer: true}); r.Kind != blocktree.Invalid {
		t.Errorf("it answers before it says that it has everything: %v", r.Kind)
	}
	child.must(EndTaking{})
	if a := child.view().judged(Query{Kind: QueryStat, Path: path("/rack/f")}); a.Kind != blocktree.Unavailable {
		t.Errorf("it answers before everything is handed over: %v", a.Kind)
	}
	child.must(EndTaking{Answer: true})
	if r := child.do(TakeEntries{Dir: path("/rack"), Entries: someTaken()}); r.Kind != blocktree.Invalid {
		t.Errorf("more is taken when it has ended: %v", r.Kind)
	}
	s := child.view()
	entries, _, r := s.list(path("/rack"), "", 0)
	if r.Kind != 0 || len(entries) != 2 || entries[0].Inode.ID != fileID(3) || entries[1].Inode.Kind != KindDir || entries[1].Inode.Mode != 0o755 {
		t.Errorf("%+v, %v", entries, r.Kind)
	}
	if sub, _ := s.stat(path("/rack/sub")); !s.may(stranger, sub, RightWrite, 1) {
		t.Error("a grant is lost")
	}
	p := parent.view()
	if left, _, _, r := p.take(&Query{Path: path("/rack")}); len(left) != 0 || r.Kind != 0 {
		t.Errorf("left at the parent: %+v", left)
	}
	if p.inode(fileID(2)) != nil || p.inode(fileID(3)) == nil || p.inode(fileID(4)) == nil {
		t.Error("directories stay, or files go")
	}
	if p.counts.inodes != 5 { // /rack, f, g, /vm, h
		t.Errorf("%d inodes", p.counts.inodes)
	}
}

// TestMovedRights: what may be done with a moved file is by itself, by the delegated directory and by what is above that; the anonymous have nothing.
func TestMovedRights(t *testing.T) {
	parent, child := family(t)
	g, stranger, friend := fileID(4), somebody(10, 10), somebody(11, 11)
	parent.must(SetAttr{File: g, Mask: AttrMode, Mode: 0o604})
	parent.must(PutGrant{fileID(1), grantTo(friend, RightWrite)})
	s := parent.view()
	i := s.inode(g)
	if s.rights(stranger, i, 1) != RightRead || s.rights(friend, i, 1) != RightRead|RightWrite || s.rights(&Caller{}, i, 1) != 0 {
		t.Errorf("stranger %v, friend %v, anonymous %v", s.rights(stranger, i, 1), s.rights(friend, i, 1), s.rights(&Caller{}, i, 1))
	}
	if r := parent.as(stranger, 2, RemoveMoved{g}); r.Kind != blocktree.Permission {
		t.Errorf("removed by who may not: %v", r.Kind)
	}
	parent.mustAs(friend, RemoveMoved{g})
	if r := child.as(stranger, 2, DropEntry{path("/rack/sub/g"), g}); r.Kind != blocktree.Permission {
		t.Errorf("its entry is removed by who may not: %v", r.Kind)
	}
	child.mustAs(somebody(0, 0), DropEntry{path("/rack/sub/g"), g})
	if a := child.view().judged(Query{Kind: QueryStat, Path: path("/rack/sub/g")}); a.Kind != blocktree.NotFound {
		t.Errorf("it is there still: %v", a.Kind)
	}
	if r := parent.do(RemoveMoved{fileID(6)}); r.Kind != blocktree.Invalid {
		t.Errorf("a file that has not moved: %v", r.Kind)
	}
}

// TestAbove: a child judges by what its parent has said, of the newest only, and serves nobody before.
func TestAbove(t *testing.T) {
	parent, child := family(t)
	friend, nobody := somebody(11, 11), &Caller{}
	child.must(MakeDir{Path: path("/rack/open"), Mode: 0o755})
	told := func() SetAbove {
		a := parent.view().judged(Query{Kind: QueryAbove, Path: path("/rack"), Caller: hostCaller(below(2))})
		a.Above.Number = parent.index
		return SetAbove{*a.Above}
	}
	rights := func(c *Caller) Rights {
		s := child.view()
		i, _ := s.stat(path("/rack/open"))
		return s.rights(c, i, 1)
	}
	old := told()
	if rights(friend) != RightList || rights(nobody) != RightList {
		t.Errorf("friend %v, nobody %v", rights(friend), rights(nobody))
	}
	parent.must(PutGrant{fileID(0), grantTo(friend, RightWrite)}) // on the root directory
	parent.must(SetAttr{File: fileID(1), Mask: AttrMode, Mode: 0o750})
	before := child.view().counts.rights
	child.must(told())
	if rights(friend) != RightList|RightWrite || rights(nobody) != 0 || child.view().counts.rights == before {
		t.Errorf("told: friend %v, nobody %v", rights(friend), rights(nobody))
	}
	if r := child.do(old); r.Kind != blocktree.StaleView || rights(friend) != RightList|RightWrite {
		t.Errorf("told late: %v", r.Kind)
	}
	if r := child.as(somebody(0, 0), 2, told()); r.Kind != blocktree.Permission {
		t.Errorf("told by who is no host: %v", r.Kind)
	}
	if r := child.as(friend, 2, MakeDir{Path: path("/rack/by-friend")}); r.Kind != blocktree.Other {
		t.Errorf("a grant above does not hold: %v", r.Err("mkdir"))
	}
	fresh := newMachine(t)
	fresh.must(FoundChild{Found{Dir: path("/rack"), Generation: 2, Runtimes: []blocktree.Runtime{below(1)}}})
	if r := fresh.do(EndTaking{}); r.Kind != blocktree.Unavailable {
		t.Errorf("a child that was told nothing begins to answer: %v", r.Kind)
	}
	if a := fresh.view().judged(Query{Kind: QueryStat, Path: path("/vm"), Caller: friend}); a.Kind != blocktree.Unavailable {
		t.Errorf("a child that knows no parent: %v", a.Kind)
	}
}

// TestDelegatedWithin: a directory that has a cluster already moves over with its records when one above it is delegated.
func TestDelegatedWithin(t *testing.T) {
	m := racked(t)
	lab := func(i int) blocktree.Runtime {
		return with(below(10+i), func(r *blocktree.Runtime) { r.Path = path(fmt.Sprintf("/rack/sub/n%d", i)) })
	}
	m.must(PutBelow{lab(1)})
	inner := hostCaller(lab(1))
	g := m.mustAs(inner, AssignGeneration{path("/rack/sub"), lab(1).Node}).Generation
	m.mustAs(inner, Delegate{path("/rack/sub"), g, lab(1).Node})
	m.mustAs(inner, HandOver{path("/rack/sub"), g})
	m.mustAs(inner, DropMoved{path("/rack/sub"), g})
	first := hostCaller(below(1))
	outer := m.mustAs(first, AssignGeneration{path("/rack"), below(1).Node}).Generation
	m.mustAs(first, Delegate{path("/rack"), outer, below(1).Node})
	child := childOf(t, m)
	takeAll(t, m, child, path("/rack"), 0)
	m.mustAs(first, HandOver{path("/rack"), outer})
	m.mustAs(first, DropMoved{path("/rack"), outer})
	child.must(EndTaking{})
	child.must(EndTaking{Answer: true})
	a := child.view().judged(Query{Kind: QueryStat, Path: path("/rack/sub/g")})
	if a.Redirect == nil || a.Redirect.Dir != path("/rack/sub") || a.Redirect.Generation != g || !reflect.DeepEqual(a.Redirect.Runtimes, []blocktree.Runtime{lab(1)}) {
		t.Errorf("%+v", a.Redirect)
	}
	if a := m.view().judged(Query{Kind: QueryStatID, File: blocktree.FileID{Generation: g, Inode: 9}}); a.Redirect == nil || a.Redirect.Dir != path("/rack") {
		t.Errorf("the way to its generation: %+v", a.Redirect)
	}
	up := child.view().judged(Query{Kind: QueryAbove, Path: path("/rack/sub"), Caller: inner})
	if up.Above == nil || up.Above.Parent != path("/rack") || len(up.Above.Levels) != 3 || up.Above.Generation != 2 && up.Above.Generation != outer {
		t.Errorf("%+v, %v", up.Above, up.Err("above"))
	}
	if slices.ContainsFunc(m.view().allBelow(), func(r blocktree.Runtime) bool { return r.Path == lab(1).Path }) {
		t.Error("its records stay")
	}
}

// TestDelegationCodecs: all of it comes back; and without any of it nothing is other than it was.
func TestDelegationCodecs(t *testing.T) {
	for _, r := range []Result{{Kind: blocktree.Elsewhere, Redirect: someRedirect()}, {Generation: 7}, {Kind: blocktree.Elsewhere, Redirect: &Redirect{Generation: 3, File: fileID(3)}}} {
		if out, err := DecodeResult(EncodeResult(nil, r)); err != nil || !reflect.DeepEqual(out, r) {
			t.Errorf("%+v, %v", out, err)
		}
	}
	for _, a := range []Answer{{Kind: blocktree.Elsewhere, Redirect: someRedirect()}, {Above: someAbove()}, {Taken: someTaken(), More: true, Runtimes: founders(1)}, {Home: path("/a")}, {Children: []blocktree.Path{path("/a"), path("/b")}, More: true},
		{Inode: &Inode{ID: fileID(1), Kind: KindDir, Access: []byte("keys"), Delegation: &Delegation{3, 4, true}}}} {
		if out, err := DecodeAnswer(EncodeAnswer(nil, a)); err != nil || !reflect.DeepEqual(out, a) {
			t.Errorf("%+v, %v", out, err)
		}
	}
	for _, r := range []Result{{Kind: blocktree.Busy, Redirect: someRedirect()}, {Kind: blocktree.Elsewhere, Redirect: &Redirect{}}} {
		if out, err := DecodeResult(EncodeResult(nil, r)); err == nil {
			t.Errorf("taken: %+v", out)
		}
	}
	if b := EncodeResult(nil, someResult()); b[0] != formatResult {
		t.Error("a result as before has another format")
	}
	if b := EncodeAnswer(nil, someAnswer()); b[0] != formatAnswer {
		t.Error("an answer as before has another format")
	}
}

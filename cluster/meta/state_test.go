package meta

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"blocktree"
	"blocktree/cluster/stripe"
)

// founded is a machine with n sector hosts that have all started once.
func founded(t testing.TB, n int) *machine {
	t.Helper()
	m := newMachine(t)
	m.must(Found{Dir: rootDir, Generation: 1, Runtimes: founders(n), Mode: 0o755})
	for i := 1; i <= n; i++ {
		m.must(StartNode{Node: node(i), Incarnation: incarnation(i), StartCounter: 1})
	}
	return m
}

func coded(p string, k, m int) CreateFile {
	f := file(p)
	f.Code = blocktree.Code{Data: k, Parity: m}
	return f
}

// with changes a value, for tables.
func with[T any](v T, f func(*T)) T {
	f(&v)
	return v
}

func session(i int) (s SessionID) { s[0], s[15] = byte(i), 1; return s }

func open(i int) OpenSession {
	return OpenSession{Session: session(i), Principal: blocktree.PrincipalOf([]byte{byte(100 + i)}), Path: path(fmt.Sprintf("/client%d", i))}
}

// fileID is the identity of the n-th inode made after the root directory.
func fileID(n int) blocktree.FileID {
	return blocktree.FileID{Generation: 1, Inode: RootInode + blocktree.Inode(n)}
}

// opRow is what was done before, one op, the kind it is answered with and a word of its text or hint.
type opRow struct {
	name   string
	before []Op
	op     Op
	kind   blocktree.Kind
	word   string
}

// oneFile makes inodes 1: /vm, 2: /vm/disk0.
func oneFile() []Op { return []Op{file("/vm/disk0")} }

// dirRows are of directories.
func dirRows() []opRow {
	long := strings.Repeat("n", blocktree.NameBytesMax+1)
	deep := path(strings.Repeat("/d", blocktree.PathDepthMax+1))
	one := oneFile()
	return []opRow{
		{"found twice", nil, Found{Dir: rootDir, Generation: 2}, blocktree.Exists, "before"},
		{"make", nil, MakeDir{Path: path("/a")}, 0, ""},
		{"make below nothing", nil, MakeDir{Path: path("/a/b")}, blocktree.NotFound, "/a"},
		{"make with parents", nil, MakeDir{Path: path("/a/b/c"), Parents: true}, 0, ""},
		{"make twice", []Op{MakeDir{Path: path("/a")}}, MakeDir{Path: path("/a")}, blocktree.Exists, "/a"},
		{"make twice with parents", []Op{MakeDir{Path: path("/a")}}, MakeDir{Path: path("/a"), Parents: true}, 0, ""},
		{"make over a file", one, MakeDir{Path: path("/vm/disk0"), Parents: true}, blocktree.Exists, ""},
		{"make through a file", one, MakeDir{Path: path("/vm/disk0/x"), Parents: true}, blocktree.Invalid, "not a directory"},
		{"make the root", nil, MakeDir{Path: rootDir}, blocktree.Exists, ""},
		{"make elsewhere", nil, MakeDir{Path: "/other/x"}, blocktree.Invalid, "below"},
		{"make beside", nil, MakeDir{Path: rootDir + "x"}, blocktree.Invalid, "below"},
		{"make dots", nil, MakeDir{Path: path("/../x"), Parents: true}, blocktree.Invalid, ""},
		{"make empty name", nil, MakeDir{Path: path("//x"), Parents: true}, blocktree.Invalid, ""},
		{"make long name", nil, MakeDir{Path: path("/" + long)}, blocktree.TooLarge, ""},
		{"make deep", nil, MakeDir{Path: deep, Parents: true}, blocktree.Invalid, "deep"},
	}
}

// fileRows are of new files.
func fileRows() []opRow {
	one := oneFile()
	return []opRow{
		{"create", nil, coded("/f", 2, 1), 0, ""},
		{"create twice", one, file("/vm/disk0"), blocktree.Exists, ""},
		{"create over a directory", one, file("/vm"), blocktree.Exists, ""},
		{"create below nothing", nil, with(file("/a/f"), func(o *CreateFile) { o.Parents = false }), blocktree.NotFound, "/a"},
		{"too few hosts", nil, coded("/f", 2, 2), blocktree.Invalid, "at most 3"},
		{"no such code", nil, coded("/f", 0, 1), blocktree.Invalid, "1+0 to 16+4"},
		{"wild code", nil, coded("/f", 200, 100), blocktree.Invalid, "1+0 to 16+4"},
		{"size zero", nil, with(file("/f"), func(o *CreateFile) { o.SizeBytes = 0 }), blocktree.Invalid, "multiple"},
		{"odd size", nil, with(file("/f"), func(o *CreateFile) { o.SizeBytes++ }), blocktree.Invalid, "multiple"},
		{"huge", nil, with(file("/f"), func(o *CreateFile) { o.SizeBytes = blocktree.FileBytesMax + 4096 }), blocktree.Invalid, "most"},
		{"largest", nil, with(file("/f"), func(o *CreateFile) { o.SizeBytes = blocktree.FileBytesMax }), 0, ""},
		{"odd sector", nil, with(file("/f"), func(o *CreateFile) { o.SectorBytes = 3000 }), blocktree.Invalid, "power"},
		{"small sector", nil, with(file("/f"), func(o *CreateFile) { o.SectorBytes = 256 }), blocktree.Invalid, "power"},
		{"unknown host", nil, with(file("/f"), func(o *CreateFile) { o.Hosts = []blocktree.NodeID{9} }), blocktree.Invalid, "not a sector host"},
		{"chosen hosts", nil, with(coded("/f", 1, 1), func(o *CreateFile) { o.Hosts = []blocktree.NodeID{3, 1} }), 0, ""},
		{"one host twice", nil, with(coded("/f", 1, 1), func(o *CreateFile) { o.Hosts = []blocktree.NodeID{3, 3} }), blocktree.Invalid, "needs 2"},
		{"not started", []Op{PutRuntime{host(4)}}, coded("/f", 3, 1), blocktree.Unavailable, "3 of 4"},
		{"one not started of more", []Op{PutRuntime{host(4)}}, coded("/f", 2, 1), 0, ""},
	}
}

// inodeRows are of inodes that are there.
func inodeRows() []opRow {
	one := oneFile()
	held := then(one, open(1), open(2), Acquire{session(1), fileID(2)})
	return []opRow{
		{"remove", one, Remove{Path: path("/vm/disk0")}, 0, ""},
		{"remove nothing", one, Remove{Path: path("/vm/disk1")}, blocktree.NotFound, ""},
		{"remove full", one, Remove{Path: path("/vm")}, blocktree.Busy, "empty"},
		{"remove emptied", then(one, Remove{Path: path("/vm/disk0")}), Remove{Path: path("/vm")}, 0, ""},
		{"remove root", nil, Remove{Path: rootDir}, blocktree.Invalid, ""},
		{"remove held", held, Remove{Path: path("/vm/disk0")}, blocktree.Busy, "/client1"},
		{"remove released", then(held, Release{session(1), fileID(2), 1}), Remove{Path: path("/vm/disk0")}, 0, ""},

		{"set", one, SetAttr{File: fileID(2), Mask: AttrMode | AttrOwner, Mode: 0o600, UID: 5}, 0, ""},
		{"set nothing", one, SetAttr{File: fileID(3), Mask: AttrMode}, blocktree.NotFound, ""},
		{"set another generation's", one, SetAttr{File: blocktree.FileID{Generation: 2, Inode: 3}}, blocktree.NotFound, ""},
		{"set keys of a directory", one, SetAttr{File: fileID(1), Mask: AttrAccess}, blocktree.Invalid, ""},
	}
}

// nodeRows are of process records, starts and sessions.
func nodeRows() []opRow {
	return []opRow{
		{"record", nil, PutRuntime{host(4)}, 0, ""},
		{"record again", nil, PutRuntime{host(3)}, 0, ""},
		{"record another's store", nil, PutRuntime{with(host(4), func(r *blocktree.Runtime) { r.Node = 1 })}, blocktree.Exists, "store"},
		{"record without path", nil, PutRuntime{blocktree.Runtime{}}, blocktree.Invalid, ""},
		{"unrecord", nil, RemoveRuntime{host(3).Path}, 0, ""},
		{"unrecord nothing", nil, RemoveRuntime{host(4).Path}, blocktree.NotFound, ""},

		{"start", nil, StartNode{1, incarnation(1), 2, 1}, 0, ""},
		{"start stale", nil, StartNode{1, incarnation(1), 2, 0}, blocktree.StaleMember, "1, not 0"},
		{"start unknown", nil, StartNode{9, incarnation(1), 2, 1}, blocktree.StaleMember, "0, not 1"},
		{"start backward", nil, StartNode{1, incarnation(1), 1, 1}, blocktree.Invalid, ""},
		{"start as nobody", nil, StartNode{1, blocktree.Incarnation{}, 2, 1}, blocktree.Invalid, ""},
		{"start nobody", nil, StartNode{0, incarnation(1), 1, 0}, blocktree.Invalid, ""},

		{"open", nil, open(1), 0, ""},
		{"open own", []Op{open(1)}, open(1), 0, ""},
		{"open another's", []Op{open(1)}, with(open(2), func(o *OpenSession) { o.Session = session(1) }), blocktree.Exists, ""},
		{"open without id", nil, OpenSession{}, blocktree.Invalid, ""},
		{"renew", []Op{open(1)}, RenewSession{session(1)}, 0, ""},
		{"renew nothing", nil, RenewSession{session(1)}, blocktree.NotFound, ""},
		{"renew closed", []Op{open(1), CloseSession{session(1)}}, RenewSession{session(1)}, blocktree.NotFound, ""},
		{"close nothing", nil, CloseSession{session(1)}, 0, ""},
		{"expire", []Op{open(1), RenewSession{session(1)}}, ExpireSession{session(1), 1}, 0, ""},
		{"expire renewed", []Op{open(1), RenewSession{session(1)}}, ExpireSession{session(1), 0}, blocktree.Busy, "renewed"},
	}
}

// holderRows are of leases and views.
func holderRows() []opRow {
	one := oneFile()
	held := then(one, open(1), open(2), Acquire{session(1), fileID(2)})
	remove := func(e blocktree.Epoch, seq blocktree.ViewID, ns ...blocktree.NodeID) ChangeView {
		return ChangeView{stripe.Change{File: fileID(1), Epoch: e, Seq: seq, Kind: stripe.ChangeRemove, Nodes: ns}}
	}
	wide := []Op{coded("/w", 2, 1), open(1), Acquire{session(1), fileID(1)}} // epoch 1, seq 2
	return []opRow{
		{"acquire", then(one, open(1)), Acquire{session(1), fileID(2)}, 0, ""},
		{"acquire own", held, Acquire{session(1), fileID(2)}, 0, ""},
		{"acquire held", held, Acquire{session(2), fileID(2)}, blocktree.Busy, "/client1"},
		{"acquire closed's", then(held, CloseSession{session(1)}), Acquire{session(2), fileID(2)}, 0, ""},
		{"acquire expired's", then(held, ExpireSession{session(1), 0}), Acquire{session(2), fileID(2)}, 0, ""},
		{"acquire released", then(held, Release{session(1), fileID(2), 1}), Acquire{session(2), fileID(2)}, 0, ""},
		{"acquire a directory", then(one, open(1)), Acquire{session(1), fileID(1)}, blocktree.NotFound, ""},
		{"acquire nothing", then(one, open(1)), Acquire{session(1), fileID(9)}, blocktree.NotFound, ""},
		{"acquire without session", one, Acquire{session(1), fileID(2)}, blocktree.NotFound, "session"},
		{"release another's", held, Release{session(2), fileID(2), 1}, blocktree.Fenced, ""},
		{"release another epoch", held, Release{session(1), fileID(2), 2}, blocktree.Fenced, ""},
		{"release nothing", one, Release{session(1), fileID(2), 1}, blocktree.Fenced, ""},

		{"change", wide, remove(1, 2, 3), 0, ""},
		{"change fenced", wide, remove(0, 2, 3), blocktree.Fenced, ""},
		{"change stale", wide, remove(1, 1, 3), blocktree.StaleView, ""},
		{"change below k", wide, remove(1, 2, 3, 2), blocktree.Unavailable, ""},
		{"change nothing", wide, ChangeView{stripe.Change{File: fileID(9)}}, blocktree.NotFound, ""},
		{"change unmarked only", then(wide, StartNode{1, incarnation(9), 2, 1}), remove(1, 3, 3), blocktree.Unavailable, ""},
		{"leave", wide, LeaveViews{StartNode{1, incarnation(9), 2, 1}}, 0, ""},
		{"leave stale", wide, LeaveViews{StartNode{1, incarnation(9), 2, 0}}, blocktree.StaleMember, ""},
		{"leave after another", then(wide, LeaveViews{StartNode{1, incarnation(9), 2, 1}}), LeaveViews{StartNode{2, incarnation(9), 2, 1}}, blocktree.Unavailable, ""},
		{"leave after a start", then(wide, StartNode{1, incarnation(9), 2, 1}), LeaveViews{StartNode{2, incarnation(9), 2, 1}}, blocktree.Unavailable, ""},
		{"leave again", then(wide, LeaveViews{StartNode{1, incarnation(9), 2, 1}}), LeaveViews{StartNode{1, incarnation(8), 3, 2}}, 0, ""},
		{"change the marked", then(wide, StartNode{1, incarnation(9), 2, 1}), remove(1, 3, 1), 0, ""},
	}
}

// A refused op must change nothing.
func TestOps(t *testing.T) {
	for _, x := range slices.Concat(dirRows(), fileRows(), inodeRows(), nodeRows(), holderRows(), claimRows(), resizeRows(), accessRows(), integrityRows()) {
		m := founded(t, 3)
		for _, o := range x.before {
			m.must(o)
		}
		before := m.hash()
		r := m.do(x.op)
		if remembersRefusal(x.op) && x.kind != 0 {
			m.unremember()
		}
		if r.Kind != x.kind || !strings.Contains(r.Text+" "+r.Hint, x.word) {
			t.Errorf("%s: got %v, want %v and %q", x.name, r.Err("apply"), x.kind, x.word)
		}
		if changed := m.hash() != before; changed != (x.kind == 0) {
			t.Errorf("%s: changed %v", x.name, changed)
		}
		if !m.last.Empty() && x.kind != 0 {
			t.Errorf("%s: refused, yet OnApply hears of %+v", x.name, m.last)
		}
	}
}

// Nothing goes before the cluster is founded, and nothing that cannot be decoded does anything.
func TestUnfounded(t *testing.T) {
	m := newMachine(t)
	for _, o := range []Op{MakeDir{Path: path("/a")}, open(1), StartNode{1, incarnation(1), 1, 0}, PutRuntime{host(1)}} {
		if r := m.do(o); r.Kind != blocktree.Unavailable {
			t.Errorf("%T: %v", o, r.Kind)
		}
	}
	if r := m.raw(9, []byte{formatCommand, 1, 2}); r.Kind != blocktree.Invalid {
		t.Error(r.Kind)
	}
	unknown, err := EncodeCommand(nil, Command{ID: NewCommandID(), Op: Remove{Path: path("/a")}})
	if err != nil {
		t.Fatal(err)
	}
	unknown[17] = byte(opEnd)
	for _, data := range [][]byte{{formatKeeperCommand + 1}, unknown} {
		s := m.view()
		if _, r := s.apply(9, data); r.Kind != blocktree.NewerFormat || blocktree.KindOf(s.err) != blocktree.NewerFormat {
			t.Errorf("a command of a newer version must stop this one: %v, %v", r.Kind, s.err)
		}
	}
}

// The layout of a new file: every started sector host, with its incarnation, all in sync.
func TestNewLayout(t *testing.T) {
	m := founded(t, 4)
	m.must(PutRuntime{host(5)})
	m.must(PutRuntime{blocktree.Runtime{Path: path("/client"), Principal: rootID}})
	r := m.must(with(coded("/f", 2, 1), func(o *CreateFile) { o.SizeBytes = 5 << 30 }))
	l := r.Layout
	if len(l.Hosts) != 4 || l.File != r.Inode.ID || l.Seq != 1 || l.Epoch != 0 || l.Regions() != 5 || l.RegionSectors != 1<<18 {
		t.Fatalf("%+v", l)
	}
	for i := 1; i <= 4; i++ {
		if l.Incarnations[node(i)] != incarnation(i) {
			t.Fatalf("%+v", l)
		}
	}
	if v := l.View(4); v.Count(stripe.InSync) != 3 {
		t.Fatalf("%+v", v)
	}
	if len(m.last.Layouts) != 1 || m.last.Layouts[0] != l {
		t.Fatalf("%+v", m.last)
	}
}

// A node that starts anew is marked in every file that names it, once, and in no other.
func TestStartMarks(t *testing.T) {
	m := founded(t, 3)
	for i := range 3 {
		m.must(coded(fmt.Sprintf("/all%d", i), 2, 1))
	}
	m.must(with(file("/other"), func(o *CreateFile) { o.Hosts = []blocktree.NodeID{1} }))
	m.must(StartNode{3, incarnation(3), 2, 1})
	if len(m.last.Layouts) != 0 || len(m.last.Starts) != 1 {
		t.Fatalf("the same incarnation changes nothing: %+v", m.last)
	}
	m.must(StartNode{3, incarnation(33), 3, 2})
	if len(m.last.Layouts) != 3 {
		t.Fatalf("%+v", m.last)
	}
	for _, l := range m.last.Layouts {
		if !l.Marked[3] || len(l.Marked) != 1 || l.Seq != 2 || l.Incarnations[3] != incarnation(3) {
			t.Fatalf("%+v", l)
		}
	}
	m.must(StartNode{3, incarnation(34), 4, 3})
	if len(m.last.Layouts) != 0 {
		t.Fatalf("marked twice: %+v", m.last)
	}
	if r := m.do(StartNode{3, incarnation(35), 9, 2}); r.Start == nil || r.Start.Counter != 4 || r.Start.Incarnation != incarnation(34) {
		t.Fatalf("a refused start must learn the newest: %+v", r.Start)
	}
	// Removed and joined with its new incarnation it counts again; the next start marks it again.
	f := fileID(1)
	m.must(open(1))
	m.must(Acquire{session(1), f})
	m.must(ChangeView{stripe.Change{File: f, Epoch: 1, Seq: 3, Kind: stripe.ChangeRemove, Nodes: []blocktree.NodeID{3}}})
	join := stripe.Change{File: f, Epoch: 1, Seq: 4, Kind: stripe.ChangeJoin, Nodes: []blocktree.NodeID{3}, Incarnation: incarnation(33)}
	if r := m.do(ChangeView{join}); r.Kind != blocktree.StaleMember || r.Layout == nil || r.Layout.Seq != 4 {
		t.Fatalf("joined under an old incarnation: %+v", r)
	}
	join.Incarnation = incarnation(34)
	m.must(ChangeView{join})
	join.Seq, join.Kind = 5, stripe.ChangePromote
	if l := m.must(ChangeView{join}).Layout; l.Marked[3] || l.Incarnations[3] != incarnation(34) || l.View(0).Count(stripe.InSync) != 3 {
		t.Fatalf("%+v", l)
	}
	m.must(StartNode{3, incarnation(36), 5, 4})
	if len(m.last.Layouts) != 1 || !m.last.Layouts[0].Marked[3] {
		t.Fatalf("%+v", m.last)
	}
}

// A session's end releases all that it held, and nothing else.
func TestSessionEndReleases(t *testing.T) {
	for _, end := range []Op{CloseSession{session(1)}, ExpireSession{session(1), 0}} {
		m := founded(t, 1)
		m.must(open(1))
		m.must(open(2))
		for i := range 5 {
			m.must(file(fmt.Sprintf("/f%d", i)))
			m.must(Acquire{session(1 + i/4), fileID(i + 1)})
		}
		m.must(end)
		if len(m.last.Leases) != 4 {
			t.Fatalf("%+v", m.last)
		}
		for i := range 5 {
			l := m.view().lease(fileID(i + 1))
			if held := l != nil; held != (i == 4) {
				t.Fatalf("file %d: %+v", i, l)
			}
		}
		if x := m.view().session(session(2)); x == nil || x.Leases != 1 {
			t.Fatalf("%+v", x)
		}
	}
}

// Epochs only grow, by one for each holder.
func TestEpochsGrow(t *testing.T) {
	m := founded(t, 1)
	m.must(file("/f"))
	m.must(open(1))
	m.must(open(2))
	for e := blocktree.Epoch(1); e < 10; e++ {
		s := session(int(e)%2 + 1)
		r := m.must(Acquire{s, fileID(1)})
		if r.Lease.Epoch != e || r.Layout.Epoch != e {
			t.Fatalf("epoch %d: %+v", e, r.Lease)
		}
		m.must(Release{s, fileID(1), e})
	}
}

// A retry with the same id is answered as the first time and done once, until DedupMax others were done.
func TestRetryIsDoneOnce(t *testing.T) {
	m := founded(t, 1)
	create := Command{ID: NewCommandID(), Op: file("/f")}
	first := m.command(create)
	m.must(open(1))
	acquire := Command{ID: NewCommandID(), Op: Acquire{session(1), fileID(1)}}
	m.command(acquire)
	before := m.hash()
	if r := m.command(create); r.Kind != blocktree.Other || r.Inode.ID != first.Inode.ID || r.Layout.Epoch != 1 {
		t.Fatalf("%+v", r) // the layout is the newest
	}
	if r := m.command(acquire); r.Kind != blocktree.Other || r.Lease.Epoch != 1 {
		t.Fatalf("%+v", r)
	}
	if m.hash() != before {
		t.Fatal("a retry changed the state")
	}
	// A refused command is not remembered: with the same id it may succeed later.
	mk := Command{ID: NewCommandID(), Op: MakeDir{Path: path("/d/e")}}
	if r := m.command(mk); r.Kind != blocktree.NotFound {
		t.Fatal(r.Kind)
	}
	m.must(MakeDir{Path: path("/d")})
	if r := m.command(mk); r.Kind != blocktree.Other {
		t.Fatal(r.Kind)
	}
	for range DedupMax {
		m.must(SetAttr{File: fileID(1), Mask: AttrMode})
	}
	if r := m.command(create); r.Kind != blocktree.Exists {
		t.Fatalf("remembered for ever: %+v", r)
	}
	n := 0
	m.view().scan(kindDone, nil, nil, func(_, _ []byte) bool { n++; return true })
	if n != DedupMax {
		t.Fatalf("%d commands are remembered", n)
	}
}

// What a removed file leaves behind is nothing.
func TestRemoveLeavesNothing(t *testing.T) {
	m := founded(t, 3)
	count := func() (n int) {
		for _, k := range []byte{kindEntry, kindInode, kindLayout, kindLease, kindHeld, kindHosted} {
			m.view().scan(k, nil, nil, func(_, _ []byte) bool { n++; return true })
		}
		return n
	}
	before := count()
	m.must(coded("/f", 2, 1))
	m.must(open(1))
	m.must(Acquire{session(1), fileID(1)})
	m.must(Release{session(1), fileID(1), 1})
	m.must(Remove{Path: path("/f")})
	if len(m.last.Removed) != 1 || m.last.Removed[0] != fileID(1) {
		t.Fatalf("%+v", m.last)
	}
	if n := count(); n != before {
		t.Fatalf("%d keys, before %d", n, before)
	}
	if r := m.must(coded("/f", 2, 1)); r.Inode.ID == fileID(1) {
		t.Fatal("an inode number was used twice")
	}
}

func TestList(t *testing.T) {
	m := founded(t, 1)
	m.must(MakeDir{Path: path("/dir")})
	m.must(MakeDir{Path: path("/dirx")}) // another directory's entries must not show
	m.must(MakeDir{Path: path("/dirx/z")})
	for i := range 10 {
		m.must(with(file(fmt.Sprintf("/dir/f%d", i)), func(o *CreateFile) { o.Access = []byte("keys") }))
	}
	var got []string
	from, more := "", true
	for more {
		var es []DirEntry
		var r Result
		es, more, r = m.view().list(path("/dir"), from, 3)
		if r.Kind != 0 || len(es) == 0 || len(es) > 3 {
			t.Fatal(r, es)
		}
		for _, e := range es {
			if e.Inode.Access != nil || e.Inode.SizeBytes != 1<<30 {
				t.Fatalf("%+v", e)
			}
			got = append(got, e.Name)
		}
		from = es[len(es)-1].Name
	}
	if strings.Join(got, " ") != "f0 f1 f2 f3 f4 f5 f6 f7 f8 f9" {
		t.Fatal(got)
	}
	for p, want := range map[string]blocktree.Kind{"/dir/f0": blocktree.Invalid, "/none": blocktree.NotFound} {
		if _, _, r := m.view().list(path(p), "", 0); r.Kind != want {
			t.Errorf("%s: %v", p, r.Kind)
		}
	}
}

package meta

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"blocktree"
	"blocktree/cluster/stripe"

	"pgregory.net/rapid"
)

// model is the dumb state: maps from paths and ids, no indexes, no counters but one.
type model struct {
	inodes   map[string]*modelInode // by short path; "/" is the root
	next     blocktree.Inode
	sessions map[SessionID]uint64
	leases   map[blocktree.FileID]Lease
	claims   map[blocktree.FileID]SessionID // of leases that are held
	starts   map[blocktree.NodeID]NodeStart
	done     map[CommandID]blocktree.FileID
	now      int64 // of the command; 0: it has no time
	times    bool  // changes are noted

	nameless map[blocktree.FileID]*modelInode // files that were removed, and are kept
	keepers  map[blocktree.FileID]SessionID   // by these

	kept   map[blocktree.FileID]SessionID // directories, by whose session
	wanted map[blocktree.FileID]bool      // those of them that somebody else wants
	asks   SessionID                      // whom the command comes from, as a keeper
}

type modelInode struct {
	id     blocktree.FileID
	dir    bool
	mode   uint32
	layout *stripe.Layout
	spare  bool              // it never had a name
	target string            // of a symbolic link
	xattrs map[string]string // extended attributes

	own               bool   // it has a length of its own
	length            uint64 // which is this
	modified, changed int64
}

func newModel(hosts int) *model {
	m := &model{inodes: map[string]*modelInode{"/": {id: fileID(0), dir: true, mode: 0o755}}, next: RootInode + 1,
		sessions: map[SessionID]uint64{}, leases: map[blocktree.FileID]Lease{}, claims: map[blocktree.FileID]SessionID{},
		starts: map[blocktree.NodeID]NodeStart{},
		done:   map[CommandID]blocktree.FileID{}, nameless: map[blocktree.FileID]*modelInode{}, keepers: map[blocktree.FileID]SessionID{},
		kept: map[blocktree.FileID]SessionID{}, wanted: map[blocktree.FileID]bool{}}
	for i := 1; i <= hosts; i++ {
		m.starts[node(i)] = NodeStart{node(i), incarnation(i), 1}
	}
	return m
}

func parentOf(p string) string {
	if i := strings.LastIndexByte(p, '/'); i > 0 {
		return p[:i]
	}
	return "/"
}

// make adds an inode and the directories above it; it returns the kind of the refusal.
func (m *model) make(p string, dir, parents bool, mode, dirMode uint32, l *stripe.Layout) blocktree.Kind {
	above := parentOf(p)
	for m.inodes[above] == nil {
		above = parentOf(above)
	}
	if !m.inodes[above].dir {
		return blocktree.Invalid
	}
	if i := m.inodes[p]; i != nil {
		if dir && parents && i.dir {
			return 0
		}
		return blocktree.Exists
	}
	var missing []string
	for up := parentOf(p); m.inodes[up] == nil; up = parentOf(up) {
		missing = append(missing, up)
	}
	if len(missing) > 0 && !parents {
		return blocktree.NotFound
	}
	if k := m.guard(above); k != 0 {
		return k
	}
	m.noteEntry(above)
	slices.Reverse(missing)
	for _, up := range missing {
		m.inodes[up] = &modelInode{id: blocktree.FileID{Generation: 1, Inode: m.next}, dir: true, mode: dirMode}
		m.next++
	}
	m.inodes[p] = &modelInode{id: blocktree.FileID{Generation: 1, Inode: m.next}, dir: dir, mode: mode, layout: l}
	if l != nil {
		l.File = m.inodes[p].id
	}
	m.next++
	return 0
}

func (m *model) byID(f blocktree.FileID) *modelInode {
	for _, i := range m.inodes {
		if i.id == f {
			return i
		}
	}
	return m.nameless[f]
}

func (m *model) remove(p string) blocktree.Kind {
	i := m.inodes[p]
	if i == nil {
		for up := parentOf(p); up != "/"; up = parentOf(up) {
			if j := m.inodes[up]; j != nil && !j.dir {
				return blocktree.Invalid
			}
		}
		return blocktree.NotFound
	}
	if k := m.guard(parentOf(p), p); k != 0 {
		return k
	}
	for q := range m.inodes {
		if q != p && parentOf(q) == p {
			return blocktree.Busy
		}
	}
	if _, held := m.leases[i.id]; held {
		return blocktree.Busy
	}
	delete(m.inodes, p)
	m.unkeep(i.id)
	m.noteEntry(parentOf(p))
	return 0
}

func (m *model) drop(f blocktree.FileID) {
	delete(m.leases, f)
	delete(m.claims, f)
}

func (m *model) closeSession(s SessionID) {
	delete(m.sessions, s)
	for f, l := range m.leases {
		if l.Session == s {
			m.drop(f)
		}
	}
	for f, keeper := range m.keepers {
		if keeper == s {
			m.forgets(f)
		}
	}
	for f, keeper := range m.kept {
		if keeper == s {
			m.unkeep(f)
		}
	}
}

// apply does what the state machine should do.
func (m *model) apply(o Op) blocktree.Kind {
	was := m.times
	m.times = was || o.opcode() >= opTouch
	k := m.applyOp(o)
	if k != 0 {
		m.times = was
	}
	return k
}

func (m *model) applyOp(o Op) blocktree.Kind {
	switch o := o.(type) {
	case MakeDir:
		return m.make(o.Path.Short(), true, o.Parents, o.Mode, o.Mode, nil)
	case CreateHeld:
		return m.makeHeld(o)
	case CreateFile:
		return m.make(o.Path.Short(), false, o.Parents, o.Mode, o.Mode|o.Mode&0o444>>2, m.layout(o.SizeBytes, o.Code))
	case Remove:
		return m.remove(o.Path.Short())
	case Rename:
		return m.rename(o, SessionID{})
	case RenameOver:
		return m.rename(o.Rename, o.Session)
	case Unlink:
		return m.unlink(o)
	case Forget:
		return m.forget(o)
	case MakeDirKept, Leave, MakeSpares, NameFile, Want:
		return m.applyKept(o)
	case SetAttr:
		i := m.byID(o.File)
		if i == nil {
			return blocktree.NotFound
		}
		i.mode = o.Mode
		m.noteChange(i)
	case StartNode:
		if m.starts[o.Node].Counter != o.ExpectCounter {
			return blocktree.StaleMember
		}
		m.starts[o.Node] = NodeStart{o.Node, o.Incarnation, o.StartCounter}
		for i := range m.all() {
			if l := i.layout; l != nil && l.Incarnations[o.Node] != o.Incarnation && !l.Marked[o.Node] {
				i.layout = l.Mark(o.Node)
			}
		}
	default:
		return m.applyHolder(o)
	}
	return 0
}

func (m *model) applyHolder(o Op) blocktree.Kind {
	switch o := o.(type) {
	case OpenSession:
		if n, ok := m.sessions[o.Session]; ok {
			m.sessions[o.Session] = n + 1
		} else {
			m.sessions[o.Session] = 0
		}
	case RenewSession:
		if _, ok := m.sessions[o.Session]; !ok {
			return blocktree.NotFound
		}
		m.sessions[o.Session]++
	case CloseSession:
		m.closeSession(o.Session)
	case ExpireSession:
		n, ok := m.sessions[o.Session]
		switch {
		case !ok:
			return blocktree.NotFound
		case n != o.Renewals:
			return blocktree.Busy
		}
		m.closeSession(o.Session)
	case Acquire:
		i := m.byID(o.File)
		l, held := m.leases[o.File]
		if _, ok := m.sessions[o.Session]; !ok || i == nil || i.layout == nil || m.notFor(o.Session, o.File) {
			return blocktree.NotFound
		}
		if held && l.Session != o.Session {
			return blocktree.Busy
		}
		i.layout = i.layout.Acquire()
		delete(m.claims, o.File)
		m.leases[o.File] = Lease{File: o.File, Session: o.Session, Epoch: i.layout.Epoch}
	case Release:
		if l, held := m.leases[o.File]; !held || l.Session != o.Session || l.Epoch != o.Epoch {
			return blocktree.Fenced
		}
		m.drop(o.File)
	case Resize:
		return m.resize(o)
	case ClaimLease:
		return m.claim(o)
	case EndClaim:
		return m.endClaim(o)
	case Symlink:
		if k := m.make(o.Path.Short(), false, false, linkMode, 0, nil); k != 0 {
			return k
		}
		m.inodes[o.Path.Short()].target = o.Target
	case SetXattr:
		return m.setXattr(o)
	case SetLength, SetEnd, Touch, ReleaseAt, ReleaseEnd, SetTimes:
		return m.applyTimes(o)
	case ChangeView:
		i := m.byID(o.Change.File)
		if i == nil || i.layout == nil {
			return blocktree.NotFound
		}
		next, err := i.layout.Apply(o.Change, func(n blocktree.NodeID) blocktree.Incarnation { return m.starts[n].Incarnation })
		if err != nil {
			return blocktree.KindOf(err)
		}
		i.layout = next
	}
	return 0
}

func (m *model) resize(o Resize) blocktree.Kind {
	i := m.byID(o.File)
	if i == nil || i.layout == nil {
		return blocktree.NotFound
	}
	l, held := m.leases[o.File]
	switch mine := held && l.Session == o.Session && l.Epoch == o.Epoch; {
	case o.Seq != i.layout.Seq:
		return blocktree.StaleView
	case o.SizeBytes/4096 < i.layout.Size() && !mine:
		return blocktree.Fenced
	}
	next, err := i.layout.Resize(o.SizeBytes/4096, []blocktree.NodeID{1, 2, 3}, func(n blocktree.NodeID) blocktree.Incarnation { return m.starts[n].Incarnation })
	if err != nil {
		return blocktree.KindOf(err)
	}
	i.layout = next
	i.length = min(i.length, o.SizeBytes)
	i.modified = m.said(o.Time)
	m.noteChange(i)
	return 0
}

func (m *model) claim(o ClaimLease) blocktree.Kind {
	if _, ok := m.sessions[o.Session]; !ok || m.notFor(o.Session, o.File) {
		return blocktree.NotFound
	}
	l, held := m.leases[o.File]
	if !held || l.Session == o.Session || l.Epoch != o.Epoch {
		return blocktree.Fenced
	}
	if c, claimed := m.claims[o.File]; claimed && c != o.Session {
		if _, alive := m.sessions[c]; alive {
			return blocktree.Busy
		}
	}
	m.claims[o.File] = o.Session
	return 0
}

// endClaim takes every claim for repeated, so that none lapses but for a claimant that is gone, which no draw asks for.
func (m *model) endClaim(o EndClaim) blocktree.Kind {
	c, claimed := m.claims[o.File]
	if l := m.leases[o.File]; !claimed || c != o.Session || l.Epoch != o.Epoch {
		return blocktree.NotFound
	}
	if !o.Grant {
		return blocktree.Busy
	}
	if _, alive := m.sessions[c]; !alive {
		return blocktree.NotFound
	}
	i := m.byID(o.File)
	i.layout = i.layout.Acquire()
	m.drop(o.File)
	m.leases[o.File] = Lease{File: o.File, Session: c, Epoch: i.layout.Epoch}
	return 0
}

// compareClaims returns the first difference in what a renewal of a session would confirm.
func (m *model) compareClaims(s *state, id SessionID) error {
	firm, claimed := s.firm(id)
	if !claimed { // then none of its leases is
		for f := range m.claims {
			if m.leases[f].Session == id {
				return fmt.Errorf("the claim on %v is not told", f)
			}
		}
		return nil
	}
	for _, f := range firm {
		if _, claimed := m.claims[f.File]; claimed || m.leases[f.File].Session != id || m.leases[f.File].Epoch != f.Epoch {
			return fmt.Errorf("%+v is confirmed to %x", f, id)
		}
	}
	for f, l := range m.leases {
		if _, claimed := m.claims[f]; l.Session == id && !claimed && !slices.Contains(firm, FirmLease{f, l.Epoch}) {
			return fmt.Errorf("the lease of %v is not confirmed to %x", f, id)
		}
	}
	return nil
}

// compare returns the first difference between the model and the state.
func (m *model) compare(s *state) error {
	if n := 0; true {
		s.scan(kindInode, nil, nil, func(_, _ []byte) bool { n++; return true })
		if want := len(m.inodes) + len(m.nameless); n != want {
			return fmt.Errorf("%d inodes, want %d", n, want)
		}
	}
	if err := m.compareNameless(s); err != nil {
		return err
	}
	if err := m.compareKept(s); err != nil {
		return err
	}
	for p, want := range m.inodes {
		full := rootDir
		if p != "/" {
			full = path(p)
		}
		got, r := s.stat(full)
		if r.Kind != 0 || got.ID != want.id || got.Mode != want.mode || (got.Kind == KindDir) != want.dir {
			return fmt.Errorf("%s: %+v %v, want %+v", p, got, r, want)
		}
		if got.Modified != want.modified || got.Changed != want.changed || got.HasLength != want.own || got.LengthBytes != want.length {
			return fmt.Errorf("%s: %+v, want %+v", p, got, want)
		}
		if xs := s.xattrs(got.ID.Inode); got.Target != want.target || len(xs) != len(want.xattrs) {
			return fmt.Errorf("%s: target %q, attributes %v, want %+v", p, got.Target, xs, want)
		} else {
			for _, x := range xs {
				if want.xattrs[x.Name] != string(x.Value) {
					return fmt.Errorf("%s: %s is %q, want %q", p, x.Name, x.Value, want.xattrs[x.Name])
				}
			}
		}
		if err := m.compareFile(s, got, want); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	if bytes := m.extraBytes(); s.counts.access != bytes {
		return fmt.Errorf("%d bytes of targets and attributes are counted, want %d", s.counts.access, bytes)
	}
	if int(s.counts.sessions) != len(m.sessions) {
		return fmt.Errorf("%d sessions, want %d", s.counts.sessions, len(m.sessions))
	}
	for id, n := range m.sessions {
		x := s.session(id)
		leases := 0
		for _, l := range m.leases {
			if l.Session == id {
				leases++
			}
		}
		if x == nil || x.Renewals != n || int(x.Leases) != leases {
			return fmt.Errorf("session %x: %+v, want %d renewals and %d leases", id, x, n, leases)
		}
		if err := m.compareClaims(s, id); err != nil {
			return err
		}
	}
	return s.err
}

// compareFile returns the first difference in a file's layout and lease.
func (m *model) compareFile(s *state, got *Inode, want *modelInode) error {
	if want.layout == nil {
		return nil
	}
	l := s.layout(got.ID)
	if got.SizeBytes != want.layout.Size()*4096 {
		return fmt.Errorf("%d bytes, and %d sectors", got.SizeBytes, want.layout.Size())
	}
	if a, b := encodedLayout(l), encodedLayout(want.layout); a != b {
		return fmt.Errorf("layout %+v, want %+v", l, want.layout)
	}
	held, ok := m.leases[got.ID]
	if lease := s.lease(got.ID); (lease != nil) != ok || ok && (lease.Session != held.Session || lease.Epoch != held.Epoch) {
		return fmt.Errorf("lease %+v, want %+v", lease, held)
	}
	return nil
}

func encodedLayout(l *stripe.Layout) string {
	r := Result{Layout: l}
	return string(EncodeResult(nil, r))
}

// drawFile draws a file, or none.
func drawFile(t *rapid.T, m *model) blocktree.FileID {
	ids := []blocktree.FileID{fileID(0)}
	for _, q := range slices.Sorted(maps.Keys(m.inodes)) {
		ids = append(ids, m.inodes[q].id)
	}
	return rapid.SampledFrom(append(ids, m.namelessIDs()...)).Draw(t, "file")
}

// drawOp draws an op on few names, so that they meet.
func drawOp(t *rapid.T, m *model) Op {
	p := func() blocktree.Path {
		depth := rapid.IntRange(1, 3).Draw(t, "depth")
		s := ""
		for range depth {
			s += "/" + rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name")
		}
		return path(s)
	}
	f := drawFile(t, m)
	s := session(rapid.IntRange(1, 3).Draw(t, "session"))
	n := node(rapid.IntRange(1, 3).Draw(t, "node"))
	e := m.leases[f].Epoch
	switch which := rapid.IntRange(0, 36).Draw(t, "op"); which {
	case 0:
		return MakeDir{Path: p(), Parents: rapid.Bool().Draw(t, "parents"), Mode: 0o700}
	case 1, 2:
		return drawCreate(t, p(), s)
	case 3:
		return Remove{Path: p()}
	case 30, 31, 32, 33, 34, 35, 36:
		return drawKept(t, m, p(), s)
	case 15, 16:
		return drawRename(t, m, p(), p(), s)
	case 25, 26, 27, 28, 29:
		return drawNameless(t, m, s, f, which)
	case 17:
		return Symlink{Path: p(), Target: "../a"}
	case 18, 19:
		return SetXattr{f, "user." + rapid.SampledFrom([]string{"x", "y"}).Draw(t, "attribute"), []byte("v"), XattrHow(rapid.IntRange(0, 3).Draw(t, "how"))}
	case 20, 21, 22, 23, 24:
		return drawTimes(t, m, f, which)
	case 4:
		return SetAttr{File: f, Mask: AttrMode, Mode: uint32(rapid.IntRange(0, 0o777).Draw(t, "mode"))}
	case 5:
		c := m.starts[n].Counter
		return StartNode{n, incarnation(rapid.IntRange(1, 6).Draw(t, "incarnation")), c + 1,
			c - uint64(rapid.IntRange(0, 1).Draw(t, "stale"))}
	case 6:
		return OpenSession{Session: s, Principal: rootID, Path: path("/client")}
	case 7:
		return rapid.SampledFrom([]Op{RenewSession{s}, CloseSession{s}, ExpireSession{s, m.sessions[s]}, ExpireSession{s, 0}}).Draw(t, "end")
	case 8, 9:
		return Acquire{s, f}
	case 10:
		return Release{s, f, e}
	case 11:
		return ClaimLease{s, f, e}
	case 14:
		o := Resize{File: f, SizeBytes: 4096 << rapid.IntRange(0, 20).Draw(t, "size"), Session: s, Epoch: e, Time: drawTime(t)}
		if i := m.byID(f); i != nil && i.layout != nil {
			o.Seq = i.layout.Seq - blocktree.ViewID(rapid.IntRange(0, 3).Draw(t, "stale")/3)
		}
		return o
	case 12:
		return EndClaim{f, e, s, ^uint64(0), rapid.IntRange(0, 3).Draw(t, "grant") > 0}
	}
	c := stripe.Change{File: f, Epoch: e, Nodes: []blocktree.NodeID{n}, Kind: stripe.ChangeKind(rapid.IntRange(1, 3).Draw(t, "kind")),
		Incarnation: m.starts[n].Incarnation}
	if i := m.byID(f); i != nil && i.layout != nil {
		c.Seq = i.layout.Seq
	}
	return ChangeView{c}
}

// The same commands give the same state to the last byte.
func TestDeterminism(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m, a, b := newModel(3), newMachine(t), newMachine(t)
		defer a.close()
		defer b.close()
		var log [][]byte
		put := func(o Op) {
			data, err := EncodeCommand(nil, Command{ID: NewCommandID(), Op: o})
			if err != nil {
				rt.Fatal(err)
			}
			log = append(log, data)
		}
		put(Found{Dir: rootDir, Generation: 1, Runtimes: founders(3), Mode: 0o755})
		for i := 1; i <= 3; i++ {
			put(StartNode{node(i), incarnation(i), 1, 0})
		}
		for range 30 {
			o := drawOp(rt, m)
			m.apply(o)
			put(o)
		}
		for i, data := range log {
			ra, rb := a.raw(uint64(i), data), b.raw(uint64(i), data)
			if string(EncodeResult(nil, ra)) != string(EncodeResult(nil, rb)) {
				rt.Fatalf("result %d: %+v and %+v", i, ra, rb)
			}
		}
		if a.hash() != b.hash() {
			rt.Fatal("states differ")
		}
	})
}

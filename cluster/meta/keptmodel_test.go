package meta

import (
	"fmt"
	"slices"
	"testing"

	"blocktree"
	"blocktree/cluster/stripe"

	"pgregory.net/rapid"
)

// guard is what keeps whoever asks out of directories, by their paths: G2 of 0079.
func (m *model) guard(dirs ...string) (k blocktree.Kind) {
	for _, p := range dirs {
		i := m.inodes[p]
		if i == nil {
			continue
		}
		if keeper, ok := m.kept[i.id]; ok && keeper != m.asks {
			m.wanted[i.id], k = true, blocktree.Busy
		}
	}
	return k
}

// unkeep has nobody keep a directory.
func (m *model) unkeep(f blocktree.FileID) {
	delete(m.kept, f)
	delete(m.wanted, f)
}

// applyKept does the ops of directories that are kept, and of spares.
func (m *model) applyKept(o Op) blocktree.Kind {
	switch o := o.(type) {
	case MakeDirKept:
		if _, ok := m.sessions[o.Session]; !ok {
			if _, k := m.lookup(o.Path.Short()); k == blocktree.Invalid { // no path comes before all
				return k
			}
			return blocktree.Fenced
		}
		if k := m.make(o.Path.Short(), true, false, o.Mode, o.Mode, nil); k != 0 {
			return k
		}
		m.kept[m.inodes[o.Path.Short()].id] = o.Session
	case Leave:
		for _, f := range o.Dirs {
			if keeper, ok := m.kept[f]; ok && keeper == o.Session {
				m.unkeep(f)
			}
		}
		for _, f := range o.Spares {
			if i := m.nameless[f]; i != nil && i.spare && m.keepers[f] == o.Session {
				m.drop(f)
				m.forgets(f)
			}
		}
	case MakeSpares:
		if _, ok := m.sessions[o.Session]; !ok {
			return blocktree.Fenced
		}
		for range o.N {
			l := m.layout(o.SizeBytes, o.Code)
			i := &modelInode{id: blocktree.FileID{Generation: 1, Inode: m.next}, mode: 0o600, layout: l, own: true, spare: true}
			l.File = i.id
			i.layout = l.Acquire()
			m.next++
			m.noteChange(i)
			m.nameless[i.id], m.keepers[i.id] = i, o.Session
			m.leases[i.id] = Lease{File: i.id, Session: o.Session, Epoch: i.layout.Epoch}
		}
	case NameFile:
		return m.name(o)
	case Want:
		if keeper, ok := m.kept[o.Dir]; ok && keeper != m.asks {
			m.wanted[o.Dir] = true
			return blocktree.Busy
		}
	}
	return 0
}

func (m *model) name(o NameFile) blocktree.Kind {
	p := o.Path.Short()
	there, k := m.lookup(p)
	i := m.byID(o.File)
	above := m.inodes[parentOf(p)]
	_, session := m.sessions[o.Session]
	switch {
	case k == blocktree.Invalid:
		return k
	case there != nil && there.id == o.File && !(session && m.holds(o.File, o.Session, o.Epoch)):
		return 0
	case !session:
		return blocktree.Fenced
	case there != nil && there.id != o.File:
		return blocktree.Exists
	case there == nil && (above == nil || above.id != o.Dir):
		return blocktree.NotFound
	case !m.holds(o.File, o.Session, o.Epoch), there == nil && (m.keepers[o.File] != o.Session || !i.spare):
		return blocktree.Fenced
	case o.End > i.layout.Size()*4096:
		return blocktree.Invalid
	}
	if there == nil {
		m.asks = o.Session
		if k := m.guard(parentOf(p)); k != 0 {
			return k
		}
		m.forgets(o.File)
		m.inodes[p] = i
		i.mode, i.spare = o.Mode, false
		m.noteEntry(parentOf(p))
	}
	i.own, i.length = true, o.End
	m.wrote(i, m.notLater(o.Wrote))
	if o.Release {
		m.drop(o.File)
	}
	return 0
}

// layout is that of a new file.
func (m *model) layout(bytes uint64, code blocktree.Code) *stripe.Layout {
	l := &stripe.Layout{Code: code, Hosts: []blocktree.NodeID{1, 2, 3}, Seq: 1, BaseID: 1, SectorBytes: 4096, Sectors: bytes / 4096, RegionSectors: blocktree.RegionBytes / 4096,
		Incarnations: map[blocktree.NodeID]blocktree.Incarnation{}}
	for n, s := range m.starts {
		l.Incarnations[n] = s.Incarnation
	}
	return l
}

// compareKept: what is kept, and wanted, is noted, by directory and by session, and nothing else is.
func (m *model) compareKept(s *state) error {
	for _, x := range []struct {
		kind  byte
		want  int
		count uint32
	}{{kindKeptDir, len(m.kept), s.counts.keptDirs}, {kindKeeps, len(m.kept), s.counts.keptDirs}, {kindWanted, len(m.wanted), s.counts.wanted}} {
		n := 0
		s.scan(x.kind, nil, nil, func(_, _ []byte) bool { n++; return true })
		if n != x.want || int(x.count) != x.want {
			return fmt.Errorf("%c: %d noted, %d counted, want %d", x.kind, n, x.count, x.want)
		}
	}
	spares := 0
	for f, i := range m.nameless {
		if i.spare {
			spares++
		}
		if s.sparedBy(m.keepers[f], f) != i.spare {
			return fmt.Errorf("%v is a spare: %v", f, !i.spare)
		}
	}
	if int(s.counts.spares) != spares {
		return fmt.Errorf("%d spares are counted, want %d", s.counts.spares, spares)
	}
	for f, keeper := range m.kept {
		i := s.inode(f)
		if id, ok := s.keeps(f.Inode); !ok || id != keeper || i == nil || i.Kind != KindDir {
			return fmt.Errorf("%v is kept by %x, want %x", f, id, keeper)
		}
		_, noted := s.get(kindWanted, heldRest(keeper, f.Inode))
		if told := slices.Contains(s.wantedOf(keeper), f); noted != m.wanted[f] || told != noted {
			return fmt.Errorf("%v: wanted %v, told %v, want %v", f, noted, told, m.wanted[f])
		}
	}
	return m.compareSaid(s)
}

// compareSaid: who finds nothing of a name in a directory that is kept, or lists one, is told so, and of no other.
func (m *model) compareSaid(s *state) error {
	for dir, i := range m.inodes {
		at := path(dir)
		if dir == "/" {
			at = rootDir
		}
		if !i.dir {
			continue
		}
		said := func(kind QueryKind, p blocktree.Path, told bool) error {
			want := (*KeptBy)(nil)
			if keeper, ok := m.kept[i.id]; ok && told {
				want = &KeptBy{i.id, keeper, m.wanted[i.id]}
			}
			a := s.answer(Query{Kind: kind, Path: p})
			if got := a.Kept; (got == nil) != (want == nil) || got != nil && *got != *want {
				return fmt.Errorf("query %d of %s: kept %+v, want %+v", kind, p.Short(), got, want)
			}
			return nil
		}
		if err := said(QueryList, at, true); err != nil {
			return err
		}
		for _, name := range []string{"a", "b", "c"} {
			p := at.Join(name)
			for _, kind := range []QueryKind{QueryStat, QueryAllowed, QueryXattrs, QueryList} {
				there := m.inodes[p.Short()] != nil
				if there && kind == QueryList {
					continue
				}
				if err := said(kind, p, !there); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// keptDirs are the directories that are kept, in order.
func (m *model) keptDirs() (dirs []blocktree.FileID) {
	for f := range m.kept {
		dirs = append(dirs, f)
	}
	slices.SortFunc(dirs, func(a, b blocktree.FileID) int { return int(a.Inode) - int(b.Inode) })
	return dirs
}

// drawKept draws an op about directories that are kept, and about spares.
func drawKept(t *rapid.T, m *model, p blocktree.Path, s SessionID) Op {
	spares := slices.DeleteFunc(m.namelessIDs(), func(f blocktree.FileID) bool { return !m.nameless[f].spare })
	switch which := rapid.IntRange(0, 10).Draw(t, "kept"); {
	case which == 10:
		return Want{rapid.SampledFrom(append(m.keptDirs(), fileID(0), fileID(1))).Draw(t, "wanted")}
	case which < 3:
		return MakeDirKept{MakeDir{Path: p, Mode: 0o700}, s}
	case which == 3:
		o := Leave{Session: s}
		if rapid.Bool().Draw(t, "dirs") {
			o.Dirs = m.keptDirs()
		} else {
			o.Spares = m.namelessIDs()
		}
		return o
	case which < 6 || len(spares) == 0:
		return MakeSpares{Session: s, SizeBytes: 64 << 10, SectorBytes: 4096, Code: blocktree.Code{Data: 2, Parity: 1}, N: uint8(rapid.IntRange(1, 3).Draw(t, "n"))}
	}
	f := rapid.SampledFrom(spares).Draw(t, "spare")
	if i := m.inodes[p.Short()]; i != nil && i.layout != nil && rapid.Bool().Draw(t, "named") {
		f = i.id
	}
	l := m.leases[f]
	o := NameFile{Session: l.Session, File: f, Epoch: l.Epoch, CreateFile: coded("", 2, 1), End: rapid.SampledFrom([]uint64{0, 7, 64 << 10, 1 << 60}).Draw(t, "end"),
		Release: rapid.Bool().Draw(t, "release"), Wrote: drawTime(t)}
	o.Path, o.Mode = p, 0o640
	if d := m.inodes[parentOf(p.Short())]; d != nil {
		o.Dir = d.id
	}
	switch rapid.IntRange(0, 9).Draw(t, "wrong") {
	case 0:
		o.Session = s
	case 1:
		o.Epoch++
	case 2:
		o.Dir = fileID(rapid.IntRange(0, 9).Draw(t, "directory"))
	}
	return o
}

// TestKeptModel: G2 of 0079. Commands of several sessions about few names, of which some are in directories that are kept: what is guarded, wanted and named is what the model says.
func TestKeptModel(t *testing.T) {
	begin := func(m *model, s *machine) {
		for n := 1; n <= 3; n++ {
			o := OpenSession{Session: session(n), Principal: rootID, Path: path("/client")}
			m.apply(o)
			s.must(o)
		}
	}
	checkModel(t, begin, func(t *rapid.T, m *model) Op {
		p := func() blocktree.Path { // mostly in a directory that is kept
			at := rootDir
			if dirs := m.keptPaths(); len(dirs) > 0 && rapid.IntRange(0, 3).Draw(t, "in one that is kept") > 0 {
				at = path(rapid.SampledFrom(dirs).Draw(t, "dir"))
			}
			return at.Join(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name"))
		}
		s := session(rapid.IntRange(1, 3).Draw(t, "session"))
		switch rapid.IntRange(0, 12).Draw(t, "which") {
		case 0:
			return MakeDir{Path: p(), Mode: 0o700}
		case 1:
			return drawCreate(t, p(), s)
		case 2:
			return Remove{Path: p()}
		case 3, 4:
			return drawRename(t, m, p(), p(), s)
		case 5:
			return drawNameless(t, m, s, blocktree.FileID{}, 27)
		case 6:
			return Symlink{Path: p(), Target: "../a"}
		case 7:
			return drawOp(t, m)
		}
		return drawKept(t, m, p(), s)
	})
}

// keptPaths are the paths of the directories that are kept, in order.
func (m *model) keptPaths() (paths []string) {
	for p, i := range m.inodes {
		if _, ok := m.kept[i.id]; ok {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	return paths
}

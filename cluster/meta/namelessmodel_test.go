package meta

import (
	"bytes"
	"fmt"
	"iter"
	"slices"

	"blocktree"
	"blocktree/cluster/stripe"

	"pgregory.net/rapid"
)

// all are the inodes that have a name, and those that have none.
func (m *model) all() iter.Seq[*modelInode] {
	return func(yield func(*modelInode) bool) {
		for _, i := range m.inodes {
			if !yield(i) {
				return
			}
		}
		for _, i := range m.nameless {
			if !yield(i) {
				return
			}
		}
	}
}

// namelessIDs are the files that have no name, in order.
func (m *model) namelessIDs() (ids []blocktree.FileID) {
	for f := range m.nameless {
		ids = append(ids, f)
	}
	slices.SortFunc(ids, func(a, b blocktree.FileID) int { return int(a.Inode) - int(b.Inode) })
	return ids
}

// notFor reports whether another session keeps a file.
func (m *model) notFor(s SessionID, f blocktree.FileID) bool {
	keeper, ok := m.keepers[f]
	return ok && keeper != s
}

// keep takes the name from a file, for a session.
func (m *model) keep(p string, s SessionID) blocktree.Kind {
	i := m.inodes[p]
	if _, ok := m.sessions[s]; !ok {
		return blocktree.Fenced
	}
	if l, held := m.leases[i.id]; held && l.Session != s {
		return blocktree.Busy
	}
	if k := m.guard(parentOf(p)); k != 0 {
		return k
	}
	delete(m.claims, i.id)
	delete(m.inodes, p)
	m.nameless[i.id], m.keepers[i.id] = i, s
	m.noteEntry(parentOf(p))
	m.noteChange(i)
	return 0
}

func (m *model) unlink(o Unlink) blocktree.Kind {
	i, k := m.lookup(o.Path.Short())
	switch {
	case k != 0:
		return k
	case i.id != o.File:
		return blocktree.NotFound
	case i.layout == nil:
		return blocktree.Invalid
	}
	return m.keep(o.Path.Short(), o.Session)
}

func (m *model) forget(o Forget) blocktree.Kind {
	if keeper, ok := m.keepers[o.File]; !ok || keeper != o.Session {
		return blocktree.NotFound
	}
	if _, held := m.leases[o.File]; held {
		return blocktree.Busy
	}
	m.forgets(o.File)
	return 0
}

// forgets drops a file that has no name.
func (m *model) forgets(f blocktree.FileID) {
	delete(m.nameless, f)
	delete(m.keepers, f)
}

// compareNameless is U1 and U2 of 0066: what is kept is there, with all of it, and nothing else is.
func (m *model) compareNameless(s *state) error {
	kept := 0
	s.scan(kindKept, nil, nil, func(_, _ []byte) bool { kept++; return true })
	noted := 0
	s.scan(kindNameless, nil, nil, func(_, _ []byte) bool { noted++; return true })
	if n := len(m.nameless); kept != n || noted != n || int(s.counts.nameless) != n {
		return fmt.Errorf("%d files are noted to have no name, %d to be kept, %d are counted, want %d", noted, kept, s.counts.nameless, n)
	}
	layouts := 0
	if err := s.eachLayout(0, func(*stripe.Layout) bool { layouts++; return true }); err != nil {
		return err
	}
	files := 0
	for i := range m.all() {
		if i.layout != nil {
			files++
		}
	}
	if layouts != files {
		return fmt.Errorf("%d layouts, want %d", layouts, files)
	}
	for f, want := range m.nameless {
		got := s.inode(f)
		if keeper, ok := s.keeper(f); got == nil || !ok || keeper != m.keepers[f] || s.session(keeper) == nil {
			return fmt.Errorf("%v, which has no name: %+v, kept by %x, want %x", f, got, keeper, m.keepers[f])
		}
		if _, ok := s.get(kindKept, heldRest(m.keepers[f], f.Inode)); !ok {
			return fmt.Errorf("%v is not kept by its session", f)
		}
		if p, ok := s.pathOf(f); ok {
			return fmt.Errorf("%v has the name %s", f, p)
		}
		if err := m.compareFile(s, got, want); err != nil {
			return fmt.Errorf("%v, which has no name: %w", f, err)
		}
	}
	var named error
	s.scan(kindEntry, nil, nil, func(rest, v []byte) bool {
		if e, err := decodeEntryValue(v); err != nil || m.nameless[e.file] != nil {
			named = fmt.Errorf("an entry %q of %v, %v", bytes.TrimLeft(rest, "\x00"), e.file, err)
		}
		return named == nil
	})
	return named
}

// drawNameless draws an op about a file that has no name, or is to have none.
func drawNameless(t *rapid.T, m *model, s SessionID, f blocktree.FileID, which int) Op {
	if which == 29 {
		return Forget{s, f}
	}
	var at []string
	for p, i := range m.inodes {
		if i.layout != nil || which == 25 {
			at = append(at, p)
		}
	}
	if slices.Sort(at); len(at) == 0 {
		return Unlink{path("/a"), fileID(1), s}
	}
	p := rapid.SampledFrom(at).Draw(t, "of")
	o := Unlink{rootDir, m.inodes[p].id, s}
	if p != "/" {
		o.Path = path(p)
	}
	if which == 26 {
		o.File = f
		if f == (blocktree.FileID{}) {
			o.File = fileID(9)
		}
	}
	return o
}

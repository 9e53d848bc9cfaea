package meta

import (
	"strings"

	"blocktree"

	"pgregory.net/rapid"
)

// lookup is what a path names in the model: nil and the kind of a refusal where there is nothing.
func (m *model) lookup(p string) (*modelInode, blocktree.Kind) {
	if i := m.inodes[p]; i != nil {
		return i, 0
	}
	for up := parentOf(p); ; up = parentOf(up) {
		if i := m.inodes[up]; i != nil && !i.dir {
			return nil, blocktree.Invalid
		} else if i != nil {
			return nil, blocktree.NotFound
		}
	}
}

func (m *model) rename(o Rename, keeper SessionID) blocktree.Kind {
	from, to, f, over := o.From.Short(), o.To.Short(), o.File, o.Over
	i, k := m.lookup(from)
	switch {
	case k != 0:
		return k
	case i.id != f:
		return blocktree.NotFound
	case from == to:
		return 0
	}
	there, k := m.lookup(to)
	switch {
	case k == blocktree.Invalid:
		return k
	case there == nil && m.inodes[parentOf(to)] == nil:
		return blocktree.NotFound
	case i.dir && strings.HasPrefix(to+"/", from+"/"):
		return blocktree.Invalid
	case there == nil:
	case over == (blocktree.FileID{}):
		return blocktree.Exists
	case over != there.id:
		return blocktree.StaleView
	case i.dir != there.dir:
		return blocktree.Invalid
	case there.dir && m.full(to):
		return blocktree.Busy
	}
	kept := []string{parentOf(from), parentOf(to), to}
	for p := range m.inodes {
		if strings.HasPrefix(p+"/", from+"/") {
			kept = append(kept, p)
		}
	}
	if k := m.guard(kept...); k != 0 {
		return k
	}
	switch {
	case there == nil:
	case keeper != SessionID{} && there.layout != nil:
		if k := m.keep(to, keeper); k != 0 {
			return k
		}
	default:
		if k := m.remove(to); k != 0 {
			return k
		}
	}
	moved := map[string]*modelInode{}
	for p, x := range m.inodes {
		if strings.HasPrefix(p+"/", from+"/") {
			moved[to+p[len(from):]] = x
			delete(m.inodes, p)
		}
	}
	for p, x := range moved {
		m.inodes[p] = x
	}
	m.noteEntry(parentOf(from))
	m.noteEntry(parentOf(to))
	m.noteChange(i)
	return 0
}

// full reports whether something is in a directory.
func (m *model) full(p string) bool {
	for q := range m.inodes {
		if q != p && parentOf(q) == p {
			return true
		}
	}
	return false
}

// drawRename draws one that most often says what is there.
func drawRename(t *rapid.T, m *model, from, to blocktree.Path, keeper SessionID) Op {
	o := Rename{From: from, To: to}
	if i := m.inodes[from.Short()]; i != nil {
		o.File = i.id
	}
	if i := m.inodes[to.Short()]; i != nil {
		o.Over = i.id
	}
	switch rapid.IntRange(0, 9).Draw(t, "wrong") {
	case 0:
		o.File = fileID(rapid.IntRange(1, 9).Draw(t, "another"))
	case 1:
		o.Over = fileID(rapid.IntRange(-1, 9).Draw(t, "over"))
	case 2:
		o.Over = blocktree.FileID{}
	}
	if rapid.Bool().Draw(t, "keeps") {
		return RenameOver{o, keeper}
	}
	return o
}

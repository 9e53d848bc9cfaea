package meta

import (
	"blocktree"

	"pgregory.net/rapid"
)

// setXattr does what the state machine should do.
func (m *model) setXattr(o SetXattr) blocktree.Kind {
	i := m.byID(o.File)
	switch {
	case i == nil:
		return blocktree.NotFound
	case i.target != "":
		return blocktree.Invalid
	}
	switch _, there := i.xattrs[o.Name]; {
	case there && o.How == XattrCreate:
		return blocktree.Exists
	case !there && o.How >= XattrReplace:
		return blocktree.NotFound
	case o.How == XattrRemove:
		delete(i.xattrs, o.Name)
		m.noteChange(i)
		return 0
	}
	m.noteChange(i)
	if i.xattrs == nil {
		i.xattrs = map[string]string{}
	}
	i.xattrs[o.Name] = string(o.Value)
	return 0
}

// extraBytes are those of all targets and attributes.
func (m *model) extraBytes() (n uint64) {
	for i := range m.all() {
		n += uint64(len(i.target))
		for name, value := range i.xattrs {
			n += uint64(len(name) + len(value))
		}
	}
	return n
}

// isTimed reports whether an op is asked for by somebody, at a time: user id 0, who may. The others are the cluster's own.
func isTimed(o Op) bool {
	switch o.(type) {
	case SetLength, SetEnd, Touch, ReleaseAt, ReleaseEnd, SetTimes, MakeDir, CreateFile, CreateHeld, Remove, Unlink, SetXattr, Symlink, Resize, MakeDirKept, NameFile, MakeSpares:
		return true
	}
	return false
}

// noteChange notes that something changes, where that is noted.
func (m *model) noteChange(i *modelInode) {
	if m.times && m.now != 0 {
		i.changed = m.now
	}
}

// noteEntry notes that something is made in a directory, or taken out of it.
func (m *model) noteEntry(dir string) {
	if i := m.inodes[dir]; m.times && m.now != 0 {
		i.modified, i.changed = m.now, m.now
	}
}

// said is a time that somebody says; none is of the future, once times are noted.
func (m *model) said(at int64) int64 {
	if m.times {
		return m.notLater(at)
	}
	return at
}

func (m *model) notLater(at int64) int64 {
	if m.now == 0 {
		return at
	}
	return min(at, m.now)
}

// wrote notes when a file was written to.
func (m *model) wrote(i *modelInode, at int64) {
	i.modified = at
	m.noteChange(i)
}

func (m *model) holds(f blocktree.FileID, s SessionID, e blocktree.Epoch) bool {
	l, held := m.leases[f]
	return held && l.Session == s && l.Epoch == e
}

// applyTimes does what says times and ends.
func (m *model) applyTimes(o Op) blocktree.Kind {
	f, _ := fileOf(o)
	i := m.byID(f)
	file := i != nil && i.layout != nil
	switch o := o.(type) {
	case SetLength:
		if i != nil && (!file || o.Bytes > i.layout.Size()*4096) {
			return blocktree.Invalid
		} else if i == nil {
			return blocktree.NotFound
		}
		i.own, i.length = true, o.Bytes
		m.wrote(i, m.said(o.Time))
	case SetEnd:
		return m.setEnd(o, i)
	case ReleaseEnd:
		k := m.setEnd(SetEnd{f, o.Session, o.Epoch, o.Was, o.Bytes, o.Time}, i)
		if k == 0 {
			m.drop(f)
		}
		return k
	case Touch:
		switch {
		case !file:
			return blocktree.NotFound
		case !m.holds(f, o.Session, o.Epoch):
			return blocktree.Fenced
		}
		m.wrote(i, m.notLater(o.Time))
	case ReleaseAt:
		if !m.holds(f, o.Session, o.Epoch) {
			return blocktree.Fenced
		}
		m.drop(f)
		m.wrote(i, m.notLater(o.Time))
	case SetTimes:
		if i == nil {
			return blocktree.NotFound
		}
		at := o.Modified
		if o.Now && m.now != 0 {
			at = m.now
		}
		m.wrote(i, at)
	}
	return 0
}

// makeHeld makes a file of a length, which a session that is there holds.
func (m *model) makeHeld(o CreateHeld) blocktree.Kind {
	if o.Bytes > o.SizeBytes {
		return blocktree.Invalid
	}
	if _, ok := m.sessions[o.Session]; !ok {
		if _, k := m.lookup(o.Path.Short()); k == blocktree.Invalid { // no path comes before all
			return k
		}
		return blocktree.Fenced
	}
	if k := m.applyOp(o.CreateFile); k != 0 {
		return k
	}
	i := m.inodes[o.Path.Short()]
	i.own, i.length = true, o.Bytes
	i.layout = i.layout.Acquire()
	m.leases[i.id] = Lease{File: i.id, Session: o.Session, Epoch: i.layout.Epoch}
	return 0
}

func (m *model) setEnd(o SetEnd, i *modelInode) blocktree.Kind {
	if i == nil {
		return blocktree.NotFound
	}
	if i.layout == nil || o.Bytes > i.layout.Size()*4096 {
		return blocktree.Invalid
	}
	switch {
	case !m.holds(o.File, o.Session, o.Epoch):
		return blocktree.Fenced
	case m.end(i) != o.Was:
		return blocktree.StaleView
	}
	i.own, i.length = true, o.Bytes
	m.wrote(i, m.notLater(o.Time))
	return 0
}

// end is where a file ends.
func (m *model) end(i *modelInode) uint64 {
	if i.own || i.layout == nil {
		return i.length
	}
	return i.layout.Size() * 4096
}

// drawTime draws one that is before the command, or of the future.
func drawTime(t *rapid.T) int64 { return rapid.Int64Range(-20, 700).Draw(t, "time") }

// drawTimes draws what says times and ends, most often by who holds the file.
func drawTimes(t *rapid.T, m *model, f blocktree.FileID, which int) Op {
	l, was, size := m.leases[f], uint64(0), uint64(4096)
	if i := m.byID(f); i != nil {
		if was = m.end(i); i.layout != nil {
			size = i.layout.Size() * 4096
		}
	}
	bytes := rapid.SampledFrom([]uint64{0, 5, 4096, size, size + 1}).Draw(t, "bytes")
	switch rapid.IntRange(0, 9).Draw(t, "wrong") {
	case 0:
		l.Session = session(rapid.IntRange(1, 3).Draw(t, "another"))
	case 1:
		l.Epoch++
	case 2:
		was = bytes
	}
	switch which {
	case 20:
		return ReleaseEnd{Release{l.Session, f, l.Epoch}, was, bytes, drawTime(t)}
	case 21:
		return SetEnd{f, l.Session, l.Epoch, was, bytes, drawTime(t)}
	case 22:
		return Touch{l.Session, f, l.Epoch, drawTime(t)}
	case 23:
		return ReleaseAt{Release{l.Session, f, l.Epoch}, drawTime(t)}
	}
	if rapid.Bool().Draw(t, "length") {
		return SetLength{File: f, Bytes: bytes, Time: drawTime(t)}
	}
	return SetTimes{File: f, Now: rapid.Bool().Draw(t, "now"), Modified: drawTime(t)}
}

// drawCreate draws the making of a file, held or not.
func drawCreate(t *rapid.T, p blocktree.Path, s SessionID) Op {
	c := coded("", 2, 1)
	c.Path, c.Parents = p, rapid.Bool().Draw(t, "parents")
	if rapid.Bool().Draw(t, "held") {
		return CreateHeld{CreateFile: c, Session: s, Bytes: rapid.SampledFrom([]uint64{0, 7, c.SizeBytes, c.SizeBytes + 1}).Draw(t, "bytes")}
	}
	return c
}

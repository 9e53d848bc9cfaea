package meta

import (
	"slices"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/wire"
)

// Tell says which files of a directory QueryFiles tells one by one. Of all others it says how many there are.
type Tell uint8

// Which files are told.
const (
	TellNone Tell = iota
	TellHurt      // those that are not whole
	TellAll

	tellEnd // keep last
)

// Bounds of one answer to QueryFiles, so that it fits a frame and keeps nobody waiting: the entries and the regions that are looked at, and what the files that are
// told take. One file may take more.
const (
	filesLookedMax  = 4096
	filesRegionsMax = 1 << 16
	filesBytesMax   = 256 << 10
)

// Files is what an answer to QueryFiles says beside its Entries. Those are the directories, and the files that are told.
type Files struct {
	After   string           // the last name that was looked at
	Layouts []*stripe.Layout // of the files among Entries, in their order
	// How many files of this cluster are not among Entries.
	Whole, Degraded, Unavailable uint64
	Drains                       []DrainSum // ascending by node; of all files that were looked at
}

// DrainSum is what a node that is to lose its places has yet.
type DrainSum struct {
	Node   blocktree.NodeID
	Places uint64
	Bytes  uint64 // of shards, at most
}

// files answers QueryFiles.
func (s *state) files(q *Query) (entries []DirEntry, more bool, f *Files, r Result) {
	dir, r := s.statInto(q.Path)
	switch {
	case r.Kind != blocktree.Other:
		return nil, false, nil, r
	case dir.Kind != KindDir:
		return nil, false, nil, refuse(blocktree.Invalid, "%s is not a directory", q.Path.Short())
	}
	p := filesPage{s: s, q: q, limit: q.Limit, f: &Files{After: q.After}}
	if p.limit <= 0 || p.limit > blocktree.ListEntriesMax {
		p.limit = blocktree.ListEntriesMax
	}
	for _, n := range s.allDraining() {
		p.f.Drains = append(p.f.Drains, DrainSum{Node: n})
	}
	var found []DirEntry
	s.scan(kindEntry, inodeRest(dir.ID.Inode), []byte(q.After), func(rest, v []byte) bool {
		if more = len(found) == filesLookedMax; more {
			return false
		}
		e, err := decodeEntryValue(v)
		s.check(err)
		found = append(found, DirEntry{Name: string(rest), Inode: Inode{ID: e.file, Kind: e.kind}})
		return err == nil
	})
	generation := s.superblock().Generation
	for i := range found {
		e := &found[i]
		if p.full() || e.Inode.Kind == KindFile && e.Inode.ID.Generation == generation && !p.file(e) {
			return p.entries, true, p.f, Result{}
		}
		if e.Inode.Kind == KindDir {
			p.entries = append(p.entries, *e)
		}
		p.f.After = e.Name
	}
	return p.entries, more, p.f, Result{}
}

// filesPage is an answer to QueryFiles in the making.
type filesPage struct {
	s              *state
	q              *Query
	limit          int
	entries        []DirEntry
	f              *Files
	regions, bytes uint64
}

func (p *filesPage) full() bool {
	return len(p.entries) == p.limit || p.regions >= filesRegionsMax || p.bytes >= filesBytesMax
}

// file looks at a file; false if there is no room for it.
func (p *filesPage) file(e *DirEntry) bool {
	l := p.s.layout(e.Inode.ID)
	if l == nil {
		return true
	}
	now := l.Redundancy(func(n blocktree.NodeID) bool { return slices.Contains(p.q.Serving, n) })
	hurt := now.InSync < now.Members || now.Joining+now.Moving > 0 || l.Loss > 0 || l.Lossy()
	if p.q.Tell == TellAll || p.q.Tell == TellHurt && hurt {
		i := p.s.inode(l.File)
		if i == nil {
			return true
		}
		i.Access, i.Anchor = nil, nil
		var size wire.Encoder
		putInode(&size, i)
		putLayout(&size, l)
		if n := uint64(len(size.Buf) + len(e.Name)); p.bytes > 0 && p.bytes+n > filesBytesMax {
			return false
		} else {
			p.bytes += n
		}
		p.entries = append(p.entries, DirEntry{Name: e.Name, Inode: *i})
		p.f.Layouts = append(p.f.Layouts, l)
	} else {
		switch {
		case now.InSync < now.ToWrite:
			p.f.Unavailable++
		case now.InSync < now.Members:
			p.f.Degraded++
		default:
			p.f.Whole++
		}
	}
	p.regions += uint64(l.Regions())
	for i := range p.f.Drains {
		d := &p.f.Drains[i]
		places, bytes := l.Places(d.Node)
		d.Places, d.Bytes = d.Places+places, d.Bytes+bytes
	}
	return true
}

func putFiles(e *wire.Encoder, f *Files) {
	e.String(f.After)
	e.U64(f.Whole)
	e.U64(f.Degraded)
	e.U64(f.Unavailable)
	e.U16(uint16(len(f.Drains)))
	for _, d := range f.Drains {
		e.U64(uint64(d.Node))
		e.U64(d.Places)
		e.U64(d.Bytes)
	}
	e.U32(uint32(len(f.Layouts)))
	for _, l := range f.Layouts {
		putLayout(e, l)
	}
}

func getFiles(d *wire.Decoder) *Files {
	f := &Files{After: d.String(blocktree.NameBytesMax), Whole: d.U64(), Degraded: d.U64(), Unavailable: d.U64()}
	n := int(d.U16())
	if n > HostsMax {
		bad(d, "too many nodes")
	}
	for i := 0; i < n && d.Err() == nil; i++ {
		f.Drains = append(f.Drains, DrainSum{blocktree.NodeID(d.U64()), d.U64(), d.U64()})
	}
	for range d.Count(blocktree.ListEntriesMax) {
		l := getLayout(d)
		if d.Err() != nil {
			break
		}
		f.Layouts = append(f.Layouts, l)
	}
	return f
}

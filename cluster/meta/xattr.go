package meta

import (
	"slices"
	"strings"
	"unicode/utf8"

	"blocktree"
	"blocktree/internal/wire"
)

// xattrPrefix is what the name of every extended attribute begins with: there are no others than the user's.
const xattrPrefix = "user."

// Xattr is an extended attribute (docs/design/0058).
type Xattr struct {
	Name  string
	Value []byte
}

// XattrHow says what SetXattr does.
type XattrHow uint8

// What SetXattr does.
const (
	XattrSet     XattrHow = iota // creates or replaces it
	XattrCreate                  // Exists where there is one
	XattrReplace                 // NotFound where there is none
	XattrRemove                  // likewise

	xattrEnd // keep last
)

// SetXattr sets or removes an extended attribute of a file or directory. NotFound, Exists, Invalid (no such name, or of a symbolic link), NoSpace (XattrsMax, XattrsBytesMax, AccessTotalBytesMax).
type SetXattr struct {
	File  blocktree.FileID
	Name  string
	Value []byte
	How   XattrHow
}

// PutXattrs gives a copy (docs/design/0041) the extended attributes of the file that it is of, in the place of those that it has. NotFound, Invalid, NoSpace.
type PutXattrs struct {
	File   blocktree.FileID
	Xattrs []Xattr
}

func (SetXattr) opcode() opcode  { return opSetXattr }
func (PutXattrs) opcode() opcode { return opPutXattrs }

func putSetXattr(e *wire.Encoder, o *SetXattr) {
	e.File(o.File)
	e.String(o.Name)
	e.Bytes(o.Value)
	e.U8(uint8(o.How))
}

func getSetXattr(d *wire.Decoder) SetXattr {
	o := SetXattr{File: d.File(), Name: d.String(blocktree.XattrNameBytesMax), Value: getBytes(d, blocktree.XattrsBytesMax), How: XattrHow(d.U8())}
	if o.How >= xattrEnd {
		bad(d, "a way to set that nobody knows")
	}
	return o
}

func putXattrs(e *wire.Encoder, xs []Xattr) {
	e.U16(uint16(len(xs)))
	for i := range xs {
		e.String(xs[i].Name)
		e.Bytes(xs[i].Value)
	}
}

// getXattrs reads attributes that are there: names ascend.
func getXattrs(d *wire.Decoder) (xs []Xattr) {
	n, bytes := int(d.U16()), 0
	if d.Err() == nil && (n == 0 || n > blocktree.XattrsMax) {
		bad(d, "no attributes, or too many")
	}
	for ; n > 0 && d.Err() == nil; n-- {
		x := Xattr{d.String(blocktree.XattrNameBytesMax), getBytes(d, blocktree.XattrsBytesMax)}
		if bytes += x.bytes(); d.Err() == nil && (!validXattr(x.Name) || bytes > blocktree.XattrsBytesMax || len(xs) > 0 && xs[len(xs)-1].Name >= x.Name) {
			bad(d, "impossible attributes")
		}
		xs = append(xs, x)
	}
	return xs
}

// bytes is what it counts for.
func (x *Xattr) bytes() int { return len(x.Name) + len(x.Value) }

func xattrBytes(xs []Xattr) (n int) {
	for i := range xs {
		n += xs[i].bytes()
	}
	return n
}

func validXattr(name string) bool {
	return strings.HasPrefix(name, xattrPrefix) && len(name) > len(xattrPrefix) && len(name) <= blocktree.XattrNameBytesMax && !strings.ContainsRune(name, 0) && utf8.ValidString(name)
}

// xattrFlag is set in the kind of an inode on its way to a child where its extended attributes follow the times.
const xattrFlag = 0x08

func xattrFlags(i *Inode) uint8 {
	if len(i.Xattrs) > 0 {
		return xattrFlag
	}
	return 0
}

func xattrRest(n blocktree.Inode, name string) []byte { return append(inodeRest(n), name...) }

// xattrs are those of an inode, ascending by name.
func (s *state) xattrs(n blocktree.Inode) (xs []Xattr) {
	s.scan(kindXattr, inodeRest(n), nil, func(rest, v []byte) bool {
		d := wire.NewDecoder(v)
		d.Format(formatValue)
		x := Xattr{string(rest), getBytes(d, blocktree.XattrsBytesMax)}
		if err := d.Finish(); err != nil {
			s.check(blocktree.E("meta: read", blocktree.Corrupt, err))
			return false
		}
		xs = append(xs, x)
		return true
	})
	return xs
}

// putXattrs gives an inode attributes beside those that it has.
func (s *state) putXattrs(n blocktree.Inode, xs []Xattr) {
	for i := range xs {
		var e wire.Encoder
		e.U8(formatValue)
		e.Bytes(xs[i].Value)
		s.set(kindXattr, xattrRest(n, xs[i].Name), e.Buf)
		s.counts.access += uint64(xs[i].bytes())
	}
}

// dropXattrs forgets those of an inode. Nothing is looked for where there never was a command that sets one.
func (s *state) dropXattrs(n blocktree.Inode) {
	if !s.counts.times {
		return
	}
	for _, x := range s.xattrs(n) {
		s.dropXattr(n, &x)
	}
}

func (s *state) dropXattr(n blocktree.Inode, x *Xattr) {
	s.del(kindXattr, xattrRest(n, x.Name))
	s.counts.access -= min(s.counts.access, uint64(x.bytes()))
}

// mayHaveXattrs is the inode of a file or directory, or why it has no extended attributes.
func (s *state) mayHaveXattrs(f blocktree.FileID) (*Inode, Result) {
	i := s.inode(f)
	switch {
	case i == nil || i.Integrity == IntegrityCompanion:
		return nil, refuse(blocktree.NotFound, "no inode %v", f)
	case i.Kind == KindLink:
		return nil, refuse(blocktree.Invalid, "a symbolic link has no attributes")
	}
	return i, Result{}
}

func (s *state) setXattr(o SetXattr) Result {
	i, r := s.mayHaveXattrs(o.File)
	if r.Kind != blocktree.Other {
		return r
	}
	if !validXattr(o.Name) {
		return refuse(blocktree.Invalid, "%q names no attribute", o.Name).hinted("names begin with %q, and have at most %d bytes", xattrPrefix, blocktree.XattrNameBytesMax)
	}
	all, next := s.xattrs(o.File.Inode), Xattr{o.Name, o.Value}
	at := slices.IndexFunc(all, func(x Xattr) bool { return x.Name == o.Name })
	switch {
	case at < 0 && (o.How == XattrReplace || o.How == XattrRemove):
		return refuse(blocktree.NotFound, "no attribute %s", o.Name)
	case at >= 0 && o.How == XattrCreate:
		return refuse(blocktree.Exists, "there is an attribute %s", o.Name)
	}
	was := 0
	if at >= 0 {
		was = all[at].bytes()
	}
	if o.How != XattrRemove {
		if at < 0 && len(all) == blocktree.XattrsMax || xattrBytes(all)-was+next.bytes() > blocktree.XattrsBytesMax {
			return refuse(blocktree.NoSpace, "%d attributes of %d bytes", len(all), xattrBytes(all)).hinted("one file has at most %d, of %d bytes with their names", blocktree.XattrsMax, blocktree.XattrsBytesMax)
		}
		if full, ok := s.room(0, max(next.bytes()-was, 0)); !ok {
			return full
		}
	}
	if at >= 0 {
		s.dropXattr(o.File.Inode, &all[at])
	}
	if o.How != XattrRemove {
		s.putXattrs(o.File.Inode, []Xattr{next})
	}
	s.noteChange(i)
	s.setInode(i)
	return Result{}
}

func (s *state) replaceXattrs(o PutXattrs) Result {
	i, r := s.mayHaveXattrs(o.File)
	if r.Kind != blocktree.Other {
		return r
	}
	if m := s.move(o.File); m == nil || m.Adopted {
		return refuse(blocktree.Invalid, "%v is no copy", o.File)
	}
	if full, ok := s.room(0, xattrBytes(o.Xattrs)); !ok {
		return full
	}
	s.dropXattrs(i.ID.Inode)
	s.putXattrs(i.ID.Inode, o.Xattrs)
	return Result{}
}

// xattrsOf answers QueryXattrs.
func (s *state) xattrsOf(q *Query) (*Inode, []Xattr, Result) {
	i, r := s.inode(q.File), refuse(blocktree.NotFound, "no inode %v", q.File)
	if q.Path != "" {
		i, r = s.stat(q.Path)
	}
	if i == nil {
		return nil, nil, r
	}
	xs := s.xattrs(i.ID.Inode)
	if q.After == "" {
		return i, xs, Result{}
	}
	at := slices.IndexFunc(xs, func(x Xattr) bool { return x.Name == q.After })
	if at < 0 {
		return i, nil, refuse(blocktree.NotFound, "no attribute %s", q.After)
	}
	return i, xs[at : at+1], Result{}
}

// rightsXattr are the rights that reading the extended attributes of i takes.
func rightsXattr(i *Inode) Rights {
	if i.Kind == KindDir {
		return RightList
	}
	return RightRead
}

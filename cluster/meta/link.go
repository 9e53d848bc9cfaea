package meta

import (
	"strings"
	"unicode/utf8"

	"blocktree"
	"blocktree/internal/wire"
)

// linkMode is the mode of a symbolic link: who may be told of it by its directory, or by a grant, may read it, so its own mode gives only its owner anything.
const linkMode = 0o700

// Symlink makes a symbolic link (docs/design/0058): a target that nobody here looks at. Exists, NotFound (its directory), Invalid (no such target), TooLarge, NoSpace (InodesMax, AccessTotalBytesMax).
type Symlink struct {
	Path     blocktree.Path
	Target   string
	UID, GID uint32
	Time     int64
}

func (Symlink) opcode() opcode { return opSymlink }

func putSymlink(e *wire.Encoder, o *Symlink) {
	putPath(e, o.Path)
	e.String(o.Target)
	e.U32(o.UID)
	e.U32(o.GID)
	e.U64(uint64(o.Time))
}

func getSymlink(d *wire.Decoder) Symlink {
	return Symlink{Path: getPath(d), Target: d.String(blocktree.LinkBytesMax), UID: d.U32(), GID: d.U32(), Time: int64(d.U64())}
}

func (s *state) symlink(o Symlink) Result {
	at, r := s.walk(o.Path)
	switch {
	case r.Kind != blocktree.Other:
		return r
	case len(at.missing) == 0:
		return refuse(blocktree.Exists, "%s exists", o.Path.Short())
	case len(at.missing) > 1:
		return refuse(blocktree.NotFound, "%s does not exist", o.Path.Parent().Short())
	case len(o.Target) > blocktree.LinkBytesMax:
		return refuse(blocktree.TooLarge, "a target of %d bytes", len(o.Target)).hinted("at most %d", blocktree.LinkBytesMax)
	case o.Target == "" || strings.ContainsRune(o.Target, 0) || !utf8.ValidString(o.Target):
		return refuse(blocktree.Invalid, "%q is no target", o.Target).hinted("a target is a path, absolute or from the link's directory on")
	}
	if full, ok := s.room(1, len(o.Target)); !ok {
		return full
	}
	if r := s.guard(at.dir); r.Kind != blocktree.Other {
		return r
	}
	s.counts.access += uint64(len(o.Target))
	s.noteEntry(at.dir)
	i := s.newInode(KindLink, linkMode, o.UID, o.GID, o.Time)
	i.Target = o.Target
	s.setInode(i)
	s.setEntry(at.dir, at.missing[0], entry{file: i.ID, kind: KindLink})
	return Result{Inode: i}
}

// getTarget reads the target of a symbolic link.
func getTarget(d *wire.Decoder, i *Inode) {
	if i.Target = d.String(blocktree.LinkBytesMax); i.Target == "" {
		bad(d, "a link to nothing")
	}
}

package meta

import (
	"blocktree"
	"blocktree/internal/wire"
)

// Bounds of an answer about the clusters beneath: it has to fit a frame. Who asks is told that there are more.
const (
	ChildrenMax      = 1024
	childrenBytesMax = blocktree.FrameBodyBytesMax / 2
)

// children are the directories at or below p, of this cluster, that have clusters of their own, in the order of their records.
func (s *state) children(p blocktree.Path) (dirs []blocktree.Path, more bool) {
	sb, bytes := s.superblock(), 0
	if sb == nil {
		return nil, false
	}
	var last blocktree.Path
	seen := map[blocktree.Path]bool{}
	s.scan(kindBelow, append([]byte(p), '/'), nil, func(rest, _ []byte) bool {
		dir := p.Join(string(rest)).Parent()
		if dir == last || seen[dir] {
			return true
		}
		last, seen[dir] = dir, true
		at, r := s.follow(sb, dir)
		if r.Kind != blocktree.Other || at.via != "" || len(at.missing) > 0 || !at.found.away {
			return true
		}
		if bytes += len(dir); len(dirs) == ChildrenMax || bytes > childrenBytesMax {
			more = true
			return false
		}
		dirs = append(dirs, dir)
		return true
	})
	return dirs, more
}

// known answers QueryKnown.
func (s *state) known() (*Above, Result) {
	if a := s.above(); a != nil {
		return a, Result{}
	}
	return nil, refuse(blocktree.NotFound, "the cluster knows of nothing above it")
}

// judgeKnown judges who may be told that: whoever administers what is beneath it.
func (s *state) judgeKnown(q *Query) Result {
	sb := s.superblock()
	if sb == nil {
		return Result{}
	}
	i := s.inode(blocktree.FileID{Generation: sb.Generation, Inode: RootInode})
	if i == nil || !s.may(q.Caller, i, RightAdmin, q.Time) {
		return refuse(blocktree.Permission, "%s has no right to admin on %s", q.Caller, sb.Dir.Short()).hinted("ask as who may administer it")
	}
	return Result{}
}

func putPaths(e *wire.Encoder, ps []blocktree.Path) {
	e.U16(uint16(len(ps)))
	for _, p := range ps {
		putPath(e, p)
	}
}

func getPaths(d *wire.Decoder) (ps []blocktree.Path) {
	n := int(d.U16())
	if n == 0 || n > ChildrenMax {
		bad(d, "no directories, or too many")
	}
	for ; n > 0 && d.Err() == nil; n-- {
		ps = append(ps, getPath(d))
	}
	return ps
}

package meta

import (
	"blocktree"
	"blocktree/internal/wire"
)

// putAttrOp writes the fields of an op about attributes and symbolic links.
func putAttrOp(e *wire.Encoder, o Op) {
	switch o := o.(type) {
	case Touch:
		putTouch(e, &o)
	case ReleaseAt:
		putOp(e, o.Release)
		e.U64(uint64(o.Time))
	case SetTimes:
		putSetTimes(e, &o)
	case Symlink:
		putSymlink(e, &o)
	case SetXattr:
		putSetXattr(e, &o)
	case PutXattrs:
		e.File(o.File)
		e.Bool(len(o.Xattrs) > 0)
		if len(o.Xattrs) > 0 {
			putXattrs(e, o.Xattrs)
		}
	}
}

// getAttrOp reads what putAttrOp wrote.
func getAttrOp(d *wire.Decoder, code opcode) Op {
	switch code {
	case opTouch:
		return getTouch(d)
	case opReleaseAt:
		o, _ := getHolderOp(d, opRelease).(Release) // it is
		return ReleaseAt{o, int64(d.U64())}
	case opSetTimes:
		return getSetTimes(d)
	case opSymlink:
		return getSymlink(d)
	case opSetXattr:
		return getSetXattr(d)
	}
	o := PutXattrs{File: d.File()}
	if d.Bool() {
		o.Xattrs = getXattrs(d)
	}
	return o
}

// doAttr dispatches on an op about attributes and symbolic links.
func (s *state) doAttr(o Op) Result {
	switch o := o.(type) {
	case Touch:
		return s.touch(o)
	case ReleaseAt:
		return s.releaseAt(o)
	case SetTimes:
		return s.setTimes(o)
	case Symlink:
		return s.symlink(o)
	case SetXattr:
		return s.setXattr(o)
	case PutXattrs:
		return s.replaceXattrs(o)
	}
	return refuse(blocktree.Unsupported, "unknown command")
}

// judgeAttributes judges what changes attributes: the owner says any time, and who may write that it is now; who may write sets extended attributes.
func (s *state) judgeAttributes(o Op) Result {
	switch o := o.(type) {
	case SetTimes:
		if i := s.inode(o.File); i != nil && o.Now && s.may(s.caller, i, RightWrite, s.now) {
			return Result{}
		}
		return s.judgeFile(o.File, RightAdmin)
	case SetXattr:
		return s.judgeFile(o.File, RightWrite)
	}
	return s.judgeMove()
}

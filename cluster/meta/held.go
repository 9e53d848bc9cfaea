package meta

import (
	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/wire"
)

// CreateHeld is CreateFile of a file of a length that Session holds from the first (docs/design/0067), under its first epoch: nobody has written to it under another. The file is made all the same, and nobody's, for who may not hold it, and
// where the session holds too many: then there is no lease in the result. No copy of it makes a file when its client is gone, or asks for it no more. Refusals are those of CreateFile, Invalid (longer than its size), Fenced (there is no such session) and Busy (the session was renewed since: AcquireStaleAfter).
type CreateHeld struct {
	CreateFile
	Durability stripe.Durability
	Session    SessionID
	Bytes      uint64
}

// ReleaseEnd is SetEnd and Release at once, by a holder that closes a file: both are done, or neither is. Refusals are those of SetEnd.
type ReleaseEnd struct {
	Release
	Was, Bytes uint64
	Time       int64 // when it was last written
}

func (CreateHeld) opcode() opcode { return opCreateHeld }
func (ReleaseEnd) opcode() opcode { return opReleaseEnd }

func putCreateHeld(e *wire.Encoder, o *CreateHeld) {
	putCreateFile(e, &o.CreateFile)
	e.U8(uint8(o.Durability))
	e.Raw(o.Session[:])
	e.U64(o.Bytes)
}

func getCreateHeld(d *wire.Decoder) CreateHeld {
	o := CreateHeld{CreateFile: getCreateFile(d), Durability: stripe.Durability(d.U8()), Session: get16(d), Bytes: d.U64()}
	if o.Durability > stripe.DurabilityFlush {
		bad(d, "an unknown durability")
	}
	return o
}

func putReleaseEnd(e *wire.Encoder, o *ReleaseEnd) {
	putOp(e, o.Release)
	e.U64(o.Was)
	e.U64(o.Bytes)
	e.U64(uint64(o.Time))
}

func getReleaseEnd(d *wire.Decoder) ReleaseEnd {
	o, _ := getHolderOp(d, opRelease).(Release) // it is
	return ReleaseEnd{Release: o, Was: d.U64(), Bytes: d.U64(), Time: int64(d.U64())}
}

func (s *state) createHeld(o CreateHeld) Result {
	if o.Bytes > o.SizeBytes {
		return refuse(blocktree.Invalid, "a length of %d bytes", o.Bytes).hinted("a file has one, of at most its size")
	}
	if _, r := s.walk(o.Path); r.Kind != blocktree.Other { // first of all, who has the path
		return r
	}
	x := s.session(o.Session)
	switch {
	case x == nil:
		return refuse(blocktree.Fenced, "the session is closed or expired")
	case s.id.drawn()+uint64(AcquireStaleAfter) < s.renewed(o.Session):
		return refuse(blocktree.Busy, "asked for too long ago").hinted("ask again")
	}
	r := s.createFile(o.CreateFile, o.Durability)
	if r.Kind != blocktree.Other {
		return r
	}
	r.Inode.HasLength, r.Inode.LengthBytes = true, o.Bytes
	s.setInode(r.Inode)
	if x.Leases >= LeasesPerSessionMax || !s.may(s.caller, r.Inode, RightsHold, s.now) {
		return r
	}
	if _, ok := s.believed(x.Path, x.Principal); !ok {
		return r
	}
	x.Leases++
	s.setSession(x)
	held := s.grant(x, r.Layout, s.id)
	held.Inode = r.Inode
	return held
}

func (s *state) releaseEnd(o ReleaseEnd) Result {
	r := s.setEnd(SetEnd{File: o.File, Session: o.Session, Epoch: o.Epoch, Was: o.Was, Bytes: o.Bytes, Time: o.Time})
	if r.Kind == blocktree.Other {
		s.release(o.Release) // it is held so: the end was moved under that lease
	}
	return r
}

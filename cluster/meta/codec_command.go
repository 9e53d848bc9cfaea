package meta

import (
	"fmt"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/wire"
)

// EncodeCommand appends the encoding of c to dst. It fails with TooLarge over RaftCommandMax and with Invalid without an
// op.
func EncodeCommand(dst []byte, c Command) ([]byte, error) {
	if c.Op == nil {
		return nil, blocktree.E("encode command", blocktree.Invalid, nil)
	}
	e := wire.Encoder{Buf: dst}
	switch {
	case c.Keeper != (SessionID{}):
		if c.Caller == nil && c.Time != 0 { // else no member could read the log
			return nil, blocktree.E("encode command", blocktree.Invalid, nil)
		}
		e.U8(formatKeeperCommand)
		e.Raw(c.ID[:])
		e.Raw(c.Keeper[:])
		putOpt(&e, c.Caller, putCaller)
		e.U64(uint64(c.Time))
	case c.Caller == nil:
		e.U8(formatCommand)
		e.Raw(c.ID[:])
	default:
		e.U8(formatCallerCommand)
		e.Raw(c.ID[:])
		putCaller(&e, c.Caller)
		e.U64(uint64(c.Time))
	}
	e.U8(uint8(c.Op.opcode()))
	putOp(&e, c.Op)
	if n := len(e.Buf) - len(dst); n > blocktree.RaftCommandMax {
		return nil, blocktree.E("encode command", blocktree.TooLarge, fmt.Errorf("%d bytes, at most %d", n, blocktree.RaftCommandMax))
	}
	return e.Buf, nil
}

// DecodeCommand reads what EncodeCommand wrote. Nothing of b is kept.
func DecodeCommand(b []byte) (Command, error) {
	d := wire.NewDecoder(b)
	if len(b) > blocktree.RaftCommandMax {
		d.Fail(blocktree.E("decode command", blocktree.TooLarge, nil))
	}
	c := getCommandHead(d, b)
	c.Op = getOp(d, opcode(d.U8()))
	return c, d.Finish()
}

// getCommandHead reads b up to the opcode. A command of format 1 has no caller.
func getCommandHead(d *wire.Decoder, b []byte) Command {
	format := uint8(formatCommand)
	if len(b) > 0 && (b[0] == formatCallerCommand || b[0] == formatKeeperCommand) {
		format = b[0]
	}
	d.Format(format)
	c := Command{ID: get16(d)}
	switch format {
	case formatCallerCommand:
		c.Caller, c.Time = getCaller(d), int64(d.U64())
	case formatKeeperCommand:
		if c.Keeper = get16(d); c.Keeper == (SessionID{}) {
			bad(d, "a keeper that is none")
		}
		c.Caller, c.Time = getOpt(d, getCaller), int64(d.U64())
		if c.Caller == nil && c.Time != 0 {
			bad(d, "a time of nobody")
		}
	}
	return c
}

// opOf returns the opcode of an encoded command, and what follows it; 0 of one that is malformed.
func opOf(b []byte) (opcode, []byte) {
	d := wire.NewDecoder(b)
	getCommandHead(d, b)
	code := opcode(d.U8())
	return code, d.Raw(d.Len())
}

// putOp writes the fields of o.
func putOp(e *wire.Encoder, o Op) {
	switch o := o.(type) {
	case Found:
		putPath(e, o.Dir)
		e.U64(uint64(o.Generation))
		putRuntimes(e, o.Runtimes)
		e.U32(o.Mode)
		e.U64(uint64(o.Time))
	case MakeDir:
		putMakeDir(e, &o)
	case CreateFile:
		putCreateFile(e, &o)
	case Remove:
		putPath(e, o.Path)
		if o.File != (blocktree.FileID{}) {
			e.File(o.File)
		}
	case SetAttr:
		putSetAttr(e, &o)
	case PutRuntime:
		putRuntime(e, &o.Runtime)
	case RemoveRuntime:
		putPath(e, o.Path)
	case CreateFlushFile:
		putCreateFile(e, &o.CreateFile)
	case LeaveViews:
		putOp(e, o.StartNode)
	case StartVolatile:
		putOp(e, o.StartNode)
		e.Raw(o.Volatile[:])
	case StartNode:
		e.U64(uint64(o.Node))
		e.Raw(o.Incarnation[:])
		e.U64(o.StartCounter)
		e.U64(o.ExpectCounter)
	case ReplaceHost:
		putPath(e, o.Path)
		e.U64(uint64(o.Old))
		e.U64(uint64(o.New))
	case RetireHost:
		putPath(e, o.Path)
		e.U64(uint64(o.Node))
	case Resize:
		putResize(e, &o)
	case AskShrink:
		putAskShrink(e, &o)
	case SetEnd:
		putSetEnd(e, &o)
	case CreateTreeFile, Anchor, ResizeTree, AskShrinkTree:
		putTreeOp(e, o)
	case PutGrant:
		putGrantOp(e, &o)
	case RemoveGrant:
		putRemoveGrant(e, &o)
	case RevokePrincipal:
		putRevocation(e, &o.Revocation)
	case SetAccess:
		putSetAccess(e, &o)
	case NoteAccess:
		putNoteAccess(e, &o)
	case SetLength:
		putSetLength(e, &o)
	case DrainHost:
		putPath(e, o.Path)
		e.U64(uint64(o.Node))
		e.Bool(o.Cancel)
	default:
		putHolderOp(e, o)
	}
}

// putHolderOp writes the ops of sessions, leases and views.
func putHolderOp(e *wire.Encoder, o Op) {
	switch o := o.(type) {
	case OpenSession:
		e.Raw(o.Session[:])
		e.Raw(o.Principal[:])
		putPath(e, o.Path)
	case CreateHeld:
		putCreateHeld(e, &o)
	case ReleaseEnd:
		putReleaseEnd(e, &o)
	case RenewSession:
		e.Raw(o.Session[:])
	case CloseSession:
		e.Raw(o.Session[:])
	case ExpireSession:
		e.Raw(o.Session[:])
		e.U64(o.Renewals)
	case Acquire:
		e.Raw(o.Session[:])
		e.File(o.File)
	case Release:
		e.Raw(o.Session[:])
		e.File(o.File)
		e.U64(uint64(o.Epoch))
	case ClaimLease:
		e.Raw(o.Session[:])
		e.File(o.File)
		e.U64(uint64(o.Epoch))
	case EndClaim:
		e.File(o.File)
		e.U64(uint64(o.Epoch))
		e.Raw(o.Session[:])
		e.U64(o.Asked)
		e.Bool(o.Grant)
	case ChangeView:
		c := o.Change
		e.File(c.File)
		e.U64(uint64(c.Epoch))
		e.U64(uint64(c.Seq))
		e.U8(uint8(c.Kind))
		putNodes(e, c.Nodes)
		e.U32(uint32(c.Region))
		e.Raw(c.Incarnation[:])
	case Unlink, RenameOver, Forget, MakeDirKept, Leave, MakeSpares, NameFile, Want:
		putNamelessOp(e, o)
	default:
		putDelegationOp(e, o)
	}
}

func putCreateFile(e *wire.Encoder, o *CreateFile) {
	putPath(e, o.Path)
	e.Bool(o.Parents)
	putNodes(e, o.Hosts)
	e.U64(o.SizeBytes)
	e.U32(o.SectorBytes)
	putCode(e, o.Code)
	e.U32(o.Mode)
	e.U32(o.UID)
	e.U32(o.GID)
	e.U8(o.Suite)
	e.Raw(o.KeyID[:])
	e.Bytes(o.Access)
	e.U64(uint64(o.Time))
}

func getCreateFile(d *wire.Decoder) CreateFile {
	return CreateFile{Path: getPath(d), Parents: d.Bool(), Hosts: getNodes(d), SizeBytes: d.U64(), SectorBytes: d.U32(),
		Code: getCode(d), Mode: d.U32(), UID: d.U32(), GID: d.U32(), Suite: d.U8(), KeyID: get16(d),
		Access: getBytes(d, AccessBytesMax), Time: int64(d.U64())}
}

func putMakeDir(e *wire.Encoder, o *MakeDir) {
	putPath(e, o.Path)
	e.Bool(o.Parents)
	e.U32(o.Mode)
	e.U32(o.UID)
	e.U32(o.GID)
	e.U64(uint64(o.Time))
}

func putSetAttr(e *wire.Encoder, o *SetAttr) {
	e.File(o.File)
	e.U8(uint8(o.Mask))
	e.U32(o.Mode)
	e.U32(o.UID)
	e.U32(o.GID)
	e.U64(uint64(o.Modified))
	e.U8(o.Suite)
	e.Raw(o.KeyID[:])
	e.Bytes(o.Access)
}

// getOp reads the fields of the op that code names.
func getOp(d *wire.Decoder, code opcode) Op {
	switch code {
	case opFound:
		return Found{Dir: getPath(d), Generation: blocktree.Generation(d.U64()), Runtimes: getRuntimes(d), Mode: d.U32(),
			Time: int64(d.U64())}
	case opMakeDir:
		return MakeDir{Path: getPath(d), Parents: d.Bool(), Mode: d.U32(), UID: d.U32(), GID: d.U32(), Time: int64(d.U64())}
	case opCreateFile, opCreateFlushFile:
		o := getCreateFile(d)
		if code == opCreateFlushFile {
			return CreateFlushFile{o}
		}
		return o
	case opCreateTreeFile:
		return getCreateTreeFile(d)
	case opRemove:
		o := Remove{Path: getPath(d)}
		if d.Len() > 0 {
			if o.File = d.File(); o.File == (blocktree.FileID{}) {
				bad(d, "a file without an identity")
			}
		}
		return o
	case opSetAttr:
		o := SetAttr{File: d.File(), Mask: AttrMask(d.U8()), Mode: d.U32(), UID: d.U32(), GID: d.U32(),
			Modified: int64(d.U64()), Suite: d.U8(), KeyID: get16(d), Access: getBytes(d, AccessBytesMax)}
		if o.Mask&^attrAll != 0 {
			bad(d, "unknown attribute")
		}
		return o
	case opPutRuntime:
		return PutRuntime{Runtime: getRuntime(d)}
	case opRemoveRuntime:
		return RemoveRuntime{Path: getPath(d)}
	case opStartNode, opLeaveViews, opStartVolatile:
		o := StartNode{Node: blocktree.NodeID(d.U64()), Incarnation: get16(d), StartCounter: d.U64(), ExpectCounter: d.U64()}
		if code == opLeaveViews {
			return LeaveViews{o}
		}
		if code == opStartVolatile {
			return StartVolatile{o, get16(d)}
		}
		return o
	case opReplaceHost:
		return ReplaceHost{Path: getPath(d), Old: blocktree.NodeID(d.U64()), New: blocktree.NodeID(d.U64())}
	case opRetireHost:
		return RetireHost{Path: getPath(d), Node: blocktree.NodeID(d.U64())}
	case opResize, opResizeTree, opSetLength:
		return getSizeOp(d, code)
	case opPutGrant:
		return PutGrant{d.File(), getGrant(d)}
	case opRemoveGrant:
		return getRemoveGrant(d)
	case opRevokePrincipal:
		return RevokePrincipal{*getRevocation(d)}
	case opSetAccess:
		return getSetAccess(d)
	case opNoteAccess:
		return getNoteAccess(d)
	case opDrainHost:
		return DrainHost{Path: getPath(d), Node: blocktree.NodeID(d.U64()), Cancel: d.Bool()}
	}
	if code >= opPutBelow && code <= opHandOverSum || code == opTakeBack {
		return getDelegationOp(d, code)
	}
	if code >= opBeginMove && code <= opEndMove {
		return getMoveOp(d, code)
	}
	return getHolderOp(d, code)
}

// getHolderOp reads the ops of sessions, leases and views.
func getHolderOp(d *wire.Decoder, code opcode) Op {
	if code >= opTouch && code <= opPutXattrs {
		return getAttrOp(d, code)
	}
	switch code {
	case opOpenSession:
		o := OpenSession{Session: get16(d)}
		copy(o.Principal[:], d.Raw(len(o.Principal)))
		o.Path = getPath(d)
		return o
	case opRenewSession:
		return RenewSession{Session: get16(d)}
	case opCloseSession:
		return CloseSession{Session: get16(d)}
	case opExpireSession:
		return ExpireSession{Session: get16(d), Renewals: d.U64()}
	case opAcquire:
		return Acquire{Session: get16(d), File: d.File()}
	case opRelease:
		return Release{Session: get16(d), File: d.File(), Epoch: blocktree.Epoch(d.U64())}
	case opClaimLease:
		return ClaimLease{Session: get16(d), File: d.File(), Epoch: blocktree.Epoch(d.U64())}
	case opEndClaim:
		return EndClaim{File: d.File(), Epoch: blocktree.Epoch(d.U64()), Session: get16(d), Asked: d.U64(), Grant: d.Bool()}
	case opAnchor:
		return getAnchor(d)
	case opRename:
		return getRename(d)
	case opAskShrink:
		return getAskShrink(d)
	case opAskShrinkTree:
		return AskShrinkTree{getAskShrink(d)}
	case opSetEnd:
		return getSetEnd(d)
	case opCreateHeld:
		return getCreateHeld(d)
	case opReleaseEnd:
		return getReleaseEnd(d)
	case opUnlink, opRenameOver, opForget, opMakeDirKept, opLeave, opMakeSpares, opNameFile, opWant:
		return getNamelessOp(d, code)
	case opChangeView:
		return ChangeView{Change: stripe.Change{File: d.File(), Epoch: blocktree.Epoch(d.U64()), Seq: blocktree.ViewID(d.U64()),
			Kind: stripe.ChangeKind(d.U8()), Nodes: getNodes(d), Region: blocktree.RegionIndex(d.U32()), Incarnation: get16(d)}}
	}
	d.Fail(blocktree.E("decode command", blocktree.NewerFormat, fmt.Errorf("unknown command %d", code)))
	return nil
}

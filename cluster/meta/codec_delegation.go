package meta

import (
	"blocktree"
	"blocktree/internal/wire"
)

// putDelegationOp writes the fields of an op that has to do with delegated directories.
func putDelegationOp(e *wire.Encoder, o Op) {
	switch o := o.(type) {
	case PutBelow:
		putRuntime(e, &o.Runtime)
	case RemoveBelow:
		putPath(e, o.Path)
	case AssignGeneration:
		putPath(e, o.Dir)
		e.U64(uint64(o.Founder))
	case Delegate:
		putPath(e, o.Dir)
		e.U64(uint64(o.Generation))
		e.U64(uint64(o.Founder))
	case HandOver:
		putPath(e, o.Dir)
		e.U64(uint64(o.Generation))
	case DropMoved:
		putPath(e, o.Dir)
		e.U64(uint64(o.Generation))
	case RemoveMoved:
		e.File(o.File)
	case DropEntry:
		putPath(e, o.Path)
		e.File(o.File)
	case FoundChild:
		putOp(e, o.Found)
	case SetAbove:
		putAbove(e, &o.Above)
	case TakeEntries:
		putPath(e, o.Dir)
		putTakens(e, o.Entries)
		putRuntimes(e, o.Below)
	case EndTaking:
		e.Bool(o.Answer)
	case HandOverSum:
		putPath(e, o.Dir)
		e.U64(uint64(o.Generation))
		putEntriesSum(e, &o.Sum)
		putHandOverFlags(e, &o)
	case TakeBack:
		putPath(e, o.Dir)
		e.U64(uint64(o.Generation))
		e.Bool(o.Try)
	case Rename:
		putRename(e, &o)
	default:
		putMoveOp(e, o)
	}
}

// getDelegationOp reads what putDelegationOp wrote.
func getDelegationOp(d *wire.Decoder, code opcode) Op {
	generation := func() blocktree.Generation { return blocktree.Generation(d.U64()) }
	switch code {
	case opPutBelow:
		return PutBelow{getRuntime(d)}
	case opRemoveBelow:
		return RemoveBelow{getPath(d)}
	case opAssignGeneration:
		return AssignGeneration{getPath(d), blocktree.NodeID(d.U64())}
	case opDelegate:
		return Delegate{getPath(d), generation(), blocktree.NodeID(d.U64())}
	case opHandOver:
		return HandOver{getPath(d), generation()}
	case opDropMoved:
		return DropMoved{getPath(d), generation()}
	case opRemoveMoved:
		return RemoveMoved{d.File()}
	case opDropEntry:
		return DropEntry{getPath(d), d.File()}
	case opFoundChild:
		o, _ := getOp(d, opFound).(Found) // it is
		return FoundChild{o}
	case opSetAbove:
		return SetAbove{*getAbove(d)}
	case opTakeEntries:
		return TakeEntries{getPath(d), getTakens(d), getRuntimes(d)}
	case opHandOverSum:
		o := HandOverSum{Dir: getPath(d), Generation: generation(), Sum: getEntriesSum(d)}
		getHandOverFlags(d, &o)
		return o
	case opTakeBack:
		return TakeBack{getPath(d), generation(), d.Bool()}
	}
	return EndTaking{d.Bool()}
}

// What of an answer follows its format.
const (
	answerRedirect = 1 << iota
	answerAbove
	answerTaken
	answerHome
	answerMoves
	answerChildren
	answerXattrs
	answerFiles
)

func putAnswerTree(e *wire.Encoder, a *Answer) {
	var parts uint8
	for _, x := range []struct {
		there bool
		part  uint8
	}{{a.Redirect != nil, answerRedirect}, {a.Above != nil, answerAbove}, {len(a.Taken) > 0, answerTaken}, {a.Home != "", answerHome}, {len(a.Moves) > 0, answerMoves},
		{len(a.Children) > 0, answerChildren}, {len(a.Xattrs) > 0, answerXattrs}, {a.Files != nil, answerFiles}} {
		if x.there {
			parts |= x.part
		}
	}
	e.U8(parts)
	if a.Redirect != nil {
		putRedirect(e, a.Redirect)
	}
	if a.Above != nil {
		putAbove(e, a.Above)
	}
	if len(a.Taken) > 0 {
		putTakens(e, a.Taken)
	}
	if a.Home != "" {
		putPath(e, a.Home)
	}
	if len(a.Moves) > 0 {
		putMoves(e, a.Moves)
	}
	if len(a.Children) > 0 {
		putPaths(e, a.Children)
	}
	if len(a.Xattrs) > 0 {
		putXattrs(e, a.Xattrs)
	}
	if a.Files != nil {
		putFiles(e, a.Files)
	}
}

func getAnswerTree(d *wire.Decoder, a *Answer) {
	parts := d.U8()
	if d.Err() == nil && parts == 0 {
		bad(d, "an answer of no parts")
	}
	if parts&answerRedirect != 0 {
		a.Redirect = getRedirect(d)
	}
	if parts&answerAbove != 0 {
		a.Above = getAbove(d)
	}
	if parts&answerTaken != 0 {
		if a.Taken = getTakens(d); len(a.Taken) == 0 {
			bad(d, "nothing is taken")
		}
	}
	if parts&answerHome != 0 {
		if a.Home = getPath(d); a.Home == "" {
			bad(d, "no home")
		}
	}
	if parts&answerMoves != 0 {
		a.Moves = getMoves(d)
	}
	if parts&answerChildren != 0 {
		a.Children = getPaths(d)
	}
	if parts&answerXattrs != 0 {
		a.Xattrs = getXattrs(d)
	}
	if parts&answerFiles != 0 {
		a.Files = getFiles(d)
	}
}

// checkRedirect refuses a redirect of something that was done, or refused for another reason.
func checkRedirect(d *wire.Decoder, r *Redirect, k blocktree.Kind) {
	if d.Err() == nil && r != nil && k != blocktree.Elsewhere {
		bad(d, "a redirect that is none")
	}
}

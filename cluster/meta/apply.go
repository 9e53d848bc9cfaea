package meta

import (
	"fmt"

	"blocktree"
	"blocktree/cluster/stripe"
)

// apply does one command, or refuses it and changes nothing. It is deterministic: what it reads is the state and the
// command only. One of a newer version is an error, not a refusal: a member that knows it does it, so this one must stop. What
// follows from a failed read is not looked at.
func (s *state) apply(index uint64, data []byte) (id CommandID, r Result) {
	defer func() {
		if s.err != nil {
			_ = recover()
		}
	}()
	c, err := DecodeCommand(data)
	switch {
	case blocktree.KindOf(err) == blocktree.NewerFormat:
		s.check(err)
		fallthrough
	case err != nil:
		return c.ID, Result{Kind: blocktree.KindOf(err), Text: err.Error(), Index: index}
	}
	r = s.command(c)
	if !s.counts.storesRights() { // else a member that was started since would count from 0, and one that was not go on
		s.counts.rights = 0
	}
	r.Index = index
	return c.ID, r
}

// command answers a retry, or does the op and remembers it.
func (s *state) command(c Command) Result {
	remembered := remembers(c.Op)
	s.id, s.caller, s.now, s.keeperAsks = c.ID, c.Caller, c.Time, asksAsKeeper(&c)
	if remembered {
		if d, ok := s.done(c.ID); ok {
			if c.Caller != nil {
				if r, ok := s.believed(c.Caller.Path, c.Caller.Chain...); !ok {
					return r
				}
			}
			if d.layout {
				d.result.Layout = s.layout(d.file)
			}
			if i := d.result.Inode; i != nil {
				if now := s.inode(i.ID); now != nil {
					i.Access = now.Access
				}
			}
			if _, ok := c.Op.(MakeDirKept); ok && d.result.Inode != nil { // it may have left it since
				_, d.result.Kept = s.keeps(d.result.Inode.ID.Inode)
			}
			d.result.Wanted = s.wantedOf(tellsWanted(&c))
			return s.withoutRecord(d.result)
		}
	}
	if !founds(c.Op) && s.superblock() == nil {
		return refuse(blocktree.Unavailable, "the cluster is not founded yet")
	}
	if c.Caller != nil {
		s.noteParents()
	}
	times := s.counts.times
	s.counts.times = times || c.Op.opcode() >= opTouch
	op, r := s.judge(c.Op)
	if r.Kind == blocktree.Other {
		r = s.standsStill(op)
	}
	if r.Kind == blocktree.Other {
		r = s.do(op)
	}
	if r.Kind != blocktree.Other {
		s.counts.times = times
	}
	if remembered && r.Redirect == nil && (r.Kind == blocktree.Other || remembersRefusal(c.Op) && !r.Kept) {
		s.remember(c.ID, r)
	}
	r.Wanted = s.wantedOf(tellsWanted(&c))
	return s.withoutRecord(r)
}

// withoutRecord takes the access record out of a result, if the caller would not be told it by a query.
func (s *state) withoutRecord(r Result) Result {
	if s.caller == nil || r.Inode == nil || len(r.Inode.Access) == 0 {
		return r
	}
	now := s.inode(r.Inode.ID)
	if now == nil { // it was removed
		now = r.Inode
	}
	if s.rights(s.caller, now, s.now)&rightsRecord(now) == 0 {
		i := *r.Inode
		i.Access = nil
		r.Inode = &i
	}
	return r
}

// remembersRefusal says which ops must not be done by a copy that comes after a refusal was believed. That of a directory which somebody else keeps is never remembered: who is told so asks again, as the same command, and where he gives up a copy may be done yet.
func remembersRefusal(o Op) bool {
	switch o.(type) {
	case Remove, Rename, Unlink, RenameOver:
		return true
	}
	return false
}

// remembers says which ops are done once only. To renew a session again is what a client that asks again wants: its term begins anew; so
// does a claim's. To expire one, or to end a claim, again does nothing. An opening that was done is not done again: a copy that comes when the
// session has ended would bring it back without the note of its claims, and the next renewal confirm leases that are others' by then.
func remembers(o Op) bool {
	switch o.(type) {
	case RenewSession, ExpireSession, ClaimLease, EndClaim, Touch, Forget, Leave, Want:
		return false
	}
	return true
}

// founds reports whether an op is the first of a cluster.
func founds(o Op) bool {
	switch o.(type) {
	case Found, FoundChild:
		return true
	}
	return false
}

// do dispatches on the op.
func (s *state) do(o Op) Result {
	switch o := o.(type) {
	case Found:
		return s.found(o)
	case MakeDir:
		return s.makeDir(o)
	case CreateFile:
		return s.createFile(o, stripe.DurabilityAck)
	case CreateFlushFile:
		return s.createFile(o.CreateFile, stripe.DurabilityFlush)
	case CreateTreeFile:
		return s.createTreeFile(o)
	case Anchor:
		return s.anchor(o)
	case Remove:
		return s.remove(o)
	case SetAttr:
		return s.setAttr(o)
	case PutRuntime:
		return s.putRuntime(o.Runtime)
	case RemoveRuntime:
		return s.removeRuntime(o)
	case StartNode:
		return s.startNode(o, false)
	case StartVolatile:
		return s.startVolatile(o)
	case LeaveViews:
		return s.startNode(o.StartNode, true)
	case OpenSession:
		return s.openSession(o)
	case RenewSession:
		return s.renewSession(o)
	case CloseSession:
		s.closeSession(o.Session)
		return Result{}
	case ExpireSession:
		return s.expireSession(o)
	case Acquire:
		return s.acquire(o)
	case Release:
		return s.release(o)
	case ClaimLease:
		return s.claimLease(o)
	case EndClaim:
		return s.endClaim(o)
	case ChangeView:
		return s.changeView(o)
	case ReplaceHost:
		return s.replaceHost(o)
	case RetireHost:
		return s.retireHost(o)
	case DrainHost:
		return s.drainHost(o)
	case Resize, ResizeTree, SetLength:
		return s.doSize(o)
	case PutGrant:
		return s.putGrant(o)
	case RemoveGrant:
		return s.removeGrant(o)
	case RevokePrincipal:
		return s.revokePrincipal(o)
	case SetAccess:
		return s.setRecord(o)
	case NoteAccess:
		return s.noteAccess(o)
	}
	return s.doDelegation(o)
}

// doDelegation dispatches on an op that has to do with delegated directories, or that came after those.
func (s *state) doDelegation(o Op) Result {
	switch o := o.(type) {
	case PutBelow:
		return s.putBelow(o)
	case RemoveBelow:
		return s.removeBelow(o)
	case AssignGeneration:
		return s.assignGeneration(o)
	case Delegate:
		return s.delegate(o)
	case HandOver:
		return s.handOver(o)
	case HandOverSum:
		return s.handOverSum(o)
	case DropMoved:
		return s.dropMoved(o)
	case TakeBack:
		return s.takeBack(o)
	case RemoveMoved:
		return s.removeMoved(o)
	case DropEntry:
		return s.dropEntry(o)
	case FoundChild:
		return s.foundChild(o)
	case SetAbove:
		return s.setAbove(o)
	case TakeEntries:
		return s.takeEntries(o)
	case EndTaking:
		return s.endTaking(o)
	case AskShrink:
		return s.askShrink(o, IntegritySector)
	case AskShrinkTree:
		return s.askShrink(o.AskShrink, IntegrityTree)
	case SetEnd:
		return s.setEnd(o)
	case CreateHeld:
		return s.createHeld(o)
	case ReleaseEnd:
		return s.releaseEnd(o)
	case Rename:
		return s.rename(o)
	case Unlink, RenameOver, Forget, MakeDirKept, Leave, MakeSpares, NameFile, Want:
		return s.doNameless(o)
	}
	return s.doMove(o)
}

func refuse(kind blocktree.Kind, format string, args ...any) Result {
	return Result{Kind: kind, Text: fmt.Sprintf(format, args...)}
}

// hinted adds what the user can do about it.
func (r Result) hinted(format string, args ...any) Result {
	r.Hint = fmt.Sprintf(format, args...)
	return r
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/crypto/cred"
)

// permit says whether from may have the group do op: nil, or an error of kind Permission, or Unsupported of what is to be done another way. It is asked by the first node
// that a command reaches; a forwarded one was judged there. Sector hosts of the cluster speak for the cluster; everybody
// else speaks for its own sessions, and for the files that those hold. Modes and grants are judged where the command is applied
// (docs/design/0026), as they may change until then. An operation that is not named here is nobody's.
func (s *Service) permit(ctx context.Context, from cred.Identity, op meta.Op) error {
	node, isNode := s.roster.node(from.Principal)
	switch o := op.(type) {
	case meta.MakeDir, meta.CreateFile, meta.CreateFlushFile, meta.CreateTreeFile, meta.Remove, meta.Rename, meta.SetAttr, meta.ReplaceHost, meta.RetireHost, meta.DrainHost,
		meta.PutGrant, meta.RemoveGrant, meta.SetAccess, meta.SetLength, meta.PutBelow, meta.RemoveBelow, meta.RemoveMoved, meta.DropEntry,
		meta.HandOver, meta.HandOverSum, meta.DropMoved, meta.TakeBack, meta.BeginMove, meta.DropCopy, meta.Stay, meta.RemoveLeft, meta.EndMove,
		meta.SetTimes, meta.Symlink, meta.SetXattr, meta.PutXattrs, meta.Want: // of sector hosts of directories below, whose records the state has
	case meta.Delegate:
		return s.permitDelegate(from, o)
	case meta.AssignGeneration:
		if !slices.Contains(from.Services, blocktree.ServiceSector) && from.UID != 0 {
			return denied("only a sector host founds a cluster")
		}
	case meta.ExpireSession:
		return denied("only the leader ends a silent session")
	case meta.EndClaim:
		return denied("only the leader ends a claim")
	case meta.StartNode:
		if !isNode || o.Node != node {
			return s.permitStart(ctx, from, o.Node)
		}
	case meta.StartVolatile: // what it says beside is checked when it is applied
		return s.permit(ctx, from, o.StartNode)
	case meta.LeaveViews:
		return s.permit(ctx, from, o.StartNode)
	case meta.Found, meta.PutRuntime, meta.RemoveRuntime, meta.FoundChild, meta.SetAbove, meta.TakeEntries, meta.EndTaking:
		if !isNode {
			return denied("only sector hosts of the cluster may")
		}
	case meta.OpenSession:
		if o.Principal != from.Principal || o.Path != from.Path {
			return &blocktree.Error{Op: "cluster", Kind: blocktree.Permission, Err: errors.New("a session is opened in one's own name"),
				Hint: "the path in the config must be that of the runtime's credentials"}
		}
	case meta.Resize:
		if o.Session != (meta.SessionID{}) || o.Epoch != 0 {
			return s.permitSession(ctx, from, o.Session)
		}
	case meta.AskShrink:
		if o.Session != (meta.SessionID{}) {
			return s.permitSession(ctx, from, o.Session)
		}
	case meta.AskShrinkTree:
		return s.permit(ctx, from, o.AskShrink)
	case meta.SetEnd:
		return s.permitSession(ctx, from, o.Session)
	case meta.ResizeTree:
		return s.permit(ctx, from, o.Resize)
	case meta.MakeDirKept: // else anybody kept everybody out of what he has made, and from renaming what is above, for as long as he liked
		if !isNode && (from.UID != 0 || from.Anonymous()) {
			return &blocktree.Error{Op: "cluster", Kind: blocktree.Unsupported, Err: errors.New("only filesystem services of user id 0, and sector hosts, keep the names of directories"), Hint: "make it as any directory"}
		}
		return s.permitSession(ctx, from, o.Session)
	case meta.RevokePrincipal:
		return s.permitRevoke(from, o)
	case meta.ChangeView:
		return s.permitChange(ctx, from, o.Change.File)
	default:
		if id, ok := sessionOf(op); ok {
			return s.permitSession(ctx, from, id)
		}
		return denied(fmt.Sprintf("nobody may ask for a %T", op))
	}
	return nil
}

// sessionOf is the session in whose name alone an operation is asked for.
func sessionOf(op meta.Op) (id meta.SessionID, ok bool) {
	switch o := op.(type) {
	case meta.RenewSession:
		return o.Session, true
	case meta.CloseSession:
		return o.Session, true
	case meta.Acquire:
		return o.Session, true
	case meta.ClaimLease:
		return o.Session, true
	case meta.NoteAccess:
		return o.Session, true
	case meta.Anchor:
		return o.Session, true
	case meta.Release:
		return o.Session, true
	case meta.ReleaseAt:
		return o.Session, true
	case meta.ReleaseEnd:
		return o.Session, true
	case meta.CreateHeld: // else as any file
		return o.Session, true
	case meta.Touch:
		return o.Session, true
	case meta.Depart:
		return o.Session, true
	case meta.Adopt:
		return o.Session, true
	case meta.Leave:
		return o.Session, true
	case meta.MakeSpares:
		return o.Session, true
	case meta.NameFile: // else as any file
		return o.Session, true
	case meta.Unlink:
		return o.Session, true
	case meta.RenameOver:
		return o.Session, true
	case meta.Forget:
		return o.Session, true
	}
	return id, false
}

// permitDelegate refuses that a directory gets a cluster while another one takes over what is in a directory beneath: the names that it has not taken yet would be nobody's.
func (s *Service) permitDelegate(from cred.Identity, o meta.Delegate) error {
	_, is, err := s.group.IsChild(blocktree.Runtime{Path: from.Path, Principal: from.Principal})
	if err != nil || !is || from.Path.Parent() != o.Dir { // who may not is refused where it is judged, and told of nothing beneath
		return err
	}
	at, err := s.group.OnTheWay(o.Dir)
	if err == nil && at != "" {
		err = &blocktree.Error{Op: "cluster", Path: o.Dir.Short(), Kind: blocktree.Busy, Err: fmt.Errorf("the cluster of %s, beneath, is being founded", at.Short()),
			Hint: fmt.Sprintf("start the nodes in %s, and this one when they answer; if they never will say btnode dir take-back %s", at.Short(), at.Short())}
	}
	return err
}

func denied(why string) error {
	return blocktree.E("cluster", blocktree.Permission, errors.New(why))
}

// permitStart says whether a store is from's by the process records as they are now: this node may not have heard of a replacement
// yet, and to be denied ends the node that starts.
func (s *Service) permitStart(ctx context.Context, from cred.Identity, node blocktree.NodeID) error {
	if err := s.group.Sync(ctx); err != nil {
		return err
	}
	runtimes, err := s.group.Runtimes()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(sectorHosts(runtimes), func(r blocktree.Runtime) bool { return r.Principal == from.Principal && r.Node == node }) {
		return denied("a node speaks for its own starts only")
	}
	return nil
}

// permitKeeper says whether from speaks for the session that a command says to come from. One that nobody knows keeps nothing, and is taken off: it could be anybody's by the time that the command is done.
func (s *Service) permitKeeper(ctx context.Context, from cred.Identity, command *meta.Command) error {
	known, err := s.isSession(ctx, from, command.Keeper)
	if err == nil && !known {
		command.Keeper = meta.SessionID{}
	}
	return err
}

// permitSession says whether a session is from's. Of one that nobody knows, the group itself says so.
func (s *Service) permitSession(ctx context.Context, from cred.Identity, id meta.SessionID) error {
	_, err := s.isSession(ctx, from, id)
	return err
}

// isSession reports whether a session is known; kind Permission if it is another's.
func (s *Service) isSession(ctx context.Context, from cred.Identity, id meta.SessionID) (known bool, err error) {
	x, err := s.group.Session(id)
	if blocktree.KindOf(err) == blocktree.NotFound { // it may be newer than what is applied here
		if err = s.group.Sync(ctx); err == nil {
			x, err = s.group.Session(id)
		}
	}
	switch {
	case blocktree.KindOf(err) == blocktree.NotFound:
		return false, nil
	case err != nil:
		return false, err
	case x.Principal != from.Principal:
		return false, denied("the session is another's")
	}
	return true, nil
}

// permitChange says whether from holds the file whose view is to change.
func (s *Service) permitChange(ctx context.Context, from cred.Identity, file blocktree.FileID) error {
	holds := func() (bool, error) {
		lease, err := s.group.Lease(file)
		if err != nil {
			return false, err
		}
		x, err := s.group.Session(lease.Session)
		return err == nil && x.Principal == from.Principal, err
	}
	ok, err := holds()
	if !ok { // the lease may be newer than what is applied here
		if err = s.group.Sync(ctx); err == nil {
			ok, err = holds()
		}
	}
	switch {
	case ok:
		return nil
	case err == nil || blocktree.KindOf(err) == blocktree.NotFound:
		return denied("the file is not held by who asks")
	}
	return err
}

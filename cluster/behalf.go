package cluster

import (
	"context"
	"fmt"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/crypto/cred"
)

// behalfKey finds in a context on whose behalf something is asked.
type behalfKey struct{}

// OnBehalf returns a context in which a Client asks the cluster on behalf of somebody: who that is stands in every command and query, and is judged
// there. It is taken from sector hosts, and from filesystem services of directories above (0042); of anybody else the cluster believes that they ask for themselves. The client's session stays its own.
func OnBehalf(ctx context.Context, who cred.Identity) context.Context {
	return context.WithValue(ctx, behalfKey{}, callerOf(who))
}

// BehalfUID is the user id of whom ctx is on behalf of; false where that is nobody, or somebody without credentials.
func BehalfUID(ctx context.Context) (uint32, bool) {
	caller, ok := ctx.Value(behalfKey{}).(*meta.Caller)
	if !ok || caller.Anonymous() {
		return 0, false
	}
	return caller.UID, true
}

// Owns is who owns what the client makes under ctx, where nobody else is said: whom that is on behalf of, or the client's runtime.
func (c *Client) Owns(ctx context.Context) (uid, gid uint32) {
	caller := behind(ctx, nil)
	if caller == nil {
		_, chain, _ := c.Credentials()
		if len(chain) == 0 {
			return 0, 0
		}
		leaf := chain[len(chain)-1]
		caller = &meta.Caller{Principal: c.cfg.Key.Principal(), Path: c.cfg.Path, UID: leaf.UID, GID: leaf.GID, Groups: leaf.Groups}
	}
	return caller.Owns(0, 0)
}

// behind is the caller that was said, or the one that ctx is on behalf of; nil for who asks for itself.
func behind(ctx context.Context, said *meta.Caller) *meta.Caller {
	if caller, ok := ctx.Value(behalfKey{}).(*meta.Caller); ok && said == nil {
		return caller
	}
	return said
}

// speaker is who asks a node for something, and whether by a code of those who speak for others.
type speaker struct {
	asker
	speaks bool
}

// code is by which code a cluster is asked: c is a client of another cluster than the service's own if it is not the first of its tree.
func (c *Client) code(own, forOthers uint16, said *meta.Caller) uint16 {
	if said == nil || c.tree == nil || c.tree.first == c {
		return own
	}
	return forOthers
}

// speaksFromAbove reports whether somebody is a filesystem service that may speak for its callers here: of this directory or one above it, and of user id 0, which has every right itself.
func speaksFromAbove(from cred.Identity, directory blocktree.Scope) bool {
	return !from.Anonymous() && from.UID == 0 && from.Allows(blocktree.ServiceSector) && from.Allows(blocktree.ServiceFilesystem) && directory.Within(from.Path.Parent())
}

// speaksOf reports whether a filesystem service of a directory above may ask for op in another's name: where it is judged by rights alone, of which user id 0 has all. What depends on who somebody is it could get in no
// other way.
func speaksOf(op meta.Op) bool {
	switch op.(type) {
	case meta.MakeDir, meta.CreateFile, meta.CreateFlushFile, meta.CreateTreeFile, meta.CreateHeld, meta.MakeDirKept, meta.NameFile, meta.Remove, meta.RemoveMoved, meta.DropEntry, meta.Rename, meta.Resize, meta.ResizeTree, meta.SetLength,
		meta.Acquire, meta.NoteAccess, meta.SetTimes, meta.Symlink, meta.SetXattr, meta.Unlink, meta.RenameOver, meta.Want:
		return true
	}
	return false
}

// refusesFor says why somebody may not speak for the caller that it says; op is nil for a query. Kind Permission.
func (s *Service) refusesFor(from cred.Identity, said *meta.Caller, op meta.Op) error {
	switch {
	case said == nil:
		return denied("nobody is named on whose behalf it is asked")
	case !speaksFromAbove(from, s.cfg.Directory):
		return denied("only a filesystem service of user id 0, of this directory or one above it, asks on behalf of others")
	case op != nil && !speaksOf(op):
		return denied(fmt.Sprintf("nobody asks for a %T on behalf of others", op))
	}
	return nil
}

// onBehalf reports whether somebody asks for another: a sector host that says for whom, or who was let (refusesFor).
func (s *Service) onBehalf(from speaker, said *meta.Caller) bool {
	_, node := s.roster.node(from.Principal)
	return (node || from.speaks) && said != nil
}

// calledBy is who asks for something, and when: what the credentials of the connection say, and this node's clock. Sector hosts may ask for others, and say when.
func (s *Service) calledBy(from speaker, said *meta.Caller, at int64) (*meta.Caller, int64) {
	if !s.onBehalf(from, said) {
		return callerOf(from.Identity), s.cfg.Clock.Now().UnixNano()
	}
	if at == 0 || from.speaks {
		at = s.cfg.Clock.Now().UnixNano()
	}
	return said, at
}

// RightsChanges counts the changes of rights that this node has applied since its service was opened: what was judged before it moved is to be judged anew.
func (s *Service) RightsChanges() uint64 { return s.passes.changes.Load() }

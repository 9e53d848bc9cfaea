package cluster

import (
	"context"

	"blocktree/cluster/meta"
	"blocktree/crypto/cred"
)

// behalfKey finds in a context on whose behalf something is asked.
type behalfKey struct{}

// OnBehalf returns a context in which a Client asks the cluster on behalf of somebody: who that is stands in every command and query, and is judged
// there. It is taken from sector hosts only; of anybody else the cluster believes that they ask for themselves. The client's session stays its own.
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

// behind is the caller that was said, or the one that ctx is on behalf of; nil for who asks for itself.
func behind(ctx context.Context, said *meta.Caller) *meta.Caller {
	if caller, ok := ctx.Value(behalfKey{}).(*meta.Caller); ok && said == nil {
		return caller
	}
	return said
}

// RightsChanges counts the changes of rights that this node has applied since its service was opened: what was judged before it moved is to be judged anew.
func (s *Service) RightsChanges() uint64 { return s.passes.changes.Load() }

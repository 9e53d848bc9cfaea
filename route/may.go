package route

import (
	"context"

	"blocktree"
	"blocktree/crypto/cred"
)

// Asking is what is known of somebody who asks, and of what is asked about.
type Asking struct {
	Querier cred.Identity       // as credentials prove it; the zero one is anonymous
	Domain  blocktree.Principal // root principal of the domain that is asked about
	Scope   blocktree.Scope     // as deep as the answerer knows it: the scope, or the directory that it redirects to
	// OthersRead and HasRight are those of the Namespace, for Scope and Querier. They may cost something: ask them last.
	OthersRead, HasRight func(context.Context) (bool, error)
}

// May decides whether a question is answered at all; Standard is the one of DESIGN section 8. An error is that of asking the namespace.
type May func(context.Context, Asking) (bool, error)

// Standard lets ask: 1. who is in the scope's directory or below it; 2. who is authenticated in the domain, or has a right on the scope; 3. anybody else only where every directory
// from the scope to the root lets others read. An anonymous caller has no rights of its own.
func Standard(ctx context.Context, a Asking) (bool, error) {
	if !a.Querier.Anonymous() {
		if a.Querier.Path.Within(a.Scope) || a.Querier.Path.Root() == a.Domain {
			return true, nil
		}
		if has, err := a.HasRight(ctx); has || err != nil {
			return has, err
		}
	}
	return a.OthersRead(ctx)
}

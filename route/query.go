package route

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
)

// QueryKind is which of the two queries it is. Its number is its code on the wire; kinds are append-only.
type QueryKind uint8

// The queries of DESIGN section 8.
const (
	InScope QueryKind = 1 // every runtime directly in the scope that registers the service
	Closest QueryKind = 2 // those of the first directory that has any, from the scope toward the root
)

// String names the query as the commands print it.
func (k QueryKind) String() string {
	switch k {
	case InScope:
		return "in scope"
	case Closest:
		return "closest"
	}
	return "unknown query"
}

// Nonce makes a question unlike any other, so that an answer to it can be no answer to an earlier one.
type Nonce [16]byte

// NewNonce draws one.
func NewNonce() (n Nonce) {
	_, _ = rand.Read(n[:]) // never fails
	return n
}

// Query is what one runtime asks another.
type Query struct {
	Kind    QueryKind
	Scope   blocktree.Scope // absolute and clean, in the domain of both
	Service string
	Nonce   Nonce // of this question
}

// Check refuses a query that makes no sense, with Invalid.
func (q Query) Check() error {
	bad := func(why string) error {
		return &blocktree.Error{Op: "route.Query", Path: string(q.Scope), Kind: blocktree.Invalid, Err: errors.New(why)}
	}
	switch {
	case q.Kind != InScope && q.Kind != Closest:
		return bad(fmt.Sprintf("query %d is not known", q.Kind))
	case !clean(q.Scope):
		return bad("the scope is not an absolute, clean path")
	case q.Service == "" || len(q.Service) > cred.ServiceBytesMax:
		return bad("no name of a service")
	}
	return nil
}

// clean reports whether a path is absolute, with the root principal's id, and written in the one right way.
func clean(p blocktree.Path) bool {
	same, err := blocktree.ParsePath(string(p), blocktree.Principal{})
	return err == nil && same == p
}

// Outcome says what an answer is. Its number is its code on the wire; outcomes are append-only.
type Outcome uint8

// The outcomes.
const (
	Found      Outcome = 1 // Runtimes, which lie directly in In
	Nobody     Outcome = 2 // nothing there registers the service
	Redirected Outcome = 3 // Redirect: ask these
)

// String names the outcome.
func (o Outcome) String() string {
	switch o {
	case Found:
		return "found"
	case Nobody:
		return "nobody"
	case Redirected:
		return "redirected"
	}
	return "unknown outcome"
}

// Redirect names a cluster that knows more: its directory, generation, and some of its sector hosts, to be asked next.
type Redirect struct {
	Directory  blocktree.Scope      // of the cluster. Below the answerer's own: downward; above it: rootward
	Generation blocktree.Generation // of that cluster, zero where the answerer does not know it
	Runtimes   []blocktree.Runtime  // directly in Directory, at most RouteRedirectRuntimesMax. An answer without any is refused
}

// Answer is what one runtime says to a Query. It is a hint: whoever is reached by it proves place and service by credentials.
type Answer struct {
	Query     Query           // that is answered
	Directory blocktree.Scope // of the answerer's cluster, which its credentials must put it in. It speaks for this and what is below
	Outcome   Outcome
	// TTL is how long the answer holds from its reception on: whole milliseconds, more than zero and at most RouteTTLMax.
	TTL time.Duration
	// Given is when, by the answerer's clock, in whole milliseconds. Its credentials were good then; nothing else goes by it.
	Given time.Time
	// Covers is, for Closest, a directory at or above the scope, and at or below Directory and In: the same answer is right for every scope from there down.
	// "" where the answerer knows of the scope alone, and in a redirect downward, which covers what it leads to.
	Covers blocktree.Scope

	In       blocktree.Scope     // Found: the directory that has the runtimes
	Runtimes []blocktree.Runtime // Found: all there are, at least one, ascending by path
	Partial  bool                // Found: there are more than RouteRuntimesMax; these are the first of them
	Redirect Redirect            // Redirected
}

// Asker puts a query to another runtime.
type Asker interface {
	// Ask connects to to, if there is no connection yet, and returns the answer as it came, at most RouteAnswerBytesMax of it, which Open reads.
	// in is the directory whose cluster is to be asked: what is reached must prove, by credentials, that it is a sector host directly in it, and is to.Principal.
	// A runtime that a seed names may have no principal and no path: then any sector host of in will do.
	// It fails with what the other said (Permission, Busy), with Unauthenticated if another was reached, or Unavailable if nobody.
	Ask(ctx context.Context, to blocktree.Runtime, in blocktree.Scope, q Query) ([]byte, error)
}

// Namespace is what a cluster knows of the tree, as far as queries want it. Methods may block until ctx ends, and fail with Unavailable. Scopes that
// they are given are at or below Directory. What they return belongs to the caller.
type Namespace interface {
	// Directory is the cluster's own.
	Directory() blocktree.Scope
	// Parent returns the parent cluster; false in the root cluster. One without runtimes is known to exist and not how to reach it.
	Parent(ctx context.Context) (Redirect, bool, error)
	// Delegated returns the first delegated directory from Directory (itself not) down to scope (itself too); false if there is none.
	Delegated(ctx context.Context, scope blocktree.Scope) (Redirect, bool, error)
	// Registered returns the runtimes directly in dir that register the service.
	Registered(ctx context.Context, dir blocktree.Scope, service string) ([]blocktree.Runtime, error)
	// OthersRead reports whether others may read every directory from scope, as far as it is there, to the root of the domain, those above Directory
	// among them. A scope may be a file: it counts as a directory does.
	OthersRead(ctx context.Context, scope blocktree.Scope) (bool, error)
	// HasRight reports whether the caller has any right on scope, by a grant or by mode. It is asked of callers of other domains.
	HasRight(ctx context.Context, caller cred.Identity, scope blocktree.Scope) (bool, error)
}

// Plain is an optional ability of a Namespace: to know of how large a part of the tree an answer holds.
type Plain interface {
	// Plain returns the highest directory at or above scope, and at or below Directory, under which no directory is delegated, and none has
	// runtimes of its own (it may have some itself). False where there is none.
	Plain(ctx context.Context, scope blocktree.Scope) (blocktree.Scope, bool, error)
}

// SpeaksFor returns the directory that a runtime's answers are believed about, with all that is below: that which it is a sector host of.
// False for who is none: credentials that only put somebody into a directory do not make him speak for it.
func SpeaksFor(id cred.Identity) (blocktree.Scope, bool) {
	if id.Anonymous() || !id.Allows(blocktree.ServiceSector) {
		return "", false
	}
	return id.Path.Parent(), true
}

// Check refuses an answer that no runtime may give, whatever it knows, with Invalid or TooLarge.
func (a *Answer) Check() error {
	bad := func(format string, args ...any) error {
		return &blocktree.Error{Op: "route.Answer", Path: string(a.Query.Scope), Kind: blocktree.Invalid, Err: fmt.Errorf(format, args...)}
	}
	if err := a.Query.Check(); err != nil {
		return err
	}
	inside := a.Query.Scope.Within(a.Directory)
	switch {
	case !clean(a.Directory) || a.Directory.Root() != a.Query.Scope.Root():
		return bad("its directory is not a path of the domain")
	case a.TTL < time.Millisecond || a.TTL > blocktree.RouteTTLMax:
		return bad("holds for %v, at most %v", a.TTL, blocktree.RouteTTLMax)
	case a.Covers != "" && !(a.Query.Kind == Closest && clean(a.Covers) && a.Query.Scope.Within(a.Covers) && a.Covers.Within(a.Directory)):
		return bad("covers %s, which it does not speak for or was not asked of", a.Covers.Short())
	case a.Outcome == Found:
		return a.checkFound(bad)
	case a.Outcome == Nobody && !inside:
		return bad("says that nobody is where it does not speak for")
	case a.Outcome == Nobody && a.Query.Kind == Closest && a.Directory != blocktree.RootPath(a.Directory.Root()):
		return bad("only the root directory knows that nobody is above")
	case a.Outcome == Nobody:
		return nil
	case a.Outcome == Redirected:
		return a.checkRedirect(bad)
	}
	return bad("outcome %d is not known", a.Outcome)
}

// checkFound looks at the runtimes that were found: where they are said to be must be the answerer's to say, and asked for.
func (a *Answer) checkFound(bad func(string, ...any) error) error {
	q := a.Query
	switch {
	case !clean(a.In) || !a.In.Within(a.Directory):
		return bad("found in %s, which it does not speak for", a.In.Short())
	case q.Kind == InScope && a.In != q.Scope || q.Kind == Closest && !q.Scope.Within(a.In):
		return bad("found in %s, which was not asked for", a.In.Short())
	case a.Covers != "" && !a.Covers.Within(a.In):
		return bad("covers %s, above what was found", a.Covers.Short())
	}
	return checkRuntimes(a.In, q.Service, a.Runtimes, blocktree.RouteRuntimesMax, bad)
}

// checkRedirect looks at where a redirect leads: nearer to the scope, or rootward, and the latter only where the answerer cannot know the answer.
func (a *Answer) checkRedirect(bad func(string, ...any) error) error {
	to, q := a.Redirect.Directory, a.Query
	inside := q.Scope.Within(a.Directory)
	switch down := to.Within(a.Directory); {
	case !clean(to) || to == a.Directory:
		return bad("a redirect to where it comes from")
	case down && (!q.Scope.Within(to) || a.Covers != ""):
		return bad("a redirect to %s, which is not on the way", to.Short())
	case !down && !a.Directory.Within(to):
		return bad("a redirect to %s, which is neither nearer nor rootward", to.Short())
	case !down && inside && q.Kind == InScope:
		return bad("a redirect rootward from where the scope is")
	}
	return checkRuntimes(to, blocktree.ServiceSector, a.Redirect.Runtimes, blocktree.RouteRedirectRuntimesMax, bad)
}

// checkRuntimes wants each directly in dir, reachable, with the service, in order and once.
func checkRuntimes(dir blocktree.Scope, service string, list []blocktree.Runtime, most int, bad func(string, ...any) error) error {
	if len(list) == 0 || len(list) > most {
		return bad("%d runtimes, from 1 to %d", len(list), most)
	}
	for i, r := range list {
		switch {
		case r.Path.Parent() != dir:
			return bad("runtime %s is not in %s", r.Path.Short(), dir.Short())
		case !slices.Contains(r.Services, service):
			return bad("runtime %s does not register %q", r.Path.Short(), service)
		case len(r.Endpoints) > blocktree.RouteEndpointsMax || len(r.Services) > cred.ServicesMax:
			return bad("runtime %s has too many endpoints or services", r.Path.Short())
		case i > 0 && list[i-1].Path >= r.Path:
			return bad("the runtimes are not in order")
		}
		if err := check(r); err != nil {
			return err
		}
	}
	return nil
}

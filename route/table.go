package route

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"blocktree"
)

// Table is a fixed list of runtimes.
type Table struct {
	byDir map[blocktree.Scope][]blocktree.Runtime // ascending by path
}

var _ blocktree.Resolver = (*Table)(nil)

// NewTable checks runtimes and makes a Table of a copy of them. Invalid: a path that is not absolute and clean or is a root
// directory, no principal, no endpoint or one that is not host:port, a sector host without a store id; Exists: two with one
// path, principal or store id.
func NewTable(runtimes []blocktree.Runtime) (*Table, error) {
	t := &Table{byDir: map[blocktree.Scope][]blocktree.Runtime{}}
	paths, principals, nodes := map[blocktree.Path]bool{}, map[blocktree.Principal]bool{}, map[blocktree.NodeID]bool{}
	for _, r := range runtimes {
		if err := check(r); err != nil {
			return nil, &blocktree.Error{Op: "route.NewTable", Path: string(r.Path), Err: err}
		}
		if paths[r.Path] || principals[r.Principal] || r.Node != 0 && nodes[r.Node] {
			return nil, &blocktree.Error{Op: "route.NewTable", Path: string(r.Path), Kind: blocktree.Exists,
				Err: fmt.Errorf("another runtime has the same path, principal or store")}
		}
		paths[r.Path], principals[r.Principal], nodes[r.Node] = true, true, true
		t.byDir[r.Path.Parent()] = append(t.byDir[r.Path.Parent()], clone(r))
	}
	for _, rs := range t.byDir {
		slices.SortFunc(rs, func(a, b blocktree.Runtime) int {
			if a.Path < b.Path {
				return -1
			}
			return 1
		})
	}
	return t, nil
}

// check refuses a runtime that nobody could reach or recognize.
func check(r blocktree.Runtime) error {
	bad := func(format string, args ...any) error {
		return blocktree.E("runtime", blocktree.Invalid, fmt.Errorf(format, args...))
	}
	if p, err := blocktree.ParsePath(string(r.Path), blocktree.Principal{}); err != nil || p != r.Path {
		return bad("not an absolute, clean path")
	}
	switch {
	case r.Path == blocktree.RootPath(r.Path.Root()):
		return bad("a runtime lies in a directory")
	case r.Principal.IsZero():
		return bad("no principal")
	case len(r.Endpoints) == 0:
		return bad("no endpoint")
	case slices.Contains(r.Services, blocktree.ServiceSector) && r.Node == 0:
		return bad("a sector host needs a store id")
	}
	for _, e := range r.Endpoints {
		host, port, err := net.SplitHostPort(e)
		n, errPort := strconv.ParseUint(port, 10, 16)
		if err != nil || errPort != nil || host == "" || n == 0 {
			return bad("endpoint %q is not host:port", e)
		}
	}
	return nil
}

// InScope implements blocktree.Resolver. It does not block.
func (t *Table) InScope(ctx context.Context, scope blocktree.Scope, service string) ([]blocktree.Runtime, error) {
	if err := ctx.Err(); err != nil {
		return nil, &blocktree.Error{Op: "route.InScope", Path: string(scope), Kind: ended(err), Err: err}
	}
	if rs := t.in(scope, service); len(rs) > 0 {
		return rs, nil
	}
	return nil, &blocktree.Error{Op: "route.InScope", Path: string(scope), Kind: blocktree.NotFound,
		Err: fmt.Errorf("no runtime registers %q there", service)}
}

// Closest implements blocktree.Resolver. It does not block.
func (t *Table) Closest(ctx context.Context, scope blocktree.Scope, service string) ([]blocktree.Runtime, error) {
	if err := ctx.Err(); err != nil {
		return nil, &blocktree.Error{Op: "route.Closest", Path: string(scope), Kind: ended(err), Err: err}
	}
	for _, dir := range Rootward(scope) {
		if rs := t.in(dir, service); len(rs) > 0 {
			return rs, nil
		}
	}
	return nil, &blocktree.Error{Op: "route.Closest", Path: string(scope), Kind: blocktree.NotFound,
		Err: fmt.Errorf("no runtime registers %q there or above", service)}
}

// ended is the kind of a context's end.
func ended(err error) blocktree.Kind {
	if errors.Is(err, context.DeadlineExceeded) {
		return blocktree.Timeout
	}
	return blocktree.Canceled
}

// in returns copies of the runtimes directly in dir that register the service.
func (t *Table) in(dir blocktree.Scope, service string) []blocktree.Runtime {
	var out []blocktree.Runtime
	for _, r := range t.byDir[dir] {
		if slices.Contains(r.Services, service) {
			out = append(out, clone(r))
		}
	}
	return out
}

func clone(r blocktree.Runtime) blocktree.Runtime {
	r.Endpoints, r.Services = slices.Clone(r.Endpoints), slices.Clone(r.Services)
	return r
}

// Rootward returns scope and the directories above it, to the root directory of its domain.
func Rootward(scope blocktree.Scope) []blocktree.Scope {
	out := []blocktree.Scope{scope}
	for up := scope.Parent(); up != scope; up = scope.Parent() {
		out = append(out, up)
		scope = up
	}
	return out
}

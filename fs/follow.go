package fs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
)

// Symbolic links are followed by who asks, not by a service: docs/design/0076.

// Linked is what symbolic links are looked for in; a Client is one. Kinds are those of its methods.
type Linked interface {
	// Stat describes what a path names, a symbolic link itself.
	Stat(ctx context.Context, path blocktree.Path) (Info, error)
	ReadLink(ctx context.Context, path blocktree.Path) (string, error)
}

var _ Linked = (*Client)(nil)

// Through does something at a path, and if that fails, as symbolic links may be on the way or, where last says so, have the last name, once more where they lead. What do meets a symbolic link by must be Invalid.
func Through(ctx context.Context, t Linked, path blocktree.Path, last bool, do func(blocktree.Path) error) error {
	err := do(path)
	switch blocktree.KindOf(err) {
	case blocktree.Invalid, blocktree.Permission: // which is what an anonymous caller is told of anything
	default:
		return err
	}
	to, e := Follow(ctx, t, path, last)
	if e != nil {
		return e
	}
	if to == path {
		return err
	}
	return do(to)
}

// ErrLink is the error of a symbolic link where something else is wanted.
func ErrLink(op string, path blocktree.Path) error {
	return &blocktree.Error{Op: op, Path: path.Short(), Kind: blocktree.Invalid, Err: errors.New("it is a symbolic link"), Hint: "name what it leads to"}
}

// Follow returns where the symbolic links lead that are on the way to a path, and with last the one that it names, if it names one. There may be nothing at its last name. What the caller may not be told of is no link.
// Kinds: NotFound (what is before the last name), Invalid (what is before it is no directory, or a link says no path of the domain), TooLarge (more than SymlinksMax of them, which is syscall.ELOOP, or a path that is none), Unavailable.
func Follow(ctx context.Context, t Linked, path blocktree.Path, last bool) (blocktree.Path, error) {
	root := blocktree.RootPath(path.Root())
	at, todo, links := root, namesOf(path), 0
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		if name == ".." {
			at = at.Parent()
			continue
		}
		next := at.Join(name)
		if len(todo) == 0 && !last {
			at = next
			break
		}
		info, err := t.Stat(ctx, next)
		switch {
		case blocktree.KindOf(err) == blocktree.Permission, blocktree.KindOf(err) == blocktree.NotFound && len(todo) == 0 && !NoService(err):
			at = next
			continue
		case err != nil:
			return "", err
		case !info.Link && !info.Dir && len(todo) > 0:
			return "", &blocktree.Error{Op: "follow", Path: next.Short(), Kind: blocktree.Invalid, Err: errors.New("it is not a directory"), Hint: "name something in a directory"}
		case !info.Link:
			at = next
			continue
		}
		target, err := t.ReadLink(ctx, next)
		if err != nil {
			return "", err
		}
		names, from, err := targetNames(target, next)
		if err != nil {
			return "", err
		}
		if links++; links > blocktree.SymlinksMax || len(names)+len(todo) > blocktree.PathDepthMax {
			return "", &blocktree.Error{Op: "follow", Path: path.Short(), Kind: blocktree.TooLarge, Err: syscall.ELOOP, Hint: fmt.Sprintf("at most %d symbolic links are followed: one of them leads back to itself; btnode readlink says where each leads", blocktree.SymlinksMax)}
		}
		at, todo = from, append(names, todo...)
	}
	to, err := blocktree.ParsePath(string(at), path.Root())
	if err != nil {
		return "", &blocktree.Error{Op: "follow", Path: path.Short(), Err: err}
	}
	return to, nil
}

// TargetOf returns what a symbolic link says, as a cluster's metadata have it. Kinds: those of its Stat, Invalid (it is none).
func TargetOf(ctx context.Context, c *cluster.Client, path blocktree.Path) (string, error) {
	inode, err := c.Stat(ctx, path)
	if err != nil {
		return "", err
	}
	return targetOf(inode, path)
}

// targetOf is what an inode says, if it is that of a symbolic link.
func targetOf(inode *meta.Inode, path blocktree.Path) (string, error) {
	if inode.Kind != meta.KindLink {
		return "", &blocktree.Error{Op: "read the link", Path: path.Short(), Kind: blocktree.Invalid, Err: errors.New("it is no symbolic link"), Hint: "btnode stat says what it is"}
	}
	return inode.Target, nil
}

// namesOf are the names of a path below the root directory.
func namesOf(path blocktree.Path) []string {
	return strings.FieldsFunc(path.Short(), func(r rune) bool { return r == '/' })
}

// targetNames are the names that a link's target says, from a directory on.
func targetNames(target string, link blocktree.Path) (names []string, from blocktree.Path, err error) {
	bad := func(why string) ([]string, blocktree.Path, error) {
		return nil, "", &blocktree.Error{Op: "follow", Path: link.Short(), Kind: blocktree.Invalid, Err: fmt.Errorf("it is a symbolic link to %q: %s", target, why), Hint: "make it anew, to a path of this domain: btnode ln -s"}
	}
	if target == "" {
		return bad("that is no path")
	}
	for _, n := range strings.Split(target, "/") {
		if n == "" || n == "." {
			continue
		}
		if n != ".." && blocktree.CheckName(n) != nil {
			return bad("that is no path")
		}
		names = append(names, n)
	}
	if target[0] != '/' {
		return names, link.Parent(), nil
	}
	if len(names) > 0 {
		if p, err := blocktree.ParsePrincipal(names[0]); err == nil {
			if p != link.Root() {
				return bad("that is another domain")
			}
			names = names[1:]
		}
	}
	return names, blocktree.RootPath(link.Root()), nil
}

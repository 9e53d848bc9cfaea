package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"blocktree"
	"blocktree/fs"
	"blocktree/internal/cli"
)

// metaCharacters are those that make a word of the command line a pattern.
const metaCharacters = `*?[\`

// patternHint shows how a pattern is typed.
const patternHint = `* is any part of a name, ? one character, [a-c] one of a to c, [^a-c] another one, and a backslash before one of them is that itself; quote it for the shell: '/docs/*.txt'`

// listed is what patterns are looked for in.
type listed interface {
	// info describes what is at a path.
	info(ctx context.Context, path blocktree.Path) (fs.Info, error)
	// each calls do with what is directly in a directory, in the order of names, until it returns an error.
	each(ctx context.Context, dir blocktree.Path, do func(fs.Entry) error) error
}

// glob returns the paths that a word names: itself, if it is no pattern or there is such a path, else what fits it, in the order of names. Kinds: NotFound where nothing does, Invalid, TooLarge, and those of t.
func glob(ctx context.Context, t listed, word string, literal blocktree.Path) ([]blocktree.Path, error) {
	if !strings.ContainsAny(word, metaCharacters) {
		return []blocktree.Path{literal}, nil
	}
	_, err := t.info(ctx, literal)
	switch blocktree.KindOf(err) {
	case blocktree.NotFound, blocktree.Permission: // nobody in particular is told this of what is not there
	default:
		return []blocktree.Path{literal}, err
	case blocktree.Other:
		if err == nil {
			return []blocktree.Path{literal}, nil
		}
		return nil, err
	}
	root := blocktree.RootPath(literal.Root())
	names := strings.Split(strings.TrimPrefix(string(literal[len(root):]), "/"), "/")
	for _, n := range names {
		if _, err := path.Match(n, ""); err != nil {
			return nil, &blocktree.Error{Op: "pattern", Path: word, Kind: blocktree.Invalid, Err: fmt.Errorf("%q is no pattern of a name", n), Hint: patternHint}
		}
	}
	g := &globber{listed: t, ctx: ctx}
	if err := g.match(root, names); err != nil {
		return nil, err
	}
	if len(g.found) == 0 {
		return nil, &blocktree.Error{Op: "pattern", Path: word, Kind: blocktree.NotFound, Err: errors.New("nothing fits it"), Hint: "look with btnode ls; " + patternHint}
	}
	slices.Sort(g.found)
	return g.found, nil
}

// globber has what was found.
type globber struct {
	listed
	ctx   context.Context
	found []blocktree.Path
}

// match looks for what fits names below a directory.
func (g *globber) match(dir blocktree.Path, names []string) error {
	name, rest := names[0], names[1:]
	if !strings.ContainsAny(name, metaCharacters) {
		next := dir.Join(name)
		info, err := g.info(g.ctx, next)
		if k := blocktree.KindOf(err); k == blocktree.NotFound || k == blocktree.Permission {
			return nil
		}
		if err != nil {
			return err
		}
		return g.onward(next, info.Dir, rest)
	}
	return g.each(g.ctx, dir, func(e fs.Entry) error {
		if ok, _ := path.Match(name, e.Name); !ok { // it is a pattern: glob has looked
			return nil
		}
		return g.onward(dir.Join(e.Name), e.Info.Dir, rest)
	})
}

// onward goes on below a path that fits so far.
func (g *globber) onward(at blocktree.Path, dir bool, rest []string) error {
	switch {
	case len(rest) == 0:
		if len(g.found) >= blocktree.GlobMatchesMax {
			return blocktree.E("pattern", blocktree.TooLarge, fmt.Errorf("more than %d paths fit", blocktree.GlobMatchesMax))
		}
		g.found = append(g.found, at)
		return nil
	case !dir:
		return nil
	}
	return g.match(at, rest)
}

// written is a door in which patterns are looked for: what is there as it is written may be behind symbolic links.
type written struct{ *door }

func (d written) info(ctx context.Context, path blocktree.Path) (info fs.Info, err error) {
	_, info, err = d.found(ctx, path, false)
	return info, err
}

// named returns the paths that a word of the command line names.
func (d *door) named(ctx context.Context, word string) ([]blocktree.Path, error) {
	literal, err := d.cfg.Resolve(word)
	if err != nil {
		return nil, err
	}
	return glob(ctx, written{d}, word, literal)
}

// every does something to each path that some words name. Of several each failure is told, and the rest is done; then it fails, too. missing says whether what is not there is an error.
func (d *door) every(ctx context.Context, words []string, missing bool, do func(blocktree.Path) error) error {
	var paths []blocktree.Path
	failures := 0
	for _, w := range words {
		found, err := d.named(ctx, w)
		switch {
		case err == nil:
			paths = append(paths, found...)
		case !missing && blocktree.KindOf(err) == blocktree.NotFound:
		case len(words) == 1 || cli.ExitCode(err) == cli.ExitUsage:
			return err
		default:
			d.complain(err)
			failures++
		}
	}
	for _, p := range paths {
		err := do(p)
		if !missing && blocktree.KindOf(err) == blocktree.NotFound || err == nil {
			continue
		}
		if len(paths) == 1 && failures == 0 || ctx.Err() != nil {
			return err
		}
		d.complain(err)
		failures++
	}
	return someFailed(failures)
}

// complain tells of one failure of several.
func (d *door) complain(err error) {
	var told *several
	if !errors.As(err, &told) {
		d.failed(err)
	}
}

// several is the error of failures that were told of.
type several struct{ failures int }

func (s *several) Error() string {
	if s.failures == 1 {
		return "one thing failed"
	}
	return fmt.Sprintf("%d things failed", s.failures)
}

// someFailed is nil where nothing did.
func someFailed(failures int) error {
	if failures == 0 {
		return nil
	}
	return &blocktree.Error{Err: &several{failures}, Hint: "what failed is named above, all else was done"}
}

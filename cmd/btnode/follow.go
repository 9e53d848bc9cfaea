package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/fs"
	"blocktree/internal/cli"
)

// Symbolic links are followed by the commands that read, as by their namesakes on a local disk (docs/design/0076).

// linked is a door as links are followed in it.
type linked struct{ *door }

// Stat implements fs.Linked.
func (l linked) Stat(ctx context.Context, path blocktree.Path) (fs.Info, error) {
	return l.info(ctx, path)
}

// ReadLink implements fs.Linked.
func (l linked) ReadLink(ctx context.Context, path blocktree.Path) (string, error) {
	return l.target(ctx, path)
}

// behind does something at a path, or where symbolic links lead from there; last says whether what has the last name is followed, too.
func (d *door) behind(ctx context.Context, path blocktree.Path, last bool, do func(blocktree.Path) error) error {
	return fs.Through(ctx, linked{d}, path, last, do)
}

// found describes what is behind symbolic links, and says where that is. On an error it says where it was looked for.
func (d *door) found(ctx context.Context, path blocktree.Path, last bool) (at blocktree.Path, info fs.Info, err error) {
	err = d.behind(ctx, path, last, func(path blocktree.Path) (err error) {
		if at = path; last {
			info, err = d.noLink(ctx, path)
			return err
		}
		info, err = d.info(ctx, path)
		return err
	})
	return at, info, err
}

// noLink describes what a path names, which must not be a symbolic link.
func (d *door) noLink(ctx context.Context, path blocktree.Path) (fs.Info, error) {
	info, err := d.info(ctx, path)
	if err == nil && info.Link {
		err = fs.ErrLink("open", path)
	}
	return info, err
}

// source opens a file to read, behind symbolic links.
func (d *door) source(ctx context.Context, path blocktree.Path) (f fs.File, err error) {
	err = d.behind(ctx, path, true, func(at blocktree.Path) (err error) {
		if err = d.led(path, at); err == nil {
			f, err = d.file(ctx, at, fs.OpenOptions{})
		}
		return err
	})
	if blocktree.KindOf(err) == blocktree.Invalid { // a service's word has no hint
		err = cli.WithHint(err, "name a file; btnode stat says what is there, ls lists a directory, and cp --recursive copies one")
	}
	return f, err
}

// led refuses to read what symbolic links lead to from a path of which a root is kept: there was a file of integrity tree, and who says that a link is there now, as all nodes together can, would have another file taken for it.
func (d *door) led(path, to blocktree.Path) error {
	if d.roots == nil || to == path {
		return nil
	}
	seen, err := d.roots.Load(path)
	if err != nil || seen == nil {
		return err
	}
	return &blocktree.Error{Op: "open", Path: path.Short(), Kind: blocktree.Permission, Err: fmt.Errorf("a root of it is kept, and symbolic links lead to %s now", to.Short()), Hint: "if that file is meant, name it; if it was done on purpose, " + d.roots.Forgotten(path)}
}

// addDereference adds the flag of commands that describe symbolic links themselves unless they are told not to.
func addDereference(c *cobra.Command, dereference *bool) {
	c.Flags().BoolVarP(dereference, "dereference", "L", false, "describe what a symbolic link leads to, not the link")
}

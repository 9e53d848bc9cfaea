package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/fs"
	"blocktree/internal/cli"
)

func newRm() *cobra.Command {
	flags := doorFlags{namesOnly: true}
	var recursive, force bool
	c := &cobra.Command{
		Use:   "rm PATH... --config FILE [--recursive] [--force]",
		Short: "Remove files and directories",
		Long: `rm removes files and empty directories; with --recursive a directory and all that is in it, which it does not ask about. There is no way back. PATH may be a
pattern, as for ls. It goes into directories alone, as they are listed, and never out of what was named. A directory beneath that has a cluster of its own, or runtimes, is emptied as well, and stays. The root directory is not removed.

A file that programs have open by the filesystem service that removes it goes on for them, and its space is given back when the last of them has closed it. One that is written by another service, with a key, or as a block device, is busy, and stays: the error says who uses it.

What cannot be removed is told, one by one, and the rest is removed; the exit code is then 1. With --force what is not there, or a pattern that nothing fits, is no error.`,
		Example: `  btnode rm /docs/letter --config client.yaml
  btnode rm -r /old '/docs/*.tmp' --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Some("PATH"),
	}
	addConfig(c, &flags.config, "configuration of any node or client of the cluster")
	c.Flags().BoolVarP(&recursive, "recursive", "r", false, "remove directories with all that is in them")
	c.Flags().BoolVarP(&force, "force", "f", false, "what is not there is no error")
	c.RunE = func(c *cobra.Command, args []string) error {
		return flags.with(c, func(ctx context.Context, d *door) error {
			return unfinished(d.every(ctx, args, !force, func(path blocktree.Path) error {
				if path == blocktree.RootPath(path.Root()) {
					return cli.Invalid("name what is in it", "the root directory is not removed")
				}
				r := remover{d, ctx, 0}
				if !recursive {
					return d.notEmpty(ctx, path, r.remove(path))
				}
				info, err := d.info(ctx, path)
				if err != nil {
					return err
				}
				return r.all(path, info.Dir)
			}))
		})
	}
	return c
}

// notEmpty adds to the error of a removal what to do about a directory that is not empty, which is no other process's doing.
func (d *door) notEmpty(ctx context.Context, path blocktree.Path, err error) error {
	if blocktree.KindOf(err) != blocktree.Busy {
		return err
	}
	if info, e := d.info(ctx, path); e == nil && info.Dir {
		return cli.WithHint(err, "look with btnode ls; --recursive removes what is in it, too")
	}
	return err
}

// removals is what removes by path; the door's is the cluster's, by these credentials.
type removals interface {
	listed
	removePath(ctx context.Context, path blocktree.Path) error
	complain(err error)
}

// remover removes what is at and below a path.
type remover struct {
	removals
	ctx      context.Context
	failures int
}

func (d *door) removePath(ctx context.Context, path blocktree.Path) error {
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	return d.cluster.Remove(ctx, path)
}

func (r *remover) remove(path blocktree.Path) error { return r.removePath(r.ctx, path) }

// all removes what is at a path, and if that is a directory first what is in it. What failed beneath is told.
func (r *remover) all(path blocktree.Path, dir bool) error {
	if !dir {
		return r.remove(path)
	}
	was := r.failures
	err := r.each(r.ctx, path, func(e fs.Entry) error {
		if r.ctx.Err() != nil {
			return blocktree.E("rm", blocktree.Canceled, r.ctx.Err())
		}
		err := r.all(path.Join(e.Name), e.Info.Dir)
		var told *several
		switch {
		case err == nil, blocktree.KindOf(err) == blocktree.NotFound: // somebody else removed it
		case errors.As(err, &told):
		case r.ctx.Err() != nil: // and is told once
			return blocktree.E("rm", blocktree.Canceled, r.ctx.Err())
		default:
			r.complain(err)
			r.failures++
		}
		return nil
	})
	if err != nil {
		return err
	}
	if r.failures > was { // and so it is not empty
		return someFailed(r.failures - was)
	}
	return r.remove(path)
}

package main

import (
	"context"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/internal/cli"
	"blocktree/internal/file"
)

func newMv() *cobra.Command {
	var flags doorFlags
	var replace bool
	c := &cobra.Command{
		Use:   "mv FROM TO --config FILE [--replace] [--state DIR] [-v]",
		Short: "Give a file or directory another name",
		Long: `mv gives the file or directory at FROM the name TO, at once: whoever looks finds it by one of the two names, and by no other. Where TO is a directory it gets into that. Nothing that is there
is replaced unless --replace says so: then a file replaces a file, which is gone for good, as by rm, and a directory an empty directory.

It takes the right write on both directories, and to get something into another directory also admin on it. Whoever has it open goes on. Mode, owner and readers stay, but for those who read it as
readers of the directory above: these are then the readers of the directory that it gets into, which takes a reader key (readerKey in the configuration, or that of a filesystem service). An encrypted file's access record says its
path, so that its owner or user 0 signs another one, and of a directory all those beneath it; with other credentials a filesystem service does, if there is one.

Both names are kept by one cluster, else mv refuses, and copying is what is left (get and put). Directories that have a cluster of their own, or in which nodes have their paths, keep their names, as do
those with more than 4096 entries beneath. Configurations, exports and pins that say the old name are not changed; with --state DIR the roots that DIR keeps of what is moved,
of integrity tree, are kept for the new names, too.`,
		Example: `  btnode mv /vm/disk1 /vm/old --config client.yaml
  btnode mv /docs/letter.new /docs/letter --replace --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("FROM", "TO"),
	}
	flags.add(c, false)
	c.Flags().BoolVar(&replace, "replace", false, "replace a file, or an empty directory, that has the name already")
	c.RunE = func(c *cobra.Command, args []string) error {
		return flags.with(c, func(ctx context.Context, d *door) error {
			from, err := d.cfg.Resolve(args[0])
			if err != nil {
				return err
			}
			to, err := d.cfg.Resolve(args[1])
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(ctx, fileTimeout)
			defer cancel()
			if i, err := d.cluster.Stat(ctx, to); err == nil && i.Kind == meta.KindDir && from != to && from != blocktree.RootPath(from.Root()) {
				to = to.Join(from.Base())
			}
			return d.rename(ctx, from, to, !replace)
		})
	}
	return c
}

// rename gives something another name: by these credentials, else through a filesystem service, which signs what these may not.
func (d *door) rename(ctx context.Context, from, to blocktree.Path, keep bool) error {
	err := file.Rename(ctx, d.cluster, from, to, file.RenameOptions{Keep: keep, Reader: d.reader, Roots: d.roots})
	if err == nil {
		d.used(from, 2, "renamed by these credentials")
	}
	if blocktree.KindOf(err) != blocktree.Permission || d.service == nil {
		return unsureOfName(err)
	}
	if err = d.kept(from, err); err != nil { // whose root would not be kept for the new name
		return err
	}
	if err = d.service.Rename(ctx, from, to, keep); err == nil && d.tell != nil {
		in, _, _ := d.service.Nearest(ctx, from.Parent()) // as it was found just now
		d.usedService(from, "of "+in.Short())
	}
	return unsureOfName(err)
}

// unsureOfName adds to an error that it may have been done all the same, where nobody knows.
func unsureOfName(err error) error {
	switch blocktree.KindOf(err) {
	case blocktree.Unavailable, blocktree.Timeout, blocktree.Canceled, blocktree.Closed, blocktree.Undeliverable:
		return cli.WithHint(err, "it may have been done all the same: look with btnode ls")
	}
	return err
}

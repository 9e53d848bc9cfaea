package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/fs"
	"blocktree/internal/cli"
)

func newLn() *cobra.Command {
	flags := doorFlags{namesOnly: true}
	var symbolic bool
	c := &cobra.Command{
		Use:   "ln --symbolic TARGET PATH --config FILE",
		Short: "Make a symbolic link",
		Long: `ln makes a symbolic link at PATH: a name that says TARGET, a path from the root directory of the domain or from the link's own directory on, whether there is anything or not. It takes the right write on the directory.
Whoever may list that may read the link, with readlink; the nodes of the cluster can, too, as they can names.

Nodes, block devices and filesystem services follow none. cat, get, cp, ls and stat do, as the user who asks, up to 40 on one way: those on the way to what they are asked for, as does readlink, and cat, get and cp one at its end, too. rm and mv follow none, and mean the link itself.
A target in another domain leads nowhere. There are no hard links: a file has one name.`,
		Example:               "  btnode ln -s letter-2.txt /docs/letter --config client.yaml",
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("TARGET", "PATH"),
	}
	flags.add(c, false)
	c.Flags().BoolVarP(&symbolic, "symbolic", "s", false, "make a symbolic link; there are no others")
	c.RunE = func(c *cobra.Command, args []string) error {
		if !symbolic {
			return cli.Invalid("say --symbolic", "a file has one name: there are no hard links")
		}
		return flags.with(c, func(ctx context.Context, d *door) error {
			path, err := d.cfg.Resolve(args[1])
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(ctx, fileTimeout)
			defer cancel()
			return d.cluster.Symlink(ctx, path, args[0])
		})
	}
	return c
}

func newReadlink() *cobra.Command {
	flags := doorFlags{namesOnly: true}
	c := &cobra.Command{
		Use:                   "readlink PATH --config FILE [--anonymous]",
		Short:                 "Print the target of a symbolic link",
		Long:                  `readlink prints what the symbolic link at PATH says, as it was said, whether there is anything or not. What does not print is shown as in \x1b.`,
		Example:               "  btnode readlink /docs/letter --config client.yaml",
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH"),
	}
	flags.add(c, true)
	c.RunE = func(c *cobra.Command, args []string) error {
		return flags.with(c, func(ctx context.Context, d *door) error {
			path, err := d.cfg.Resolve(args[0])
			if err != nil {
				return err
			}
			var target string
			err = d.behind(ctx, path, false, func(path blocktree.Path) (err error) {
				target, err = d.target(ctx, path)
				return err
			})
			if err == nil {
				_, err = fmt.Fprintln(c.OutOrStdout(), cli.PrintableName(target))
			}
			return err
		})
	}
	return c
}

// target is what a symbolic link says.
func (d *door) target(ctx context.Context, path blocktree.Path) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	if d.anonymous {
		return d.service.ReadLink(ctx, path)
	}
	return fs.TargetOf(ctx, d.cluster, path)
}

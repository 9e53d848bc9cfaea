package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cmd/internal/parts"
	"blocktree/fs/mount"
	"blocktree/internal/cli"
)

func newMount() *cobra.Command {
	var flags doorFlags
	c := &cobra.Command{
		Use:   "mount PATH DIR --config FILE [--anonymous]",
		Short: "Show a directory as a file system, to read",
		Long: `mount shows the directory PATH, and all beneath it, at the local directory DIR, until it is stopped. It is read-only, and for the user who mounts it alone, to whom everything in it is shown as belonging.
It prints a line that begins with "ready" when programs can use it.

What is read comes by a filesystem service, which judges and decrypts, also where the configuration has a reader key. Who opens a file reads what was flushed before; names and attributes may be a second old. A write does not
change a file's time: compare contents, not times (rsync -c). While no service is reached, reads wait, for 30 seconds, and then fail with an I/O error.

SIGINT or SIGTERM unmounts it, as soon as nobody uses it: a shell in it, or an open file, keeps it. A second one kills the process; nothing is lost by that, but programs get errors until fusermount -u DIR
takes away what is left. fusermount -u DIR also stops a mount that is well. It needs /dev/fuse, and fusermount where it is not root's.

There are no symbolic links and extended attributes, locks hold among programs of one mount, and df shows zeros.`,
		Example: `  btnode mount /docs /mnt/docs --config client.yaml
  btnode mount /pub /mnt/pub --anonymous --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH", "DIR"),
	}
	addConfig(c, &flags.config, "configuration of any node or client of the cluster")
	c.Flags().BoolVar(&flags.anonymous, "anonymous", false, "ask as nobody in particular, without credentials")
	c.RunE = func(c *cobra.Command, args []string) error {
		return flags.with(c, func(ctx context.Context, d *door) error {
			path, err := d.cfg.Resolve(args[0])
			if err != nil {
				return err
			}
			dir, err := filepath.Abs(args[1])
			if err != nil {
				return localError("mount", args[1], err)
			}
			return d.mount(c, path, dir)
		})
	}
	return c
}

// mount shows a directory until the command is stopped, or somebody takes it away.
func (d *door) mount(c *cobra.Command, path blocktree.Path, dir string) error {
	m, err := mount.Dir(c.Context(), d.service, path, dir)
	if err != nil {
		return err
	}
	log := parts.QuietLogger(c.ErrOrStderr(), &d.cfg.Base)
	fmt.Fprintf(c.OutOrStdout(), "ready %s on %s\n", path.Short(), dir)
	cli.NotifyReady(log)
	select {
	case <-m.Ended():
		return nil
	case <-c.Context().Done():
	}
	cli.NotifyStopping(log)
	for told := false; ; told = true {
		err := m.Unmount()
		if err == nil {
			return nil
		}
		if !told {
			fmt.Fprintf(c.ErrOrStderr(), "btnode: warning: %v; it ends when nobody uses %s any more, or with another signal, after which fusermount -u takes away what is left\n", busyOf(err), dir)
		}
		select {
		case <-m.Ended():
			return nil
		case <-time.After(blocktree.MountStopEvery):
		}
	}
}

// busyOf is the innermost error of one that says where it happened.
func busyOf(err error) error {
	var e *blocktree.Error
	if errors.As(err, &e) && e.Err != nil {
		return fmt.Errorf("%s: %w", e.Path, e.Err)
	}
	return err
}

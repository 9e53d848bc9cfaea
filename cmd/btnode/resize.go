package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/cli"
	"blocktree/internal/config"
	"blocktree/internal/file"
)

// shrinkTimeout bounds a resize to a smaller size, which writes to each region that is cut.
const shrinkTimeout = 2 * time.Minute

func newFileResize() *cobra.Command {
	var o adminFlags
	var shrink bool
	c := &cobra.Command{
		Use:   "resize PATH SIZE --config FILE [--shrink [--reader-key FILE]]",
		Short: "Make a file larger, or with --shrink smaller",
		Long: `resize gives a file another size: SIZE as file create takes it, or +SIZE to add to what it has. A file may grow while it is open and written
to: what is new is zeros and costs no space until it is written. Whoever has the file open hears of it within 5 seconds; NBD clients see the new
size when they connect again, and btnbd attach passes it on to the kernel within another 10. The file system on it is to be told by its own
tools, such as resize2fs.

With --shrink a file is made smaller, and what lies behind the new end is gone for good: should the file grow again, there are zeros. First shrink
the file system on it. A server that has the file open makes it smaller itself, within seconds, and its clients work on: behind the new end they can read and write
nothing (EINVAL, ENOSPC). A kernel device of btnbd attach keeps its size, with I/O errors behind the end, and does not connect anew to a smaller file: detach it before. Where it is
held by somebody who does not do that, as a server of a version before, the command says so after 15 seconds. A filesystem service does it, and whoever writes behind the
new end by that makes the file larger again. A file that is being moved by btnode dir migrate is made smaller first, and moved then. If it is cut off, the file may
have its old size, with zeros behind the new end; say it again. A file of integrity tree that nobody has open is made smaller by who reads it: a record is made first which has the new end, and which takes a
reader key (--reader-key, or readerKey of the configuration).

Bring all nodes, and the servers that have the file open, to a version that knows this command before it is used for the first time: nodes of a version
before stop.`,
		Example: `  btnode file resize /vm/disk1 20GiB --config client.yaml
  btnode file resize /vm/disk1 +5GiB --config client.yaml
  btnode file resize /vm/disk1 1GiB --shrink --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH", "SIZE"),
	}
	o.add(c)
	c.Flags().BoolVar(&shrink, "shrink", false, "allow a smaller size: what lies behind it is gone for good")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := cli.RequireFlags(c, "config"); err != nil {
			return err
		}
		bytes, err := newSize(args[1])
		if err != nil {
			return err
		}
		timeout := fileTimeout
		if shrink {
			timeout = shrinkTimeout
		}
		return withClusterFor(c, o.config, timeout, func(ctx context.Context, cfg *config.Client, client *cluster.Client) error {
			path, err := cfg.Resolve(args[0])
			if err != nil {
				return err
			}
			was, is, err := o.resize(ctx, cfg, client, path, cluster.ResizeOptions{Bytes: bytes, Shrink: shrink, Live: true})
			if err != nil {
				return err
			}
			text := fmt.Sprintf("%s: %s, was %s", path.Short(), cli.FormatSize(is), cli.FormatSize(was))
			if is == was {
				text = fmt.Sprintf("%s: %s, as before", path.Short(), cli.FormatSize(is))
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), text)
			return err
		})
	}
	return c
}

// resize gives a file another size, with a reader key if there is one.
func (o *adminFlags) resize(ctx context.Context, cfg *config.Client, client *cluster.Client, path blocktree.Path, r cluster.ResizeOptions) (was, is uint64, err error) {
	admin, err := o.admin(cfg, client)
	switch {
	case err != nil:
		return 0, 0, err
	case admin == nil:
		return client.Resize(ctx, path, r)
	}
	return file.Resize(ctx, client, path, r, file.OpenOptions{Reader: admin.Reader})
}

// newSize reads SIZE or +SIZE, and returns what makes the new size of the old one.
func newSize(text string) (func(now uint64) (uint64, error), error) {
	more, relative := strings.CutPrefix(text, "+")
	n, err := cli.ParseSize(more)
	if err != nil {
		return nil, err
	}
	return func(now uint64) (uint64, error) {
		if relative {
			return now + n, nil // both are below 2^63
		}
		return n, nil
	}, nil
}

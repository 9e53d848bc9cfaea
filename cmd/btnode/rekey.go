package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cluster"
	"blocktree/crypto/keys"
	"blocktree/internal/cli"
	"blocktree/internal/config"
	"blocktree/internal/file"
)

// resealTimeout bounds --wait: a file of the largest size takes weeks; what does not end in a year does not end.
const resealTimeout = 365 * 24 * time.Hour

func newRekey() *cobra.Command {
	var o adminFlags
	var wait bool
	c := &cobra.Command{
		Use:   "rekey PATH [--reader-key FILE] [--wait] --config FILE",
		Short: "Give a file, or a directory and all beneath it, a new key",
		Long: `rekey draws a new key and wraps it to whoever reads PATH now. When it returns, whoever has the file open writes under the new key; who had the old
one and is not among the readers any more reads nothing of what is written from then on. What was written before stays under the old key, which the readers of now
have too, until it is re-sealed: whoever has the file open for writing does that in the background, and btnode file stat shows how far it is. With --wait the
command returns when that is done; while nobody has the file open, the command does it itself.

Of a directory with a key (btnode mkdir --readers) the directory's own key changes, and that of each file and directory beneath.

Of a file of integrity tree the command returns when there is a record under the new key: by whoever has it open, else by the command itself; from a server that has it open and is no reader any more it is taken. Until then nobody opens it but who
kept its root. If the command is broken off before, say it again.

To take a reader out, say btnode reader remove instead.

It takes the reader key of somebody who reads PATH (--reader-key, or readerKey of the configuration), and a configuration with the credentials of the file's owner or of user 0. Bring all nodes, and the servers that have the
file open, to a version that knows this command before it is used for the first time: nodes of a version before stop.`,
		Example: `  btnode rekey /vm/disk1 --reader-key reader.key --config client.yaml
  btnode rekey /vm/disk1 --reader-key reader.key --wait --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH"),
	}
	o.add(c)
	addWait(c, &wait)
	c.RunE = func(c *cobra.Command, args []string) error {
		return o.run(c, args[0], func(ctx context.Context, path blocktree.Path, admin *file.Admin) error {
			return rekey(ctx, c, admin, path, wait)
		})
	}
	return c
}

func addWait(c *cobra.Command, wait *bool) {
	c.Flags().BoolVar(wait, "wait", false, "return when what was written before is re-sealed, too")
}

// adminFlags are those of commands that change who reads a file.
type adminFlags struct{ config, readerKey string }

func (o *adminFlags) add(c *cobra.Command) {
	addConfig(c, &o.config, "configuration of any node or client of the cluster")
	c.Flags().StringVar(&o.readerKey, "reader-key", "", "file of the secret key of somebody who reads it; readerKey of the configuration if it is not given")
	_ = c.MarkFlagFilename("reader-key") // for completion only
}

// run connects, and runs do without a bound of its own: each step of do has one.
func (o *adminFlags) run(c *cobra.Command, name string, do func(ctx context.Context, path blocktree.Path, admin *file.Admin) error) error {
	if err := cli.RequireFlags(c, "config"); err != nil {
		return err
	}
	return withClusterFor(c, o.config, resealTimeout, func(ctx context.Context, cfg *config.Client, client *cluster.Client) error {
		admin, err := o.admin(cfg, client)
		if err == nil && admin == nil {
			err = noReaderKey(c)
		}
		if err != nil {
			return err
		}
		path, err := cfg.Resolve(name)
		if err != nil {
			return err
		}
		return do(ctx, path, admin)
	})
}

// admin works with the reader key of the flag, else of the configuration; nil if neither names one.
func (o *adminFlags) admin(cfg *config.Client, client *cluster.Client) (*file.Admin, error) {
	name := cmp.Or(o.readerKey, cfg.ReaderKey)
	if name == "" {
		return nil, nil
	}
	key, err := keys.LoadReaderKey(name)
	return &file.Admin{Client: client, Reader: key, Patience: fileTimeout}, err
}

// noReaderKey is why a key cannot be opened.
func noReaderKey(c *cobra.Command) error {
	return cli.Invalid("name the secret key of somebody who reads it, or readerKey in the configuration; usage: "+c.UseLine(), "--reader-key is missing")
}

// rekey gives what is at path new keys, without some readers.
func rekey(ctx context.Context, c *cobra.Command, admin *file.Admin, path blocktree.Path, wait bool, without ...keys.PublicKey) error {
	var files []blocktree.Path
	tell := func(r *file.Rekeyed) error {
		if !r.Directory {
			files = append(files, r.Path)
		}
		_, err := fmt.Fprintf(c.OutOrStdout(), "%s: key generation %d, access record %d\n", r.Path.Short(), r.Generation, r.Number)
		return err
	}
	one := func() error { return admin.RekeyTree(ctx, path, tell, without...) }
	err := one()
	if blocktree.KindOf(err) == blocktree.Busy && wait && len(files) == 0 { // sectors of too many generations are left
		if err = reseal(ctx, c, admin, path); err == nil {
			err = one()
		}
	}
	if err != nil || !wait {
		return err
	}
	for _, f := range files {
		if err := reseal(ctx, c, admin, f); err != nil {
			return err
		}
	}
	return nil
}

// reseal waits for a file, and shows on a terminal how far it is.
func reseal(ctx context.Context, c *cobra.Command, admin *file.Admin, path blocktree.Path) error {
	p := newProgress(c.ErrOrStderr())
	defer p.end()
	return admin.Reseal(ctx, path, func(r file.Resealing) { p.reseal(path, r) })
}

func addReaders(c *cobra.Command, readers *[]string, what string) {
	c.Flags().StringSliceVar(readers, "readers", nil, what+"; several with commas between, or the flag again")
}

func addKeyKind(c *cobra.Command, kind *string, what string) {
	c.Flags().StringVar(kind, "key-kind", keys.X25519.String(), what+": x25519, or mlkem768x25519, which quantum computers do not break")
	completeWords(c, "key-kind", []string{keys.X25519.String(), keys.MLKEM768X25519.String()})
}

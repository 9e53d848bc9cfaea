package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cmd/internal/parts"
	"blocktree/crypto/keys"
	"blocktree/internal/cli"
	"blocktree/internal/file"
)

func newReader() *cobra.Command {
	group := cli.NewGroup("reader", "Make reader keys, and say who reads a file",
		`reader works with the keys that open encrypted files. Each reader has a pair: the secret half stays in a file of mode 0600 (readerKey in btnbd.yaml), the public half is
what files are wrapped to.

Who has a key of a file and no right on it gets no sectors from the nodes; who has a right and no key reads noise.`)
	group.AddCommand(newReaderNew(), newReaderShow(), newReaderAdd(), newReaderRemove())
	return group
}

func newReaderNew() *cobra.Command {
	var kind string
	c := &cobra.Command{
		Use:                   "new FILE [--key-kind KIND]",
		Short:                 "Make a reader key",
		Long:                  `new draws a reader key into a new FILE that only its owner may read, and prints its public half. Keep a copy: nobody can make the same key again.`,
		Example:               `  btnode reader new alice.key` + "\n" + `  btnode reader new bob.key --key-kind mlkem768x25519`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("FILE"),
	}
	addKeyKind(c, &kind, "kind of the key")
	c.RunE = func(c *cobra.Command, args []string) error {
		of, err := keys.ParseKeyKind(kind)
		if err != nil {
			return err
		}
		key := keys.NewReaderKeyOf(of)
		if err := key.Save(args[0]); err != nil {
			if blocktree.KindOf(err) == blocktree.Exists {
				err = cli.WithHint(err, "choose another name; what was wrapped to a key that is overwritten is gone")
			}
			return err
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), key.Public())
		return err
	}
	return c
}

func newReaderShow() *cobra.Command {
	c := &cobra.Command{
		Use:                   "show FILE",
		Short:                 "Print the public half of a reader key",
		Long:                  `show prints the public key of FILE, which holds a reader key or a public key.`,
		Example:               `  btnode reader show alice.key >alice.pub`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("FILE"),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		public, err := parts.ParseReader(args[0])
		if err == nil {
			_, err = fmt.Fprintln(c.OutOrStdout(), public)
		}
		return err
	}
	return c
}

func newReaderAdd() *cobra.Command {
	var o adminFlags
	c := &cobra.Command{
		Use:   "add PATH KEY [--reader-key FILE] --config FILE",
		Short: "Have one more reader open a file, or a directory and all beneath it",
		Long: `add wraps the key of PATH to KEY, a public key or a file with one or with a reader key. Of a directory with a key, that opens all encrypted files beneath. For one who reads it
already nothing changes.`,
		Example:               `  btnode reader add /vm/disk1 bob.pub --reader-key alice.key --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH", "KEY"),
	}
	o.add(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		public, err := parts.ParseReader(args[1])
		if err != nil {
			return err
		}
		return o.run(c, args[0], func(ctx context.Context, path blocktree.Path, admin *file.Admin) error {
			ctx, cancel := context.WithTimeout(ctx, fileTimeout)
			defer cancel()
			return admin.Grant(ctx, path, public)
		})
	}
	return c
}

func newReaderRemove() *cobra.Command {
	var o adminFlags
	var wait bool
	c := &cobra.Command{
		Use:   "remove PATH KEY [--reader-key FILE] [--wait] --config FILE",
		Short: "Give a file, or a directory and all beneath it, a new key without one reader",
		Long: `remove is btnode rekey that leaves KEY out, a public key or a file with one or with a reader key. What was written before, KEY goes on to open wherever it
finds it, until it is re-sealed: a copy of that stays readable for ever. When the command returns, what is written from then on is not for KEY.`,
		Example:               `  btnode reader remove /vm/disk1 bob.pub --reader-key alice.key --wait --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH", "KEY"),
	}
	o.add(c)
	addWait(c, &wait)
	c.RunE = func(c *cobra.Command, args []string) error {
		public, err := parts.ParseReader(args[1])
		if err != nil {
			return err
		}
		return o.run(c, args[0], func(ctx context.Context, path blocktree.Path, admin *file.Admin) error {
			if err := admin.Reads(ctx, path, public); err != nil {
				return err
			}
			return rekey(ctx, c, admin, path, wait, public)
		})
	}
	return c
}

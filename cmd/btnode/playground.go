package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"blocktree/cmd/internal/parts"
	"blocktree/internal/cli"
	"blocktree/internal/config"
)

func newPlayground() *cobra.Command {
	var o parts.Options
	var generateOnly bool
	c := &cobra.Command{
		Use:   "playground --dir DIR [--nodes N] [--code K+M] [--size SIZE] [--durability ack|flush] [--filesystem] [--generate]",
		Short: "Run a whole cluster on this machine, each node a process of its own",
		Long: `playground writes the keys and configuration files of a domain into DIR, unless they are there: nodeI/btnode.yaml for
every node, btnbd.yaml for an NBD server that exports ` + parts.Disk + ` on a unix socket in DIR, client.yaml for the commands.
The nodes listen on fixed, free loopback ports. With --filesystem every node is a filesystem service, too, which has the reader key: ls, cat, get and put
then need none, and anonymous callers may read what everybody may.

With --generate it stops there. Else it starts one ` + "`btnode run`" + ` process per node, writes nodeI/btnode.pid and
nodeI/btnode.log, prints "ready" when the cluster answers, and stops the nodes by their ids on SIGINT or SIGTERM. It
starts no node again that ends: that is what the playground is for.`,
		Example: `  btnode playground --dir /tmp/play --nodes 3 --code 2+1
  btnbd serve --config /tmp/play/btnbd.yaml        # in a second terminal
  kill -9 $(cat /tmp/play/node2/btnode.pid)        # in a third: nothing happens to the device
  btnode status --config /tmp/play/client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args(),
	}
	f := c.Flags()
	f.StringVar(&o.Dir, "dir", "", "directory of the playground, made when it is absent")
	f.IntVar(&o.Nodes, "nodes", 3, "number of nodes")
	addCode(c, &o.Code, "2+1")
	addSize(c, &o.Size, "1GiB", "size of "+parts.Disk)
	addDurability(c, &o.Durability)
	f.BoolVar(&o.Filesystem, "filesystem", false, "have every node serve files by path, too, for clients without a reader key")
	f.BoolVar(&generateOnly, "generate", false, "write the files and start nothing")
	_ = c.MarkFlagDirname("dir") // for completion only
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := cli.RequireFlags(c, "dir"); err != nil {
			return err
		}
		o.Given = parts.GivenFlags{Nodes: f.Changed("nodes"), Code: f.Changed("code"), Size: f.Changed("size"), Durability: f.Changed("durability")}
		o.Name = "btnode playground"
		p, err := parts.Prepare(o)
		if err != nil {
			return err
		}
		defer p.Close()
		if generateOnly {
			return printGenerated(c, p)
		}
		return runPlayground(c, p)
	}
	return c
}

func printGenerated(c *cobra.Command, p *parts.Playground) error {
	verb := "made"
	if !p.Created {
		verb = "there already"
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "%s: %d nodes (%s … ), %s, %s\n", verb, len(p.Nodes), p.Nodes[0],
		filepath.Base(p.NBD), filepath.Base(p.Client))
	return err
}

// addSize adds --size with a default.
func addSize(c *cobra.Command, s *cli.Size, value, usage string) {
	if value != "" {
		_ = s.Set(value) // a constant
	}
	c.Flags().Var(s, "size", usage+": K, M, G or T with or without iB, 1024-based")
}

// addCode adds --code with a default.
func addCode(c *cobra.Command, code *cli.Code, value string) {
	usage := "erasure code: any K of the K+M shards of a sector suffice"
	if value != "" {
		_ = code.Set(value) // a constant
	}
	c.Flags().Var(code, "code", usage)
}

// addDurability adds --durability.
func addDurability(c *cobra.Command, durability *string) {
	c.Flags().StringVar(durability, "durability", "ack", "when a write is durable: ack, when it is answered; or flush, after the next FLUSH")
	completeWords(c, "durability", config.Durabilities())
}

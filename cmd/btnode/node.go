package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/cli"
	"blocktree/internal/config"
)

func newNode() *cobra.Command {
	group := cli.NewGroup("node", "Add a node, replace its lost disk, drain or remove it",
		`node changes which nodes and disks a cluster counts on: that of the directory which the node is in. It asks the cluster, so a majority of the nodes must run; the
configuration may be that of any node, client or NBD server of the domain.`)
	group.AddCommand(newNodeAdd(), newNodeReplace(), newNodeDrain(), newNodeRemove())
	return group
}

func newNodeReplace() *cobra.Command {
	var file string
	var force bool
	c := &cobra.Command{
		Use:   "replace PATH --config FILE [--force]",
		Short: "Give a node that lost its disk a new store",
		Long: `replace tells the cluster that the disk of the node at PATH is lost for good. The node's store leaves the metadata group and
every file, and a new, empty store gets its places; then the node is started on an empty directory, with the configuration, key and
credentials that it had, and gets the new store's id from the cluster. What the new store lacks, which is everything, is copied up
from the others while the files are in use. Until that is done the files tolerate as much less as without the node.

It is refused while the node answers, or the cluster hears from it or cannot say, unless --force is given: that gives up what its disk
has. It is refused where a file would keep too few members in sync, or the cluster no majority. Asked again before the node was started, it changes nothing; with --force
the node gets another store again, for a disk that was lost during its first start.`,
		Example: `  btnode node replace /node3 --config client.yaml
  mv /var/lib/blocktree/store /var/lib/blocktree/store.lost
  btnode run --config /etc/blocktree/btnode.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH"),
	}
	addConfig(c, &file, "configuration of any node or client of the cluster")
	c.Flags().BoolVar(&force, "force", false, "replace the store of a node that is not known to be lost, too")
	c.RunE = func(c *cobra.Command, args []string) error {
		return withNode(c, file, args[0], func(ctx context.Context, path blocktree.Path, client *cluster.Client) error {
			r, err := client.ReplaceNode(ctx, path, force)
			if err != nil {
				return err
			}
			if err := client.AwaitVoters(ctx); err != nil {
				return err
			}
			if r.Old == 0 {
				_, err = fmt.Fprintf(c.OutOrStdout(), "%s: store %v is new and waits for the node; start it on an empty directory\n", path.Short(), r.New)
			} else {
				_, err = fmt.Fprintf(c.OutOrStdout(), "%s: store %v replaces %v; start the node on an empty directory\n", path.Short(), r.New, r.Old)
			}
			return err
		})
	}
	return c
}

func newNodeRemove() *cobra.Command {
	var file string
	var force bool
	c := &cobra.Command{
		Use:   "remove PATH --config FILE [--force]",
		Short: "Remove a node from the cluster for good",
		Long: `remove takes the node at PATH out of the metadata group and out of the cluster's records. It must have no place in any file, which
btnode node drain sees to while the node runs; and after cluster.spareAfter (10 minutes by default) the other nodes take over the places of
a node that is down, if there are more nodes than a file's code needs. Until then remove is refused as busy. A cluster without such
spares keeps its nodes; there, replace the node. A node that answers is removed if it was drained, else only with --force.`,
		Example:               `  btnode node remove /node4 --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH"),
	}
	addConfig(c, &file, "configuration of any node or client of the cluster")
	c.Flags().BoolVar(&force, "force", false, "remove a node that is not known to be lost, too")
	c.RunE = func(c *cobra.Command, args []string) error {
		return withNode(c, file, args[0], func(ctx context.Context, path blocktree.Path, client *cluster.Client) error {
			if err := client.RemoveNode(ctx, path, force); err != nil {
				return err
			}
			if err := client.AwaitVoters(ctx); err != nil {
				return err
			}
			if err := client.RemoveRecord(ctx, path); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s is removed\n", path.Short())
			return err
		})
	}
	return c
}

// withNode is withCluster for a command about the node at a path, with the client of the cluster that it is in.
func withNode(c *cobra.Command, file, name string, do func(context.Context, blocktree.Path, *cluster.Client) error) error {
	if err := cli.RequireFlags(c, "config"); err != nil {
		return err
	}
	return withCluster(c, file, func(ctx context.Context, cfg *config.Client, client *cluster.Client) error {
		path, err := cfg.Resolve(name)
		if err == nil {
			client, err = client.ClusterOf(ctx, path.Parent())
		}
		if err != nil {
			return err
		}
		return do(ctx, path, client)
	})
}

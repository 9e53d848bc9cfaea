package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"blocktree/cluster"
	"blocktree/internal/cli"
	"blocktree/internal/config"
)

func newDirTakeBack() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "take-back PATH --config FILE",
		Short: "Take a directory back whose cluster never came to be",
		Long: `take-back gives the directory at PATH to the cluster above again, where the cluster in it has not answered yet: the disk of the node that founded it was lost before, or it does not come back. A node
that waits, or refuses to start, for this reason says so. Nothing is lost, as the cluster above has all that is in the directory until the other one answers; once it does, or may, take-back is refused.

The nodes lose their process records, and their stores, if they have any, are of no use any more: no cluster takes one of them for its own. Move the store directories away, add the nodes again, each with another store,
write its id to store.id of its configuration, and start them: one of them founds the cluster anew.

The configuration must have credentials of user id 0. Bring all nodes of the cluster above to a version that knows this command before it is used for the first time: nodes of a version before stop.`,
		Example: `  btnode dir take-back /rack1 --config client.yaml
  btnode node add /rack1/node-a --credentials node-a.cred --endpoint 192.0.2.11:7001 --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH"),
	}
	addConfig(c, &file, "configuration of any node or client of the domain")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := cli.RequireFlags(c, "config"); err != nil {
			return err
		}
		return withCluster(c, file, func(ctx context.Context, cfg *config.Client, client *cluster.Client) error {
			path, err := cfg.Resolve(args[0])
			if err != nil {
				return err
			}
			hosts, err := client.TakeBack(ctx, path)
			if err != nil {
				return err
			}
			if _, err = fmt.Fprintf(c.OutOrStdout(), "%s is kept by the cluster above again\n", path.Short()); err != nil {
				return err
			}
			for _, r := range hosts {
				if _, err = fmt.Fprintf(c.OutOrStdout(), "%s has no record any more, and its store %v is of no use: add it again, with another\n", r.Path.Short(), r.Node); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return c
}

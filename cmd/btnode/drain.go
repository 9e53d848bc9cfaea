package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/cli"
)

// drainLook is how often drain --wait asks how far the node is.
const drainLook = time.Second

func newNodeDrain() *cobra.Command {
	var file string
	var wait, cancel bool
	c := &cobra.Command{
		Use:   "drain PATH --config FILE [--wait] [--cancel]",
		Short: "Move everything that a node keeps to other nodes",
		Long: `drain has the node at PATH give up its places in all files, so that it can be removed. Each place goes to another node, which is copied
up first: only when it is in sync does the drained node leave, so that no file ever has less redundancy than before. Files stay in use. The
node gets no new files, still votes, and keeps what it has until it is removed.

The cluster remembers the drain: it goes on without this command and after restarts, at the pace of any copy-up, which yields to clients.
btnode status shows how far it is; --wait shows it here, until nothing is left. Then btnode node remove takes the node out, running as it is.

It is refused, and nothing is changed, if a file would find fewer nodes than its code needs: k+m nodes that have started and are not
being drained, this one aside. --cancel ends a drain; what has moved stays where it is.`,
		Example: `  btnode node drain /node2 --wait --config client.yaml && btnode node remove /node2 --config client.yaml
  btnode node drain /node2 --cancel --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH"),
	}
	addConfig(c, &file, "configuration of any node or client of the cluster")
	c.Flags().BoolVar(&wait, "wait", false, "wait until the node has no places left")
	c.Flags().BoolVar(&cancel, "cancel", false, "end the drain of a node")
	c.RunE = func(c *cobra.Command, args []string) error {
		if wait && cancel {
			return cli.Invalid("say one of them", "--wait and --cancel contradict each other")
		}
		return withNode(c, file, args[0], func(ctx context.Context, path blocktree.Path, client *cluster.Client) error {
			if err := client.DrainNode(ctx, path, cancel); err != nil {
				return err
			}
			said := "drains; see btnode status"
			switch {
			case cancel:
				said = "is no longer drained"
			case wait:
				if err := awaitDrained(c, client, path); err != nil {
					return err
				}
				said = "is drained: it can be removed"
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s %s\n", path.Short(), said)
			return err
		})
	}
	return c
}

// awaitDrained waits until a node has no places left, and shows how far it is.
func awaitDrained(c *cobra.Command, client *cluster.Client, path blocktree.Path) error {
	ctx := c.Context()
	p := newProgress(c.ErrOrStderr())
	defer p.end()
	for {
		s, err := client.Status(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(s.Nodes, func(n cluster.NodeStatus) bool { return n.Path == blocktree.Path(path.Short()) })
		switch {
		case s.Health == cluster.HealthUnavailable: // it goes on by itself when there is a majority again
		case i < 0 || s.Nodes[i].Drain == nil:
			return &blocktree.Error{Op: "drain", Path: path.Short(), Kind: blocktree.Canceled,
				Hint: "somebody ended the drain, or removed the node; see btnode status"}
		case s.Nodes[i].Drain.Places == 0:
			return nil
		default:
			p.drain(s.Nodes[i].Drain)
		}
		select {
		case <-ctx.Done():
			return blocktree.E("drain", blocktree.Canceled, ctx.Err())
		case <-time.After(drainLook):
		}
	}
}

// drain shows how far a drain is.
func (p *progress) drain(d *cluster.DrainStatus) {
	if p.w == nil {
		return
	}
	p.shown = time.Now()
	fmt.Fprintf(p.w, "\r\x1b[K%s", drainLeft(d))
}

// drainLeft says how far a drain is.
func drainLeft(d *cluster.DrainStatus) string {
	if d.Places == 0 {
		return "nothing left, it can be removed"
	}
	s := fmt.Sprintf("%s left, at most %s to look at, %s/s copied", counted(uint64(d.Places), "place"), about(int64(d.LeftBytes)), about(int64(d.BytesPerSecond)))
	if d.SecondsLeft > 0 {
		s += fmt.Sprintf(", %v left", time.Duration(d.SecondsLeft)*time.Second)
	}
	return s
}

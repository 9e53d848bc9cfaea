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
btnode status shows how far it is; --wait shows it here, and what it may have to wait for, until nothing is left. Then btnode node remove
takes the node out, running as it is.

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

// awaitDrained waits until a node has no places left, and shows how far it is. Why nothing moves it says once.
func awaitDrained(c *cobra.Command, client *cluster.Client, path blocktree.Path) error {
	ctx := c.Context()
	p := newProgress(c.ErrOrStderr())
	defer p.end()
	for said := ""; ; {
		s, err := client.Status(ctx)
		if err != nil {
			return err
		}
		d, waits, err := drainStands(s, path)
		if err != nil {
			return err
		}
		if waits != said {
			if said = waits; waits != "" {
				p.end()
				fmt.Fprintln(c.ErrOrStderr(), waits)
			}
		}
		switch {
		case d == nil:
		case d.Places == 0:
			return nil
		default:
			p.drain(d)
		}
		select {
		case <-ctx.Done():
			return blocktree.E("drain", blocktree.Canceled, ctx.Err())
		case <-time.After(drainLook):
		}
	}
}

// drainStands reads from a status how far the drain of a node is, nil if nobody can say, and what it may have to wait for; kind Canceled if
// it is not drained any more.
func drainStands(s *cluster.Status, path blocktree.Path) (d *cluster.DrainStatus, waits string, err error) {
	i := slices.IndexFunc(s.Nodes, func(n cluster.NodeStatus) bool { return n.Path == blocktree.Path(path.Short()) })
	if i >= 0 {
		d = s.Nodes[i].Drain
	}
	switch {
	case d == nil && s.FilesUnknown:
		return nil, "waiting for a majority of the nodes: nothing moves until there is one", nil
	case d == nil:
		return nil, "", &blocktree.Error{Op: "drain", Path: path.Short(), Kind: blocktree.Canceled,
			Hint: "somebody ended the drain, or removed the node; see btnode status"}
	case d.Places == 0: // whatever else may be wrong
		return d, "", nil
	}
	var stuck []string
	for _, f := range s.Files {
		if code, err := blocktree.ParseCode(f.Code); err == nil && f.InSync < code.MinWrite() {
			stuck = append(stuck, f.Path)
		}
	}
	n := len(stuck)
	if s.Unlisted != nil {
		n += int(s.Unlisted.Unavailable)
	}
	if len(stuck) > 0 {
		waits = stuck[0]
		if n > 1 {
			waits += fmt.Sprintf(" and %s", counted(uint64(n-1), "other file"))
		}
		waits += ": unavailable, with too few members in sync; what the node has of it cannot move before that is mended, the rest does"
	}
	return d, waits, nil
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

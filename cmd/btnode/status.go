package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cmd/internal/parts"
	"blocktree/internal/cli"
	"blocktree/internal/config"
)

// statusTimeout bounds how long the cluster is looked for: long enough for an election to end. How long it is asked then is Status's, as that may be much.
const statusTimeout = 10 * time.Second

func newStatus() *cobra.Command {
	var file string
	var asJSON bool
	c := &cobra.Command{
		Use:   "status [DIRECTORY] --config FILE [--json]",
		Short: "Show the health of a cluster, its nodes and files",
		Long: `status asks the nodes of a cluster how they are. Health is "ok" when every node is up and in sync with every file,
"degraded" when something is missing and everything still works, "unavailable" when something does not. A file tolerates
the loss of so many more nodes before its sectors can no longer be read or written; 0 is the last warning. While members of
a file are copied up, status says how much is still to be looked at, at most, how fast shards are copied and, from how fast the
looking goes, how long it will take; likewise of nodes that are being drained. A node that this command cannot reach by itself, but
another node can, is up "via" that one. WAY says how a connection came about: direct; dialled back, where the node is behind a firewall and dialled this
command when others asked it to; punched, where both opened their firewalls for each other; relayed, where others pass the bytes on. FREE is what data may still take on the disk of the node's store, of how much. It says whose credentials end soon: when less than a tenth of their time is left, and less than a week.

Of a node that gave wrong answers it says what it did, how often, since when, and who says so: other nodes, which have seen it themselves, and
clients, whose word alone proves nothing. "certain" means that more of the nodes that keep a file, as
the metadata of the cluster say, have seen it there than can lie of it.

Of a file of durability flush it says how often writes that were answered and not flushed may have been lost ("lossNumber" with --json),
and whether they may have been just now, and nobody has opened the file since ("lossy"). Of a file with a new key it says how much of what was sealed before
is still to be sealed anew, as whoever has it open, or had, said last; btnode file stat says it of one that nobody has opened since.

Of more than 10,000 files it lists no more of those that are whole, and of more than as many that are not no more of those; it says how many there are ("unlisted" with --json), and nothing else of them. If it could not find out how the files are it says that ("filesUnknown").

It is the cluster of the configuration, or with DIRECTORY the one that keeps what is in that. Files that were made in a directory before it got a cluster of its own are in no status.

It exits with 0 whenever it could find out, whatever it found: scripts read health from --json.`,
		Example: `  btnode status --config client.yaml
  btnode status --config client.yaml --json | jq -r .health`,
		DisableFlagsInUseLine: true,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return cli.Args("DIRECTORY")(c, args)
		},
	}
	addConfig(c, &file, "configuration of any node or client of the cluster")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := cli.RequireFlags(c, "config"); err != nil {
			return err
		}
		cfg, err := config.LoadClient(config.Source{File: file})
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(c.Context(), statusTimeout)
		defer cancel()
		client, err := parts.Dial(ctx, &cfg.Base, parts.QuietLogger(c.ErrOrStderr(), &cfg.Base))
		if err != nil {
			return err
		}
		defer client.Close()
		of, err := clusterAt(ctx, cfg, client, args)
		if err != nil {
			return err
		}
		status, err := of.Status(c.Context())
		if err != nil {
			return err
		}
		slices.SortFunc(status.Nodes, func(a, b cluster.NodeStatus) int { return cmp.Compare(a.Path, b.Path) })
		if asJSON {
			return cli.PrintJSON(c.OutOrStdout(), status)
		}
		return printStatus(c.OutOrStdout(), status)
	}
	return c
}

// clusterAt is the cluster that keeps what is in the directory which was named, or that of the configuration.
func clusterAt(ctx context.Context, cfg *config.Client, client *cluster.Client, args []string) (*cluster.Client, error) {
	if len(args) == 0 {
		return client, nil
	}
	dir, err := cfg.Resolve(args[0])
	if err != nil {
		return nil, err
	}
	return client.ClusterOf(ctx, dir)
}

func printStatus(w io.Writer, s *cluster.Status) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "health\t%s\n\nNODE\tSTATE\tWAY\tFREE\n", s.Health)
	for _, n := range s.Nodes {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", n.Path, n.State, way(&n), free(&n))
	}
	if len(s.Files) > 0 {
		fmt.Fprint(t, "\nFILE\tSIZE\tCODE\tIN SYNC\tTOLERATES\tDURABILITY\n")
	}
	for _, f := range s.Files {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s\n", f.Path, sizeText(f.Size, f.Length), f.Code, f.InSync, f.Tolerates, f.Durability)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if s.FilesUnknown {
		fmt.Fprint(w, "\nhow the files are is not known: no majority of the nodes says it\n")
	}
	if s.Unlisted != nil {
		fmt.Fprintf(w, "\n%s\n", unlisted(s.Unlisted))
	}
	for _, n := range s.Nodes {
		for _, x := range n.Suspects {
			fmt.Fprintf(w, "\n%s\n", suspected(n.Path, &x))
		}
		if x := n.Credentials; x != nil && x.EndSoon {
			fmt.Fprintf(w, "\nthe credentials of %s end soon, at %s: renew them\n", n.Path, x.Until.Format(time.RFC3339))
		}
	}
	if x := s.Credentials; x != nil && x.EndSoon {
		fmt.Fprintf(w, "\nthe credentials that this command uses end soon, at %s: renew them\n", x.Until.Format(time.RFC3339))
	}
	for _, n := range s.Nodes {
		if n.Drain != nil {
			fmt.Fprintf(w, "\ndraining %s: %s\n", n.Path, drainLeft(n.Drain))
		}
	}
	for _, f := range s.Files {
		if f.LossNumber > 0 || f.Lossy {
			fmt.Fprintf(w, "\n%s\n", losses(&f))
		}
		if u := f.CopyUp; u != nil {
			fmt.Fprintf(w, "\ncopying up %s: at most %s to look at, %s/s copied", f.Path, about(int64(u.LeftBytes)), about(int64(u.BytesPerSecond)))
			if u.SecondsLeft > 0 {
				fmt.Fprintf(w, ", %v left", time.Duration(u.SecondsLeft)*time.Second)
			}
			fmt.Fprintln(w)
		}
		if f.Reseal != nil {
			fmt.Fprintf(w, "\n%s\n", resealLeft(&f))
		}
	}
	return nil
}

// unlisted says of how many files no more is said.
func unlisted(u *cluster.UnlistedFiles) string {
	text := fmt.Sprintf("not listed: %s that are whole, %d degraded, %d unavailable", counted(u.Whole, "file"), u.Degraded, u.Unavailable)
	if u.Directories > 0 {
		text += fmt.Sprintf("; directories that may not be listed, of whose files nothing is known: %d", u.Directories)
	}
	return text
}

// way says how a node is reached; nothing of one that is not.
func way(n *cluster.NodeStatus) string {
	if n.Via == "" {
		return string(n.Way)
	}
	return fmt.Sprintf("%s via %s", n.Way, n.Via)
}

// free says how much room a node has; nothing of one that did not tell.
func free(n *cluster.NodeStatus) string {
	if n.Space == nil {
		return ""
	}
	return fmt.Sprintf("%s of %s", about(int64(n.Space.FreeBytes)), about(int64(n.Space.TotalBytes)))
}

// resealLeft says how far a file is re-sealed.
func resealLeft(f *cluster.FileStatus) string {
	text := fmt.Sprintf("re-sealing %s under its newest key: %s to look at", f.Path, about(int64(f.Reseal.LeftBytes)))
	if f.Reseal.SecondsLeft > 0 {
		text += fmt.Sprintf(", %v left", time.Duration(f.Reseal.SecondsLeft)*time.Second)
	}
	return text
}

// suspected says what a node did that it should not have, and who says so.
func suspected(node blocktree.Path, x *cluster.SuspectStatus) string {
	sure := "perhaps"
	if x.Certain {
		sure = "certainly"
	}
	return fmt.Sprintf("%s %s lies: %s, %d times since %s, last at %s sector %d; seen by %d nodes, told by %d clients", node, sure, x.Kind, x.Times,
		x.Since.Format(time.DateTime), x.File, x.Sector, x.Nodes, x.Clients)
}

// losses says what became of writes to a file of durability flush.
func losses(f *cluster.FileStatus) string {
	text := fmt.Sprintf("%s: writes that were answered and not flushed may have been lost", f.Path)
	if f.Lossy {
		return text + " just now: open devices of it fail with I/O errors"
	}
	if f.LossNumber == 1 {
		return text + " once"
	}
	return fmt.Sprintf("%s %d times", text, f.LossNumber)
}

package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cmd/internal/parts"
	"blocktree/internal/cli"
	"blocktree/internal/config"
)

func newScrub() *cobra.Command {
	var file string
	var asJSON bool
	c := &cobra.Command{
		Use:   "scrub [PATH...] --config FILE [--json]",
		Short: "Check and repair what the nodes keep of files",
		Long: `scrub has every node check what it keeps of the files at PATH, or of all files, now and as fast as clients leave it room; in
the background nodes do the same all the time, slower (scrub.rate in btnode.yaml). Each node reads its shards, verifies their checksums,
makes them anew of those of the others and compares, and compares which version of every sector it has. No key is needed.

A shard that does not check or differs is rebuilt from others. A node that misses writes, after its disk went back in time, is
copied up anew; until then it does not count. The nodes' logs and ` + "`btnode status --json`" + ` name what was found.

It prints what each node found, in sectors: bit rot, lost (gone, or never written), misdirected (something else lies there), mixed (another
version or other contents than the others have), of these repaired and beyond repair, because too few good shards are left. What is
beyond repair is left as it is. If the command is stopped the nodes go on.

It exits with 1 if something is beyond repair or could not be repaired yet, or a node could not be asked.`,
		Example: `  btnode scrub --config client.yaml
  btnode scrub /vm/disk0 --config client.yaml --json | jq '.[].counts.beyondRepair'`,
		DisableFlagsInUseLine: true,
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
		client, err := parts.Dial(c.Context(), &cfg.Base, parts.QuietLogger(c.ErrOrStderr(), &cfg.Base))
		if err != nil {
			return err
		}
		defer client.Close()
		files, err := filesAt(c.Context(), cfg, client, args)
		if err != nil {
			return err
		}
		of := client
		if len(files) > 0 { // all of one cluster
			if of, err = client.HomeOf(c.Context(), files[0]); err != nil {
				return err
			}
		}
		p := newProgress(c.ErrOrStderr())
		nodes, err := of.Scrub(c.Context(), files, p.scrub)
		p.end()
		if err != nil {
			return err
		}
		if asJSON {
			err = cli.PrintJSON(c.OutOrStdout(), nodes)
		} else {
			err = printScrub(c.OutOrStdout(), nodes)
		}
		if err != nil {
			return err
		}
		return scrubFailed(nodes)
	}
	return c
}

// filesAt finds the files at some paths.
func filesAt(ctx context.Context, cfg *config.Client, client *cluster.Client, paths []string) (files []blocktree.FileID, err error) {
	if len(paths) > cluster.ScrubFilesMax {
		return nil, cli.Invalid("scrub everything: name no path", "%d paths, at most %d are possible", len(paths), cluster.ScrubFilesMax)
	}
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	for _, name := range paths {
		path, err := cfg.Resolve(name)
		if err != nil {
			return nil, err
		}
		inode, err := client.Stat(ctx, path)
		if err != nil {
			return nil, err
		}
		if inode.SizeBytes == 0 {
			return nil, &blocktree.Error{Op: "scrub", Path: path.Short(), Kind: blocktree.Invalid, Hint: "it is a directory; name its files, or no path for everything"}
		}
		if len(files) > 0 && files[0].Generation != inode.ID.Generation {
			return nil, cli.Invalid("scrub them one after the other", "%s is kept by another cluster than %s", path.Short(), paths[0])
		}
		files = append(files, inode.ID)
	}
	return files, nil
}

// scrub shows how far a scrub is.
func (p *progress) scrub(nodes []cluster.NodeScrub) {
	if p.w == nil {
		return
	}
	p.shown = time.Now()
	var done, of, bytes, found uint64
	for i := range nodes {
		n := &nodes[i]
		done, of, bytes, found = done+n.Done, of+n.Of, bytes+n.Counts.Bytes, found+n.Counts.Found()
	}
	took := time.Since(p.began)
	left := "time left unknown"
	if done > 0 {
		left = (time.Duration(float64(took) * float64(of-min(done, of)) / float64(done))).Round(time.Second).String() + " left"
	}
	fmt.Fprintf(p.w, "\r\x1b[K%d %%, %s/s, %s, %s damaged", 100*done/max(of, 1), about(int64(float64(bytes)/took.Seconds())), left, counted(found, "sector"))
}

func printScrub(w io.Writer, nodes []cluster.NodeScrub) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprint(t, "NODE\tSECTORS\tBIT ROT\tLOST\tMISDIRECTED\tMIXED\tREPAIRED\tBEYOND REPAIR\n")
	for i := range nodes {
		n := &nodes[i]
		if n.Error != "" {
			fmt.Fprintf(t, "%s\t%s\n", n.Path, n.Error)
			continue
		}
		c := &n.Counts
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", n.Path, c.Sectors, c.BitRot, c.Lost, c.Misdirected, c.Mixed, c.Repaired, c.Beyond)
	}
	return t.Flush()
}

// scrubFailed is the error of a scrub after which not all is well.
func scrubFailed(nodes []cluster.NodeScrub) error {
	var beyond, left uint64
	silent := 0
	for i := range nodes {
		beyond, left = beyond+nodes[i].Counts.Beyond, left+nodes[i].Left
		if nodes[i].Error != "" {
			silent++
		}
	}
	switch {
	case beyond > 0:
		return &blocktree.Error{Op: "scrub", Kind: blocktree.Corrupt, Err: fmt.Errorf("%s beyond repair", counted(beyond, "sector")),
			Hint: "btnode status --json names them; bring back the nodes that are away, or write these sectors again"}
	case left > 0:
		return &blocktree.Error{Op: "scrub", Kind: blocktree.Unavailable, Err: fmt.Errorf("%s could not be repaired yet", counted(left, "sector")),
			Hint: "are all nodes up and in sync? see btnode status; then scrub again"}
	case silent > 0:
		return &blocktree.Error{Op: "scrub", Kind: blocktree.Unavailable, Err: fmt.Errorf("%s could not be asked", counted(uint64(silent), "node")),
			Hint: "start them, or wait until the scrub that they do is over, and scrub again"}
	}
	return nil
}

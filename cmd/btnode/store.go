package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cluster/store"
	"blocktree/internal/cli"
	"blocktree/internal/vfs"
)

func newStore() *cobra.Command {
	group := cli.NewGroup("store", "Look at the store of a node that does not run",
		`store looks at what a node keeps on its disk, while the node is stopped: a running node is refused. Only check --repair
changes anything, so it can also be used on a copy, or on a failing disk that is mounted read-only.

DIR is the node's data directory (store.dir in btnode.yaml) or the directory "sectors" in it. The metadata beside it, in "meta", is
not looked at.`)
	group.AddCommand(newStoreInfo(), newStoreCheck())
	return group
}

// storeDirHint says what DIR is.
const storeDirHint = "name the node's data directory (store.dir in btnode.yaml) or the directory \"sectors\" in it"

// storeDir finds the sectors of the node whose data directory, or whose directory of sectors, dir is.
func storeDir(dir string) (string, error) {
	info, err := os.Stat(dir)
	switch {
	case os.IsNotExist(err):
		return "", &blocktree.Error{Op: "store", Path: dir, Kind: blocktree.NotFound, Hint: storeDirHint}
	case os.IsPermission(err):
		return "", &blocktree.Error{Op: "store", Path: dir, Kind: blocktree.Permission, Err: err}
	case err != nil:
		return "", &blocktree.Error{Op: "store", Path: dir, Kind: blocktree.IO, Err: err}
	case !info.IsDir():
		return "", &blocktree.Error{Op: "store", Path: dir, Kind: blocktree.Invalid, Err: fmt.Errorf("not a directory"), Hint: storeDirHint}
	}
	if isDir(filepath.Join(dir, "sectors")) {
		return filepath.Join(dir, "sectors"), nil
	}
	return dir, nil
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// noStoreHint tells where a store may be instead.
func noStoreHint(err error, dir string) error {
	if blocktree.KindOf(err) != blocktree.NotFound {
		return err
	}
	hint := storeDirHint
	if near := filepath.Join(dir, "store"); isDir(filepath.Join(near, "sectors")) {
		hint = "did you mean " + near + "?"
	}
	return &blocktree.Error{Op: "store", Path: dir, Kind: blocktree.NotFound, Err: fmt.Errorf("there is no store in it"), Hint: hint}
}

// storeInfo is a store as --json prints it.
type storeInfo struct {
	Store           string `json:"store"`
	Format          int    `json:"format"`
	Starts          uint64 `json:"starts"`
	Clean           bool   `json:"clean"`   // the last stop
	Suspect         bool   `json:"suspect"` // damage is noted: the next start reads the whole index
	Segment         string `json:"checkpointSegment"`
	Offset          int64  `json:"checkpointOffset"`
	Sequence        uint64 `json:"checkpointSequence"`
	CheckpointBytes int64  `json:"checkpointBytes"`
	LogBytes        int64  `json:"logBytes"` // behind the checkpoint
	Segments        int    `json:"segments"`
	SegmentBytes    int64  `json:"segmentBytes"`
	LiveSectors     int64  `json:"liveSectors"`
	LiveBytes       int64  `json:"liveBytes"`
	Pages           int    `json:"indexPages"`
	DamagedPages    int    `json:"damagedIndexPages"`
	IndexBytes      int64  `json:"indexBytes"`
	IndexFileBytes  int64  `json:"indexFileBytes"`
	ZeroRanges      int    `json:"zeroRanges"`
	Pending         int    `json:"pendingRecords"`
	Stuck           int    `json:"stuckRecords"`
}

func segmentFile(n uint32) string { return fmt.Sprintf("segment-%08x", n) }

func newStoreInfoLine(i *store.Info) storeInfo {
	return storeInfo{
		Store: i.Store.String(), Format: i.Format, Starts: i.Starts, Clean: i.Clean, Suspect: i.Suspect, Segment: segmentFile(i.Segment),
		Offset: i.Offset, Sequence: i.Sequence, CheckpointBytes: i.CheckpointBytes, LogBytes: i.LogBytes, Segments: i.Segments,
		SegmentBytes: i.SegmentBytes, LiveSectors: i.LiveSectors, LiveBytes: i.LiveBytes, Pages: i.Pages, DamagedPages: i.DamagedPages,
		IndexBytes: i.IndexBytes, IndexFileBytes: i.IndexFileBytes, ZeroRanges: i.ZeroRanges, Pending: i.Pending, Stuck: i.Stuck,
	}
}

func newStoreInfo() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "info DIR [--json]",
		Short: "Say what a store holds",
		Long: `info prints what a store says of itself: whose it is, how often it was started and whether it was stopped cleanly, where its
checkpoint stands and how much log lies behind it, how many bytes its segments have and how many of those are live, how large its
index is, and whether damage is noted in it. It reads superblock and checkpoint only; ` + "`btnode store check`" + ` reads everything.

DIR is the node's data directory (store.dir in btnode.yaml) or the directory "sectors" in it. The node must be stopped; nothing is
changed.`,
		Example: `  btnode store info /var/lib/blocktree/store
  btnode store info /tmp/play/node1/store --json | jq .liveBytes`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("DIR"),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		dir, err := storeDir(args[0])
		if err != nil {
			return err
		}
		info, err := store.Inspect(vfs.DiskReadOnly{}, dir)
		if err != nil {
			return noStoreHint(err, args[0])
		}
		if asJSON {
			return cli.PrintJSON(c.OutOrStdout(), newStoreInfoLine(&info))
		}
		return printStoreInfo(c.OutOrStdout(), &info)
	}
	return c
}

func printStoreInfo(w io.Writer, i *store.Info) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	stop, share, noted := "clean", "", "none"
	if !i.Clean {
		stop = "not clean: it was killed, or lost power"
	}
	if i.SegmentBytes > 0 {
		share = fmt.Sprintf(" (%d %%)", i.LiveBytes*100/i.SegmentBytes)
	}
	if i.Suspect || i.DamagedPages > 0 {
		noted = fmt.Sprintf("yes: %d index pages are known damaged", i.DamagedPages)
	}
	fmt.Fprintf(t, "store\t%v\nformat\t%d\nstarts\t%d\nlast stop\t%s\n", i.Store, i.Format, i.Starts, stop)
	fmt.Fprintf(t, "checkpoint\t%s at %d, log sequence %d, %s\n", segmentFile(i.Segment), i.Offset, i.Sequence, about(i.CheckpointBytes))
	fmt.Fprintf(t, "log behind it\t%s\n", about(i.LogBytes))
	fmt.Fprintf(t, "segments\t%d, %s\nlive\t%s%s, %d sectors\n", i.Segments, about(i.SegmentBytes), about(i.LiveBytes), share, i.LiveSectors)
	fmt.Fprintf(t, "index\t%d pages, %s in a file of %s, %d ranges of zeros\n", i.Pages, about(i.IndexBytes), about(i.IndexFileBytes), i.ZeroRanges)
	fmt.Fprintf(t, "pending\t%d records\ndamage noted\t%s\n", i.Pending, noted)
	return t.Flush()
}

// about prints a number of bytes for a person: three digits at least, rounded.
func about(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d bytes", n)
	}
	x, units := float64(n)/(1<<10), []string{"KiB", "MiB", "GiB", "TiB", "PiB"}
	for x >= 1024 && len(units) > 1 {
		x, units = x/1024, units[1:]
	}
	text := fmt.Sprintf("%.1f", x)
	return strings.TrimSuffix(text, ".0") + " " + units[0]
}

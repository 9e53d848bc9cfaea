package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/store"
	"blocktree/internal/cli"
	"blocktree/internal/vfs"
)

// clusterFiles returns the names of what the cluster keeps beside a node's sectors.
func clusterFiles() []string { return []string{"start", "scrub", "volatile"} }

// checkLine is what was found as --json prints it.
type checkLine struct {
	storeInfo
	Directory        string         `json:"directory"`
	Healthy          bool           `json:"healthy"`  // no damage
	Complete         bool           `json:"complete"` // false: superblock or checkpoint are damaged, and nothing else was checked
	ProblemCount     uint64         `json:"problemCount"`
	DamagedSectors   uint64         `json:"damagedSectors"`
	Problems         []problemLine  `json:"problems"` // the first 10000
	Leftovers        []leftoverLine `json:"leftovers"`
	Notes            []string       `json:"notes"`
	Records          uint64         `json:"records"`
	Sectors          uint64         `json:"sectors"`
	LogRecords       uint64         `json:"logRecords"`
	TornLogSequences uint64         `json:"tornLogSequences"`
	ReadBytes        int64          `json:"readBytes"`
	Seconds          float64        `json:"seconds"`
	Repair           *repairLine    `json:"repair,omitempty"` // with --repair
}

// repairLine is what --repair did.
type repairLine struct {
	Removed []string `json:"removed"`           // files that belonged to nothing
	Scrub   bool     `json:"scrub"`             // after its next start the node checks all that it has, and repairs it
	NotDone string   `json:"notDone,omitempty"` // why nothing could be done
}

type problemLine struct {
	Kind    string `json:"kind"`
	Name    string `json:"name"` // of the file in the store
	Offset  int64  `json:"offset"`
	File    string `json:"file,omitempty"` // of the cluster, generation.inode; with first and count
	First   uint64 `json:"firstSector"`
	Count   uint64 `json:"sectors"`
	Version string `json:"version,omitempty"`
	From    uint64 `json:"fromLogSequence,omitempty"`
	To      uint64 `json:"toLogSequence,omitempty"`
	Text    string `json:"text"`
}

type leftoverLine struct {
	Name    string `json:"name"`
	Bytes   int64  `json:"bytes"`
	Why     string `json:"why"`
	Removed bool   `json:"removedByNextStart"`
}

func newCheckLine(dir string, r *store.CheckReport, took time.Duration) checkLine {
	l := checkLine{
		storeInfo: newStoreInfoLine(&r.Info), Directory: dir, Healthy: r.Clean(), Complete: r.Complete, ProblemCount: r.ProblemCount,
		DamagedSectors: r.DamagedSectors, Problems: []problemLine{}, Leftovers: []leftoverLine{}, Notes: append([]string{}, r.Notes...),
		Records: r.Records, Sectors: r.Sectors, LogRecords: r.LogRecords, TornLogSequences: r.Torn, ReadBytes: r.ReadBytes,
		Seconds: took.Seconds(),
	}
	for _, p := range r.Problems {
		line := problemLine{
			Kind: string(p.Kind), Name: p.Name, Offset: p.Offset, First: uint64(p.First), Count: p.Count, From: p.From, To: p.To, Text: p.Text,
		}
		if p.Count > 0 {
			line.File = p.File.String()
		}
		if !p.Version.IsZero() {
			line.Version = p.Version.String()
		}
		l.Problems = append(l.Problems, line)
	}
	for _, f := range r.Leftovers {
		l.Leftovers = append(l.Leftovers, leftoverLine{Name: f.Name, Bytes: f.Bytes, Why: f.Why, Removed: !f.Stays})
	}
	return l
}

func newStoreCheck() *cobra.Command {
	var asJSON, repair bool
	c := &cobra.Command{
		Use:   "check DIR [--repair] [--json]",
		Short: "Read all that a store holds and name what is damaged",
		Long: `check reads superblock, checkpoint and every page of the index, every record that they name, sector by sector, and the log
behind the checkpoint as a start would, and verifies all checksums. It names what is damaged or missing: the file's id
(` + "`btnode file stat`" + ` prints those), its sectors, and where in which file of the store. It also names files that belong to nothing. What a kill
or a power loss leaves, the torn end of the log and files that the next start removes, is no damage.

DIR is the node's data directory (store.dir in btnode.yaml) or the directory "sectors" in it; the metadata beside it is not
checked. The node must be stopped. Without --repair nothing is written, so it can be run on a copy or on a disk that fails. What is
deleted, overwritten or not named by anything is not read.

With --repair it removes the files that the next start would remove and, if anything is damaged, has the node check all that it has once
it runs again, at once and as btnode scrub does: what is damaged is repaired out of its peers' shards, and if that is not enough the node
is copied up, as long as enough others stay. One store alone has nothing to repair a shard with, so no shard is changed or removed, and
it does no harm to do so on several nodes. A store that no node starts with, its superblock, checkpoint or index file lost, it leaves alone:
the node has to be replaced. It says what it did; the exit code is as without.

After a kill the index may still name what was repaired since: then it says that the log behind the checkpoint has it again.

It exits with 0 where nothing is damaged, with 1 where something is or could not be looked at, with 2 for a wrong call.`,
		Example: `  btnode store check /var/lib/blocktree/store
  btnode store check /var/lib/blocktree/store --repair
  btnode store check /mnt/copy/sectors --json | jq '.problems[]'`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("DIR"),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&repair, "repair", false, "remove what is left over, and have a damaged node scrub after its next start")
	c.RunE = func(c *cobra.Command, args []string) error {
		dir, err := storeDir(args[0])
		if err != nil {
			return err
		}
		began := time.Now()
		p := newProgress(c.ErrOrStderr())
		report, err := store.Check(c.Context(), vfs.DiskReadOnly{}, dir, store.CheckOptions{Known: clusterFiles(), Progress: p.read})
		p.end()
		if c.Context().Err() != nil { // not as a stop that was asked for: exit code 0 says that all is good
			return &blocktree.Error{Op: "store check", Path: dir, Err: errors.New("stopped before everything was read"),
				Hint: "run it to its end; of what it did not read nothing is known"}
		}
		if err != nil {
			return noStoreHint(err, args[0])
		}
		line := newCheckLine(dir, report, time.Since(began))
		var repairErr error
		if repair {
			line.Repair, repairErr = repairStore(dir, report)
		}
		if asJSON {
			err = cli.PrintJSON(c.OutOrStdout(), line)
		} else {
			err = printCheck(c.OutOrStdout(), report, line.Repair, time.Since(began))
		}
		if err = errors.Join(err, repairErr); err != nil {
			return err
		}
		return damageFound(dir, report)
	}
	return c
}

// repairStore does what can be done with one store alone.
func repairStore(dir string, r *store.CheckReport) (*repairLine, error) {
	if unusable(r) {
		return &repairLine{Removed: []string{}, NotDone: "the node does not start with this store; replace it (btnode node replace)"}, nil
	}
	out := &repairLine{Removed: []string{}, Scrub: !r.Clean()}
	removed, err := store.RemoveLeftovers(vfs.Disk{}, dir, r, func() error {
		if r.Clean() {
			return nil
		}
		return cluster.ScrubNext(vfs.Disk{}, dir)
	})
	out.Removed = append(out.Removed, removed...)
	return out, err
}

func printRepair(w io.Writer, done *repairLine) {
	if done == nil {
		return
	}
	if done.NotDone != "" {
		fmt.Fprintf(w, "repair: nothing is done: %s\n", done.NotDone)
		return
	}
	for _, name := range done.Removed {
		fmt.Fprintf(w, "repair: %s is removed\n", name)
	}
	if done.Scrub {
		fmt.Fprintln(w, "repair: after its next start the node checks all that it has, and repairs it with its peers")
	}
	if len(done.Removed) == 0 && !done.Scrub {
		fmt.Fprintln(w, "repair: there was nothing to do")
	}
}

func printCheck(w io.Writer, r *store.CheckReport, done *repairLine, took time.Duration) error {
	for _, p := range r.Problems {
		fmt.Fprintf(w, "damaged: %v\n", p)
	}
	if more := r.ProblemCount - uint64(len(r.Problems)); more > 0 {
		fmt.Fprintf(w, "damaged: %d more\n", more)
	}
	for _, l := range r.Leftovers {
		what := "the next start removes it"
		if l.Stays {
			what = "btnode leaves it alone"
		}
		fmt.Fprintf(w, "left over: %s, %s: %s; %s\n", l.Name, about(l.Bytes), l.Why, what)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
	if r.Torn > 0 {
		fmt.Fprintf(w, "note: %d records at the end of the log were cut off by a kill or a power loss\n", r.Torn)
	}
	printRepair(w, done)
	if !r.Complete {
		return nil
	}
	result := "no damage"
	if !r.Clean() {
		result = counted(r.ProblemCount, "problem")
	}
	_, err := fmt.Fprintf(w, "store %v: %s; %s in %s and %s are good, and %s of the log; read %s in %s\n", r.Store, result,
		counted(r.Sectors, "sector"), counted(r.Records, "record"), counted(goodPages(r), "page"), counted(r.LogRecords, "record"),
		about(r.ReadBytes), took.Round(time.Millisecond))
	return err
}

// counted is a number of things.
func counted(n uint64, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// goodPages is how many pages of the index are good.
func goodPages(r *store.CheckReport) uint64 {
	n := r.Pages
	for _, p := range r.Problems {
		switch p.Kind {
		case store.ProblemPage:
			n--
		case store.ProblemIndexFile:
			return 0
		}
	}
	return uint64(max(n, 0))
}

// unusable reports whether a node would refuse to start with the store.
func unusable(r *store.CheckReport) bool {
	return !r.Complete || slices.ContainsFunc(r.Problems, func(p store.Problem) bool { return p.Kind == store.ProblemIndexFile })
}

// damageFound is the error of a check that found damage: what to do is its hint.
func damageFound(dir string, r *store.CheckReport) error {
	if r.Clean() {
		return nil
	}
	repairable := false
	for _, p := range r.Problems {
		repairable = repairable || p.Kind != store.ProblemCount
	}
	hint := "start the node: with its peers it repairs what it finds damaged (btnode scrub does it at once); until a check finds nothing, do " +
		"not count on this node for these sectors and keep the others running"
	switch {
	case unusable(r):
		hint = "the node does not start with it: what is left cannot be told from old data; replace the node by one with an empty directory"
	case !repairable:
		hint = "no disk does this, but a mistake of btnode: keep a copy of the directory and report it"
	}
	return &blocktree.Error{Op: "store check", Path: dir, Kind: blocktree.Corrupt, Hint: hint,
		Err: fmt.Errorf("%s, %s", counted(r.ProblemCount, "problem"), counted(r.DamagedSectors, "damaged sector"))}
}

// progress shows on a terminal how much was read, and nothing elsewhere.
type progress struct {
	w     io.Writer // nil: nowhere
	began time.Time
	shown time.Time
	of    *overall // this is one of several files; nil: it is not
	last  int64    // what of it was copied by then
	piece int      // what is copied at a time; 0: copyBytes
}

const progressEvery = 200 * time.Millisecond

func newProgress(w io.Writer) *progress {
	now := time.Now()
	p := &progress{began: now, shown: now}
	if f, ok := w.(*os.File); ok {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			p.w = w
		}
	}
	return p
}

func (p *progress) read(bytes int64) {
	if p.w == nil || time.Since(p.shown) < progressEvery {
		return
	}
	p.shown = time.Now()
	rate := int64(float64(bytes) / time.Since(p.began).Seconds())
	fmt.Fprintf(p.w, "\r\x1b[Kread %s, %s/s", about(bytes), about(rate))
}

// end takes the line away.
func (p *progress) end() {
	if p.w != nil && p.shown.After(p.began) {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/fs"
	"blocktree/internal/cli"
	"blocktree/route"
)

// located is what locate prints, also as --json.
type located struct {
	Path    string       `json:"path"`
	Steps   []string     `json:"steps"`   // how the cluster of the directory was found, in order
	Again   []string     `json:"again"`   // the same question once more
	Cluster string       `json:"cluster"` // the directory whose cluster keeps the entry
	Kind    string       `json:"kind"`    // file or directory
	ID      string       `json:"id"`
	Home    string       `json:"home"`           // the directory whose cluster keeps the sectors, or the inode
	Case    string       `json:"case,omitempty"` // of a file: which of the four applies, and why
	Service []string     `json:"service"`        // cases 3 and 4: how the filesystem service was found, in order
	Nodes   []locateNode `json:"nodes"`
}

type locateNode struct {
	Path string `json:"path"`
	Way  string `json:"way"` // "" while it is not reached
	Via  string `json:"via,omitempty"`
}

func newLocate() *cobra.Command {
	var flags doorFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "locate PATH --config FILE [--json]",
		Short: "Explain where a file is, and how it is reached",
		Long: `locate finds the cluster that keeps PATH as every command does, and says how: who was asked about what, which redirect that led to, for how long the answer holds, and what the cache of the process
says when it is asked again. A path is in the cluster of the nearest directory above it that has sector hosts; what is asked first is the nearest cluster that is known, the
one of cluster.members or else of the root directory, by domain.seeds or domain.dns. What is said by whoever may not say it, or leads nowhere, is shown as refused.

The home of a file is the cluster that keeps its sectors: that of its path, but for files that are older than a directory's own cluster. Then come its nodes, and by which way each
was reached: direct, dialled back, punched or relayed (btnode status explains them), or not at all.

Of a file locate says which of four cases applies, and why: (1) this runtime keeps sectors of the file's cluster itself; (2) it has a reader key that opens the file, and asks the nodes; (3) it has none, and a
filesystem service opens the file for its credentials; (4) it is nobody in particular, and a filesystem service opens what everybody may read. For that the file is opened once, for reading. In the cases 3 and 4
it is the service that is closest to the file, rootward: locate says how it was found, and which it is.`,
		Example: `  btnode locate /lab/vm/disk0 --config client.yaml
  btnode locate /lab/vm/disk0 --config client.yaml --json | jq -r .home`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH"),
	}
	addConfig(c, &flags.config, "configuration of any node or client of the domain")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		return flags.with(c, func(ctx context.Context, d *door) error {
			path, err := d.cfg.Resolve(args[0])
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(ctx, fileTimeout)
			defer cancel()
			l, err := locate(ctx, d, path)
			if l != nil && !asJSON {
				l.print(c)
			}
			if err == nil && asJSON {
				e := json.NewEncoder(c.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(l)
			}
			return err
		})
	}
	return c
}

// locate asks, and goes on as far as it can; what was found until an error comes with it.
func locate(ctx context.Context, d *door, path blocktree.Path) (*located, error) {
	l := &located{Path: path.Short(), Steps: []string{}, Again: []string{}, Service: []string{}, Nodes: []locateNode{}}
	dir := path.Parent()
	if path == blocktree.RootPath(path.Root()) {
		dir = path
	}
	finder := d.cluster.Routes().Finder()
	found, err := finder.Explain(ctx, route.Closest, dir, blocktree.ServiceSector)
	for _, s := range found.Steps {
		l.Steps = append(l.Steps, s.String())
	}
	if err != nil {
		return l, err
	}
	l.Cluster = found.In.Short()
	again, err := finder.Explain(ctx, route.Closest, dir, blocktree.ServiceSector)
	for _, s := range again.Steps {
		l.Again = append(l.Again, s.String())
	}
	if err != nil {
		return l, err
	}
	inode, err := d.cluster.Stat(ctx, path)
	if err != nil {
		return l, err
	}
	home, err := d.cluster.HomeOf(ctx, inode.ID)
	if err != nil {
		return l, err
	}
	l.ID, l.Home, l.Kind = inode.ID.String(), home.Scope().Short(), "directory"
	if inode.Kind == meta.KindFile {
		l.Kind = "file"
		l.caseOf(ctx, d, path, home)
	}
	for _, r := range home.Reached(ctx) {
		n := locateNode{Path: r.Path.Short(), Way: string(r.Way)}
		if r.Via != "" {
			n.Via = r.Via.Short()
		}
		l.Nodes = append(l.Nodes, n)
	}
	return l, nil
}

// caseOf opens a file as cat would, and says by which case and why, and how the service was found that this takes.
func (l *located) caseOf(ctx context.Context, d *door, path blocktree.Path, home *cluster.Client) {
	id := d.cluster.Identity()
	if dir, ok := route.SpeaksFor(id); ok && dir == home.Scope() {
		l.Case = "1: this runtime is a sector host of the file's cluster itself"
		return
	}
	var how bytes.Buffer
	tell := d.tell
	d.tell = &how
	found, errFound := d.cluster.Routes().Finder().Explain(ctx, route.Closest, path.Parent(), blocktree.ServiceFilesystem) // before it is in the cache
	f, err := d.file(ctx, path, fs.OpenOptions{})
	d.tell = tell
	if err != nil {
		l.Case = fmt.Sprintf("none: %v", err)
	} else {
		_ = f.Close() // nothing was written
		_, text, _ := strings.Cut(strings.TrimSpace(how.String()), ": case ")
		number, why, _ := strings.Cut(text, ", ")
		l.Case = number + ": " + why
	}
	if err == nil && fs.ServiceOf(f) == "" {
		return
	}
	for _, s := range found.Steps {
		l.Service = append(l.Service, s.String())
	}
	if errFound != nil {
		l.Service = append(l.Service, "none was found: those that cluster.members names are used, if it names any")
	}
}

func (l *located) print(c *cobra.Command) {
	w := c.OutOrStdout()
	say := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	for _, s := range l.Steps {
		say("%s", s)
	}
	for _, s := range l.Again {
		say("asked again: %s", s)
	}
	if l.Cluster != "" {
		say("%s is an entry of the cluster of %s", l.Path, l.Cluster)
	}
	if l.ID == "" {
		return
	}
	say("%s %s, kept by the cluster of %s", l.Kind, l.ID, l.Home)
	for _, s := range l.Service {
		say("filesystem service: %s", s)
	}
	if l.Case != "" {
		say("case %s", l.Case)
	}
	for _, n := range l.Nodes {
		switch {
		case n.Way == "":
			say("%s: not reached", n.Path)
		case n.Via != "":
			say("%s: %s via %s", n.Path, n.Way, n.Via)
		default:
			say("%s: %s", n.Path, n.Way)
		}
	}
}

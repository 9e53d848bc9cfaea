package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"blocktree"
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
	Kind    string       `json:"kind"`    // file, directory or link
	ID      string       `json:"id"`
	Home    string       `json:"home,omitempty"`   // the directory whose cluster keeps the sectors, or the inode; nobody in particular is not told
	Service []string     `json:"service"`          // how the filesystem service was found that a message about the path would be sent to, in order
	Asked   []string     `json:"asked"`            // who has it: one of these is asked
	Case    string       `json:"case,omitempty"`   // which of the four applies to cat, or ls, and why
	Not     []string     `json:"not"`              // those that do not, and why
	Device  string       `json:"device,omitempty"` // of a file: which applies to btnbd, and why
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
		Use:   "locate PATH --config FILE [--anonymous] [--json]",
		Short: "Explain where a file is, and how it is reached",
		Long: `locate finds the cluster that keeps PATH as every command does, and says how: who was asked about what, which redirect that led to, for how long the answer holds, and what the cache of the process
says when it is asked again. A path is in the cluster of the nearest directory above it that has sector hosts; what is asked first is the nearest cluster that is known, the
one of cluster.members or else of the root directory, by domain.seeds or domain.dns. What is said by whoever may not say it, or leads nowhere, is shown as refused.

The home of a file is the cluster that keeps its sectors: that of its path, but for files that are older than a directory's own cluster. Then come its nodes, and by which way each
was reached: direct, dialled back, punched or relayed (btnode status explains them), or not at all.

Then locate says which of four cases applies, and why the others do not: (1) this runtime keeps sectors of the file's cluster itself; (2) it has a reader key that opens the file, and asks the nodes; (3) it has none, and a
filesystem service opens the file for its credentials; (4) it is nobody in particular (--anonymous), and a filesystem service opens what everybody may read. For that a file is opened once, for reading. In the cases 3 and 4
a message goes to the service that is closest to the path, rootward: locate asks by the same call as cat and ls, and says how the service was found, and which runtimes have it. Names are told by the nodes themselves to whoever has credentials, so ls takes no key.

What holds for btnbd is said beside it: a device is sealed and opened by its server alone, under a lease, so it goes by case 1 or 2, and by no service.`,
		Example: `  btnode locate /lab/vm/disk0 --config client.yaml
  btnode locate /lab/vm/disk0 --config client.yaml --json | jq -r .home
  btnode locate /pub/a --anonymous --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH"),
	}
	addConfig(c, &flags.config, "configuration of any node or client of the domain")
	c.Flags().BoolVar(&flags.anonymous, "anonymous", false, "ask as nobody in particular, without credentials")
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
	l := &located{Path: path.Short(), Steps: []string{}, Again: []string{}, Service: []string{}, Asked: []string{}, Not: []string{}, Nodes: []locateNode{}}
	dir := path.Parent()
	if path == blocktree.RootPath(path.Root()) {
		dir = path
	}
	if err := l.find(ctx, d, dir); err != nil && !d.anonymous { // who need not be told: a service may be
		return l, err
	}
	if d.anonymous {
		info, err := d.info(ctx, path)
		if err != nil {
			return l, err
		}
		l.ID, l.Kind = info.ID.String(), kindName(info.Kind())
		return l, l.cases(ctx, d, path, info, nil)
	}
	inode, err := d.cluster.Stat(ctx, path)
	if err != nil {
		return l, err
	}
	home, err := d.cluster.HomeOf(ctx, inode.ID)
	if err != nil {
		return l, err
	}
	info := fs.InfoOf(inode)
	l.ID, l.Home, l.Kind = inode.ID.String(), home.Scope().Short(), kindName(info.Kind())
	if err := l.cases(ctx, d, path, info, home); err != nil {
		return l, err
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

func kindName(k fs.Kind) string {
	switch k {
	case fs.KindDir:
		return "directory"
	case fs.KindLink:
		return "link"
	}
	return "file"
}

// find asks for the cluster of a directory, twice: the second time it is known.
func (l *located) find(ctx context.Context, d *door, dir blocktree.Scope) error {
	routes := d.service.Routes()
	if routes == nil {
		return cli.Invalid("give cluster.members, domain.seeds or domain.dns", "the configuration says nowhere to begin")
	}
	for _, steps := range []*[]string{&l.Steps, &l.Again} {
		found, err := routes.Finder().Explain(ctx, route.Closest, dir, blocktree.ServiceSector)
		for _, s := range found.Steps {
			*steps = append(*steps, s.String())
		}
		if err != nil {
			return err
		}
		l.Cluster = found.In.Short()
	}
	return nil
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
	if l.Home == "" {
		say("%s %s", l.Kind, l.ID)
	} else {
		say("%s %s, kept by the cluster of %s", l.Kind, l.ID, l.Home)
	}
	for _, s := range l.Service {
		say("filesystem service: %s", s)
	}
	if len(l.Asked) > 0 {
		say("filesystem service: one of %s is asked", strings.Join(l.Asked, ", "))
	}
	if l.Case != "" {
		say("case %s", l.Case)
	}
	for _, s := range l.Not {
		say("not case %s", s)
	}
	if l.Device != "" {
		say("as a block device: %s", l.Device)
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

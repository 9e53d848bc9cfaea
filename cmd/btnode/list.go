package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/crypto/seal"
	"blocktree/crypto/tree"
	"blocktree/internal/cli"
	"blocktree/internal/config"
)

// fileLine is a file or directory as --json prints it.
type fileLine struct {
	Path       string `json:"path"`
	Kind       string `json:"kind"` // file or directory
	ID         string `json:"id"`
	Size       uint64 `json:"size,omitempty"`
	SectorSize uint32 `json:"sectorSize,omitempty"`
	Code       string `json:"code,omitempty"`
	Encrypted  bool   `json:"encrypted"`
	Durability string `json:"durability,omitempty"` // ack or flush
	LossNumber uint64 `json:"lossNumber"`           // how often answered writes of a file of durability flush may have been lost
	Integrity  string `json:"integrity,omitempty"`  // sector or tree
	Root       string `json:"root,omitempty"`       // of a file of integrity tree, "none" before its first record
	Created    string `json:"created"`
	Modified   string `json:"modified"`
}

// durable adds what the layout of a file says, which takes another question to the cluster.
func (l *fileLine) durable(ctx context.Context, client *cluster.Client, i *meta.Inode) error {
	if i.Kind != meta.KindFile {
		return nil
	}
	d, err := client.Durability(ctx, i)
	l.Durability, l.LossNumber = d.Durability.String(), d.LossNumber
	return err
}

// line describes an inode.
func line(path string, i *meta.Inode) fileLine {
	l := fileLine{Path: path, Kind: "directory", ID: i.ID.String(), Created: stamp(i.Created), Modified: stamp(i.Modified)}
	if i.Kind == meta.KindFile {
		l.Kind, l.Size, l.SectorSize, l.Code, l.Encrypted = "file", i.SizeBytes, i.SectorBytes, i.Code.String(), seal.Suite(i.Suite) != seal.None
		l.Integrity = i.Integrity.String()
	}
	return l
}

// rooted adds the root of a file of integrity tree, which listings do not have.
func (l *fileLine) rooted(i *meta.Inode) error {
	if i.Integrity != meta.IntegrityTree {
		return nil
	}
	l.Root = tree.Root{}.String()
	if i.AnchorNumber == 0 {
		return nil
	}
	r, err := tree.DecodeRecord(i.Anchor)
	if err == nil {
		l.Root = r.Root().String()
	}
	return err
}

func stamp(nanoseconds int64) string { return time.Unix(0, nanoseconds).UTC().Format(time.RFC3339) }

func newFileLs() *cobra.Command {
	var file string
	var asJSON bool
	c := &cobra.Command{
		Use:                   "ls PATH --config FILE [--json]",
		Short:                 "List a directory",
		Long:                  `ls prints one line per file or directory directly in PATH, in the order of their names.`,
		Example:               `  btnode file ls / --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH"),
	}
	addConfig(c, &file, "configuration of any node or client of the cluster")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := cli.RequireFlags(c, "config"); err != nil {
			return err
		}
		return withCluster(c, file, func(ctx context.Context, cfg *config.Client, client *cluster.Client) error {
			path, err := cfg.Resolve(args[0])
			if err != nil {
				return err
			}
			entries, err := client.List(ctx, path)
			if err != nil {
				return err
			}
			lines := make([]fileLine, 0, len(entries))
			for i := range entries {
				l := line(path.Join(entries[i].Name).Short(), &entries[i].Inode)
				if asJSON { // nobody else is shown it
					err = l.durable(ctx, client, &entries[i].Inode)
				}
				if blocktree.KindOf(err) == blocktree.NotFound {
					continue // removed meanwhile
				}
				if err != nil {
					return err
				}
				lines = append(lines, l)
			}
			return printLines(c, lines, asJSON)
		})
	}
	return c
}

func printLines(c *cobra.Command, lines []fileLine, asJSON bool) error {
	if asJSON {
		return cli.PrintJSON(c.OutOrStdout(), lines)
	}
	t := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
	for _, l := range lines {
		if l.Kind == "directory" {
			fmt.Fprintf(t, "%s/\n", l.Path)
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", l.Path, cli.FormatSize(l.Size), l.Code)
	}
	return t.Flush()
}

func newFileStat() *cobra.Command {
	var file string
	var asJSON bool
	c := &cobra.Command{
		Use:   "stat PATH --config FILE [--json]",
		Short: "Describe a file or directory",
		Long: `stat prints what the cluster's metadata says of PATH. How many of its nodes are in sync is in ` + "`btnode status`." + `

The root of a file of integrity tree is what an export's root: demands: written down somewhere else, it has a server that never saw the file
refuse what is older. stat has no key and believes the nodes; take the root while you trust what is there.`,
		Example:               `  btnode file stat /vm/disk0 --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH"),
	}
	addConfig(c, &file, "configuration of any node or client of the cluster")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := cli.RequireFlags(c, "config"); err != nil {
			return err
		}
		return withCluster(c, file, func(ctx context.Context, cfg *config.Client, client *cluster.Client) error {
			path, err := cfg.Resolve(args[0])
			if err != nil {
				return err
			}
			inode, err := client.Stat(ctx, path)
			if err != nil {
				return err
			}
			l := line(path.Short(), inode)
			if err := errors.Join(l.durable(ctx, client, inode), l.rooted(inode)); err != nil {
				return err
			}
			return printStat(c, l, asJSON)
		})
	}
	return c
}

func printStat(c *cobra.Command, l fileLine, asJSON bool) error {
	if asJSON {
		return cli.PrintJSON(c.OutOrStdout(), l)
	}
	t := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "path\t%s\nkind\t%s\nid\t%s\n", l.Path, l.Kind, l.ID)
	if l.Kind == "file" {
		fmt.Fprintf(t, "size\t%s (%d bytes)\nsector\t%s\ncode\t%s\nencrypted\t%v\ndurability\t%s\n", cli.FormatSize(l.Size), l.Size,
			cli.FormatSize(uint64(l.SectorSize)), l.Code, l.Encrypted, l.Durability)
		if l.Durability != "ack" {
			fmt.Fprintf(t, "losses\t%d\n", l.LossNumber)
		}
		if l.Integrity != "sector" {
			fmt.Fprintf(t, "integrity\t%s\nroot\t%s\n", l.Integrity, l.Root)
		}
	}
	fmt.Fprintf(t, "created\t%s\nmodified\t%s\n", l.Created, l.Modified)
	return t.Flush()
}

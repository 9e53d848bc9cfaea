package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/fs"
	"blocktree/internal/cli"
)

// usage is what du prints of a path, also as --json.
type usage struct {
	Path        string `json:"path"`
	Length      uint64 `json:"length"`      // bytes that reading all files gives
	Size        uint64 `json:"size"`        // bytes of all files as devices
	Files       uint64 `json:"files"`       // at and below the path
	Directories uint64 `json:"directories"` // likewise
}

func (u *usage) add(o *usage) {
	u.Length, u.Size, u.Files, u.Directories = u.Length+o.Length, u.Size+o.Size, u.Files+o.Files, u.Directories+o.Directories
}

func newDu() *cobra.Command {
	flags := doorFlags{namesOnly: true}
	var asJSON bool
	var depth uint
	c := &cobra.Command{
		Use:   "du [PATH...] --config FILE [--depth N] [--json] [--anonymous]",
		Short: "Add up what is in files and directories",
		Long: `du prints for each PATH, the root directory if none is named, the length of all files at and below it, their size, how many files and directories that are, and the path. A file's length is what cat and get read of it, its
size what a device has of it. How much of that is stored the metadata do not say: zeros that were never written cost nothing, all else is stored with its parity (code K+M: (K+M)/K of it). --depth prints the directories
below PATH, too, so many names deep. PATH may be a pattern, as for ls.

--json prints an array of objects with path, length, size, files and directories.`,
		Example:               "  btnode du /docs --depth 1 --config client.yaml\n  btnode du '/vm/*' --json --config client.yaml",
		DisableFlagsInUseLine: true,
		Args:                  cobra.ArbitraryArgs,
	}
	flags.add(c, true)
	c.Flags().UintVar(&depth, "depth", 0, "print directories below PATH, too, so many names deep")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			args = []string{"/"}
		}
		return flags.with(c, func(ctx context.Context, d *door) error {
			lines := []usage{}
			err := d.every(ctx, args, true, func(path blocktree.Path) error {
				info, err := d.info(ctx, path)
				if err != nil {
					return err
				}
				w := summer{d, ctx, depth, &lines, 0}
				_, err = w.sum(path, &info, 0)
				return err
			})
			if e := printUsage(c, lines, asJSON); err == nil {
				err = e
			}
			return err
		})
	}
	return c
}

// summer adds up.
type summer struct {
	*door
	ctx      context.Context
	depth    uint
	lines    *[]usage
	failures int
}

// sum adds up what is at and below a path, which is so deep below the one that was named.
func (s *summer) sum(path blocktree.Path, info *fs.Info, deep uint) (usage, error) {
	u := usage{Path: path.Short(), Length: info.Length, Size: info.SizeBytes, Files: 1}
	if info.Dir {
		u = usage{Path: path.Short(), Directories: 1}
		err := s.each(s.ctx, path, func(e fs.Entry) error {
			below, err := s.sum(path.Join(e.Name), &e.Info, deep+1)
			u.add(&below)
			return err
		})
		switch {
		case s.ctx.Err() != nil:
			return u, err
		case err != nil && deep == 0:
			return u, err
		case err != nil:
			s.complain(err)
			s.failures++
		}
	}
	if deep == 0 || info.Dir && deep <= s.depth {
		*s.lines = append(*s.lines, u)
	}
	if deep == 0 {
		return u, someFailed(s.failures)
	}
	return u, nil
}

func printUsage(c *cobra.Command, lines []usage, asJSON bool) error {
	if asJSON {
		return cli.PrintJSON(c.OutOrStdout(), lines)
	}
	t := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
	for _, u := range lines {
		fmt.Fprintf(t, "%s\t%s\t%d files\t%d directories\t%s\n", about(int64(u.Length)), about(int64(u.Size)), u.Files, u.Directories, cli.PrintableName(u.Path))
	}
	return t.Flush()
}

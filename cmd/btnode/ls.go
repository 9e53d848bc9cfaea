package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/fs"
	"blocktree/internal/cli"
)

func newLs() *cobra.Command {
	flags := doorFlags{namesOnly: true}
	var asJSON, long, dereference bool
	c := &cobra.Command{
		Use:   "ls PATH... --config FILE [--long] [--dereference] [--json] [--anonymous]",
		Short: "List a directory",
		Long: `ls prints one line per file or directory directly in PATH, in the order of their names; a file is a line of its own. --long begins it with mode, owner and group; a plus says that
somebody has been granted rights on it beside. With credentials it is file ls: the cluster's metadata answers those who may list PATH. With --anonymous a filesystem service does, what everybody may list; the configuration then
needs no identity.

PATH may be a pattern, quoted for the shell: * is any part of a name, ? one character, [a-c] one of a to c, [^a-c] another one, a backslash before one of them is that itself; none of them reaches over a slash, and * fits names that begin with a dot, too. A path
that is there as it is written is meant as it is written. That nothing fits is an error, and patterns do not look behind symbolic links. Those on the way to PATH are followed; one at its end, or in the directory, is a line of its own, with --dereference that of what it leads to, if it leads anywhere. What does not print in a name is shown as in \x1b; --json has names as they are.

--json prints an array of what file stat prints of one, but for access records and roots; without credentials it has what a filesystem service says.`,
		Example:               "  btnode ls / --config client.yaml\n  btnode ls '/docs/*.txt' -l --config client.yaml\n  btnode ls /pub --anonymous --config client.yaml",
		DisableFlagsInUseLine: true,
		Args:                  cli.Some("PATH"),
	}
	flags.add(c, true)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVarP(&long, "long", "l", false, "print mode, owner and group, too")
	addDereference(c, &dereference)
	c.RunE = func(c *cobra.Command, args []string) error {
		return flags.with(c, func(ctx context.Context, d *door) error {
			l := &lister{door: d, ctx: ctx, follow: dereference, more: asJSON || long, layout: asJSON, lines: []fileLine{}}
			var err error
			if len(args) == 1 {
				err = l.word(args[0])
			} else {
				err = d.every(ctx, args, true, func(path blocktree.Path) error { return l.one(path, true) })
			}
			if err != nil && len(l.lines) == 0 {
				return err
			}
			if e := printLines(c, l.lines, asJSON, long); err == nil {
				err = e
			}
			return err
		})
	}
	return c
}

// lister makes lines of what is listed.
type lister struct {
	*door
	ctx    context.Context
	follow bool // symbolic links, to what they lead to
	more   bool // mode, owner and grants, which takes a question for each
	layout bool // how durable it is, likewise
	lines  []fileLine
}

// word lists what one word names: a directory, or what fits a pattern.
func (l *lister) word(word string) error {
	paths, err := l.named(l.ctx, word)
	if err != nil {
		return err
	}
	literal, _ := l.cfg.Resolve(word) // named did
	if len(paths) == 1 && paths[0] == literal {
		return l.one(literal, false)
	}
	return l.every(l.ctx, []string{word}, true, func(path blocktree.Path) error { return l.one(path, true) })
}

// one lists a directory, or describes a file, for which it looks first where a pattern may have named it, and a symbolic link that is not followed.
func (l *lister) one(path blocktree.Path, mayBeFile bool) error {
	if mayBeFile {
		at, info, err := l.found(l.ctx, path, l.follow)
		if err != nil {
			return err
		}
		if !info.Dir {
			return l.line(path, at, &info)
		}
	}
	var in blocktree.Path
	err := l.behind(l.ctx, path, l.follow, func(at blocktree.Path) error {
		in = at
		return l.each(l.ctx, at, func(e fs.Entry) error { return l.entry(at.Join(e.Name), &e.Info) })
	})
	switch blocktree.KindOf(err) {
	case blocktree.Invalid, blocktree.Permission: // which is what nobody in particular is told of a file
		if at, info, e := l.found(l.ctx, path, l.follow); e == nil && !info.Dir {
			return l.line(path, at, &info)
		}
	}
	if err != nil {
		return err
	}
	if l.anonymous && l.tell != nil {
		of, _, _ := l.service.Nearest(l.ctx, in) // as it was found just now
		l.usedService(path, "of "+of.Short())
	}
	return nil
}

// entry adds what is in a directory.
func (l *lister) entry(path blocktree.Path, info *fs.Info) error {
	if info.Link && l.follow {
		at, behind, err := l.found(l.ctx, path, true)
		switch blocktree.KindOf(err) {
		case blocktree.NotFound, blocktree.Invalid, blocktree.TooLarge, blocktree.Permission: // it leads nowhere
		default:
			return err
		case blocktree.Other:
			if err != nil {
				return err
			}
			return l.line(path, at, &behind)
		}
	}
	return l.line(path, path, info)
}

// line adds what has a name, and is at a path; nothing if it was removed meanwhile.
func (l *lister) line(name, path blocktree.Path, info *fs.Info) error {
	out := lineOf(name, info)
	if l.more && !l.anonymous {
		ctx, cancel := context.WithTimeout(l.ctx, fileTimeout)
		defer cancel()
		inode, a, err := l.cluster.Allowed(ctx, path)
		if blocktree.KindOf(err) == blocktree.NotFound {
			return nil
		}
		if err != nil {
			return err
		}
		out = line(name.Short(), inode)
		out.access(a)
		if l.layout {
			if err := out.durable(ctx, l.cluster, inode); err != nil {
				return err
			}
		}
	}
	l.lines = append(l.lines, out)
	return nil
}

// lineOf describes what a listing says.
func lineOf(path blocktree.Path, i *fs.Info) fileLine {
	l := fileLine{Path: path.Short(), Kind: "directory", ID: i.ID.String(), Created: stamp(i.Created), Modified: stamp(i.Modified), Changed: stamp(i.Changed), Mode: fmt.Sprintf("%04o", i.Mode), UID: i.UID, GID: i.GID}
	if i.Link {
		l.Kind, l.Length = "link", i.Length
		return l
	}
	if !i.Dir {
		l.Kind, l.Size, l.Length, l.SectorSize, l.Code, l.Encrypted = "file", i.SizeBytes, i.Length, uint32(i.SectorBytes), i.Code.String(), i.Encrypted
	}
	return l
}

func newStat() *cobra.Command {
	flags := doorFlags{namesOnly: true}
	var asJSON, dereference bool
	c := &cobra.Command{
		Use:   "stat PATH... --config FILE [--dereference] [--json] [--anonymous]",
		Short: "Describe files and directories",
		Long: `stat is file stat for one PATH or several, which may be patterns, as for ls: what the cluster's metadata says of each, its owner, mode, grants and key, and what the runtime of the configuration may with it. With
--anonymous it is what a filesystem service says to nobody in particular. A symbolic link is described itself, with --dereference what it leads to; those on the way to PATH are followed.

--json prints an array, of the objects that file stat --json prints.`,
		Example:               "  btnode stat /docs/letter --config client.yaml\n  btnode stat '/vm/*' --json --config client.yaml",
		DisableFlagsInUseLine: true,
		Args:                  cli.Some("PATH"),
	}
	flags.add(c, true)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	addDereference(c, &dereference)
	c.RunE = func(c *cobra.Command, args []string) error {
		return flags.with(c, func(ctx context.Context, d *door) error {
			lines := []fileLine{}
			err := d.every(ctx, args, true, func(path blocktree.Path) error {
				l, err := d.describe(ctx, path, dereference)
				if err == nil {
					lines = append(lines, l)
				}
				return err
			})
			if len(lines) == 0 {
				return err
			}
			if e := printStats(c, lines, asJSON); err == nil {
				err = e
			}
			return err
		})
	}
	return c
}

// describe is what stat says of a path, or of what is behind a symbolic link there.
func (d *door) describe(ctx context.Context, path blocktree.Path, last bool) (l fileLine, err error) {
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	err = d.behind(ctx, path, last, func(at blocktree.Path) (err error) {
		if d.anonymous {
			info, e := d.service.Stat(ctx, at)
			l, err = lineOf(at, &info), e
		} else {
			l, err = describePath(ctx, d.cluster, at)
		}
		if err == nil && last && l.Kind == "link" {
			err = fs.ErrLink("stat", at)
		}
		return err
	})
	return l, err
}

func printStats(c *cobra.Command, lines []fileLine, asJSON bool) error {
	if asJSON {
		return cli.PrintJSON(c.OutOrStdout(), lines)
	}
	for i, l := range lines {
		if i > 0 {
			fmt.Fprintln(c.OutOrStdout())
		}
		if err := printStat(c, l, false); err != nil {
			return err
		}
	}
	return nil
}

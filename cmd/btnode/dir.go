package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/internal/cli"
	"blocktree/internal/config"
	"blocktree/internal/file"
)

func newDir() *cobra.Command {
	group := cli.NewGroup("dir", "Directories that have a cluster of their own",
		`dir is about directories that have a cluster of their own: those with sector hosts among the process records in them (btnode node add). What was made in such a directory before
stays with the cluster above, until it is moved. A cluster that never came to be has its directory taken back.`)
	group.AddCommand(newDirCreate(), newDirMigrate(), newDirTakeBack())
	return group
}

// newDirCreate is mkdir, told as the first step of what the group is about.
func newDirCreate() *cobra.Command {
	c := newMkdir()
	c.Use = "create" + strings.TrimPrefix(c.Use, "mkdir")
	c.Short = "Make a directory that is to have a cluster of its own"
	c.Long = `create makes a directory, as btnode mkdir does, which is the first of three steps to a cluster of its own. The second is btnode node add PATH/NODE for each of its nodes: a process record that says who it is, where,
and that it keeps sectors. The third is btnode run there: the first node founds the cluster and takes over what is in the directory, the others join by themselves. A directory that was made otherwise will do as well.`
	c.Example = `  btnode dir create /rack1 --config client.yaml
  btnode node add /rack1/node-a --credentials node-a.cred --endpoint 192.0.2.7:7001 --config client.yaml`
	return c
}

func newDirMigrate() *cobra.Command {
	var o adminFlags
	var dry, asJSON bool
	c := &cobra.Command{
		Use:   "migrate PATH [--reader-key FILE] [--dry-run] [--json] --config FILE",
		Short: "Move old files to the cluster of their directory",
		Long: `migrate moves the files at or below PATH that are older than the cluster of their directory, one after the other, from the cluster that has kept them to that. A directory
below PATH that has a cluster of its own is not gone into: name it.

Each file is taken as btnbd takes one, so nobody else writes to it meanwhile; one that somebody has open for writing is named, and stays where it is. It is copied and sealed anew, as sectors open in their own
place only: an encrypted file takes the reader key of somebody who reads it (--reader-key, or readerKey of the configuration). Its name leads to the old file until both were read again and compared, and to the new one from then on; then
the old one is removed. Size, length, holes, code, mode, owner, grants, readers, durability and integrity are what they were. The directory's cluster needs as many nodes as the code has shards.

It may be broken off at any moment, and said again: what was copied is compared and not written again, and what had begun is finished. A file that was cut off in the last step takes no writes until then, and says so. --dry-run
says what there is to move and what is unfinished, and changes nothing.

The new file has another identity. Who reads the old one without having it open for writing is told that it is not there any more, and opens it again. A device of btnbd attach is attached anew. Who keeps roots of files of integrity
tree (btnbd serve, a filesystem service, --state) takes the new file for a rollback until told otherwise: once with --accept-rollback, after comparing the root that is printed here.

The configuration must have credentials of user id 0. Exit status 1 says that files are left. Bring all nodes of both clusters to a version that knows this command before it is used for the first time: nodes of a version before stop.`,
		Example: `  btnode dir migrate /rack1 --dry-run --config client.yaml
  btnode dir migrate /rack1 --reader-key reader.key --config client.yaml
  btnode dir migrate /rack1/vm/disk0 --json --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH"),
	}
	o.add(c)
	c.Flags().BoolVar(&dry, "dry-run", false, "say what there is to move, and change nothing")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, when all is done")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := cli.RequireFlags(c, "config"); err != nil {
			return err
		}
		return withClusterFor(c, o.config, resealTimeout, func(ctx context.Context, cfg *config.Client, client *cluster.Client) error {
			path, err := cfg.Resolve(args[0])
			if err != nil {
				return err
			}
			m := &migration{mover: &file.Mover{Client: client, Patience: fileTimeout}, progress: newProgress(c.ErrOrStderr()), dry: dry}
			if admin, err := o.admin(cfg, client); err != nil {
				return err
			} else if admin != nil {
				m.mover.Reader = admin.Reader
			}
			if !asJSON {
				m.out = c.OutOrStdout()
			}
			err = m.run(ctx, path)
			if asJSON {
				err = errors.Join(cli.PrintJSON(c.OutOrStdout(), &m.report), err)
			}
			return err
		})
	}
	return c
}

// migrateLine is a file as --json prints it.
type migrateLine struct {
	Path    string `json:"path"`
	State   string `json:"state"` // old, unfinished, moved, dropped or left
	From    string `json:"from"`
	To      string `json:"to,omitempty"`
	Size    uint64 `json:"size,omitempty"`
	Written uint64 `json:"written"`        // bytes that were not in the copy of a run before
	Root    string `json:"root,omitempty"` // of a file of integrity tree
	Error   string `json:"error,omitempty"`
	Hint    string `json:"hint,omitempty"`
}

// migrateReport is what --json prints.
type migrateReport struct {
	Directory string        `json:"directory"` // whose cluster files are moved to
	Files     []migrateLine `json:"files"`
	Elsewhere []string      `json:"elsewhere"` // directories with clusters of their own
	Moved     int           `json:"moved"`
	Left      int           `json:"left"`
	Bytes     uint64        `json:"bytes"` // of what was moved
	Seconds   float64       `json:"seconds"`
}

// migration is one run of the command.
type migration struct {
	mover    *file.Mover
	progress *progress
	out      io.Writer // nil: lines are kept only
	dry      bool
	begun    time.Time
	report   migrateReport
}

func (m *migration) run(ctx context.Context, path blocktree.Path) error {
	m.begun = time.Now()
	m.report.Files, m.report.Elsewhere = []migrateLine{}, []string{}
	inode, dir := (*meta.Inode)(nil), path
	if i, err := m.mover.Client.Stat(ctx, path); err != nil {
		return err
	} else if i.Kind == meta.KindFile {
		inode, dir = i, path.Parent()
	}
	scope, err := m.mover.Join(ctx, dir)
	if err != nil {
		return err
	}
	m.report.Directory = scope.Short()
	m.mover.Tell = m.progress.moving
	err = m.all(ctx, path, inode)
	m.progress.end()
	m.report.Seconds = time.Since(m.begun).Seconds()
	if err == nil && m.report.Left > 0 {
		err = &blocktree.Error{Op: "migrate", Path: path.Short(), Kind: blocktree.Busy, Err: fmt.Errorf("%s not moved", counted(uint64(m.report.Left), "file")),
			Hint: "each is named above with what is in its way; migrate again afterwards"}
	}
	if err == nil && m.out != nil && !m.dry {
		_, err = fmt.Fprintf(m.out, "%s moved to the cluster of %s, %s in %v, %s/s\n", counted(uint64(m.report.Moved), "file"), scope.Short(), cli.FormatSize(m.report.Bytes),
			time.Since(m.begun).Round(time.Millisecond), about(int64(float64(m.report.Bytes)/max(m.report.Seconds, 1e-3))))
	}
	return err
}

// all finishes what is unfinished, and then moves the old files, or the one that inode describes.
func (m *migration) all(ctx context.Context, path blocktree.Path, inode *meta.Inode) error {
	unfinished, err := m.mover.Unfinished(ctx, path)
	if err != nil {
		return err
	}
	for _, x := range unfinished {
		if err := m.finish(ctx, x); err != nil {
			return err
		}
	}
	if inode == nil {
		return m.mover.Find(ctx, path, func(o file.Old) error { return m.move(ctx, o) }, func(dir blocktree.Path) error {
			m.report.Elsewhere = append(m.report.Elsewhere, dir.Short())
			return m.say("%s has a cluster of its own: name it to move the files in it\n", dir.Short())
		})
	}
	if now, err := m.mover.Client.Stat(ctx, path); err != nil {
		return err
	} else if m.mover.IsOld(now.ID) {
		return m.move(ctx, file.Old{Path: path, Inode: *now})
	}
	return nil
}

func (m *migration) say(format string, args ...any) (err error) {
	if m.out != nil {
		m.progress.end()
		_, err = fmt.Fprintf(m.out, format, args...)
	}
	return err
}

// finish does what is left of a move of a run before.
func (m *migration) finish(ctx context.Context, x meta.Move) error {
	l := migrateLine{Path: x.Path.Short(), State: "unfinished", From: x.From.String(), To: x.To.String()}
	if m.dry {
		m.report.Files = append(m.report.Files, l)
		what := "its copy is not complete"
		if x.Adopted {
			what = "its old file is to be removed"
		}
		return m.say("%s: unfinished: %s\n", l.Path, what)
	}
	done, err := m.mover.Finish(ctx, x)
	switch {
	case err != nil:
		return m.left(l, err)
	case done.Moved:
		l.State = "moved"
		m.report.Moved++
	case done.Dropped:
		l.State = "dropped"
	default: // its path leads to the old file, which Find finds
		return nil
	}
	m.report.Files = append(m.report.Files, l)
	return m.say("%s: %s, which a run before had begun\n", l.Path, l.State)
}

// left names a file that stays where it is. What concerns no file alone ends the run.
func (m *migration) left(l migrateLine, err error) error {
	l.State, l.Error, l.Hint = "left", err.Error(), blocktree.HintOf(err)
	m.report.Files = append(m.report.Files, l)
	m.report.Left++
	switch blocktree.KindOf(err) {
	case blocktree.Unavailable, blocktree.Timeout, blocktree.Canceled, blocktree.Closed, blocktree.Unauthenticated, blocktree.Unsupported:
		return err
	}
	if e := m.say("%s: not moved: %v\n", l.Path, err); e != nil || l.Hint == "" {
		return e
	}
	return m.say("%s: hint: %s\n", l.Path, l.Hint)
}

// move moves one old file.
func (m *migration) move(ctx context.Context, o file.Old) error {
	l := migrateLine{Path: o.Path.Short(), State: "old", From: o.Inode.ID.String(), Size: o.Inode.SizeBytes}
	if o.Inode.SectorBytes == 0 {
		return m.left(l, &blocktree.Error{Op: "migrate", Path: l.Path, Kind: blocktree.NotFound, Err: errors.New("the file is gone from its home, or may not be seen"), Hint: "if it was removed remove its name, too: btnode file rm " + l.Path})
	}
	if m.dry {
		m.report.Files = append(m.report.Files, l)
		return m.say("%s: to be moved, %s\n", l.Path, cli.FormatSize(l.Size))
	}
	r, err := m.mover.Move(ctx, o.Path, &o.Inode)
	if err != nil {
		return m.left(l, err)
	}
	l.State, l.To, l.Written = "moved", r.To.String(), r.Written
	root := ""
	if o.Inode.Integrity == meta.IntegrityTree {
		l.Root = r.Root.String()
		root = ", root " + l.Root
	}
	m.report.Files = append(m.report.Files, l)
	m.report.Moved++
	m.report.Bytes += r.SizeBytes
	return m.say("%s: moved, %s%s\n", l.Path, cli.FormatSize(l.Size), root)
}

// moving shows how far a file is.
func (p *progress) moving(path blocktree.Path, m file.Moving) {
	if p.w == nil || time.Since(p.shown) < progressEvery {
		return
	}
	p.shown = time.Now()
	what := "copied"
	done := m.Bytes
	if m.Verifying {
		what, done = "compared", done-min(done, m.SizeBytes)
	}
	rate := int64(float64(m.Bytes) / max(time.Since(m.Begun).Seconds(), 1e-3))
	fmt.Fprintf(p.w, "\r\x1b[K%s: %s %s of %s, %s/s", path.Short(), what, cli.FormatSize(done), cli.FormatSize(m.SizeBytes), about(rate))
}

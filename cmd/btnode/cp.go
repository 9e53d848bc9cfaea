package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/fs"
	"blocktree/internal/cli"
	"blocktree/internal/config"
)

// copied is what cp prints as --json.
type copied struct {
	Files       uint64 `json:"files"`
	Directories uint64 `json:"directories"`
	Links       uint64 `json:"links"`   // symbolic ones
	Bytes       uint64 `json:"bytes"`   // of the files
	Written     uint64 `json:"written"` // of them: the rest are zeros, which are left out
}

// printed prints it, if it is to be as JSON, unless nothing was done but fail.
func (n copied) printed(c *cobra.Command, asJSON bool, err error) error {
	err = unfinished(err)
	if asJSON && (err == nil || n != copied{}) {
		if e := cli.PrintJSON(c.OutOrStdout(), n); err == nil {
			err = e
		}
	}
	return err
}

// unfinished has it be a failure that a command was stopped before it was done, by a signal: whoever says put && rm is to keep what was not copied.
func unfinished(err error) error {
	if blocktree.KindOf(err) != blocktree.Canceled && !errors.Is(err, context.Canceled) {
		return err
	}
	return &blocktree.Error{Err: fmt.Errorf("stopped before it was done: %v", err), Hint: cmp.Or(blocktree.HintOf(err), "what was done until then stays; put and get go on with --resume")} // and is not of kind Canceled, which is success
}

func newCp() *cobra.Command {
	var flags doorFlags
	var code cli.Code
	var recursive, asJSON bool
	c := &cobra.Command{
		Use:   "cp FROM... TO --config FILE [--recursive] [--code K+M] [--json] [--state DIR] [-v]",
		Short: "Copy files within the domain",
		Long: `cp copies files to new ones, within a cluster or to another: TO, or where that is a directory into it. With --recursive it copies directories with all that is in them. FROM may be a pattern, as for ls. Nothing that is there is
replaced. Symbolic links are followed; with --recursive they are copied as links, to what they said, and only those on the way to FROM are followed, and several files are copied at a time. A copy is a new file of whoever makes it, with a key and an access record of its own, read by the readers of the configuration and of the directory that it gets into; it is encrypted, and has the length and the permission bits of what it
was copied from, its code and size of sectors unless --code says so, or the cluster of TO has too few nodes. Grants are not copied, and the copy is of durability ack and integrity sector.

Sectors of zeros are not written: what was a hole is one. The bytes go by way of this process, as for cat and put. What somebody has open and written, but not flushed, may be missing, and what is written
meanwhile may be in the copy or not. A copy that fails is removed, or cp says that it may be there; of several the others are made, and the exit code is 1.

--json prints an object with files, directories, links, bytes and written.`,
		Example:               "  btnode cp /docs/letter /docs/letter.old --config client.yaml\n  btnode cp -r /docs '/lab/*.txt' /archive --config client.yaml",
		DisableFlagsInUseLine: true,
		Args:                  cli.Some("FROM", "TO"),
	}
	flags.add(c, false)
	c.Flags().BoolVarP(&recursive, "recursive", "r", false, "copy directories with all that is in them")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	addCode(c, &code, "")
	c.RunE = func(c *cobra.Command, args []string) error {
		return flags.with(c, func(ctx context.Context, d *door) error {
			p := newProgress(c.ErrOrStderr())
			w := &copier{door: d, ctx: ctx, recursive: recursive, code: code}
			w.tree = newTreeCopy(ctx, d, p, w.copyFile)
			err := w.all(args[:len(args)-1], args[len(args)-1])
			p.end()
			return w.tree.done.printed(c, asJSON, err)
		})
	}
	return c
}

// copier copies.
type copier struct {
	*door
	ctx       context.Context
	recursive bool
	code      cli.Code // zero: that of what is copied
	tree      *treeCopy
}

// all copies what words name.
func (w *copier) all(from []string, to string) error {
	target, err := w.cfg.Resolve(to)
	if err != nil {
		return err
	}
	at, info, err := w.found(w.ctx, target, true)
	into := err == nil && info.Dir
	if err != nil && blocktree.KindOf(err) != blocktree.NotFound {
		return err
	}
	switch {
	case into:
		target = at
	case at != target: // the last name is not followed to write there
		if target, err = fs.Follow(w.ctx, linked{w.door}, target, false); err != nil {
			return err
		}
	}
	if !into {
		if err := w.oneOnly(from, target); err != nil {
			return err
		}
	}
	err = w.every(w.ctx, from, true, func(path blocktree.Path) error {
		at := target
		if into {
			at = target.Join(path.Base())
		}
		from, info, err := w.found(w.ctx, path, !w.recursive)
		if err == nil {
			err = w.led(path, from)
		}
		if err != nil {
			return err
		}
		return w.copy(from, at, &info)
	})
	if err == nil {
		err = someFailed(w.tree.failures)
	}
	return err
}

// oneOnly refuses several things to be copied where no directory is, before any is.
func (w *copier) oneOnly(from []string, target blocktree.Path) error {
	n := len(from)
	if n == 1 {
		paths, err := w.named(w.ctx, from[0])
		if err != nil {
			return err
		}
		n = len(paths)
	}
	if n > 1 {
		return cli.Invalid("make the directory first: btnode mkdir", "%s is no directory, and several things are to be copied there", target.Short())
	}
	return nil
}

// copy copies what is at a path. What failed beneath a directory is told.
func (w *copier) copy(from, to blocktree.Path, info *fs.Info) error {
	if info.Dir && !w.recursive {
		return cli.Invalid("say --recursive", "%s is a directory", from.Short())
	}
	if info.Dir && to.Within(from) {
		return cli.Invalid("name a place outside of it", "%s is inside of %s", to.Short(), from.Short())
	}
	return w.tree.all(remoteNode{w.door, from, *info}, remotePlace{writableTree: w.door, path: to})
}

// copyFile copies one file, as one of several.
func (w *copier) copyFile(ctx context.Context, node treeNode, place place, p *progress) (copied, error) {
	from, to, own := node.(remoteNode), place.(remotePlace).path, *w.door // which way was taken is noted in it
	source, err := own.file(ctx, from.path, fs.OpenOptions{})
	if err != nil {
		return copied{}, err
	}
	defer source.Close() // it was only read from
	was := source.Info()
	create := config.Create{Size: cli.Size(was.SizeBytes), SectorSize: cli.Size(was.SectorBytes), Code: w.code}
	if err := own.fit(ctx, to, &create, was.Code); err != nil {
		return copied{}, err
	}
	has, err := from.modeOf(source)
	if err != nil {
		return copied{}, err
	}
	mode := has | 0o600 // or it could not be written
	made, err := own.create(ctx, to, &create, mode)
	if err != nil {
		return copied{}, own.made(ctx, to, made, err)
	}
	written, err := own.fillFrom(ctx, source, to, made, &was, p)
	if err == nil && has != mode {
		err = own.setMode(ctx, to, made, has)
	}
	if err != nil {
		return copied{}, fs.Undone(ctx, &own, to, made, err)
	}
	return copied{Files: 1, Bytes: was.Length, Written: written}, nil
}

// fit has a new file get the code that it was to get, or what the cluster of its directory can give it.
func (d *door) fit(ctx context.Context, to blocktree.Path, create *config.Create, was blocktree.Code) error {
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	members, err := hostsFor(ctx, d.cfg, d.cluster, to)
	if err != nil {
		return err
	}
	given := create.Code.Data != 0
	if !given {
		create.Code = cli.Code{Code: was}
		if was.Data+was.Parity > members {
			_ = create.Code.Set(defaultCode(members)) // constants
		}
	}
	return create.Validate(members)
}

// fillFrom copies the bytes of a file into one that is new, has it end where that does, and flushes it.
func (d *door) fillFrom(ctx context.Context, source fs.File, path blocktree.Path, made blocktree.FileID, info *fs.Info, p *progress) (written uint64, err error) {
	to, err := d.fillable(ctx, path, made)
	if err != nil {
		return 0, err
	}
	written, err = copyHoles(ctx, to, source, info, p)
	if err == nil {
		err = to.Flush(ctx)
	}
	if err == nil && info.Length != info.SizeBytes {
		err = d.endAt(ctx, to, path, info.Length)
	}
	if e := to.Close(); err == nil {
		err = e
	}
	return written, err
}

// copyHoles copies a file into one that has zeros only, and leaves out what is zeros, a sector at a time.
func copyHoles(ctx context.Context, to, from fs.File, info *fs.Info, p *progress) (written uint64, err error) {
	buf := p.buffer()
	sector := max(info.SectorBytes, 1)
	for off := uint64(0); ; {
		n, err := from.ReadAt(ctx, buf, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return written, err
		}
		for _, r := range filled(buf[:n], sector) {
			if err := to.WriteAt(ctx, buf[r[0]:r[1]], off+uint64(r[0])); err != nil {
				return written, err
			}
			written += uint64(r[1] - r[0])
		}
		off += uint64(n)
		p.copied(int64(off), int64(info.Length))
		if err != nil || n == 0 {
			return written, nil
		}
	}
}

// filled returns the ranges of a buffer, of whole sectors but for its end, that are not zeros.
func filled(b []byte, sector int) (ranges [][2]int) {
	zeros := make([]byte, sector)
	for at := 0; at < len(b); at += sector {
		end := min(at+sector, len(b))
		if bytes.Equal(b[at:end], zeros[:end-at]) {
			continue
		}
		if last := len(ranges) - 1; last >= 0 && ranges[last][1] == at {
			ranges[last][1] = end
			continue
		}
		ranges = append(ranges, [2]int{at, end})
	}
	return ranges
}

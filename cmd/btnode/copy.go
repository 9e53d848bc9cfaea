package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"blocktree"
	"blocktree/fs"
	"blocktree/internal/cli"
	"blocktree/internal/config"
)

// copyBytes is how much of a file is copied at a time.
const copyBytes = blocktree.FSTransferBytesMax

func newCat() *cobra.Command {
	var flags doorFlags
	c := &cobra.Command{
		Use:   "cat PATH... --config FILE [--anonymous] [--state DIR] [--root ROOT] [-v]",
		Short: "Print files",
		Long: `cat prints whole files to standard output, one after the other; PATH may be a pattern, as for ls, and symbolic links are followed. A configuration with a reader key that opens it (readerKey) opens it here; else a filesystem service
decrypts it, for those who may read it; with --anonymous for everybody, where the file and all directories above it let others read. What somebody has
open and written, but not flushed, may be missing.

Of a file of integrity tree that is opened here, --state DIR keeps the newest root that was seen, and what is older than that is refused ("rollback detected"); --root ROOT, as btnode file stat prints it,
demands one that was written down. With neither the command says that it believes what it is shown. A filesystem service keeps roots of its own, in the directory of its store; with --state it is
not asked for a file of which DIR has a root.`,
		Example:               "  btnode cat /docs/a --config client.yaml | sha256sum\n  btnode cat /pub/a --anonymous --config client.yaml -v",
		DisableFlagsInUseLine: true,
		Args:                  cli.Some("PATH"),
	}
	flags.add(c, true)
	flags.addRoot(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return flags.with(c, func(ctx context.Context, d *door) error {
			return d.every(ctx, args, true, func(path blocktree.Path) error {
				return d.read(ctx, path, c.OutOrStdout(), "standard output", &progress{}) // which may be the terminal itself
			})
		})
	}
	return c
}

// read writes a file to w, which is called local.
func (d *door) read(ctx context.Context, path blocktree.Path, w io.Writer, local string, p *progress) error {
	f, err := d.source(ctx, path)
	if err != nil {
		return err
	}
	defer f.Close() // it was only read from
	return copyOut(ctx, f, w, local, p)
}

// copyOut writes an open file to w, which is called local.
func copyOut(ctx context.Context, f fs.File, w io.Writer, local string, p *progress) error {
	defer p.end()
	buf := make([]byte, copyBytes)
	for off := uint64(0); ; {
		n, err := f.ReadAt(ctx, buf, off)
		if _, werr := w.Write(buf[:n]); werr != nil {
			return localError("write", local, werr)
		}
		off += uint64(n)
		p.copied(int64(off), int64(f.Info().Length))
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

func newGet() *cobra.Command {
	var flags doorFlags
	var resume bool
	c := &cobra.Command{
		Use:   "get PATH FILE --config FILE [--resume] [--anonymous] [--state DIR] [--root ROOT] [-v]",
		Short: "Copy a file to a local file",
		Long: `get copies the file at PATH to FILE, which must not be there yet; it has its name once all of it is on the disk, and belongs to its user alone. Symbolic links are followed. Which way is taken is as
for cat. Where PATH is a pattern, as for ls, FILE is a directory, and each file that fits gets there under its own name.

With --resume what a get that was cut has copied stays, in a file .FILE.partial beside FILE, and the next one with --resume goes on: each piece that is there already is compared with the file by its SHA-256, which a service
computes where it is, and what differs is copied anew. So FILE is what the file was while that one ran, whatever was copied before.`,
		Example:               "  btnode get /docs/a a --config client.yaml\n  btnode get /pub/a a --anonymous --config client.yaml",
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH", "FILE"),
	}
	flags.add(c, true)
	flags.addRoot(c)
	c.Flags().BoolVar(&resume, "resume", false, "go on with a get that was cut, and keep what is copied if this one is")
	c.RunE = func(c *cobra.Command, args []string) error {
		return flags.with(c, func(ctx context.Context, d *door) error {
			return d.getAll(ctx, args[0], args[1], resume, newProgress(c.ErrOrStderr()))
		})
	}
	return c
}

// getAll copies what a word names: to a file, or what fits a pattern into a directory.
func (d *door) getAll(ctx context.Context, word, local string, resume bool, p *progress) error {
	paths, err := d.named(ctx, word)
	if err != nil {
		return err
	}
	if literal, _ := d.cfg.Resolve(word); len(paths) == 1 && paths[0] == literal { // named did
		return d.get(ctx, literal, local, resume, p)
	}
	if info, err := os.Stat(local); err != nil || !info.IsDir() {
		return cli.Invalid("name a directory that is there", "%s is no directory, and what fits a pattern is copied into one", local)
	}
	return d.every(ctx, []string{word}, true, func(path blocktree.Path) error {
		return d.get(ctx, path, filepath.Join(local, path.Base()), resume, p)
	})
}

// get copies a file into another one beside its name, and then gives it that. With resume what it could not finish stays, and is gone on with.
func (d *door) get(ctx context.Context, path blocktree.Path, local string, resume bool, p *progress) error {
	if _, err := os.Lstat(local); err == nil {
		return localError("get", local, os.ErrExist)
	}
	f, err := getInto(local, resume)
	if err != nil {
		return err
	}
	if err = d.fetch(ctx, path, f, local, resume, p); err == nil {
		if err = f.Sync(); err != nil {
			err = localError("get", local, err)
		}
	}
	if err == nil {
		if e := unix.Renameat2(unix.AT_FDCWD, f.Name(), unix.AT_FDCWD, local, unix.RENAME_NOREPLACE); e != nil {
			err = localError("get", local, e)
		}
	}
	if e := f.Close(); err == nil && e != nil {
		err = localError("get", local, e)
	}
	if err != nil {
		if !resume {
			_ = os.Remove(f.Name()) // the first error is the one to tell
		}
		return err
	}
	if err = syncDir(filepath.Dir(local)); err != nil {
		return localError("get", local, err)
	}
	return nil
}

// getInto makes the file that get copies into.
func getInto(local string, resume bool) (*os.File, error) {
	if resume {
		return partial(local)
	}
	f, err := os.CreateTemp(filepath.Dir(local), "."+filepath.Base(local)+".*")
	if err != nil {
		return nil, localError("get", local, err)
	}
	return f, nil
}

// fetch copies all bytes, or those that are missing.
func (d *door) fetch(ctx context.Context, path blocktree.Path, to *os.File, local string, resume bool, p *progress) error {
	if !resume {
		return d.read(ctx, path, to, local, p)
	}
	f, err := d.source(ctx, path)
	if err != nil {
		return err
	}
	defer f.Close() // it was only read from
	kept, err := resumeOut(ctx, f, to, local, p)
	if err == nil {
		d.resumed(path, kept)
	}
	return err
}

// resumed says how much was there already, with --verbose.
func (d *door) resumed(path blocktree.Path, kept int64) {
	if d.tell != nil {
		fmt.Fprintf(d.tell, "btnode: %s: %s were there already\n", cli.PrintableName(path.Short()), about(kept))
	}
}

// syncDir has the names in a directory outlast a loss of power.
func syncDir(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	defer dir.Close() // only read from
	return dir.Sync()
}

// localError is an error about a local file.
func localError(op, name string, err error) error {
	kind, hint := blocktree.IO, "look at the disk that it is on, and at the system's log"
	switch {
	case errors.Is(err, os.ErrExist):
		kind, hint = blocktree.Exists, "name a file that is not there yet"
	case errors.Is(err, os.ErrNotExist):
		kind, hint = blocktree.NotFound, "name a file in a directory that is there"
	case errors.Is(err, os.ErrPermission):
		kind, hint = blocktree.Permission, "name a file that this user may use"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG):
		kind, hint = blocktree.NoSpace, "make room for all of it, or name a file where there is some"
	case errors.Is(err, unix.EPIPE):
		hint = "whoever was to read it has gone"
	}
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return &blocktree.Error{Op: op, Path: name, Kind: kind, Err: err, Hint: hint}
}

func newPut() *cobra.Command {
	var flags doorFlags
	var create config.Create
	var pad, resume bool
	c := &cobra.Command{
		Use:   "put FILE PATH --config FILE [--code K+M] [--durability ack|flush] [--pad] [--resume] [--integrity WHICH] [--state DIR] [-v]",
		Short: "Copy a local file to a new file",
		Long: `put makes a file at PATH, which must not be there yet, and copies FILE into it; when it ends without an error all of it would survive the loss
of power everywhere. When it fails it removes what it made, and nothing else that may have the name by then, or says that this may still be there. A FILE that somebody writes to meanwhile, or puts another one in place of, is an error. The file is encrypted: here, where the configuration has a reader key (readerKey), else by a
filesystem service. Directories above it are made as needed.

With --resume a put that fails leaves what it made, and the next one with --resume goes on: what is there is compared with FILE by its SHA-256, what is zeros still is written, and anything else is another file, or another version of it, which is refused; as is a file of another user, or of another size, integrity, durability or code than this put would give it. So what ends
without an error is FILE, byte for byte.

With --integrity tree the file is one that notices nodes that all go back in time; it takes a reader key, and --state DIR keeps its root, so that cat and get with the same DIR know it.

With --durability flush the nodes make durable what was written when it is flushed, not with each write, here and whenever the file is written later (btnode file create says what that means). A filesystem service of a version before makes it of durability ack.

A file's size is a whole number of sectors of 4 KiB, its length is that of FILE: get gives the same bytes back. What is behind its length in the last sector are zeros, which devices
read (btnbd). With --pad the file gets no length: it reads as its whole size. Nodes and filesystem services of versions before know no lengths: bring all to this version first, or say --pad.`,
		Example:               "  btnode put disk.img /vm/disk2 --pad --config client.yaml\n  btnode put letter.txt /docs/letter --config client.yaml -v",
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("FILE", "PATH"),
	}
	flags.add(c, false)
	addCode(c, &create.Code, "")
	addDurability(c, &create.Durability)
	addIntegrity(c, &create.Integrity)
	c.Flags().BoolVar(&pad, "pad", false, "give it no length: it reads as whole sectors, the last filled up with zeros")
	c.Flags().BoolVar(&resume, "resume", false, "go on with a put that was cut, and leave what is copied if this one is")
	c.RunE = func(c *cobra.Command, args []string) error {
		return flags.with(c, func(ctx context.Context, d *door) error {
			return d.put(ctx, args[0], args[1], &create, pad, resume, newProgress(c.ErrOrStderr()))
		})
	}
	return c
}

// put copies a local file.
func (d *door) put(ctx context.Context, local, name string, create *config.Create, pad, resume bool, p *progress) error {
	path, err := d.cfg.Resolve(name)
	if err != nil {
		return err
	}
	f, err := os.Open(local)
	if err != nil {
		return localError("put", local, err)
	}
	defer f.Close() // only read from
	info, err := f.Stat()
	if err != nil {
		return localError("put", local, err)
	}
	if !info.Mode().IsRegular() {
		return cli.Invalid("name a regular file", "%s is none", local)
	}
	sector := int64(create.Sector())
	whole := max(sector, (info.Size()+sector-1)/sector*sector)
	create.Size = cli.Size(whole)
	asked := create.Code.Code
	if asked.Data == 0 {
		_ = create.Code.Set(defaultCode(len(d.cfg.Cluster.Members))) // constants
	}
	if err := create.Validate(len(d.cfg.Cluster.Members)); err != nil {
		return err
	}
	var made blocktree.FileID
	begun := false
	if resume {
		if begun, made, err = d.begun(ctx, path, info.Size(), create, asked, pad); err != nil {
			return err
		}
	}
	if !begun {
		if made, err = d.create(ctx, path, create); err != nil {
			return d.made(ctx, path, made, err)
		}
	}
	err = d.fill(ctx, path, made, f, local, info.Size(), begun, p, func(to fs.File) error {
		if err := unchanged(f, info, local); err != nil || whole == info.Size() || pad {
			return err
		}
		return d.endAt(ctx, to, path, uint64(info.Size()))
	})
	switch {
	case err == nil:
		return nil
	case resume:
		return cli.WithHint(err, "what was copied is there: say it again, with --resume")
	}
	return fs.Undone(ctx, d, path, made, err)
}

// unsure adds to the error of a creation that it may have been done all the same, where nobody knows.
func unsure(err error) error {
	switch blocktree.KindOf(err) {
	case blocktree.Unavailable, blocktree.Timeout, blocktree.Canceled, blocktree.Closed, blocktree.Undeliverable:
		return cli.WithHint(err, "it may have been made all the same: look with btnode ls, and remove it with btnode file rm")
	}
	return err
}

// fill writes the bytes of from, which is called local, into a file that is new, or begun; what is behind them are zeros already. When they are flushed the open file is given to last.
func (d *door) fill(ctx context.Context, path blocktree.Path, made blocktree.FileID, from *os.File, local string, bytes int64, begun bool, p *progress, last func(fs.File) error) error {
	to, err := d.fillable(ctx, path, made)
	if err != nil {
		return err
	}
	if begun {
		var kept int64
		if kept, err = resumeIn(ctx, to, from, local, bytes, p); err == nil {
			d.resumed(path, kept)
		}
	} else {
		err = copyIn(ctx, to, from, local, bytes, p)
	}
	if err == nil {
		err = to.Flush(ctx)
	}
	if err == nil {
		err = last(to)
	}
	if e := to.Close(); err == nil {
		err = e
	}
	return err
}

// unchanged fails where a local file is not the one any more that it was when it was opened, or was written to since: what was copied is then of no moment.
func unchanged(f *os.File, was os.FileInfo, local string) error {
	now, err := f.Stat()
	if err != nil {
		return localError("read", local, err)
	}
	named, err := os.Stat(local)
	if err == nil && os.SameFile(named, was) && now.Size() == was.Size() && now.ModTime().Equal(was.ModTime()) {
		return nil
	}
	return changedMeanwhile(local, "another")
}

// changedMeanwhile says that somebody wrote to a local file.
func changedMeanwhile(local, how string) error {
	return &blocktree.Error{Op: "put", Path: local, Kind: blocktree.Invalid, Err: errors.New("it became " + how + " while it was copied"),
		Hint: "copy it while nobody writes to it"}
}

// copyIn writes all that from has to a file, from its first byte on. That are so many bytes, or it fails: an end that comes early, or an error of the disk,
// must not pass for zeros.
func copyIn(ctx context.Context, to fs.File, from io.Reader, local string, bytes int64, p *progress) error {
	defer p.end()
	buf := make([]byte, copyBytes)
	for off := int64(0); off < bytes; {
		n, err := io.ReadFull(from, buf[:min(bytes-off, copyBytes)])
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return changedMeanwhile(local, "shorter")
		case err != nil:
			return localError("read", local, err)
		}
		if err := to.WriteAt(ctx, buf[:n], uint64(off)); err != nil {
			return err
		}
		off += int64(n)
		p.copied(off, bytes)
	}
	switch n, err := io.ReadFull(from, buf[:1]); {
	case n > 0:
		return changedMeanwhile(local, "longer")
	case !errors.Is(err, io.EOF):
		return localError("read", local, err)
	}
	return nil
}

// copied shows how much of a file was copied.
func (p *progress) copied(done, of int64) {
	if p.w == nil || time.Since(p.shown) < progressEvery {
		return
	}
	p.shown = time.Now()
	rate := int64(float64(done) / time.Since(p.began).Seconds())
	fmt.Fprintf(p.w, "\r\x1b[K%s of %s copied, %s/s", about(done), about(of), about(rate))
}

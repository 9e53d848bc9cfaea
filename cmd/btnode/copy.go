package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cluster/meta"
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
			return unfinished(d.every(ctx, args, true, func(path blocktree.Path) error {
				return d.read(ctx, path, c.OutOrStdout(), "standard output", &progress{}) // which may be the terminal itself
			}))
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
	buf := p.buffer()
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
	var resume, recursive, asJSON bool
	c := &cobra.Command{
		Use:   "get PATH FILE --config FILE [--recursive] [--resume] [--json] [--anonymous] [--state DIR] [--root ROOT] [-v]",
		Short: "Copy a file, or a directory, to a local one",
		Long: `get copies the file at PATH to FILE, which must not be there yet; it has its name once all of it is on the disk, and belongs to its user alone. Symbolic links are followed. Which way is taken is as
for cat. Where PATH is a pattern, as for ls, FILE is a directory, and each file that fits gets there under its own name.

With --resume what a get that was cut has copied stays, in a file .FILE.partial beside FILE, and the next one with --resume goes on: each piece that is there already is compared with the file by its SHA-256, which a service
computes where it is, and what differs is copied anew. So FILE is what the file was while that one ran, whatever was copied before.

--json prints an object with files, directories, links, bytes and written: of the bytes those that were not there already.`,
		Example:               "  btnode get /docs/a a --config client.yaml\n  btnode get -r /docs . --config client.yaml\n  btnode get /pub/a a --anonymous --config client.yaml",
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH", "FILE"),
	}
	flags.add(c, true)
	flags.addRoot(c)
	c.Flags().BoolVarP(&recursive, "recursive", "r", false, "copy directories with all that is in them, and permission bits")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&resume, "resume", false, "go on with a get that was cut, and keep what is copied if this one is")
	c.RunE = func(c *cobra.Command, args []string) error {
		return flags.with(c, func(ctx context.Context, d *door) error {
			if recursive && flags.root != "" {
				return cli.Invalid("copy that file by itself", "--root is of one file, and --recursive copies many")
			}
			p := newProgress(c.ErrOrStderr())
			done, err := d.getAll(ctx, args[0], args[1], resume, recursive, p)
			p.end()
			return done.printed(c, asJSON, err)
		})
	}
	return c
}

// getAll copies what a word names: to a file, or what fits a pattern into a directory. With recursive directories are copied with all that is in them.
func (d *door) getAll(ctx context.Context, word, local string, resume, recursive bool, p *progress) (done copied, err error) {
	paths, err := d.named(ctx, word)
	if err != nil {
		return done, err
	}
	t := newTreeCopy(ctx, d, p, func(ctx context.Context, from treeNode, to place, p *progress) (copied, error) {
		return d.getNode(ctx, from.(remoteNode), to.(localPlace), p)
	})
	one := func(path blocktree.Path, local string) error {
		if recursive {
			return d.getTree(ctx, t, path, local, resume)
		}
		c, err := d.get(ctx, path, local, resume, p)
		if err == nil {
			t.count(c)
		}
		return err
	}
	if literal, _ := d.cfg.Resolve(word); len(paths) == 1 && paths[0] == literal { // named did
		if recursive {
			if local, err = localBelow(local, literal); err != nil {
				return done, err
			}
		}
		err = one(literal, local)
	} else {
		if info, err := os.Stat(local); err != nil || !info.IsDir() {
			return done, cli.Invalid("name a directory that is there", "%s is no directory, and what fits a pattern is copied into one", local)
		}
		err = d.every(ctx, []string{word}, true, func(path blocktree.Path) error { return one(path, filepath.Join(local, path.Base())) })
	}
	if err == nil {
		err = someFailed(t.failures)
	}
	return t.done, err
}

// get copies a file into another one beside its name, and then gives it that. With resume what it could not finish stays, and is gone on with.
func (d *door) get(ctx context.Context, path blocktree.Path, local string, resume bool, p *progress) (c copied, err error) {
	if _, err := os.Lstat(local); err == nil {
		return c, localError("get", local, os.ErrExist)
	}
	to, err := localTarget(local, resume)
	if err != nil {
		return c, err
	}
	defer to.in.close()
	f, err := d.source(ctx, path)
	if err != nil {
		return c, err
	}
	defer f.Close() // it was only read from
	if c, err = d.fetch(ctx, path, f, to, 0o600, p); err == nil {
		err = to.synced()
	}
	return c, err
}

// fetch copies an open file to a place; of what is there, with resume, only what is missing is copied.
func (d *door) fetch(ctx context.Context, path blocktree.Path, f fs.File, to localPlace, mode uint32, p *progress) (copied, error) {
	var bytes, kept int64
	err := to.receive(mode, func(local *os.File) (err error) {
		if to.resume {
			kept, err = resumeOut(ctx, f, local, to.path, p)
		} else {
			err = copyOut(ctx, f, local, to.path, p)
		}
		if err == nil {
			bytes, err = local.Seek(0, io.SeekEnd)
		}
		return err
	})
	if err == nil && to.resume {
		d.resumed(path, kept)
	}
	return copied{Files: 1, Bytes: uint64(bytes), Written: uint64(bytes - kept)}, err
}

// resumed says how much was there already, with --verbose.
func (d *door) resumed(path blocktree.Path, kept int64) {
	if d.tell != nil {
		fmt.Fprintf(d.tell, "btnode: %s: %s were there already\n", cli.PrintableName(path.Short()), about(kept))
	}
}

func newPut() *cobra.Command {
	var flags doorFlags
	var o putting
	var asJSON bool
	c := &cobra.Command{
		Use:   "put FILE PATH --config FILE [--recursive] [--code K+M] [--durability ack|flush] [--pad] [--resume] [--json] [--integrity WHICH] [--state DIR] [-v]",
		Short: "Copy a local file, or a directory, to a new one",
		Long: `put makes a file at PATH, which must not be there yet, and copies FILE into it; when it ends without an error all of it would survive the loss
of power everywhere. When it fails it removes what it made, and nothing else that may have the name by then, or says that this may still be there. A FILE that somebody writes to meanwhile, or puts another one in place of, is an error. The file is encrypted: here, where the configuration has a reader key (readerKey), else by a
filesystem service. Directories above it are made as needed.

With --recursive FILE may be a directory, which is copied with all that is in it to a new one at PATH; where that ends with a slash the copy gets into that directory under its own name. Symbolic links are copied as links, to what they say, FILE itself, too. Files and directories have their permission bits, but neither owner nor times.
Several files are on their way at once. Nothing that is there is replaced. Sockets, pipes and devices, what changes meanwhile, and whatever else cannot be copied is told, one by one, and the rest is copied; the exit code is then 1. With --resume, too, directories that are there are gone into, and a file that is there and has the same bytes,
and a link that says the same, are passed over.

With --resume a put that fails leaves what it made, and the next one with --resume goes on: what is there is compared with FILE by its SHA-256, what is zeros still is written, and anything else is another file, or another version of it, which is refused; as is a file of another user, or of another size, integrity, durability or code than this put would give it. So what ends
without an error is FILE, byte for byte.

With --integrity tree the file is one that notices nodes that all go back in time; it takes a reader key, and --state DIR keeps its root, so that cat and get with the same DIR know it.

With --durability flush the nodes make durable what was written when it is flushed, not with each write, here and whenever the file is written later (btnode file create says what that means). A filesystem service of a version before makes it of durability ack.

A file's size is a whole number of sectors of 4 KiB, its length is that of FILE: get gives the same bytes back. What is behind its length in the last sector are zeros, which devices
read (btnbd). With --pad the file gets no length: it reads as its whole size. Nodes and filesystem services of versions before know no lengths: bring all to this version first, or say --pad.

--json prints an object with files, directories, links, bytes and written: of the bytes those that were not there already.`,
		Example:               "  btnode put disk.img /vm/disk2 --pad --config client.yaml\n  btnode put -r photos /docs/photos --resume --config client.yaml\n  btnode put letter.txt /docs/letter --config client.yaml -v",
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("FILE", "PATH"),
	}
	flags.add(c, false)
	addCode(c, &o.create.Code, "")
	addDurability(c, &o.create.Durability)
	addIntegrity(c, &o.create.Integrity)
	c.Flags().BoolVar(&o.pad, "pad", false, "give it no length: it reads as whole sectors, the last filled up with zeros")
	c.Flags().BoolVarP(&o.keepMode, "recursive", "r", false, "copy a directory with all that is in it, and permission bits")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&o.resume, "resume", false, "go on with a put that was cut, and leave what is copied if this one is")
	c.RunE = func(c *cobra.Command, args []string) error {
		return flags.with(c, func(ctx context.Context, d *door) error {
			copy := d.put
			if o.keepMode {
				copy = d.putTree
			}
			p := newProgress(c.ErrOrStderr())
			done, err := copy(ctx, args[0], args[1], o, p)
			p.end()
			return done.printed(c, asJSON, err)
		})
	}
	return c
}

// putting is how put makes files.
type putting struct {
	create      config.Create
	pad, resume bool
	keepMode    bool // files get the permission bits of their sources
	top         bool // directories above the file may be made with it
}

// put copies a local file.
func (d *door) put(ctx context.Context, local, name string, o putting, p *progress) (copied, error) {
	path, err := d.cfg.Resolve(name)
	if err != nil {
		return copied{}, err
	}
	f, err := os.Open(local)
	if err != nil {
		return copied{}, localError("put", local, err)
	}
	defer f.Close() // only read from
	return d.putOpen(ctx, f, local, path, o, p)
}

// putOpen copies an open local file.
func (d *door) putOpen(ctx context.Context, f *os.File, local string, path blocktree.Path, o putting, p *progress) (copied, error) {
	info, err := f.Stat()
	if err != nil {
		return copied{}, localError("put", local, err)
	}
	if !info.Mode().IsRegular() {
		return copied{}, cli.Invalid("name a regular file; --recursive copies a directory", "%s is none", local)
	}
	sector := int64(o.create.Sector())
	whole := max(sector, (info.Size()+sector-1)/sector*sector)
	o.create.Size = cli.Size(whole)
	asked := o.create.Code.Code
	if asked.Data == 0 {
		_ = o.create.Code.Set(defaultCode(len(d.cfg.Cluster.Members))) // constants
	}
	if err := o.create.Validate(len(d.cfg.Cluster.Members)); err != nil {
		return copied{}, err
	}
	var mode, is uint32 // that it is to have, and has
	if o.keepMode {
		mode = uint32(info.Mode().Perm())
		if is = mode | 0o600; o.top { // or it could not be written
			is &^= othersWrite // directories above it get that, too
		}
	}
	var made blocktree.FileID
	var begun *meta.Inode
	if o.resume {
		if begun, err = d.begun(ctx, path, info.Size(), &o.create, asked, o.pad); err != nil {
			return copied{}, err
		}
	}
	c := copied{Files: 1, Bytes: uint64(info.Size())}
	if begun == nil {
		if made, err = d.create(ctx, path, &o.create, is); err != nil {
			return copied{}, d.made(ctx, path, made, err)
		}
	} else {
		made, is = begun.ID, begun.Mode
		done, err := d.isThere(ctx, path, begun, &o, f, local, info, p)
		if err == nil && done && is != mode {
			err = d.setMode(ctx, path, made, mode)
		}
		if err != nil || done {
			return c, err
		}
	}
	kept, err := d.fill(ctx, path, made, f, local, info.Size(), begun != nil, p, func(to fs.File) error {
		if err := unchanged(f, info, local); err != nil || whole == info.Size() || o.pad {
			return err
		}
		return d.endAt(ctx, to, path, uint64(info.Size()))
	})
	if err == nil && o.keepMode && is != mode {
		err = d.setMode(ctx, path, made, mode)
	}
	c.Written = c.Bytes - uint64(kept)
	switch {
	case err == nil:
		return c, nil
	case o.resume:
		return copied{}, cli.WithHint(err, "what was copied is there: say it again, with --resume")
	}
	return copied{}, fs.Undone(ctx, d, path, made, err)
}

// isThere reports whether all of a file of a tree was copied before: then it is not opened to be written, which its mode may forbid, and which takes a lease.
func (d *door) isThere(ctx context.Context, path blocktree.Path, begun *meta.Inode, o *putting, from *os.File, local string, info os.FileInfo, p *progress) (bool, error) {
	if !o.mayBeThere(begun.Mode) || begun.Length() != uint64(info.Size()) {
		return false, nil
	}
	f, err := d.file(ctx, path, fs.OpenOptions{})
	if err != nil {
		return false, err
	}
	defer f.Close() // it was only read from
	if f.Info().ID != begun.ID {
		return false, nil
	}
	same, err := sameBytes(ctx, f, from, local, info.Size(), p)
	if err == nil && same {
		d.resumed(path, info.Size())
		err = unchanged(from, info, local)
	}
	return same, err
}

// mayBeThere reports whether all of a file of that mode, which was begun, may be there for certain: of durability flush, or integrity tree, only once its mode keeps it from being written, which it gets after it was flushed.
func (o *putting) mayBeThere(mode uint32) bool {
	return o.keepMode && (!o.create.Flushes() && !o.create.Tree() || mode&0o600 != 0o600)
}

// unsure adds to the error of a creation that it may have been done all the same, where nobody knows.
func unsure(err error) error {
	switch blocktree.KindOf(err) {
	case blocktree.Unavailable, blocktree.Timeout, blocktree.Canceled, blocktree.Closed, blocktree.Undeliverable:
		return cli.WithHint(err, "it may have been made all the same: look with btnode ls, and remove it with btnode file rm")
	}
	return err
}

// fill writes the bytes of from, which is called local, into a file that is new, or begun; what is behind them are zeros already. When they are flushed the open file is given to last. It returns how many bytes were there.
func (d *door) fill(ctx context.Context, path blocktree.Path, made blocktree.FileID, from *os.File, local string, bytes int64, begun bool, p *progress, last func(fs.File) error) (kept int64, err error) {
	var to fs.File
	if begun {
		to, err = whenFree(ctx, func() (fs.File, error) { return d.fillable(ctx, path, made) })
	} else {
		to, err = d.fillable(ctx, path, made)
	}
	if err != nil {
		return 0, err
	}
	if begun {
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
	return kept, err
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
	buf := p.buffer()
	for off := int64(0); off < bytes; {
		n, err := io.ReadFull(from, buf[:min(bytes-off, int64(len(buf)))])
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
	if p.of != nil {
		p.of.copied(done - p.last)
		p.last = done
		return
	}
	if p.due() {
		fmt.Fprintf(p.w, "\r\x1b[K%s of %s copied, %s", about(done), about(of), p.rate(done))
	}
}

// due says whether it is time to show something, and if it is that it was.
func (p *progress) due() bool {
	if p.w == nil || time.Since(p.shown) < progressEvery {
		return false
	}
	p.shown = time.Now()
	return true
}

// rate is how much was done in a second.
func (p *progress) rate(done int64) string {
	return about(int64(float64(done)/time.Since(p.began).Seconds())) + "/s"
}

// buffer is what is copied by.
func (p *progress) buffer() []byte { return make([]byte, cmp.Or(p.piece, copyBytes)) }

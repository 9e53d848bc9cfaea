package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

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
		Use:   "cat PATH --config FILE [--anonymous] [-v]",
		Short: "Print a file",
		Long: `cat prints a whole file to standard output. A configuration with a reader key that opens it (readerKey) opens it here; else a filesystem service
decrypts it, for those who may read it; with --anonymous for everybody, where the file and all directories above it let others read. What somebody has
open and written, but not flushed, may be missing.`,
		Example:               "  btnode cat /docs/a --config client.yaml | sha256sum\n  btnode cat /pub/a --anonymous --config client.yaml -v",
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH"),
	}
	flags.add(c, true)
	c.RunE = func(c *cobra.Command, args []string) error {
		return flags.with(c, func(ctx context.Context, d *door) error { return d.read(ctx, args[0], c.OutOrStdout()) })
	}
	return c
}

// read writes a file to w.
func (d *door) read(ctx context.Context, name string, w io.Writer) error {
	path, err := d.cfg.Resolve(name)
	if err != nil {
		return err
	}
	f, err := d.file(ctx, path, fs.OpenOptions{})
	if err != nil {
		return err
	}
	defer f.Close() // it was only read from
	buf := make([]byte, copyBytes)
	for off := uint64(0); ; {
		n, err := f.ReadAt(ctx, buf, off)
		if _, werr := w.Write(buf[:n]); werr != nil {
			return blocktree.E("write", blocktree.IO, werr)
		}
		off += uint64(n)
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
	c := &cobra.Command{
		Use:   "get PATH FILE --config FILE [--anonymous] [-v]",
		Short: "Copy a file to a local file",
		Long: `get copies the file at PATH to FILE, which must not be there yet; it has its name once all of it is on the disk, and belongs to its user alone. Which way is taken is as
for cat.`,
		Example:               "  btnode get /docs/a a --config client.yaml\n  btnode get /pub/a a --anonymous --config client.yaml",
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH", "FILE"),
	}
	flags.add(c, true)
	c.RunE = func(c *cobra.Command, args []string) error {
		return flags.with(c, func(ctx context.Context, d *door) error { return d.get(ctx, args[0], args[1]) })
	}
	return c
}

// get copies a file into a temporary one beside its name, and then gives it that.
func (d *door) get(ctx context.Context, name, local string) error {
	if _, err := os.Lstat(local); err == nil {
		return localError("get", local, os.ErrExist)
	}
	f, err := os.CreateTemp(filepath.Dir(local), "."+filepath.Base(local)+".*")
	if err != nil {
		return localError("get", local, err)
	}
	if err = d.read(ctx, name, f); err == nil {
		if err = f.Sync(); err != nil {
			err = localError("get", local, err)
		}
	}
	if e := f.Close(); err == nil && e != nil {
		err = localError("get", local, e)
	}
	if err == nil {
		if e := unix.Renameat2(unix.AT_FDCWD, f.Name(), unix.AT_FDCWD, local, unix.RENAME_NOREPLACE); e != nil {
			err = localError("get", local, e)
		}
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error is the one to tell
	}
	return err
}

// localError is an error about a local file.
func localError(op, name string, err error) error {
	kind, hint := blocktree.IO, ""
	switch {
	case errors.Is(err, os.ErrExist):
		kind, hint = blocktree.Exists, "name a file that is not there yet"
	case errors.Is(err, os.ErrNotExist):
		kind, hint = blocktree.NotFound, "name a file in a directory that is there"
	case errors.Is(err, os.ErrPermission):
		kind, hint = blocktree.Permission, "name a file that this user may use"
	case errors.Is(err, unix.ENOSPC):
		kind = blocktree.NoSpace
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
	var pad bool
	c := &cobra.Command{
		Use:   "put FILE PATH --config FILE [--code K+M] [--pad] [-v]",
		Short: "Copy a local file to a new file",
		Long: `put makes a file at PATH, which must not be there yet, and copies FILE into it; when it ends without an error all of it would survive the loss
of power everywhere, and when it fails what it made is removed. The file is encrypted: here, where the configuration has a reader key (readerKey), else by a
filesystem service. Directories above it are made as needed.

A file's length is a whole number of sectors of 4 KiB. Where FILE has another one, put refuses unless --pad lets it fill the last sector up with zeros.`,
		Example:               "  btnode put disk.img /vm/disk2 --config client.yaml\n  btnode put letter.txt /docs/letter --pad --config client.yaml -v",
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("FILE", "PATH"),
	}
	flags.add(c, false)
	addCode(c, &create.Code, "")
	c.Flags().BoolVar(&pad, "pad", false, "fill the last sector up with zeros")
	c.RunE = func(c *cobra.Command, args []string) error {
		return flags.with(c, func(ctx context.Context, d *door) error { return d.put(ctx, args[0], args[1], &create, pad) })
	}
	return c
}

// put copies a local file.
func (d *door) put(ctx context.Context, local, name string, create *config.Create, pad bool) error {
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
	if whole != info.Size() && !pad {
		return cli.Invalid("say --pad to fill the last sector up with zeros", "%s has %d bytes, which are not whole sectors of %d", local, info.Size(), sector)
	}
	create.Size = cli.Size(whole)
	if create.Code.Data == 0 {
		_ = create.Code.Set(defaultCode(len(d.cfg.Cluster.Members))) // constants
	}
	if err := create.Validate(len(d.cfg.Cluster.Members)); err != nil {
		return err
	}
	if err := d.create(ctx, path, create); err != nil {
		return err
	}
	if err := d.fill(ctx, path, f, whole); err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), fileTimeout)
		defer cancel()
		if e := d.remove(undo, path); e != nil {
			return cli.WithHint(fmt.Errorf("%w (%s was begun and could not be removed: %w)", err, path.Short(), e), "remove it: btnode file rm")
		}
		return err
	}
	return nil
}

// fill writes what is in from, and zeros up to size, into a file that is new.
func (d *door) fill(ctx context.Context, path blocktree.Path, from io.Reader, size int64) error {
	to, err := d.file(ctx, path, fs.OpenOptions{Write: true})
	if err != nil {
		return err
	}
	buf := make([]byte, copyBytes)
	for off := int64(0); off < size && err == nil; {
		n, rerr := io.ReadFull(from, buf[:min(size-off, copyBytes)])
		if n == 0 {
			break // what is left are zeros already
		}
		if err = to.WriteAt(ctx, buf[:n], uint64(off)); err == nil && rerr != nil && !errors.Is(rerr, io.EOF) && !errors.Is(rerr, io.ErrUnexpectedEOF) {
			err = blocktree.E("read", blocktree.IO, rerr)
		}
		off += int64(n)
	}
	if err == nil {
		err = to.Flush(ctx)
	}
	if e := to.Close(); err == nil {
		err = e
	}
	return err
}

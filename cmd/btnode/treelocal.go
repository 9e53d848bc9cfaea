package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"blocktree"
	"blocktree/fs"
)

// localNode is what put copies.
type localNode struct {
	in   *localDir // nil: path is as it was typed
	name string
	path string
	info os.FileInfo
}

// localTop is what was typed: a symbolic link itself, unless a slash follows.
func localTop(path string) (localNode, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return localNode{}, localError("put", path, err)
	}
	return localNode{path: path, info: info}, nil
}

func (n localNode) kind() (fs.Kind, error) {
	what := "something that is no file"
	switch m := n.info.Mode(); {
	case m.IsRegular():
		return fs.KindFile, nil
	case m.IsDir():
		return fs.KindDir, nil
	case m&os.ModeSymlink != 0:
		return fs.KindLink, nil
	case m&os.ModeSocket != 0:
		what = "a socket"
	case m&os.ModeNamedPipe != 0:
		what = "a named pipe"
	case m&os.ModeDevice != 0:
		what = "a device"
	}
	return 0, &blocktree.Error{Op: "put", Path: n.path, Err: fmt.Errorf("it is %s, and was not copied", what), Hint: "files, directories and symbolic links are copied"}
}

func (n localNode) mode() uint32 { return uint32(n.info.Mode().Perm()) }

func (n localNode) bytes() int64 { return n.info.Size() }

func (n localNode) target(context.Context) (target string, err error) {
	if n.in == nil {
		target, err = os.Readlink(n.path)
	} else {
		target, err = n.in.root.Readlink(n.name)
	}
	if err != nil {
		err = localError("put", n.path, err)
	}
	return target, err
}

func (n localNode) open() (folder, error) {
	var d *localDir
	var err error
	if n.in == nil {
		d, err = openDir(n.path)
	} else {
		d, err = n.in.dir(n.name)
	}
	switch {
	case err != nil:
		return nil, localError("put", n.path, err)
	case !sameFile(d.self, n.info):
		d.close()
		return nil, changedMeanwhile(n.path, "another")
	}
	return localFolder{d}, nil
}

// file opens a file.
func (n localNode) file() (f *os.File, err error) {
	if n.in == nil {
		f, err = os.OpenFile(n.path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	} else {
		f, err = n.in.open(n.name, os.O_RDONLY, 0)
	}
	switch {
	case err != nil:
		return nil, localError("put", n.path, err)
	case !sameFile(f, n.info): // also a link
		_ = f.Close() // nothing was read
		return nil, changedMeanwhile(n.path, "another")
	}
	return f, nil
}

// localFolder is a directory that put goes through.
type localFolder struct{ *localDir }

func (d localFolder) each(_ context.Context, do func(name string, n treeNode, err error) error) error {
	for {
		names, err := d.self.Readdirnames(blocktree.ListEntriesMax)
		for _, name := range names {
			n := localNode{in: d.localDir, name: name, path: filepath.Join(d.path, name)}
			var e error
			if n.info, e = d.root.Lstat(name); e != nil {
				e = localError("put", n.path, e)
			}
			if e = do(name, n, e); e != nil {
				return e
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return localError("put", d.path, err)
		}
	}
}

// localPlace is where get copies to. Names come from a cluster, which may say anything.
type localPlace struct {
	in     *localDir
	name   string
	path   string
	top    bool // it was typed
	resume bool
	umask  uint32
}

// localTarget is the place that was typed.
func localTarget(local string, resume bool) (localPlace, error) {
	in, err := openDir(filepath.Dir(local))
	if err != nil {
		return localPlace{}, localError("get", local, err)
	}
	return localPlace{in: in, name: filepath.Base(local), path: local, top: true, resume: resume, umask: umask()}, nil
}

// umask is that of the process.
func umask() uint32 {
	m := unix.Umask(0o077)
	_ = unix.Umask(m) // which is how one is asked for it; in the meantime nothing is made that others may use
	return uint32(m)
}

// lstat describes what has the name, nil: nothing has.
func (p localPlace) lstat() (os.FileInfo, error) {
	info, err := p.in.root.Lstat(p.name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, localError("get", p.path, err)
	}
	return info, nil
}

func (p localPlace) mkdir(_ context.Context, mode uint32) (filling, error) {
	mode = mode & 0o777 &^ p.umask
	err := p.in.root.Mkdir(p.name, os.FileMode(mode|0o700))
	switch exists := errors.Is(err, os.ErrExist); {
	case exists && p.resume:
	case exists && p.top:
		return nil, &blocktree.Error{Op: "get", Path: p.path, Kind: blocktree.Exists, Err: unix.EEXIST, Hint: hintTreeExists}
	case err != nil:
		return nil, localError("get", p.path, err)
	}
	d, err := p.in.dir(p.name)
	switch {
	case errors.Is(err, unix.ENOTDIR):
		return nil, localError("get", p.path, os.ErrExist)
	case err != nil:
		return nil, localError("get", p.path, err)
	}
	f := &localFilling{localDir: d, mode: os.FileMode(mode), like: p}
	if is, err := d.self.Stat(); err == nil && is.Mode().Perm() == f.mode && f.mode|0o700 != f.mode { // as it was left, and perhaps not everything came
		if err := d.self.Chmod(f.mode | 0o700); err != nil {
			d.close()
			return nil, localError("get", p.path, err)
		}
	}
	return f, nil
}

func (p localPlace) link(_ context.Context, target string) error {
	err := p.in.root.Symlink(target, p.name)
	if p.resume && errors.Is(err, os.ErrExist) {
		if is, e := p.in.root.Readlink(p.name); e == nil && is == target {
			return nil
		}
	}
	if err != nil {
		return localError("get", p.path, err)
	}
	return nil
}

// receive makes a file, of its user alone, whose bytes fill gets, and gives it its name and then its mode: a partial one is of its user alone whenever this is cut, so that the next gets on with it. With resume what could not be finished stays, and is gone on with.
func (p localPlace) receive(mode uint32, fill func(*os.File) error) error {
	failed := func(err error) error {
		if err != nil {
			err = localError("get", p.path, err)
		}
		return err
	}
	var f *os.File
	var at string
	var err error
	if p.resume {
		f, at, err = p.in.partial(p.name)
	} else {
		f, at, err = p.in.temporary(p.name)
		err = failed(err)
	}
	if err != nil {
		return err
	}
	err = fill(f)
	if err == nil {
		err = failed(f.Sync())
	}
	named := false
	if err == nil {
		if err = failed(p.in.name(at, p.name)); err == nil {
			named = true
			err = failed(f.Chmod(os.FileMode(mode)))
		}
	}
	if e := f.Close(); err == nil {
		err = failed(e)
	}
	if err != nil && !p.resume && !named {
		_ = p.in.root.Remove(at) // the first error is the one to tell
	}
	return err
}

// localFilling is a directory that get fills.
type localFilling struct {
	*localDir
	mode os.FileMode
	like localPlace
}

func (f *localFilling) at(name string) (place, error) {
	p := f.like
	p.in, p.name, p.path, p.top = f.localDir, name, filepath.Join(f.path, name), false
	if err := blocktree.CheckName(name); err != nil {
		return nil, &blocktree.Error{Op: "get", Path: f.path, Kind: blocktree.Invalid, Err: fmt.Errorf("%q is in the directory: %w", name, err), Hint: "no directory has such a name: a node or a service lies"}
	}
	if p.resume && isPartial(name) {
		return nil, &blocktree.Error{Op: "get", Path: p.path, Kind: blocktree.Exists, Err: errors.New("--resume keeps what it has copied of another file under that name"), Hint: "copy it by itself, without --resume"}
	}
	return p, nil
}

// filled gives the directory a mode that its owner could not have filled it with, and has the names in it outlast a loss of power.
func (f *localFilling) filled(context.Context) error {
	defer f.close()
	var err error
	if f.mode&0o700 != 0o700 {
		err = f.self.Chmod(f.mode)
	}
	if err = errors.Join(err, f.self.Sync()); err != nil {
		return localError("get", f.path, err)
	}
	return nil
}

// synced has the name outlast a loss of power.
func (p localPlace) synced() error {
	if err := p.in.self.Sync(); err != nil {
		return localError("get", p.path, err)
	}
	return nil
}

// same reports whether the file that has the name has the bytes of an open one, and no others; it gets its mode where a get was cut before it had it.
func (p localPlace) same(ctx context.Context, f fs.File, there os.FileInfo, mode uint32, show *progress) (bool, error) {
	is, err := p.in.open(p.name, os.O_RDONLY, 0)
	if err != nil {
		return false, localError("get", p.path, err)
	}
	defer is.Close() // only read from
	if !sameFile(is, there) {
		return false, nil
	}
	same, err := sameBytes(ctx, f, is, p.path, there.Size(), show)
	if err == nil && same && there.Mode().Perm() == 0o600 && mode != 0o600 {
		if err = is.Chmod(os.FileMode(mode)); err != nil {
			err = localError("get", p.path, err)
		}
	}
	return same, err
}

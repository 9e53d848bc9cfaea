package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"blocktree"
)

// localDir is an open local directory. What is done with a name in it is done with what has the name, never with what a symbolic link leads to, and so never outside of it.
type localDir struct {
	root *os.Root
	self *os.File
	path string // as it is told
}

// openDir opens a directory, behind symbolic links.
func openDir(path string) (*localDir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return newLocalDir(root, path)
}

func newLocalDir(root *os.Root, path string) (*localDir, error) {
	self, err := root.Open(".")
	if err != nil {
		_ = root.Close() // nothing was done with it
		return nil, err
	}
	return &localDir{root, self, path}, nil
}

func (l *localDir) close() {
	_ = l.self.Close() // only read from
	_ = l.root.Close() // likewise
}

// dir opens the directory of a name.
func (l *localDir) dir(name string) (*localDir, error) {
	was, err := l.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !was.IsDir() {
		return nil, unix.ENOTDIR
	}
	root, err := l.root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	d, err := newLocalDir(root, filepath.Join(l.path, name))
	if err == nil && !sameFile(d.self, was) {
		d.close()
		return nil, unix.ENOTDIR // a link is there by now
	}
	return d, err
}

// open opens the file of a name.
func (l *localDir) open(name string, flag int, perm uint32) (*os.File, error) {
	for {
		fd, err := unix.Openat(int(l.self.Fd()), name, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, perm)
		if err == nil {
			return os.NewFile(uintptr(fd), filepath.Join(l.path, name)), nil
		}
		if !errors.Is(err, unix.EINTR) {
			return nil, err
		}
	}
}

// name gives what has one name another one, which nothing has yet.
func (l *localDir) name(from, to string) error {
	return unix.Renameat2(int(l.self.Fd()), from, int(l.self.Fd()), to, unix.RENAME_NOREPLACE)
}

// beside is a name beside another one, begun with a dot, which has room for what is at its end.
func beside(name, end string) string {
	if 1+len(name)+len(end) > blocktree.NameBytesMax {
		sum := sha256.Sum256([]byte(name))
		name = hex.EncodeToString(sum[:])
	}
	return "." + name + end
}

// partialEnd is how the names of files end that a get with --resume keeps.
const partialEnd = ".partial"

func isPartial(name string) bool {
	return strings.HasPrefix(name, ".") && strings.HasSuffix(name, partialEnd)
}

// temporary makes a file beside a name.
func (l *localDir) temporary(name string) (*os.File, string, error) {
	at := beside(name, "."+rand.Text()[:10])
	f, err := l.open(at, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	return f, at, err
}

// partial opens what an earlier get has left of a file, or a new one, under a name of its own beside it; whoever has it open is alone with it.
func (l *localDir) partial(name string) (*os.File, string, error) {
	at := beside(name, partialEnd)
	told := filepath.Join(l.path, at)
	f, err := l.open(at, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, "", localError("get", told, err)
	}
	var s unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &s)
	switch {
	case err != nil:
		err = localError("get", told, err)
	case s.Mode&unix.S_IFMT != unix.S_IFREG || s.Nlink != 1 || int(s.Uid) != os.Geteuid() || s.Mode&0o077 != 0:
		err = &blocktree.Error{Op: "get", Path: told, Kind: blocktree.Permission, Err: errors.New("it is not a file of this user alone"), Hint: "remove it, and begin anew"}
	case unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil:
		err = busyPartial(told)
	default:
		if now, e := l.root.Lstat(at); e != nil || !sameFile(f, now) { // somebody finished it just now: it has its own name
			err = busyPartial(told)
		}
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, "", err
	}
	return f, at, nil
}

func busyPartial(name string) error {
	return &blocktree.Error{Op: "get", Path: name, Kind: blocktree.Busy, Err: errors.New("another process copies into it"), Hint: "wait until that ends"}
}

func sameFile(f *os.File, named os.FileInfo) bool {
	info, err := f.Stat()
	return err == nil && os.SameFile(info, named)
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
	var pe *fs.PathError
	var le *os.LinkError
	switch {
	case errors.As(err, &pe):
		err = pe.Err
	case errors.As(err, &le):
		err = le.Err
	}
	return &blocktree.Error{Op: op, Path: name, Kind: kind, Err: err, Hint: hint}
}

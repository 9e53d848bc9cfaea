package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"blocktree"
	"blocktree/fs"
	"blocktree/internal/cli"
)

// remoteTree is what trees are copied from, by path; a door is one.
type remoteTree interface {
	each(ctx context.Context, dir blocktree.Path, do func(fs.Entry) error) error
	target(ctx context.Context, path blocktree.Path) (string, error)
	// content opens a file to read it, and follows no link. It may be called by several goroutines at once.
	content(ctx context.Context, path blocktree.Path) (fs.File, error)
}

// remoteNode is what get copies.
type remoteNode struct {
	remoteTree
	path blocktree.Path
	info fs.Info
}

func (n remoteNode) kind() (fs.Kind, error) { return n.info.Kind(), nil }

func (n remoteNode) mode() uint32 { return n.info.Mode }

func (n remoteNode) bytes() int64 { return int64(min(n.info.Length, copyBytes)) } // more says nothing more

func (n remoteNode) target(ctx context.Context) (string, error) {
	return n.remoteTree.target(ctx, n.path)
}

func (n remoteNode) open() (folder, error) { return remoteFolder{n}, nil }

// modeOf is the mode of an open file, which must be the one that the directory had: what somebody put in its place, or made private, is not shown to those who could read the other.
func (n remoteNode) modeOf(f fs.File) (uint32, error) {
	is, unknown := f.Info(), blocktree.FileID{}
	switch {
	case is.ID == unknown || n.info.ID == unknown:
		return n.info.Mode, nil
	case is.ID != n.info.ID:
		return 0, &blocktree.Error{Op: "open", Path: n.path.Short(), Kind: blocktree.Invalid, Err: errors.New("it became another while the tree was copied"), Hint: "copy it while nobody gives it another name"}
	}
	return is.Mode, nil
}

// remoteFolder is a directory that get goes through.
type remoteFolder struct{ remoteNode }

func (f remoteFolder) each(ctx context.Context, do func(name string, n treeNode, err error) error) error {
	return f.remoteTree.each(ctx, f.path, func(e fs.Entry) error {
		n := remoteNode{f.remoteTree, f.path.Join(e.Name), e.Info}
		return do(e.Name, n, reachable(n.path)) // a path has an end, and so has what a node says is in a directory that is in it
	})
}

func (f remoteFolder) close() {}

// reachable refuses what no path can name: too deep, or too long.
func reachable(path blocktree.Path) error {
	if _, err := blocktree.ParsePath(string(path), path.Root()); err != nil {
		return err
	}
	return nil
}

// hintTreeExists is what to do where the copy of a tree was to be and a directory is.
const hintTreeExists = "to copy into the directory end its name with a slash; to go on with a copy that was cut say --resume"

// writableTree is what trees are copied to, by path; a door is one.
type writableTree interface {
	info(ctx context.Context, path blocktree.Path) (fs.Info, error)
	target(ctx context.Context, path blocktree.Path) (string, error)
	mkdir(ctx context.Context, path blocktree.Path, mode uint32, parents bool) error
	symlink(ctx context.Context, path blocktree.Path, target string) error
	setMode(ctx context.Context, path blocktree.Path, of blocktree.FileID, mode uint32) error
}

// remotePlace is where put copies to.
type remotePlace struct {
	writableTree
	path   blocktree.Path
	top    bool // it was typed
	resume bool
}

func (p remotePlace) mkdir(ctx context.Context, mode uint32) (filling, error) {
	err := p.writableTree.mkdir(ctx, p.path, mode|0o700, false)
	if p.top && blocktree.KindOf(err) == blocktree.NotFound {
		if err = p.writableTree.mkdir(ctx, p.path.Parent(), (mode|0o700)&^othersWrite, true); err == nil {
			err = p.writableTree.mkdir(ctx, p.path, mode|0o700, false)
		}
	}
	var of blocktree.FileID
	if err == nil && mode|0o700 != mode { // its mode comes later, and to nothing else that may have the name by then
		var info fs.Info
		if info, err = p.info(ctx, p.path); err != nil {
			return nil, err
		}
		if of = info.ID; !info.Dir || info.Mode != mode|0o700 {
			return nil, &blocktree.Error{Op: "put", Path: p.path.Short(), Kind: blocktree.Invalid, Err: errors.New("what was made there is another by now"), Hint: "somebody else uses that name: name another one"}
		}
	}
	if blocktree.KindOf(err) == blocktree.Exists {
		info, e := p.info(ctx, p.path)
		of = info.ID
		switch {
		case e != nil || !info.Dir:
		case p.resume && info.Mode == mode && mode|0o700 != mode: // as it was left, and perhaps not everything came
			err = p.setMode(ctx, p.path, info.ID, mode|0o700)
		case p.resume:
			err = nil
		case p.top:
			err = cli.WithHint(err, hintTreeExists)
		}
	}
	if err != nil {
		return nil, err
	}
	p.top = false
	return remoteFilling{p, mode, of}, nil
}

// othersWrite is what a directory above a copy, which is made for it, does not get of its mode.
const othersWrite = 0o022

func (p remotePlace) link(ctx context.Context, target string) error {
	err := p.symlink(ctx, p.path, target)
	if p.top && blocktree.KindOf(err) == blocktree.NotFound {
		if err = p.writableTree.mkdir(ctx, p.path.Parent(), 0o755, true); err == nil {
			err = p.symlink(ctx, p.path, target)
		}
	}
	if p.resume && blocktree.KindOf(err) == blocktree.Exists {
		if is, e := p.target(ctx, p.path); e == nil && is == target {
			return nil
		}
	}
	return err
}

// remoteFilling is a directory that put fills.
type remoteFilling struct {
	remotePlace
	mode uint32
	of   blocktree.FileID // the directory, where it gets that mode when it is filled
}

func (f remoteFilling) at(name string) (place, error) {
	p := f.remotePlace
	p.path = p.path.Join(name)
	err := blocktree.CheckName(name)
	if err == nil {
		err = reachable(p.path)
	}
	if err != nil {
		return nil, &blocktree.Error{Op: "put", Path: f.path.Short(), Kind: blocktree.KindOf(err), Err: fmt.Errorf("%q cannot be copied there: %w", name, err), Hint: "give it another name, or copy it somewhere else"}
	}
	return p, nil
}

// filled gives the directory a mode that its owner could not have filled it with.
func (f remoteFilling) filled(ctx context.Context) error {
	if f.mode&0o700 == 0o700 {
		return nil
	}
	return f.setMode(ctx, f.path, f.of, f.mode)
}

// mkdir makes a directory, with parents those above it, too.
func (d *door) mkdir(ctx context.Context, path blocktree.Path, mode uint32, parents bool) error {
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	return d.cluster.MakeDir(ctx, path, mode, parents)
}

func (d *door) symlink(ctx context.Context, path blocktree.Path, target string) error {
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	return unsure(d.cluster.Symlink(ctx, path, target))
}

// setMode sets the mode of what was made at a path, zero: of whatever is there.
func (d *door) setMode(ctx context.Context, path blocktree.Path, of blocktree.FileID, mode uint32) (err error) {
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	if of == (blocktree.FileID{}) { // a service of a version before does not say
		_, err = d.cluster.SetMode(ctx, path, mode)
	} else {
		_, err = d.cluster.SetModeOf(ctx, path, of, mode)
	}
	return err
}

// content implements remoteTree.
func (d *door) content(ctx context.Context, path blocktree.Path) (fs.File, error) {
	own := *d // which way was taken is noted in it
	return own.file(ctx, path, fs.OpenOptions{})
}

// putTree copies a local tree.
func (d *door) putTree(ctx context.Context, local, word string, o putting, p *progress) (copied, error) {
	path, err := d.cfg.Resolve(word)
	if err != nil {
		return copied{}, err
	}
	if path, err = below(path, word, local); err != nil {
		return copied{}, err
	}
	from, err := localTop(local)
	if err != nil {
		return copied{}, err
	}
	t := newTreeCopy(ctx, d, p, func(ctx context.Context, from treeNode, to place, p *progress) (copied, error) {
		n := from.(localNode)
		f, err := n.file()
		if err != nil {
			return copied{}, err
		}
		defer f.Close() // only read from
		at, o := to.(remotePlace), o
		own := *d // which way was taken is noted in it
		o.top = at.top
		c, err := own.putOpen(ctx, f, n.path, at.path, o, p)
		return c, naming(err, "put", n.path)
	})
	if err = t.all(from, remotePlace{writableTree: d, path: path, top: true, resume: o.resume}); err == nil {
		err = someFailed(t.failures)
	}
	return t.done, err
}

// getTree copies a tree to a local directory.
func (d *door) getTree(ctx context.Context, t *treeCopy, path blocktree.Path, local string, resume bool) error {
	at, info, err := d.found(ctx, path, false)
	if err == nil {
		err = d.led(path, at)
	}
	if err != nil {
		return err
	}
	to, err := localTarget(local, resume)
	if err != nil {
		return err
	}
	defer to.in.close()
	if err = t.all(remoteNode{d, at, info}, to); err == nil {
		err = to.synced()
	}
	return err
}

// getNode copies a file of a tree.
func (d *door) getNode(ctx context.Context, n remoteNode, to localPlace, p *progress) (copied, error) {
	there, err := to.lstat()
	switch {
	case err != nil:
		return copied{}, err
	case there != nil && !(to.resume && there.Mode().IsRegular()):
		return copied{}, localError("get", to.path, os.ErrExist)
	}
	f, err := n.content(ctx, n.path)
	if err != nil {
		return copied{}, err
	}
	defer f.Close() // it was only read from
	mode, err := n.modeOf(f)
	if err != nil {
		return copied{}, err
	}
	if mode = mode & 0o777 &^ to.umask; there == nil {
		return d.fetch(ctx, n.path, f, to, mode, p)
	}
	same, err := to.same(ctx, f, there, mode, p)
	if err == nil && !same {
		err = naming(anotherFile("it has other bytes"), "get", to.path)
	}
	if err == nil {
		d.resumed(n.path, there.Size())
	}
	return copied{Files: 1, Bytes: uint64(there.Size())}, err
}

// below is where put copies a tree to: what was typed, or with a slash at its end the name of the tree in that directory. Which of the two is meant does not depend on what is there, so that a copy that was cut is gone on with where it was begun.
func below(path blocktree.Path, word, local string) (blocktree.Path, error) {
	if !strings.HasSuffix(word, "/") {
		return path, nil
	}
	name := filepath.Base(local)
	if name == "." || name == ".." || name == "/" {
		return "", cli.Invalid("name the copy, too: "+word+"NAME", "%s says no name that the copy in %s would have", local, word)
	}
	return path.Join(name), reachable(path.Join(name))
}

// localBelow is likewise where get copies a tree to; . and .. are directories that it is copied into.
func localBelow(local string, path blocktree.Path) (string, error) {
	if last := filepath.Base(local); !strings.HasSuffix(local, "/") && last != "." && last != ".." {
		return local, nil
	}
	if path == blocktree.RootPath(path.Root()) {
		return "", cli.Invalid("name the copy, too: "+filepath.Join(local, "NAME"), "the root directory has no name that the copy in %s would have", local)
	}
	return filepath.Join(local, path.Base()), nil
}

// naming has an error of one of several files say of which.
func naming(err error, op, path string) error {
	var e *blocktree.Error
	for of := err; errors.As(of, &e); of = e.Err {
		if e.Path != "" {
			return err
		}
	}
	if err == nil {
		return nil
	}
	return &blocktree.Error{Op: op, Path: path, Kind: blocktree.KindOf(err), Err: err}
}

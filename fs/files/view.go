package files

import (
	"context"
	iofs "io/fs"
	"path"

	"blocktree"
)

// FS is a directory of a Tree, and all beneath, as io/fs knows it: to read. Symbolic links are followed, out of the directory too, as by os.DirFS. What it asks for ends with the context that it was made with.
type FS struct {
	tree *Tree
	dir  blocktree.Path
	ctx  context.Context
}

var _ interface {
	iofs.ReadDirFS
	iofs.ReadFileFS
	iofs.StatFS
	iofs.SubFS
	iofs.ReadLinkFS
} = (*FS)(nil)

// FS returns a view of a directory, which is not looked at. It fails with Invalid if the name is none.
func (t *Tree) FS(ctx context.Context, dir string) (*FS, error) {
	path, err := t.path("fs", dir)
	if err != nil {
		return nil, err
	}
	return &FS{t, path, ctx}, nil
}

// full is the path of a name of the view.
func (v *FS) full(op, name string) (string, error) {
	if !iofs.ValidPath(name) {
		return "", refused(op, name, blocktree.Invalid, "no name of io/fs", "names without a slash in front, and without empty ones, . and ..")
	}
	if name == "." {
		return string(v.dir), nil
	}
	return string(v.dir) + "/" + name, nil
}

// named has an error say the name that the view was asked for.
func named(name string, err error) error {
	if pe, ok := err.(*iofs.PathError); ok { // made by this package just now
		return &iofs.PathError{Op: pe.Op, Path: name, Err: pe.Err}
	}
	return err
}

// Open implements io/fs.FS.
func (v *FS) Open(name string) (iofs.File, error) {
	full, err := v.full("open", name)
	if err != nil {
		return nil, err
	}
	f, err := v.tree.Open(v.ctx, full)
	if err != nil {
		return nil, named(name, err)
	}
	return viewed{f, path.Base(name)}, nil
}

// viewed is a File that is called what the view calls it.
type viewed struct {
	*File
	base string
}

// Stat implements io/fs.File.
func (f viewed) Stat() (iofs.FileInfo, error) {
	info, err := f.File.Stat()
	if err != nil {
		return nil, err
	}
	return fileInfo{f.base, info.(fileInfo).info}, nil
}

// Stat implements io/fs.StatFS.
func (v *FS) Stat(name string) (iofs.FileInfo, error) { return v.describe(name, true) }

// Lstat implements io/fs.ReadLinkFS.
func (v *FS) Lstat(name string) (iofs.FileInfo, error) { return v.describe(name, false) }

// ReadLink implements io/fs.ReadLinkFS.
func (v *FS) ReadLink(name string) (string, error) {
	full, err := v.full("readlink", name)
	if err != nil {
		return "", err
	}
	target, err := v.tree.ReadLink(v.ctx, full)
	return target, named(name, err)
}

func (v *FS) describe(name string, last bool) (iofs.FileInfo, error) {
	full, err := v.full("stat", name)
	if err != nil {
		return nil, err
	}
	info, err := v.tree.describe(v.ctx, full, last)
	if err != nil {
		return nil, named(name, err)
	}
	return fileInfo{path.Base(name), info.(fileInfo).info}, nil
}

// ReadDir implements io/fs.ReadDirFS.
func (v *FS) ReadDir(name string) ([]iofs.DirEntry, error) {
	full, err := v.full("readdir", name)
	if err != nil {
		return nil, err
	}
	all, err := v.tree.ReadDir(v.ctx, full)
	return all, named(name, err)
}

// ReadFile implements io/fs.ReadFileFS.
func (v *FS) ReadFile(name string) ([]byte, error) {
	full, err := v.full("open", name)
	if err != nil {
		return nil, err
	}
	b, err := v.tree.ReadFile(v.ctx, full)
	return b, named(name, err)
}

// Sub implements io/fs.SubFS.
func (v *FS) Sub(dir string) (iofs.FS, error) {
	full, err := v.full("sub", dir)
	if err != nil {
		return nil, err
	}
	return &FS{v.tree, blocktree.Path(full), v.ctx}, nil
}

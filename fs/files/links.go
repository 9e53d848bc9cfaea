package files

import (
	"context"
	iofs "io/fs"

	"blocktree"
	"blocktree/fs"
)

// Symbolic links are followed here, as the caller, who is judged at each step (docs/design/0076).

// at does something at a path, or where symbolic links lead from there; last says whether what has the last name is followed, too.
func (t *Tree) at(ctx context.Context, op, name string, path blocktree.Path, last bool, do func(blocktree.Path) error) error {
	return failed(op, name, fs.Through(ctx, t.door, path, last, do))
}

// stated is at of what is described first, and is no symbolic link then.
func (t *Tree) stated(ctx context.Context, op, name string, path blocktree.Path, do func(blocktree.Path, *fs.Info) error) error {
	return t.at(ctx, op, name, path, true, func(path blocktree.Path) error {
		info, err := t.noLink(ctx, path)
		if err != nil {
			return err
		}
		return do(path, &info)
	})
}

// noLink describes what a path names, which must not be a symbolic link.
func (t *Tree) noLink(ctx context.Context, path blocktree.Path) (fs.Info, error) {
	info, err := t.door.Stat(ctx, path)
	if err == nil && info.Link {
		err = fs.ErrLink("open", path)
	}
	return info, err
}

// describe is Stat, or Lstat.
func (t *Tree) describe(ctx context.Context, name string, last bool) (iofs.FileInfo, error) {
	path, err := t.path("stat", name)
	if err != nil {
		return nil, err
	}
	var info fs.Info
	note := func(_ blocktree.Path, i *fs.Info) error { info = *i; return nil }
	if last {
		err = t.stated(ctx, "stat", name, path, note)
	} else {
		err = t.at(ctx, "lstat", name, path, false, func(path blocktree.Path) (err error) {
			info, err = t.door.Stat(ctx, path)
			return err
		})
	}
	if err != nil {
		return nil, err
	}
	return fileInfo{nameOf(path), info}, nil
}

// Lstat is Stat that describes a symbolic link itself.
func (t *Tree) Lstat(ctx context.Context, name string) (iofs.FileInfo, error) {
	return t.describe(ctx, name, false)
}

// Symlink makes a symbolic link at name: to a path from the root directory of the domain on, or else from the link's own directory on, whether there is anything or not. Kinds: Exists, NotFound (its directory), Permission, Invalid (an empty target), TooLarge, Unavailable (then it may be there all the
// same), Unsupported (a service of a version before).
func (t *Tree) Symlink(ctx context.Context, target, name string) error {
	path, err := t.path("symlink", name)
	if err != nil {
		return err
	}
	return t.at(ctx, "symlink", name, path, false, func(path blocktree.Path) error { return t.door.Symlink(ctx, path, target) })
}

// ReadLink returns what a symbolic link says, as it was said. Kinds: NotFound, Permission, Invalid (it is none), Unavailable, Unsupported (a service of a version before).
func (t *Tree) ReadLink(ctx context.Context, name string) (target string, err error) {
	path, err := t.path("readlink", name)
	if err != nil {
		return "", err
	}
	err = t.at(ctx, "readlink", name, path, false, func(path blocktree.Path) (err error) {
		target, err = t.door.ReadLink(ctx, path)
		return err
	})
	return target, err
}

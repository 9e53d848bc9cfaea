package cluster

import (
	"context"
	"slices"

	"blocktree"
	"blocktree/cluster/meta"
)

// named is the file that is meant: the one that is said, whatever name it has or had, or else what a path names.
func (c *Client) named(ctx context.Context, path blocktree.Path, file blocktree.FileID) (blocktree.FileID, error) {
	if file != (blocktree.FileID{}) {
		return file, nil
	}
	inode, err := c.Stat(ctx, path)
	if err != nil {
		return file, err
	}
	return inode.ID, nil
}

// SetTimes sets when a file, or if that is zero what a path names, was last modified; with now to the time at which it is done. Kinds: NotFound, Permission, Unavailable.
func (c *Client) SetTimes(ctx context.Context, path blocktree.Path, file blocktree.FileID, now bool, modified int64) error {
	id, err := c.named(ctx, path, file)
	if err != nil {
		return err
	}
	if now {
		modified = c.cfg.Clock.Now().UnixNano()
	}
	_, err = c.change(ctx, "set the time", path, meta.SetTimes{File: id, Now: now, Modified: modified})
	return err
}

// Symlink makes a symbolic link. Kinds: those of meta.Symlink, Permission, Unavailable.
func (c *Client) Symlink(ctx context.Context, path blocktree.Path, target string) error {
	r, err := c.proposeOnceStarted(ctx, meta.Symlink{Path: path, Target: target, Time: c.cfg.Clock.Now().UnixNano()})
	if err = refusalOf("Symlink", r, err); err != nil {
		return &blocktree.Error{Op: "cluster.Symlink", Path: path.Short(), Err: err}
	}
	return nil
}

// Xattrs returns the extended attributes of a file, or if that is zero of what a path names, or the one of a name. Kinds: NotFound, Permission, Unavailable.
func (c *Client) Xattrs(ctx context.Context, path blocktree.Path, file blocktree.FileID, name string) ([]meta.Xattr, error) {
	q := meta.Query{Kind: meta.QueryXattrs, File: file, After: name}
	if file == (blocktree.FileID{}) {
		q.Path = path
	}
	a, err := c.query(ctx, q)
	if err != nil {
		return nil, &blocktree.Error{Op: "cluster.Xattrs", Path: path.Short(), Err: err}
	}
	return a.Xattrs, nil
}

// SetXattr sets or removes an extended attribute of a file, or if that is zero of what a path names. Kinds: those of meta.SetXattr, Permission, Unavailable.
func (c *Client) SetXattr(ctx context.Context, path blocktree.Path, file blocktree.FileID, name string, value []byte, how meta.XattrHow) error {
	id, err := c.named(ctx, path, file)
	if err != nil {
		return err
	}
	_, err = c.change(ctx, "set an attribute", path, meta.SetXattr{File: id, Name: name, Value: value, How: how})
	return err
}

// CarryXattrs gives the copy that to holds the extended attributes of the file that is held, which is left for it: nobody changes them any more.
func (h *Handle) CarryXattrs(ctx context.Context, to *Handle) error {
	from, err := h.client.query(ctx, meta.Query{Kind: meta.QueryXattrs, File: h.inode.ID})
	if err != nil {
		return err
	}
	have, err := to.client.query(ctx, meta.Query{Kind: meta.QueryXattrs, File: to.inode.ID})
	if err != nil || slices.EqualFunc(from.Xattrs, have.Xattrs, func(a, b meta.Xattr) bool { return a.Name == b.Name && string(a.Value) == string(b.Value) }) {
		return err
	}
	r, err := to.client.propose(ctx, meta.PutXattrs{File: to.inode.ID, Xattrs: from.Xattrs})
	return refusalOf("PutXattrs", r, err)
}

// notAFile refuses to open something else.
func notAFile(path blocktree.Path, inode *meta.Inode) error {
	hint := "it is a directory"
	if inode.Kind == meta.KindLink {
		hint = "it is a symbolic link; open what that names"
	}
	return &blocktree.Error{Op: "open", Path: path.Short(), Kind: blocktree.Invalid, Hint: hint}
}

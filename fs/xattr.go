package fs

import (
	"context"

	"blocktree"
)

// SetHow says what SetXattr does where there is such an attribute, and where there is none.
type SetHow uint8

// The ways to set an attribute.
const (
	SetAny     SetHow = iota // create or replace it
	SetCreate                // Exists where there is one
	SetReplace               // NotFound where there is none

	setEnd // keep last
)

// GetXattr returns an extended attribute of a file or directory; its name begins with "user.". Kinds: NotFound (the path, or the attribute), Permission, Invalid (another name), Unavailable, Unsupported (a service of a version before).
func (c *Client) GetXattr(ctx context.Context, path blocktree.Path, name string) ([]byte, error) {
	return ofFile{c, path, blocktree.FileID{}}.GetXattr(ctx, name)
}

// SetXattr sets one. Who may write may. Kinds: NotFound, Exists, Permission, Invalid (a name that does not begin with "user.", or of a symbolic link), NoSpace (XattrsMax, XattrsBytesMax), Unavailable (then it may be set all the same),
// Unsupported (a service of a version before).
func (c *Client) SetXattr(ctx context.Context, path blocktree.Path, name string, value []byte, how SetHow) error {
	return ofFile{c, path, blocktree.FileID{}}.SetXattr(ctx, name, value, how)
}

// ListXattr returns the names of all attributes, ascending. Kinds as GetXattr.
func (c *Client) ListXattr(ctx context.Context, path blocktree.Path) ([]string, error) {
	return ofFile{c, path, blocktree.FileID{}}.ListXattr(ctx)
}

// RemoveXattr removes one. Kinds as SetXattr; NotFound where there is none.
func (c *Client) RemoveXattr(ctx context.Context, path blocktree.Path, name string) error {
	return ofFile{c, path, blocktree.FileID{}}.RemoveXattr(ctx, name)
}

// GetXattr implements OfFile.
func (f ofFile) GetXattr(ctx context.Context, name string) ([]byte, error) {
	b, err := f.c.attr(ctx, codeGetXattr, &attrRequest{path: f.path, file: f.id, name: name})
	if err != nil {
		return nil, failed("get an attribute of", f.path, err)
	}
	v, err := decodeXattr(b)
	return v, failed("get an attribute of", f.path, err)
}

// SetXattr implements OfFile.
func (f ofFile) SetXattr(ctx context.Context, name string, value []byte, how SetHow) error {
	if len(value) > blocktree.XattrsBytesMax {
		return failed("set an attribute of", f.path, blocktree.E("fs", blocktree.NoSpace, nil))
	}
	_, err := f.c.attrOnce(ctx, codeSetXattr, &attrRequest{path: f.path, file: f.id, name: name, value: string(value), how: how})
	return failed("set an attribute of", f.path, err)
}

// ListXattr implements OfFile.
func (f ofFile) ListXattr(ctx context.Context) ([]string, error) {
	b, err := f.c.attr(ctx, codeListXattr, &attrRequest{path: f.path, file: f.id})
	if err != nil {
		return nil, failed("list the attributes of", f.path, err)
	}
	names, err := decodeXattrNames(b)
	return names, failed("list the attributes of", f.path, err)
}

// RemoveXattr implements OfFile.
func (f ofFile) RemoveXattr(ctx context.Context, name string) error {
	_, err := f.c.attrOnce(ctx, codeRemoveXattr, &attrRequest{path: f.path, file: f.id, name: name})
	return failed("remove an attribute of", f.path, err)
}

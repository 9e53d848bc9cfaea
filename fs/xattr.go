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
	b, err := c.attr(ctx, codeGetXattr, &attrRequest{path: path, name: name})
	if err != nil {
		return nil, failed("get an attribute of", path, err)
	}
	v, err := decodeXattr(b)
	return v, failed("get an attribute of", path, err)
}

// SetXattr sets one. Who may write may. Kinds: NotFound, Exists, Permission, Invalid (a name that does not begin with "user.", or of a symbolic link), NoSpace (XattrsMax, XattrsBytesMax), Unavailable (then it may be set all the same),
// Unsupported (a service of a version before).
func (c *Client) SetXattr(ctx context.Context, path blocktree.Path, name string, value []byte, how SetHow) error {
	if len(value) > blocktree.XattrsBytesMax {
		return failed("set an attribute of", path, blocktree.E("fs", blocktree.NoSpace, nil))
	}
	_, err := c.attrOnce(ctx, codeSetXattr, &attrRequest{path: path, name: name, value: string(value), how: how})
	return failed("set an attribute of", path, err)
}

// ListXattr returns the names of all attributes, ascending. Kinds as GetXattr.
func (c *Client) ListXattr(ctx context.Context, path blocktree.Path) ([]string, error) {
	b, err := c.attr(ctx, codeListXattr, &attrRequest{path: path})
	if err != nil {
		return nil, failed("list the attributes of", path, err)
	}
	names, err := decodeXattrNames(b)
	return names, failed("list the attributes of", path, err)
}

// RemoveXattr removes one. Kinds as SetXattr; NotFound where there is none.
func (c *Client) RemoveXattr(ctx context.Context, path blocktree.Path, name string) error {
	_, err := c.attrOnce(ctx, codeRemoveXattr, &attrRequest{path: path, name: name})
	return failed("remove an attribute of", path, err)
}

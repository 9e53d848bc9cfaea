package fs

import (
	"context"

	"blocktree"
)

// Symlink makes a symbolic link at path: a name for another, which is looked at by those who follow it and by nobody else. Kinds: Exists, NotFound (its directory), Permission, Invalid (an empty target), TooLarge (LinkBytesMax), Unavailable (then it may be
// there all the same), Unsupported (a service of a version before).
func (c *Client) Symlink(ctx context.Context, path blocktree.Path, target string) error {
	_, err := c.attrOnce(ctx, codeSymlink, &attrRequest{path: path, value: target})
	return failed("make a symbolic link at", path, err)
}

// ReadLink returns the target of a symbolic link, as it was said. Kinds: NotFound, Permission, Invalid (it is no symbolic link), Unavailable, Unsupported (a service of a version before).
func (c *Client) ReadLink(ctx context.Context, path blocktree.Path) (string, error) {
	b, err := c.attr(ctx, codeReadLink, &attrRequest{path: path})
	if err != nil {
		return "", failed("read the link", path, err)
	}
	target, err := decodeTarget(b)
	return target, failed("read the link", path, err)
}

package fs

import (
	"context"

	"blocktree"
	"blocktree/cluster"
)

// Space is how many bytes there is room for: that could still be written, and with those what is taken already, by whomever.
type Space = cluster.Space

// Space is about how much more files of a code (zero: the service's default) could hold in the cluster that keeps what is in a directory, and how much they could in all. Nobody sets anything of that aside. Kinds: NotFound, Permission, Unavailable,
// Unsupported (a service of a version before).
func (c *Client) Space(ctx context.Context, dir blocktree.Path, code blocktree.Code) (Space, error) {
	b, err := c.ask(ctx, dir, codeSpace, &pathRequest{path: dir, code: code})
	if err != nil {
		return Space{}, failed("ask for the space of", dir, err)
	}
	x, err := cluster.DecodeSpace(b)
	return x, failed("ask for the space of", dir, err)
}

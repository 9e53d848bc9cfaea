package fs

import (
	"context"
	"errors"
	"math"

	"blocktree"
	"blocktree/internal/wire"
)

const formatSpace = 1

// Space is how many bytes there is room for.
type Space struct {
	FreeBytes  uint64 // that could still be written
	TotalBytes uint64 // those, and what is taken already, by whomever
}

func (x Space) encode() []byte {
	var e wire.Encoder
	e.U8(formatSpace)
	e.U64(x.FreeBytes)
	e.U64(x.TotalBytes)
	return e.Buf
}

func decodeSpace(b []byte) (x Space, err error) {
	d := wire.NewDecoder(b)
	d.Format(formatSpace)
	x.FreeBytes, x.TotalBytes = d.U64(), d.U64()
	if d.Err() == nil && (x.FreeBytes > x.TotalBytes || x.TotalBytes > math.MaxInt64) {
		d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New("more is free than there is")))
	}
	return x, d.Finish()
}

// Space is about how much more files of a code (zero: the service's default) could hold in the cluster that keeps what is in a directory, and how much they could in all. Nobody sets anything of that aside. Kinds: NotFound, Permission, Unavailable,
// Unsupported (a service of a version before).
func (c *Client) Space(ctx context.Context, dir blocktree.Path, code blocktree.Code) (Space, error) {
	b, err := c.ask(ctx, dir, codeSpace, &pathRequest{path: dir, code: code})
	if err != nil {
		return Space{}, failed("ask for the space of", dir, err)
	}
	x, err := decodeSpace(b)
	return x, failed("ask for the space of", dir, err)
}

package fs

import (
	"context"
	"errors"

	"blocktree"
	"blocktree/internal/dispatch"
)

// What moves the end of a file is asked for once: nobody knows what became of a request without an answer, and others may move it, too.

var _ interface {
	Truncater
	Allocater
	Appender
	Stater
} = (*remote)(nil)

// Truncate implements Truncater.
func (f *remote) Truncate(ctx context.Context, bytes uint64) error {
	return failed("truncate", f.path, f.once(ctx, dispatch.Message{Code: codeCut, Header: fileRequest{handle: f.handle, off: bytes}.encode()}, nil))
}

// Allocate implements Allocater.
func (f *remote) Allocate(ctx context.Context, off, n uint64) error {
	end, err := endOf(off, n)
	if err == nil { // twice is once
		err = f.again(ctx, dispatch.Message{Code: codeAllocate, Header: fileRequest{handle: f.handle, off: end}.encode()}, nil)
	}
	return failed("allocate", f.path, err)
}

// endOf is off+n, TooLarge where no file is so large.
func endOf(off, n uint64) (uint64, error) {
	if off > blocktree.FileBytesMax || n > blocktree.FileBytesMax-off {
		return 0, &blocktree.Error{Op: "fs", Kind: blocktree.TooLarge, Err: errors.New("it would end behind the largest file"), Hint: "no file is so large"}
	}
	return off + n, nil
}

// checkAppend refuses what does not go into one request: in two others could get in between.
func checkAppend(p []byte) error {
	if len(p) > blocktree.FSTransferBytesMax {
		return &blocktree.Error{Op: "fs", Kind: blocktree.TooLarge, Err: errors.New("more than is appended at once"), Hint: "append it in parts, between which others may append theirs"}
	}
	return nil
}

// Append implements Appender.
func (f *remote) Append(ctx context.Context, p []byte) (off uint64, err error) {
	if err := checkAppend(p); err != nil {
		return 0, failed("append to", f.path, err)
	}
	var refused error
	err = f.once(ctx, dispatch.Message{Code: codeAppend, Header: fileRequest{handle: f.handle}.encode(), Body: p}, func(body []byte) { off, refused = decodeOffset(body) })
	if err == nil {
		err = refused
	}
	return off, failed("append to", f.path, err)
}

// Stat implements Stater.
func (f *remote) Stat(ctx context.Context) (info Info, err error) {
	var refused error
	err = f.again(ctx, dispatch.Message{Code: codeFileStat, Header: fileRequest{handle: f.handle}.encode()}, func(body []byte) { info, refused = decodeInfo(body) })
	if err == nil {
		err = refused
	}
	return info, failed("stat", f.path, err)
}

// Truncate has the file at a path end after so many bytes, as Truncater has. It needs the rights write and lease. Kinds: NotFound, Busy (another service, or a block device, writes it), Permission (also where it is not encrypted, which plain says is meant), Invalid (a directory), NoSpace, TooLarge,
// Unavailable (then it may have happened), Unsupported (a service of a version before).
func (c *Client) Truncate(ctx context.Context, path blocktree.Path, bytes uint64) error {
	return c.truncate(ctx, path, bytes, 0)
}

// TruncatePlain is Truncate of a file that is known not to be encrypted.
func (c *Client) TruncatePlain(ctx context.Context, path blocktree.Path, bytes uint64) error {
	return c.truncate(ctx, path, bytes, flagPlain)
}

func (c *Client) truncate(ctx context.Context, path blocktree.Path, bytes uint64, flags uint8) error {
	_, err := c.askOnce(ctx, codeTruncate, &pathRequest{path: path, sizeBytes: bytes, flags: flags})
	return cutFailed("truncate", path, err)
}

package fs

import (
	"context"
	"io"

	"blocktree"
	"blocktree/internal/bttp"
)

// bulkBytes is the length of a read from which on its answer goes by a lane for bulk.
const bulkBytes = 16 << 10

// remote is a File of a service.
type remote struct {
	conn   *bttp.Conn
	path   blocktree.Path
	handle uint64
	info   Info
}

var (
	_ File    = (*remote)(nil)
	_ Puncher = (*remote)(nil)
)

// Info implements File.
func (f *remote) Info() Info { return f.info }

// ServiceOf is the runtime of the filesystem service that a file was opened by; "" for one that was opened here.
func ServiceOf(f File) blocktree.Path {
	if r, ok := f.(*remote); ok {
		return r.conn.Peer().Path
	}
	return ""
}

// ReadAt implements File.
func (f *remote) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	done := 0
	for {
		part := p[done:min(len(p), done+blocktree.FSTransferBytesMax)]
		n, err := f.readPart(ctx, part, off+uint64(done))
		done += n
		switch {
		case err != nil:
			return done, failed("read", f.path, err)
		case n < len(part):
			return done, io.EOF
		case done == len(p):
			return done, nil
		}
	}
}

// readPart is one request.
func (f *remote) readPart(ctx context.Context, p []byte, off uint64) (n int, err error) {
	header := fileRequest{handle: f.handle, off: off, count: uint32(len(p))}.encode()
	err = f.again(ctx, func() error {
		b, err := wait(ctx, f.conn, nil, func(done func(bttp.Reply, error)) error {
			if len(p) >= bulkBytes {
				return f.conn.CallBulk(codeRead, header, nil, done)
			}
			return f.conn.Call(codeRead, header, nil, done)
		})
		n = copy(p, b)
		return err
	})
	return n, err
}

// WriteAt implements File.
func (f *remote) WriteAt(ctx context.Context, p []byte, off uint64) error {
	for {
		part := p[:min(len(p), blocktree.FSTransferBytesMax)]
		header := fileRequest{handle: f.handle, off: off}.encode()
		err := f.again(ctx, func() error { // the same bytes in the same place
			_, err := call(ctx, f.conn, codeWrite, header, part)
			return err
		})
		if err != nil {
			return failed("write", f.path, err)
		}
		p, off = p[len(part):], off+uint64(len(part))
		if len(p) == 0 {
			return nil
		}
	}
}

// Punch implements Puncher.
func (f *remote) Punch(ctx context.Context, off, n uint64) error {
	n = min(n, blocktree.FileBytesMax) // no file reaches further
	for first := off; ; {
		part := min(n, blocktree.FSPunchBytesMax)
		header := fileRequest{handle: f.handle, off: off, count: uint32(part)}.encode()
		err := f.again(ctx, func() error { // zeros once more in the same place
			_, err := call(ctx, f.conn, codePunch, header)
			return err
		})
		if off != first && blocktree.KindOf(err) == blocktree.OutOfRange { // the parts before have reached the end
			return nil
		}
		if err != nil {
			return failed("punch a hole in", f.path, err)
		}
		if n -= part; n == 0 {
			return nil
		}
		off += part
	}
}

// again asks again while the service is busy. With the connection the handle ends.
func (f *remote) again(ctx context.Context, do func() error) error {
	return retry(ctx, func() error {
		err := do()
		if cause := f.conn.Err(); err != nil && cause != nil {
			return &blocktree.Error{Op: "fs", Kind: blocktree.Undeliverable, Err: cause, Hint: "the connection to the service has ended, and its open files with it; open the file again"}
		}
		return err
	})
}

// Flush implements File.
func (f *remote) Flush(ctx context.Context) error {
	_, err := call(ctx, f.conn, codeFlush, fileRequest{handle: f.handle}.encode())
	return failed("flush", f.path, err)
}

// Close implements File.
func (f *remote) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := f.again(ctx, func() error {
		_, err := call(ctx, f.conn, codeClose, fileRequest{handle: f.handle}.encode())
		return err
	})
	return failed("close", f.path, err)
}

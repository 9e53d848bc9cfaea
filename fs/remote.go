package fs

import (
	"context"
	"io"

	"blocktree"
	"blocktree/internal/dispatch"
)

// bulkBytes is the length of a read from which on its answer goes by a lane for bulk.
const bulkBytes = 16 << 10

// remote is a File of a service.
type remote struct {
	client *Client
	actor  *dispatch.Actor
	path   blocktree.Path
	handle uint64
	info   Info
	under  epochs // as was told
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
		return r.actor.Runtime()
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
	err = f.again(ctx, dispatch.Message{Code: codeRead, Header: header, Bulk: len(p) >= bulkBytes}, func(body []byte) { n = copy(p, body) })
	return n, err
}

// WriteAt implements File.
func (f *remote) WriteAt(ctx context.Context, p []byte, off uint64) error {
	return f.write(ctx, p, off, false)
}

// WriteAgain implements Againer.
func (f *remote) WriteAgain(ctx context.Context, p []byte, off uint64) error {
	return f.write(ctx, p, off, true)
}

func (f *remote) write(ctx context.Context, p []byte, off uint64, again bool) error {
	for {
		part := p[:min(len(p), blocktree.FSTransferBytesMax)]
		header := fileRequest{handle: f.handle, off: off, again: again}.encode()
		err := f.again(ctx, dispatch.Message{Code: codeWrite, Header: header, Body: part}, nil) // the same bytes in the same place
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
	return f.punch(ctx, off, n, false)
}

// PunchAgain implements Againer.
func (f *remote) PunchAgain(ctx context.Context, off, n uint64) error {
	return f.punch(ctx, off, n, true)
}

func (f *remote) punch(ctx context.Context, off, n uint64, again bool) error {
	n = min(n, blocktree.FileBytesMax) // no file reaches further
	for first := off; ; {
		part := min(n, blocktree.FSPunchBytesMax)
		header := fileRequest{handle: f.handle, off: off, count: uint32(part), again: again}.encode()
		err := f.again(ctx, dispatch.Message{Code: codePunch, Header: header}, nil) // zeros once more in the same place
		if off != first && blocktree.KindOf(err) == blocktree.OutOfRange {          // the parts before have reached the end
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

// again sends a message to the open file, again while the service is busy. With the connection the file ends: that is Undeliverable, as it is when the service has closed it.
func (f *remote) again(ctx context.Context, m dispatch.Message, take func([]byte)) error {
	return retry(ctx, func() error { return f.once(ctx, m, take) })
}

// once sends a message to the open file. take gets the body of the answer, which is not its to keep.
func (f *remote) once(ctx context.Context, m dispatch.Message, take func([]byte)) error {
	answer, err := f.client.dispatcher.Dispatch(ctx, dispatch.Address{Kind: dispatch.ToActor, Actor: f.actor}, m)
	if err != nil {
		return err
	}
	defer answer.Release()
	if take != nil {
		take(answer.Body)
	}
	return nil
}

// Flush implements File.
func (f *remote) Flush(ctx context.Context) error {
	return failed("flush", f.path, f.once(ctx, dispatch.Message{Code: codeFlush, Header: fileRequest{handle: f.handle}.encode()}, nil))
}

// Close implements File.
func (f *remote) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	defer f.actor.Release()
	f.client.open.drop(f)
	return failed("close", f.path, f.again(ctx, dispatch.Message{Code: codeClose, Header: fileRequest{handle: f.handle}.encode()}, nil))
}

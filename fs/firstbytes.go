package fs

import (
	"context"

	"blocktree/internal/dispatch"
)

// What was written first to a file that is to be finished comes with that (docs/design/0080).

// writeFirst writes what a message carries, which is a finish then: nothing of somebody else is written over, who has come to write the file since it was opened. After Unsupported nothing was done.
func (a *openFile) writeFirst(m *message) error {
	if err := a.mayFinish(); err != nil {
		return err
	}
	if _, err := a.do(&message{code: codeWrite, off: m.off, data: m.data, again: true}); err != nil {
		return err
	}
	m.code = codeFinish
	return nil
}

// WriteFinisher is an optional ability of a Finisher.
type WriteFinisher interface {
	// WriteFinish is WriteAgain, of FSTransferBytesMax at most, and Finish, by one request. After Unsupported (a service of a version before, or a file without a name) nothing was done; after another error the file may be open yet, and nobody knows what was written, or flushed.
	WriteFinish(ctx context.Context, p []byte, off uint64) error
}

var _ WriteFinisher = (*remote)(nil)

// WriteFinish implements WriteFinisher.
func (f *remote) WriteFinish(ctx context.Context, p []byte, off uint64) error {
	err := f.once(ctx, dispatch.Message{Code: codeWriteFinish, Header: fileRequest{handle: f.handle, off: off}.encode(), Body: p}, nil)
	if err == nil {
		f.client.open.drop(f)
		f.actor.Release()
	}
	return failed("close", f.path, err)
}

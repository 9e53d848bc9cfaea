package fs

import (
	"errors"
	"sync"

	"blocktree"
)

// message is something asked of an open file.
type message struct {
	code  uint16
	off   uint64
	count int    // read, punch: bytes
	data  []byte // write
	again bool   // write, punch: only as long as nobody else has come to write the file
	lock  lockRequest
	// done is called once with what was read, or with why not. It must not block. It owns bytes.
	done func(bytes []byte, err error)
}

// mailbox holds the messages of one actor. Every message that put has taken is given out by take, or fails when the mailbox is closed.
type mailbox struct {
	wake chan struct{} // there may be something to take

	mu     sync.Mutex
	queue  []*message
	ending bool  // one that closes the file waits
	closed error // why no message is taken any more
}

func newMailbox() mailbox { return mailbox{wake: make(chan struct{}, 1)} }

// put adds a message. It does not block: it fails with Unavailable when too many wait, and with why the mailbox was closed. For one that closes the file, the first, there is always room:
// whoever has too much waiting must be able to let go.
func (b *mailbox) put(m *message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed != nil {
		return b.closed
	}
	ends := m.code == codeClose && !b.ending
	if len(b.queue) >= blocktree.FSMailboxMax && !ends {
		return blocktree.E("fs", blocktree.Unavailable, errors.New("too many requests wait for this open file"))
	}
	b.ending = b.ending || ends
	b.queue = append(b.queue, m)
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return nil
}

// take returns the oldest message, nil if there is none.
func (b *mailbox) take() *message {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 {
		return nil
	}
	m := b.queue[0]
	b.queue[0] = nil
	if b.queue = b.queue[1:]; len(b.queue) == 0 {
		b.queue = nil // an idle one holds no memory
	}
	return m
}

// close fails what waits, and every later put, with err.
func (b *mailbox) close(err error) {
	b.mu.Lock()
	b.closed = err
	queue := b.queue
	b.queue = nil
	b.mu.Unlock()
	for _, m := range queue {
		m.done(nil, err)
	}
}

// undeliverable is the answer to a message for a file that is not open, or not any more.
func undeliverable(why string) error {
	return &blocktree.Error{Op: "fs", Kind: blocktree.Undeliverable, Err: errors.New(why), Hint: "open the file again"}
}

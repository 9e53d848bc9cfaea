package bttp

import (
	"errors"
	"fmt"
	"io"
	"time"

	"blocktree"
)

// readBufferBytes is the reader's memory for fixed parts, headers and short bodies: several full TLS records.
const readBufferBytes = 64 << 10

// readRoomBytes is the least room for a read, a full TLS record, so that none stays half read inside TLS.
const readRoomBytes = 16 << 10

// uncorkAfter is how long the reader handles frames before it lets out what they caused, even if more frames wait:
// about as long as a few writes take.
const uncorkAfter = 100 * time.Microsecond

// reader cuts a carrier's bytes into frames.
type reader struct {
	from       io.Reader
	before     func() error // called before every read
	after      func()       // called after every read that brought something
	pools      *bufferPools
	buf        []byte
	first, end int
}

// readFrame returns the next frame and its body and header, in that order in one buffer, which the caller releases.
// The buffer is nil when both are empty. It fails with the carrier's errors, io.EOF among them, or as decodeFrame.
func (r *reader) readFrame() (frame, *buffer, error) {
	f, err := r.peekFrame()
	if err != nil {
		return frame{}, nil, err
	}
	r.first += fixedBytes
	if f.headerBytes+f.bodyBytes == 0 {
		return f, nil, nil
	}
	if err := r.fill(f.headerBytes); err != nil {
		return frame{}, nil, err
	}
	b := r.pools.get(f.headerBytes + f.bodyBytes)
	copy(b.data[f.bodyBytes:], r.buf[r.first:r.first+f.headerBytes])
	r.first += f.headerBytes
	if err := r.read(b.data[:f.bodyBytes]); err != nil {
		b.release()
		return frame{}, nil, err
	}
	return f, b, nil
}

// peekFrame returns the fixed part of the next frame and leaves it to be read.
func (r *reader) peekFrame() (frame, error) {
	if err := r.fill(fixedBytes); err != nil {
		return frame{}, err
	}
	return decodeFrame(r.buf[r.first:r.end])
}

// fill makes at least n bytes, at most readRoomBytes, lie at r.buf[r.first:r.end].
func (r *reader) fill(n int) error {
	for r.end-r.first < n {
		if r.first == r.end {
			r.first, r.end = 0, 0
		}
		if len(r.buf)-r.end < readRoomBytes {
			r.end = copy(r.buf, r.buf[r.first:r.end])
			r.first = 0
		}
		got, err := r.readFrom(r.buf[r.end:])
		r.end += got
		if err != nil {
			return err
		}
	}
	return nil
}

// read fills p: from the buffer, a long rest straight from the carrier, a short one through the buffer, so that what
// follows comes with it.
func (r *reader) read(p []byte) error {
	n := copy(p, r.buf[r.first:r.end])
	r.first += n
	p = p[n:]
	for len(p) >= readRoomBytes {
		got, err := r.readFrom(p)
		if err != nil {
			return err
		}
		p = p[got:]
	}
	if len(p) == 0 {
		return nil
	}
	if err := r.fill(len(p)); err != nil {
		return err
	}
	r.first += copy(p, r.buf[r.first:r.end])
	return nil
}

// readFrom reads something from the carrier.
func (r *reader) readFrom(p []byte) (int, error) {
	for {
		if err := r.before(); err != nil {
			return 0, err
		}
		n, err := r.from.Read(p)
		if n > 0 {
			r.after()
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// buffered is how many bytes wait in the buffer.
func (r *reader) buffered() int { return r.end - r.first }

// readLoop is the lane's reader goroutine: it reads frames and handles them in place until the connection ends. While
// it works on what came in one read, the endpoint is corked, so that what it causes goes out in one write per lane.
func (l *lane) readLoop(r *reader) {
	var since time.Time
	uncork := func() {
		if l.corked {
			l.corked = false
			l.conn.endpoint.cork.pull()
			l.callAfter()
		}
	}
	idle := func() {
		uncork()
		l.busy.Store(false)
	}
	r.before = func() error {
		if !l.carrier.inputReady() {
			idle()
		}
		return nil
	}
	// A record that brings nothing for us, such as a key update, was ready too. Whoever sends it in the right place must
	// not keep the endpoint corked, or the lane busy, while he sends nothing else.
	l.carrier.onWait(idle)
	r.after = func() {
		l.reads.Add(1)
		l.busy.Store(true)
	}
	defer uncork()
	for {
		f, b, err := r.readFrame()
		if err != nil {
			l.conn.fail(lostError(string(l.conn.peer.Path), err))
			return
		}
		if !l.corked && (r.buffered() > 0 || l.carrier.inputReady()) {
			l.corked, since = true, time.Now()
			l.conn.endpoint.cork.push()
		}
		if err := l.handle(f, b); err != nil {
			l.conn.fail(lostError(string(l.conn.peer.Path), err))
			return
		}
		if l.corked && time.Since(since) > uncorkAfter {
			uncork()
		}
		if !l.awaitSpace(uncork) {
			return
		}
	}
}

// callAfter calls what waits for the end of the batch.
func (l *lane) callAfter() {
	for i, f := range l.after {
		l.after[i] = nil
		f()
	}
	l.after = l.after[:0]
}

// handle takes one frame and its buffer. An error ends the connection.
func (l *lane) handle(f frame, b *buffer) error {
	switch f.kind {
	case framePing:
		return nil
	case frameRequest, frameOneWay:
		return l.conn.serve(l, f, b)
	case frameReply:
		return l.conn.calls.answer(f.id, newReply(f, b), nil)
	case frameFailure:
		text := ""
		if b != nil {
			text = string(b.data[:f.bodyBytes])
		}
		b.release()
		return l.conn.calls.answer(f.id, Reply{}, failureError(l.conn, f.errorKind, text))
	default:
		b.release()
		return blocktree.E("frame", blocktree.Invalid, fmt.Errorf("type %d on an open lane", f.kind))
	}
}

var errQueueFull = errors.New("the lane's queue is full")

package bttp

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"blocktree"
	"blocktree/internal/invariant"
)

// Reply is a peer's answer to a call. Header and Body are valid until Release.
type Reply struct {
	Code   uint16 // of the request
	Header []byte
	Body   []byte // begins at a multiple of 4096 when it has at least as many bytes, blocktree.RecordHeaderBytes behind one when it has more than 32 KiB with its header
	buf    *buffer
	use    uint64
}

// Release gives the memory of the reply back. Who was given a reply calls it once, copies of it included: a second time
// panics. On the zero Reply it does nothing. Without it the memory is left to the garbage collector.
func (r Reply) Release() { r.buf.releaseUse(r.use) }

// newReply wraps a frame.
func newReply(f frame, b *buffer) Reply {
	r := Reply{Code: f.code, buf: b, use: b.use()}
	if b != nil {
		r.Body = b.data[:f.bodyBytes:f.bodyBytes]
		r.Header = b.data[f.bodyBytes : f.bodyBytes+f.headerBytes]
	}
	return r
}

// CopiedBytesMax is the longest body that is copied before Call, ReplyThen or Send return: then neither it nor the slice of its parts is used any more.
const CopiedBytesMax = 8 << 10

// Handler serves what peers ask for.
type Handler interface {
	// Serve handles one request in the reader goroutine of its lane: until it returns, no other message of the
	// lane is read, so it must not block on a disk, on the network or for long. It, or whoever it passes req to,
	// answers once with Reply, ReplyThen or Fail, and calls Release once.
	Serve(req *Request)
}

// HandlerFunc is a function as a Handler.
type HandlerFunc func(req *Request)

// Serve calls f.
func (f HandlerFunc) Serve(req *Request) { f(req) }

// Request is a message that a peer sent. Header and Body are valid until Release; both may be changed.
type Request struct {
	Conn   *Conn  // the connection it came by; Conn.Peer says who asks
	Code   uint16 // of the message
	OneWay bool   // no answer is wanted; one that is given is dropped
	Header []byte
	Body   []byte // begins at a multiple of 4096 when it has at least as many bytes, blocktree.RecordHeaderBytes behind one when it has more than 32 KiB with its header

	lane     *lane
	id       uint64
	buf      *buffer
	use      uint64
	answered atomic.Bool
}

// Release gives Header and Body back. It may come before or after the answer, from any goroutine, once: a second time panics. Without it
// the memory is left to the garbage collector.
func (r *Request) Release() {
	r.buf.releaseUse(r.use)
	r.Header, r.Body = nil, nil
}

// AfterBatch has f called once when all that came with the same read has been served, and what that caused is sent. It is for Serve, before that
// returns: f runs in the same goroutine, and until it returns, no other message of the lane is read. It reports false, and does nothing, where the request came alone.
func (r *Request) AfterBatch(f func()) bool {
	if r.lane == nil || !r.lane.corked {
		return false
	}
	r.lane.after = append(r.lane.after, f)
	return true
}

// Reply answers with a header and a body, both of which are sent or copied when it returns, or a body of more than
// 8 KiB is: such a body must stay unchanged for good, or until the release of ReplyThen. It does not block and may be
// called from any goroutine. An answer to a peer that is gone is dropped.
func (r *Request) Reply(header []byte, body ...[]byte) { r.ReplyThen(nil, header, body...) }

// ReplyThen is Reply that calls release, unless it is nil, once, when the body is not needed any more: before it
// returns, or later from another goroutine. release must not block.
func (r *Request) ReplyThen(release func(), header []byte, body ...[]byte) {
	m := message{frame: frame{kind: frameReply, code: r.Code, id: r.id, headerBytes: len(header), bodyBytes: byteCount(body)},
		header: header, body: body, release: release}
	if err := checkSize(m.frame); err != nil {
		if release != nil {
			release()
		}
		r.Fail(err)
		return
	}
	r.answer(&m)
}

// Fail answers with the kind of err and the first 512 bytes of its text. It does not block and may be called from
// any goroutine.
func (r *Request) Fail(err error) {
	text := []byte(err.Error())
	text = []byte(strings.ToValidUTF8(string(text[:min(len(text), failureBytesMax)]), ""))
	r.answer(&message{frame: frame{kind: frameFailure, code: r.Code, id: r.id, errorKind: blocktree.KindOf(err),
		bodyBytes: len(text)}, body: [][]byte{text}})
}

// answer sends the answer unless there was one, or none is wanted.
func (r *Request) answer(m *message) {
	invariant.Check(!r.answered.Swap(true) || r.OneWay, "two answers to request %d of code %d", r.id, r.Code)
	sent := false
	if !r.OneWay {
		m.more = r.Conn.unanswered.Add(-1) > 0
		sent = r.lane.send(m, false) == nil
	}
	if !sent && m.release != nil {
		m.release()
	}
}

// checkSize refuses messages over the limits.
func checkSize(f frame) error {
	if f.headerBytes > blocktree.FrameHeaderBytesMax || f.bodyBytes > blocktree.FrameBodyBytesMax {
		return blocktree.E("bttp", blocktree.TooLarge, fmt.Errorf("message of %d and %d bytes, at most %d and %d",
			f.headerBytes, f.bodyBytes, blocktree.FrameHeaderBytesMax, blocktree.FrameBodyBytesMax))
	}
	return nil
}

// failureError is the error that a peer answered with.
func failureError(c *Conn, kind blocktree.Kind, text string) error {
	if !kind.Valid() {
		kind = blocktree.Other
	}
	return &blocktree.Error{Op: "bttp.Call", Runtime: string(c.peer.Path), Kind: kind, Err: errors.New(text)}
}

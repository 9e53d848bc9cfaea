package nbd

import (
	"errors"

	"blocktree"
	"blocktree/blockdev"
)

// errDisconnect ends a connection by the client's wish, errStopping by the server's.
var (
	errDisconnect = errors.New("disconnect")
	errStopping   = errors.New("the server is stopping")
)

// request is one command from its header to its reply. It is pooled: it belongs to the reader, then to the goroutine
// that serves it, then to the outbox.
type request struct {
	c       *conn
	command uint16
	flags   uint16
	handle  uint64
	offset  uint64
	length  uint32
	buf     *blockdev.Buffer // WRITE: the payload. READ: room for a header, then the data
	reply   []byte           // what goes out: head, or buf with its header
	head    [simpleReplyBytes]byte
	started startState // of a request that no goroutine waits for
}

// free returns the request and what it still holds to their pools.
func (r *request) free() {
	if r.buf != nil {
		r.buf.Release()
	}
	pool := &r.c.s.requests
	if r.started.Load() == startGivenUp {
		return // the device still has it, and asks it yet
	}
	*r = request{}
	pool.Put(r)
}

// next serves or starts one request. An error ends the connection after all that was begun.
func (c *conn) next() error {
	if c.br.Buffered() < requestBytes {
		c.out.flush(false) // the only place to wait for the next request: nothing ready may wait with us
	}
	b, err := c.br.Peek(requestBytes)
	if err != nil {
		return err
	}
	if c.s.stopping.Load() {
		// Not ESHUTDOWN: the kernel makes an I/O error of it, and a file system loses what it wrote. A request without an answer is
		// repeated by who reconnects (docs/design/0020-attach.md), and an error for everybody else all the same.
		return errStopping
	}
	h, err := decodeRequest(b)
	if err != nil {
		return blocktree.E("nbd: request", blocktree.Invalid, err)
	}
	c.br.Discard(requestBytes) // cannot fail: they were peeked
	if h.Type == cmdDisc {
		return errDisconnect
	}
	c.out.begin()
	r, _ := c.s.requests.Get().(*request)
	if r == nil {
		r = new(request)
	}
	r.c, r.command, r.flags, r.handle, r.offset, r.length = c, h.Type, h.CommandFlags, h.Handle, h.Offset, h.Length
	errno := c.refuse(r)
	if errno == 0 {
		err = c.receive(r)
	} else if r.command == cmdWrite {
		err = c.drain(int(r.length))
	}
	switch {
	case err != nil:
		c.abandon(r)
		return err
	case errno != 0:
		c.answer(r, errno)
	case c.dev.Prompt(), r.command == cmdRead && c.dev.TryReadAt(r.buf.B[simpleReplyBytes:], r.offset):
		c.answerInline(r)
	case c.start(r):
	default:
		c.workers.Add(1)
		go r.serve()
	}
	return nil
}

// refuse returns the error of a request that must not reach the device, else zero.
func (c *conn) refuse(r *request) uint32 {
	known := cmdFlagFUA // every command takes it; it means nothing where nothing is written
	if r.command == cmdWriteZeroes {
		known |= cmdFlagNoHole | cmdFlagFastZero
	}
	size, length := c.dev.Size(), uint64(r.length)
	outside := r.offset > size || length > size-r.offset
	writes := r.command == cmdWrite || r.command == cmdTrim || r.command == cmdWriteZeroes
	payload := r.command == cmdRead || r.command == cmdWrite
	switch {
	case !writes && r.command != cmdRead && r.command != cmdFlush, r.flags&^known != 0:
		return nbdEINVAL
	case r.command == cmdFlush && (r.offset != 0 || length != 0):
		return nbdEINVAL
	case writes && c.export.ReadOnly:
		return nbdEPERM
	case payload && length > blocktree.NBDPayloadBytesMax:
		return nbdEINVAL
	case outside && (r.command == cmdWrite || r.command == cmdWriteZeroes):
		return nbdENOSPC
	case outside:
		return nbdEINVAL
	}
	return 0
}

// receive takes the memory of a request and reads its payload.
func (c *conn) receive(r *request) (err error) {
	switch r.command {
	case cmdRead:
		r.buf, err = c.buffer(simpleReplyBytes+int(r.length), c.dev.ChargeBytes(r.offset, uint64(r.length)))
	case cmdWrite:
		r.buf, err = c.buffer(int(r.length), c.dev.ChargeBytes(r.offset, uint64(r.length)))
		if err == nil && len(r.buf.B) <= c.br.Buffered() {
			copy(r.buf.B, c.peek(len(r.buf.B)))
		} else if err == nil {
			c.out.receiving(true)
			err = c.readPayload(r.buf.B)
			c.out.receiving(false)
		}
	}
	return err
}

// drain reads and forgets the payload of a refused WRITE, of any length.
func (c *conn) drain(n int) error {
	c.out.receiving(true)
	defer c.out.receiving(false)
	if n > c.br.Buffered() {
		c.out.flush(false)
	}
	_, err := c.br.Discard(n)
	return err
}

// peek consumes n bytes that are buffered. They stay valid until the next read.
func (c *conn) peek(n int) []byte {
	b, _ := c.br.Peek(n)
	c.br.Discard(n) // neither can fail: the caller looked
	return b
}

// abandon gives back a request that will have no reply, because the client left in the middle of it.
func (c *conn) abandon(r *request) {
	o := &c.out
	r.free()
	o.mu.Lock()
	o.open--
	o.mu.Unlock() // the reader ends: nobody needs to be told
}

// answer makes the reply ready without data and lets the reader go on.
func (c *conn) answer(r *request, errno uint32) {
	r.finish(errno)
	if c.out.put(r) {
		c.out.flush(false)
	}
}

// answerInline serves a request that will not wait, or a READ that the cache has already served.
func (c *conn) answerInline(r *request) {
	if c.dev.Prompt() {
		r.run()
	} else {
		r.finish(0)
	}
	if c.out.put(r) {
		c.out.flush(false)
	}
}

// serve is the goroutine of a request that may wait.
func (r *request) serve() {
	c := r.c
	defer c.workers.Done()
	r.run()
	c.out.put(r)
	c.out.flush(true)
}

// run does the command and prepares its reply. Writes go on when the client is gone: what it sent, it meant.
func (r *request) run() {
	c := r.c
	fua, length := r.flags&cmdFlagFUA != 0, uint64(r.length)
	var err error
	switch r.command {
	case cmdRead:
		err = c.dev.ReadAt(c.ctx, r.buf.B[simpleReplyBytes:], r.offset)
	case cmdWrite:
		err = c.dev.WriteAt(c.s.hard, r.buf.B, r.offset, fua)
	case cmdFlush:
		err = c.dev.Flush(c.s.hard)
	case cmdTrim:
		err = c.dev.Trim(c.s.hard, r.offset, length, fua)
	case cmdWriteZeroes:
		// NO_HOLE asks that later writes find room. No write of ours takes room that an earlier one left, so there is
		// nothing to reserve; and FAST_ZERO is always granted, because at most two sectors are rewritten.
		err = c.dev.Zero(c.s.hard, r.offset, length, fua)
	}
	if err != nil {
		c.note(r, err)
	}
	r.finish(errnoOf(err, r.command, r.flags))
}

// finish builds the reply: a READ that succeeded sends its buffer, with the header in front of the data; everything
// else sends a header and gives its memory back now.
func (r *request) finish(errno uint32) {
	if r.command == cmdRead && errno == 0 {
		putSimpleReply(r.buf.B, 0, r.handle)
		r.reply = r.buf.B
		return
	}
	if r.buf != nil {
		r.buf.Release()
		r.buf = nil
	}
	putSimpleReply(r.head[:], errno, r.handle)
	r.reply = r.head[:]
}

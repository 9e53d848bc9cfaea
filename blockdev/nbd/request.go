package nbd

import (
	"errors"
	"time"

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
	length  uint64           // of what it is about; of a WRITE, that of its payload as well
	payload uint64           // bytes that follow the header and are not read yet
	buf     *blockdev.Buffer // WRITE: the payload. READ: room for a header, then the data. BLOCK_STATUS: the reply
	context uint32           // BLOCK_STATUS: what the client wants to know of, if it said so
	started startState       // of a request that no goroutine waits for
	began   time.Duration    // when it came, since the server began
	outcome Outcome          // what is counted of it
	links   startedLinks     // likewise
	behind  *request         // the next of a run of WRITEs that are started as one (gather.go)
	serving func()           // serve, made once: a goroutine that runs it costs no closure

	slices     [partsMax][]byte // the reply: in head, or in buf
	sliceCount int
	replyBytes int
	head       [headBytes]byte
}

// free returns the request and what it still holds to their pools.
func (r *request) free() {
	r.release()
	pool := &r.c.s.requests
	if r.started.Load() == startGivenUp {
		return // the device still has it, and asks it yet
	}
	*r = request{serving: r.serving}
	pool.Put(r)
}

// next serves or starts one request. An error ends the connection after all that was begun.
func (c *conn) next() error {
	size := c.agreed.style.requestBytes()
	if c.br.Buffered() < size {
		c.uncork()
		c.out.flush(false) // the only place to wait for the next request: nothing ready may wait with us
		c.timely = false
	}
	b, err := c.br.Peek(size)
	if err != nil {
		return err
	}
	if !c.timely { // else it came together with the last one; a look at the clock can cost as much as all else here
		c.came, c.timely = time.Since(c.s.began), true
	}
	if c.s.stopping.Load() {
		// Not ESHUTDOWN: the kernel makes an I/O error of it, and a file system loses what it wrote. A request without an answer is
		// repeated by who reconnects (docs/design/0020-attach.md), and an error for everybody else all the same.
		return errStopping
	}
	h, err := c.agreed.style.decode(b)
	switch {
	case err != nil:
		return blocktree.E("nbd: request", blocktree.Invalid, err)
	case h.kind == cmdDisc:
		return errDisconnect
	case h.payload > blocktree.NBDPayloadBytesMax && c.agreed.style == extended:
		return blocktree.E("nbd: request", blocktree.TooLarge, errors.New("a payload longer than any may be"))
	}
	c.br.Discard(size) // cannot fail: they were peeked
	c.cork(h.payload)
	c.out.begin()
	r := c.request(h)
	if c.choosesContext(r) {
		if err := c.receiveContext(r); err != nil {
			c.abandon(r)
			return err
		}
	}
	errno, why := c.refuse(r)
	if errno == 0 {
		if c.writeInPlace(r) {
			return nil
		}
		err = c.receive(r)
	} else if r.payload > 0 {
		err = c.drain(int(r.payload))
	}
	switch {
	case err != nil:
		c.abandon(r)
		return err
	case errno != 0:
		c.answer(r, errno, why)
	case c.dev.Prompt() && r.length <= inlineBytes, r.command == cmdRead && c.dev.TryReadAt(r.data(), r.offset):
		c.answerInline(r)
	case c.start(r):
	default:
		c.workers.Add(1)
		go r.serving()
	}
	return nil
}

// request makes one of its header. It has a slot.
func (c *conn) request(h command) *request {
	r, _ := c.s.requests.Get().(*request)
	if r == nil {
		r = new(request)
		r.serving = r.serve
	}
	r.c, r.command, r.flags, r.handle, r.offset, r.length, r.payload = c, h.kind, h.flags, h.handle, h.offset, h.length, h.payload
	r.began = c.came
	return r
}

// receive takes the memory of a request and reads its payload.
func (c *conn) receive(r *request) (err error) {
	switch r.command {
	case cmdRead:
		r.buf, err = c.buffer(c.agreed.style.room()+int(r.length), c.dev.ChargeBytes(r.offset, r.length))
	case cmdBlockStatus:
		r.buf, err = c.buffer(c.agreed.style.chunkBytes()+c.agreed.style.statusBytesMax(), blockdev.ExtentsBytes)
	case cmdCache:
		r.buf, err = c.buffer(c.dev.CacheScratchBytes(r.offset, r.length), 0)
	case cmdWrite:
		r.buf, err = c.buffer(int(r.length), c.dev.WriteChargeBytes(r.offset, r.length))
		if err == nil && len(r.buf.B) <= c.br.Buffered() {
			copy(r.buf.B, c.peek(len(r.buf.B)))
		} else if err == nil {
			err = c.receivePayload(r.buf.B)
		}
	}
	return err
}

// writeInPlace serves a WRITE whose payload lies in the reader's buffer, if it needs it there no longer than this call: a device that never
// waits has written it then, and one that starts it has sealed it. That saves a buffer and a copy. False: nothing happened.
func (c *conn) writeInPlace(r *request) bool {
	n := int(r.length)
	if r.command != cmdWrite || n > c.br.Buffered() || c.dev.ChargeBytes(r.offset, r.length) > 0 { // unaligned: scratch that must be charged
		return false
	}
	payload, _ := c.br.Peek(n) // cannot fail: it is there
	fua := r.flags&cmdFlagFUA != 0
	switch {
	case c.dev.Prompt():
		r.end(c.dev.WriteAt(c.s.hard, payload, r.offset, fua))
		c.replied(r)
	case fua:
		return false
	default:
		if run := c.gather(r); run > 0 {
			n = run
		} else if !c.startWrite(r, payload) {
			return false
		}
	}
	c.br.Discard(n)
	return true
}

// receivePayload fills p with a payload that has not come yet.
func (c *conn) receivePayload(p []byte) error {
	c.timely = false // what follows came with the end of this
	c.out.receiving(true)
	defer c.out.receiving(false)
	return c.readPayload(p)
}

// drain reads and forgets the payload of a refused WRITE, of any length.
func (c *conn) drain(n int) error {
	c.timely = false
	c.out.receiving(true)
	defer c.out.receiving(false)
	if n > c.br.Buffered() {
		c.uncork()
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
	o, command := &c.out, commandOf(r.command)
	r.free()
	o.mu.Lock()
	o.counts.Requests[command][OutcomeGone]++
	o.open--
	o.mu.Unlock() // the reader ends: nobody needs to be told
}

// answer makes the reply of a refused request ready and lets the reader go on.
func (c *conn) answer(r *request, errno uint32, why error) {
	r.finish(errno, why)
	c.replied(r)
}

// replied puts in a reply of the reader's own; it writes what is ready when that is much.
func (c *conn) replied(r *request) {
	if c.out.put(r) {
		c.out.flush(false)
	}
}

// answerInline serves a request that will not wait, or a READ that the cache has already served.
func (c *conn) answerInline(r *request) {
	if c.dev.Prompt() {
		r.run()
	} else {
		r.finish(0, nil)
	}
	c.replied(r)
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
	fua := r.flags&cmdFlagFUA != 0
	var err error
	switch r.command {
	case cmdRead:
		err = c.dev.ReadAt(c.ctx, r.data(), r.offset)
	case cmdWrite:
		err = c.dev.WriteAt(c.s.hard, r.buf.B, r.offset, fua)
	case cmdFlush:
		err = c.dev.Flush(c.s.hard)
	case cmdTrim:
		err = c.dev.Trim(c.s.hard, r.offset, r.length, fua)
	case cmdWriteZeroes:
		// NO_HOLE asks that later writes find room. No write of ours takes room that an earlier one left, so there is
		// nothing to reserve; and FAST_ZERO is granted where at most two sectors are rewritten; where it is not offered a client may not ask for it.
		err = c.dev.Zero(c.s.hard, r.offset, r.length, fua)
	case cmdCache:
		err = c.dev.Cache(c.ctx, r.buf.B, r.offset, r.length)
	case cmdBlockStatus:
		err = r.blockStatus()
	}
	r.end(err)
}

package nbd

import (
	"encoding/binary"
	"fmt"

	"blocktree/blockdev"
)

// styles are all that a connection may agree on.
var styles = []style{compact, structured, extended}

func (s style) String() string { return [...]string{"compact", "structured", "extended"}[s] }

// attachAs goes to the export with a style agreed, and its allocation context chosen where there can be one.
func (b *bed) attachAs(s style) *client {
	b.t.Helper()
	return b.any().agree(s).attach("/vm/disk0")
}

// agree negotiates a style. The client has not said hello yet.
func (c *client) agree(s style) *client {
	c.t.Helper()
	return c.agreeFor(s, "/vm/disk0")
}

// agreeFor is agree, with the context of an export by name.
func (c *client) agreeFor(s style, export string) *client {
	c.t.Helper()
	c.hello(clientFlags)
	c.greets = true
	if c.style = s; s == compact {
		return c
	}
	option := map[style]uint32{structured: optStructuredReply, extended: optExtendedHeaders}[s]
	if got := c.ask(option, nil); len(got) != 1 || got.last() != ack {
		c.t.Fatalf("%v: %v", s, got)
	}
	if got := c.ask(optSetMeta, metaQuery{export, []string{"base:allocation"}}.encode()); fmt.Sprint(got) != "[{4 \x00\x00\x00\x01base:allocation} {1 }]" {
		c.t.Fatalf("%v: %q", s, fmt.Sprint(got))
	}
	return c
}

// request is a request as the client's style has it, payload included. In extended headers a payload has its length told.
func (c *client) request(kind, flags uint16, handle, offset, length uint64, payload []byte) []byte {
	if c.style != extended {
		return append(header(kind, flags, handle, offset, uint32(length)), payload...)
	}
	if kind == cmdWrite {
		flags |= cmdFlagPayloadLen
	}
	return append(encodeExtended(nil, command{kind: kind, flags: flags, handle: handle, offset: offset, length: length}), payload...)
}

// leave disconnects and waits until the server has let go.
func (c *client) leave() {
	c.t.Helper()
	c.send(c.request(cmdDisc, 0, 0, 0, 0, nil))
	c.closed()
}

// chunk is one chunk of a reply.
type chunk struct {
	kind    uint16
	done    bool
	handle  uint64
	payload []byte
}

// answer is a whole reply.
type answer struct {
	handle  uint64
	errno   uint32
	text    string
	data    []byte // of a READ, holes filled in
	holes   int    // bytes of it that came as holes
	chunks  []chunk
	extents []blockdev.Extent
}

// exchange sends one request and takes its answer, which is checked against all that the protocol demands of it.
func (c *client) exchange(kind, flags uint16, offset, length uint64, payload []byte) answer {
	c.t.Helper()
	const handle = 0x1122334455667788
	c.send(c.request(kind, flags, handle, offset, length, payload))
	return c.answer(handle, kind, flags, offset, length)
}

// answer takes the reply to the one request that is open.
func (c *client) answer(handle uint64, kind, flags uint16, offset, length uint64) (a answer) {
	c.t.Helper()
	if c.style == compact || c.simpleIsNext() {
		a.errno, a.handle = c.reply()
		switch {
		case c.style == structured && (a.errno != 0 || kind == cmdRead || kind == cmdBlockStatus):
			c.t.Fatalf("a simple reply, error %d, to command %d", a.errno, kind)
		case a.errno == 0 && kind == cmdRead:
			a.data = c.take(int(length))
		}
	} else {
		for len(a.chunks) == 0 || !a.chunks[len(a.chunks)-1].done {
			a.chunks = append(a.chunks, c.chunk(offset))
			if h := a.chunks[len(a.chunks)-1].handle; h != handle {
				c.t.Fatalf("a chunk for request %x, not %x", h, handle)
			}
		}
		a.handle = handle
		if err := a.read(c.style, kind, flags, offset, length); err != nil {
			c.t.Fatalf("command %d, flags %x, %d bytes at %d: %v", kind, flags, length, offset, err)
		}
	}
	if a.handle != handle {
		c.t.Fatalf("handle %x", a.handle)
	}
	if carries := kind == cmdRead || kind == cmdBlockStatus; c.style == structured && a.errno == 0 && !carries && len(a.chunks) > 0 {
		c.t.Fatalf("a chunk that says nothing, to command %d", kind)
	}
	return a
}

// simpleIsNext reports whether a simple reply comes next, which may be between chunks only where replies are structured, not where headers are extended.
func (c *client) simpleIsNext() bool {
	c.t.Helper()
	if c.style != structured {
		return false
	}
	magic, err := c.br.Peek(4)
	if err != nil {
		c.t.Fatal(err)
	}
	return binary.BigEndian.Uint32(magic) == 0x67446698
}

// chunk takes one chunk, the reply to a request at offset.
func (c *client) chunk(offset uint64) chunk {
	c.t.Helper()
	h := c.take(c.style.chunkBytes())
	x := chunk{kind: binary.BigEndian.Uint16(h[6:]), done: h[5]&1 != 0, handle: binary.BigEndian.Uint64(h[8:])}
	if h[4] != 0 || h[5] > 1 {
		c.t.Fatalf("chunk flags %x", h[4:6])
	}
	var n uint64
	magic := binary.BigEndian.Uint32(h)
	switch {
	case c.style == structured && magic == 0x668e33ef:
		n = uint64(binary.BigEndian.Uint32(h[16:]))
	case c.style == extended && magic == 0x6e8a278c && binary.BigEndian.Uint64(h[16:]) == offset:
		n = binary.BigEndian.Uint64(h[24:])
	default:
		c.t.Fatalf("a chunk of %x", h)
	}
	if n > 32*mib+8 {
		c.t.Fatalf("a chunk of %d bytes", n)
	}
	x.payload = c.take(int(n))
	return x
}

// read makes an answer of chunks.
func (a *answer) read(s style, kind, flags uint16, offset, length uint64) error {
	covered := make(map[uint64]uint64) // from the end of a content chunk to its beginning
	for _, x := range a.chunks {
		n := uint64(len(x.payload))
		switch {
		case x.kind == 0 && n == 0 && x.done:
		case x.kind == 1 && kind == cmdRead && n > 8:
			if err := a.fill(covered, x.payload, n-8, x.payload[8:], offset, length); err != nil {
				return err
			}
		case x.kind == 2 && kind == cmdRead && n == 12:
			hole := uint64(binary.BigEndian.Uint32(x.payload[8:]))
			if hole > 32*mib || hole == 0 {
				return fmt.Errorf("a hole of %d bytes", hole)
			}
			a.holes += int(hole)
			if err := a.fill(covered, x.payload, hole, make([]byte, hole), offset, length); err != nil {
				return err
			}
		case kind == cmdBlockStatus && a.extents == nil && (x.kind == 5 && s == structured || x.kind == 6 && s == extended):
			if err := a.status(s, x.payload, flags, length); err != nil {
				return err
			}
		case x.kind == 1<<15|1 && n >= 6 && n == 6+uint64(binary.BigEndian.Uint16(x.payload[4:])):
			a.errno, a.text = binary.BigEndian.Uint32(x.payload), string(x.payload[6:])
		default:
			return fmt.Errorf("a chunk of kind %d with %d bytes", x.kind, n)
		}
	}
	switch {
	case a.errno != 0 && len(a.chunks) != 1:
		return fmt.Errorf("an error and %d more chunks", len(a.chunks)-1)
	case a.errno != 0 && a.text == "":
		return fmt.Errorf("error %d without a text", a.errno)
	case a.errno != 0:
		return nil
	case flags&cmdFlagDF != 0 && kind == cmdRead && len(a.chunks) != 1:
		return fmt.Errorf("%d chunks", len(a.chunks))
	case kind == cmdBlockStatus && a.extents == nil:
		return fmt.Errorf("no status")
	}
	at := offset
	for at < offset+length && kind == cmdRead {
		end, ok := covered[at]
		if !ok {
			return fmt.Errorf("nothing says what is at %d", at)
		}
		at = end
	}
	return nil
}

// fill takes content, which no other chunk may have touched.
func (a *answer) fill(covered map[uint64]uint64, payload []byte, n uint64, content []byte, offset, length uint64) error {
	at := binary.BigEndian.Uint64(payload)
	if at < offset || n > length || at-offset > length-n {
		return fmt.Errorf("%d bytes at %d are outside", n, at)
	}
	for from, to := range covered {
		if from < at+n && at < to {
			return fmt.Errorf("%d bytes at %d come twice", n, at)
		}
	}
	covered[at] = at + n
	if a.data == nil {
		a.data = make([]byte, length)
	}
	copy(a.data[at-offset:], content)
	return nil
}

// status takes the extents of the one context.
func (a *answer) status(s style, p []byte, flags uint16, length uint64) error {
	step, skip := 8, 4
	if s == extended {
		step, skip = 16, 8
	}
	if len(p) < skip+step || (len(p)-skip)%step != 0 || binary.BigEndian.Uint32(p) != 1 ||
		s == extended && int(binary.BigEndian.Uint32(p[4:])) != (len(p)-skip)/step {
		return fmt.Errorf("a status of %x", p)
	}
	total := uint64(0)
	for p = p[skip:]; len(p) > 0; p = p[step:] {
		bytes, state := uint64(binary.BigEndian.Uint32(p)), uint64(binary.BigEndian.Uint32(p[4:]))
		if s == extended {
			bytes, state = binary.BigEndian.Uint64(p), binary.BigEndian.Uint64(p[8:])
		}
		if total += bytes; bytes == 0 || total > length || state != 0 && state != 3 {
			return fmt.Errorf("an extent of %d bytes, state %d", bytes, state)
		}
		a.extents = append(a.extents, blockdev.Extent{Bytes: bytes, Zero: state == 3})
	}
	if flags&cmdFlagReqOne != 0 && len(a.extents) != 1 || len(a.extents) > 1024 {
		return fmt.Errorf("%d extents", len(a.extents))
	}
	return nil
}

package nbd

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"blocktree"
	"blocktree/blockdev"
)

const (
	// zeroBlockBytes is what a READ's data is looked at by: all zeros or not.
	zeroBlockBytes = 4096

	// holeBytesMin is the shortest run of zeros beside data that becomes a chunk of its own; a shorter one costs the client
	// more than it saves. It has room for the headers that take its place.
	holeBytesMin = 16 << 10

	// partsMax bounds the runs of data in one reply, and with them the slices of one writev.
	partsMax = 8

	// errorTextBytesMax bounds what an error chunk says; the protocol's own bound is 4,096.
	errorTextBytesMax = 1024

	// headBytes holds the longest chunk of fixed length, a hole of extended headers, and short error texts.
	headBytes = 96
)

// data is where a READ's data belongs in its buffer.
func (r *request) data() []byte { return r.buf.B[r.c.agreed.style.room():] }

// finish builds the reply: a READ that succeeded sends its buffer, with headers in it, and BLOCK_STATUS what run has put there; everything
// else sends a header and gives its memory back now. Between chunks a success without data is a simple reply. why says what an errno other than zero means.
func (r *request) finish(errno uint32, why error) {
	s := r.c.agreed.style
	r.outcome = outcomeOf(errno)
	switch {
	case errno != 0 && s != compact:
		r.release()
		r.say(r.errorChunk(errno, why))
	case errno == 0 && r.command == cmdRead && s == compact:
		putSimpleReply(r.buf.B, 0, r.handle)
		r.say(r.buf.B)
	case errno == 0 && r.command == cmdRead && r.length > 0:
		r.sayData()
	case errno == 0 && r.command == cmdBlockStatus:
		r.say(r.buf.B)
	case s == compact || s == structured && r.command != cmdRead: // shorter, and a client has it with one read instead of two
		r.release()
		putSimpleReply(r.head[:], errno, r.handle)
		r.say(r.head[:simpleReplyBytes])
	default:
		r.release()
		s.putChunk(r.head[:], r, chunkDone, chunkNone, 0)
		r.say(r.head[:s.chunkBytes()])
	}
}

// end is finish for the outcome of a command.
func (r *request) end(err error) {
	if err != nil {
		r.c.note(r, err)
	}
	r.finish(errnoOf(err, r.command, r.flags), err)
	if r.c.ctx.Err() != nil && blocktree.KindOf(err) == blocktree.Canceled {
		r.outcome = OutcomeGone
	}
}

func (r *request) release() {
	if r.buf != nil {
		r.buf.Release()
		r.buf = nil
	}
}

// say adds a slice to the reply.
func (r *request) say(b []byte) {
	r.slices[r.sliceCount] = b
	r.sliceCount++
	r.replyBytes += len(b)
}

// reply is what goes out.
func (r *request) reply() [][]byte { return r.slices[:r.sliceCount] }

// errorChunk makes the only chunk of a request that failed.
func (r *request) errorChunk(errno uint32, why error) []byte {
	s, text := r.c.agreed.style, errorText(why)
	n := s.chunkBytes()
	b := binary.BigEndian.AppendUint32(r.head[:n], errno)
	b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
	b = append(b, text...)
	s.putChunk(b, r, chunkDone, chunkError, len(b)-n)
	return b
}

// errorText is what an error says to a person at the other end, as a string of the protocol.
func errorText(err error) string {
	if err == nil {
		return ""
	}
	text := strings.ReplaceAll(strings.ToValidUTF8(err.Error(), "?"), "\x00", "?")
	if len(text) <= errorTextBytesMax {
		return text
	}
	cut := errorTextBytesMax
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut]
}

// sayData answers a READ in chunks of data and of holes. Their headers lie in the buffer: that of data in front of it, in the room that
// was left there or in the place of the zeros of a hole, and a hole's chunk where its zeros began. So nothing is copied.
func (r *request) sayData() {
	s, data := r.c.agreed.style, r.data()
	room, whole := s.room(), len(data)
	if r.flags&cmdFlagDF != 0 {
		r.putData(0, whole, true)
		r.say(r.buf.B)
		return
	}
	hole, end := nextHole(data, r.offset, 0)
	if hole == 0 && end == whole { // nothing but zeros, however few
		r.release()
		r.say(r.putHole(r.head[:], 0, whole, true))
		return
	}
	for at, parts := 0, 0; at < whole; parts++ {
		if parts == partsMax-1 {
			hole, end = whole, whole
		} else if at > 0 {
			hole, end = nextHole(data, r.offset, at)
		}
		from, to := at, room+hole
		if hole > at {
			r.putData(at, hole, hole == whole)
		} else {
			from = room + at // it begins with a hole
		}
		if hole < whole {
			to += len(r.putHole(r.buf.B[room+hole:], hole, end, end == whole))
		}
		r.say(r.buf.B[from:to])
		at = end
	}
}

// putData writes the header of a chunk of data in front of bytes from … to of a READ.
func (r *request) putData(from, to int, last bool) {
	s := r.c.agreed.style
	b := r.buf.B[from : from+s.room()] // data byte i is byte i+room of the buffer
	s.putChunk(b, r, doneIf(last), chunkData, 8+to-from)
	binary.BigEndian.PutUint64(b[s.chunkBytes():], r.offset+uint64(from))
}

// putHole writes a chunk that says that bytes from … to of a READ are zeros, and returns it.
func (r *request) putHole(b []byte, from, to int, last bool) []byte {
	s := r.c.agreed.style
	n := s.chunkBytes()
	s.putChunk(b, r, doneIf(last), chunkHole, 12)
	binary.BigEndian.PutUint64(b[n:], r.offset+uint64(from))
	binary.BigEndian.PutUint32(b[n+8:], uint32(to-from))
	return b[:n+12]
}

func doneIf(last bool) uint16 {
	if last {
		return chunkDone
	}
	return 0
}

// nextHole finds the first run of zeros in data from byte at on that is worth a chunk, and where it ends. data begins at byte offset of the device,
// and is looked at in blocks that end where the device's do. A run that is all of data is worth one whatever its length. There is none: both
// are the end of data.
func nextHole(data []byte, offset uint64, at int) (hole, end int) {
	hole = -1
	for block := at; block < len(data); block = end {
		end = min(len(data), block+zeroBlockBytes-int((offset+uint64(block))%zeroBlockBytes))
		switch zeros := allZeros(data[block:end]); {
		case zeros && hole < 0:
			hole = block
		case !zeros && hole >= 0 && block-hole >= holeBytesMin:
			return hole, block
		case !zeros:
			hole = -1
		}
	}
	if hole >= 0 && (len(data)-hole >= holeBytesMin || hole == 0) {
		return hole, len(data)
	}
	return len(data), len(data)
}

// allZeros compares b with itself, one byte further on: memory is compared faster than any loop here could look at it.
func allZeros(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}

// sayStatus builds the answer to a BLOCK_STATUS out of extents. They lie within the request.
func (r *request) sayStatus(extents []blockdev.Extent) {
	s := r.c.agreed.style
	n := s.chunkBytes()
	b := binary.BigEndian.AppendUint32(r.buf.B[:n], metaContextID)
	if s == extended {
		b = binary.BigEndian.AppendUint32(b, uint32(len(extents)))
	}
	for _, x := range extents {
		state := uint32(0)
		if x.Zero {
			state = stateHole | stateZero
		}
		if s == extended {
			b = binary.BigEndian.AppendUint64(b, x.Bytes)
			b = binary.BigEndian.AppendUint64(b, uint64(state))
		} else {
			b = binary.BigEndian.AppendUint32(b, uint32(x.Bytes)) // no longer than the request, whose length has 32 bits
			b = binary.BigEndian.AppendUint32(b, state)
		}
	}
	kind := chunkStatus
	if s == extended {
		kind = chunkStatusLong
	}
	s.putChunk(b, r, chunkDone, kind, len(b)-n)
	r.buf.B = b
}

package nbd

import (
	"encoding/binary"

	"blocktree"
	"blocktree/blockdev"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// style is how the requests and replies of a connection look. It is agreed before an export is chosen, and stays.
type style uint8

const (
	compact    style = iota // simple replies
	structured              // requests as before, replies in chunks but for successes without data
	extended                // 64-bit lengths both ways, replies in chunks
)

// agreed is what a client has negotiated beside its export. STARTTLS forgets all of it.
type agreed struct {
	style      style
	metaExport string // the export whose allocation may be asked for; "" if none
}

// What go-nbd does not name of structured replies and extended headers.
const (
	magicStructured      = uint32(0x668e33ef)
	magicExtendedRequest = uint32(0x21e41c71)
	magicExtendedReply   = uint32(0x6e8a278c)

	optStructuredReply = uint32(8)
	optListMeta        = uint32(9)
	optSetMeta         = uint32(10)
	optExtendedHeaders = uint32(11)
	replyMetaContext   = uint32(4)
	errTypeExtended    = uint32(1<<31 | 10)

	transSendDF        = uint16(1 << 7)
	transSendCache     = uint16(1 << 10)
	transStatusPayload = uint16(1 << 12)

	cmdCache       = uint16(5)
	cmdBlockStatus = uint16(7)

	cmdFlagDF         = uint16(1 << 2)
	cmdFlagReqOne     = uint16(1 << 3)
	cmdFlagPayloadLen = uint16(1 << 5)

	chunkDone       = uint16(1) // the only flag of a chunk
	chunkNone       = uint16(0)
	chunkData       = uint16(1)
	chunkHole       = uint16(2)
	chunkStatus     = uint16(5)
	chunkStatusLong = uint16(6)
	chunkError      = uint16(1<<15 | 1)

	extendedRequestBytes = 32
	structuredChunkBytes = 20
	extendedChunkBytes   = 32
)

// command is the header of a request of any style. payload is what follows it, in bytes.
type command struct {
	kind, flags            uint16
	handle, offset, length uint64
	payload                uint64
}

// requestBytes is the length of a request's header.
func (s style) requestBytes() int {
	if s == extended {
		return extendedRequestBytes
	}
	return requestBytes
}

// decode reads the header of a request. It is the hot path: no reflection, no allocation.
func (s style) decode(b []byte) (command, error) {
	if s == extended {
		return decodeExtended(b)
	}
	h, err := decodeRequest(b)
	q := command{kind: h.Type, flags: h.CommandFlags, handle: h.Handle, offset: h.Offset, length: uint64(h.Length)}
	if q.kind == cmdWrite {
		q.payload = q.length
	}
	return q, err
}

// decodeExtended reads the 32 bytes of an extended request. Its length is that of a payload only where a flag says so.
func decodeExtended(b []byte) (q command, err error) {
	_ = b[extendedRequestBytes-1]
	q.flags = binary.BigEndian.Uint16(b[4:])
	q.kind = binary.BigEndian.Uint16(b[6:])
	q.handle = binary.BigEndian.Uint64(b[8:])
	q.offset = binary.BigEndian.Uint64(b[16:])
	q.length = binary.BigEndian.Uint64(b[24:])
	if q.flags&cmdFlagPayloadLen != 0 {
		q.payload = q.length
	}
	if binary.BigEndian.Uint32(b) != magicExtendedRequest {
		return q, errMagic
	}
	return q, nil
}

// encodeExtended is the inverse of decodeExtended; tests and fuzzing need it.
func encodeExtended(b []byte, q command) []byte {
	b = binary.BigEndian.AppendUint32(b, magicExtendedRequest)
	b = binary.BigEndian.AppendUint16(b, q.flags)
	b = binary.BigEndian.AppendUint16(b, q.kind)
	b = binary.BigEndian.AppendUint64(b, q.handle)
	b = binary.BigEndian.AppendUint64(b, q.offset)
	return binary.BigEndian.AppendUint64(b, q.length)
}

// chunkBytes is the length of a chunk's header.
func (s style) chunkBytes() int {
	if s == extended {
		return extendedChunkBytes
	}
	return structuredChunkBytes
}

// room is what a READ's buffer has in front of its data: the header of a reply, and in a chunk the data's offset.
func (s style) room() int {
	if s == compact {
		return simpleReplyBytes
	}
	return s.chunkBytes() + 8
}

// putChunk writes the header of a chunk of payload bytes in reply to r into b.
func (s style) putChunk(b []byte, r *request, flags, kind uint16, payload int) {
	binary.BigEndian.PutUint16(b[4:], flags)
	binary.BigEndian.PutUint16(b[6:], kind)
	binary.BigEndian.PutUint64(b[8:], r.handle)
	if s == extended {
		_ = b[extendedChunkBytes-1]
		binary.BigEndian.PutUint32(b, magicExtendedReply)
		binary.BigEndian.PutUint64(b[16:], r.offset)
		binary.BigEndian.PutUint64(b[24:], uint64(payload))
		return
	}
	binary.BigEndian.PutUint32(b, magicStructured)
	binary.BigEndian.PutUint32(b[16:], uint32(payload))
}

// restyle serves STRUCTURED_REPLY and EXTENDED_HEADERS.
func (n *negotiation) restyle(option uint32, data []byte) {
	switch {
	case len(data) != 0:
		n.fail(option, errTypeInvalid, "the option has no data")
		return
	case option == optExtendedHeaders:
		n.agreed.style = extended
	case n.agreed.style == extended:
		n.fail(option, errTypeExtended, "extended headers are agreed already")
		return
	default:
		n.agreed.style = structured
	}
	n.reply(option, protocol.NEGOTIATION_TYPE_REPLY_ACK, nil)
}

// with is what is agreed once e is chosen: contexts of another export are not.
func (a agreed) with(e blockdev.Export) agreed {
	if a.metaExport != e.Name {
		a.metaExport = ""
	}
	return a
}

// flags is what an export can do for this client.
func (a agreed) flags(e blockdev.Export) uint16 {
	flags := protocol.NEGOTIATION_REPLY_FLAGS_HAS_FLAGS | protocol.NEGOTIATION_REPLY_FLAGS_CAN_MULTI_CONN |
		transSendFlush | transSendFUA | transSendCache
	if a.style != compact {
		flags |= transSendDF
	}
	if a.style == extended && a.metaExport == e.Name { // else there is nothing to choose from
		flags |= transStatusPayload
	}
	if e.ReadOnly {
		return flags | transReadOnly
	}
	if e.Device != nil && e.Device.WritesZeros() {
		return flags | transSendZeroes
	}
	return flags | transSendTrim | transSendZeroes | transSendFastZero
}

// statusBytesMax is the longest payload of an answer to BLOCK_STATUS.
func (s style) statusBytesMax() int {
	if s == extended {
		return 8 + 16*blocktree.NBDExtentsMax
	}
	return 4 + 8*blocktree.NBDExtentsMax
}

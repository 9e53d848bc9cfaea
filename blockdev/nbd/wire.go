package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"

	"blocktree"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// What go-nbd does not name, with the names of the protocol document.
const (
	flagNoZeroes       = uint16(1 << 1)
	clientFixedNew     = uint32(1 << 0)
	clientNoZeroes     = uint32(1 << 1)
	clientFlags        = clientFixedNew | clientNoZeroes
	optExportName      = uint32(1)
	infoDescription    = protocol.NEGOTIATION_TYPE_INFO_DESCRIPTION
	errTypeInvalid     = uint32(1<<31 | 3)
	errTypePolicy      = uint32(1<<31 | 2)
	errTypeShutdown    = uint32(1<<31 | 7)
	errTypeTooBig      = uint32(1<<31 | 9)
	exportNameZeroes   = 124
	handshakeBytes     = 18
	optionHeaderBytes  = 16
	replyHeaderBytes   = 20
	requestBytes       = 28
	simpleReplyBytes   = 16
	transReadOnly      = uint16(1 << 1)
	transSendFlush     = uint16(1 << 2)
	transSendFUA       = uint16(1 << 3)
	transSendTrim      = uint16(1 << 5)
	transSendZeroes    = uint16(1 << 6)
	transSendFastZero  = uint16(1 << 11)
	cmdFlush           = uint16(3)
	cmdTrim            = uint16(4)
	cmdWriteZeroes     = uint16(6)
	cmdFlagFUA         = uint16(1 << 0)
	cmdFlagNoHole      = uint16(1 << 1)
	cmdFlagFastZero    = uint16(1 << 4)
	blockBytesMin      = 1
	blockBytesPrefered = 4096
)

// Commands and options by the names of go-nbd.
const (
	cmdRead  = protocol.TRANSMISSION_TYPE_REQUEST_READ
	cmdWrite = protocol.TRANSMISSION_TYPE_REQUEST_WRITE
	cmdDisc  = protocol.TRANSMISSION_TYPE_REQUEST_DISC
)

var errMagic = errors.New("bad magic number")

// decodeRequest reads the 28 bytes of a request header. It is the hot path: no reflection, no allocation.
func decodeRequest(b []byte) (h protocol.TransmissionRequestHeader, err error) {
	_ = b[requestBytes-1]
	h.RequestMagic = binary.BigEndian.Uint32(b)
	h.CommandFlags = binary.BigEndian.Uint16(b[4:])
	h.Type = binary.BigEndian.Uint16(b[6:])
	h.Handle = binary.BigEndian.Uint64(b[8:])
	h.Offset = binary.BigEndian.Uint64(b[16:])
	h.Length = binary.BigEndian.Uint32(b[24:])
	if h.RequestMagic != protocol.TRANSMISSION_MAGIC_REQUEST {
		return h, errMagic
	}
	return h, nil
}

// encodeRequest is the inverse of decodeRequest; tests and fuzzing need it.
func encodeRequest(b []byte, h protocol.TransmissionRequestHeader) []byte {
	b = binary.BigEndian.AppendUint32(b, h.RequestMagic)
	b = binary.BigEndian.AppendUint16(b, h.CommandFlags)
	b = binary.BigEndian.AppendUint16(b, h.Type)
	b = binary.BigEndian.AppendUint64(b, h.Handle)
	b = binary.BigEndian.AppendUint64(b, h.Offset)
	return binary.BigEndian.AppendUint32(b, h.Length)
}

// putSimpleReply writes the 16 bytes of a simple reply into b.
func putSimpleReply(b []byte, errno uint32, handle uint64) {
	_ = b[simpleReplyBytes-1]
	binary.BigEndian.PutUint32(b, protocol.TRANSMISSION_MAGIC_REPLY)
	binary.BigEndian.PutUint32(b[4:], errno)
	binary.BigEndian.PutUint64(b[8:], handle)
}

// appendHandshake appends what a server says first.
func appendHandshake(b []byte) []byte {
	h := protocol.NegotiationNewstyleHeader{OldstyleMagic: protocol.NEGOTIATION_MAGIC_OLDSTYLE,
		OptionMagic:    protocol.NEGOTIATION_MAGIC_OPTION,
		HandshakeFlags: protocol.NEGOTIATION_HANDSHAKE_FLAG_FIXED_NEWSTYLE | flagNoZeroes}
	b = binary.BigEndian.AppendUint64(b, h.OldstyleMagic)
	b = binary.BigEndian.AppendUint64(b, h.OptionMagic)
	return binary.BigEndian.AppendUint16(b, h.HandshakeFlags)
}

// decodeOption reads the 16 bytes of an option header.
func decodeOption(b []byte) (h protocol.NegotiationOptionHeader, err error) {
	_ = b[optionHeaderBytes-1]
	h.OptionMagic = binary.BigEndian.Uint64(b)
	h.ID = binary.BigEndian.Uint32(b[8:])
	h.Length = binary.BigEndian.Uint32(b[12:])
	if h.OptionMagic != protocol.NEGOTIATION_MAGIC_OPTION {
		return h, errMagic
	}
	return h, nil
}

// appendReplyHeader appends the 20 bytes before the data of an option reply.
func appendReplyHeader(b []byte, option, kind uint32, length int) []byte {
	b = binary.BigEndian.AppendUint64(b, protocol.NEGOTIATION_MAGIC_REPLY)
	b = binary.BigEndian.AppendUint32(b, option)
	b = binary.BigEndian.AppendUint32(b, kind)
	return binary.BigEndian.AppendUint32(b, uint32(length))
}

// infoRequest is the data of the options INFO and GO.
type infoRequest struct {
	name  string
	wants []uint16
}

// decodeInfo reads the data of INFO or GO: 32-bit length, name, 16-bit count, so many 16-bit kinds, and nothing more.
func decodeInfo(b []byte) (q infoRequest, err error) {
	bad := func(kind blocktree.Kind, why string) (infoRequest, error) {
		return infoRequest{}, blocktree.E("nbd: info request", kind, errors.New(why))
	}
	if len(b) < 6 {
		return bad(blocktree.Invalid, "too short")
	}
	n := uint64(binary.BigEndian.Uint32(b))
	if n > blocktree.PathBytesMax {
		return bad(blocktree.TooLarge, fmt.Sprintf("a name of %d bytes", n))
	}
	if n > uint64(len(b)-6) {
		return bad(blocktree.Invalid, "the name is longer than the option")
	}
	q.name = string(b[4 : 4+n])
	b = b[4+n:]
	count := int(binary.BigEndian.Uint16(b))
	b = b[2:]
	if len(b) != 2*count {
		return bad(blocktree.Invalid, "the length does not match the number of kinds")
	}
	for i := range count {
		q.wants = append(q.wants, binary.BigEndian.Uint16(b[2*i:]))
	}
	return q, nil
}

// encode is the inverse of decodeInfo.
func (q infoRequest) encode() []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(q.name)))
	b = append(b, q.name...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(q.wants)))
	for _, w := range q.wants {
		b = binary.BigEndian.AppendUint16(b, w)
	}
	return b
}

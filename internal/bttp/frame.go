package bttp

import (
	"encoding/binary"
	"fmt"

	"blocktree"
)

// frameType says what a frame is.
type frameType uint8

const (
	frameHello   frameType = 1 // the first frame of each lane, in both directions: body is a hello
	frameRequest frameType = 2 // wants an answer
	frameReply   frameType = 3 // the answer
	frameFailure frameType = 4 // the answer is an error: kind, and its text as body; also refuses a hello
	frameOneWay  frameType = 5 // wants no answer
	framePing    frameType = 6 // says only that the sender lives; empty
	frameRelay   frameType = 7 // the first frame of a lane that is another's: body is a relayFrame, or none in the answer
	frameMeet    frameType = 8 // the first frame of a lane that comes of an ask: body is its token, or none in the answer
)

// fixedBytes is the length of the fixed part of a frame:
//
//	length  u32  of header and body together
//	type    u8
//	code    u16  of the message; an answer repeats that of its request
//	id      u64  of the request, chosen by its sender; 0 in frames that want no answer
//	kind    u8   of the error, in failures only
//	header  u16  length of the header
//
// and then the header and the body. All numbers are big-endian. The format's version is the ALPN protocol's.
const fixedBytes = 18

// failureBytesMax bounds the text of an error that crosses the wire.
const failureBytesMax = 512

// frame is the fixed part of a frame.
type frame struct {
	kind        frameType
	code        uint16
	id          uint64
	errorKind   blocktree.Kind
	headerBytes int
	bodyBytes   int
}

// append encodes f.
func (f frame) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(f.headerBytes+f.bodyBytes))
	b = append(b, byte(f.kind))
	b = binary.BigEndian.AppendUint16(b, f.code)
	b = binary.BigEndian.AppendUint64(b, f.id)
	b = append(b, byte(f.errorKind))
	return binary.BigEndian.AppendUint16(b, uint16(f.headerBytes))
}

// decodeFrame reads the fixed part from b, which has fixedBytes of it. Every length is within its bound afterwards.
// It fails with Invalid or TooLarge; the connection cannot go on then.
func decodeFrame(b []byte) (frame, error) {
	total := uint64(binary.BigEndian.Uint32(b))
	f := frame{kind: frameType(b[4]), code: binary.BigEndian.Uint16(b[5:]), id: binary.BigEndian.Uint64(b[7:]),
		errorKind: blocktree.Kind(b[15]), headerBytes: int(binary.BigEndian.Uint16(b[16:]))}
	bad := func(kind blocktree.Kind, format string, args ...any) (frame, error) {
		return frame{}, blocktree.E("frame", kind, fmt.Errorf(format, args...))
	}
	if f.headerBytes > blocktree.FrameHeaderBytesMax {
		return bad(blocktree.TooLarge, "header of %d bytes, at most %d", f.headerBytes, blocktree.FrameHeaderBytesMax)
	}
	if total < uint64(f.headerBytes) {
		return bad(blocktree.Invalid, "header longer than the frame")
	}
	body := total - uint64(f.headerBytes)
	if body > f.bodyBytesMax() {
		return bad(blocktree.TooLarge, "body of %d bytes, at most %d", body, f.bodyBytesMax())
	}
	f.bodyBytes = int(body)
	ok := false
	switch f.kind {
	case frameHello:
		ok = f.id == 0 && f.code == 0 && f.errorKind == 0 && f.headerBytes == 0
	case frameRequest, frameReply:
		ok = f.id != 0 && f.errorKind == 0
	case frameFailure:
		ok = f.headerBytes == 0
	case frameOneWay:
		ok = f.id == 0 && f.errorKind == 0
	case framePing:
		ok = f == frame{kind: framePing}
	case frameRelay, frameMeet:
		ok = f.id == 0 && f.code == 0 && f.errorKind == 0 && f.headerBytes == 0
	}
	if !ok {
		return bad(blocktree.Invalid, "type %d with fields that it does not have", f.kind)
	}
	return f, nil
}

// bodyBytesMax is the bound of the body by the frame's type.
func (f frame) bodyBytesMax() uint64 {
	switch f.kind {
	case frameHello:
		return helloBytesMax
	case frameFailure:
		return failureBytesMax
	case frameRelay:
		return uint64(relayBytes)
	case frameMeet:
		return uint64(meetBytes)
	default:
		return blocktree.FrameBodyBytesMax
	}
}

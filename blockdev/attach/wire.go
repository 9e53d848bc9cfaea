package attach

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"unicode"

	"blocktree"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// What go-nbd does not name, with the names of the protocol document.
const (
	flagNoZeroes     = uint16(1 << 1)
	clientFixedNew   = uint32(1 << 0)
	clientNoZeroes   = uint32(1 << 1)
	greetingBytes    = 18
	optionReplyBytes = 20
	errBit           = uint32(1 << 31)
	errPolicy        = errBit | 2
	errTLSRequired   = errBit | 5
	errShutdown      = errBit | 7
	errBlockSize     = errBit | 8
	sizeUnlimited    = uint32(1<<32 - 1)

	// replyBytesMax bounds the data of one option reply, far above a name of 4,096 bytes; repliesMax how many come for one option.
	replyBytesMax = 64 << 10
	repliesMax    = 64
)

// What the kernel goes by.
const (
	// FlagReadOnly and the others are transmission flags, as the server tells them and the kernel takes them.
	FlagReadOnly  = uint16(1 << 1)
	FlagFlush     = uint16(1 << 2)
	FlagFUA       = uint16(1 << 3)
	FlagTrim      = uint16(1 << 5)
	FlagZeroes    = uint16(1 << 6)
	FlagMultiConn = uint16(1 << 8)
)

// greeting is what a server says first.
type greeting struct{ noZeroes bool }

// decodeGreeting reads the 18 bytes before everything else. A server without fixed newstyle is refused: it knows no GO.
func decodeGreeting(b []byte) (g greeting, err error) {
	if len(b) != greetingBytes || binary.BigEndian.Uint64(b) != protocol.NEGOTIATION_MAGIC_OLDSTYLE {
		return g, notNBD("it does not begin as NBD does")
	}
	if binary.BigEndian.Uint64(b[8:]) != protocol.NEGOTIATION_MAGIC_OPTION {
		return g, old("it speaks oldstyle NBD")
	}
	flags := binary.BigEndian.Uint16(b[16:])
	if flags&protocol.NEGOTIATION_HANDSHAKE_FLAG_FIXED_NEWSTYLE == 0 {
		return g, old("it does not speak fixed newstyle NBD")
	}
	return greeting{noZeroes: flags&flagNoZeroes != 0}, nil
}

func notNBD(why string) error {
	return &blocktree.Error{Op: "handshake", Kind: blocktree.Invalid, Err: errors.New(why), Hint: "see whether an NBD server listens there"}
}

func old(why string) error {
	return &blocktree.Error{Op: "handshake", Kind: blocktree.Unsupported, Err: errors.New(why), Hint: "attach works with btnbd serve and other servers of today"}
}

// replyHeader is the 20 bytes before the data of an option reply.
type replyHeader struct {
	kind   uint32
	length uint32
}

// decodeReplyHeader reads the header of a reply to option; its length is within bounds.
func decodeReplyHeader(b []byte, option uint32) (h replyHeader, err error) {
	if len(b) != optionReplyBytes || binary.BigEndian.Uint64(b) != protocol.NEGOTIATION_MAGIC_REPLY {
		return h, notNBD("a reply has the wrong magic number")
	}
	if got := binary.BigEndian.Uint32(b[8:]); got != option {
		return h, notNBD(fmt.Sprintf("a reply to option %d instead of %d", got, option))
	}
	h = replyHeader{kind: binary.BigEndian.Uint32(b[12:]), length: binary.BigEndian.Uint32(b[16:])}
	if h.length > replyBytesMax {
		return h, notNBD(fmt.Sprintf("a reply of %d bytes", h.length))
	}
	return h, nil
}

// appendRequest appends INFO or GO for an export, with the kinds of information that are wanted.
func appendRequest(b []byte, option uint32, export string, wants ...uint16) []byte {
	b = binary.BigEndian.AppendUint64(b, protocol.NEGOTIATION_MAGIC_OPTION)
	b = binary.BigEndian.AppendUint32(b, option)
	b = binary.BigEndian.AppendUint32(b, uint32(4+len(export)+2+2*len(wants)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(export)))
	b = append(b, export...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(wants)))
	for _, w := range wants {
		b = binary.BigEndian.AppendUint16(b, w)
	}
	return b
}

// Export is what a server says about an export.
type Export struct {
	SizeBytes         uint64
	Flags             uint16 // transmission flags
	BlockBytesMin     uint32 // 1 where the server does not say, likewise below
	BlockBytesBest    uint32
	PayloadBytesMax   uint32
	Name, Description string // as far as the server says
	told              map[uint16]bool
}

// decodeInfo adds the data of one INFO reply. Each kind comes at most once; unknown kinds are passed over.
func (e *Export) decodeInfo(b []byte) error {
	if len(b) < 2 {
		return notNBD("an information without its kind")
	}
	kind, b := binary.BigEndian.Uint16(b), b[2:]
	switch kind {
	case protocol.NEGOTIATION_TYPE_INFO_EXPORT, protocol.NEGOTIATION_TYPE_INFO_BLOCKSIZE, protocol.NEGOTIATION_TYPE_INFO_NAME,
		protocol.NEGOTIATION_TYPE_INFO_DESCRIPTION:
	default:
		return nil
	}
	if e.told[kind] {
		return notNBD(fmt.Sprintf("information %d twice", kind))
	}
	if e.told == nil {
		e.told = make(map[uint16]bool)
	}
	e.told[kind] = true
	switch kind {
	case protocol.NEGOTIATION_TYPE_INFO_EXPORT:
		return e.decodeExport(b)
	case protocol.NEGOTIATION_TYPE_INFO_BLOCKSIZE:
		return e.decodeBlockSize(b)
	}
	if len(b) > blocktree.PathBytesMax {
		return notNBD(fmt.Sprintf("a name or description of %d bytes", len(b)))
	}
	if kind == protocol.NEGOTIATION_TYPE_INFO_NAME {
		e.Name = printable(b)
	} else {
		e.Description = printable(b)
	}
	return nil
}

func (e *Export) decodeExport(b []byte) error {
	if len(b) != 10 {
		return notNBD(fmt.Sprintf("size and flags in %d bytes", len(b)))
	}
	e.SizeBytes, e.Flags = binary.BigEndian.Uint64(b), binary.BigEndian.Uint16(b[8:])
	switch {
	case e.SizeBytes > 1<<63-1:
		return notNBD("a size of more than 2^63 bytes")
	case e.Flags&protocol.NEGOTIATION_REPLY_FLAGS_HAS_FLAGS == 0:
		return notNBD("flags that say of themselves that they are none")
	}
	return nil
}

func (e *Export) decodeBlockSize(b []byte) error {
	if len(b) != 12 {
		return notNBD(fmt.Sprintf("block sizes in %d bytes", len(b)))
	}
	low, best, high := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	switch {
	case bits.OnesCount32(low) != 1 || low > 64<<10, bits.OnesCount32(best) != 1 || best < low || best < 512,
		high < low || high != sizeUnlimited && high%low != 0:
		return notNBD(fmt.Sprintf("block sizes %d, %d, %d", low, best, high))
	}
	e.BlockBytesMin, e.BlockBytesBest, e.PayloadBytesMax = low, best, high
	return nil
}

// printable is a text of a server, fit for a log or terminal.
func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(string(b), "?"))
}

// refusal is what an error reply to GO or INFO means here.
func refusal(kind uint32, text []byte) error {
	e := &blocktree.Error{Op: "handshake", Kind: blocktree.Unavailable, Err: fmt.Errorf("the server refuses with error %d", kind&^errBit),
		Hint: "see the server's log"}
	switch kind {
	case protocol.NEGOTIATION_TYPE_REPLY_ERR_UNKNOWN:
		e.Kind, e.Err, e.Hint = blocktree.NotFound, errors.New("the server has no such export"),
			"write the path as the server's configuration has it; `nbdinfo --list` shows what a server exports"
	case protocol.NEGOTIATION_TYPE_REPLY_ERR_UNSUPPORTED:
		e.Kind, e.Err, e.Hint = blocktree.Unsupported, errors.New("the server does not know the option GO"),
			"attach works with btnbd serve and other servers of today"
	case errPolicy:
		e.Kind, e.Err, e.Hint = blocktree.Permission, errors.New("the server does not allow it"),
			"an export takes 16 connections; the server's log may say more"
	case errTLSRequired:
		e.Kind, e.Err, e.Hint = blocktree.Unsupported, errors.New("the server asks for TLS"), hintTLS
	case errBlockSize:
		e.Kind, e.Err, e.Hint = blocktree.Unsupported, errors.New("the server asks for blocks that the kernel does not have"), "use a btnbd server"
	case errShutdown:
		e.Err, e.Hint = errors.New("the server is stopping"), "try again when it runs"
	}
	if len(text) > 0 && len(text) <= blocktree.PathBytesMax {
		e.Err = fmt.Errorf("%w: %s", e.Err, printable(text))
	}
	return e
}

// hintTLS says what to do where a connection would have to be encrypted.
const hintTLS = "the kernel needs the plain socket, so attach has no TLS yet; use a unix socket, or a tunnel such as WireGuard"

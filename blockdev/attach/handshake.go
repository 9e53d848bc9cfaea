package attach

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"blocktree"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// choose chooses the export for good: afterwards the connection is the kernel's, byte for byte, because nothing is read past the
// reply. It is bounded by NBDNegotiationTimeout.
func choose(nc net.Conn, export string) (*Export, error) {
	e, err := negotiate(nc, export, protocol.NEGOTIATION_ID_OPTION_GO)
	if err != nil {
		return nil, err
	}
	return e, nc.SetDeadline(time.Time{})
}

// info asks about the export and leaves.
func info(nc net.Conn, export string) (*Export, error) {
	e, err := negotiate(nc, export, protocol.NEGOTIATION_ID_OPTION_INFO)
	if err != nil {
		return nil, err
	}
	abort := binary.BigEndian.AppendUint64(nil, protocol.NEGOTIATION_MAGIC_OPTION)
	abort = binary.BigEndian.AppendUint32(abort, protocol.NEGOTIATION_ID_OPTION_ABORT)
	nc.Write(binary.BigEndian.AppendUint32(abort, 0)) // out of politeness: closing says it too
	return e, nil
}

// negotiate is the handshake up to the answer to option, which is GO or INFO.
func negotiate(nc net.Conn, export string, option uint32) (*Export, error) {
	if len(export) > blocktree.PathBytesMax {
		return nil, blocktree.E("handshake", blocktree.TooLarge, fmt.Errorf("a path of %d bytes", len(export)))
	}
	if err := nc.SetDeadline(time.Now().Add(blocktree.NBDNegotiationTimeout)); err != nil {
		return nil, lost(err)
	}
	var first [greetingBytes]byte
	if _, err := io.ReadFull(nc, first[:]); err != nil {
		return nil, lost(err)
	}
	g, err := decodeGreeting(first[:])
	if err != nil {
		return nil, err
	}
	flags := clientFixedNew
	if g.noZeroes {
		flags |= clientNoZeroes
	}
	say := binary.BigEndian.AppendUint32(nil, flags)
	say = appendRequest(say, option, export, protocol.NEGOTIATION_TYPE_INFO_BLOCKSIZE, protocol.NEGOTIATION_TYPE_INFO_NAME,
		protocol.NEGOTIATION_TYPE_INFO_DESCRIPTION)
	if _, err := nc.Write(say); err != nil {
		return nil, lost(err)
	}
	e := &Export{BlockBytesMin: 1, BlockBytesBest: 4096, PayloadBytesMax: sizeUnlimited}
	for range repliesMax {
		done, err := e.reply(nc, option)
		if err != nil {
			return nil, err
		}
		if done {
			return e, nil
		}
	}
	return nil, notNBD(fmt.Sprintf("more than %d replies to one option", repliesMax))
}

// reply takes one reply; done means that it was the last one, and that all is known.
func (e *Export) reply(r io.Reader, option uint32) (done bool, err error) {
	var head [optionReplyBytes]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return false, lost(err)
	}
	h, err := decodeReplyHeader(head[:], option)
	if err != nil {
		return false, err
	}
	data := make([]byte, h.length)
	if _, err := io.ReadFull(r, data); err != nil {
		return false, lost(err)
	}
	switch {
	case h.kind&errBit != 0:
		return false, refusal(h.kind, data)
	case h.kind == protocol.NEGOTIATION_TYPE_REPLY_INFO:
		return false, e.decodeInfo(data)
	case h.kind != protocol.NEGOTIATION_TYPE_REPLY_ACK:
		return false, notNBD(fmt.Sprintf("a reply of unknown kind %d", h.kind))
	case len(data) != 0:
		return false, notNBD("an acknowledgement with data")
	case !e.told[protocol.NEGOTIATION_TYPE_INFO_EXPORT]:
		return false, notNBD("an acknowledgement before size and flags")
	}
	return true, nil
}

// lost is the error of a connection that fails during the handshake: trying again may help.
func lost(err error) error {
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return &blocktree.Error{Op: "handshake", Kind: blocktree.Timeout, Err: errors.New("no answer in time"),
			Hint: "see whether an NBD server listens there, and whether it is overloaded"}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the server closed the connection")
	}
	return &blocktree.Error{Op: "handshake", Kind: blocktree.Unavailable, Err: err, Hint: "see whether the server runs, and what its log says"}
}

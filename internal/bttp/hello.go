package bttp

import (
	"fmt"
	"slices"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/internal/wire"
)

// alpn is the protocol that TLS agrees on; its number is the version of frames and hello.
const alpn = "blocktree/1"

// formatHello is the version byte of a hello.
const formatHello = 1

// helloBytesMax bounds the body of a hello.
const helloBytesMax = blocktree.CredentialBytesMax + 64

// connID names a connection across its lanes; the dialer draws it at random.
type connID [16]byte

// hello is the first frame of a lane. The dialer's on lane 0 opens a connection and carries its credentials, on
// other lanes it joins one; the other side answers in kind.
type hello struct {
	conn  connID
	lane  int
	lanes int // how many the dialer will open
	chain cred.Credentials
}

// encode returns the body of the frame.
func (h *hello) encode() []byte {
	var e wire.Encoder
	e.U8(formatHello)
	e.Raw(h.conn[:])
	e.U8(uint8(h.lane))
	e.U8(uint8(h.lanes))
	e.Bool(len(h.chain) > 0)
	if len(h.chain) > 0 {
		e.Bytes(h.chain.Encode())
	}
	return e.Buf
}

// decodeHello reads the body of a hello frame. It keeps nothing of b.
func decodeHello(b []byte) (hello, error) {
	var h hello
	d := wire.NewDecoder(b)
	d.Format(formatHello)
	copy(h.conn[:], d.Raw(len(h.conn)))
	h.lane, h.lanes = int(d.U8()), int(d.U8())
	if d.Bool() {
		chain, err := cred.Decode(slices.Clone(d.Bytes(blocktree.CredentialBytesMax)))
		if err != nil && d.Err() == nil {
			d.Fail(err)
		}
		if len(chain) == 0 {
			d.Fail(blocktree.E("hello", blocktree.Invalid, fmt.Errorf("an empty chain")))
		}
		h.chain = chain
	}
	if d.Err() == nil && (h.lanes < 1 || h.lanes > blocktree.LanesMax || h.lane >= h.lanes) {
		d.Fail(blocktree.E("hello", blocktree.Invalid, fmt.Errorf("lane %d of %d", h.lane, h.lanes)))
	}
	if err := d.Finish(); err != nil {
		return hello{}, &blocktree.Error{Op: "hello", Err: err}
	}
	return h, nil
}

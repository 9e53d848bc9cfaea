package keys

import (
	"errors"
	"fmt"
	"slices"

	"blocktree"
	"blocktree/internal/wire"
)

// The formats of an Access. The first had no number, and nobody had signed it.
const (
	accessFormatUnsigned = 1
	accessFormat         = 2
)

const (
	signatureBytes = 64
	readerBytes    = 1 + HybridKeyBytes + 1088 + 32 + wrappedBytes
	unsignedBytes  = PublicKeyBytes + 32 + wrappedBytes // a wrap of the first format
	olderBytes     = 4 + wrappedBytes
)

// inheritedFlag is added to the kind of a reader that is a directory above.
const inheritedFlag = 0x80

// AccessBytesMax bounds an encoded Access.
const AccessBytesMax = 1 + 1 + KeyIDBytes + 4 + 8 + (4 + blocktree.PathBytesMax) + 4 + 8 + 1 + HybridKeyBytes + 4 + OlderKeysMax*olderBytes +
	4 + ReadersMax*readerBytes + (4 + blocktree.CredentialBytesMax) + (4 + signatureBytes)

// signatureContext keeps a signature over a record from meaning anything else.
const signatureContext = "blocktree access record\x00"

// Signed returns what is signed: everything but the signature.
func (a *Access) Signed() []byte {
	e := wire.Encoder{Buf: []byte(signatureContext)}
	a.body(&e)
	return e.Buf
}

// Append encodes a at the end of b, in the format that it had: a record with number 0 in the first.
func (a *Access) Append(b []byte) []byte {
	e := wire.Encoder{Buf: b}
	if a.Number == 0 {
		a.unsigned(&e)
		return e.Buf
	}
	a.body(&e)
	e.Bytes(a.Signature)
	return e.Buf
}

func (a *Access) body(e *wire.Encoder) {
	e.U8(accessFormat)
	e.U8(a.Suite)
	e.Raw(a.KeyID[:])
	e.U32(a.Generation)
	e.U64(a.Number)
	e.String(string(a.Path))
	e.U32(a.Owner)
	e.U64(uint64(a.Made))
	putPublicKey(e, a.Directory)
	e.U32(uint32(len(a.Older)))
	for i := range a.Older {
		e.U32(a.Older[i].Generation)
		e.Raw(a.Older[i].Key[:])
	}
	e.U32(uint32(len(a.Readers)))
	for i := range a.Readers {
		w := &a.Readers[i]
		at := len(e.Buf)
		putPublicKey(e, w.Reader)
		if w.Inherited {
			e.Buf[at] |= inheritedFlag
		}
		e.Raw(w.Encapsulated)
		e.Raw(w.Key[:])
	}
	e.Bytes(a.Signer)
}

// unsigned writes the first format: X25519 wraps, and nothing of older generations.
func (a *Access) unsigned(e *wire.Encoder) {
	e.U8(accessFormatUnsigned)
	e.U8(a.Suite)
	e.Raw(a.KeyID[:])
	e.U32(a.Generation)
	e.U32(uint32(len(a.Readers)))
	for i := range a.Readers {
		w := &a.Readers[i]
		e.Raw([]byte(w.Reader.raw))
		e.Raw(w.Encapsulated)
		e.Raw(w.Key[:])
	}
}

func putPublicKey(e *wire.Encoder, p PublicKey) {
	e.U8(uint8(p.kind))
	e.Raw([]byte(p.raw))
}

// getPublicKey reads a key that may be nobody's.
func getPublicKey(d *wire.Decoder) PublicKey { return getKeyOf(d, KeyKind(d.U8())) }

func getKeyOf(d *wire.Decoder, kind KeyKind) PublicKey {
	a, ok := kind.algorithm()
	if !ok && kind != 0 {
		d.Fail(blocktree.E("decode", blocktree.NewerFormat, fmt.Errorf("a key of kind %d", kind)))
	}
	return PublicKey{kind, string(d.Raw(a.publicBytes))}
}

// NumberOf is the number of an encoded record, 0 for one of the first format, none, or what is no record.
func NumberOf(record []byte) uint64 {
	d := wire.NewDecoder(record)
	if d.U8() != accessFormat {
		return 0
	}
	d.Raw(1 + KeyIDBytes + 4)
	n := d.U64()
	if d.Err() != nil {
		return 0
	}
	return n
}

// DecodeAccess reads what Append wrote; b is not kept. Kinds: Invalid, TooLarge, NewerFormat.
func DecodeAccess(b []byte) (*Access, error) {
	const op = "keys.DecodeAccess"
	if len(b) > AccessBytesMax {
		return nil, blocktree.E(op, blocktree.TooLarge, fmt.Errorf("%d bytes, at most %d", len(b), AccessBytesMax))
	}
	d := wire.NewDecoder(b)
	a := &Access{}
	if len(b) > 0 && b[0] == accessFormatUnsigned {
		a.getUnsigned(d)
	} else {
		a.get(d)
	}
	if d.Err() == nil && a.Generation > GenerationMax {
		invalid(d, "a generation that cannot be")
	}
	if err := d.Finish(); err != nil {
		return nil, &blocktree.Error{Op: op, Err: err}
	}
	return a, nil
}

func invalid(d *wire.Decoder, why string) {
	d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New(why)))
}

func (a *Access) get(d *wire.Decoder) {
	d.Format(accessFormat)
	a.Suite = d.U8()
	copy(a.KeyID[:], d.Raw(KeyIDBytes))
	a.Generation, a.Number = d.U32(), d.U64()
	a.Path = blocktree.Path(d.String(blocktree.PathBytesMax))
	a.Owner, a.Made = d.U32(), int64(d.U64())
	a.Directory = getPublicKey(d)
	if d.Err() == nil && (a.Number == 0 || a.Generation == 0) {
		invalid(d, "numbers begin at 1")
	}
	last := uint32(0)
	for n := d.Count(OlderKeysMax); n > 0 && d.Err() == nil; n-- {
		o := OlderKey{Generation: d.U32()}
		copy(o.Key[:], d.Raw(wrappedBytes))
		if d.Err() == nil && (o.Generation <= last || o.Generation >= a.Generation) {
			invalid(d, "older generations out of order")
		}
		last = o.Generation
		a.Older = append(a.Older, o)
	}
	for n := d.Count(ReadersMax); n > 0 && d.Err() == nil; n-- {
		kind := d.U8()
		w := Wrapped{Reader: getKeyOf(d, KeyKind(kind&^inheritedFlag)), Inherited: kind&inheritedFlag != 0}
		if d.Err() == nil && w.Reader.IsZero() {
			invalid(d, "wrapped to nobody")
		}
		w.Encapsulated = slices.Clone(d.Raw(w.Reader.algorithm().encapsulatedBytes))
		copy(w.Key[:], d.Raw(wrappedBytes))
		a.Readers = append(a.Readers, w)
	}
	a.Signer = slices.Clone(d.Bytes(blocktree.CredentialBytesMax))
	a.Signature = slices.Clone(d.Bytes(signatureBytes))
	if n := len(a.Signature); d.Err() == nil && n != 0 && n != signatureBytes {
		invalid(d, "not a signature")
	}
}

func (a *Access) getUnsigned(d *wire.Decoder) {
	d.Format(accessFormatUnsigned)
	a.Suite = d.U8()
	copy(a.KeyID[:], d.Raw(KeyIDBytes))
	a.Generation = d.U32()
	n := d.Count(ReadersMax)
	if d.Err() == nil && d.Len() != n*unsignedBytes {
		invalid(d, fmt.Sprintf("%d wraps in %d bytes", n, d.Len()))
	}
	for ; n > 0 && d.Err() == nil; n-- {
		var w Wrapped
		w.Reader = PublicKey{X25519, string(d.Raw(PublicKeyBytes))}
		w.Encapsulated = slices.Clone(d.Raw(32))
		copy(w.Key[:], d.Raw(wrappedBytes))
		a.Readers = append(a.Readers, w)
	}
}

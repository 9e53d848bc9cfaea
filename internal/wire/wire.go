package wire

import (
	"encoding/binary"
	"fmt"

	"blocktree"
)

// Encoder appends values to Buf, which may be a caller's buffer with room in it. The zero Encoder is ready.
type Encoder struct{ Buf []byte }

// U8 appends one byte.
func (e *Encoder) U8(v uint8) { e.Buf = append(e.Buf, v) }

// Bool appends 1 or 0.
func (e *Encoder) Bool(v bool) {
	if v {
		e.U8(1)
	} else {
		e.U8(0)
	}
}

// U16 appends two bytes, the higher first, as do U32 and U64.
func (e *Encoder) U16(v uint16) { e.Buf = binary.BigEndian.AppendUint16(e.Buf, v) }

// U32 appends four bytes.
func (e *Encoder) U32(v uint32) { e.Buf = binary.BigEndian.AppendUint32(e.Buf, v) }

// U64 appends eight bytes.
func (e *Encoder) U64(v uint64) { e.Buf = binary.BigEndian.AppendUint64(e.Buf, v) }

// Raw appends b without a length.
func (e *Encoder) Raw(b []byte) { e.Buf = append(e.Buf, b...) }

// Bytes appends the 32-bit length of b, then b.
func (e *Encoder) Bytes(b []byte) {
	e.U32(uint32(len(b)))
	e.Raw(b)
}

// String appends s as Bytes does.
func (e *Encoder) String(s string) {
	e.U32(uint32(len(s)))
	e.Buf = append(e.Buf, s...)
}

// Version appends a sector version: epoch, sequence.
func (e *Encoder) Version(v blocktree.Version) {
	e.U64(uint64(v.Epoch))
	e.U64(uint64(v.Sequence))
}

// File appends a file's identity: generation, inode.
func (e *Encoder) File(f blocktree.FileID) {
	e.U64(uint64(f.Generation))
	e.U64(uint64(f.Inode))
}

// Decoder reads values off the front of a slice. The first failure sticks: later reads return zeros, so a codec
// reads all its fields and asks Finish once.
type Decoder struct {
	rest []byte
	err  error
}

// NewDecoder reads b, which must not change while slices returned by Raw and Bytes are in use: they alias it.
func NewDecoder(b []byte) *Decoder { return &Decoder{rest: b} }

// Fail makes the decoder fail with err unless it failed before.
func (d *Decoder) Fail(err error) {
	if d.err == nil {
		d.err = err
		d.rest = nil
	}
}

// Err returns the first failure.
func (d *Decoder) Err() error { return d.err }

// Len is the number of bytes left.
func (d *Decoder) Len() int { return len(d.rest) }

// Finish returns the first failure, or an error when bytes are left over.
func (d *Decoder) Finish() error {
	if d.err == nil && len(d.rest) > 0 {
		d.Fail(blocktree.E("decode", blocktree.Invalid, fmt.Errorf("%d bytes left over", len(d.rest))))
	}
	return d.err
}

// Raw returns the next n bytes, aliasing the input; nil after a failure.
func (d *Decoder) Raw(n int) []byte {
	if d.err != nil {
		return nil
	}
	if n < 0 || n > len(d.rest) {
		d.Fail(blocktree.E("decode", blocktree.Invalid, fmt.Errorf("%d bytes wanted, %d left", n, len(d.rest))))
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

// U8 reads one byte.
func (d *Decoder) U8() uint8 {
	if b := d.Raw(1); b != nil {
		return b[0]
	}
	return 0
}

// Bool reads 0 or 1; any other byte is an error, so that every value has one encoding.
func (d *Decoder) Bool() bool {
	v := d.U8()
	if v > 1 {
		d.Fail(blocktree.E("decode", blocktree.Invalid, fmt.Errorf("byte %d is not a truth value", v)))
	}
	return v == 1
}

// U16 reads two bytes.
func (d *Decoder) U16() uint16 {
	if b := d.Raw(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// U32 reads four bytes.
func (d *Decoder) U32() uint32 {
	if b := d.Raw(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// U64 reads eight bytes.
func (d *Decoder) U64() uint64 {
	if b := d.Raw(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Bytes reads a 32-bit length of at most max, and that many bytes, aliasing the input.
func (d *Decoder) Bytes(max int) []byte { return d.Raw(d.Count(max)) }

// String reads what Encoder.String wrote, of at most max bytes.
func (d *Decoder) String(max int) string { return string(d.Bytes(max)) }

// Count reads a 32-bit count of at most max. A caller that allocates count elements must also know that each takes
// at least one byte of what is left, or bound max by what it is willing to allocate.
func (d *Decoder) Count(max int) int {
	n := d.U32()
	if d.err == nil && uint64(n) > uint64(max) {
		d.Fail(blocktree.E("decode", blocktree.TooLarge, fmt.Errorf("length %d, at most %d", n, max)))
		return 0
	}
	return int(n)
}

// Format reads the version byte of a format and fails unless it is want: NewerFormat if it is greater.
func (d *Decoder) Format(want uint8) {
	if v := d.U8(); d.err == nil && v != want {
		kind := blocktree.Invalid
		if v > want {
			kind = blocktree.NewerFormat
		}
		d.Fail(blocktree.E("decode", kind, fmt.Errorf("format %d, this software reads %d", v, want)))
	}
}

// Version reads a sector version.
func (d *Decoder) Version() blocktree.Version {
	return blocktree.Version{Epoch: blocktree.Epoch(d.U64()), Sequence: blocktree.Sequence(d.U64())}
}

// File reads a file's identity.
func (d *Decoder) File() blocktree.FileID {
	return blocktree.FileID{Generation: blocktree.Generation(d.U64()), Inode: blocktree.Inode(d.U64())}
}

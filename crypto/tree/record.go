package tree

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"errors"

	"blocktree"
	"blocktree/internal/wire"
)

// RecordBytes is the length of an encoded record of a file that has its first size.
const RecordBytes = bodyBytes + ed25519.SignatureSize + sha256.Size

// bodyBytes: format, file, number, line, random, epoch, key generation, sectors, two roots, hash of the record before, public key.
const bodyBytes = 1 + 16 + 8 + 8 + 16 + 8 + 4 + 8 + 2*EntryBytes + 32 + ed25519.PublicKeySize

// Of recordFormat 1 the base is that of its sectors; recordResized, which follows the public key with it, says that it is another one.
const (
	recordFormat  = 1
	recordResized = 2
)

// signedAs begins what is signed, so that no signature of another use is one of a record.
const signedAs = "blocktree freshness record 1\x00"

// Record states the floors of all sectors of a file at one moment. It is a value.
type Record struct {
	File       blocktree.FileID
	Number     uint64   // 1, 2, ...
	Line       uint64   // below LinesMax; 0 is the first
	Random     [16]byte // drawn for the line
	Epoch      blocktree.Epoch
	Generation uint32 // of the key that the MAC is under
	Sectors    uint64 // that the file had: what is behind them has no floor
	Base       uint64 // sectors that it had at its first record, by which pages have their places
	Roots      [2]Ref
	Before     [32]byte // Hash of record Number-1, zeros for the first
	Signer     [ed25519.PublicKeySize]byte
	signature  [ed25519.SignatureSize]byte
	mac        [sha256.Size]byte
}

// encodeBody appends all but signature and MAC.
func (r *Record) encodeBody(b []byte) []byte {
	e := wire.Encoder{Buf: b}
	if r.Base == r.Sectors {
		e.U8(recordFormat)
	} else {
		e.U8(recordResized)
	}
	e.File(r.File)
	e.U64(r.Number)
	e.U64(r.Line)
	e.Raw(r.Random[:])
	e.U64(uint64(r.Epoch))
	e.U32(r.Generation)
	e.U64(r.Sectors)
	e.Raw(r.Roots[Floors][:])
	e.Raw(r.Roots[History][:])
	e.Raw(r.Before[:])
	e.Raw(r.Signer[:])
	if r.Base != r.Sectors {
		e.U64(r.Base)
	}
	return e.Buf
}

// Shape is where the pages of the record's trees lie.
func (r *Record) Shape() Shape {
	s := NewShape(r.Base)
	return s.Resized(r.Sectors)
}

// Append encodes a record that was sealed or decoded.
func (r *Record) Append(b []byte) []byte {
	return append(append(r.encodeBody(b), r.signature[:]...), r.mac[:]...)
}

// Hash names the record: SHA-256 over its encoding.
func (r *Record) Hash() [32]byte { return sha256.Sum256(r.Append(nil)) }

// Seal signs the record and authenticates it with key, which is that of its key generation. sign signs for Signer.
func (r *Record) Seal(key [32]byte, sign func(message []byte) []byte) {
	body := r.encodeBody(nil)
	copy(r.signature[:], sign(append([]byte(signedAs), body...)))
	r.mac = mac(key, append(body, r.signature[:]...))
}

// mac is the HMAC-SHA256 of body and signature.
func mac(key [32]byte, b []byte) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, key[:])
	h.Write(b)
	h.Sum(sum[:0])
	return sum
}

// Verify reports whether the record is one of file, which has so many sectors, or was smaller, made by somebody with key and with the private key of Signer. Kind Corrupt.
func (r *Record) Verify(key [32]byte, file blocktree.FileID, sectors uint64) error {
	bad := func(why string) error { return blocktree.E("integrity record", blocktree.Corrupt, errors.New(why)) }
	body := r.encodeBody(nil)
	want := mac(key, append(body[:len(body):len(body)], r.signature[:]...))
	switch {
	case !hmac.Equal(want[:], r.mac[:]):
		return bad("nobody who may read the file made it")
	case !ed25519.Verify(r.Signer[:], append([]byte(signedAs), body...), r.signature[:]):
		return bad("its signature is wrong")
	case r.File != file:
		return bad("it is of another file")
	case r.Sectors > sectors: // before a file gets smaller there is a record of that
		return bad("it is of a larger file")
	}
	return nil
}

// DecodeRecord reads what Append wrote; b is not kept. It verifies neither MAC nor signature. Kinds: Invalid, NewerFormat.
func DecodeRecord(b []byte) (*Record, error) {
	d := wire.NewDecoder(b)
	format := uint8(recordResized)
	if len(b) > 0 && b[0] == recordFormat {
		format = recordFormat
	}
	d.Format(format)
	r := &Record{File: d.File(), Number: d.U64(), Line: d.U64()}
	copy(r.Random[:], d.Raw(len(r.Random)))
	r.Epoch, r.Generation, r.Sectors = blocktree.Epoch(d.U64()), d.U32(), d.U64()
	copy(r.Roots[Floors][:], d.Raw(EntryBytes))
	copy(r.Roots[History][:], d.Raw(EntryBytes))
	copy(r.Before[:], d.Raw(len(r.Before)))
	copy(r.Signer[:], d.Raw(len(r.Signer)))
	if r.Base = r.Sectors; format == recordResized {
		r.Base = d.U64()
	}
	copy(r.signature[:], d.Raw(len(r.signature)))
	copy(r.mac[:], d.Raw(len(r.mac)))
	if err := d.Finish(); err != nil {
		return nil, err
	}
	if r.Number == 0 || r.Line >= LinesMax || r.Number <= r.Line || !r.Roots[Floors].valid() || !r.Roots[History].valid() ||
		r.Sectors == 0 || r.Sectors > SectorsMax || r.Base == 0 || r.Base > SectorsMax || format == recordResized && r.Base == r.Sectors {
		return nil, blocktree.E("integrity record", blocktree.Invalid, errors.New("it makes no sense"))
	}
	return r, nil
}

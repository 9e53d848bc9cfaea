package keys

import (
	"crypto/hpke"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"blocktree"
	"blocktree/internal/wire"
)

// ReadersMax bounds the wraps of one Access: it travels in a Raft command and lies in every inode. Many readers share a
// directory's key (DESIGN section 7), not an Access.
const ReadersMax = 64

const (
	accessFormat = 1

	encapsulatedBytes = 32
	wrappedBytes      = FileKeyBytes + 16
	readerBytes       = PublicKeyBytes + encapsulatedBytes + wrappedBytes
)

// AccessBytesMax bounds an encoded Access.
const AccessBytesMax = 1 + 1 + KeyIDBytes + 4 + 4 + ReadersMax*readerBytes

// Access says how a file is sealed and holds its key, wrapped to each reader. It is not secret. It is a value: nothing
// changes it after Create or DecodeAccess.
type Access struct {
	Suite      uint8 // a seal.Suite; not judged here
	KeyID      KeyID
	Generation uint32 // of the key, from 1
	Readers    []Wrapped
}

// Wrapped is a file key that only Reader's secret half opens.
type Wrapped struct {
	Reader       PublicKey
	Encapsulated [encapsulatedBytes]byte
	Key          [wrappedBytes]byte
}

// Create draws a file key and wraps it to readers, at most ReadersMax, each once. A file without encryption has an Access
// without readers. It fails with kind Invalid for a public key that is none or named twice, TooLarge for too many.
func Create(suite uint8, readers []PublicKey) (*Access, FileKey, error) {
	a := &Access{Suite: suite, Generation: 1}
	rand.Read(a.KeyID[:])
	key := NewFileKey()
	if len(readers) > ReadersMax {
		return nil, FileKey{}, blocktree.E("keys.Create", blocktree.TooLarge, fmt.Errorf("%d readers, at most %d", len(readers), ReadersMax))
	}
	seen := map[PublicKey]bool{}
	for _, r := range readers {
		if seen[r] {
			return nil, FileKey{}, blocktree.E("keys.Create", blocktree.Invalid, fmt.Errorf("reader %v is named twice", r))
		}
		seen[r] = true
		w, err := a.wrap(key, r)
		if err != nil {
			return nil, FileKey{}, err
		}
		a.Readers = append(a.Readers, w)
	}
	return a, key, nil
}

// Open unwraps the file key with a reader's secret. It fails with kind Permission when nothing is wrapped to the reader,
// Corrupt when what is wrapped does not open: damaged, or moved from another file, suite or generation.
func (a *Access) Open(reader *ReaderKey) (FileKey, error) {
	for i := range a.Readers {
		if w := &a.Readers[i]; w.Reader == reader.public {
			return a.unwrap(w, reader)
		}
	}
	return FileKey{}, &blocktree.Error{Op: "keys.Open", Kind: blocktree.Permission,
		Err: fmt.Errorf("the file's key is not wrapped to %v", reader.public), Hint: "use the reader key of somebody who may read the file"}
}

// info is the HPKE context: what a wrap is for, and in which layout its additional data is.
func info() []byte { return []byte("blocktree file key 1\x00") }

func (a *Access) additional() []byte {
	b := append([]byte{accessFormat, a.Suite}, a.KeyID[:]...)
	return binary.BigEndian.AppendUint32(b, a.Generation)
}

func (a *Access) wrap(key FileKey, reader PublicKey) (Wrapped, error) {
	bad := func(err error) (Wrapped, error) {
		return Wrapped{}, blocktree.E("keys.Create", blocktree.Invalid, fmt.Errorf("reader %v: %w", reader, err))
	}
	public, err := kem().NewPublicKey(reader[:])
	if err != nil {
		return bad(err)
	}
	encapsulated, sender, err := hpke.NewSender(public, hpke.HKDFSHA256(), hpke.AES256GCM(), info())
	if err != nil {
		return bad(errors.New("not a usable public key")) // a point of low order
	}
	wrapped, err := sender.Seal(a.additional(), key.secret[:])
	if err != nil {
		return bad(err)
	}
	return Wrapped{Reader: reader, Encapsulated: [encapsulatedBytes]byte(encapsulated), Key: [wrappedBytes]byte(wrapped)}, nil
}

func (a *Access) unwrap(w *Wrapped, reader *ReaderKey) (FileKey, error) {
	corrupt := blocktree.E("keys.Open", blocktree.Corrupt, errors.New("the wrapped key does not open"))
	recipient, err := hpke.NewRecipient(w.Encapsulated[:], reader.private, hpke.HKDFSHA256(), hpke.AES256GCM(), info())
	if err != nil {
		return FileKey{}, corrupt
	}
	secret, err := recipient.Open(a.additional(), w.Key[:])
	if err != nil || len(secret) != FileKeyBytes {
		return FileKey{}, corrupt
	}
	return FileKey{secret: [FileKeyBytes]byte(secret)}, nil
}

// Append encodes a at the end of b: a version byte, suite, key id, generation, and the wraps.
func (a *Access) Append(b []byte) []byte {
	e := wire.Encoder{Buf: b}
	e.U8(accessFormat)
	e.U8(a.Suite)
	e.Raw(a.KeyID[:])
	e.U32(a.Generation)
	e.U32(uint32(len(a.Readers)))
	for i := range a.Readers {
		w := &a.Readers[i]
		e.Raw(w.Reader[:])
		e.Raw(w.Encapsulated[:])
		e.Raw(w.Key[:])
	}
	return e.Buf
}

// DecodeAccess reads what Append wrote; b is not kept. Kinds: Invalid, TooLarge, NewerFormat.
func DecodeAccess(b []byte) (*Access, error) {
	d := wire.NewDecoder(b)
	d.Format(accessFormat)
	a := &Access{Suite: d.U8()}
	copy(a.KeyID[:], d.Raw(KeyIDBytes))
	a.Generation = d.U32()
	n := d.Count(ReadersMax)
	if d.Err() == nil && d.Len() != n*readerBytes {
		d.Fail(blocktree.E("decode", blocktree.Invalid, fmt.Errorf("%d wraps in %d bytes", n, d.Len())))
	}
	for range n {
		if d.Err() != nil {
			break
		}
		var w Wrapped
		copy(w.Reader[:], d.Raw(PublicKeyBytes))
		copy(w.Encapsulated[:], d.Raw(encapsulatedBytes))
		copy(w.Key[:], d.Raw(wrappedBytes))
		a.Readers = append(a.Readers, w)
	}
	if err := d.Finish(); err != nil {
		return nil, &blocktree.Error{Op: "keys.DecodeAccess", Err: err}
	}
	return a, nil
}

package keys

import (
	"crypto/hpke"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"blocktree"
)

// ReadersMax bounds the wraps of one Access: it travels in a Raft command and lies in every inode. Many readers share a
// directory's key (DESIGN section 7), not an Access.
const ReadersMax = 64

// GenerationMax is the largest key generation: crypto/seal marks a sector with 24 bits of it.
const GenerationMax = 1<<24 - 1

// wrappedBytes is the length of a key that is wrapped or sealed.
const wrappedBytes = FileKeyBytes + 16

// wrapFormat is the layout of a wrap's additional data, the same in all formats of the record.
const wrapFormat = 1

// Access says how a file is sealed, or what is wrapped to a directory, and holds the key, wrapped to each reader. It is not
// secret. It is a value: nothing changes it after Sign or DecodeAccess.
type Access struct {
	Suite      uint8 // a seal.Suite; not judged here; 0 of a directory
	KeyID      KeyID
	Generation uint32 // of the key, from 1
	Readers    []Wrapped
	Older      []OlderKey // keys of generations before that sectors are sealed under, ascending

	// What follows a record of format 1 does not have.
	Number    uint64         // of this record among those of the file, from 1; 0 of format 1
	Path      blocktree.Path // of the file or directory
	Owner     uint32         // user id that may make the next record, beside 0
	Made      int64          // unix seconds, by the signer's clock
	Directory PublicKey      // of a directory: what is made beneath it is wrapped to
	Signer    []byte         // credentials of who signed; opaque here
	Signature []byte         // over all of the above; none before Sign
}

// Wrapped is a key that only Reader's secret half opens.
type Wrapped struct {
	Reader       PublicKey
	Encapsulated []byte
	Key          [wrappedBytes]byte
	// Inherited says that Reader is the key of a directory above: the next record is wrapped to what that has by then.
	Inherited bool
}

// Create draws a file key and wraps it to readers, at most ReadersMax, each once. A file without encryption has an Access
// without readers. It fails with kind Invalid for a public key that is none or named twice, TooLarge for too many. Path, Owner and
// Made are the caller's to set, then Sign.
func Create(suite uint8, readers []PublicKey) (*Access, FileKey, error) {
	a := &Access{Suite: suite, Generation: 1, Number: 1}
	rand.Read(a.KeyID[:])
	key := NewFileKey()
	if err := a.wrapAll(key, readers); err != nil {
		return nil, FileKey{}, err
	}
	return a, key, nil
}

// wrapAll replaces the wraps.
func (a *Access) wrapAll(key FileKey, readers []PublicKey) error {
	if len(readers) > ReadersMax {
		return &blocktree.Error{Op: "keys.Create", Kind: blocktree.TooLarge, Err: fmt.Errorf("%d readers, at most %d", len(readers), ReadersMax),
			Hint: "give a directory a key, and put the file there: whoever reads the directory reads the file"}
	}
	wraps := make([]Wrapped, 0, len(readers))
	seen := map[PublicKey]bool{}
	for _, r := range readers {
		if seen[r] {
			return blocktree.E("keys.Create", blocktree.Invalid, fmt.Errorf("reader %s is named twice", r.Short()))
		}
		seen[r] = true
		w, err := a.wrap(key, r)
		if err != nil {
			return err
		}
		wraps = append(wraps, w)
	}
	a.Readers = wraps
	return nil
}

// PublicKeys lists whom the key is wrapped to.
func (a *Access) PublicKeys() []PublicKey {
	var list []PublicKey
	for i := range a.Readers {
		list = append(list, a.Readers[i].Reader)
	}
	return list
}

// WrappedTo reports whether the key is wrapped to a reader.
func (a *Access) WrappedTo(p PublicKey) bool { return slices.Contains(a.PublicKeys(), p) }

// Inherit marks the wrap to p as that of a directory above.
func (a *Access) Inherit(p PublicKey) {
	for i := range a.Readers {
		a.Readers[i].Inherited = a.Readers[i].Inherited || a.Readers[i].Reader == p
	}
}

// Named lists whom the key is wrapped to by name, not as readers of a directory.
func (a *Access) Named() []PublicKey {
	var list []PublicKey
	for i := range a.Readers {
		if !a.Readers[i].Inherited {
			list = append(list, a.Readers[i].Reader)
		}
	}
	return list
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
		Err: fmt.Errorf("the file's key is not wrapped to %s", reader.public.Short()), Hint: "use the reader key of somebody who may read the file"}
}

// info is the HPKE context: what a wrap is for, and in which layout its additional data is.
func (a *Access) info() []byte {
	if !a.Directory.IsZero() {
		return []byte("blocktree directory key 1\x00")
	}
	return []byte("blocktree file key 1\x00")
}

func (a *Access) additional() []byte {
	b := append([]byte{wrapFormat, a.Suite}, a.KeyID[:]...)
	return binary.BigEndian.AppendUint32(b, a.Generation)
}

func (a *Access) wrap(key FileKey, reader PublicKey) (Wrapped, error) {
	bad := func(err error) (Wrapped, error) {
		return Wrapped{}, blocktree.E("keys.Create", blocktree.Invalid, fmt.Errorf("reader %s: %w", reader.Short(), err))
	}
	algorithm, ok := reader.kind.algorithm()
	if !ok {
		return bad(errors.New("not a public key"))
	}
	public, err := algorithm.kem.NewPublicKey([]byte(reader.raw))
	if err != nil {
		return bad(errors.New("not a usable public key"))
	}
	encapsulated, sender, err := hpke.NewSender(public, hpke.HKDFSHA256(), hpke.AES256GCM(), a.info())
	if err != nil {
		return bad(errors.New("not a usable public key")) // a point of low order
	}
	wrapped, err := sender.Seal(a.additional(), key.secret[:])
	if err != nil {
		return bad(err)
	}
	return Wrapped{Reader: reader, Encapsulated: encapsulated, Key: [wrappedBytes]byte(wrapped)}, nil
}

func (a *Access) unwrap(w *Wrapped, reader *ReaderKey) (FileKey, error) {
	corrupt := blocktree.E("keys.Open", blocktree.Corrupt, errors.New("the wrapped key does not open"))
	recipient, err := hpke.NewRecipient(w.Encapsulated, reader.private, hpke.HKDFSHA256(), hpke.AES256GCM(), a.info())
	if err != nil {
		return FileKey{}, corrupt
	}
	secret, err := recipient.Open(a.additional(), w.Key[:])
	if err != nil || len(secret) != FileKeyBytes {
		return FileKey{}, corrupt
	}
	return FileKey{secret: [FileKeyBytes]byte(secret)}, nil
}

package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"blocktree"
)

// OlderKeysMax bounds how many generations a file may have sectors of: each is a key in every record.
const OlderKeysMax = 16

// OlderKey is the file key of a generation before, sealed under that of the Access.
type OlderKey struct {
	Generation uint32
	Key        [wrappedBytes]byte
}

// Ring has the file keys of all generations that an Access knows. It prints no key.
type Ring map[uint32]FileKey

// OpenAll is Open for the keys of all generations.
func (a *Access) OpenAll(reader *ReaderKey) (Ring, error) {
	key, err := a.Open(reader)
	if err != nil {
		return nil, err
	}
	ring := Ring{a.Generation: key}
	for _, o := range a.Older {
		secret, err := a.older(key, o.Generation).Open(nil, make([]byte, 12), o.Key[:], a.additional())
		if err != nil || len(secret) != FileKeyBytes {
			return nil, blocktree.E("keys.OpenAll", blocktree.Corrupt, fmt.Errorf("the key of generation %d does not open", o.Generation))
		}
		ring[o.Generation] = FileKey{secret: [FileKeyBytes]byte(secret)}
	}
	return ring, nil
}

// older is the cipher that seals the key of a generation before under the newest. Its key is for this pair of generations, so it seals one
// message ever, and the nonce may be zeros.
func (a *Access) older(newest FileKey, generation uint32) cipher.AEAD {
	info := []byte("blocktree older key 1\x00")
	info = binary.BigEndian.AppendUint32(info, a.Generation)
	info = binary.BigEndian.AppendUint32(info, generation)
	key, err := hkdf.Key(sha256.New, newest.secret[:], a.KeyID[:], string(info), FileKeyBytes)
	if err != nil {
		panic(err) // only for lengths over 255 hashes
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // only for other lengths
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // only for other block sizes
	}
	return aead
}

// next is the record after a, to be changed and signed.
func (a *Access) next() *Access {
	n := *a
	n.Number++
	n.Readers, n.Older = slices.Clone(a.Readers), slices.Clone(a.Older)
	n.Signer, n.Signature, n.Made = nil, nil, 0
	return &n
}

// WithReaders is the next record, of the same generation, wrapped to readers. Kinds as of Create.
func (a *Access) WithReaders(key FileKey, readers []PublicKey) (*Access, error) {
	n := a.next()
	if err := n.wrapAll(key, readers); err != nil {
		return nil, err
	}
	return n, nil
}

// WithoutOlder is the next record when no sector of an older generation is left.
func (a *Access) WithoutOlder() *Access {
	n := a.next()
	n.Older = nil
	return n
}

// Rekey is the next record, of the next generation, with a new key that is wrapped to readers; the keys of ring, which OpenAll returned, are kept for
// them. It fails with Busy when OlderKeysMax are kept already (of a directory, which keeps them, TooLarge), TooLarge after GenerationMax, and the kinds of Create.
func (a *Access) Rekey(ring Ring, readers []PublicKey) (*Access, FileKey, error) {
	const op = "keys.Rekey"
	switch {
	case len(a.Older) >= OlderKeysMax && !a.Directory.IsZero():
		return nil, FileKey{}, &blocktree.Error{Op: op, Kind: blocktree.TooLarge, Err: fmt.Errorf("a directory has at most %d keys in its life", OlderKeysMax+1),
			Hint: "what is beneath may still need the first: make another directory, and copy to it"}
	case len(a.Older) >= OlderKeysMax:
		return nil, FileKey{}, &blocktree.Error{Op: op, Kind: blocktree.Busy, Err: fmt.Errorf("sectors of %d generations before are left", len(a.Older)),
			Hint: "they must be re-sealed first, which btnode rekey PATH --wait does"}
	case a.Generation >= GenerationMax:
		return nil, FileKey{}, blocktree.E(op, blocktree.TooLarge, errors.New("it has had too many keys; copy it to a new file"))
	}
	n, key := a.next(), NewFileKey()
	n.Generation++
	n.Older = nil
	var generations []uint32
	for g := range ring {
		generations = append(generations, g)
	}
	slices.Sort(generations)
	for _, g := range generations {
		o := OlderKey{Generation: g}
		secret := ring[g].secret
		copy(o.Key[:], n.older(key, g).Seal(nil, make([]byte, 12), secret[:], n.additional()))
		n.Older = append(n.Older, o)
	}
	if !a.Directory.IsZero() {
		n.Directory = key.directory(a.KeyID, n.Generation, a.Directory.kind).public
	}
	if err := n.wrapAll(key, readers); err != nil {
		return nil, FileKey{}, err
	}
	return n, key, nil
}

package keys

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"

	"blocktree"
)

// CreateDirectory draws the key pair of a directory and wraps its secret half to readers. Kinds as of Create.
func CreateDirectory(kind KeyKind, readers []PublicKey) (*Access, *ReaderKey, error) {
	if _, ok := kind.algorithm(); !ok {
		return nil, nil, blocktree.E("keys.CreateDirectory", blocktree.Invalid, errors.New("an unknown kind of key"))
	}
	a := &Access{Generation: 1, Number: 1}
	rand.Read(a.KeyID[:])
	seed := NewFileKey()
	pair := seed.directory(a.KeyID, a.Generation, kind)
	a.Directory = pair.public
	if err := a.wrapAll(seed, readers); err != nil {
		return nil, nil, err
	}
	return a, pair, nil
}

// directory derives the pair of a directory from its secret.
func (k FileKey) directory(id KeyID, generation uint32, kind KeyKind) *ReaderKey {
	info := append([]byte("blocktree directory pair 1\x00"), byte(kind))
	info = binary.BigEndian.AppendUint32(info, generation)
	seed, err := hkdf.Key(sha256.New, k.secret[:], id[:], string(info), secretBytes)
	if err != nil {
		panic(err) // only for lengths over 255 hashes
	}
	return mustReaderKey(kind, seed)
}

// Pairs derives the pairs of a directory's generations from what OpenAll returned, the newest first. It fails with kind Corrupt when that
// is not the one whose public half the record has.
func (a *Access) Pairs(ring Ring) ([]*ReaderKey, error) {
	bad := func(why string) ([]*ReaderKey, error) {
		return nil, blocktree.E("keys.Pairs", blocktree.Corrupt, errors.New(why))
	}
	if a.Directory.IsZero() {
		return bad("not the record of a directory")
	}
	var generations []uint32
	for g := range ring {
		generations = append(generations, g)
	}
	slices.Sort(generations)
	slices.Reverse(generations)
	var pairs []*ReaderKey
	for _, g := range generations {
		pairs = append(pairs, ring[g].directory(a.KeyID, g, a.Directory.kind))
	}
	if len(pairs) == 0 || pairs[0].public != a.Directory {
		return bad("the directory's public key is not that of its secret")
	}
	return pairs, nil
}

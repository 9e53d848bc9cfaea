package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"blocktree"
	"blocktree/internal/invariant"
)

// The parts of a header, in bytes: leaf | nonce | tag.
const (
	NonceBytes  = prefixBytes + suffixBytes
	TagBytes    = 16
	HeaderBytes = blocktree.LeafBytes + NonceBytes + TagBytes

	nonceAt = blocktree.LeafBytes
	tagAt   = nonceAt + NonceBytes
)

// leafDomain separates leaves from every other SHA-256 of the system; its last byte is the format.
const leafDomain = "blocktree sector leaf\x00\x01"

// leafPlaceBytes is the length of what precedes the sealed bytes in a leaf's input: domain, file, sector, version,
// nonce, tag. All parts have a fixed length, so the input is unambiguous.
const leafPlaceBytes = len(leafDomain) + 16 + 8 + 16 + NonceBytes + TagBytes

// putPlace fills b, leafPlaceBytes long.
func putPlace(b []byte, file blocktree.FileID, index blocktree.SectorIndex, v blocktree.Version, nonce, tag []byte) {
	n := copy(b, leafDomain)
	n += putID(b[n:], file, index, v)
	n += copy(b[n:], nonce)
	copy(b[n:], tag)
}

// putID writes file, sector and version, 40 bytes.
func putID(b []byte, file blocktree.FileID, index blocktree.SectorIndex, v blocktree.Version) int {
	binary.BigEndian.PutUint64(b[0:], uint64(file.Generation))
	binary.BigEndian.PutUint64(b[8:], uint64(file.Inode))
	binary.BigEndian.PutUint64(b[16:], uint64(index))
	binary.BigEndian.PutUint64(b[24:], uint64(v.Epoch))
	binary.BigEndian.PutUint64(b[32:], uint64(v.Sequence))
	return 40
}

// Leaf names a sealed sector in its place: SHA-256 over a domain, file, sector, version, nonce (NonceBytes), tag
// (TagBytes) and the sealed bytes. Other lengths of nonce and tag are a broken invariant. It needs no key, keeps
// nothing, does not block, and may be called by many goroutines at once.
func Leaf(file blocktree.FileID, index blocktree.SectorIndex, v blocktree.Version, nonce, tag, sealed []byte) blocktree.Leaf {
	invariant.Check(len(nonce) == NonceBytes && len(tag) == TagBytes, "leaf over another length of nonce or tag")
	w := workspaces.Get().(*workspace)
	defer workspaces.Put(w)
	putPlace(w.place[:], file, index, v, nonce, tag)
	w.hash.Reset()
	w.hash.Write(w.place[:])
	w.hash.Write(sealed)
	var leaf blocktree.Leaf
	copy(leaf[:], w.hash.Sum(w.sum[:0]))
	return leaf
}

// VerifyLeaf checks sealed against the leaf in a header of HeaderBytes, without any key. It fails with kind Corrupt when
// the bytes, the nonce, the tag or the place are other ones, Invalid when the header has another length.
func VerifyLeaf(sealed []byte, file blocktree.FileID, index blocktree.SectorIndex, v blocktree.Version, header []byte) error {
	if len(header) != HeaderBytes {
		return blocktree.E("seal.VerifyLeaf", blocktree.Invalid, errHeader)
	}
	leaf := Leaf(file, index, v, HeaderNonce(header), HeaderTag(header), sealed)
	if !bytes.Equal(leaf[:], header[:nonceAt]) {
		return blocktree.E("seal.VerifyLeaf", blocktree.Corrupt, errLeaf)
	}
	return nil
}

// HeaderLeaf returns a copy of the leaf in a header of HeaderBytes.
func HeaderLeaf(header []byte) blocktree.Leaf { return blocktree.Leaf(header[:nonceAt]) }

// HeaderNonce returns the nonce in a header of HeaderBytes, aliasing it.
func HeaderNonce(header []byte) []byte { return header[nonceAt:tagAt:tagAt] }

// HeaderTag returns the tag in a header of HeaderBytes, aliasing it.
func HeaderTag(header []byte) []byte { return header[tagAt:HeaderBytes:HeaderBytes] }

var (
	errHeader = errors.New("a seal's header has another length")
	errLength = errors.New("plain and sealed sector differ in length")
	errLeaf   = errors.New("the leaf does not match the sealed bytes in this place")
	errTag    = errors.New("the tag does not match: other bytes, another place or another key")
	errSuite  = errors.New("a sector without encryption has a nonce or a tag")
)

// hashSize pins the assumption that a leaf is a whole SHA-256.
const _ = uint(sha256.Size-blocktree.LeafBytes) + uint(blocktree.LeafBytes-sha256.Size)

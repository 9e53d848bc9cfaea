package keys

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
)

// Integrity derives the key that authenticates the freshness records of a file (crypto/tree), as Sealing derives that of its sectors.
func (k FileKey) Integrity(id KeyID, generation uint32) [FileKeyBytes]byte {
	info := binary.BigEndian.AppendUint32([]byte("blocktree integrity key 1\x00"), generation)
	derived, err := hkdf.Key(sha256.New, k.secret[:], id[:], string(info), FileKeyBytes)
	if err != nil {
		panic(err) // only for lengths over 255 hashes
	}
	return [FileKeyBytes]byte(derived)
}

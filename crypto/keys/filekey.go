package keys

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
)

// FileKeyBytes is the length of a file key and of every key derived from one.
const FileKeyBytes = 32

// KeyIDBytes is the length of a KeyID.
const KeyIDBytes = 16

// hidden is what secrets print as.
const hidden = "[hidden key]"

// KeyID names a file's key before the file has an id: 16 random bytes, not secret, the same for all generations.
type KeyID [KeyIDBytes]byte

// String prints the id in hexadecimal.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// FileKey is the secret of one key generation of one file. Only derived keys are used.
type FileKey struct{ secret [FileKeyBytes]byte }

// NewFileKey draws a file key. It cannot fail: crypto/rand ends the process when the system has no randomness.
func NewFileKey() FileKey {
	var k FileKey
	rand.Read(k.secret[:])
	return k
}

// Sealing derives the key that crypto/seal takes: HKDF-SHA256, salt id, with the use and the generation as info.
func (k FileKey) Sealing(id KeyID, generation uint32) [FileKeyBytes]byte {
	info := binary.BigEndian.AppendUint32([]byte("blocktree sealing key 1\x00"), generation)
	derived, err := hkdf.Key(sha256.New, k.secret[:], id[:], string(info), FileKeyBytes)
	if err != nil {
		panic(err) // only for lengths over 255 hashes
	}
	return [FileKeyBytes]byte(derived)
}

// Format prints a placeholder, whatever the verb.
func (k FileKey) Format(f fmt.State, _ rune) { fmt.Fprint(f, hidden) }

// LogValue keeps the key out of structured logs.
func (k FileKey) LogValue() slog.Value { return slog.StringValue(hidden) }

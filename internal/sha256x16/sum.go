package sha256x16

import (
	"crypto/sha256"
	"encoding/binary"
)

const (
	// Lanes is how many messages are hashed at a time.
	Lanes = 16
	// lanesMin is from how many messages on the lanes are faster than crypto/sha256 with the processor's own instructions for it, whatever the others are filled with.
	lanesMin = 8

	blockBytes = sha256.BlockSize
	tailBytes  = 1 + 8 // the least that is appended to a message: a bit, and its length
)

// Room is how many bytes a message of n bytes takes with what SHA-256 appends to it.
func Room(n int) int { return (n + tailBytes + blockBytes - 1) / blockBytes * blockBytes }

// Pad writes behind a message of n bytes what SHA-256 appends to it. b has Room(n) bytes, the message first.
func Pad(b []byte, n int) {
	tail := b[n:]
	clear(tail)
	tail[0] = 0x80
	binary.BigEndian.PutUint64(tail[len(tail)-8:], uint64(n)*8)
}

// Sum hashes messages of n bytes each, Lanes of them at most, into the first of sums. Each message has Room(n) bytes and was padded (Pad); else it panics. The other sums are undefined.
func Sum(sums *[Lanes][sha256.Size]byte, messages [][]byte, n int) {
	for _, m := range messages {
		if len(messages) > Lanes || len(m) != Room(n) {
			panic("sha256x16: more messages than lanes, or one of another length")
		}
	}
	if len(messages) >= lanesMin && hasLanes {
		sumLanes(sums, messages, Room(n)/blockBytes)
		return
	}
	for i, m := range messages {
		sums[i] = sha256.Sum256(m[:n])
	}
}

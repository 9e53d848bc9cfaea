package seal

import "encoding/binary"

// GenerationMax is the largest key generation that a nonce can name.
const GenerationMax = 1<<24 - 1

// generationBytes is how much of a prefix names the generation of the key, from generation 2 on.
const generationBytes = 4

// drawPrefix draws the prefix of a session. From generation 2 on it begins with the generation, the first byte of which is 0; of generation 1 all
// of it is random, but for a first byte of 0. Never is anything but 64 random bits what makes two of them differ (docs/design/0027).
func drawPrefix(generation uint32) (p prefix) {
	for {
		randomBytes(p[:])
		if generation > 1 {
			binary.BigEndian.PutUint32(p[:generationBytes], generation)
			return p
		}
		if p[0] != 0 {
			return p
		}
	}
}

// GenerationOf returns the key generation that the nonce in a header names. A sector of generation 1 that was sealed by the version before may name any
// other, by accident: where one does not open, it is tried under 1. The header is HeaderBytes long.
func GenerationOf(header []byte) uint32 {
	g := binary.BigEndian.Uint32(header[nonceAt:])
	if g > GenerationMax || g == 0 {
		return 1
	}
	return g
}

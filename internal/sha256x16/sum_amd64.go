package sha256x16

import (
	"crypto/sha256"
	"encoding/binary"

	"golang.org/x/sys/cpu"
)

// hasLanes: AVX512F has the registers and their arithmetic, AVX512BW the order of bytes.
var hasLanes = cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW

// lanes is a word of each message's state side by side: a to h.
type lanes [8][Lanes]uint32

// initial is the state before the first block.
var initial = [8]uint32{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}

// blocks takes n blocks of each message into the state, n at least 1.
//
//go:noescape
func blocks(s *lanes, messages *[Lanes]*byte, n int)

// sumLanes hashes one message at least, n blocks of each. Lanes that are left over do the first one again.
func sumLanes(sums *[Lanes][sha256.Size]byte, messages [][]byte, n int) {
	var s lanes
	for i := range s {
		for lane := range s[i] {
			s[i][lane] = initial[i]
		}
	}
	var at [Lanes]*byte
	for lane := range at {
		at[lane] = &messages[0][0]
		if lane < len(messages) {
			at[lane] = &messages[lane][0]
		}
	}
	blocks(&s, &at, n)
	for lane := range messages {
		for i := range s {
			binary.BigEndian.PutUint32(sums[lane][4*i:], s[i][lane])
		}
	}
}

package gcm

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"
	"unsafe"

	"golang.org/x/sys/cpu"
)

// hasWide: VAES and VPCLMULQDQ do four blocks with one instruction, AVX512BW moves single bytes, AVX512VL adds up what is in a register, BMI2 makes masks.
var hasWide = cpu.X86.HasAES && cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512VAES && cpu.X86.HasAVX512VPCLMULQDQ && cpu.X86.HasBMI2

const (
	blockBytes = 16
	// wideBlocks is how many blocks crypt takes at a time.
	wideBlocks = 16
	roundsMax  = 14
	// bytesMax is the longest message: far more than anybody has, and far less than the 2^32-2 blocks after which the counter would come round.
	bytesMax = 1<<32 - 1
)

// What crypt does.
const (
	sealing = iota
	opening
	hashing // no cipher: what is read is authenticated only
)

// schedule is what a key becomes. The assembler knows its layout.
//
// The hash is computed as POLYVAL (RFC 8452, appendix A): GHASH(H, X) is POLYVAL(H·x, X) with the bytes of everything in reverse order, which is what the processor multiplies. powers has
// (H·x)^16, the next and so on, to (H·x)^1, and then zeros, for what lies behind the end of a message.
type schedule struct {
	keys   [roundsMax + 1][blockBytes]byte
	rounds uint64 // 10 or 14
	powers [2*wideBlocks - 1][blockBytes]byte
	sums   [2*wideBlocks - 1][blockBytes]byte // of the halves of the powers, in the lower half
}

// crypt takes n bytes, at least 1, from src to dst, the first of them under the counter block at counter, and into the hash, zeros behind its end up to a whole block.
//
//go:noescape
func crypt(s *schedule, counter, hash *[blockBytes]byte, dst, src *byte, n, what int)

// encryptBlock encrypts one block.
//
//go:noescape
func encryptBlock(s *schedule, dst, src *[blockBytes]byte)

// substitute replaces each byte of a word as AES does (FIPS 197, SubWord).
func substitute(word uint32) uint32

// wide is AES-GCM with sixteen blocks at a time.
type wide struct{ schedule }

// newWide takes a key of 16 or 32 bytes. It returns nil where the processor has not what it needs.
func newWide(key []byte) AEAD {
	if !hasWide {
		return nil
	}
	a := new(wide)
	a.expand(key)
	var h [blockBytes]byte
	encryptBlock(&a.schedule, &h, &h)
	power := timesX(h)
	a.powers[wideBlocks-1] = power
	a.sum(wideBlocks - 1)
	for i := wideBlocks - 2; i >= 0; i-- {
		slices.Reverse(power[:]) // as a block of a message has it
		var next [blockBytes]byte
		crypt(&a.schedule, &next, &next, nil, &power[0], blockBytes, hashing)
		power = next
		a.powers[i] = power
		a.sum(i)
	}
	return a
}

// sum adds up the halves of a power.
func (s *schedule) sum(i int) { subtle.XORBytes(s.sums[i][:8], s.powers[i][:8], s.powers[i][8:]) }

// expand makes the round keys (FIPS 197, 5.2). Words are little-endian, so that what the standard rotates to the left goes to the right.
func (s *schedule) expand(key []byte) {
	words := len(key) / 4
	s.rounds = uint64(words + 6)
	var w [4 * (roundsMax + 1)]uint32
	for i := range words {
		w[i] = binary.LittleEndian.Uint32(key[4*i:])
	}
	constant := uint32(1)
	for i := words; i < 4*int(s.rounds+1); i++ {
		t := w[i-1]
		switch {
		case i%words == 0:
			t = substitute(bits.RotateLeft32(t, -8)) ^ constant
			constant = constant<<1 ^ constant>>7*0x11b
		case words == 8 && i%words == 4:
			t = substitute(t)
		}
		w[i] = w[i-words] ^ t
	}
	for i, word := range w {
		binary.LittleEndian.PutUint32(s.keys[i/4][4*(i%4):], word)
	}
}

// timesX is H·x with its bytes in reverse order, in constant time.
func timesX(h [blockBytes]byte) (out [blockBytes]byte) {
	high, low := binary.BigEndian.Uint64(h[:8]), binary.BigEndian.Uint64(h[8:])
	carry := -(high >> 63) // all ones, or none
	high, low = high<<1|low>>63, low<<1
	binary.LittleEndian.PutUint64(out[:8], low^carry&1)
	binary.LittleEndian.PutUint64(out[8:], high^carry&(0xc2<<56))
	return out
}

func (a *wide) NonceSize() int { return NonceBytes }
func (a *wide) Overhead() int  { return TagBytes }

var errAuthentic = errors.New("gcm: message authentication failed")

func (a *wide) Seal(dst, nonce, plaintext, additional []byte) []byte {
	check(nonce, plaintext)
	n := len(plaintext)
	out := slices.Grow(dst, n+TagBytes)[:len(dst)+n+TagBytes]
	sealed, tag := out[len(dst):len(dst)+n], out[len(dst)+n:]
	checkOverlap(sealed, plaintext)
	m := a.begin(nonce, additional)
	m.crypt(sealed, plaintext, sealing)
	sum := m.end(len(additional), n)
	copy(tag, sum[:])
	return out
}

func (a *wide) SealWith(dst, nonce, plaintext []byte, last byte, additional []byte) []byte {
	check(nonce, plaintext)
	n := len(plaintext) + 1
	out := slices.Grow(dst, n+TagBytes)[:len(dst)+n+TagBytes]
	sealed, tag := out[len(dst):len(dst)+n], out[len(dst)+n:]
	whole := len(plaintext) &^ (wideBlocks*blockBytes - 1)
	m := a.begin(nonce, additional)
	m.crypt(sealed[:whole], plaintext[:whole], sealing)
	m.count(whole / blockBytes)
	rest := sealed[whole:]
	copy(rest, plaintext[whole:])
	rest[len(rest)-1] = last
	m.crypt(rest, rest, sealing)
	sum := m.end(len(additional), n)
	copy(tag, sum[:])
	return out
}

func (a *wide) Open(dst, nonce, sealed, additional []byte) ([]byte, error) {
	n := len(sealed) - TagBytes
	if n < 0 {
		return nil, errAuthentic
	}
	var tag [TagBytes]byte // what is opened may overwrite it
	copy(tag[:], sealed[n:])
	sealed = sealed[:n]
	check(nonce, sealed)
	out := slices.Grow(dst, n)[:len(dst)+n]
	opened := out[len(dst):]
	checkOverlap(opened, sealed)
	m := a.begin(nonce, additional)
	m.crypt(opened, sealed, opening)
	sum := m.end(len(additional), n)
	if subtle.ConstantTimeCompare(sum[:], tag[:]) != 1 {
		clear(opened)
		return nil, errAuthentic
	}
	return out, nil
}

func (a *wide) OpenParts(dst, nonce []byte, parts [][]byte, tag, additional []byte) bool {
	check(nonce, dst)
	if len(tag) != TagBytes {
		panic("gcm: a tag of another length")
	}
	m := a.begin(nonce, additional)
	if apart(dst, parts) {
		rest := dst
		for _, p := range parts {
			m.crypt(rest, p, opening)
			m.count(len(p) / blockBytes)
			rest = rest[len(p):]
		}
	} else {
		b := join(dst, parts)
		m.crypt(dst, *b, opening)
		joined.Put(b)
	}
	sum := m.end(len(additional), len(dst))
	if subtle.ConstantTimeCompare(sum[:], tag) != 1 {
		clear(dst)
		return false
	}
	return true
}

// apart reports whether parts can be opened as they lie: they fill dst, none of them is of its memory, and all but the last one are whole blocks.
func apart(dst []byte, parts [][]byte) bool {
	total, whole := 0, true
	for _, p := range parts {
		if !whole || overlap(dst, p) {
			return false
		}
		total += len(p)
		whole = len(p)%blockBytes == 0
	}
	return total == len(dst)
}

// message is one on its way through a cipher.
type message struct {
	schedule            *schedule
	first, counter, sum [blockBytes]byte
}

func (a *wide) begin(nonce, additional []byte) message {
	m := message{schedule: &a.schedule}
	copy(m.first[:], nonce)
	m.counter = m.first
	m.first[blockBytes-1], m.counter[blockBytes-1] = 1, 2
	if len(additional) > 0 {
		crypt(m.schedule, &m.counter, &m.sum, nil, &additional[0], len(additional), hashing)
	}
	return m
}

// crypt does all of the message.
func (m *message) crypt(dst, src []byte, what int) {
	if len(src) > 0 {
		crypt(m.schedule, &m.counter, &m.sum, &dst[0], &src[0], len(src), what)
	}
}

// count goes on by so many blocks.
func (m *message) count(blocks int) {
	last := m.counter[blockBytes-4:]
	binary.BigEndian.PutUint32(last, binary.BigEndian.Uint32(last)+uint32(blocks))
}

// end returns the tag.
func (m *message) end(additional, n int) [TagBytes]byte {
	var lengths, mask [blockBytes]byte
	binary.BigEndian.PutUint64(lengths[:8], uint64(additional)*8)
	binary.BigEndian.PutUint64(lengths[8:], uint64(n)*8)
	crypt(m.schedule, &m.counter, &m.sum, nil, &lengths[0], blockBytes, hashing)
	encryptBlock(m.schedule, &mask, &m.first)
	slices.Reverse(m.sum[:])
	subtle.XORBytes(m.sum[:], m.sum[:], mask[:])
	return m.sum
}

// check refuses what would not be GCM.
func check(nonce, message []byte) {
	if len(nonce) != NonceBytes {
		panic("gcm: a nonce of another length")
	}
	if uint64(len(message)) > bytesMax {
		panic("gcm: a message that is too long")
	}
}

// checkOverlap refuses memory that is neither the same nor another.
func checkOverlap(dst, src []byte) {
	if overlap(dst, src) && &dst[0] != &src[0] {
		panic("gcm: memory that overlaps")
	}
}

// overlap reports whether two pieces have memory in common.
func overlap(a, b []byte) bool {
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	x, y := uintptr(unsafe.Pointer(&a[0])), uintptr(unsafe.Pointer(&b[0]))
	return x < y+uintptr(len(b)) && y < x+uintptr(len(a))
}

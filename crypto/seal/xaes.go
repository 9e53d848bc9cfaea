package seal

import (
	"crypto/aes"
	"crypto/cipher"

	"blocktree/internal/gcm"
)

// Sizes in bytes of the parts of an XAES-256-GCM nonce: the half that derives a key, and the half for AES-GCM.
const (
	prefixBytes = 12
	suffixBytes = 12
)

// prefix is the first half of a nonce: all sectors sealed under one prefix share one derived AES-GCM key.
type prefix [prefixBytes]byte

// deriver holds what XAES-256-GCM computes once per input key: the AES key schedule and the CMAC subkey K1 (NIST
// SP 800-38B, 6.1; only K1 is needed, because the message is one whole block).
type deriver struct {
	block cipher.Block
	k1    [aes.BlockSize]byte
}

func newDeriver(key [32]byte) *deriver {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // only for key lengths that [32]byte cannot have
	}
	d := &deriver{block: block}
	var l [aes.BlockSize]byte
	block.Encrypt(l[:], l[:])
	d.k1 = double(l)
	return d
}

// double multiplies by x in GF(2^128), in constant time.
func double(l [aes.BlockSize]byte) (out [aes.BlockSize]byte) {
	carry := l[0] >> 7
	for i := range l {
		out[i] = l[i] << 1
		if i+1 < len(l) {
			out[i] |= l[i+1] >> 7
		}
	}
	out[len(out)-1] ^= 0b10000111 * carry
	return out
}

// key derives the AES-256-GCM key of a prefix: NIST SP 800-108r1 in counter mode with CMAC-AES256 over one block,
// 16 bits of counter, label "X", context prefix, no length field.
func (d *deriver) key(p prefix) (kx [32]byte) {
	for i := range 2 {
		m := [aes.BlockSize]byte{0, byte(i + 1), 'X', 0}
		copy(m[4:], p[:])
		for j := range m {
			m[j] ^= d.k1[j]
		}
		d.block.Encrypt(kx[i*aes.BlockSize:], m[:])
	}
	return kx
}

// aead returns AES-256-GCM under the key of a prefix; its nonce is the second half of the XAES nonce.
func (d *deriver) aead(p prefix) gcm.AEAD {
	kx := d.key(p)
	aead, err := gcm.New(kx[:])
	if err != nil {
		panic(err) // as in newDeriver
	}
	return aead
}

package gcm

import (
	"crypto/aes"
	"crypto/cipher"
	"slices"
)

const (
	// NonceBytes is the length of a nonce.
	NonceBytes = 12
	// TagBytes is the length of a tag, which Seal appends.
	TagBytes = 16
)

// AEAD is AES-GCM under one key.
type AEAD interface {
	cipher.AEAD
	// SealWith is Seal of plaintext and a byte behind it, which need not lie there. dst has none of plaintext's memory.
	SealWith(dst, nonce, plaintext []byte, last byte, additional []byte) []byte
}

// New returns AES-GCM under a key of 16 or 32 bytes, which is not kept. Seal and Open do what cipher.AEAD says: dst and src may be the same memory or none of the same; Open writes
// zeros where what it was given is not authentic. It fails for other lengths of the key.
func New(key []byte) (AEAD, error) {
	if a := newWide(key); a != nil {
		return a, nil
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return narrow{a}, nil
}

// narrow is crypto/cipher's.
type narrow struct{ cipher.AEAD }

func (a narrow) SealWith(dst, nonce, plaintext []byte, last byte, additional []byte) []byte {
	n := len(dst)
	out := slices.Grow(dst, len(plaintext)+1+TagBytes)
	plain := append(append(out, plaintext...), last)[n:]
	return a.Seal(out, nonce, plain, additional)
}

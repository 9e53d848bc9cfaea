package gcm

import (
	"crypto/aes"
	"crypto/cipher"
	"slices"
	"sync"
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
	// OpenParts opens what lies in parts, one after the other, and the tag, into dst, which is as long as the parts together and may be memory of theirs. It reports false for what is not
	// authentic, and dst is then zeros.
	OpenParts(dst, nonce []byte, parts [][]byte, tag, additional []byte) bool
}

// New returns AES-GCM under a key of 16 or 32 bytes, which is not kept. Seal and Open do what cipher.AEAD says: dst and src may be the same memory or none of the same; Open writes
// zeros where what it was given is not authentic. It fails for other lengths of the key.
func New(key []byte) (AEAD, error) {
	if len(key) != 16 && len(key) != 32 {
		return nil, aes.KeySizeError(len(key))
	}
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

func (a narrow) OpenParts(dst, nonce []byte, parts [][]byte, tag, additional []byte) bool {
	b := join(dst, parts)
	defer joined.Put(b)
	*b = append(*b, tag...)
	_, err := a.Open(dst[:0], nonce, *b, additional)
	if err != nil {
		clear(dst)
	}
	return err == nil
}

// joined has memory for messages that lie in parts.
var joined = sync.Pool{New: func() any { return new([]byte) }}

// join returns the parts in one piece, which goes back to joined.
func join(dst []byte, parts [][]byte) *[]byte {
	b := joined.Get().(*[]byte)
	*b = (*b)[:0]
	for _, p := range parts {
		*b = append(*b, p...)
	}
	if len(*b) != len(dst) {
		panic("gcm: parts of another length than what is opened")
	}
	return b
}

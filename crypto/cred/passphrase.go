package cred

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/argon2"

	"blocktree"
	"blocktree/internal/wire"
)

// A key with a passphrase is, in a PEM block of its own type:
//
//	format u8, argon2id's passes u32, memory in KiB u32, threads u8, salt 16, nonce 12, algorithm u8, public key 32
//
// and then the 32 bytes of the seed under AES-256-GCM, with all before them as additional data.
const formatEncryptedKey = 1

// What new files have is what RFC 9106 recommends where memory is not plenty. What is read is bounded: a file names what opening it
// costs, and may be anybody's.
const (
	argonPasses, argonPassesMax       = 3, 16
	argonMemoryKiB, argonMemoryKiBMax = 64 << 10, 1 << 20
	argonThreads, argonThreadsMax     = 4, 16

	saltBytes  = 16
	nonceBytes = 12
	tagBytes   = 16

	// PassphraseBytesMin and PassphraseBytesMax bound a passphrase.
	PassphraseBytesMin = 8
	PassphraseBytesMax = 1024
)

// encryptedKey is such a file's content.
type encryptedKey struct {
	passes, memoryKiB uint32
	threads           uint8
	salt, nonce       []byte
	public            ed25519.PublicKey
	sealed            []byte
}

// header returns what is in the clear.
func (k *encryptedKey) header() []byte {
	var e wire.Encoder
	e.U8(formatEncryptedKey)
	e.U32(k.passes)
	e.U32(k.memoryKiB)
	e.U8(k.threads)
	e.Raw(k.salt)
	e.Raw(k.nonce)
	e.U8(keyEd25519)
	e.Raw(k.public)
	return e.Buf
}

// decodeEncryptedKey reads a file's content, copying what it keeps.
func decodeEncryptedKey(b []byte) (*encryptedKey, error) {
	d := wire.NewDecoder(b)
	d.Format(formatEncryptedKey)
	k := &encryptedKey{passes: d.U32(), memoryKiB: d.U32(), threads: d.U8(), salt: slices.Clone(d.Raw(saltBytes)),
		nonce: slices.Clone(d.Raw(nonceBytes)), public: decodeKey(d), sealed: slices.Clone(d.Raw(ed25519.SeedSize + tagBytes))}
	if d.Err() == nil && (k.passes < 1 || k.passes > argonPassesMax || k.threads < 1 || k.threads > argonThreadsMax ||
		k.memoryKiB < 8*uint32(k.threads) || k.memoryKiB > argonMemoryKiBMax) {
		d.Fail(blocktree.E("encrypted key", blocktree.TooLarge, fmt.Errorf("%d passes over %d KiB by %d threads, at most %d, %d and %d",
			k.passes, k.memoryKiB, k.threads, argonPassesMax, argonMemoryKiBMax, argonThreadsMax)))
	}
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return k, nil
}

// cipher derives the cipher from a passphrase, which takes the time and memory that the parameters say.
func (k *encryptedKey) cipher(passphrase []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(argon2.IDKey(passphrase, k.salt, k.passes, k.memoryKiB, k.threads, 32))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// open returns the key. It fails with Permission for another passphrase than the one it was made with, which a changed byte looks like.
func (k *encryptedKey) open(passphrase []byte) (Key, error) {
	aead, err := k.cipher(passphrase)
	if err != nil {
		return Key{}, blocktree.E("encrypted key", blocktree.Invalid, err)
	}
	seed, err := aead.Open(nil, k.nonce, k.sealed, k.header())
	if err != nil || len(seed) != ed25519.SeedSize {
		return Key{}, &blocktree.Error{Op: "encrypted key", Kind: blocktree.Permission, Err: errors.New("the passphrase is another, or the file is damaged"),
			Hint: "type it as it was when the key was made"}
	}
	key := newKey(ed25519.NewKeyFromSeed(seed))
	if !bytes.Equal(key.Public(), k.public) {
		return Key{}, blocktree.E("encrypted key", blocktree.Invalid, errors.New("the public key beside it is another's"))
	}
	return key, nil
}

// encrypt is the key under a passphrase.
func (k Key) encrypt(passphrase []byte) ([]byte, error) {
	x := &encryptedKey{passes: argonPasses, memoryKiB: argonMemoryKiB, threads: argonThreads, salt: make([]byte, saltBytes),
		nonce: make([]byte, nonceBytes), public: k.Public()}
	_, _ = rand.Read(x.salt) // never fails
	_, _ = rand.Read(x.nonce)
	aead, err := x.cipher(passphrase)
	if err != nil {
		return nil, err
	}
	header := x.header()
	return aead.Seal(header, x.nonce, k.private().Seed(), slices.Clone(header)), nil
}

// SaveWith is Save of a key that needs the passphrase to be read. It fails with Invalid for a passphrase that is too short or too long; it
// takes the time and the memory, 64 MiB, that guessing costs.
func (k Key) SaveWith(file string, passphrase []byte) error {
	const op = "cred.Key.SaveWith"
	if k.IsZero() {
		return &blocktree.Error{Op: op, Path: file, Kind: blocktree.Invalid, Err: errors.New("no key")}
	}
	if n := len(passphrase); n < PassphraseBytesMin || n > PassphraseBytesMax {
		return &blocktree.Error{Op: op, Kind: blocktree.Invalid, Err: fmt.Errorf("a passphrase of %d bytes", n),
			Hint: fmt.Sprintf("%d to %d are possible; several words are good", PassphraseBytesMin, PassphraseBytesMax)}
	}
	der, err := k.encrypt(passphrase)
	if err != nil {
		return &blocktree.Error{Op: op, Path: file, Kind: blocktree.Invalid, Err: err}
	}
	return save(op, file, pemEncryptedKey, der, 0o600)
}

package gcm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// reference is what crypto/cipher makes of a key.
func reference(t testing.TB, key []byte) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// source returns bytes of a seed.
func source(seed uint64) func(n int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	r := rand.NewChaCha8(key)
	return func(n int) []byte {
		b := make([]byte, n)
		_, _ = r.Read(b)
		return b
	}
}

// agree checks that what New returns does what crypto/cipher does, in memory of its own and in place.
func agree(t *testing.T, key, nonce, plain, additional []byte) {
	t.Helper()
	a, err := New(key)
	if err != nil {
		t.Fatal(err)
	}
	what := fmt.Sprintf("%d bytes of key, %d of plaintext, %d of additional data", len(key), len(plain), len(additional))
	before := []byte("before")
	want := reference(t, key).Seal(bytes.Clone(before), nonce, plain, additional)
	if got := a.Seal(bytes.Clone(before), nonce, plain, additional); !bytes.Equal(got, want) {
		t.Fatalf("%s: sealed %x, want %x", what, got, want)
	}
	sealed := want[len(before):]
	inPlace := append(make([]byte, 0, len(plain)+TagBytes+1), plain...)
	if got := a.Seal(inPlace[:0], nonce, inPlace, additional); !bytes.Equal(got, sealed) {
		t.Fatalf("%s: sealed in place %x, want %x", what, got, sealed)
	}
	if got, err := a.Open(bytes.Clone(before), nonce, sealed, additional); err != nil || !bytes.Equal(got[len(before):], plain) || !bytes.HasPrefix(got, before) {
		t.Fatalf("%s: opened %x, %v", what, got, err)
	}
	if len(plain) > 0 {
		last := len(plain) - 1
		if got := a.SealWith(bytes.Clone(before), nonce, plain[:last], plain[last], additional); !bytes.Equal(got, want) {
			t.Fatalf("%s: sealed with a last byte %x, want %x", what, got, want)
		}
		if got := (narrow{reference(t, key)}).SealWith(bytes.Clone(before), nonce, plain[:last], plain[last], additional); !bytes.Equal(got, want) {
			t.Fatalf("%s: sealed with a last byte, by crypto/cipher, %x, want %x", what, got, want)
		}
	}
	inPlace = bytes.Clone(sealed)
	if got, err := a.Open(inPlace[:0], nonce, inPlace, additional); err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("%s: opened in place %x, %v", what, got, err)
	}
	for _, i := range []int{0, len(plain) / 2, len(sealed) - TagBytes, len(sealed) - 1} {
		bad := bytes.Clone(sealed)
		bad[i] ^= 0x10
		got, err := a.Open(bad[:0], nonce, bad, additional)
		if err == nil || got != nil || !bytes.Equal(bad[:len(plain)], make([]byte, len(plain))) {
			t.Fatalf("%s: byte %d is another: %v, and it says %x", what, i, err, bad[:len(plain)])
		}
	}
	if _, err := a.Open(nil, nonce, sealed, append(bytes.Clone(additional), 0)); err == nil {
		t.Fatalf("%s: other additional data is accepted", what)
	}
}

// TestGCM: it is crypto/cipher's AES-GCM, for every length around every boundary of the assembler.
func TestGCM(t *testing.T) {
	for _, keyBytes := range []int{16, 32} {
		random := source(uint64(keyBytes))
		for n := range 1100 {
			agree(t, random(keyBytes), random(NonceBytes), random(n), random(n%61))
		}
		for _, n := range []int{2048, 4096, 16385, 1<<16 - 1, 1 << 20} {
			agree(t, random(keyBytes), random(NonceBytes), random(n), random(46))
		}
		for n := range 600 {
			agree(t, random(keyBytes), random(NonceBytes), random(33), random(n))
		}
	}
}

// TestOpenParts: a message that lies in parts is opened like one that does not, wherever they are cut, in memory of its own or the parts', and of another nothing is left.
func TestOpenParts(t *testing.T) {
	random := source(3)
	key, nonce, additional := random(32), random(NonceBytes), random(46)
	ours, err := New(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 16, 100, 512, 4096, 4097} {
		plain := random(n)
		all := ours.Seal(nil, nonce, plain, additional)
		sealed, tag := all[:n:n], all[n:]
		for _, part := range []int{1, 16, 171, 256, 2048, 2050, 5000} {
			for _, a := range []AEAD{ours, narrow{reference(t, key)}} {
				for _, inPlace := range []bool{false, true} {
					from, dst := bytes.Clone(sealed), bytes.Repeat([]byte{0xee}, n)
					if inPlace {
						dst = from
					}
					parts := slices.Collect(slices.Chunk(from, part))
					if !a.OpenParts(dst, nonce, parts, tag, additional) || !bytes.Equal(dst, plain) {
						t.Fatalf("%T, %d bytes in parts of %d, in place %v: other bytes", a, n, part, inPlace)
					}
					bad := bytes.Clone(tag)
					bad[3] ^= 4
					if a.OpenParts(dst, nonce, slices.Collect(slices.Chunk(bytes.Clone(sealed), part)), bad, additional) || !bytes.Equal(dst, make([]byte, n)) {
						t.Fatalf("%T, %d bytes in parts of %d: another tag is accepted, or bytes are left", a, n, part)
					}
				}
			}
		}
	}
}

// TestVectors are test cases 4 and 16 of the specification of GCM by McGrew and Viega.
func TestVectors(t *testing.T) {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	plain := unhex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39")
	additional, nonce := unhex("feedfacedeadbeeffeedfacedeadbeefabaddad2"), unhex("cafebabefacedbaddecaf888")
	for key, want := range map[string]string{
		"feffe9928665731c6d6a8f9467308308": "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091" +
			"5bc94fbc3221a5db94fae95ae7121a47",
		"feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308": "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662" +
			"76fc6ece0f4e1768cddf8853bb2d551b",
	} {
		a, err := New(unhex(key))
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(a.Seal(nil, nonce, plain, additional)); got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
}

// TestRefuses: lengths that are none of AES-GCM's, and memory that overlaps.
func TestRefuses(t *testing.T) {
	for _, n := range []int{0, 15, 17, 24, 31, 33} {
		if _, err := New(make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes is accepted", n)
		}
	}
	a, err := New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Open(nil, make([]byte, NonceBytes), make([]byte, TagBytes-1), nil); err == nil {
		t.Error("less than a tag is opened")
	}
	room := make([]byte, 100)
	for name, f := range map[string]func(){
		"nonce":         func() { a.Seal(nil, make([]byte, NonceBytes+1), nil, nil) },
		"nonce to open": func() { _, _ = a.Open(nil, make([]byte, NonceBytes-1), room, nil) },
		"overlap":       func() { a.Seal(room[1:1], make([]byte, NonceBytes), room[:50], nil) },
		"parts":         func() { a.OpenParts(room[:10], make([]byte, NonceBytes), [][]byte{room[20:29]}, room[:TagBytes], nil) },
		"tag": func() {
			a.OpenParts(room[:10], make([]byte, NonceBytes), [][]byte{room[20:30]}, room[:TagBytes-1], nil)
		},
		"overlap to open": func() { _, _ = a.Open(room[:0], make([]byte, NonceBytes), room[1:80], nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// TestNothingIsAllocated: a sector costs no memory but its own.
func TestNothingIsAllocated(t *testing.T) {
	a, err := New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	b, nonce, additional := make([]byte, 4096, 4096+TagBytes), make([]byte, NonceBytes), make([]byte, 46)
	if n := testing.AllocsPerRun(20, func() {
		sealed := a.Seal(b[:0], nonce, b, additional)
		if _, err := a.Open(b[:0], nonce, sealed, additional); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzGCM(f *testing.F) {
	f.Add(uint64(1), []byte("plaintext"), []byte("additional"))
	f.Fuzz(func(t *testing.T, seed uint64, plain, additional []byte) {
		random := source(seed)
		agree(t, random(16+16*int(seed&1)), random(NonceBytes), plain, additional)
	})
}

func BenchmarkSeal(b *testing.B) {
	for _, keyBytes := range []int{16, 32} {
		for _, n := range []int{64, 1024, 4096, 16384} {
			ours, err := New(make([]byte, keyBytes))
			if err != nil {
				b.Fatal(err)
			}
			for name, a := range map[string]cipher.AEAD{"ours": ours, "crypto": reference(b, make([]byte, keyBytes))} {
				b.Run(fmt.Sprintf("%s/%d/%d", name, keyBytes, n), func(b *testing.B) {
					plain, dst, nonce := make([]byte, n), make([]byte, 0, n+TagBytes), make([]byte, NonceBytes)
					b.SetBytes(int64(n))
					for b.Loop() {
						a.Seal(dst, nonce, plain, plain[:46])
					}
				})
			}
		}
	}
}

package cred

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"blocktree"
)

const testPassphrase = "correct horse battery"

func saveWith(t *testing.T, k Key) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "k")
	if err := k.SaveWith(file, []byte(testPassphrase)); err != nil {
		t.Fatal(err)
	}
	return file
}

func answer(s string) func() ([]byte, error) { return func() ([]byte, error) { return []byte(s), nil } }

func TestPassphrase(t *testing.T) {
	k := testKey(7)
	file := saveWith(t, k)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), "-----BEGIN BLOCKTREE ENCRYPTED KEY-----") || bytes.Contains(text, k.private().Seed()) {
		t.Errorf("the file is %q", text[:40])
	}
	got, err := LoadKeyWith(file, answer(testPassphrase))
	if err != nil || got.Principal() != k.Principal() {
		t.Fatalf("%v %v", got, err)
	}
	if p, err := LoadPublic(file); err != nil || !bytes.Equal(p, k.Public()) {
		t.Errorf("public half: %v %v", p, err)
	}
	if _, err := LoadKeyWith(file, answer(testPassphrase+"x")); blocktree.KindOf(err) != blocktree.Permission || strings.Contains(fmt.Sprint(err), "horse") {
		t.Errorf("another passphrase: %v", err)
	}
	if _, err := LoadKey(file); blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
		t.Errorf("a runtime: %v", err)
	}
	if err := k.SaveWith(file, []byte(testPassphrase)); blocktree.KindOf(err) != blocktree.Exists {
		t.Errorf("a second time: %v", err)
	}
	for _, p := range []string{"", "short", strings.Repeat("x", PassphraseBytesMax+1)} {
		if err := k.SaveWith(filepath.Join(t.TempDir(), "k"), []byte(p)); blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("a passphrase of %d bytes: %v", len(p), err)
		}
	}
}

// TestEncryptedKeyBytes: every byte of the file counts, the clear ones too.
func TestEncryptedKeyBytes(t *testing.T) {
	cheap := &encryptedKey{passes: 1, memoryKiB: 8, threads: 1, salt: make([]byte, saltBytes), nonce: make([]byte, nonceBytes), public: testKey(7).Public()}
	aead, err := cheap.cipher([]byte(testPassphrase))
	if err != nil {
		t.Fatal(err)
	}
	whole := aead.Seal(cheap.header(), cheap.nonce, testKey(7).private().Seed(), cheap.header())
	open := func(b []byte) error {
		x, err := decodeEncryptedKey(b)
		if err == nil {
			_, err = x.open([]byte(testPassphrase))
		}
		return err
	}
	if err := open(whole); err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		changed := bytes.Clone(whole)
		changed[i] ^= 1
		if open(changed) == nil {
			t.Errorf("byte %d does not count", i)
		}
	}
	for name, change := range map[string]func(b []byte){
		"passes":     func(b []byte) { binary.BigEndian.PutUint32(b[1:], argonPassesMax+1) },
		"no pass":    func(b []byte) { binary.BigEndian.PutUint32(b[1:], 0) },
		"memory":     func(b []byte) { binary.BigEndian.PutUint32(b[5:], argonMemoryKiBMax+1) },
		"threads":    func(b []byte) { b[9] = argonThreadsMax + 1 },
		"no threads": func(b []byte) { b[9] = 0 },
	} {
		b := bytes.Clone(whole)
		change(b)
		if _, err := decodeEncryptedKey(b); blocktree.KindOf(err) != blocktree.TooLarge {
			t.Errorf("%s: %v", name, err)
		}
	}
	cheap.public = testKey(8).Public()
	whole = aead.Seal(cheap.header(), cheap.nonce, testKey(7).private().Seed(), cheap.header())
	if err := open(whole); blocktree.KindOf(err) != blocktree.Invalid {
		t.Errorf("another's public key: %v", err)
	}
}

// TestKeyFileModes: no key is read from a file that others may touch, with a passphrase or without.
func TestKeyFileModes(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := testKey(7).Save(plain); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{plain, saveWith(t, testKey(7))} {
		for _, mode := range []os.FileMode{0o640, 0o620, 0o604, 0o601, 0o660, 0o400, 0o600} {
			if err := os.Chmod(file, mode); err != nil {
				t.Fatal(err)
			}
			_, err := LoadKeyWith(file, answer(testPassphrase))
			_, pub := LoadPublic(file)
			if refused := mode&0o077 != 0; refused != (blocktree.KindOf(err) == blocktree.Permission) || refused != (pub != nil) || !refused && err != nil {
				t.Errorf("mode %o: %v, %v", mode, err, pub)
			}
		}
	}
}

func TestPublicText(t *testing.T) {
	k := testKey(7)
	text := PublicText(k.Public())
	p, err := ParsePublic(text)
	if err != nil || !bytes.Equal(p, k.Public()) {
		t.Fatalf("%v %v", p, err)
	}
	for _, s := range []string{"", "ed25519-", text[:len(text)-1], text + "a", strings.ToUpper(text), "x25519-" + text[8:], k.Principal().String(), text[:len(text)-1] + "b"} {
		if _, err := ParsePublic(s); blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func FuzzEncryptedKey(f *testing.F) {
	k := &encryptedKey{passes: 1, memoryKiB: 8, threads: 1, salt: make([]byte, saltBytes), nonce: make([]byte, nonceBytes), public: testKey(7).Public()}
	f.Add(append(k.header(), make([]byte, ed25519.SeedSize+tagBytes)...))
	f.Add([]byte{formatEncryptedKey + 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := decodeEncryptedKey(b)
		if err != nil {
			switch blocktree.KindOf(err) {
			case blocktree.Invalid, blocktree.TooLarge, blocktree.Unsupported, blocktree.NewerFormat:
			default:
				t.Fatalf("kind %v: %v", blocktree.KindOf(err), err)
			}
			return
		}
		if k.memoryKiB > argonMemoryKiBMax || k.passes > argonPassesMax || k.threads > argonThreadsMax {
			t.Fatalf("unbounded: %+v", k)
		}
		if again := append(k.header(), k.sealed...); !bytes.Equal(again, b) {
			t.Fatalf("%x becomes %x", b, again)
		}
	})
}

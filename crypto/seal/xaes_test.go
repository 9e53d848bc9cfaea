package seal

import (
	"crypto/sha3"
	"encoding/hex"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestXAESVectors checks every intermediate value that C2SP publishes, for both values of the top bit of L.
func TestXAESVectors(t *testing.T) {
	const nonce = "ABCDEFGHIJKLMNOPQRSTUVWX"
	for _, x := range []struct {
		key                    byte
		k1, kx, aad, encrypted string
	}{
		{1, "e531954aca063d5b8d9c47a47d4cc6f0", "c8612c9ed53fe43e8e005b828a1631a0bbcb6ab2f46514ec4f439fcfd0fa969b",
			"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{3, "23810ec50edb99f374409466ed1f4b7b", "e9c621d4cdd9b11b00a6427ad7e559aeedd66b3857646677748f8ca796cb3fd8",
			"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		var key [32]byte
		for i := range key {
			key[i] = x.key
		}
		d := newDeriver(key)
		if got := hex.EncodeToString(d.k1[:]); got != x.k1 {
			t.Errorf("key %d: K1 %s, want %s", x.key, got, x.k1)
		}
		p := prefix([]byte(nonce[:prefixBytes]))
		if got := d.key(p); hex.EncodeToString(got[:]) != x.kx {
			t.Errorf("key %d: Kx %x, want %s", x.key, got, x.kx)
		}
		got := d.aead(p).Seal(nil, []byte(nonce[prefixBytes:]), []byte("XAES-256-GCM"), []byte(x.aad))
		if hex.EncodeToString(got) != x.encrypted {
			t.Errorf("key %d: ciphertext %x, want %s", x.key, got, x.encrypted)
		}
		plain, err := d.aead(p).Open(nil, []byte(nonce[prefixBytes:]), unhex(t, x.encrypted), []byte(x.aad))
		if err != nil || string(plain) != "XAES-256-GCM" {
			t.Errorf("key %d: opened %q, %v", x.key, plain, err)
		}
	}
}

// TestXAESAccumulated runs C2SP's randomized vectors: inputs from one SHAKE-128, all ciphertexts hashed by another.
func TestXAESAccumulated(t *testing.T) {
	iterations, want := 1_000_000, "2163ae1445985a30b60585ee67daa55674df06901b890593e824b8a7c885ab15"
	if testing.Short() {
		iterations, want = 10_000, "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"
	}
	if got := hex.EncodeToString(accumulate(iterations)); got != want {
		t.Fatalf("%d iterations: %s, want %s", iterations, got, want)
	}
}

func accumulate(iterations int) []byte {
	source, sum := sha3.NewSHAKE128(), sha3.NewSHAKE128()
	read := func(b []byte) []byte {
		source.Read(b)
		return b
	}
	var key [32]byte
	nonce, length := make([]byte, NonceBytes), make([]byte, 1)
	plain, aad, out := make([]byte, 255), make([]byte, 255), make([]byte, 0, 255+TagBytes)
	for range iterations {
		read(key[:])
		read(nonce)
		p := read(plain[:read(length)[0]])
		a := read(aad[:read(length)[0]])
		sum.Write(newDeriver(key).aead(prefix(nonce[:prefixBytes])).Seal(out, nonce[prefixBytes:], p, a))
	}
	result := make([]byte, 32)
	sum.Read(result)
	return result
}

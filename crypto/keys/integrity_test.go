package keys

import (
	"encoding/hex"
	"testing"
)

// TestIntegrityKeys wants a key that is no sealing key, another for each id, generation and file key, and pins the derivation.
func TestIntegrityKeys(t *testing.T) {
	var k, other FileKey
	other.secret[0] = 1
	got := k.Integrity(KeyID{1}, 2)
	if hex.EncodeToString(got[:]) != "535706765ff76cfc15115778fe8d75652150071f6528c7c67ae223d2c7b25362" {
		t.Errorf("derived %x", got)
	}
	for name, x := range map[string][FileKeyBytes]byte{"sealing": k.Sealing(KeyID{1}, 2), "another id": k.Integrity(KeyID{2}, 2),
		"another generation": k.Integrity(KeyID{1}, 3), "another key": other.Integrity(KeyID{1}, 2)} {
		if x == got {
			t.Errorf("%s: the same key", name)
		}
	}
}

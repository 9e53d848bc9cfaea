package parts

import (
	"bytes"
	"os"
	"testing"

	"blocktree"
	"blocktree/crypto/keys"
	"blocktree/internal/vfs"
)

// TestPins keeps what was seen, durably and by path, and does not go on with what is damaged.
func TestPins(t *testing.T) {
	p, err := OpenPins(vfs.Disk{}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	a, b := blocktree.Path("/e/a"), blocktree.Path("/e/b")
	if _, ok, err := p.Pin(a); ok || err != nil {
		t.Fatalf("before anything was seen: %v", err)
	}
	for n := range uint64(3) {
		seen := keys.Pin{Number: n, KeyID: keys.KeyID{1}, Owner: 7, Digest: [32]byte{byte(n)}}
		if err := p.SetPin(a, seen); err != nil {
			t.Fatal(err)
		}
		if got, ok, err := p.Pin(a); !ok || err != nil || got != seen {
			t.Errorf("%+v: %v", got, err)
		}
	}
	if err := p.SetPin(a, keys.Pin{Number: 1, KeyID: keys.KeyID{1}}); err != nil {
		t.Fatal(err)
	}
	if got, _, err := p.Pin(a); err != nil || got.Number != 2 {
		t.Errorf("an older one was put in its place: %+v, %v", got, err)
	}
	if _, ok, err := p.Pin(b); ok || err != nil {
		t.Errorf("another path: %v", err)
	}
	text, err := os.ReadFile(p.Where(a))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.Where(b), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Pin(b); blocktree.KindOf(err) != blocktree.Corrupt {
		t.Errorf("the pin of another path: %v", err)
	}
	for i := range text {
		changed := bytes.Clone(text)
		changed[i] ^= 1
		if err := os.WriteFile(p.Where(a), changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := p.Pin(a); blocktree.KindOf(err) != blocktree.Corrupt || blocktree.HintOf(err) == "" {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
}

func FuzzDecodePin(f *testing.F) {
	f.Add(encodePin("/e/a", keys.Pin{Number: 3, KeyID: keys.KeyID{1}, Owner: 7, Digest: [32]byte{9}}))
	f.Fuzz(func(t *testing.T, text []byte) {
		if path, p, err := decodePin(text); err == nil && !bytes.Equal(encodePin(path, p), text) {
			t.Fatalf("%q comes back as %q", text, encodePin(path, p))
		}
	})
}

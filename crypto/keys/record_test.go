package keys

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"blocktree"
)

// TestHybridKeys wraps to both kinds, keeps a hybrid key in a file, and tells the kinds apart by their text.
func TestHybridKeys(t *testing.T) {
	plain, hybrid := NewReaderKey(), NewReaderKeyOf(MLKEM768X25519)
	a, key := created(t, plain.Public(), hybrid.Public())
	back, err := DecodeAccess(a.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "hybrid.key")
	if err := hybrid.Save(path); err != nil {
		t.Fatal(err)
	}
	loaded, err := LoadReaderKey(path)
	if err != nil || loaded.Public() != hybrid.Public() {
		t.Fatal(err)
	}
	for _, r := range []*ReaderKey{plain, loaded} {
		if got, err := back.Open(r); err != nil || got != key {
			t.Errorf("%v: %v", r.Public().Kind(), err)
		}
		if p, err := ParsePublicKey(r.Public().String()); err != nil || p != r.Public() {
			t.Errorf("%v: %v", r.Public().Kind(), err)
		}
		if k, err := ParseKeyKind(r.Public().Kind().String()); err != nil || k != r.Public().Kind() {
			t.Errorf("%v: %v", k, err)
		}
	}
	s := hybrid.Public().String()
	if !strings.HasPrefix(s, "mlkem768x25519-") || len(s) != 15+1946 || len(hybrid.Public().Short()) > 80 {
		t.Errorf("%d bytes, short %q", len(s), hybrid.Public().Short())
	}
	for _, bad := range []string{"x25519-" + s[15:], "mlkem768x25519-" + plain.Public().String()[7:], s[:len(s)-1], "mlkem768x25519-secret-" + s[15:], "mlkem1024-" + s[15:]} {
		if _, err := ParsePublicKey(bad); blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("%q: %v", bad[:20], err)
		}
	}
	if _, err := ParseKeyKind("rsa"); blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
		t.Error(err)
	}
}

// TestBounds: the largest record that can be made is as long as is said.
func TestBounds(t *testing.T) {
	hybrid := NewReaderKeyOf(MLKEM768X25519).Public()
	many := []PublicKey{hybrid}
	for len(many) < ReadersMax {
		many = append(many, NewReaderKeyOf(MLKEM768X25519).Public())
	}
	reader := NewReaderKey()
	a, _, err := CreateDirectory(MLKEM768X25519, []PublicKey{reader.Public()})
	if err != nil {
		t.Fatal(err)
	}
	for range OlderKeysMax {
		ring, err := a.OpenAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		if a, _, err = a.Rekey(ring, []PublicKey{reader.Public()}); err != nil {
			t.Fatal(err)
		}
	}
	ring, err := a.OpenAll(reader)
	if err != nil || len(ring) != OlderKeysMax+1 {
		t.Fatal(len(ring), err)
	}
	if _, _, err := a.Rekey(ring, many); blocktree.KindOf(err) != blocktree.TooLarge || blocktree.HintOf(err) == "" {
		t.Errorf("one generation more: %v", err)
	}
	file := *a
	file.Directory = PublicKey{}
	if _, _, err := file.Rekey(ring, many); blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" {
		t.Errorf("one generation of a file more: %v", err)
	}
	if a, err = a.WithReaders(ring[a.Generation], many); err != nil {
		t.Fatal(err)
	}
	a.Path = blocktree.Path(strings.Repeat("/", blocktree.PathBytesMax))
	a.Sign(time.Unix(1, 0), make([]byte, blocktree.CredentialBytesMax), func([]byte) []byte { return make([]byte, signatureBytes) })
	b := a.Append(nil)
	if len(b) != AccessBytesMax {
		t.Errorf("%d bytes, at most %d", len(b), AccessBytesMax)
	}
	if _, err := DecodeAccess(b); err != nil {
		t.Error(err)
	}
}

// TestGenerationsOfKeys: who reads now has every key, who does not any more has those that it had.
func TestGenerationsOfKeys(t *testing.T) {
	alice, bob := NewReaderKey(), NewReaderKey()
	first, key1 := created(t, alice.Public(), bob.Public())
	ring1, err := first.OpenAll(bob)
	if err != nil {
		t.Fatal(err)
	}
	second, key2, err := first.Rekey(ring1, []PublicKey{alice.Public()})
	if err != nil {
		t.Fatal(err)
	}
	if second.Number != 2 || second.Generation != 2 || first.Number != 1 || first.Generation != 1 || key1 == key2 || !first.WrappedTo(bob.Public()) {
		t.Errorf("number %d, generation %d", second.Number, second.Generation)
	}
	back, err := DecodeAccess(second.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	ring, err := back.OpenAll(alice)
	if err != nil || len(ring) != 2 || ring[1] != key1 || ring[2] != key2 {
		t.Fatalf("alice has %d keys: %v", len(ring), err)
	}
	if _, err := back.OpenAll(bob); blocktree.KindOf(err) != blocktree.Permission {
		t.Errorf("bob: %v", err)
	}
	// Bob puts himself in, with the wrap that he had.
	back.Readers = append(back.Readers, first.Readers[1])
	if _, err := back.OpenAll(bob); blocktree.KindOf(err) != blocktree.Corrupt {
		t.Errorf("bob with his old wrap: %v", err)
	}
	for name, change := range map[string]func(*Access){
		"sealed key": func(a *Access) { a.Older[0].Key[3] ^= 1 },
		"generation": func(a *Access) { a.Older[0].Generation = 7 },
	} {
		changed, _ := DecodeAccess(second.Append(nil))
		change(changed)
		if _, err := changed.OpenAll(alice); blocktree.KindOf(err) != blocktree.Corrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
	third := second.WithoutOlder()
	if ring, err = third.OpenAll(alice); err != nil || len(ring) != 1 || third.Number != 3 || len(second.Older) != 1 {
		t.Errorf("%d keys of record %d: %v", len(ring), third.Number, err)
	}
	fourth, err := third.WithReaders(key2, []PublicKey{bob.Public()})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := fourth.Open(bob); err != nil || got != key2 || fourth.Generation != 2 {
		t.Errorf("bob again: %v", err)
	}
}

// TestDirectoryKeys: who reads a directory opens what is wrapped to it, before and after its key changed, and a directory's secret is no file key.
func TestDirectoryKeys(t *testing.T) {
	alice := NewReaderKey()
	dir, pair, err := CreateDirectory(X25519, []PublicKey{alice.Public()})
	if err != nil {
		t.Fatal(err)
	}
	bob := NewReaderKey()
	file, key := created(t, dir.Directory, bob.Public())
	file.Inherit(dir.Directory)
	if back, err := DecodeAccess(file.Append(nil)); err != nil || len(back.Named()) != 1 || back.Named()[0] != bob.Public() || !back.Readers[0].Inherited {
		t.Errorf("%v: %v", back.Named(), err)
	}
	ring, err := dir.OpenAll(alice)
	if err != nil {
		t.Fatal(err)
	}
	next, _, err := dir.Rekey(ring, []PublicKey{alice.Public()})
	if err != nil {
		t.Fatal(err)
	}
	if next.Directory == dir.Directory || pair.Public() != dir.Directory {
		t.Error("the pair did not change with its generation")
	}
	if ring, err = next.OpenAll(alice); err != nil {
		t.Fatal(err)
	}
	pairs, err := next.Pairs(ring)
	if err != nil || len(pairs) != 2 || pairs[0].Public() != next.Directory {
		t.Fatal(pairs, err)
	}
	if got, err := file.Open(pairs[1]); err != nil || got != key {
		t.Errorf("what was wrapped before: %v", err)
	}
	next.Directory = NewReaderKey().Public()
	if _, err := next.Pairs(ring); blocktree.KindOf(err) != blocktree.Corrupt {
		t.Errorf("another public key: %v", err)
	}
	dir.Directory = PublicKey{} // as if it were a file's
	if _, err := dir.Open(alice); blocktree.KindOf(err) != blocktree.Corrupt {
		t.Errorf("a directory's secret as a file key: %v", err)
	}
	if _, _, err := CreateDirectory(9, nil); blocktree.KindOf(err) != blocktree.Invalid {
		t.Error(err)
	}
}

// signed makes a record of path, owned by user 7, signed by a key whose credentials are its public half and say the user id.
func signed(t *testing.T, path blocktree.Path, uid uint32) (*Access, Verifier) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := created(t, NewReaderKey().Public())
	a.Path, a.Owner = path, 7
	a.Sign(time.Unix(1e9, 0), public, func(m []byte) []byte { return ed25519.Sign(private, m) })
	return a, func(credentials, message, signature []byte, made time.Time) (Signer, error) {
		if made.Unix() != a.Made || !ed25519.Verify(credentials, message, signature) {
			return Signer{}, errors.New("bad signature")
		}
		return Signer{UID: uid}, nil
	}
}

// TestVerifyRecord: every byte of a record is signed, it is of one path, and only user 0 and the owner sign.
func TestVerifyRecord(t *testing.T) {
	const path = blocktree.Path("/e/vm/disk0")
	a, verify := signed(t, path, 7)
	if s, err := a.Verify(path, verify); err != nil || s.UID != 7 {
		t.Fatal(err)
	}
	if _, err := a.Verify("/e/vm/disk1", verify); blocktree.KindOf(err) != blocktree.Corrupt {
		t.Errorf("another path: %v", err)
	}
	good := a.Append(nil)
	for i := range good {
		b := append([]byte(nil), good...)
		b[i] ^= 1
		changed, err := DecodeAccess(b)
		if err != nil {
			continue
		}
		if _, err := changed.Verify(path, verify); blocktree.KindOf(err) != blocktree.Unauthenticated {
			t.Errorf("byte %d: %v", i, err)
		}
	}
	for uid, want := range map[uint32]blocktree.Kind{0: blocktree.Other, 7: blocktree.Other, 8: blocktree.Permission} {
		a, verify := signed(t, path, uid)
		if _, err := a.Verify(path, verify); blocktree.KindOf(err) != want {
			t.Errorf("user %d: %v", uid, err)
		}
	}
	if _, err := a.Verify(path, func(_, _, _ []byte, _ time.Time) (Signer, error) { return Signer{Anonymous: true}, nil }); blocktree.KindOf(err) != blocktree.Permission {
		t.Errorf("anonymous: %v", err)
	}
	a.Signature = nil
	if _, err := a.Verify(path, verify); blocktree.KindOf(err) != blocktree.Unauthenticated {
		t.Errorf("signed by nobody: %v", err)
	}
}

// TestPins: what may come after a record that was seen.
func TestPins(t *testing.T) {
	seen, _ := signed(t, "/e/f", 7)
	seen.Number = 5
	for name, x := range map[string]struct {
		change func(*Access)
		uid    uint32
		good   bool
	}{
		"the same":            {func(*Access) {}, 7, true},
		"the next":            {func(a *Access) { a.Number++ }, 7, true},
		"older":               {func(a *Access) { a.Number-- }, 0, false},
		"unsigned":            {func(a *Access) { a.Number = 0 }, 0, false},
		"another of one":      {func(a *Access) { a.Suite++ }, 0, false},
		"another file":        {func(a *Access) { a.Number++; a.KeyID[0]++ }, 0, false},
		"given away":          {func(a *Access) { a.Number++; a.Owner = 8 }, 7, true},
		"given away by 0":     {func(a *Access) { a.Number++; a.Owner = 8 }, 0, true},
		"taken by who has it": {func(a *Access) { a.Number++; a.Owner = 8 }, 8, false},
	} {
		now := *seen
		x.change(&now)
		if err := now.Follows(seen.Pin(), Signer{UID: x.uid}); (err == nil) != x.good || err != nil && blocktree.KindOf(err) != blocktree.Permission {
			t.Errorf("%s: %v", name, err)
		}
	}
	unsigned := *seen
	unsigned.Number = 0
	if err := seen.Follows(unsigned.Pin(), Signer{UID: 7}); err != nil {
		t.Errorf("the first signed record: %v", err)
	}
}

// TestReadsFirstFormat pins the bytes of a record of the version before.
func TestReadsFirstFormat(t *testing.T) {
	reader := mustReaderKey(X25519, []byte("0123456789abcdefghijklmnopqrstuv"))
	a, key := created(t, reader.Public())
	old := append([]byte{1, testSuite}, a.KeyID[:]...)
	old = append(old, 0, 0, 0, 1, 0, 0, 0, 1)
	old = append(old, a.Readers[0].Reader.raw...)
	old = append(append(old, a.Readers[0].Encapsulated...), a.Readers[0].Key[:]...)
	back, err := DecodeAccess(old)
	if err != nil || back.Number != 0 || back.Generation != 1 || fmt.Sprintf("%x", back.Append(nil)) != fmt.Sprintf("%x", old) {
		t.Fatal(back, err)
	}
	if got, err := back.Open(reader); err != nil || got != key {
		t.Error(err)
	}
	next, err := back.WithReaders(key, back.PublicKeys())
	if err != nil || next.Number != 1 {
		t.Errorf("the first signed record has number %d, %v", next.Number, err)
	}
}

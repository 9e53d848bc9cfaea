package keys

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"blocktree"
)

const testSuite = 1

const secretPrefix = "x25519-secret-"

func created(t testing.TB, readers ...PublicKey) (*Access, FileKey) {
	t.Helper()
	a, k, err := Create(testSuite, readers)
	if err != nil {
		t.Fatal(err)
	}
	return a, k
}

func TestWrapAndOpen(t *testing.T) {
	alice, bob, eve := NewReaderKey(), NewReaderKey(), NewReaderKey()
	a, key := created(t, alice.Public(), bob.Public())
	back, err := DecodeAccess(a.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]*ReaderKey{"alice": alice, "bob": bob} {
		if got, err := back.Open(r); err != nil || got != key {
			t.Errorf("%s opens another key: %v", name, err)
		}
	}
	_, err = back.Open(eve)
	if blocktree.KindOf(err) != blocktree.Permission || blocktree.HintOf(err) == "" {
		t.Errorf("eve: %v", err)
	}
	// Eve puts her name on Bob's wrap.
	back.Readers[1].Reader = eve.Public()
	if _, err := back.Open(eve); blocktree.KindOf(err) != blocktree.Corrupt {
		t.Errorf("eve with bob's wrap: %v", err)
	}
}

// TestBinding moves a wrap to another suite, key id or generation: it must not open there.
func TestBinding(t *testing.T) {
	reader := NewReaderKey()
	for name, change := range map[string]func(*Access){
		"suite":        func(a *Access) { a.Suite++ },
		"key id":       func(a *Access) { a.KeyID[3] ^= 1 },
		"generation":   func(a *Access) { a.Generation++ },
		"encapsulated": func(a *Access) { a.Readers[0].Encapsulated[5] ^= 1 },
		"low order":    func(a *Access) { a.Readers[0].Encapsulated = make([]byte, 32) },
		"wrapped key":  func(a *Access) { a.Readers[0].Key[5] ^= 1 },
		"wrap's tag":   func(a *Access) { a.Readers[0].Key[wrappedBytes-1] ^= 1 },
	} {
		a, _ := created(t, reader.Public())
		change(a)
		if k, err := a.Open(reader); blocktree.KindOf(err) != blocktree.Corrupt || k != (FileKey{}) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCreateRefuses(t *testing.T) {
	r := NewReaderKey().Public()
	many := make([]PublicKey, ReadersMax+1)
	for i := range many {
		many[i] = NewReaderKey().Public()
	}
	for name, x := range map[string]struct {
		readers []PublicKey
		kind    blocktree.Kind
	}{
		"twice":     {[]PublicKey{r, r}, blocktree.Invalid},
		"too many":  {many, blocktree.TooLarge},
		"nobody":    {[]PublicKey{{}}, blocktree.Invalid},
		"low order": {[]PublicKey{{X25519, string(make([]byte, 32))}}, blocktree.Invalid},
		"no curve":  {[]PublicKey{{MLKEM768X25519, strings.Repeat("\xff", HybridKeyBytes)}}, blocktree.Invalid},
	} {
		if a, _, err := Create(testSuite, x.readers); blocktree.KindOf(err) != x.kind || a != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	a, _, err := Create(testSuite, many[1:])
	if err != nil {
		t.Fatalf("as many readers as allowed: %v", err)
	}
	a.Number = 0 // the bytes of the first format
	if n := len(a.Append(nil)); n != 1+1+KeyIDBytes+4+4+ReadersMax*unsignedBytes {
		t.Errorf("%d bytes", n)
	}
}

// TestSealingKeys wants another key for each use, id, generation and file key, and pins the derivation.
func TestSealingKeys(t *testing.T) {
	k, id := FileKey{secret: [32]byte{1}}, KeyID{2}
	seen := map[[32]byte]string{}
	for name, key := range map[string][32]byte{
		"itself":           k.secret,
		"sealing":          k.Sealing(id, 1),
		"other generation": k.Sealing(id, 2),
		"other id":         k.Sealing(KeyID{3}, 1),
		"other file key":   FileKey{secret: [32]byte{9}}.Sealing(id, 1),
	} {
		if seen[key] != "" {
			t.Errorf("%s is the same key as %s", name, seen[key])
		}
		seen[key] = name
	}
	const golden = "851f0db5d67417ddcb5ef7c10a28dd89bbc2475c82bc4a441600ce8362816084"
	if got := k.Sealing(id, 1); hex.EncodeToString(got[:]) != golden {
		t.Errorf("the derivation changed: %x", got)
	}
	if NewFileKey() == NewFileKey() {
		t.Error("two file keys are equal")
	}
}

func TestPublicKeyText(t *testing.T) {
	p := NewReaderKey().Public()
	if got, err := ParsePublicKey(p.String()); err != nil || got != p {
		t.Fatalf("%v: %v", p, err)
	}
	s := p.String()
	for _, bad := range []string{"", "x25519-", s[1:], s[:len(s)-1], s + "a", strings.ToUpper(s), s[:len(s)-1] + "b", "x25519-secret-" + s[7:]} {
		if _, err := ParsePublicKey(bad); blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
			t.Errorf("%q: %v", bad, err)
		} else if len(bad) > 20 && strings.Contains(err.Error(), bad[10:20]) {
			t.Errorf("%q is quoted: %v", bad, err)
		}
	}
}

func TestReaderKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reader.key")
	key := NewReaderKey()
	if err := key.Save(path); err != nil {
		t.Fatal(err)
	}
	got, err := LoadReaderKey(path)
	if err != nil || got.Public() != key.Public() {
		t.Fatalf("other key: %v", err)
	}
	a, fileKey := created(t, key.Public())
	if opened, err := a.Open(got); err != nil || opened != fileKey {
		t.Errorf("the loaded key opens something else: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := key.Save(path); blocktree.KindOf(err) != blocktree.Exists {
		t.Errorf("saved over a key: %v", err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660, 0o644, 0o610} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := LoadReaderKey(path)
		if blocktree.KindOf(err) != blocktree.Permission || !strings.HasPrefix(blocktree.HintOf(err), "chmod 600 ") {
			t.Errorf("mode %v: %v, hint %q", mode, err, blocktree.HintOf(err))
		}
	}
	if _, err := LoadReaderKey(path + "x"); blocktree.KindOf(err) != blocktree.NotFound {
		t.Errorf("no file: %v", err)
	}
	if _, err := LoadReaderKey(filepath.Dir(path)); blocktree.KindOf(err) != blocktree.Invalid {
		t.Errorf("a directory: %v", err)
	}
	if err := key.Save(filepath.Join(path, "below")); err == nil {
		t.Error("saved below a file")
	}
}

// fileContent is what Save writes for a key.
func fileContent(t testing.TB, key *ReaderKey) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "reader.key")
	if err := key.Save(path); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestReaderKeyFileRefusals(t *testing.T) {
	good := fileContent(t, NewReaderKey())
	secret := good[strings.Index(good, secretPrefix)+len(secretPrefix) : len(good)-1]
	for name, x := range map[string]struct {
		content string
		kind    blocktree.Kind
	}{
		"empty":     {"", blocktree.Invalid},
		"other":     {"ssh-ed25519 " + secret, blocktree.Invalid},
		"newer":     {strings.Replace(good, "key 1", "key 2", 1), blocktree.NewerFormat},
		"short":     {good[:len(good)-2] + "\n", blocktree.Invalid},
		"long":      {good[:len(good)-1] + "a\n", blocktree.Invalid},
		"two":       {good + secretPrefix + secret + "\n", blocktree.Invalid},
		"stray":     {good + secret + "\n", blocktree.Invalid},
		"none":      {good[:strings.Index(good, secretPrefix)], blocktree.Invalid},
		"too large": {good + strings.Repeat("#\n", ReaderKeyFileBytesMax), blocktree.TooLarge},
		"capital":   {strings.ToUpper(good), blocktree.Invalid},
	} {
		_, err := decodeReaderKey([]byte(x.content))
		if blocktree.KindOf(err) != x.kind {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for at := 0; at+6 <= len(secret); at++ {
			if strings.Contains(err.Error()+blocktree.HintOf(err), secret[at:at+6]) {
				t.Errorf("%s: the error has bytes of the key: %v", name, err)
			}
		}
	}
}

// TestNothingPrintsAKey prints secrets every way fmt and slog know, and looks for their bytes.
func TestNothingPrintsAKey(t *testing.T) {
	fileKey := FileKey{secret: [32]byte([]byte("0123456789abcdefghijklmnopqrstuv"))}
	reader := mustReaderKey(X25519, fileKey.secret[:])
	raw, err := reader.private.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	for _, v := range []any{fileKey, &fileKey, reader, *reader, struct{ K FileKey }{fileKey}, []FileKey{fileKey}, Ring{1: fileKey}} {
		fmt.Fprintf(&out, "%v %+v %#v %s %x %X %q %d\n", v, v, v, v, v, v, v, v)
		fmt.Fprintln(&out, errors.Join(fmt.Errorf("with %v", v)))
		log.Info("key", "key", v)
	}
	for _, secret := range [][]byte{fileKey.secret[:], raw} {
		for _, form := range []string{string(secret[4:8]), fmt.Sprintf("%x", secret[4:8]), fmt.Sprintf("%X", secret[4:8]),
			fmt.Sprintf("%d", secret[4:8])[1:10], text().EncodeToString(secret)[8:14]} {
			if strings.Contains(out.String(), form) {
				t.Errorf("%q is in the output", form)
			}
		}
	}
}

func TestDecodeAccessRefusals(t *testing.T) {
	a, _ := created(t, NewReaderKey().Public())
	good := a.Append([]byte("before"))[len("before"):]
	const readersAt = 1 + 1 + KeyIDBytes + 4 + 8 + 4 + 4 + 8 + 1 + 4 + 3 // the last byte of the count
	edit := func(at int, b byte) []byte {
		c := bytes.Clone(good)
		c[at] = b
		return c
	}
	for name, x := range map[string]struct {
		in   []byte
		kind blocktree.Kind
	}{
		"empty":     {nil, blocktree.Invalid},
		"newer":     {edit(0, accessFormat+1), blocktree.NewerFormat},
		"older":     {edit(0, 0), blocktree.Invalid},
		"cut":       {good[:len(good)-1], blocktree.Invalid},
		"left over": {append(bytes.Clone(good), 0), blocktree.Invalid},
		"count":     {edit(readersAt, 2), blocktree.Invalid},
		"too many":  {edit(readersAt, ReadersMax+1), blocktree.TooLarge},
		"kind":      {edit(readersAt+1, 9), blocktree.NewerFormat},
		"nobody":    {edit(readersAt+1, 0), blocktree.Invalid},
		"number 0":  {edit(1+1+KeyIDBytes+4+7, 0), blocktree.Invalid},
		"signature": {edit(len(good)-1, 63), blocktree.Invalid},
		"too long":  {make([]byte, AccessBytesMax+1), blocktree.TooLarge},
	} {
		if _, err := DecodeAccess(x.in); blocktree.KindOf(err) != x.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecodeAccess(f *testing.F) {
	reader := NewReaderKey()
	a, _ := created(f, reader.Public())
	f.Add(a.Append(nil))
	f.Add((&Access{Suite: 2}).Append(nil))
	a.Number = 0
	f.Add(a.Append(nil))
	ring, _ := a.OpenAll(reader)
	a.Number = 1
	b, _, err := a.Rekey(ring, []PublicKey{reader.Public(), NewReaderKeyOf(MLKEM768X25519).Public()})
	if err != nil {
		f.Fatal(err)
	}
	b.Path = "/e/f"
	b.Inherit(reader.Public())
	b.Sign(time.Unix(1e9, 0), []byte("somebody"), func([]byte) []byte { return make([]byte, 64) })
	f.Add(b.Append(nil))
	dir, _, err := CreateDirectory(X25519, []PublicKey{reader.Public()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(dir.Append(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		a, err := DecodeAccess(in)
		if err != nil {
			return
		}
		if got := a.Append(nil); !bytes.Equal(got, in) {
			t.Fatalf("encode(decode(%x)) = %x", in, got)
		}
		if got := NumberOf(in); got != a.Number {
			t.Fatalf("number %d, decoded %d", got, a.Number)
		}
		if ring, err := a.OpenAll(reader); err == nil { // any outcome but a panic
			a.Pairs(ring)
		}
	})
}

func FuzzDecodeReaderKey(f *testing.F) {
	f.Add([]byte(fileContent(f, NewReaderKey())))
	f.Fuzz(func(t *testing.T, in []byte) {
		if key, err := decodeReaderKey(in); err == nil {
			if _, err := ParsePublicKey(key.Public().String()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

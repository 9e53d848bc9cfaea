package tree

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"strings"
	"testing"

	"blocktree"
)

// signer is a key of zeros, so that records are the same each time.
func signer() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) }

func testRecord(number, line uint64) *Record {
	r := &Record{File: testFile, Number: number, Line: line, Random: [16]byte{byte(line), 9}, Epoch: 4, Generation: 1, Sectors: 1000, Base: 1000,
		Roots: [2]Ref{{1, 7, 7}, {2, 8, 8}}, Before: [32]byte{5}}
	copy(r.Signer[:], signer().Public().(ed25519.PublicKey))
	r.Seal([32]byte{1, 2, 3}, func(m []byte) []byte { return ed25519.Sign(signer(), m) })
	return r
}

// TestEveryBitOfARecord changes each bit of an encoded record: it must not verify, or not even decode.
func TestEveryBitOfARecord(t *testing.T) {
	r := testRecord(7, 2)
	good := r.Append(nil)
	if len(good) != RecordBytes {
		t.Fatalf("%d bytes", len(good))
	}
	if err := r.Verify([32]byte{1, 2, 3}, testFile, 1000); err != nil {
		t.Fatal(err)
	}
	for i := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		got, err := DecodeRecord(bad)
		if err == nil && got.Verify([32]byte{1, 2, 3}, testFile, 1000) == nil {
			t.Fatalf("bit %d makes no difference", i)
		}
	}
}

// TestRecordOfAnotherSize: a file that has another size than at its first record has records of the second format.
func TestRecordOfAnotherSize(t *testing.T) {
	key := [32]byte{1, 2, 3}
	r := testRecord(7, 2)
	r.Base = 900
	r.Seal(key, func(m []byte) []byte { return ed25519.Sign(signer(), m) })
	b := r.Append(nil)
	got, err := DecodeRecord(b)
	if err != nil || *got != *r || len(b) != RecordBytes+8 || b[0] != 2 || got.Verify(key, testFile, 1000) != nil || got.Verify(key, testFile, 1200) != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if s := got.Shape(); s.Sectors() != 1000 || s.Base() != 900 {
		t.Errorf("%+v", s)
	}
	const baseAt = bodyBytes
	if other := bytes.Clone(b); true {
		other[baseAt+7]++
		if got, err := DecodeRecord(other); err == nil && got.Verify(key, testFile, 1000) == nil {
			t.Error("another base passes")
		}
		copy(other[baseAt:], []byte{0, 0, 0, 0, 0, 0, 3, 232}) // that of the first format
		if _, err := DecodeRecord(other); blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("a second encoding: %v", err)
		}
		copy(other[baseAt:], []byte{1, 0, 0, 0, 0, 0, 3, 232})
		if _, err := DecodeRecord(other); blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("an impossible base: %v", err)
		}
	}
}

// TestVerifyRefuses gives records that are well made, and wrong.
func TestVerifyRefuses(t *testing.T) {
	key, r := [32]byte{1, 2, 3}, testRecord(7, 2)
	forged := *r
	forged.Seal(key, func(m []byte) []byte { return make([]byte, ed25519.SignatureSize) })
	other := testFile
	other.Inode++
	for name, err := range map[string]error{"another key": r.Verify([32]byte{1, 2, 4}, testFile, 1000), "another file": r.Verify(key, other, 1000),
		"a smaller file": r.Verify(key, testFile, 999), "no signature": forged.Verify(key, testFile, 1000)} {
		if blocktree.KindOf(err) != blocktree.Corrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestGolden pins the formats: what was written once is read for ever.
func TestGolden(t *testing.T) {
	const wantRecord = "54dd6e5083513919482b06158a7b79a14fc4db42ddbf27dfe328689ec5b1ae54"
	const wantRoot = "7-2-02090000000000000000000000000000-54dd6e5083513919482b06158a7b79a1"
	const wantRef = "01c38262efc7c62a138b8616952fab34faa5452aad8947a46590f2142f057b0f"
	r := testRecord(7, 2)
	hash := r.Hash()
	if got := hex.EncodeToString(hash[:]); got != wantRecord {
		t.Errorf("the record's hash is %s", got)
	}
	if got := r.Root().String(); got != wantRoot {
		t.Errorf("the root is %s", got)
	}
	shape := NewShape(1 << 30)
	m := newMemory(&shape)
	tree := Tree{File: testFile, Shape: &shape}
	ref, err := tree.Fold(Floors, changesOf(map[uint64]Floor{0: floor(1), 1<<30 - 1: floor(2), 12345678: floor(3)}), m.source(), m.keep)
	if got := hex.EncodeToString(ref[:]); err != nil || got != wantRef {
		t.Errorf("the root page is %s (%v)", got, err)
	}
}

// TestFollows lists what may be accepted by who remembers a record, and what may not.
func TestFollows(t *testing.T) {
	shape := NewShape(1000)
	m := newMemory(&shape)
	tree := Tree{File: testFile, Shape: &shape}
	history, err := tree.Fold(History, []Change{EndChange(0, End{[16]byte{0, 9}, 3}), EndChange(1, End{[16]byte{1, 9}, 6})}, m.source(), m.keep)
	if err != nil {
		t.Fatal(err)
	}
	tree.Roots[History] = history
	now := testRecord(9, 2)
	seen := func(number, line uint64) Root { return testRecord(number, line).Root() }
	elsewhere := seen(9, 2)
	elsewhere.Hash[0]++
	stranger := seen(5, 1)
	stranger.Random[0]++
	later := seen(8, 2)
	later.Generation = 2
	for _, c := range []struct {
		name string
		root Root
		now  *Record
		ok   bool
	}{
		{"nothing remembered", Root{}, now, true},
		{"nothing remembered, no record", Root{}, nil, true},
		{"one of a later generation", later, now, false},
		{"the same", seen(9, 2), now, true},
		{"earlier in the line", seen(8, 2), now, true},
		{"the last of the line before", seen(6, 1), now, true},
		{"in the first line", seen(1, 0), now, true},
		{"no record any more", seen(1, 0), nil, false},
		{"a later number", seen(10, 2), now, false},
		{"the same number, another record", elsewhere, now, false},
		{"the same number, another line", seen(9, 1), now, false},
		{"a later line", seen(8, 3), now, false},
		{"after the end of its line", seen(7, 1), now, false},
		{"a line of another past", stranger, now, false},
		{"a line that the history does not have", Root{Number: 2, Line: 0, Random: [16]byte{1}}, now, false},
	} {
		err := c.root.Follows(c.now, &tree, m.source())
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil && (blocktree.KindOf(err) != blocktree.Corrupt || !strings.Contains(err.Error(), "rollback detected")) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestRootText reads what it writes, and nothing else.
func TestRootText(t *testing.T) {
	r := testRecord(7, 2).Root()
	second := *testRecord(7, 2)
	second.Generation = 2
	if text := second.Root().String(); !strings.HasSuffix(text, "-2") || strings.HasSuffix(r.String(), "-1") {
		t.Errorf("of generation 2: %s, of the first: %v", text, r)
	}
	for _, want := range []Root{r, {}, second.Root()} {
		if got, err := ParseRoot(want.String()); err != nil || got != want {
			t.Errorf("%v: %v, %v", want, got, err)
		}
	}
	for _, bad := range []string{"", "7", "07" + r.String()[1:], r.String() + "0", r.String() + "-1", r.String() + "-0", r.String() + "-2-2", r.String() + "-4294967296", strings.ToUpper(r.String()), r.String()[:20], "none "} {
		if _, err := ParseRoot(bad); blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzRecord decodes anything, and encodes what it could decode to the same bytes.
func FuzzRecord(f *testing.F) {
	f.Add(testRecord(7, 2).Append(nil))
	resized := testRecord(7, 2)
	resized.Base++
	f.Add(resized.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeRecord(b)
		if err == nil && !bytes.Equal(r.Append(nil), b) {
			t.Fatal("another encoding")
		}
	})
}

// FuzzProof looks a floor up in pages that somebody made up: nothing but the error, or a page whose hash the root has.
func FuzzProof(f *testing.F) {
	f.Add(uint64(5), []byte{1, 2, 3}, []byte{2, 3})
	f.Fuzz(func(t *testing.T, sector uint64, page, root []byte) {
		shape := NewShape(1 << 22)
		tree := Tree{File: testFile, Shape: &shape}
		copy(tree.Roots[Floors][:], root)
		got, err := tree.Floor(blocktree.SectorIndex(sector%(1<<22)), Pages{Fetch: func(PageID, Ref) (*Page, error) {
			p := new(Page)
			copy(p[:], page)
			return p, nil
		}})
		if err == nil && tree.Roots[Floors] != (Ref{}) {
			t.Fatalf("%v was believed", got)
		}
	})
}

// FuzzRoot reads what a person may type.
func FuzzRoot(f *testing.F) {
	f.Add(testRecord(7, 2).Root().String())
	f.Add("none")
	f.Add("7-2-02090000000000000000000000000000-54dd6e5083513919482b06158a7b79a1-2")
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := ParseRoot(text); err == nil && r.String() != text {
			t.Fatalf("%q is read as %v", text, r)
		}
	})
}

package seal

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"testing"

	"blocktree"
)

var (
	testKey  = [32]byte{1, 2, 3}
	testFile = blocktree.FileID{Generation: 3, Inode: 77}
	testAt   = blocktree.Version{Epoch: 5, Sequence: 9}
)

const testIndex blocktree.SectorIndex = 1234

func randomSector(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func sealed(s *Sealer, sector []byte) (bytes, header []byte) {
	bytes, header = make([]byte, len(sector)), make([]byte, HeaderBytes)
	s.Seal(bytes, sector, testIndex, testAt, header)
	return bytes, header
}

func TestSealOpen(t *testing.T) {
	for _, suite := range []Suite{XAES256GCM, None} {
		for _, n := range []int{0, 1, 512, 4096, blocktree.SectorBytesMax} {
			s := New(testKey, suite, testFile, 2)
			sector := randomSector(n)
			got, header := sealed(s, sector)
			if same := bytes.Equal(got, sector); n >= 16 && same != (suite == None) { // of fewer bytes it may be, by chance
				t.Errorf("%v, %d bytes: ciphertext equals plaintext: %t", suite, n, same)
			}
			if err := VerifyLeaf(got, testFile, testIndex, testAt, header); err != nil {
				t.Errorf("%v, %d bytes: %v", suite, n, err)
			}
			other := New(testKey, suite, testFile, 2) // another session of the same key
			opened := make([]byte, n)
			if err := other.Open(opened, got, testIndex, testAt, header); err != nil || !bytes.Equal(opened, sector) {
				t.Errorf("%v, %d bytes: opened other bytes: %v", suite, n, err)
			}
		}
	}
}

// TestInPlace seals and opens within one slice, also overlapping by one byte.
func TestInPlace(t *testing.T) {
	for _, suite := range []Suite{XAES256GCM, None} {
		for shift := range 2 {
			s := New(testKey, suite, testFile, 2)
			sector := randomSector(4096)
			buf := append(bytes.Clone(sector), 0)
			header := make([]byte, HeaderBytes)
			s.Seal(buf[shift:shift+4096], buf[:4096], testIndex, testAt, header)
			if err := s.Open(buf[:4096], buf[shift:shift+4096], testIndex, testAt, header); err != nil {
				t.Fatalf("%v shifted by %d: %v", suite, shift, err)
			}
			if !bytes.Equal(buf[:4096], sector) {
				t.Errorf("%v shifted by %d: other bytes", suite, shift)
			}
		}
	}
}

// TestPlace moves a sealed sector to every neighbouring place and expects Corrupt everywhere but at home.
func TestPlace(t *testing.T) {
	for _, suite := range []Suite{XAES256GCM, None} {
		sector := randomSector(512)
		got, header := sealed(New(testKey, suite, testFile, 2), sector)
		elsewhere := blocktree.FileID{Generation: 3, Inode: 78}
		for _, x := range []struct {
			name   string
			sealer *Sealer
			index  blocktree.SectorIndex
			v      blocktree.Version
		}{
			{"inode", New(testKey, suite, elsewhere, 2), testIndex, testAt},
			{"generation", New(testKey, suite, blocktree.FileID{Generation: 4, Inode: 77}, 2), testIndex, testAt},
			{"sector", New(testKey, suite, testFile, 2), testIndex + 1, testAt},
			{"epoch", New(testKey, suite, testFile, 2), testIndex, blocktree.Version{Epoch: 6, Sequence: 9}},
			{"sequence", New(testKey, suite, testFile, 2), testIndex, blocktree.Version{Epoch: 5, Sequence: 10}},
		} {
			opened := bytes.Repeat([]byte{7}, len(sector))
			if err := x.sealer.Open(opened, got, x.index, x.v, header); blocktree.KindOf(err) != blocktree.Corrupt {
				t.Errorf("%v, other %s: %v", suite, x.name, err)
			}
			if !bytes.Equal(opened, make([]byte, len(sector))) {
				t.Errorf("%v, other %s: the destination is not zeros", suite, x.name)
			}
			file := testFile
			if x.sealer.file != testFile {
				file = x.sealer.file
			}
			if err := VerifyLeaf(got, file, x.index, x.v, header); blocktree.KindOf(err) != blocktree.Corrupt {
				t.Errorf("%v, other %s: leaf: %v", suite, x.name, err)
			}
		}
	}
}

func TestOtherKeyGenerationOrSuite(t *testing.T) {
	got, header := sealed(New(testKey, XAES256GCM, testFile, 2), randomSector(512))
	for name, s := range map[string]*Sealer{
		"key":        New([32]byte{9}, XAES256GCM, testFile, 2),
		"generation": New(testKey, XAES256GCM, testFile, 3),
		"suite":      New(testKey, None, testFile, 2),
	} {
		if err := s.Open(make([]byte, 512), got, testIndex, testAt, header); blocktree.KindOf(err) != blocktree.Corrupt {
			t.Errorf("other %s: %v", name, err)
		}
	}
	got, header = sealed(New(testKey, None, testFile, 2), randomSector(512))
	if err := New(testKey, XAES256GCM, testFile, 2).Open(make([]byte, 512), got, testIndex, testAt, header); blocktree.KindOf(err) != blocktree.Corrupt {
		t.Errorf("unencrypted sector opened by an encrypting sealer: %v", err)
	}
}

// TestEveryBit flips each bit of sealed bytes, nonce and tag (for None of the leaf too).
func TestEveryBit(t *testing.T) {
	for _, suite := range []Suite{XAES256GCM, None} {
		s := New(testKey, suite, testFile, 2)
		got, header := sealed(s, randomSector(64))
		opened := make([]byte, len(got))
		for i := range (len(got) + HeaderBytes) * 8 {
			b, h := bytes.Clone(got), bytes.Clone(header)
			if i < len(b)*8 {
				b[i/8] ^= 1 << (i % 8)
			} else {
				h[i/8-len(b)] ^= 1 << (i % 8)
			}
			leafOnly := i/8-len(b) >= 0 && i/8-len(b) < nonceAt
			if err := s.Open(opened, b, testIndex, testAt, h); (blocktree.KindOf(err) != blocktree.Corrupt) && !(leafOnly && suite == XAES256GCM) {
				t.Fatalf("%v, bit %d: %v", suite, i, err)
			}
			if err := VerifyLeaf(b, testFile, testIndex, testAt, h); blocktree.KindOf(err) != blocktree.Corrupt {
				t.Fatalf("%v, bit %d: leaf: %v", suite, i, err)
			}
		}
	}
}

func TestLengths(t *testing.T) {
	for _, suite := range []Suite{XAES256GCM, None} {
		s := New(testKey, suite, testFile, 2)
		got, header := sealed(s, randomSector(512))
		for name, err := range map[string]error{
			"header":  s.Open(make([]byte, 512), got, testIndex, testAt, header[1:]),
			"dst":     s.Open(make([]byte, 511), got, testIndex, testAt, header),
			"too big": s.Open(make([]byte, 65537), make([]byte, 65537), testIndex, testAt, header),
			"leaf":    VerifyLeaf(got, testFile, testIndex, testAt, header[1:]),
		} {
			if blocktree.KindOf(err) != blocktree.Invalid {
				t.Errorf("%v: %s: %v", suite, name, err)
			}
		}
	}
}

// TestLeafGolden pins the layout of a leaf: it is on every disk.
func TestLeafGolden(t *testing.T) {
	leaf := Leaf(testFile, testIndex, testAt, make([]byte, NonceBytes), make([]byte, TagBytes), []byte("sealed"))
	if got := fmt.Sprintf("%x", leaf); got != leafGolden {
		t.Errorf("leaf %s, want %s", got, leafGolden)
	}
}

// TestAdditionalGolden opens a sector sealed by the first version of this format.
func TestAdditionalGolden(t *testing.T) {
	header := append(make([]byte, blocktree.LeafBytes), unhex(t, goldenNonce+goldenTag)...)
	opened := make([]byte, 6)
	err := New(testKey, XAES256GCM, testFile, 2).Open(opened, unhex(t, goldenSealed), testIndex, testAt, header)
	if err != nil || string(opened) != "sector" {
		t.Errorf("%q, %v", opened, err)
	}
}

// TestNonces seals many sectors from many goroutines across session changes and wants every nonce once.
func TestNonces(t *testing.T) {
	const workers, each = 8, 500
	s := New(testKey, XAES256GCM, testFile, 2)
	s.sectorsMax = 100
	var mu sync.Mutex
	nonces, prefixes := map[string]bool{}, map[string]int{}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			b, header := make([]byte, 16), make([]byte, HeaderBytes)
			for range each {
				s.Seal(b, b, testIndex, testAt, header)
				mu.Lock()
				nonces[string(HeaderNonce(header))] = true
				prefixes[string(HeaderNonce(header)[:prefixBytes])]++
				mu.Unlock()
				if err := s.Open(b, b, testIndex, testAt, header); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if len(nonces) != workers*each {
		t.Errorf("%d different nonces of %d", len(nonces), workers*each)
	}
	if len(prefixes) != workers*each/100 {
		t.Errorf("%d prefixes, want %d", len(prefixes), workers*each/100)
	}
	for p, n := range prefixes {
		if n > 100 {
			t.Errorf("prefix %x used for %d sectors", p, n)
		}
	}
}

// TestManyPrefixes reads sectors of more sessions than are cached, newest and oldest mixed.
func TestManyPrefixes(t *testing.T) {
	reader := New(testKey, XAES256GCM, testFile, 2)
	var all [][2][]byte
	for range openedPrefixesMax + 40 {
		b, h := sealed(New(testKey, XAES256GCM, testFile, 2), []byte("a sector"))
		all = append(all, [2][]byte{b, h})
	}
	opened := make([]byte, 8)
	for i := range 3 * len(all) {
		x := all[i*7%len(all)]
		if err := reader.Open(opened, x[0], testIndex, testAt, x[1]); err != nil || string(opened) != "a sector" {
			t.Fatalf("%d: %q, %v", i, opened, err)
		}
		if n := len(reader.opened.entries); n > openedPrefixesMax {
			t.Fatalf("%d prefixes cached", n)
		}
	}
	// The ring and the map agree, both ways round.
	seen := 0
	for e := reader.opened.newest; ; e = e.older {
		if reader.opened.entries[e.prefix] != e || e.older.newer != e {
			t.Fatal("the ring is broken")
		}
		if seen++; e.older == reader.opened.newest {
			break
		}
	}
	if seen != len(reader.opened.entries) {
		t.Errorf("ring of %d, map of %d", seen, len(reader.opened.entries))
	}
}

// TestCacheDropsOldest checks that use keeps an entry and that the least used one goes.
func TestCacheDropsOldest(t *testing.T) {
	var c aeadCache
	for i := range openedPrefixesMax {
		c.put(prefix{byte(i), byte(i >> 8)}, nil)
	}
	c.get(prefix{0}, nil) // cached: make is not called
	c.put(prefix{0xff, 0xff}, nil)
	if c.entries[prefix{0}] == nil || c.entries[prefix{1}] != nil || len(c.entries) != openedPrefixesMax {
		t.Error("the wrong prefix was dropped")
	}
}

func TestRandomBytesAreGivenOnce(t *testing.T) {
	var mu sync.Mutex
	seen := map[[suffixBytes]byte]bool{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5000 {
				var b [suffixBytes]byte
				randomBytes(b[:])
				mu.Lock()
				if seen[b] {
					t.Error("twice the same bytes")
				}
				seen[b] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestNothingPrintsTheKey(t *testing.T) {
	key := [32]byte([]byte("0123456789abcdefghijklmnopqrstuv"))
	s := New(key, XAES256GCM, testFile, 2)
	_, header := sealed(s, []byte("x"))
	err := s.Open(make([]byte, 1), []byte("y"), testIndex, testAt, header)
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %s", s, s, s, s), fmt.Sprintf("%v %#v", err, err)} {
		for _, secret := range []string{"0123456789", "30313233343536", "48, 49, 50", "48 49 50", "0x30, 0x31"} {
			if strings.Contains(text, secret) {
				t.Errorf("%q in %q", secret, text)
			}
		}
	}
}

func TestSuites(t *testing.T) {
	for _, s := range []Suite{XAES256GCM, None} {
		if got, err := ParseSuite(s.String()); err != nil || got != s || !s.Valid() {
			t.Errorf("%v: %v, %v", s, got, err)
		}
		if got, err := SuiteOf(uint8(s)); err != nil || got != s {
			t.Errorf("%v stored: %v, %v", s, got, err)
		}
	}
	for _, s := range []Suite{0, 3, 255} {
		if _, err := SuiteOf(uint8(s)); blocktree.KindOf(err) != blocktree.Unsupported {
			t.Errorf("%v stored: %v", s, err)
		}
		if s.Valid() {
			t.Errorf("%v is valid", s)
		}
		if _, err := ParseSuite(s.String()); blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("%v: %v", s, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	s := New(testKey, XAES256GCM, testFile, 2)
	b, h := sealed(s, []byte("a sector"))
	f.Add(b, h)
	f.Fuzz(func(t *testing.T, b, h []byte) {
		dst := make([]byte, len(b))
		for _, s := range []*Sealer{s, New(testKey, None, testFile, 2)} {
			if err := s.Open(dst, b, testIndex, testAt, h); err != nil {
				if k := blocktree.KindOf(err); k != blocktree.Corrupt && k != blocktree.Invalid {
					t.Fatal(err)
				}
			} else if s.suite == None && VerifyLeaf(b, testFile, testIndex, testAt, h) != nil {
				t.Fatal("opened with a wrong leaf")
			}
		}
	})
}

// TestParts: a sector sealed into parts is what Seal makes of it, cut, with zeros behind; OpenParts opens it, and Open what the parts
// hold together. Parts that have too little are Invalid, one bit changed in any of them Corrupt.
func TestParts(t *testing.T) {
	for _, suite := range []Suite{XAES256GCM, None} {
		s := New(testKey, suite, testFile, 2)
		for k := 1; k <= blocktree.DataShardsMax; k++ {
			sector := randomSector(512)
			n := (len(sector) + k - 1) / k
			whole := bytes.Repeat([]byte{0xee}, n*k)
			parts := make([][]byte, k)
			for i := range parts {
				parts[i] = whole[i*n : (i+1)*n]
			}
			header := make([]byte, HeaderBytes)
			s.SealParts(parts, sector, testIndex, testAt, header)
			for _, b := range whole[len(sector):] {
				if b != 0 {
					t.Fatalf("%v, %d parts: no zeros behind the sector", suite, k)
				}
			}
			got := make([]byte, len(sector))
			if err := s.Open(got, whole[:len(sector)], testIndex, testAt, header); err != nil || !bytes.Equal(got, sector) {
				t.Fatalf("%v, %d parts: together: %v", suite, k, err)
			}
			clear(got)
			if err := s.OpenParts(got, parts, testIndex, testAt, header); err != nil || !bytes.Equal(got, sector) {
				t.Fatalf("%v, %d parts: %v", suite, k, err)
			}
			kept := bytes.Repeat([]byte{0xdd}, len(sector))
			if err := s.OpenParts(kept, parts[:k-1], testIndex, testAt, header); blocktree.KindOf(err) != blocktree.Invalid {
				t.Errorf("%v, %d parts and one missing: %v", suite, k, err)
			}
			if !bytes.Equal(kept, bytes.Repeat([]byte{0xdd}, len(sector))) {
				t.Errorf("%v, %d parts and one missing: bytes that nobody has checked were given out", suite, k)
			}
			parts[(k-1)/2][0] ^= 1
			err := s.OpenParts(got, parts, testIndex, testAt, header)
			if blocktree.KindOf(err) != blocktree.Corrupt || !bytes.Equal(got, make([]byte, len(sector))) {
				t.Errorf("%v, %d parts, one changed: %v, or bytes were given out", suite, k, err)
			}
		}
	}
}

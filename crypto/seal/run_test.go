package seal

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"blocktree"
)

// testRun is the places of count sectors, each in two parts, the second with some room to spare.
type testRun struct {
	size    int
	shards  [2][]byte
	headers []byte
}

func newTestRun(count, size int) *testRun {
	half := (size + 4) / 2
	r := &testRun{size: size, headers: bytes.Repeat([]byte{0xee}, count*HeaderBytes)}
	for i := range r.shards {
		r.shards[i] = bytes.Repeat([]byte{0xee}, count*half)
	}
	return r
}

func (r *testRun) Parts(i int, parts [][]byte) [][]byte {
	half := (r.size + 4) / 2
	for _, s := range r.shards {
		parts = append(parts, s[i*half:(i+1)*half])
	}
	return parts
}

func (r *testRun) Seal(i int) []byte { return r.headers[i*HeaderBytes : (i+1)*HeaderBytes] }

// sealed is the i-th sealed sector in one piece, and whether the room behind it is zeros.
func (r *testRun) sealed(i int) ([]byte, bool) {
	all := bytes.Join(r.Parts(i, nil), nil)
	return all[:r.size], !bytes.ContainsFunc(all[r.size:], func(b rune) bool { return b != 0 })
}

// TestSealRun: each sector of a run is sealed in its place as it would be alone: it opens there and nowhere else, its leaf is that of its bytes, and no nonce is used twice.
func TestSealRun(t *testing.T) {
	for _, suite := range []Suite{XAES256GCM, None} {
		for _, size := range []int{1, 512, 4096, 20000} {
			for _, count := range []int{0, 1, 2, 7, 8, 15, 16, 17, 31, 33} {
				t.Run(fmt.Sprint(suite, size, count), func(t *testing.T) { testSealRun(t, suite, size, count) })
			}
		}
	}
}

func testSealRun(t *testing.T, suite Suite, size, count int) {
	s, reader := New(testKey, suite, testFile, 2), New(testKey, suite, testFile, 2)
	src := make([]byte, count*size)
	for i := range src {
		src[i] = byte(rand.Uint32())
	}
	before, run, nonces := bytes.Clone(src), newTestRun(count, size), map[string]bool{}
	s.SealRun(run, src, size, testIndex, testAt)
	if !bytes.Equal(src, before) {
		t.Fatal("the sectors were changed")
	}
	for i := range count {
		b, rest := run.sealed(i)
		at, plain := testIndex+blocktree.SectorIndex(i), make([]byte, size)
		if !rest {
			t.Errorf("%d: there is something behind the sector", i)
		}
		if err := VerifyLeaf(b, testFile, at, testAt, run.Seal(i)); err != nil {
			t.Errorf("%d: %v", i, err)
		}
		if err := reader.OpenParts(plain, run.Parts(i, nil), at, testAt, run.Seal(i)); err != nil || !bytes.Equal(plain, src[i*size:(i+1)*size]) {
			t.Errorf("%d: opened %v, or something else", i, err)
		}
		if reader.OpenParts(plain, run.Parts(i, nil), at+1, testAt, run.Seal(i)) == nil {
			t.Errorf("%d: opened in another place", i)
		}
		nonces[string(HeaderNonce(run.Seal(i)))] = true
	}
	if suite == XAES256GCM && len(nonces) != count {
		t.Errorf("%d nonces for %d sectors", len(nonces), count)
	}
}

// TestSealRunRenewsPrefixes: what is sealed together counts sector by sector.
func TestSealRunRenewsPrefixes(t *testing.T) {
	s := New(testKey, XAES256GCM, testFile, 2)
	s.sectorsMax = 10
	run, prefixes := newTestRun(32, 16), map[string]int{}
	s.SealRun(run, make([]byte, 32*16), 16, testIndex, testAt)
	for i := range 32 {
		prefixes[string(HeaderNonce(run.Seal(i))[:prefixBytes])]++
	}
	for p, n := range prefixes {
		if n > 10 {
			t.Errorf("prefix %x used for %d sectors", p, n)
		}
	}
	if len(prefixes) != 4 {
		t.Errorf("%d prefixes", len(prefixes))
	}
}

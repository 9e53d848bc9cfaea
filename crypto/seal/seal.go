package seal

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
	"sync/atomic"

	"blocktree"
	"blocktree/internal/gcm"
	"blocktree/internal/invariant"
)

// sessionSectorsMax is how many sectors are sealed under one nonce prefix: it keeps the chance of two equal nonces
// under one derived key at 2^-41.
const sessionSectorsMax = 1 << 28

const openOp = "seal.Open"

// additionalFormat is the first byte of the additional data; a new layout takes a new number.
const additionalFormat = 1

// additionalBytes: format, suite, key generation, then file, sector, version.
const additionalBytes = 1 + 1 + 4 + 40

// Sealer seals and opens the sectors of one file under one generation of its key. All methods may be called by many
// goroutines at once. It holds key material for as long as it is reachable; it prints as nothing but its place.
type Sealer struct {
	suite      Suite
	file       blocktree.FileID
	generation uint32
	sectorsMax uint64 // per session; a field so that a test can make it small

	derive  *deriver // nil for None
	current atomic.Pointer[session]
	renew   sync.Mutex // held while current is replaced
	opened  aeadCache  // of prefixes other than current's
}

// session is one nonce prefix and the AEAD derived from it.
type session struct {
	prefix prefix
	aead   gcm.AEAD
	count  atomic.Uint64 // sectors sealed under it, refused ones included
}

// workspace is what one call needs and would otherwise allocate, because it is passed through interfaces. Its buf holds
// a leaf's input: place | sealed bytes | room for the tag that GCM appends.
type workspace struct {
	buf        []byte
	additional [additionalBytes]byte
	nonce      [NonceBytes]byte
	place      [leafPlaceBytes]byte
	sum        [sha256.Size]byte
	hash       hash.Hash
	parts      [][]byte
}

var workspaces = sync.Pool{New: func() any { return &workspace{hash: sha256.New()} }}

// room returns buf with room for a sector of n bytes.
func (w *workspace) room(n int) []byte {
	if need := leafPlaceBytes + n + TagBytes; cap(w.buf) < need {
		w.buf = make([]byte, need)
	}
	return w.buf[:leafPlaceBytes+n+TagBytes]
}

// New returns a Sealer for the sectors of file under key, which is the sealing key of keyGeneration (crypto/keys). The
// key is not used by suite None. A suite that is not Valid is a broken invariant: decoders refuse it first.
func New(key [32]byte, suite Suite, file blocktree.FileID, keyGeneration uint32) *Sealer {
	invariant.Check(suite.Valid(), "sealer of %v", suite)
	invariant.Check(keyGeneration <= GenerationMax, "sealer of key generation %d", keyGeneration)
	s := &Sealer{suite: suite, file: file, generation: keyGeneration, sectorsMax: sessionSectorsMax}
	if suite == XAES256GCM {
		s.derive = newDeriver(key)
		s.current.Store(s.newSession())
	}
	return s
}

// Suite returns what New was given.
func (s *Sealer) Suite() Suite { return s.suite }

// String prints the suite, the file and the key's generation, never the key.
func (s *Sealer) String() string {
	return s.suite.String() + " sealer of " + s.file.String()
}

// GoString is String, so that no verb of fmt prints the key.
func (s *Sealer) GoString() string { return s.String() }

func (s *Sealer) newSession() *session {
	var n session
	n.prefix = drawPrefix(s.generation)
	n.aead = s.derive.aead(n.prefix)
	return &n
}

// take returns a session that has room for one more sector, which is counted.
func (s *Sealer) take() *session {
	for {
		c := s.current.Load()
		if c.count.Add(1) <= s.sectorsMax {
			return c
		}
		s.renew.Lock()
		if s.current.Load() == c {
			s.opened.put(c.prefix, c.aead)
			s.current.Store(s.newSession())
		}
		s.renew.Unlock()
	}
}

// Seal encrypts sector into dst, which has the same length (at most blocktree.SectorBytesMax bytes) and may be the same
// or an overlapping slice, and fills header, HeaderBytes long: leaf, nonce, tag. index and v are the sector's place and are
// authenticated. The same sector sealed twice gives other bytes. It does not block and keeps no slice; wrong lengths are
// a broken invariant. With None dst is a copy, and nonce and tag are zeros.
func (s *Sealer) Seal(dst, sector []byte, index blocktree.SectorIndex, v blocktree.Version, header []byte) {
	if len(dst) != len(sector) { // boxing the lengths would allocate
		invariant.Check(false, "seal %d bytes into %d", len(sector), len(dst))
	}
	s.SealParts([][]byte{dst}, sector, index, v, header)
}

// SealParts is Seal with the sealed sector cut into parts, one after the other: the data shards of an erasure code, without a copy
// between. What the parts have room for beyond the sector's length becomes zeros. No part may overlap sector but as Seal allows.
func (s *Sealer) SealParts(parts [][]byte, sector []byte, index blocktree.SectorIndex, v blocktree.Version, header []byte) {
	n := len(sector)
	if n > blocktree.SectorBytesMax || len(header) != HeaderBytes {
		invariant.Check(false, "seal %d bytes with a header of %d", n, len(header))
	}
	if s.suite == None {
		clear(header[nonceAt:])
		leaf := Leaf(s.file, index, v, HeaderNonce(header), HeaderTag(header), sector)
		copy(header, leaf[:])
		scatter(parts, sector)
		return
	}
	w := workspaces.Get().(*workspace)
	defer workspaces.Put(w)
	buf := w.room(n)
	s.encrypt(w, buf, sector, index, v, header)
	leaf := sha256.Sum256(buf[:leafPlaceBytes+n])
	copy(header, leaf[:])
	scatter(parts, buf[leafPlaceBytes:leafPlaceBytes+n])
}

// encrypt makes the input of a sector's leaf in buf, which has room for the tag behind it, and fills nonce and tag of the header.
func (s *Sealer) encrypt(w *workspace, buf, sector []byte, index blocktree.SectorIndex, v blocktree.Version, header []byte) {
	nonce, tag := HeaderNonce(header), HeaderTag(header)
	session := s.take()
	copy(w.nonce[:], session.prefix[:])
	randomBytes(w.nonce[prefixBytes:])
	s.putAdditional(w.additional[:], index, v)
	session.aead.Seal(buf[:leafPlaceBytes], w.nonce[prefixBytes:], sector, w.additional[:])
	copy(nonce, w.nonce[:])
	copy(tag, buf[leafPlaceBytes+len(sector):])
	putPlace(buf, s.file, index, v, nonce, tag)
}

// scatter cuts sealed into parts, the rest of which are zeros.
func scatter(parts [][]byte, sealed []byte) {
	for _, p := range parts {
		n := copy(p, sealed)
		clear(p[n:])
		sealed = sealed[n:]
	}
	invariant.Check(len(sealed) == 0, "parts with too little room for a sealed sector")
}

// gather is scatter backwards. It reports whether the parts fill dst, and leaves dst as it is if they do not.
func gather(dst []byte, parts [][]byte) bool {
	room := 0
	for _, p := range parts {
		room += len(p)
	}
	if room < len(dst) {
		return false
	}
	for _, p := range parts {
		dst = dst[copy(dst, p):]
	}
	return true
}

// Open decrypts sealed into dst, which has the same length and may be the same or an overlapping slice. header is what Seal
// filled, index and v the place it was sealed for. It fails with kind Corrupt when bytes, place, suite or key are other
// ones, and dst is then all zeros (sealed too, where it is the same slice); Invalid for wrong lengths. It does not block and keeps no slice.
//
// With XAES256GCM the tag decides and the leaf is not looked at (VerifyLeaf does that for those without keys, and to find
// the bad shard); with None the leaf decides.
func (s *Sealer) Open(dst, sealed []byte, index blocktree.SectorIndex, v blocktree.Version, header []byte) error {
	if len(dst) != len(sealed) {
		return blocktree.E(openOp, blocktree.Invalid, errLength)
	}
	return s.OpenParts(dst, [][]byte{sealed}, index, v, header)
}

// OpenParts is Open of a sealed sector that lies in parts, one after the other; what they have beyond the length of dst is not looked
// at. No part may overlap dst but as Open allows.
func (s *Sealer) OpenParts(dst []byte, parts [][]byte, index blocktree.SectorIndex, v blocktree.Version, header []byte) error {
	const op = openOp
	n := len(dst)
	if len(header) != HeaderBytes {
		return blocktree.E(op, blocktree.Invalid, errHeader)
	}
	if n > blocktree.SectorBytesMax {
		return blocktree.E(op, blocktree.Invalid, errLength)
	}
	if s.suite == None {
		if !gather(dst, parts) {
			return blocktree.E(op, blocktree.Invalid, errLength)
		}
		return s.openNone(dst, index, v, header)
	}
	w := workspaces.Get().(*workspace)
	defer workspaces.Put(w)
	sealed, ok := cut(w.parts[:0], parts, n)
	w.parts = sealed
	defer clear(sealed)
	if !ok {
		return blocktree.E(op, blocktree.Invalid, errLength)
	}
	copy(w.nonce[:], HeaderNonce(header))
	s.putAdditional(w.additional[:], index, v)
	aead := s.aeadOf(prefix(w.nonce[:prefixBytes]))
	if !aead.OpenParts(dst, w.nonce[prefixBytes:], sealed, HeaderTag(header), w.additional[:]) {
		return blocktree.E(op, blocktree.Corrupt, errTag)
	}
	return nil
}

// cut appends the first n bytes of parts to out. It reports false where there are less.
func cut(out, parts [][]byte, n int) ([][]byte, bool) {
	for _, p := range parts {
		p = p[:min(len(p), n)]
		n -= len(p)
		out = append(out, p)
	}
	return out, n == 0
}

// openNone checks a sector that is already where it belongs.
func (s *Sealer) openNone(sector []byte, index blocktree.SectorIndex, v blocktree.Version, header []byte) error {
	err := VerifyLeaf(sector, s.file, index, v, header)
	for _, b := range header[nonceAt:] {
		if b != 0 {
			err = blocktree.E(openOp, blocktree.Corrupt, errSuite)
		}
	}
	if err != nil {
		clear(sector)
	}
	return err
}

func (s *Sealer) aeadOf(p prefix) gcm.AEAD {
	if c := s.current.Load(); c.prefix == p {
		return c.aead
	}
	return s.opened.get(p, s.derive.aead)
}

func (s *Sealer) putAdditional(b []byte, index blocktree.SectorIndex, v blocktree.Version) {
	b[0] = additionalFormat
	b[1] = byte(s.suite)
	binary.BigEndian.PutUint32(b[2:], s.generation)
	putID(b[6:], s.file, index, v)
}

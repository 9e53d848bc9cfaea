package cluster

import (
	"hash/crc32"
	"slices"
	"time"

	"blocktree"
	"blocktree/internal/vfs"
	"blocktree/internal/wire"
)

// ScrubCounts is what a scrub found, in sectors as this node keeps them.
type ScrubCounts struct {
	Sectors     uint64 `json:"sectors"` // read and compared
	Bytes       uint64 `json:"bytes"`   // read here or fetched for that
	BitRot      uint64 `json:"bitRot"`
	Lost        uint64 `json:"lost"` // shards that are gone, and writes that never arrived
	Misdirected uint64 `json:"misdirected"`
	Mixed       uint64 `json:"mixed"` // another version or other contents than the other members have
	Repaired    uint64 `json:"repaired"`
	Beyond      uint64 `json:"beyondRepair"` // fewer good shards exist than are needed
}

// Found is how many sectors were not as they should be.
func (c *ScrubCounts) Found() uint64 { return c.BitRot + c.Lost + c.Misdirected + c.Mixed }

// Add adds what another scrub found.
func (c *ScrubCounts) Add(d ScrubCounts) {
	into, from := c.fields(), d.fields()
	for i := range into {
		*into[i] += *from[i]
	}
}

// fields lists the counts in the order in which they are encoded; append-only.
func (c *ScrubCounts) fields() []*uint64 {
	return []*uint64{&c.Sectors, &c.Bytes, &c.BitRot, &c.Lost, &c.Misdirected, &c.Mixed, &c.Repaired, &c.Beyond}
}

// ScrubKind names what was found.
type ScrubKind uint8

// The kinds of finding; their numbers are on the wire and on disk, append-only.
const (
	ScrubBitRot ScrubKind = iota + 1
	ScrubLost
	ScrubMisdirected
	ScrubMixed
)

// String is the kind's name in logs and JSON.
func (k ScrubKind) String() string {
	switch k {
	case ScrubBitRot:
		return "bit rot"
	case ScrubLost:
		return "lost"
	case ScrubMisdirected:
		return "misdirected"
	case ScrubMixed:
		return "mixed"
	}
	return "unknown"
}

// MarshalText implements encoding.TextMarshaler.
func (k ScrubKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what MarshalText prints.
func (k *ScrubKind) UnmarshalText(text []byte) error {
	for *k = ScrubBitRot; *k <= ScrubMixed; *k++ {
		if k.String() == string(text) {
			return nil
		}
	}
	return blocktree.E("scrub kind", blocktree.Invalid, nil)
}

// count is the counter of a kind.
func (c *ScrubCounts) count(k ScrubKind) *uint64 {
	switch k {
	case ScrubLost:
		return &c.Lost
	case ScrubMisdirected:
		return &c.Misdirected
	case ScrubMixed:
		return &c.Mixed
	}
	return &c.BitRot
}

// ScrubOutcome is what became of a finding.
type ScrubOutcome uint8

// The outcomes; append-only, as ScrubKind.
const (
	ScrubRepaired ScrubOutcome = iota + 1
	ScrubBeyond
	ScrubLater  // too few members answered: found again by the next scrub
	ScrubCopyUp // the node is to be copied up anew
)

// String is the outcome's name in logs and JSON.
func (o ScrubOutcome) String() string {
	switch o {
	case ScrubRepaired:
		return "repaired"
	case ScrubBeyond:
		return "beyond repair"
	case ScrubLater:
		return "not repaired yet"
	case ScrubCopyUp:
		return "to be copied up"
	}
	return "unknown"
}

// MarshalText implements encoding.TextMarshaler.
func (o ScrubOutcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads what MarshalText prints.
func (o *ScrubOutcome) UnmarshalText(text []byte) error {
	for *o = ScrubRepaired; *o <= ScrubCopyUp; *o++ {
		if o.String() == string(text) {
			return nil
		}
	}
	return blocktree.E("scrub outcome", blocktree.Invalid, nil)
}

// ScrubFinding is a run of sectors of one kind of damage.
type ScrubFinding struct {
	Time    time.Time             `json:"time"`
	File    blocktree.FileID      `json:"-"`
	Name    string                `json:"file"` // generation.inode
	First   blocktree.SectorIndex `json:"firstSector"`
	Count   uint64                `json:"sectors"`
	Kind    ScrubKind             `json:"kind"`
	Outcome ScrubOutcome          `json:"outcome"`
}

const (
	// scrubFindingsMax is how many findings a node remembers: enough to see what kind of damage it is.
	scrubFindingsMax = 64
	// ScrubFilesMax bounds the files that one scrub is asked for; who wants more asks for everything.
	ScrubFilesMax = 256
)

// scrubWalk is one way over the node's shards.
type scrubWalk struct {
	id     uint64 // of a scrub that was asked for
	active bool
	began  int64              // Unix seconds
	files  []blocktree.FileID // ascending; none: all
	file   blocktree.FileID   // the next one
	sector blocktree.SectorIndex
	counts ScrubCounts
	owed   uint64 // missing writes that only a copy-up brings
	left   uint64 // damaged sectors that could not be repaired yet
}

// covers reports whether a file is on the way.
func (w *scrubWalk) covers(f blocktree.FileID) bool {
	if len(w.files) == 0 {
		return true
	}
	_, ok := slices.BinarySearchFunc(w.files, f, compareFiles)
	return ok
}

func compareFiles(a, b blocktree.FileID) int {
	switch {
	case a == b:
		return 0
	case a.Generation < b.Generation || a.Generation == b.Generation && a.Inode < b.Inode:
		return -1
	}
	return 1
}

// scrubState is what a node remembers of its scrubs, on its disk.
type scrubState struct {
	total    ScrubCounts // of all time
	passes   uint64      // walks in the background that came to their end
	leftAt   int64       // Unix seconds: when the node last left its views to be copied up
	leaving  bool        // and is not known to be in sync again since
	asked    scrubWalk
	ground   scrubWalk // in the background
	findings []ScrubFinding
}

const (
	scrubFormat = 1
	scrubFile   = "scrub"
	// scrubStateBytesMax is more than a state of that format has.
	scrubStateBytesMax = 64 << 10
)

func (w *scrubWalk) encode(e *wire.Encoder) {
	e.U64(w.id)
	e.Bool(w.active)
	e.U64(uint64(w.began))
	e.U32(uint32(len(w.files)))
	for _, f := range w.files {
		e.File(f)
	}
	e.File(w.file)
	e.U64(uint64(w.sector))
	encodeCounts(e, &w.counts)
	e.U64(w.owed)
	e.U64(w.left)
}

func decodeWalk(d *wire.Decoder) (w scrubWalk) {
	w.id, w.active, w.began = d.U64(), d.Bool(), int64(d.U64())
	w.files = decodeFiles(d)
	w.file, w.sector = d.File(), blocktree.SectorIndex(d.U64())
	w.counts = decodeCounts(d)
	w.owed, w.left = d.U64(), d.U64()
	return w
}

// decodeFiles reads a list of files; it refuses one that is not ascending.
func decodeFiles(d *wire.Decoder) (files []blocktree.FileID) {
	for n := d.Count(ScrubFilesMax); n > 0 && d.Err() == nil; n-- {
		f := d.File()
		if k := len(files); k > 0 && compareFiles(files[k-1], f) >= 0 {
			d.Fail(blocktree.E("scrub: files", blocktree.Corrupt, nil))
		}
		files = append(files, f)
	}
	return files
}

func encodeCounts(e *wire.Encoder, c *ScrubCounts) {
	for _, f := range c.fields() {
		e.U64(*f)
	}
}

func decodeCounts(d *wire.Decoder) (c ScrubCounts) {
	for _, f := range c.fields() {
		*f = d.U64()
	}
	return c
}

func encodeFindings(e *wire.Encoder, all []ScrubFinding) {
	e.U32(uint32(len(all)))
	for _, f := range all {
		e.U64(uint64(f.Time.Unix()))
		e.File(f.File)
		e.U64(uint64(f.First))
		e.U64(f.Count)
		e.U8(uint8(f.Kind))
		e.U8(uint8(f.Outcome))
	}
}

func decodeFindings(d *wire.Decoder) []ScrubFinding {
	all := []ScrubFinding{} // for JSON
	for n := d.Count(scrubFindingsMax); n > 0 && d.Err() == nil; n-- {
		f := ScrubFinding{Time: time.Unix(int64(d.U64()), 0), File: d.File(), First: blocktree.SectorIndex(d.U64()), Count: d.U64(),
			Kind: ScrubKind(d.U8()), Outcome: ScrubOutcome(d.U8())}
		f.Name = f.File.String()
		if f.Kind < ScrubBitRot || f.Kind > ScrubMixed || f.Outcome < ScrubRepaired || f.Outcome > ScrubCopyUp {
			d.Fail(blocktree.E("scrub: finding", blocktree.Corrupt, nil))
		}
		all = append(all, f)
	}
	return all
}

func (s *scrubState) encode() []byte {
	var e wire.Encoder
	e.U8(scrubFormat)
	encodeCounts(&e, &s.total)
	e.U64(s.passes)
	e.U64(uint64(s.leftAt))
	e.Bool(s.leaving)
	s.asked.encode(&e)
	s.ground.encode(&e)
	encodeFindings(&e, s.findings)
	e.U32(crc32.Checksum(e.Buf, crc32.MakeTable(crc32.Castagnoli)))
	return e.Buf
}

func decodeScrubState(b []byte) (s scrubState, err error) {
	d := wire.NewDecoder(b)
	d.Format(scrubFormat)
	s.total = decodeCounts(d)
	s.passes, s.leftAt, s.leaving = d.U64(), int64(d.U64()), d.Bool()
	s.asked, s.ground = decodeWalk(d), decodeWalk(d)
	s.findings = decodeFindings(d)
	sum := d.U32()
	if err := d.Finish(); err != nil {
		return scrubState{}, err
	}
	if sum != crc32.Checksum(b[:len(b)-4], crc32.MakeTable(crc32.Castagnoli)) {
		return scrubState{}, blocktree.E("checksum", blocktree.Corrupt, nil)
	}
	return s, nil
}

// load reads what the last start wrote. A file that is not there or damaged is none: the walk begins at the start.
func (s *scrubState) load(disk vfs.FS, dir string) {
	*s = scrubState{}
	if b, err := readSmallFile(disk, dir, scrubFile, scrubStateBytesMax); err == nil {
		if t, err := decodeScrubState(b); err == nil {
			*s = t
		}
	}
}

// save replaces the file. It is not synced: what it says is worth a walk, and no more.
func (s *scrubState) save(disk vfs.FS, dir string) error {
	return replaceFile(disk, dir, scrubFile, s.encode(), false)
}

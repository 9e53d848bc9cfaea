package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"blocktree"
	"blocktree/internal/vfs"
)

// ProblemKind says what of a store is damaged.
type ProblemKind string

// The kinds of problem.
const (
	ProblemSuperblock ProblemKind = "superblock"      // nobody can tell whose the directory is
	ProblemCheckpoint ProblemKind = "checkpoint"      // nobody can tell what is live
	ProblemIndexFile  ProblemKind = "index file"      // it is gone, or cannot be opened
	ProblemPage       ProblemKind = "index page"      // of its sectors nothing is known
	ProblemSegment    ProblemKind = "segment missing" // with all that is in it
	ProblemRecord     ProblemKind = "record missing"  // what the index names is not there
	ProblemSectors    ProblemKind = "sectors"         // they do not match their checksum, or cannot be read
	ProblemHeader     ProblemKind = "record header"   // its sectors are good, but cannot be moved
	ProblemLog        ProblemKind = "log"             // records behind the checkpoint are gone or damaged
	ProblemCount      ProblemKind = "live count"      // the checkpoint counts other live sectors than the index names
)

// Problem is one piece of damage. Count 0: no sectors are known. From 0: no log sequences are.
type Problem struct {
	Kind    ProblemKind
	Name    string // of the file in the store's directory
	Offset  int64  // in that file
	File    blocktree.FileID
	First   blocktree.SectorIndex
	Count   uint64
	Version blocktree.Version
	From    uint64 // log sequences
	To      uint64
	Text    string
}

// String is one line: where, whose, what.
func (p Problem) String() string {
	where := p.Name
	if p.Offset > 0 || p.Count > 0 && p.Kind != ProblemSegment {
		where += fmt.Sprintf(" at %d", p.Offset)
	}
	switch {
	case p.Count == 1:
		where += fmt.Sprintf(", file %v sector %d", p.File, p.First)
	case p.Count > 1:
		where += fmt.Sprintf(", file %v sectors %d to %d", p.File, p.First, uint64(p.First)+p.Count-1)
	case p.From > 0 && p.From == p.To:
		where += fmt.Sprintf(", log sequence %d", p.From)
	case p.From > 0:
		where += fmt.Sprintf(", log sequences %d to %d", p.From, p.To)
	}
	return fmt.Sprintf("%s: %s: %s", p.Kind, where, p.Text)
}

// ProblemsMax is how many problems a report names; it counts the others.
const ProblemsMax = 10_000

// CheckReport is what Check found. Damaged sectors may be counted twice: in the index and behind the checkpoint.
type CheckReport struct {
	Info
	Complete       bool // superblock and checkpoint are good, so that the rest could be checked
	Problems       []Problem
	ProblemCount   uint64
	DamagedSectors uint64
	Leftovers      []Leftover
	Notes          []string // what is worth knowing and no damage
	Records        uint64   // that the index or the checkpoint's pending list name, read
	Sectors        uint64   // of those, verified
	LogRecords     uint64   // good, behind the checkpoint
	Torn           uint64   // sequences of a tail that was never acknowledged as durable
	ReadBytes      int64
}

// Clean reports whether there is no damage. Leftovers, a torn tail and notes are none.
func (r *CheckReport) Clean() bool { return r.ProblemCount == 0 }

func (r *CheckReport) add(p Problem) {
	r.ProblemCount++
	r.DamagedSectors += p.Count
	if len(r.Problems) < ProblemsMax {
		r.Problems = append(r.Problems, p)
	}
}

// CheckOptions say how to check.
type CheckOptions struct {
	Known    []string              // names of files that somebody else keeps in the directory
	Progress func(readBytes int64) // called after each read, if not nil

	batchRuns int // tests only: how much of the index is kept in memory
}

// batchRunsDefault is how many runs of the index are kept at a time, to be read in the order of the segments: 256 MiB.
const batchRunsDefault = 4 << 20

// checker is one Check.
type checker struct {
	*inspection
	ctx    context.Context
	opts   CheckOptions
	report *CheckReport
	count  *countingFS
	ix     *index
	pages  []tableEntry // in the order of the index file
	runs   map[uint32]int
	named  map[uint32]int64 // live sectors by segment
	whole  bool             // every page was read
	logs   map[uint32]bool  // segments whose headers the scan of the log looks at
	scr    [sectorPrefixBytes]byte
}

// Check reads all that a store holds and says what is damaged. It changes nothing, takes the lock of the directory, if there is one,
// and blocks for as long as it takes to read the index, about twice, all live records, and the log behind the checkpoint. It keeps the
// checkpoint, and at most 256 MiB of the index, in memory.
//
// Damage is no error. Kinds: NotFound without a store, Busy while a process has it, NewerFormat, Permission, and that of ctx.
func Check(ctx context.Context, fs vfs.FS, dir string, opts CheckOptions) (report *CheckReport, err error) {
	unlock, err := lockForReading(fs, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	c := newChecker(ctx, fs, opts)
	if err := c.check(dir); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, blocktree.E("store.Check", blocktree.Canceled, err)
	}
	c.report.ReadBytes = c.count.read
	return c.report, nil
}

func newChecker(ctx context.Context, fs vfs.FS, opts CheckOptions) *checker {
	if opts.batchRuns == 0 {
		opts.batchRuns = batchRunsDefault
	}
	return &checker{
		ctx: ctx, opts: opts, report: &CheckReport{}, count: &countingFS{FS: fs, progress: opts.Progress},
		runs: map[uint32]int{}, named: map[uint32]int64{}, logs: map[uint32]bool{},
	}
}

// isDamage tells what the disk lost from what keeps us from looking.
func isDamage(err error) bool {
	switch blocktree.KindOf(err) {
	case blocktree.Corrupt, blocktree.IO, blocktree.NotFound:
		return true
	}
	return false
}

func (c *checker) check(dir string) (err error) {
	c.inspection, err = inspect(c.count, dir)
	if err != nil {
		if c.inspection == nil || !isDamage(err) {
			return err
		}
		c.report.Info = c.info()
		p := Problem{Kind: ProblemCheckpoint, Name: checkpointName, Text: cause(err)}
		if c.sb.store == 0 {
			p.Kind, p.Name = ProblemSuperblock, superblockName
		}
		c.report.add(p)
		return nil
	}
	c.report.Info, c.report.Complete = c.info(), true
	c.report.Leftovers = c.leftovers(c.opts.Known)
	if c.sb.suspect {
		c.note("damage of the index was met before: the next start reads all of it")
	}
	if err := c.openIndex(); err != nil {
		return err
	}
	if c.ix.file != nil {
		defer c.ix.file.Close()
	}
	if err := c.countRuns(); err != nil {
		return err
	}
	if err := c.readRecords(); err != nil {
		return err
	}
	c.compareCounts()
	return c.checkLog()
}

func (c *checker) note(format string, args ...any) {
	c.report.Notes = append(c.report.Notes, fmt.Sprintf(format, args...))
}

// cause is the text of the innermost error: the report says where.
func cause(err error) string {
	for {
		var e *blocktree.Error
		if !errors.As(err, &e) {
			return err.Error()
		}
		if e.Err == nil {
			return e.Kind.String()
		}
		err = e.Err
	}
}

// openIndex opens the index file and puts its pages in the order in which they stand there.
func (c *checker) openIndex() error {
	c.ix = newIndex(c.sb.identity, newPins(), 0)
	c.ix.table = c.state.table
	c.whole = true
	if c.state.indexNumber == 0 {
		return nil
	}
	c.ix.name = indexName(c.dir, c.state.indexNumber)
	f, err := c.fs.Open(c.ix.name)
	if err != nil {
		if !isDamage(err) {
			return err
		}
		c.report.add(Problem{Kind: ProblemIndexFile, Name: path.Base(c.ix.name), Text: cause(err)})
		c.whole = false
		return nil
	}
	c.ix.file = f
	c.pages = make([]tableEntry, 0, c.state.table.Len())
	c.state.table.Ascend(func(t tableEntry) bool {
		c.pages = append(c.pages, t)
		return true
	})
	slices.SortFunc(c.pages, func(a, b tableEntry) int { return cmp.Compare(a.offset, b.offset) })
	return nil
}

// namedRun is a run of sectors that the index or the pending list names, with the record that it is of.
type namedRun struct {
	at         place
	file       blocktree.FileID
	first      blocktree.SectorIndex
	version    blocktree.Version
	shardBytes uint32
	count      uint16
	index      uint16 // of first in the record
	recCount   uint16
	shard      blocktree.ShardIndex
}

// eachRun calls do with every run of data of every page and of the pending list, and bad with every page that cannot be used.
func (c *checker) eachRun(do func(namedRun), bad func(tableEntry, error)) error {
	for _, t := range c.pages {
		if c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		p, err := c.ix.readPage(t)
		if err != nil {
			bad(t, err)
			continue
		}
		for _, r := range p.runs {
			if r.content == Data {
				do(namedRun{
					at: r.at, file: t.key.file, first: blocktree.SectorIndex(t.key.page*PageSectors + uint64(r.first)), version: r.version,
					shardBytes: r.shardBytes, count: r.count, index: r.index, recCount: r.recCount, shard: r.shard,
				})
			}
		}
	}
	for at, r := range c.state.pending {
		for from := uint32(0); from < uint32(r.count); from++ {
			to := from
			for to < uint32(r.count) && r.bits.has(to) {
				to++
			}
			if to == from {
				continue
			}
			do(namedRun{
				at: at, file: r.file, first: r.first + blocktree.SectorIndex(from), version: r.version, shardBytes: r.shardBytes,
				count: uint16(to - from), index: uint16(from), recCount: r.count, shard: r.shard,
			})
			from = to
		}
	}
	return nil
}

// countRuns reads the index for the first time: it learns what pages are bad, and how much is named of each segment.
func (c *checker) countRuns() error {
	return c.eachRun(func(r namedRun) {
		c.runs[r.at.segment()]++
		c.named[r.at.segment()] += int64(r.count)
	}, func(t tableEntry, err error) {
		c.whole = false
		text := cause(err)
		if errors.Is(err, errBadPage) {
			text = errBadPage.Error()
		}
		if t.condemned() {
			text = "known damaged: what it held is being fetched from the peers"
		}
		c.report.add(Problem{
			Kind: ProblemPage, Name: path.Base(c.ix.name), Offset: int64(t.offset), File: t.key.file,
			First: blocktree.SectorIndex(t.key.page * PageSectors), Count: PageSectors, Text: text,
		})
	})
}

// compareCounts holds what the checkpoint counts live against what is named. Where pages are unknown, or were discarded, it counts
// more.
func (c *checker) compareCounts() {
	numbers := map[uint32]bool{}
	for n := range c.named {
		numbers[n] = true
	}
	for n := range c.state.live {
		numbers[n] = true
	}
	for _, n := range sorted(numbers) {
		counted, named := c.state.live[n].sectors, c.named[n]
		if counted == named || counted > named && (!c.whole || c.sb.suspect) {
			continue
		}
		c.report.add(Problem{
			Kind: ProblemCount, Name: path.Base(segmentName("", n)),
			Text: fmt.Sprintf("the checkpoint counts %d live sectors, the index and the pending records name %d", counted, named),
		})
	}
	if at := c.state.at; at.offset > 0 && !c.has(at.segment) && c.state.live[at.segment].sectors == 0 {
		c.report.add(Problem{Kind: ProblemSegment, Name: path.Base(segmentName("", at.segment)), Text: "the log of the checkpoint ends in it"})
	}
}

func (c *checker) has(segment uint32) bool {
	_, ok := c.bytes[path.Base(segmentName("", segment))]
	return ok
}

func sorted(set map[uint32]bool) []uint32 {
	out := make([]uint32, 0, len(set))
	for n := range set {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// checkLog scans the log behind the checkpoint as Open would, and writes nothing.
func (c *checker) checkLog() error {
	s := &Store{fs: c.fs, dir: c.dir, id: c.sb.identity, segs: newSegments(c.fs)}
	defer s.segs.closeAll()
	var numbers []uint32
	for _, n := range c.log() {
		name := segmentName(c.dir, n)
		bytes := c.bytes[path.Base(name)]
		s.segs.add(&segment{number: n, name: name, bytes: bytes, end: bytes})
		if _, err := s.segs.acquire(n); err != nil {
			if !isDamage(err) {
				return err
			}
			c.report.add(Problem{Kind: ProblemLog, Name: path.Base(name), Text: cause(err)})
			continue
		}
		s.segs.release(s.segs.byNo[n])
		numbers = append(numbers, n)
	}
	log, err := s.scanLog(c.state.at, numbers)
	if err != nil {
		return err
	}
	v := judge(log, c.state.at.sequence, s.isData)
	c.reportLog(log, &v)
	if err := c.damagedData(s, &v); err != nil {
		return err
	}
	return c.noteReplaced(s, &v)
}

// noteReplaced says of damaged sectors that the log behind the checkpoint has them again, as new or newer: then a start repairs them,
// if that was committed, which only the node's machine knows.
func (c *checker) noteReplaced(s *Store, v *verdict) error {
	problems := c.report.Problems
	if len(problems)*len(v.good) > 100_000_000 {
		return nil // there is enough to say
	}
	replaced := make([]bool, len(problems))
	for _, f := range v.good {
		if f.bad || len(problems) == 0 {
			continue
		}
		seg, err := s.segs.acquire(f.at.segment())
		if err != nil {
			return err
		}
		var b [headerBytes]byte
		err = readFull(seg.file, b[:], int64(uint32(f.at)))
		s.segs.release(seg)
		h, decodeErr := decodeHeader(b[:], s.id)
		if err != nil || decodeErr != nil || h.Kind != KindData && h.Kind != KindZero {
			continue
		}
		for i, p := range problems {
			if p.Count > 0 && p.From < f.sequence && p.File == h.File && h.First <= p.First &&
				uint64(p.First)+p.Count <= uint64(h.First)+uint64(h.Count) && !h.Version.Less(p.Version) {
				replaced[i] = true
			}
		}
	}
	for i := range replaced {
		if replaced[i] {
			problems[i].Text += "; the log behind the checkpoint has them again"
		}
	}
	return nil
}

// reportLog tells what a verdict means.
func (c *checker) reportLog(log *scan, v *verdict) {
	for _, x := range v.missing {
		c.report.add(Problem{Kind: ProblemLog, Name: "segments", From: x.from, To: x.to, Text: "was durable and is not there"})
	}
	for _, f := range v.lost {
		c.report.add(Problem{
			Kind: ProblemLog, Name: path.Base(segmentName("", f.at.segment())), Offset: int64(uint32(f.at)), From: f.sequence, To: f.sequence,
			Text: "a record of the protocol does not match its checksum",
		})
	}
	for _, at := range log.unreadable {
		c.report.add(Problem{
			Kind: ProblemLog, Name: path.Base(segmentName("", at.Segment)), Offset: int64(at.Offset), Text: "the disk cannot read it",
		})
	}
	for _, x := range v.torn {
		c.report.Torn += x.to - x.from + 1
	}
	if len(v.missing) > 0 {
		return // what is missing may be in the files without a record: they are kept
	}
	for _, n := range log.empty {
		name := path.Base(segmentName("", n))
		c.report.Leftovers = append(c.report.Leftovers, Leftover{Name: name, Bytes: c.bytes[name], Why: "no record is in it yet"})
	}
}

// damagedData names the damaged sectors of data behind the checkpoint.
func (c *checker) damagedData(s *Store, v *verdict) error {
	for _, f := range v.good {
		if !f.bad {
			c.report.LogRecords++
			continue
		}
		seg, err := s.segs.acquire(f.at.segment())
		if err != nil {
			return err
		}
		h, _, bad, err := s.readFound(f.at, &scanner{f: seg.file, size: seg.bytes})
		s.segs.release(seg)
		if err != nil {
			return err
		}
		for _, r := range badRuns(&h, bad) {
			c.report.add(Problem{
				Kind: ProblemSectors, Name: path.Base(seg.name), Offset: int64(h.offset), File: r.File, First: r.First, Count: uint64(r.Count),
				Version: r.Version, From: r.From, To: r.To, Text: "of the log, do not match their checksum",
			})
		}
	}
	return nil
}

// countingFS counts what is read.
type countingFS struct {
	vfs.FS
	read     int64
	progress func(int64)
}

// Open implements vfs.FS.
func (f *countingFS) Open(name string) (vfs.File, error) {
	file, err := f.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return &countingFile{file, f}, nil
}

type countingFile struct {
	vfs.File
	fs *countingFS
}

// ReadAt implements io.ReaderAt.
func (f *countingFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.fs.read += int64(n)
	if f.fs.progress != nil {
		f.fs.progress(f.fs.read)
	}
	return n, err
}

var _ io.ReaderAt = (*countingFile)(nil)

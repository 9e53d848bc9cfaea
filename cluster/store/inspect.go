package store

import (
	"errors"
	"path"
	"slices"
	"strings"

	"blocktree"
	"blocktree/internal/vfs"
)

// Info is what superblock, checkpoint and file names say of a store that nobody has open.
type Info struct {
	Store   blocktree.NodeID
	Format  int
	Starts  uint64 // how often it was opened
	Clean   bool   // the last process closed it with a checkpoint
	Suspect bool   // damage of the index was met: the next start reads all of it

	Segment         uint32 // where in the log the checkpoint stands
	Offset          int64
	Sequence        uint64
	CheckpointBytes int64
	LogBytes        int64 // of files behind the checkpoint, space allocated ahead included

	Segments     int // files
	SegmentBytes int64
	LiveSectors  int64 // as the checkpoint counts them
	LiveBytes    int64 // of those, with their share of headers and padding

	Pages          int // of the index
	DamagedPages   int // of those, known damaged
	IndexBytes     int64
	IndexFileBytes int64
	ZeroRanges     int
	Pending        int // records with sectors that were neither indexed nor dropped
	Stuck          int // of those, with sectors whose index page is damaged
}

// inspection is a store that is looked at and not opened: nothing of it is changed.
type inspection struct {
	fs    vfs.FS
	dir   string
	sb    superblock
	state *checkpointState
	names []string
	bytes map[string]int64 // by name
}

// lockForReading takes the lock that a running node holds. Where there is no lock file there is no node, and none is made. A missing
// directory is NotFound, as is one with nothing of a store in it.
func lockForReading(fs vfs.FS, dir string) (unlock func() error, err error) {
	names, err := fs.List(dir)
	if err != nil {
		if blocktree.KindOf(err) == blocktree.NotFound {
			err = noStore(dir, err)
		}
		return nil, err
	}
	if !slices.ContainsFunc(names, ofStore) {
		return nil, noStore(dir, errors.New("no superblock, checkpoint or segment"))
	}
	if !slices.Contains(names, lockName) {
		return func() error { return nil }, nil
	}
	lock, err := lockDir(fs, dir)
	if err != nil {
		return nil, err
	}
	return lock.Close, nil
}

// ofStore reports whether only a store has a file of that name.
func ofStore(name string) bool {
	_, segment := numberOf(name, segmentPrefix)
	return segment || name == superblockName || name == checkpointName
}

// inspect reads what Info is made of; the directory is locked. With an error of superblock or checkpoint comes what was learnt before.
func inspect(fs vfs.FS, dir string) (*inspection, error) {
	in := &inspection{fs: fs, dir: dir, bytes: map[string]int64{}}
	var err error
	if in.names, err = fs.List(dir); err != nil {
		return nil, err
	}
	for _, name := range in.names {
		if in.bytes[name], err = fs.Stat(path.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	if in.sb, err = readSuperblock(fs, dir); err != nil {
		if blocktree.KindOf(err) == blocktree.NotFound {
			err = lostStore(dir, err)
		}
		return in, err
	}
	in.state, err = readCheckpointFile(fs, dir, in.sb.identity)
	return in, err
}

// Inspect says what a store holds, without changing anything. It takes the lock of the directory, if there is one, and reads
// superblock and checkpoint. Kinds: NotFound without a store, Busy while a process has it, NewerFormat, Corrupt, IO, Permission.
func Inspect(fs vfs.FS, dir string) (info Info, err error) {
	unlock, err := lockForReading(fs, dir)
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	in, err := inspect(fs, dir)
	if err != nil {
		return info, err
	}
	return in.info(), nil
}

// info says what is known; little, where superblock or checkpoint could not be read.
func (in *inspection) info() Info {
	out := Info{Store: in.sb.store, Format: format, Starts: in.sb.starts, Clean: in.sb.clean, Suspect: in.sb.suspect}
	for name, bytes := range in.bytes {
		if _, ok := numberOf(name, segmentPrefix); ok {
			out.Segments++
			out.SegmentBytes += bytes
		}
	}
	c := in.state
	if c == nil {
		return out
	}
	out.Segment, out.Offset, out.Sequence, out.CheckpointBytes = c.at.segment, c.at.offset, c.at.sequence, c.fileBytes
	for _, n := range in.log() {
		out.LogBytes += in.bytes[path.Base(segmentName("", n))]
	}
	out.LogBytes = max(out.LogBytes-c.at.offset, 0)
	for _, l := range c.live {
		out.LiveSectors += l.sectors
		out.LiveBytes += l.bytes
	}
	out.Pages, out.IndexBytes, out.ZeroRanges, out.Pending = c.table.Len(), pageBytes(c.table), c.zeros.Len(), len(c.pending)
	c.table.Ascend(func(t tableEntry) bool {
		if t.condemned() {
			out.DamagedPages++
		}
		return true
	})
	if c.indexNumber != 0 {
		out.IndexFileBytes = in.bytes[path.Base(indexName("", c.indexNumber))]
	}
	for _, r := range c.pending {
		if r.stuck != (sectorSet{}) {
			out.Stuck++
		}
	}
	return out
}

// log returns the segments that a start would replay, in order.
func (in *inspection) log() (after []uint32) {
	for _, name := range in.names {
		n, ok := numberOf(name, segmentPrefix)
		copies := n > in.state.at.segment && in.state.live[n].sectors > 0
		if ok && n >= in.state.at.segment && !copies {
			after = append(after, n)
		}
	}
	slices.Sort(after)
	return after
}

// Leftover is a file that the store does not need.
type Leftover struct {
	Name  string
	Bytes int64
	Why   string
	Stays bool // the next start does not remove it
}

// leftovers names the files that no start needs, but for segments of the log without a record, which only a scan finds.
func (in *inspection) leftovers(known []string) (out []Leftover) {
	for _, name := range in.names {
		l := Leftover{Name: name, Bytes: in.bytes[name]}
		index, isIndex := numberOf(name, indexPrefix)
		segment, isSegment := numberOf(name, segmentPrefix)
		switch {
		case strings.HasSuffix(name, temporarySuffix):
			l.Why = "was being written when a process ended"
		case isIndex && index != in.state.indexNumber:
			l.Why = "the checkpoint names another index file"
		case isSegment && segment < in.state.at.segment && in.state.live[segment].sectors == 0:
			l.Why = "nothing in it is live"
		case isIndex, isSegment, name == superblockName, name == checkpointName, name == lockName, slices.Contains(known, name):
			continue
		default:
			l.Why, l.Stays = "belongs to nothing", true
		}
		out = append(out, l)
	}
	return out
}

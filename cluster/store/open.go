package store

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"

	"blocktree"
	"blocktree/internal/invariant"
	"blocktree/internal/vfs"
)

// sequencesSkipped is how many sequences each start leaves out, so that no record that an earlier start wrote and did not
// find again can be mistaken for a later one.
const sequencesSkipped = 1 << 20

// Create makes an empty store in dir, which is made if absent. Kinds: Exists when there is a store, Busy when another
// process has the directory, Corrupt when there are segments of a store that has lost its superblock.
func Create(fs vfs.FS, dir string, id blocktree.NodeID, opts Options) error {
	if _, err := opts.withDefaults(); err != nil {
		return err
	}
	if id == 0 {
		return blocktree.E("store.Create", blocktree.Invalid, errors.New("store id 0"))
	}
	if err := fs.MkdirAll(dir); err != nil {
		return err
	}
	lock, err := lockDir(fs, dir)
	if err != nil {
		return err
	}
	err = create(fs, dir, id)
	return errors.Join(err, lock.Close())
}

func create(fs vfs.FS, dir string, id blocktree.NodeID) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	if slices.Contains(names, superblockName) {
		return &blocktree.Error{Op: "store.Create", Path: dir, Kind: blocktree.Exists,
			Hint: "the directory holds a store already; use another one, or start the node with it"}
	}
	for _, name := range names {
		if strings.HasPrefix(name, segmentPrefix) {
			return &blocktree.Error{Op: "store.Create", Path: dir, Kind: blocktree.Corrupt,
				Err: errors.New("there are segments but no superblock"), Hint: "if nothing in it is needed, empty the directory"}
		}
	}
	var salt [8]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return blocktree.E("store.Create", blocktree.IO, err)
	}
	ident := identity{id, binary.BigEndian.Uint64(salt[:])}
	ix := newIndex(ident, newPins(), 0)
	first := checkpointState{at: position{segment: 1}, nextSegment: 1, table: ix.table, zeros: ix.zeros}
	f, err := fs.Create(path.Join(dir, checkpointName))
	if err != nil {
		return err
	}
	err = first.write(f, ident)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.SyncDir(dir); err != nil {
		return err
	}
	return writeSuperblock(fs, dir, superblock{identity: ident})
}

// Lock takes a store's directory, which must be there, as Open does: Busy while another process has it.
func Lock(fs vfs.FS, dir string) (io.Closer, error) { return lockDir(fs, dir) }

func lockDir(fs vfs.FS, dir string) (lock interface{ Close() error }, err error) {
	lock, err = fs.Lock(path.Join(dir, lockName))
	switch blocktree.KindOf(err) {
	case blocktree.Busy:
		return nil, &blocktree.Error{Op: "store.Open", Path: dir, Kind: blocktree.Busy,
			Err:  errors.New("another process uses the directory"),
			Hint: "stop the other btnode, or give this one a directory of its own"}
	case blocktree.NotFound:
		return nil, noStore(dir, err)
	}
	return lock, err
}

func noStore(dir string, err error) error {
	return &blocktree.Error{Op: "store.Open", Path: dir, Kind: blocktree.NotFound, Err: err,
		Hint: "there is no store in the directory; check the path, or whether the disk is mounted"}
}

// Open opens the store in dir for node id, hands what it holds to r, and returns when all of that is durable. It blocks for
// as long as it takes to read the checkpoint and at most CheckpointBytes of log, more if checkpoints were not taken.
//
// Kinds: NotFound without a store, Invalid for another node's, Busy while another process has it, NewerFormat, Corrupt when
// superblock or checkpoint are damaged (the node has to be replaced), NoSpace, IO, and what r returns. Damage of
// records and of index pages is no error: see Recovery. It reads the whole index if the start before found damage in it.
func Open(fs vfs.FS, dir string, id blocktree.NodeID, opts Options, r Replayer) (*Store, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(fs, dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		fs: fs, dir: dir, opts: opts, log: opts.Logger, lock: lock, pins: newPins(), segs: newSegments(fs),
		wake: make(chan struct{}, 1), prepareWake: make(chan struct{}, 1), stop: make(chan struct{}), committed: make(chan struct{}),
		preparerDone: make(chan struct{}), compactWake: make(chan struct{}, 1), fatalCh: make(chan error, 1), wantCh: make(chan struct{}, 1),
		zeros: make([]byte, zeroPieceBytes),
	}
	s.syncedCond = sync.NewCond(&s.logMu)
	s.ix = newIndex(identity{}, s.pins, opts.CacheBytes)
	s.ix.replaying = true
	if err := s.open(id, r); err != nil {
		return nil, errors.Join(err, s.release())
	}
	s.logMu.Lock()
	s.opened = true
	s.logMu.Unlock()
	s.compactor = newCompactor(s)
	go s.commitLoop()
	go s.prepareLoop()
	go s.compactor.loop()
	return s, nil
}

func (s *Store) open(id blocktree.NodeID, r Replayer) error {
	sb, err := readSuperblock(s.fs, s.dir)
	if blocktree.KindOf(err) == blocktree.NotFound {
		return noStore(s.dir, err)
	}
	if err != nil {
		return err
	}
	if err := checkOwner(s.dir, sb, id); err != nil {
		return err
	}
	// What is visible may be a dead process's rename that the disk does not have yet. What it made superfluous must not be
	// removed before it is durable: power loss could bring the old checkpoint back without what it needs.
	if s.opts.mutant != forgetOpenDirSync {
		if err := s.fs.SyncDir(s.dir); err != nil {
			return err
		}
	}
	s.id = sb.identity
	s.ix.id = s.id
	s.starts = sb.starts + 1
	s.recovery.Starts, s.recovery.Clean = s.starts, sb.clean
	state, err := readCheckpointFile(s.fs, s.dir, s.id)
	if err != nil {
		return err
	}
	if err := s.adopt(state); err != nil {
		return err
	}
	if s.suspect = sb.suspect; s.suspect {
		s.suspectNoted = true // and stays so, until a checkpoint says what is found now
		s.recount(state)
	}
	after, err := s.findSegments(state)
	if err != nil {
		return err
	}
	if err := s.replay(state, after, r); err != nil {
		return err
	}
	if s.logBytes = s.logSize(state.at); s.logBytes >= s.opts.CheckpointBytes {
		s.wantCheckpoint()
	}
	return nil
}

// adopt makes a checkpoint's state the store's.
func (s *Store) adopt(state *checkpointState) error {
	s.ix.table, s.ix.zeros = state.table, state.zeros
	s.pins.live, s.pins.pending = state.live, state.pending
	s.indexLive, s.checkpointBytes = pageBytes(state.table), state.fileBytes
	s.indexNumber, s.indexBytes, s.nextSegment = state.indexNumber, state.indexBytes, state.nextSegment
	s.pins.active, s.durableAt = state.at.segment, state.at.segment
	for at, r := range state.pending {
		if r.stuck != (sectorSet{}) {
			s.pins.stuck[at] = struct{}{}
		}
	}
	if state.indexNumber == 0 {
		return nil
	}
	s.ix.name = indexName(s.dir, state.indexNumber)
	f, err := s.fs.Open(s.ix.name)
	if err != nil {
		return lostStore(s.ix.name, err)
	}
	s.ix.file = f
	return nil
}

// findSegments learns which segments there are, removes what no checkpoint needs, and returns those to replay, in order.
func (s *Store) findSegments(state *checkpointState) ([]uint32, error) {
	names, err := s.fs.List(s.dir)
	if err != nil {
		return nil, err
	}
	var after []uint32
	for _, base := range names {
		name := path.Join(s.dir, base)
		if n, ok := numberOf(base, indexPrefix); strings.HasSuffix(base, temporarySuffix) || ok && n != state.indexNumber {
			if err := s.fs.Remove(name); err != nil {
				return nil, err
			}
			continue
		}
		n, ok := numberOf(base, segmentPrefix)
		if !ok {
			continue
		}
		s.nextSegment = max(s.nextSegment, n+1)
		if n < state.at.segment && state.live[n].sectors == 0 {
			if err := s.fs.Remove(name); err != nil {
				return nil, err
			}
			continue
		}
		bytes, err := s.fs.Stat(name)
		if err != nil {
			return nil, err
		}
		s.segs.add(&segment{number: n, name: name, bytes: bytes, end: bytes})
		copies := n > state.at.segment && state.live[n].sectors > 0 // else the checkpoint could not know of what is live in it
		if n >= state.at.segment && !copies {
			after = append(after, n)
		}
	}
	for n, live := range state.live {
		if seg := s.segs.byNo[n]; seg == nil || seg.bytes < live.bytes {
			s.recovery.Damaged = append(s.recovery.Damaged, Run{Ref: Ref{Segment: n}, LiveSectors: live.sectors})
		}
	}
	slices.Sort(after)
	return after, nil
}

// replay reads the log after the checkpoint, tells the Replayer, and begins the segment of this start.
func (s *Store) replay(state *checkpointState, after []uint32, r Replayer) error {
	log, err := s.scanLog(state.at, after)
	if err != nil {
		return err
	}
	v := judge(log, state.at.sequence, s.isData)
	if len(v.missing) > 0 {
		log.empty, log.ends = nil, nil // what is missing may be in there, and read better some day
	}
	for _, n := range log.empty { // first, so that a full disk has room for what follows
		if err := s.segs.remove(n); err != nil {
			return err
		}
	}
	if err := writeSuperblock(s.fs, s.dir, superblock{identity: s.id, starts: s.starts, suspect: s.suspectNoted}); err != nil {
		return err
	}
	s.recovery.LastSequence = max(v.last, log.synced)
	for _, x := range v.missing {
		s.recovery.Damaged = append(s.recovery.Damaged, Run{From: x.from, To: x.to})
	}
	for _, f := range v.lost {
		s.recovery.Damaged = append(s.recovery.Damaged,
			Run{From: f.sequence, To: f.sequence, Kind: KindControl, Ref: Ref{Segment: f.at.segment(), Offset: uint32(f.at)}})
	}
	for _, at := range log.unreadable {
		s.recovery.Damaged = append(s.recovery.Damaged, Run{Ref: at})
	}
	for _, x := range v.torn {
		s.recovery.Torn += x.to - x.from + 1
	}
	s.recovery.Whole = v.whole(s.recovery.LastSequence)
	if err := r.Checkpoint(s, state.blob); err != nil {
		return err
	}
	if err := s.deliver(&v, log.synced, r); err != nil {
		return err
	}
	s.ix.mu.Lock()
	s.ix.replaying = false
	s.ix.mu.Unlock()
	s.recovery.Damaged = append(s.recovery.Damaged, s.ix.damage()...)
	if len(s.recovery.Damaged) > 0 {
		s.log.Error("damage found", "store", s.id.store.String(), "runs", len(s.recovery.Damaged))
	}
	s.bad = map[place]bool{}
	for _, x := range s.recovery.Damaged {
		if x.Kind == KindData {
			s.bad[x.Ref.place()] = true
		}
	}
	if err := s.trim(log); err != nil {
		return err
	}
	return s.begin(&v)
}

// isData reports whether a record whose body is damaged is one of data.
func (s *Store) isData(f found) bool {
	seg, err := s.segs.acquire(f.at.segment())
	if err != nil {
		return false
	}
	defer s.segs.release(seg)
	var b [headerBytes]byte
	if err := readFull(seg.file, b[:], int64(uint32(f.at))); err != nil {
		return false
	}
	h, err := decodeHeader(b[:], s.id)
	return err == nil && h.Kind == KindData
}

// begin makes the first segment of this start. Its header says for ever what of the log before is void, and that the
// rest is durable.
func (s *Store) begin(v *verdict) error {
	s.nextSequence = v.used + 1 + sequencesSkipped
	h := segmentHeader{
		segment: s.nextSegment, start: s.starts, sequence: s.nextSequence, synced: s.nextSequence - 1,
		voids: append(slices.Clone(v.torn), sequences{v.used + 1, s.nextSequence - 1}),
	}
	invariant.Check(len(h.voids) <= voidsMax, "%d void ranges", len(h.voids))
	seg, err := s.createSegment(s.nextSegment, s.opts.SegmentBytes)
	if blocktree.KindOf(err) == blocktree.NoSpace {
		return &blocktree.Error{Op: "store.Open", Path: s.dir, Err: err,
			Hint: fmt.Sprintf("a store needs %d MiB of free space to start", s.opts.SegmentBytes>>20)}
	}
	if err != nil {
		return err
	}
	s.nextSegment++
	s.segs.add(seg)
	if _, err := seg.file.WriteAt(h.encode(s.id), 0); err != nil {
		return err
	}
	if err := seg.file.Datasync(); err != nil {
		return err
	}
	seg.end = h.bytes()
	s.active, s.writing = seg, seg
	s.pins.setActive(seg.number)
	s.synced, s.settled, s.written = h.synced, h.synced, h.synced
	return nil
}

// logSize is how much log lies after a position.
func (s *Store) logSize(at position) int64 {
	total := -at.offset
	for n, seg := range s.segs.byNo {
		if n >= at.segment && seg != s.active {
			total += seg.bytes
		}
	}
	return max(total, 0)
}

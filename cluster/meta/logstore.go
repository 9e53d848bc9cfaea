package meta

import (
	"errors"
	"fmt"
	"slices"

	"blocktree"
	"blocktree/internal/wire"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// recentBytesMax bounds the end of the log that is kept in memory, so that a healthy group never reads its log from disk.
const recentBytesMax = 2 << 20

// appliedState is what is stored with every applied batch.
type appliedState struct {
	node  blocktree.NodeID // whose store this is
	space byte
	index uint64
	term  uint64 // of the entry at index
	conf  *pb.ConfState
}

// logStore is Raft's log in Pebble, and raft.Storage. It belongs to the loop's goroutine.
type logStore struct {
	db      *pebble.DB
	hard    *pb.HardState
	applied appliedState
	// The log holds truncIndex+1 … last. sizes has the length of each; recent the newest of them.
	truncIndex, truncTerm uint64
	last                  uint64
	sizes                 []uint32
	bytes                 uint64
	recent                []*pb.Entry
	recentBytes           int
}

// openLogStore reads what Raft needs to start, and founds the group in an empty store of a founder: every founder starts
// from the same invented entry at index 1 that makes all of them voters.
func openLogStore(db *pebble.DB, cfg *Config) (*logStore, error) {
	s := &logStore{db: db}
	found, err := s.load()
	if err != nil {
		return nil, &blocktree.Error{Op: "meta.Open", Path: cfg.Dir, Err: err}
	}
	if found {
		if s.applied.node != cfg.Node {
			return nil, &blocktree.Error{Op: "meta.Open", Path: cfg.Dir, Kind: blocktree.Invalid,
				Err:  fmt.Errorf("the directory is of store %v, not %v", s.applied.node, cfg.Node),
				Hint: "a disk was swapped, or the configuration names another store"}
		}
		// What a snapshot that was never installed left behind.
		other := []byte{otherSpace(s.applied.space)}
		return s, db.DeleteRange(other, after(other), pebble.NoSync)
	}
	s.applied = appliedState{node: cfg.Node, space: spaceA, conf: &pb.ConfState{}}
	s.hard = &pb.HardState{}
	if len(cfg.Founders) > 0 {
		for _, f := range cfg.Founders {
			s.applied.conf.Voters = append(s.applied.conf.Voters, uint64(f.Node))
		}
		slices.Sort(s.applied.conf.Voters)
		if !slices.Contains(s.applied.conf.Voters, uint64(cfg.Node)) || len(s.applied.conf.Voters) > blocktree.VotersMax ||
			s.applied.conf.Voters[0] == 0 || len(slices.Compact(slices.Clone(s.applied.conf.Voters))) != len(s.applied.conf.Voters) {
			return nil, blocktree.E("meta.Open", blocktree.Invalid, errors.New("the founders are not up to seven different stores with this one"))
		}
		s.applied.index, s.applied.term, s.truncIndex, s.truncTerm, s.last = 1, 1, 1, 1, 1
		s.hard = &pb.HardState{Term: new(uint64(1)), Commit: new(uint64(1))}
	}
	b := db.NewBatch()
	put(b, []byte{keyApplied}, encodeApplied(&s.applied))
	put(b, []byte{keyTrunc}, encodeTrunc(s.truncIndex, s.truncTerm))
	put(b, []byte{keyHard}, encodeHard(s.hard))
	return s, b.Commit(pebble.Sync)
}

// put sets a key in a batch. Pebble's batch does not fail before its commit.
func put(b *pebble.Batch, key, value []byte) {
	if err := b.Set(key, value, nil); err != nil {
		panic("meta: batch: " + err.Error())
	}
}

// get returns a copy of a key's value, or false.
func get(r pebble.Reader, key []byte) ([]byte, bool, error) {
	v, c, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, blocktree.E("meta: read", blocktree.IO, err)
	}
	out := slices.Clone(v)
	return out, true, c.Close()
}

// load reads the stored state; false if the store is new.
func (s *logStore) load() (bool, error) {
	v, ok, err := get(s.db, []byte{keyApplied})
	if err != nil || !ok {
		return false, err
	}
	if s.applied, err = decodeApplied(v); err != nil {
		return false, err
	}
	if v, _, err = get(s.db, []byte{keyTrunc}); err != nil {
		return false, err
	}
	if s.truncIndex, s.truncTerm, err = decodeTrunc(v); err != nil {
		return false, err
	}
	if v, _, err = get(s.db, []byte{keyHard}); err != nil {
		return false, err
	}
	if s.hard, err = decodeHard(v); err != nil {
		return false, err
	}
	s.last = s.truncIndex
	return true, s.scan(s.truncIndex+1, func(e *pb.Entry, size int) bool {
		s.push(e, size)
		return true
	})
}

// scan reads log entries from index lo on until f returns false. A gap is corruption.
func (s *logStore) scan(lo uint64, f func(*pb.Entry, int) bool) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: logKey(lo), UpperBound: []byte{keyLog + 1}})
	if err != nil {
		return blocktree.E("meta: read log", blocktree.IO, err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		e, err := decodeEntry(it.Value())
		if err != nil || e.GetIndex() != lo {
			return errors.Join(blocktree.E("meta: read log", blocktree.Corrupt, fmt.Errorf("entry %d: %w", lo, err)), it.Close())
		}
		lo++
		if !f(e, len(it.Value())) {
			break
		}
	}
	if err := it.Close(); err != nil {
		return blocktree.E("meta: read log", blocktree.IO, err)
	}
	return nil
}

// push counts an entry at the end of the log.
func (s *logStore) push(e *pb.Entry, size int) {
	s.last = e.GetIndex()
	s.sizes = append(s.sizes, uint32(size))
	s.bytes += uint64(size)
	s.recent = append(s.recent, e)
	s.recentBytes += len(e.GetData())
	for len(s.recent) > 1 && s.recentBytes > recentBytesMax || len(s.recent) > 1024 {
		s.recentBytes -= len(s.recent[0].GetData())
		s.recent[0] = nil
		s.recent = s.recent[1:]
	}
}

// append puts entries into b and drops what they replace.
func (s *logStore) append(b *pebble.Batch, entries []*pb.Entry) {
	if len(entries) == 0 {
		return
	}
	first := entries[0].GetIndex()
	if first <= s.last { // an uncommitted end that another leader replaces
		if err := b.DeleteRange(logKey(first), logKey(s.last+1), nil); err != nil {
			panic("meta: batch: " + err.Error())
		}
		s.dropFrom(first)
	}
	for _, e := range entries {
		v := encodeEntry(e)
		put(b, logKey(e.GetIndex()), v)
		s.push(e, len(v))
	}
}

// dropFrom forgets entries from index first on.
func (s *logStore) dropFrom(first uint64) {
	for s.last >= first {
		n := len(s.sizes) - 1
		s.bytes -= uint64(s.sizes[n])
		s.sizes = s.sizes[:n]
		if m := len(s.recent) - 1; m >= 0 {
			s.recentBytes -= len(s.recent[m].GetData())
			s.recent = s.recent[:m]
		}
		s.last--
	}
}

// truncate drops entries up to and including index, whose term must still be known.
func (s *logStore) truncate(b *pebble.Batch, index uint64) error {
	term, err := s.Term(index)
	if err != nil {
		return err
	}
	if err := b.DeleteRange(logKey(0), logKey(index+1), nil); err != nil {
		return err
	}
	put(b, []byte{keyTrunc}, encodeTrunc(index, term))
	for _, n := range s.sizes[:index-s.truncIndex] {
		s.bytes -= uint64(n)
	}
	s.sizes = slices.Clone(s.sizes[index-s.truncIndex:])
	for len(s.recent) > 0 && s.recent[0].GetIndex() <= index {
		s.recentBytes -= len(s.recent[0].GetData())
		s.recent = s.recent[1:]
	}
	s.truncIndex, s.truncTerm = index, term
	return nil
}

// restart makes the log empty behind an installed snapshot.
func (s *logStore) restart(b *pebble.Batch, index, term uint64) {
	if err := b.DeleteRange([]byte{keyLog}, []byte{keyLog + 1}, nil); err != nil {
		panic("meta: batch: " + err.Error())
	}
	put(b, []byte{keyTrunc}, encodeTrunc(index, term))
	s.truncIndex, s.truncTerm, s.last = index, term, index
	s.sizes, s.bytes, s.recent, s.recentBytes = nil, 0, nil, 0
}

// InitialState implements raft.Storage.
func (s *logStore) InitialState() (*pb.HardState, *pb.ConfState, error) {
	return s.hard, s.applied.conf, nil
}

// FirstIndex implements raft.Storage.
func (s *logStore) FirstIndex() (uint64, error) { return s.truncIndex + 1, nil }

// LastIndex implements raft.Storage.
func (s *logStore) LastIndex() (uint64, error) { return s.last, nil }

// Term implements raft.Storage.
func (s *logStore) Term(i uint64) (uint64, error) {
	switch {
	case i < s.truncIndex:
		return 0, raft.ErrCompacted
	case i == s.truncIndex:
		return s.truncTerm, nil
	case i > s.last:
		return 0, raft.ErrUnavailable
	}
	if len(s.recent) > 0 && i >= s.recent[0].GetIndex() {
		return s.recent[i-s.recent[0].GetIndex()].GetTerm(), nil
	}
	v, ok, err := get(s.db, logKey(i))
	if err != nil || !ok {
		return 0, errors.Join(raft.ErrUnavailable, err)
	}
	e, err := decodeEntry(v)
	return e.GetTerm(), err
}

// Entries implements raft.Storage.
func (s *logStore) Entries(lo, hi, maxSize uint64) ([]*pb.Entry, error) {
	if lo <= s.truncIndex {
		return nil, raft.ErrCompacted
	}
	if hi > s.last+1 {
		return nil, raft.ErrUnavailable
	}
	var out []*pb.Entry
	var size uint64
	take := func(e *pb.Entry) bool {
		size += uint64(len(e.GetData()) + entryOverheadBytes)
		if len(out) > 0 && size > maxSize || e.GetIndex() >= hi {
			return false
		}
		out = append(out, e)
		return true
	}
	if len(s.recent) > 0 && lo >= s.recent[0].GetIndex() {
		for _, e := range s.recent[lo-s.recent[0].GetIndex():] {
			if !take(e) {
				break
			}
		}
		return out, nil
	}
	err := s.scan(lo, func(e *pb.Entry, _ int) bool { return take(e) })
	if err == nil && len(out) == 0 {
		err = raft.ErrUnavailable
	}
	return out, err
}

// Snapshot implements raft.Storage: only what it is of. The state itself is read when the message is sent, before anything
// more is applied.
func (s *logStore) Snapshot() (*pb.Snapshot, error) {
	return &pb.Snapshot{Metadata: &pb.SnapshotMetadata{ConfState: s.applied.conf, Index: new(s.applied.index),
		Term: new(s.applied.term)}}, nil
}

func encodeTrunc(index, term uint64) []byte {
	var e wire.Encoder
	e.U8(formatEntry)
	e.U64(index)
	e.U64(term)
	return e.Buf
}

func decodeTrunc(b []byte) (index, term uint64, err error) {
	d := wire.NewDecoder(b)
	d.Format(formatEntry)
	index, term = d.U64(), d.U64()
	return index, term, d.Finish()
}

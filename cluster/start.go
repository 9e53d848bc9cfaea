package cluster

import (
	"crypto/rand"
	"encoding/binary"
	"hash/crc32"

	"blocktree"
	"blocktree/internal/vfs"
	"blocktree/internal/wire"
)

// startFile is where a node keeps its startMark, beside its store.
const (
	startFile   = "start"
	startFormat = 1
)

// startMark tells a disk that has gone back in time from one that has not. Raft keeps the token of a node's newest
// start; the disk keeps the token it last knew to be Raft's and the one it is about to propose. A disk that holds neither
// what Raft holds missed a start: its node can no longer vouch for what it answered, and takes a new incarnation.
//
// Order of a start: 1. next is drawn, later than all that the disk has proposed and that Raft knows, and made durable. 2. Raft takes next. 3. current = next is made durable. A crash
// between any two leaves Raft's token equal to current or next. (A counter would not do: the image of yesterday
// and today's start could meet at the same number.)
type startMark struct {
	incarnation blocktree.Incarnation
	current     uint64
	next        uint64
}

// vouches reports whether a node with this mark may keep its incarnation, when raft is the token that Raft has for it.
func (s startMark) vouches(raft uint64) bool {
	return raft != 0 && (raft == s.current || raft == s.next)
}

// randomStep is how far one start's token lies above the one before: far enough apart that two disks never meet.
func randomStep() uint64 {
	var b [4]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return uint64(binary.BigEndian.Uint32(b[:])) + 1
}

func randomIncarnation() (i blocktree.Incarnation) {
	rand.Read(i[:])
	return i
}

// loadStart reads the mark in dir; a directory without one gives a zero mark.
func loadStart(disk vfs.FS, dir string) (startMark, error) {
	const op = "cluster: start mark"
	b, err := readSmallFile(disk, dir, startFile, 256)
	if blocktree.KindOf(err) == blocktree.NotFound {
		return startMark{}, nil
	}
	if err != nil {
		return startMark{}, &blocktree.Error{Op: op, Path: startFile, Err: err}
	}
	s, err := decodeStart(b)
	if err != nil {
		return startMark{}, &blocktree.Error{Op: op, Path: startFile, Kind: blocktree.Corrupt, Err: err}
	}
	return s, nil
}

func (s startMark) encode() []byte {
	var e wire.Encoder
	e.U8(startFormat)
	e.Raw(s.incarnation[:])
	e.U64(s.current)
	e.U64(s.next)
	e.U32(crc32.Checksum(e.Buf, crc32.MakeTable(crc32.Castagnoli)))
	return e.Buf
}

func decodeStart(b []byte) (startMark, error) {
	d := wire.NewDecoder(b)
	d.Format(startFormat)
	var s startMark
	copy(s.incarnation[:], d.Raw(len(s.incarnation)))
	s.current, s.next = d.U64(), d.U64()
	sum := d.U32()
	if err := d.Finish(); err != nil {
		return startMark{}, err
	}
	if sum != crc32.Checksum(b[:len(b)-4], crc32.MakeTable(crc32.Castagnoli)) {
		return startMark{}, blocktree.E("checksum", blocktree.Corrupt, nil)
	}
	return s, nil
}

// save replaces the mark in dir; it is durable when it returns.
func (s startMark) save(disk vfs.FS, dir string) error {
	return replaceFile(disk, dir, startFile, s.encode(), true)
}

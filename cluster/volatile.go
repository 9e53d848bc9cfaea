package cluster

import (
	"crypto/rand"
	"hash/crc32"

	"blocktree"
	"blocktree/internal/vfs"
	"blocktree/internal/wire"
)

// The incarnation by which files of durability flush know a node (docs/design/0014). It stays what it was as long as all that was
// answered under it is known to be in the log.

const (
	volatileFile   = "volatile"
	volatileFormat = 1
)

// incarnations are under which a node serves: disk for files of durability ack, volatile for those of durability flush.
type incarnations struct{ disk, volatile blocktree.Incarnation }

// volatileMark keeps the volatile incarnation beside the start mark.
//
// Order of a start: 1. The store is opened, which makes durable what is in its log. 2. If the mark is of the start before and something
// vouches for what that answered, the mark is whole, durably; else another incarnation is drawn, which has answered nothing. 3. The mark is of
// this start, durably; if Raft has one of a version without such marks, which got no further, another incarnation is drawn here. 4. Raft takes
// the start. 5. The tail mark is made. 6. The mark is not whole, durably. 7. The node serves. A crash between any two leaves a mark that the
// next start keeps, but for a loss of power between 6 and 7.
type volatileMark struct {
	start       uint64 // token of the start that it is of (startMark)
	incarnation blocktree.Incarnation
	whole       bool // all that was answered under it is durable
}

// of reports whether it is the mark of the start that a start mark says was the newest, on the same disk.
func (v volatileMark) of(s startMark) bool {
	return v.start != 0 && (v.start == s.current || v.start == s.next) && s.incarnation.SameDisk(v.incarnation)
}

// drawVolatile draws the volatile incarnation of a disk.
func drawVolatile(disk blocktree.Incarnation) blocktree.Incarnation {
	rand.Read(disk[len(disk)/2:]) // never fails (crypto/rand)
	return disk
}

// loadVolatile reads the mark in dir; a directory without one gives a zero mark.
func loadVolatile(disk vfs.FS, dir string) (volatileMark, error) {
	const op = "cluster: volatile mark"
	b, err := readSmallFile(disk, dir, volatileFile, 256)
	if blocktree.KindOf(err) == blocktree.NotFound {
		return volatileMark{}, nil
	}
	if err != nil {
		return volatileMark{}, &blocktree.Error{Op: op, Path: volatileFile, Err: err}
	}
	v, err := decodeVolatile(b)
	if err != nil {
		return volatileMark{}, &blocktree.Error{Op: op, Path: volatileFile, Kind: blocktree.Corrupt, Err: err}
	}
	return v, nil
}

func (v volatileMark) encode() []byte {
	var e wire.Encoder
	e.U8(volatileFormat)
	e.U64(v.start)
	e.Raw(v.incarnation[:])
	e.Bool(v.whole)
	e.U32(crc32.Checksum(e.Buf, crc32.MakeTable(crc32.Castagnoli)))
	return e.Buf
}

func decodeVolatile(b []byte) (volatileMark, error) {
	d := wire.NewDecoder(b)
	d.Format(volatileFormat)
	v := volatileMark{start: d.U64()}
	copy(v.incarnation[:], d.Raw(len(v.incarnation)))
	v.whole = d.Bool()
	sum := d.U32()
	if err := d.Finish(); err != nil {
		return volatileMark{}, err
	}
	if sum != crc32.Checksum(b[:len(b)-4], crc32.MakeTable(crc32.Castagnoli)) {
		return volatileMark{}, blocktree.E("checksum", blocktree.Corrupt, nil)
	}
	return v, nil
}

// findVolatile reads the volatile mark and keeps it if something vouches for all that was answered under it: the mark itself, a clean stop, or a
// tail mark. Then it says so durably: from now on the tail mark, which may go with the machine, is not needed.
func (s *Service) findVolatile() error {
	v, err := loadVolatile(s.cfg.FS, s.cfg.StoreDir)
	if blocktree.KindOf(err) == blocktree.Corrupt {
		s.cfg.Logger.Error("the volatile mark is damaged: another one is taken", "err", err)
		return nil
	}
	if err != nil || !v.of(s.mark) {
		return err
	}
	found := s.member.store.Recovery()
	if !v.whole {
		if !found.Clean && !findTail(s.cfg.Boot, tailName(s.cfg.Node, s.mark.incarnation), s.tail(v, found.Starts-1), found) {
			return nil
		}
		v.whole = true
		if err := s.saveVolatile(v); err != nil && blocktree.KindOf(err) != blocktree.NoSpace { // without, the next crash may cost what this one does not
			return err
		}
	}
	s.volatile = v
	return nil
}

// tail is what the tail mark of a start says, but for the sequence; opened is how often the store had been opened.
func (s *Service) tail(v volatileMark, opened uint64) tail {
	return tail{boot: s.cfg.Boot.ID(), node: s.cfg.Node, start: v.start, opened: opened, volatile: v.incarnation}
}

// nextVolatile is the volatile incarnation with which a start is proposed.
func (s *Service) nextVolatile(disk blocktree.Incarnation) blocktree.Incarnation {
	if !s.volatile.whole || !disk.SameDisk(s.volatile.incarnation) {
		s.volatile = volatileMark{incarnation: drawVolatile(disk), whole: true}
	}
	return s.volatile.incarnation
}

// begin is what is left of a start before the node serves: from now on what it answers may be volatile.
func (s *Service) begin(mark startMark) error {
	if mark.incarnation != s.mark.incarnation {
		s.cfg.Boot.Remove(tailName(s.cfg.Node, s.mark.incarnation))
	}
	now := s.tail(s.volatile, s.member.store.Recovery().Starts)
	s.member.mark.Store(newTailMark(s.cfg.Boot, tailName(s.cfg.Node, mark.incarnation), now, s.cfg.Logger))
	s.volatile.whole = false
	if err := s.awaitVolatile(); err != nil {
		return err
	}
	return s.saveMark(mark)
}

// awaitVolatile makes the mark durable, and waits for space on a full disk.
func (s *Service) awaitVolatile() error {
	return AwaitSpace(s.ctx, s.cfg.Logger, "space to record its start", func() error { return s.saveVolatile(s.volatile) })
}

// saveVolatile makes the mark durable.
func (s *Service) saveVolatile(v volatileMark) error {
	return replaceFile(s.cfg.FS, s.cfg.StoreDir, volatileFile, v.encode(), true)
}

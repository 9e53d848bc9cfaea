package meta

import (
	"crypto/sha256"
	"encoding/binary"
	"io"

	"blocktree"
	"blocktree/internal/wire"
)

// HandOverSum is HandOver by a founder that says what it has: it is refused as Corrupt where that is not what is here, whoever has told the founder (docs/design/0043). With Try nothing is
// changed. Drops says that the founder's cluster has what moves dropped before it answers, also where that is nothing: until then the directory can be taken back. Fenced, Corrupt, as HandOver.
type HandOverSum struct {
	Dir        blocktree.Path
	Generation blocktree.Generation
	Sum        EntriesSum
	Try        bool
	Drops      bool
}

func (HandOverSum) opcode() opcode { return opHandOverSum }

// EntriesSum is of all entries of a directory, and of the directories in it that are no other cluster's: how many there are, and a hash of them in order, of directories with all that moves.
type EntriesSum struct {
	Count uint64
	Hash  [sha256.Size]byte
}

func putEntriesSum(e *wire.Encoder, s *EntriesSum) {
	e.U64(s.Count)
	e.Raw(s.Hash[:])
}

func getEntriesSum(d *wire.Decoder) (s EntriesSum) {
	s.Count = d.U64()
	copy(s.Hash[:], d.Raw(len(s.Hash)))
	return s
}

// entriesSum is that of a directory with a path. Which inodes its directories have does not matter, as they are others in a child.
func (s *state) entriesSum(dir blocktree.Inode, p blocktree.Path) (sum EntriesSum) {
	h := sha256.New()
	s.sumBelow(h, &sum.Count, dir, p)
	h.Sum(sum.Hash[:0])
	return sum
}

// sumBelow adds a directory's entries, and at its end how many they are, so that what is in a directory is told from what is behind it.
func (s *state) sumBelow(h io.Writer, count *uint64, dir blocktree.Inode, p blocktree.Path) {
	type named struct {
		name string
		id   blocktree.FileID
		kind InodeKind
	}
	n := uint64(0)
	var dirs []named // and symbolic links: what moves with the directory
	s.scan(kindEntry, inodeRest(dir), nil, func(rest, v []byte) bool {
		x, err := decodeEntryValue(v)
		s.check(err)
		if err != nil {
			return false
		}
		n++
		var e wire.Encoder
		e.String(string(rest))
		e.U8(uint8(x.kind))
		if x.kind != KindFile {
			dirs = append(dirs, named{string(rest), x.file, x.kind})
		} else {
			e.File(x.file)
		}
		_, _ = h.Write(e.Buf) // it never fails
		return true
	})
	*count += n
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, n))
	for _, x := range dirs {
		t, records := s.taken(TakenEntry{Name: x.name, Inode: Inode{ID: x.id, Kind: x.kind}}, p)
		t.Inode.ID = blocktree.FileID{}
		var e wire.Encoder
		putTaken(&e, &t)
		putRuntimes(&e, records)
		_, _ = h.Write(e.Buf)
		if x.kind == KindDir && t.Inode.Delegation == nil {
			s.sumBelow(h, count, x.id.Inode, p.Join(x.name))
		}
	}
}

func (s *state) handOverSum(o HandOverSum) Result {
	i, _, r := s.directory(o.Dir)
	switch {
	case r.Kind != blocktree.Other:
		return r
	case i.Delegation == nil || i.Delegation.Generation != o.Generation:
		return refuse(blocktree.Fenced, "%s is not that of generation %d", o.Dir.Short(), o.Generation)
	case i.Delegation.HandedOver: // what is here may have been dropped since
		return Result{Inode: i}
	}
	if have := s.entriesSum(i.ID.Inode, o.Dir); have != o.Sum {
		return refuse(blocktree.Corrupt, "the founder has %d entries of %s, not the %d that there are, or others", o.Sum.Count, o.Dir.Short(), have.Count).
			hinted("a node of the directory above left some out, or made some up: all of them are there still; look at the log of the founder")
	}
	if o.Try {
		return Result{Inode: i}
	}
	if o.Drops {
		s.set(kindWhole, inodeRest(i.ID.Inode), u64(uint64(o.Generation)))
	}
	return s.handOver(HandOver{o.Dir, o.Generation})
}

// EntriesSum is that of the cluster's own directory, as applied here. Closed, IO.
func (g *Group) EntriesSum() (sum EntriesSum, err error) {
	err = g.view("meta.EntriesSum", func(s *state) error {
		if sb := s.superblock(); sb != nil {
			sum = s.entriesSum(RootInode, sb.Dir)
		}
		return nil
	})
	return sum, err
}

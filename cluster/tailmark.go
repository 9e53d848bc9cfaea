package cluster

import (
	"fmt"
	"hash/crc32"
	"log/slog"

	"blocktree"
	"blocktree/cluster/store"
	"blocktree/internal/vfs"
	"blocktree/internal/wire"
)

// A node that is killed loses nothing of what it had written: that is in the machine's memory. Its tail mark, which is in that memory too,
// says up to where it had answered for what was not synced yet. So the next start can tell a kill from a loss of power, or of the
// disk's last writes: where the log has everything up to the mark of the start before, nothing that was answered is missing.

const (
	tailFormat   = 1
	tailBytesMax = 128
)

// tail is the content of a tail mark.
type tail struct {
	boot     [16]byte
	node     blocktree.NodeID
	start    uint64 // the token of the start that answered (startMark)
	opened   uint64 // how often the store had been opened then
	volatile blocktree.Incarnation
	sequence uint64 // of the log: none of a record that was answered for, and is not durable, is above it
}

// proves reports whether nothing is missing that was answered under what now says (but for its sequence), by what the very next opening of the
// store found: it is said nowhere of what that does not find, so later ones would miss nothing.
func (t tail) proves(now tail, found store.Recovery) bool {
	now.sequence = t.sequence
	return t == now && t.opened+1 == found.Starts && len(found.Damaged) == 0 && found.Whole >= t.sequence
}

func (t tail) encode() []byte {
	var e wire.Encoder
	e.U8(tailFormat)
	e.Raw(t.boot[:])
	e.U64(uint64(t.node))
	e.U64(t.start)
	e.U64(t.opened)
	e.Raw(t.volatile[:])
	e.U64(t.sequence)
	e.U32(crc32.Checksum(e.Buf, crc32.MakeTable(crc32.Castagnoli)))
	return e.Buf
}

func decodeTail(b []byte) (tail, error) {
	d := wire.NewDecoder(b)
	d.Format(tailFormat)
	var t tail
	copy(t.boot[:], d.Raw(len(t.boot)))
	t.node, t.start, t.opened = blocktree.NodeID(d.U64()), d.U64(), d.U64()
	copy(t.volatile[:], d.Raw(len(t.volatile)))
	t.sequence = d.U64()
	sum := d.U32()
	if err := d.Finish(); err != nil {
		return tail{}, err
	}
	if sum != crc32.Checksum(b[:len(b)-4], crc32.MakeTable(crc32.Castagnoli)) {
		return tail{}, blocktree.E("checksum", blocktree.Corrupt, nil)
	}
	return t, nil
}

// tailName names the mark of a store. Ids of stores are chosen by people, and two domains on one machine may have the same: the first half of
// the incarnation tells their disks apart.
func tailName(node blocktree.NodeID, disk blocktree.Incarnation) string {
	return fmt.Sprintf("blocktree-%v-%v", node, disk)
}

// findTail returns the mark that vouches for what now says, if there is one.
func findTail(boot vfs.Boot, name string, now tail, found store.Recovery) bool {
	for _, b := range boot.Read(name, tailBytesMax) {
		if t, err := decodeTail(b); err == nil && t.proves(now, found) {
			return true
		}
	}
	return false
}

// tailMark is the mark of a node that runs. The store's writer advances it.
type tailMark struct {
	file   *vfs.BootFile // nil: there is no mark
	now    tail
	logger *slog.Logger
}

// newTailMark makes a mark of what now says. Where there is no place for it, the next start after a kill has nothing to go by.
func newTailMark(boot vfs.Boot, name string, now tail, logger *slog.Logger) *tailMark {
	f, err := boot.Create(name, now.encode())
	if err != nil {
		logger.Info("a kill of this process will count as a loss of power for files of durability flush", "err", err,
			"hint", "let the node write to a tmpfs (RUNTIME_DIRECTORY, /run or /dev/shm) that its restarts share")
	}
	return &tailMark{f, now, logger}
}

// reached is store.Options.OnWritten. A mark that cannot be advanced is removed, since it would vouch for too little; one that cannot be
// removed either ends the node, before it answers.
func (t *tailMark) reached(sequence uint64) error {
	if t.file == nil {
		return nil
	}
	t.now.sequence = sequence
	err := t.file.Put(t.now.encode())
	if err == nil {
		return nil
	}
	t.logger.Warn("the tail mark cannot be written: a kill of this process will count as a loss of power for files of durability flush", "err", err)
	err = t.file.Remove()
	t.file = nil
	return err
}

// close lets go of the mark: it is removed when all is durable, as a mark says nothing then that the store does not.
func (t *tailMark) close(clean bool) error {
	f := t.file
	if t.file = nil; f == nil {
		return nil
	}
	if clean {
		return f.Remove()
	}
	return f.Close()
}

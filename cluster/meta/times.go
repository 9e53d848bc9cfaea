package meta

import "blocktree/internal/wire"

// ChangedAt is when anything of the inode last changed: when it was modified, where nobody has noted that.
func (i *Inode) ChangedAt() int64 {
	if i.Changed != 0 {
		return i.Changed
	}
	return i.Modified
}

// timesFlag is set in the kind of an inode where the time of its last change follows the others. Versions before refuse such an inode: there is no such kind.
const timesFlag = 0x10

func timesFlags(i *Inode) uint8 {
	if i.Changed != 0 {
		return timesFlag
	}
	return 0
}

// getChanged reads a time that is there.
func getChanged(d *wire.Decoder, i *Inode) {
	if i.Changed = int64(d.U64()); i.Changed == 0 {
		bad(d, "a time that says nothing")
	}
}

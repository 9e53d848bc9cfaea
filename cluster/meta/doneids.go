package meta

import (
	"encoding/binary"

	"blocktree"
)

// doneIDs are the ids of the commands that are remembered, all of them: most commands ask whether they were done before, and most were not. They belong to the
// loop's goroutine, as what is applied does.
type doneIDs struct {
	sequences map[CommandID]uint64
	ids       map[uint64]CommandID
}

// readDoneIDs reads them from the state.
func readDoneIDs(s *state) *doneIDs {
	d := &doneIDs{sequences: map[CommandID]uint64{}, ids: map[uint64]CommandID{}}
	var from []byte
	if n := s.counts.nextDone; n > DedupMax { // before it are those that were deleted
		from = u64(n - DedupMax - 1)
	}
	s.iterate(kindDoneSeq, nil, from, func(rest, value []byte) bool {
		if len(rest) != 8 || len(value) != len(CommandID{}) {
			s.check(blocktree.E("meta: read", blocktree.Corrupt, textError("not a command that was done")))
			return false
		}
		d.add(binary.BigEndian.Uint64(rest), CommandID(value))
		return true
	})
	return d
}

func (d *doneIDs) has(id CommandID) bool {
	_, ok := d.sequences[id]
	return ok
}

func (d *doneIDs) add(sequence uint64, id CommandID) {
	d.sequences[id], d.ids[sequence] = sequence, id
}

// drop forgets the command with a sequence number, and returns its id if there is one.
func (d *doneIDs) drop(sequence uint64) (id CommandID, known bool) {
	if id, known = d.ids[sequence]; known {
		delete(d.ids, sequence)
		if d.sequences[id] == sequence {
			delete(d.sequences, id)
		}
	}
	return id, known
}

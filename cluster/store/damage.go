package store

import "blocktree"

// A page that cannot be read is unknown: nobody may take its sectors for absent, or for what they were before something
// was to be indexed over them. Once it is known damaged it stays so, whatever the disk says later, over checkpoints too
// (its entry of the table has no bytes), until forget covers it.

// spare lets an operation go on without a damaged page that is known, as each is that replay meets. It returns nil then.
// Of any other the caller must be told: only Open's report makes the node fetch anew what the page lost.
func (ix *index) spare(key pageKey, err error) error {
	if blocktree.KindOf(err) != blocktree.Corrupt {
		return err
	}
	if entry, _ := ix.table.Get(tableEntry{key: key}); entry.condemned() {
		return nil
	}
	if !ix.replaying {
		return err
	}
	ix.condemn(key)
	return nil
}

// condemn makes a page of the table damaged from now on. It is only called within Open, so that a checkpoint knows of all.
func (ix *index) condemn(key pageKey) { ix.table.ReplaceOrInsert(tableEntry{key: key}) }

func (t tableEntry) condemned() bool { return t.bytes == 0 }

// discard puts an empty page in the place of a damaged one. What its runs kept alive is not known, so that it stays alive
// until Open counts anew, which it does because load found the page damaged.
func (ix *index) discard(key pageKey) { ix.update(key, nil, 0, 0, nil) }

// verify reads every page, makes the damaged ones known, and counts the live sectors of the others. It reports whether
// there were no damaged ones.
func (ix *index) verify() (live map[uint32]liveCount, good bool) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	live = map[uint32]liveCount{}
	var bad []pageKey
	ix.table.Ascend(func(t tableEntry) bool {
		p, err := ix.readPage(t)
		if err != nil {
			bad = append(bad, t.key)
			return true
		}
		for _, r := range p.runs {
			if r.content == Data {
				live[r.at.segment()] = live[r.at.segment()].add(int64(r.count), r.shardBytes, uint32(r.recCount))
			}
		}
		return true
	})
	for _, key := range bad {
		ix.condemn(key)
	}
	return live, bad == nil
}

// damage reports the pages that are known damaged, in order.
func (ix *index) damage() []Run {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	var out []Run
	ix.table.Ascend(func(t tableEntry) bool {
		if t.condemned() && ix.cache[t.key] == nil { // else it was discarded
			out = append(out, Run{File: t.key.file, First: blocktree.SectorIndex(t.key.page * PageSectors), Count: PageSectors})
		}
		return true
	})
	return out
}

// recount reads the whole index where an earlier start found damage in it or discarded a page, finds what else is damaged,
// and, if nothing is, counts what is live: a discarded page took along the knowledge of what it kept alive.
func (s *Store) recount(state *checkpointState) {
	live, good := s.ix.verify()
	if !good {
		return
	}
	for at, r := range state.pending {
		live[at.segment()] = live[at.segment()].add(int64(r.left), r.shardBytes, uint32(r.count))
	}
	state.live, s.pins.live = live, live
	s.suspect = false
}

// noteSuspect has the next Open read the whole index. It is no error if that cannot be written down: then damage is only
// found again where it is met.
func (s *Store) noteSuspect() {
	s.superblockMu.Lock()
	defer s.superblockMu.Unlock()
	s.suspect = true
	if s.suspectNoted || s.released {
		return
	}
	s.suspectNoted = true
	sb := superblock{identity: s.id, starts: s.starts, suspect: true}
	if err := writeSuperblock(s.fs, s.dir, sb); err != nil {
		s.log.Error("damage of the index not noted", "error", err)
	}
}

// stick notes that the sectors [index, index+count) of a pending record are committed but cannot be indexed.
func (p *pins) stick(at place, index, count uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok := p.pending[at]
	if !ok {
		return
	}
	for i := index; i < index+count; i++ {
		if r.bits.has(i) {
			r.stuck.add(i)
			p.stuck[at] = struct{}{}
		}
	}
	p.pending[at] = r
}

// dropStuck drops the sectors of a range that could not be indexed.
func (p *pins) dropStuck(file blocktree.FileID, first blocktree.SectorIndex, count uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at := range p.stuck {
		r := p.pending[at]
		if r.file != file {
			continue
		}
		for i := range uint32(r.count) {
			sector := uint64(r.first) + uint64(i)
			if r.stuck.has(i) && uint64(first) <= sector && sector < uint64(first)+count {
				p.settleLocked(at, i, 1, true)
			}
		}
	}
}

package cluster

import (
	"context"
	"time"

	"blocktree"
	"blocktree/cluster/store"
)

// scrubMet is a window of sectors in which a read or the compactor met damage.
type scrubMet struct {
	file   blocktree.FileID
	window uint64 // of RunSectorsMax sectors
}

// noteMet takes damage that was met elsewhere. It does not block.
func (s *scrubber) noteMet(d store.Damage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sector := range d.Sectors {
		w := scrubMet{d.File, uint64(sector) / blocktree.RunSectorsMax}
		if at, ok := s.met[w]; ok && (at.IsZero() || time.Since(at) < scrubMetEvery) || len(s.waits) >= scrubMetMax {
			continue
		}
		if len(s.met) >= 4*scrubMetMax { // those that were tried may be tried again
			clear(s.met)
			for _, waits := range s.waits {
				s.met[waits] = time.Time{}
			}
		}
		s.met[w] = time.Time{}
		if len(s.waits) == 0 {
			s.waiting = time.Now()
		}
		s.waits = append(s.waits, w)
	}
	signal(s.wake)
}

// repairMet repairs what was met, where the node is in sync.
func (s *scrubber) repairMet(ctx context.Context) {
	for ctx.Err() == nil {
		s.mu.Lock()
		if len(s.waits) == 0 || time.Since(s.waiting) < scrubMetDelay {
			s.mu.Unlock()
			return
		}
		var walk scrubWalk // it counts in the total, and for the scrub that was asked for
		w := s.waits[0]
		s.waits = s.waits[1:]
		s.met[w] = time.Now()
		s.mu.Unlock()
		l, err := s.group.Layout(w.file)
		first := blocktree.SectorIndex(w.window * blocktree.RunSectorsMax)
		if err != nil || uint64(first) >= l.Sectors {
			continue // it was removed
		}
		region := l.RegionOf(first)
		start, count := l.Run(region)
		if c, err := s.newCheck(l, region); err == nil && c != nil {
			c.again, c.everyone = true, true
			s.windows(ctx, &walk, c, first, min(start+blocktree.SectorIndex(count), first+blocktree.RunSectorsMax), 1)
			c.versions(ctx, first, min(start+blocktree.SectorIndex(count), first+blocktree.RunSectorsMax)) // who lies of them is named; what this node misses a walk counts
		}
	}
}

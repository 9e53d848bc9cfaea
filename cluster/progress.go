package cluster

import (
	"log/slog"
	"time"

	"blocktree"
	"blocktree/cluster/stripe"
)

// progressInterval is how often a copy-up says how far it is.
const progressInterval = 10 * time.Second

// progress tells the log what becomes of a file's members: that some were left out, how far copying them up is, that all are in
// sync again, and what that took. It is looked at with every tick, and costs nothing while nothing changes.
type progress struct {
	log  *slog.Logger
	last stripe.HolderStats // when the log was told something
	from stripe.HolderStats // when the file was whole for the last time
	lost time.Duration      // since when it is not; 0: it is
	told time.Duration
}

// look tells what has changed until now (Clock.Boot).
func (p *progress) look(now time.Duration, st stripe.HolderStats, layout *stripe.Layout) {
	if st.Removed+st.Joined+st.Promoted == p.last.Removed+p.last.Joined+p.last.Promoted {
		if p.lost != 0 && st.Joined > p.from.Joined && now-p.told >= progressInterval && st.ComparedSectors+st.CopiedSectors > p.last.ComparedSectors+p.last.CopiedSectors {
			p.tell("copying up", now, st, slog.Uint64("leftSectorsOfRegion", st.LeftSectors))
		}
		return
	}
	regions, out := notInSync(layout)
	switch {
	case regions == 0:
		if p.lost != 0 {
			p.tell("all members are in sync again", now, st)
		}
		p.from, p.lost, p.last = st, 0, st
	case p.lost == 0 || st.Removed > p.last.Removed:
		if p.lost == 0 {
			p.lost = max(now, 1)
		}
		p.last, p.told = st, now
		p.log.Warn("a file has members that are not in sync", "regions", regions, "nodes", out)
	default:
		p.last.Removed, p.last.Joined, p.last.Promoted = st.Removed, st.Joined, st.Promoted
	}
}

// tell says what was done since the file was whole.
func (p *progress) tell(what string, now time.Duration, st stripe.HolderStats, more ...any) {
	took := now - p.lost
	since := now - p.told
	bytes := st.CopiedBytes - p.from.CopiedBytes
	p.log.Info(what, append([]any{
		"seconds", took.Seconds(), "comparedSectors", st.ComparedSectors - p.from.ComparedSectors,
		"copiedSectors", st.CopiedSectors - p.from.CopiedSectors, "copiedBytes", bytes,
		"bytesPerSecond", uint64(float64(st.CopiedBytes-p.last.CopiedBytes) / max(since.Seconds(), 1e-3)),
	}, more...)...)
	p.last, p.told = st, now
}

// notInSync counts the regions that have members which are not in sync, and names these.
func notInSync(l *stripe.Layout) (regions int, nodes []string) {
	seen := map[blocktree.NodeID]bool{}
	for r := range l.Regions() {
		whole := true
		for _, m := range l.View(r).Members {
			if m.State != stripe.InSync {
				whole = false
				if !seen[m.Node] {
					seen[m.Node] = true
					nodes = append(nodes, m.Node.String())
				}
			}
		}
		if !whole {
			regions++
		}
	}
	return regions, nodes
}

package cluster

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/store"
	"blocktree/cluster/stripe"
	"blocktree/internal/vfs"
)

const (
	// scrubUnit is how many sectors are compared by one round of digests: what one answer tells of.
	scrubUnit = stripe.DigestSectorsMax
	// scrubFirst is how long a node serves before it scrubs by itself, scrubEvery how often it begins a walk.
	scrubFirst = time.Minute
	scrubEvery = 24 * time.Hour
	// scrubSave is how often a walk writes down where it is.
	scrubSave = 30 * time.Second
	// scrubTries is how often what could not be found out is tried again, scrubPause after each: longer than a take-over or a view
	// change takes, all together.
	scrubTries = 20
	scrubPause = 250 * time.Millisecond
	// scrubMetMax bounds the windows of sectors in which damage was met elsewhere, and that wait; what does not fit the next walk finds.
	// The same window is tried once in scrubMetEvery: what cannot be repaired is met again and again.
	scrubMetMax   = 1024
	scrubMetEvery = 10 * time.Minute
	// scrubMetDelay is how long damage that was met waits for more of the same.
	scrubMetDelay = time.Second
	// scrubLeaveEvery is how often a node may leave its views to be copied up anew.
	scrubLeaveEvery = 10 * time.Minute
)

// scrubber checks and repairs what this node keeps; see docs/design/0011. One goroutine does everything.
type scrubber struct {
	node     blocktree.NodeID
	group    *meta.Group
	member   *member
	suspects *suspects
	store    *store.Store
	peers    *peers
	logger   *slog.Logger
	disk     vfs.FS
	dir      string
	rate     int64 // bytes per second in the background; 0: never
	leave    func() error

	wake chan struct{}
	// suspectsSaved is when who lies was written down last.
	suspectsSaved time.Time
	yield         scrubYield
	paced         time.Time // when it paused last, or did not
	served        uint64    // clients by then

	mu      sync.Mutex
	met     map[scrubMet]time.Time // zero: it waits; else when it was tried
	waits   []scrubMet
	waiting time.Time // since when
	state   scrubState
	saved   time.Time
	done    uint64 // sectors of files that the walk that was asked for has passed, of so many
	of      uint64

	counted   time.Time // when those were counted last
	countTook time.Duration
}

func newScrubber(s *Service) *scrubber {
	x := &scrubber{node: s.cfg.Node, group: s.group, member: s.member, suspects: s.client.suspects, store: s.member.store, peers: s.peers, logger: s.cfg.Logger,
		disk: s.cfg.FS, dir: s.cfg.StoreDir, rate: s.cfg.ScrubRate, leave: s.startAnew,
		wake: make(chan struct{}, 1), met: map[scrubMet]time.Time{}}
	x.state.load(x.disk, x.dir)
	return x
}

// run scrubs until ctx ends, and writes down where it was.
func (s *scrubber) run(ctx context.Context) {
	defer s.save()
	began, met := time.Now(), false
	for ctx.Err() == nil {
		met = met || s.allServe() // else a walk of before this start would pass what it could not compare or repair yet
		s.settle()
		s.repairMet(ctx)
		s.saveSuspects()
		s.mu.Lock()
		ready := !s.state.leaving && (met || time.Since(began) >= scrubFirst)
		asked, ground := s.state.asked.active && ready, s.state.ground.active
		due := s.rate > 0 && !s.state.leaving && time.Since(began) >= scrubFirst && (ground || time.Since(time.Unix(s.state.ground.began, 0)) >= scrubEvery)
		if due && !ground {
			s.state.ground, s.yield.given = scrubWalk{active: true, began: time.Now().Unix()}, 0
		}
		s.mu.Unlock()
		switch {
		case asked:
			s.count()
			s.step(ctx, &s.state.asked)
		case due:
			s.step(ctx, &s.state.ground)
		default:
			select {
			case <-ctx.Done():
			case <-s.wake:
			case <-time.After(time.Second):
			}
		}
	}
}

// allServe reports whether every node of the cluster can be asked.
func (s *scrubber) allServe() bool {
	return !slices.ContainsFunc(s.peers.nodes(), func(n blocktree.NodeID) bool { return !s.peers.isServing(n) })
}

// step checks the next unit of a walk, and ends the walk after the last.
func (s *scrubber) step(ctx context.Context, w *scrubWalk) {
	l := s.next(w)
	if l == nil {
		if ctx.Err() == nil && !s.mayGo(ctx, w) {
			s.finish(w)
		}
		return
	}
	region := l.RegionOf(w.sector)
	start, count := l.Run(region)
	regionEnd := start + blocktree.SectorIndex(count)
	end := min(regionEnd, w.sector+scrubUnit)
	c, err := s.newCheck(l, region)
	if err != nil {
		s.logger.Error("scrub", "file", l.File.String(), "err", err)
	} else if c != nil {
		s.windows(ctx, w, c, w.sector, end, scrubTries)
		s.compare(ctx, w, c, w.sector, end)
	}
	if ctx.Err() != nil {
		return // again after the next start
	}
	s.mu.Lock()
	w.sector = end
	if uint64(end) >= l.Sectors {
		w.file, w.sector = blocktree.FileID{Generation: l.File.Generation, Inode: l.File.Inode + 1}, 0
	}
	due := time.Since(s.saved) >= scrubSave
	s.mu.Unlock()
	if due {
		s.save()
	}
	if end == regionEnd {
		s.mayGo(ctx, w)
	}
}

// next returns the layout of the file that the walk goes on with, nil after the last.
func (s *scrubber) next(w *scrubWalk) *stripe.Layout {
	var next *stripe.Layout
	_ = s.group.EachLayout(max(w.file.Inode, 1)-1, func(l *stripe.Layout) bool {
		if s.walks(w, l) && !w.passed(l) {
			next = l
		}
		return next == nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if next != nil && next.File != w.file {
		w.file, w.sector = next.File, 0
	}
	return next
}

// walks reports whether a walk goes over a file.
func (s *scrubber) walks(w *scrubWalk, l *stripe.Layout) bool {
	return slices.Contains(l.Hosts, s.node) && w.covers(l.File)
}

// passed reports whether the walk has left a file behind it.
func (w *scrubWalk) passed(l *stripe.Layout) bool {
	after := compareFiles(l.File, w.file)
	return after < 0 || after == 0 && uint64(w.sector) >= l.Sectors
}

// count counts anew how much of all files the walk that was asked for has passed, where that is due: it looks at all of them.
func (s *scrubber) count() {
	w, began := &s.state.asked, time.Now()
	s.mu.Lock()
	due := began.Sub(s.counted) >= healLookShare*s.countTook
	s.mu.Unlock()
	if !due {
		return
	}
	var done, of uint64
	_ = s.group.EachLayout(0, func(l *stripe.Layout) bool {
		if s.walks(w, l) {
			of += l.Sectors
			if w.passed(l) {
				done += l.Sectors
			}
		}
		return true
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done, s.of = done+uint64(w.sector), of
	s.counted = time.Now()
	s.countTook = s.counted.Sub(began)
}

// windows checks the shards of sectors from first to end of one region.
func (s *scrubber) windows(ctx context.Context, w *scrubWalk, c *scrubCheck, first, end blocktree.SectorIndex, tries int) {
	for at := first; at < end; {
		n := uint32(min(uint64(c.layout.RunSectorsMax()), uint64(end-at)))
		begun := time.Now()
		for try := 1; ; try++ {
			ok, err := c.window(ctx, at, n)
			if blocktree.KindOf(err) == blocktree.Corrupt { // a page of the index: the next start tells all that is lost
				c.found, ok = []scrubFound{{at, ScrubLost, ScrubCopyUp}}, true
			}
			last := ok || try == tries
			s.note(w, c, last)
			if last || !pause(ctx, scrubPause) || !s.again(c) {
				break
			}
		}
		s.pace(ctx, w, c.counts.Bytes, time.Since(begun))
		at += blocktree.SectorIndex(n)
		s.progress(w, n)
	}
}

// compare compares the versions of sectors from first to end of one region.
func (s *scrubber) compare(ctx context.Context, w *scrubWalk, c *scrubCheck, first, end blocktree.SectorIndex) {
	for try := 1; ; try++ {
		ok := c.versions(ctx, first, end)
		last := ok || try == scrubTries
		if last {
			s.note(w, c, true)
		}
		if last || !pause(ctx, scrubPause) || !s.again(c) {
			return
		}
	}
}

// again brings a check up to date with the file's layout; false where the node is not in sync any more.
func (s *scrubber) again(c *scrubCheck) bool {
	l, err := s.group.Layout(c.layout.File)
	if err != nil || c.region >= l.Regions() {
		return false
	}
	n, err := s.newCheck(l, c.region)
	if err != nil || n == nil {
		return false
	}
	n.again = c.again
	*c = *n
	return true
}

// pause waits, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// progress counts sectors of the file as passed.
func (s *scrubber) progress(w *scrubWalk, n uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w == &s.state.asked {
		s.done = min(s.done+uint64(n), s.of)
	}
}

// note counts and names what a check found. What is tried again is counted by the last try.
func (s *scrubber) note(w *scrubWalk, c *scrubCheck, last bool) {
	if !last || c.again {
		c.counts.Sectors = 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	var runs []ScrubFinding
	for _, f := range c.found {
		if f.outcome == ScrubLater && !last {
			continue
		}
		*c.counts.count(f.kind)++
		switch f.outcome {
		case ScrubRepaired:
			c.counts.Repaired++
		case ScrubBeyond:
			c.counts.Beyond++
		case ScrubCopyUp:
			w.owed++
		default:
			w.left++
		}
		if n := len(runs); n > 0 && runs[n-1].Kind == f.kind && runs[n-1].Outcome == f.outcome && runs[n-1].First+blocktree.SectorIndex(runs[n-1].Count) == f.sector {
			runs[n-1].Count++
			continue
		}
		runs = append(runs, ScrubFinding{Time: now, File: c.layout.File, Name: c.layout.File.String(), First: f.sector, Count: 1, Kind: f.kind, Outcome: f.outcome})
	}
	w.counts.Add(c.counts)
	s.state.total.Add(c.counts)
	if a := &s.state.asked; w != a && a.active && a.covers(c.layout.File) { // else it would find nothing, and nobody would know why
		also := c.counts
		also.Sectors, also.Bytes = 0, 0
		a.counts.Add(also)
	}
	for _, r := range runs {
		s.logger.Error("damaged sectors", "file", r.Name, "firstSector", uint64(r.First), "sectors", r.Count, "kind", r.Kind.String(),
			"outcome", r.Outcome.String())
	}
	s.state.findings = append(s.state.findings, runs...)
	s.state.findings = slices.Delete(s.state.findings, 0, max(0, len(s.state.findings)-scrubFindingsMax))
}

// finish ends a walk.
func (s *scrubber) finish(w *scrubWalk) {
	s.mu.Lock()
	w.active = false
	if w == &s.state.ground {
		s.state.passes++
	} else {
		s.done = s.of
	}
	if !s.state.leaving { // what it may not leave for the next walk finds again
		w.left, w.owed = w.left+w.owed, 0
	}
	c := w.counts
	s.mu.Unlock()
	s.logger.Info("scrubbed", "sectors", c.Sectors, "bitRot", c.BitRot, "lost", c.Lost, "misdirected", c.Misdirected, "mixed", c.Mixed,
		"repaired", c.Repaired, "beyondRepair", c.Beyond)
	s.save()
}

func (s *scrubber) save() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved = time.Now()
	if err := s.state.save(s.disk, s.dir); err != nil {
		s.logger.Warn("where the scrub is was not written down", "err", err)
	}
	s.keepSuspects()
}

// saveSuspects writes down who was met lying, now and then.
func (s *scrubber) saveSuspects() {
	if time.Since(s.suspectsSaved) >= scrubSave {
		s.keepSuspects()
	}
}

func (s *scrubber) keepSuspects() {
	s.suspectsSaved = time.Now()
	if err := s.suspects.save(s.disk, s.dir); err != nil {
		s.logger.Warn("which nodes lie was not written down", "err", err)
	}
}

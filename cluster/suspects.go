package cluster

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	"blocktree"
	"blocktree/cluster/stripe"
)

const (
	// suspectsMax bounds what one table knows: a few nodes and kinds. More nodes than that do not lie in one cluster.
	suspectsMax = 256
	// tellersMax bounds of how many runtimes it is known that they told of the same.
	tellersMax = 16
	// hintTimesMax bounds how often one hint may say that something was met: what a busy client meets in the second between two of them. suspectTimesMax is where counting ends.
	hintTimesMax    = 1 << 16
	suspectTimesMax = 1 << 48
	// suspectLogEvery is how often the same act of the same node is a line of the log, with how often it was seen since.
	suspectLogEvery = time.Minute
)

// suspectKey is a node and what it did.
type suspectKey struct {
	node blocktree.NodeID
	kind stripe.SuspectKind
}

// suspicion is what is known of one node and one kind of act.
type suspicion struct {
	suspectKey
	count       uint64
	first, last time.Time
	file        blocktree.FileID // of the last
	sector      blocktree.SectorIndex
	parity      int // the most of any file that it was met in: versions before go by it
	// tellers are the runtimes that told of it; none: this one has seen it. Count is then what they say.
	tellers []blocktree.Principal
	logged  time.Time
	since   uint64 // seen since it was logged
}

// suspects are tables of what members did that they should not have (docs/design/0029). All methods may be called by many goroutines; none blocks.
type suspects struct {
	logger *slog.Logger
	name   func(blocktree.NodeID) string

	mu    sync.Mutex
	own   []*suspicion // seen by this runtime
	told  []*suspicion // by others, which may lie
	hints []hint       // to be told to the nodes
	wake  chan struct{}
	dirty bool
}

// hint is what a client tells the nodes: look there.
type hint struct {
	suspectKey
	file   blocktree.FileID
	first  blocktree.SectorIndex
	parity int
	times  uint64
}

func newSuspects(l *slog.Logger, name func(blocktree.NodeID) string) *suspects {
	return &suspects{logger: l, name: name, wake: make(chan struct{}, 1)}
}

func find(list []*suspicion, k suspectKey) *suspicion {
	if i := slices.IndexFunc(list, func(x *suspicion) bool { return x.suspectKey == k }); i >= 0 {
		return list[i]
	}
	return nil
}

// seen notes what this runtime has met.
func (s *suspects) seen(x stripe.Suspect, parity int) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(&s.own, hint{suspectKey{x.Node, x.Kind}, x.File, x.First, parity, 1}, time.Now())
	s.hint(hint{suspectKey{x.Node, x.Kind}, x.File, x.First, parity, 1})
}

// note counts an act; it returns nil where there is no room. s.mu is held.
func (s *suspects) note(list *[]*suspicion, h hint, now time.Time) *suspicion {
	x := find(*list, h.suspectKey)
	if x == nil {
		if len(*list) >= suspectsMax {
			return nil
		}
		x = &suspicion{suspectKey: h.suspectKey, first: now}
		*list = append(*list, x)
	}
	x.count = min(x.count+min(h.times, suspectTimesMax), suspectTimesMax)
	x.since = min(x.since+min(h.times, suspectTimesMax), suspectTimesMax)
	x.last, x.file, x.sector, x.parity = now, h.file, h.first, max(x.parity, h.parity)
	s.dirty = true
	if now.Sub(x.logged) >= suspectLogEvery {
		what := "a node does what it should not"
		if list == &s.told {
			what = "a client says that a node does what it should not"
		}
		s.logger.Error(what, "node", s.name(x.node), "kind", x.kind.String(), "times", x.since, "file", x.file.String(), "sector", uint64(x.sector))
		x.logged, x.since = now, 0
	}
	return x
}

// hint keeps what the nodes are to be told, once per node, kind and window of sectors; s.mu is held.
func (s *suspects) hint(h hint) {
	window := h.first / blocktree.RunSectorsMax
	for i := range s.hints {
		if x := &s.hints[i]; x.suspectKey == h.suspectKey && x.file == h.file && x.first/blocktree.RunSectorsMax == window {
			x.times = min(x.times+h.times, hintTimesMax)
			return
		}
	}
	if len(s.hints) < hintsMax {
		s.hints = append(s.hints, h)
		signal(s.wake)
	}
}

// takeHints returns what is to be told, once.
func (s *suspects) takeHints() []hint {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.hints
	s.hints = nil
	return h
}

// tell notes what another runtime says.
func (s *suspects) tell(who blocktree.Principal, h hint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.times = min(h.times, hintTimesMax)
	if x := s.note(&s.told, h, time.Now()); x != nil && !slices.Contains(x.tellers, who) && len(x.tellers) < tellersMax {
		x.tellers = append(x.tellers, who)
	}
}

// all returns copies of what is known: seen first, then told.
func (s *suspects) all() (own, told []suspicion) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.own {
		own = append(own, *x)
	}
	for _, x := range s.told {
		told = append(told, *x)
	}
	return own, told
}

// counts are the acts that this runtime has seen, by kind.
func (s *suspects) counts() (c [stripe.SuspectKindEnd]uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.own {
		c[x.kind] += x.count
	}
	return c
}

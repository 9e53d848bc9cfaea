package store

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/internal/vfs"
)

// modelLog is a log of nothing but which segment each sector lies in.
type modelLog struct {
	at       []uint32 // by sector
	segments map[uint32]*modelSegment
	next     uint32
	active   uint32
	target   uint32
	size     int // of all segments, in sectors
	moved    int
}

type modelSegment struct{ live, size int }

const modelSegmentSectors = 64

func (m *modelLog) make() uint32 {
	n := m.next
	m.next++
	m.segments[n] = &modelSegment{}
	return n
}

// put writes a sector to the segment that *to is, or a new one when that is full.
func (m *modelLog) put(sector int, to *uint32) {
	if *to == 0 || m.segments[*to].size == modelSegmentSectors {
		*to = m.make()
	}
	if old := m.at[sector]; old != 0 {
		s := m.segments[old]
		s.live--
		if s.live == 0 && old != m.active && old != m.target {
			m.size -= s.size
			delete(m.segments, old)
		}
	}
	m.at[sector] = *to
	m.segments[*to].live++
	m.segments[*to].size++
	m.size++
}

// compact empties one segment, as the compactor chooses, in a hurry or not.
func (m *modelLog) compact(hurry bool) {
	among := candidates{next: m.next}
	for n := range m.next { // in order, so that equals are always chosen alike
		if s := m.segments[n]; s != nil && n != m.active && n != m.target {
			among.see(candidate{n, int64(s.size), int64(s.live)})
		}
	}
	victim := among.pick(hurry).number
	var live []int
	for sector, at := range m.at {
		if at == victim {
			live = append(live, sector)
		}
	}
	for _, sector := range live {
		m.put(sector, &m.target)
	}
	m.moved += len(live)
}

func (m *modelLog) percent() int64 { return int64(m.size) * 100 / int64(len(m.at)) }

// moved overwrites sectors as draw says, holding the segments at limit percent of what is live, and returns how many sectors were copied for
// one that was written.
func moved(limit int64, hurry bool, draw func(r *rand.Rand, sectors int) int) float64 {
	const sectors, rounds = 4096, 6
	r := rand.New(rand.NewPCG(1, 2))
	m := &modelLog{at: make([]uint32, sectors), segments: map[uint32]*modelSegment{}, next: 1}
	for i := range sectors {
		m.put(i, &m.active)
	}
	written := 0
	for i := range rounds * sectors {
		if i == rounds*sectors/2 { // it has come to rest
			m.moved, written = 0, 0
		}
		m.put(draw(r, sectors), &m.active)
		written++
		for i%8 == 0 && m.percent() > limit {
			m.compact(hurry)
		}
	}
	return float64(m.moved) / float64(written)
}

// TestLessIsCopied: at the same space, where some sectors are written more often than others, less is copied than by emptying the emptiest segment,
// and where all are alike hardly more; the more space, the less is copied.
func TestLessIsCopied(t *testing.T) {
	skewed := func(often, percent int) func(*rand.Rand, int) int {
		return func(r *rand.Rand, n int) int {
			if r.IntN(100) < percent {
				return r.IntN(n * often / 100)
			}
			return n*often/100 + r.IntN(n-n*often/100)
		}
	}
	for _, x := range []struct {
		name string
		draw func(*rand.Rand, int) int
		most float64 // of what the emptiest costs
	}{
		{"all alike", func(r *rand.Rand, n int) int { return r.IntN(n) }, 1.05},
		{"a quarter", func(r *rand.Rand, n int) int { return r.IntN(n / 4) }, 1.07},
		{"80 % to 20 %", skewed(20, 80), 0.90},
		{"90 % to 10 %", skewed(10, 90), 0.65},
	} {
		emptiest, worth := moved(122, true, x.draw), moved(122, false, x.draw)
		later, wide := moved(128, false, x.draw), moved(150, false, x.draw)
		t.Logf("%s: the emptiest %.3f, by worth %.3f, begun later %.3f, with half as much space again %.3f sectors copied for each written", x.name, emptiest, worth, later, wide)
		if worth > x.most*emptiest {
			t.Errorf("%s: by worth %.3f, the emptiest %.3f", x.name, worth, emptiest)
		}
		if wide > 0.45*worth {
			t.Errorf("%s: with 50 %% of space above what is live %.3f, with 22 %% %.3f", x.name, wide, worth)
		}
		if later > 0.85*worth {
			t.Errorf("%s: with 28 %% of space above what is live %.3f, with 22 %% %.3f", x.name, later, worth)
		}
	}
}

// TestVictim: with time the old segment is emptied, though another is emptier; that one as soon as space is scarce.
func TestVictim(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := byHand(t, fs, forgetNothing)
	const each, records = 10, 60 // three records fill a segment
	segments := make([]uint32, records)
	for i := range records {
		segments[i] = put(t, s, dataRecord(testFile, blocktree.SectorIndex(i*each), each, 2000, version(1))).Segment
	}
	old, young := 3, 54 // the first of a segment each, far from the ends
	for segments[old] == segments[old-1] {
		old++
	}
	for segments[young] == segments[young-1] {
		young++
	}
	put(t, s, dataRecord(testFile, blocktree.SectorIndex(old*each), 10, 2000, version(2)))
	put(t, s, dataRecord(testFile, blocktree.SectorIndex(young*each), 2*each, 2000, version(2)))
	active := s.active.number
	for s.active.number == active {
		appendWait(t, s, Record{Kind: KindControl, Blob: make([]byte, 50<<10)})
	}
	checkpointNow(t, s)
	waitPrepared(t, s)
	c := s.compactor
	c.mu.Lock()
	defer c.mu.Unlock()
	if u := c.usage(); u.victim != segments[old] || u.percent() >= blocktree.SpacePercentDefault {
		t.Errorf("victim %x of %x and %x at %d %%", u.victim, segments[old], segments[young], u.percent())
	}
	fs.SetCapacity(fs.Used() + shortSegments*byHandOptions.SegmentBytes)
	if u := c.usage(); u.victim != segments[young] || !u.tight {
		t.Errorf("victim %x of %x and %x, tight %v", u.victim, segments[old], segments[young], u.tight)
	}
}

// TestCompactionBegins: while somebody writes it begins near the bound, but not so near that a segment more goes beyond it; else at 1.2.
func TestCompactionBegins(t *testing.T) {
	const segment = 64 << 20
	for _, x := range []struct {
		live int64
		idle bool
		most int64
		want int64
	}{
		{0, false, 130, 120}, {1 << 20, false, 130, 120}, {10 * segment, false, 130, 120}, {20 * segment, false, 130, 120}, {40 * segment, false, 130, 125},
		{100 * segment, false, 130, 127}, {1 << 40, false, 130, 127}, {1 << 40, true, 130, 120},
		{40 * segment, false, 200, 195}, {1 << 40, false, 200, 197}, {1 << 40, true, 200, 190},
	} {
		got := beginPercent(x.live, Options{SegmentBytes: segment, SpacePercent: x.most}, x.idle)
		if got != x.want {
			t.Errorf("%d bytes live, idle %v: begins at %d, want %d", x.live, x.idle, got, x.want)
		}
		if next := got + hurrySegments*segment*100/max(x.live, 1); !x.idle && got > x.most-compactRoom && next > x.most {
			t.Errorf("%d bytes live: two segments more are %d %%", x.live, next)
		}
	}
	s, _ := byHand(t, vfs.NewCrash(), forgetNothing)
	for _, begin := range []int64{120, 127} {
		u := usage{live: 100 << 20, bytes: 125 << 20, victim: 1, share: 50, begin: begin}
		if want := begin == 120; s.compactor.wanted(u) != want {
			t.Errorf("at 125 %%, where %d is the begin: wanted %v", begin, !want)
		}
	}
	var i idleness
	now := time.Unix(1, 0)
	for _, x := range []struct {
		sequence uint64
		after    time.Duration
		want     bool
	}{{1, 0, false}, {1, compactIdle - 1, false}, {1, 1, true}, {2, time.Second, false}, {2, compactIdle, true}} {
		now = now.Add(x.after)
		if got := i.seen(x.sequence, now); got != x.want {
			t.Errorf("%+v: idle %v", x, got)
		}
	}
}

// TestRollWakesCompactor: the compactor looks when a segment was filled: between two looks of its own more may be written than the bound has room for.
func TestRollWakesCompactor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := openTest(t, vfs.NewCrash(), Options{SegmentBytes: 64 << 10})
		synctest.Wait()
		seen := func() uint64 {
			s.compactor.mu.Lock()
			defer s.compactor.mu.Unlock()
			return s.compactor.idle.sequence
		}
		before, begun := seen(), time.Now()
		for first := uint32(0); ; {
			ref := put(t, s, dataRecord(testFile, 0, 10, 2000, version(1)))
			if first == 0 {
				first = ref.Segment
			}
			if ref.Segment > first {
				break
			}
		}
		synctest.Wait()
		if seen() == before || time.Since(begun) > 0 {
			t.Errorf("it sleeps on; %v passed", time.Since(begun))
		}
	})
}

// TestSpacePercent: writers wait for the compactor from as much on as the options say, and no less can be asked for than what is promised to whoever says nothing.
func TestSpacePercent(t *testing.T) {
	for percent, want := range map[int64]int64{0: blocktree.SpacePercentDefault, 130: 130, 300: 300, 129: -1, 301: -1, -1: -1} {
		o, err := Options{SpacePercent: percent}.withDefaults()
		if bad := blocktree.KindOf(err) == blocktree.Invalid; bad != (want < 0) || !bad && o.SpacePercent != want {
			t.Errorf("%d: %d, %v", percent, o.SpacePercent, err)
		}
	}
	for _, x := range []struct {
		percent int64
		waits   bool
		pauses  bool
	}{{0, true, false}, {150, false, true}} {
		synctest.Test(t, func(t *testing.T) {
			opts := byHandOptions
			opts.SpacePercent = x.percent
			s, _ := openTest(t, vfs.NewCrash(), opts)
			holdCompactor(t, s)
			u := usage{live: 100 << 20, bytes: 140 << 20, victim: 1, share: 50, begin: beginPercent(100<<20, s.opts, true)}
			s.compactor.judge(u, true)
			if s.busy(); s.compactor.pause(u, time.Millisecond) != 0 {
				t.Error("it pauses though nobody appends")
			}
			began := time.Now()
			appendWait(t, s, Record{Kind: KindControl, Blob: make([]byte, 1)})
			if waited := time.Since(began); waited != 0 != x.waits {
				t.Errorf("at 140 %% of %d: writers wait %v", x.percent, waited)
			}
			if pause := s.compactor.pause(u, time.Millisecond); (pause > 0) != x.pauses {
				t.Errorf("at 140 %% of %d: it pauses %v", x.percent, pause)
			}
		})
	}
}

// holdCompactor waits, within a bubble, until the compactor has looked and has said what it found, and lets it look no more until the test is over.
func holdCompactor(t *testing.T, s *Store) {
	t.Helper()
	waitPrepared(t, s)
	synctest.Wait()
	s.compactor.mu.Lock()
	t.Cleanup(s.compactor.mu.Unlock)
}

package blockdev

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/blockdev/memfile"

	"pgregory.net/rapid"
)

const (
	stormSectors = 3 * aheadPieceBytes / 4096
	stormBytes   = stormSectors * 4096
)

// storm is a file that takes its time, whose holder may lose the lease at any moment, to another who writes, and whose writes may fail, with or without
// effect. It remembers all that each of its sectors ever was, and what each byte should be.
type storm struct {
	*memfile.File
	plan stormPlan
	dev  *Device

	mu      sync.Mutex
	epoch   blocktree.Epoch
	held    bool
	random  uint64
	now     int
	was     [stormSectors][]sectorState // oldest first
	model   [stormBytes]byte
	doubted [stormBytes]bool // a write of it failed: it is either, and nobody knows
	next    byte
}

type sectorState struct {
	since int
	data  []byte
}

// stormPlan is all that rapid chooses.
type stormPlan struct {
	seed    uint64
	failing uint64 // of 256 writes
	steps   [2]int // in bytes, of the readers
	ops     []stormOp
}

type stormOp struct {
	how         string
	off, length int
}

func drawStorm(t *rapid.T) stormPlan {
	step := rapid.SampledFrom([]int{512, 4096, 12288, 65536, 262144})
	op := rapid.Custom(func(t *rapid.T) stormOp {
		o := stormOp{how: rapid.SampledFrom([]string{"write", "write", "write", "zero", "trim", "overtake", "blink", "wait"}).Draw(t, "how"),
			off: rapid.IntRange(0, stormBytes-1).Draw(t, "off")}
		if rapid.Bool().Draw(t, "near the front") {
			o.off %= 65536
		}
		o.length = min(rapid.SampledFrom([]int{1, 100, 512, 4096, 5000, 20000}).Draw(t, "length"), stormBytes-o.off)
		return o
	})
	return stormPlan{seed: rapid.Uint64().Draw(t, "seed"), failing: rapid.SampledFrom([]uint64{0, 0, 16}).Draw(t, "failing"),
		steps: [2]int{step.Draw(t, "step"), step.Draw(t, "step")}, ops: rapid.SliceOfN(op, 5, 40).Draw(t, "ops")}
}

func (s *storm) lease() (blocktree.Epoch, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch, s.held
}

func (s *storm) dice(n uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.random += 0x9e3779b97f4a7c15
	x := (s.random ^ s.random>>30) * 0xbf58476d1ce4e5b9
	return (x ^ x>>27) >> 8 % n
}

func (s *storm) pause() { time.Sleep(time.Duration(s.dice(5)) * time.Millisecond) }

// change does what act does to sectors and remembers them.
func (s *storm) change(first blocktree.SectorIndex, count uint64, act func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := act(); err != nil {
		return err
	}
	s.now++
	for i := range count {
		sector := first + blocktree.SectorIndex(i)
		p := make([]byte, 4096)
		if err := s.File.ReadSectors(context.Background(), sector, p); err != nil {
			return err
		}
		s.was[sector] = append(s.was[sector], sectorState{s.now, p})
	}
	return nil
}

// perhaps is change for the device: it may fail.
func (s *storm) perhaps(first blocktree.SectorIndex, count uint64, act func() error) error {
	s.pause()
	fails := s.dice(256) < s.plan.failing
	failed := blocktree.E("storm", blocktree.Unavailable, nil)
	if fails && s.dice(2) == 0 {
		return failed
	}
	err := s.change(first, count, act)
	s.pause()
	if fails {
		return failed
	}
	return err
}

func (s *storm) ReadSectors(ctx context.Context, first blocktree.SectorIndex, dst []byte) error {
	s.pause()
	err := s.File.ReadSectors(ctx, first, dst)
	s.pause()
	if s.dice(20) == 0 {
		return blocktree.E("storm", blocktree.Unavailable, nil)
	}
	return err
}

func (s *storm) WriteSectors(ctx context.Context, first blocktree.SectorIndex, src []byte) error {
	return s.perhaps(first, uint64(len(src))/4096, func() error { return s.File.WriteSectors(ctx, first, src) })
}

func (s *storm) ZeroSectors(ctx context.Context, first blocktree.SectorIndex, count uint64) error {
	return s.perhaps(first, count, func() error { return s.File.ZeroSectors(ctx, first, count) })
}

// write does one change by the device, and notes what the bytes should be.
func (s *storm) write(o stormOp) {
	ctx := context.Background()
	s.next++
	value, from, to := s.next, o.off, o.off+o.length
	var err error
	switch o.how {
	case "write":
		err = s.dev.WriteAt(ctx, bytes.Repeat([]byte{value}, o.length), uint64(o.off), false)
	case "zero":
		value = 0
		err = s.dev.Zero(ctx, uint64(o.off), uint64(o.length), false)
	case "trim":
		value, from, to = 0, (o.off+4095)/4096*4096, (o.off+o.length)/4096*4096
		err = s.dev.Trim(ctx, uint64(o.off), uint64(o.length), false)
	}
	for i := from; i < to; i++ {
		s.model[i], s.doubted[i] = value, err != nil
	}
}

// overtake is another holder who writes whole sectors while this one has no lease.
func (s *storm) overtake(o stormOp) error {
	s.mu.Lock()
	s.held = false
	s.mu.Unlock()
	s.next++
	first, count := o.off/4096, (o.length+4095)/4096
	count = min(count, stormSectors-first)
	p := bytes.Repeat([]byte{s.next}, count*4096)
	err := s.change(blocktree.SectorIndex(first), uint64(count), func() error {
		return s.File.WriteSectors(context.Background(), blocktree.SectorIndex(first), p)
	})
	for i := range p {
		s.model[first*4096+i], s.doubted[first*4096+i] = s.next, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	s.held = true
	return err
}

// read reads, and says which sector is not what it was at any moment of the read.
func (s *storm) read(off, length int) error {
	s.mu.Lock()
	began := s.now
	s.mu.Unlock()
	p := make([]byte, length)
	if !s.dev.TryReadAt(p, uint64(off)) && s.dev.ReadAt(context.Background(), p, uint64(off)) != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for at := off; at < off+length; {
		sector := at / 4096
		part := p[at-off : min(off+length, (sector+1)*4096)-off]
		if !s.stood(sector, at%4096, part, began) {
			return fmt.Errorf("sector %d has not been %d… since the read began", sector, part[0])
		}
		at += len(part)
	}
	return nil
}

// stood reports whether part of a sector was this at a moment since. s.mu is held.
func (s *storm) stood(sector, skip int, part []byte, since int) bool {
	states := s.was[sector]
	for i := len(states) - 1; i >= 0; i-- {
		if bytes.Equal(states[i].data[skip:skip+len(part)], part) {
			return true
		}
		if states[i].since <= since {
			return false
		}
	}
	return allZero(part) // as it was made
}

func allZero(p []byte) bool { return len(bytes.Trim(p, "\x00")) == 0 }

// run drives the device beside two readers that go on and on.
func (s *storm) run() error {
	stop, failed := make(chan struct{}), make(chan error, 2)
	var wg sync.WaitGroup
	for _, step := range s.plan.steps {
		wg.Go(func() {
			for at := 0; ; at = (at + step) % stormBytes {
				select {
				case <-stop:
					return
				default:
				}
				if err := s.read(at, min(step, stormBytes-at)); err != nil {
					failed <- err
					return
				}
				time.Sleep(time.Duration(s.dice(3)) * 100 * time.Microsecond)
			}
		})
	}
	for _, o := range s.plan.ops {
		switch o.how {
		case "overtake":
			if err := s.overtake(o); err != nil {
				return err
			}
		case "blink":
			s.mu.Lock()
			s.held = !s.held
			s.mu.Unlock()
		case "wait":
			time.Sleep(time.Duration(o.length) * 10 * time.Microsecond)
		default:
			s.write(o)
		}
	}
	time.Sleep(time.Duration(s.dice(50)) * time.Millisecond)
	close(stop)
	wg.Wait()
	select {
	case err := <-failed:
		return err
	default:
	}
	all := make([]byte, stormBytes)
	if err := s.File.ReadSectors(context.Background(), 0, all); err != nil {
		return err
	}
	for i, got := range all {
		if !s.doubted[i] && got != s.model[i] {
			return fmt.Errorf("byte %d, sector %d, of the file is %d and should be %d: a partial write went by an old sector", i, i/4096, got, s.model[i])
		}
	}
	return s.read(0, stormBytes)
}

// TestNeverStale drives a device that caches, reads ahead and completes partial writes, with readers that go on and on beside writes of any alignment,
// zeroes, trims, failures and take-overs: each sector read is what it was at some moment of the read, and no write undoes another.
func TestNeverStale(t *testing.T) {
	var hits, aheadHits, stale uint64
	rapid.Check(t, func(rt *rapid.T) {
		plan := drawStorm(rt)
		var err error
		synctest.Test(t, func(t *testing.T) {
			s := &storm{plan: plan, epoch: 1, held: true, random: plan.seed}
			s.File = memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: stormBytes}, Lease: s.lease})
			cache, cacheErr := NewCacheAhead(8<<20, 2<<20)
			if cacheErr != nil {
				t.Fatal(cacheErr)
			}
			defer cache.Close()
			if s.dev, err = Open(s, Options{Cache: cache}); err != nil {
				t.Fatal(err)
			}
			defer s.dev.Close()
			err = s.run()
			st := cache.Stats()
			hits, aheadHits, stale = hits+st.Hits, aheadHits+st.AheadHits, stale+st.Stale
		})
		if err != nil {
			rt.Fatal(err)
		}
	})
	if hits == 0 || aheadHits == 0 || stale == 0 {
		t.Errorf("the cache took little part: %d hits, %d read ahead, %d stale", hits, aheadHits, stale)
	}
}

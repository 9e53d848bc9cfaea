package blockdev

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/blockdev/memfile"
)

// store is the world of a Demand: files by name, each held by at most one writer.
type store struct {
	mu      sync.Mutex
	held    map[string]int // open files, by name, with "(ro)" behind it for those without a lease
	opens   int
	stats   int
	worst   int // writers of one file at a time
	slow    time.Duration
	fail    error
	closing time.Duration
	lost    atomic.Bool // leases have run out
}

func (s *store) options() DemandOptions {
	return DemandOptions{OpenMax: 2, Linger: time.Minute, Patience: 5 * time.Second,
		Name: func(name string) (string, error) {
			if !strings.HasPrefix(name, "vm/") && !strings.HasPrefix(name, "/vm/") {
				return "", blocktree.E("test", blocktree.NotFound, nil)
			}
			return "/" + strings.TrimPrefix(name, "/"), nil
		},
		Stat: func(context.Context, string) (uint64, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.stats++
			return 1 << 20, s.fail
		},
		Open: s.open}
}

// demandFile is a file whose lease has a term and whose closing takes its time.
type demandFile struct {
	*memfile.File
	s   *store
	key string
	ro  bool
}

func (f *demandFile) LeaseTerm() (blocktree.Epoch, time.Duration, bool) {
	if f.s.lost.Load() {
		return 1, 0, !f.ro
	}
	return 1, time.Second, !f.ro
}

func (f *demandFile) Close() error {
	time.Sleep(f.s.closing)
	f.s.mu.Lock()
	f.s.held[f.key]--
	f.s.mu.Unlock()
	return f.File.Close()
}

func (s *store) open(ctx context.Context, name string, readOnly bool) (*Device, error) {
	s.mu.Lock()
	s.opens++
	slow, fail := s.slow, s.fail
	s.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
		return nil, blocktree.E("test", blocktree.Canceled, ctx.Err())
	}
	if fail != nil {
		return nil, fail
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := name
	if readOnly {
		key += "(ro)"
	}
	if s.held == nil {
		s.held = make(map[string]int)
	}
	s.held[key]++
	if !readOnly {
		s.worst = max(s.worst, s.held[key])
	}
	f := memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 1 << 20, Path: blocktree.Path(name), ReadOnly: readOnly}})
	return Open(&demandFile{f, s, key, readOnly}, Options{})
}

func (s *store) openFiles() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, held := range s.held {
		n += held
	}
	return n
}

// inDemand runs a test with a Demand in a bubble of time, and closes it.
func inDemand(t *testing.T, s *store, test func(t *testing.T, d *Demand)) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDemand(s.options())
		test(t, d)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if n := s.openFiles(); n != 0 || s.worst > 1 {
			t.Errorf("%d files are open at the end, one had %d writers at a time", n, s.worst)
		}
		if _, _, err := d.Open(t.Context(), "/vm/a", false); blocktree.KindOf(err) != blocktree.Closed {
			t.Errorf("closed: %v", err)
		}
	})
}

func taken(t *testing.T, d *Demand, name string, readOnly bool) (Export, func()) {
	t.Helper()
	e, release, err := d.Open(t.Context(), name, readOnly)
	if err != nil {
		t.Fatal(err)
	}
	return e, release
}

// TestDemandOpensOnce: who asks while it is opened gets the same, also when the first one has left.
func TestDemandOpensOnce(t *testing.T) {
	s := &store{slow: time.Second}
	inDemand(t, s, func(t *testing.T, d *Demand) {
		first, leave := context.WithTimeout(t.Context(), time.Millisecond)
		defer leave()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, _, err := d.Open(first, "/vm/a", false); blocktree.KindOf(err) != blocktree.Canceled {
				t.Errorf("who leaves: %v", err)
			}
		})
		devices := make([]*Device, 10)
		for i := range devices {
			wg.Go(func() {
				e, release := taken(t, d, "/vm/a", false)
				devices[i] = e.Device
				time.Sleep(time.Duration(i) * time.Second)
				release()
				release() // once is enough, twice does no harm
			})
		}
		wg.Wait()
		for _, device := range devices {
			if device == nil || device != devices[0] {
				t.Error("two devices")
			}
		}
		if s.opens != 1 {
			t.Errorf("opened %d times", s.opens)
		}
	})
}

// TestDemandLingers: what nobody uses is closed when its time has come, and not before.
func TestDemandLingers(t *testing.T) {
	s := &store{closing: 3 * time.Second}
	inDemand(t, s, func(t *testing.T, d *Demand) {
		_, release := taken(t, d, "/vm/a", false)
		time.Sleep(time.Hour) // used for as long as anybody likes
		release()
		time.Sleep(59 * time.Second)
		e, release := taken(t, d, "/vm/a", false)
		if s.opens != 1 || len(d.List()) != 1 || d.List()[0] != e {
			t.Errorf("opened %d times; %v", s.opens, d.List())
		}
		release()
		time.Sleep(59 * time.Second)
		if s.openFiles() != 1 {
			t.Error("closed too early")
		}
		time.Sleep(2 * time.Second) // now it is being closed
		if len(d.List()) != 0 {
			t.Error("listed while it is closed")
		}
		_, release = taken(t, d, "/vm/a", false) // waits, and opens it again
		if s.opens != 2 {
			t.Errorf("opened %d times", s.opens)
		}
		s.lost.Store(true)
		release()
		time.Sleep(4 * time.Second)
		if s.openFiles() != 0 {
			t.Error("kept without its lease")
		}
	})
}

// TestDemandKeepsOneForReaders: reading does not share the writer's file, nor take its lease.
func TestDemandKeepsOneForReaders(t *testing.T) {
	s := new(store)
	inDemand(t, s, func(t *testing.T, d *Demand) {
		r, leave := taken(t, d, "/vm/a", true)
		w, release := taken(t, d, "/vm/a", false)
		if r.Device == w.Device || !r.ReadOnly || w.ReadOnly {
			t.Errorf("%+v, %+v", r, w)
		}
		if list := d.List(); len(list) != 1 || list[0] != w {
			t.Errorf("%v", list)
		}
		leave()
		release()
	})
	s = new(store)
	synctest.Test(t, func(t *testing.T) {
		o := s.options()
		o.ReadOnly = true
		d := NewDemand(o)
		defer d.Close()
		e, release := taken(t, d, "/vm/a", false)
		defer release()
		if !e.ReadOnly || !d.ReadOnly() || s.held["/vm/a(ro)"] != 1 {
			t.Errorf("%+v", e)
		}
	})
}

// TestDemandIsBounded: what is unused for longest goes first; what is used, never.
func TestDemandIsBounded(t *testing.T) {
	s := &store{closing: time.Second}
	inDemand(t, s, func(t *testing.T, d *Demand) {
		_, releaseA := taken(t, d, "/vm/a", false)
		_, releaseB := taken(t, d, "/vm/b", false)
		if _, _, err := d.Open(t.Context(), "/vm/c", false); blocktree.KindOf(err) != blocktree.Busy {
			t.Errorf("a third: %v", err)
		}
		releaseB()
		time.Sleep(time.Second)
		releaseA()
		_, releaseC := taken(t, d, "/vm/c", false)
		if s.held["/vm/a"] != 1 || s.held["/vm/b"] != 0 {
			t.Errorf("the wrong one was closed: %v", s.held)
		}
		releaseC()
	})
}

// TestDemandFails: an opening that fails leaves nothing, all who wait get its error, and the next one tries again.
func TestDemandFails(t *testing.T) {
	s := &store{slow: time.Second, fail: &blocktree.Error{Kind: blocktree.Busy, Err: errors.New("held by somebody")}}
	inDemand(t, s, func(t *testing.T, d *Demand) {
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if _, _, err := d.Open(t.Context(), "/vm/a", false); blocktree.KindOf(err) != blocktree.Busy || !strings.Contains(err.Error(), "somebody") {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if s.opens != 1 {
			t.Errorf("opened %d times", s.opens)
		}
		s.fail = nil
		_, release := taken(t, d, "/vm/a", false)
		release()
		s.mu.Lock()
		s.slow = time.Hour
		s.mu.Unlock()
		began := time.Now()
		if _, _, err := d.Open(t.Context(), "/vm/b", false); err == nil || time.Since(began) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// TestDemandClosesInTheMiddle: closing gives up openings, and closes what is used.
func TestDemandClosesInTheMiddle(t *testing.T) {
	s := &store{slow: time.Second}
	synctest.Test(t, func(t *testing.T) {
		d := NewDemand(s.options())
		e, release := taken(t, d, "/vm/a", false)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, _, err := d.Open(t.Context(), "/vm/b", false); err == nil {
				t.Error("opened after the end")
			}
		})
		synctest.Wait()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if err := e.Device.ReadAt(t.Context(), make([]byte, 1), 0); blocktree.KindOf(err) != blocktree.Closed {
			t.Errorf("a device that is in use: %v", err)
		}
		release()
		if s.openFiles() != 0 {
			t.Error("a file is open")
		}
	})
}

// TestDemandDescribes: nothing is opened for it.
func TestDemandDescribes(t *testing.T) {
	s := new(store)
	inDemand(t, s, func(t *testing.T, d *Demand) {
		name, err := d.Name("vm/a")
		if err != nil || name != "/vm/a" {
			t.Errorf("%q, %v", name, err)
		}
		e, err := d.Describe(t.Context(), name, true)
		if err != nil || e.Size() != 1<<20 || !e.ReadOnly || e.Device != nil || s.opens != 0 || s.stats != 1 {
			t.Errorf("%+v, %v", e, err)
		}
		s.fail = blocktree.E("test", blocktree.NotFound, nil)
		if _, err := d.Describe(t.Context(), name, true); blocktree.KindOf(err) != blocktree.NotFound {
			t.Error(err)
		}
		s.fail = nil
	})
}

// TestDemandTellsWhatClosingLost: a device that cannot flush at its end makes Close fail, even if that was long ago.
func TestDemandTellsWhatClosingLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := new(store).options()
		o.Open = func(context.Context, string, bool) (*Device, error) {
			return Open(memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 1 << 20}, Hook: func(_ context.Context, c memfile.Call) error {
				if c.Op == memfile.Flush {
					return blocktree.E("test", blocktree.IO, nil)
				}
				return nil
			}}), Options{})
		}
		d := NewDemand(o)
		e, release := taken(t, d, "/vm/a", false)
		if err := e.Device.WriteAt(t.Context(), bytes.Repeat([]byte{1}, 4096), 0, false); err != nil {
			t.Fatal(err)
		}
		release()
		time.Sleep(time.Hour)
		if err := d.Close(); blocktree.KindOf(err) != blocktree.IO {
			t.Errorf("got %v", err)
		}
	})
}

package blockdev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"blocktree"
	"blocktree/blockdev/memfile"
)

func openMem(t testing.TB, mo memfile.Options, o Options) (*Device, *memfile.File) {
	t.Helper()
	f := memfile.New(mo)
	d, err := Open(f, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, f
}

func sized(size uint64, sector int) memfile.Options {
	return memfile.Options{Info: blocktree.FileInfo{SizeBytes: size, SectorBytes: sector}}
}

func TestOpenRefuses(t *testing.T) {
	for _, info := range []blocktree.FileInfo{
		{SizeBytes: 1 << 20, SectorBytes: 256}, {SizeBytes: 1 << 20, SectorBytes: 128 << 10},
		{SizeBytes: 1 << 20, SectorBytes: 4095}, {SizeBytes: 4097, SectorBytes: 4096},
		{SizeBytes: blocktree.FileBytesMax + 4096, SectorBytes: 4096},
	} {
		if _, err := Open(infoOnly{info: info}, Options{}); blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("%+v: %v", info, err)
		}
	}
}

type infoOnly struct {
	blocktree.File
	info blocktree.FileInfo
}

func (f infoOnly) Info() blocktree.FileInfo { return f.info }

// TestAgainstModel does random operations of any alignment and compares every byte with a flat slice.
func TestAgainstModel(t *testing.T) {
	for _, sector := range []int{512, 4096, 64 << 10} {
		for _, cacheBytes := range []int64{0, 4 << 20} {
			t.Run(fmt.Sprintf("sector=%d,cache=%d", sector, cacheBytes), func(t *testing.T) {
				cache, err := NewCache(cacheBytes)
				if err != nil {
					t.Fatal(err)
				}
				defer cache.Close()
				size := uint64(16 * sector)
				d, _ := openMem(t, sized(size, sector), Options{Cache: cache})
				model := make([]byte, size)
				for seed := range uint64(4) {
					if err := modelRun(d, model, rand.New(rand.NewPCG(seed, 7)), 300); err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
					if cacheBytes > 0 { // what was read is kept by a goroutine of the cache's own, which may not have run yet
						cache.entries.Wait()
					}
				}
				if s := cache.Stats(); cacheBytes > 0 && s.Hits == 0 {
					t.Fatalf("the cache took no part: %+v", s)
				}
			})
		}
	}
}

func modelRun(d *Device, model []byte, r *rand.Rand, steps int) error {
	ctx := context.Background()
	size := uint64(len(model))
	for step := range steps {
		off := r.Uint64N(size + 1)
		length := r.Uint64N(min(size-off, 3*d.sector) + 1)
		if r.IntN(3) == 0 {
			off = off / d.sector * d.sector
		}
		if r.IntN(3) == 0 {
			length = length / d.sector * d.sector
		}
		var err error
		part := model[off : off+length]
		switch op := r.IntN(6); op {
		case 0, 1:
			v := byte(r.Uint32())
			for i := range part {
				part[i] = v + byte(i*7)
			}
			err = d.WriteAt(ctx, part, off, r.IntN(2) == 0)
		case 2:
			clear(part)
			err = d.Zero(ctx, off, length, r.IntN(2) == 0)
		case 3:
			err = d.Trim(ctx, off, length, false)
			from, to := (off+d.sector-1)/d.sector*d.sector, (off+length)/d.sector*d.sector
			if from < to {
				clear(model[from:to])
			}
		default:
			got := make([]byte, length)
			if op == 4 || !d.TryReadAt(got, off) {
				err = d.ReadAt(ctx, got, off)
			}
			if err == nil && !bytes.Equal(got, part) {
				err = errors.New("other bytes than the model's")
			}
		}
		if err != nil {
			return fmt.Errorf("step %d, %d bytes at %d: %w", step, length, off, err)
		}
	}
	whole := make([]byte, size)
	if err := d.ReadAt(ctx, whole, 0); err != nil || !bytes.Equal(whole, model) {
		return fmt.Errorf("at the end: %v", err)
	}
	return nil
}

// TestNeighboursInOneSector lets goroutines write every eighth byte of the same few sectors at the same time, by writes
// and by zeroes. An update lost to another's read-modify-write shows.
func TestNeighboursInOneSector(t *testing.T) {
	cache, err := NewCache(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	o := sized(4*512, 512)
	o.Hook = func(context.Context, memfile.Call) error { runtime.Gosched(); return nil }
	d, _ := openMem(t, o, Options{Cache: cache})
	const owners = 8
	var wg sync.WaitGroup
	last := make([]byte, d.Size())
	for g := range uint64(owners) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(g, 1))
			for range 400 {
				at := r.Uint64N(d.Size()/owners)*owners + g
				last[at] = byte(r.UintN(4)) // zero in a quarter of cases
				var err error
				if last[at] == 0 {
					err = d.Zero(t.Context(), at, 1, false)
				} else {
					err = d.WriteAt(t.Context(), last[at:at+1], at, false)
				}
				got := make([]byte, 1)
				if err == nil {
					err = d.ReadAt(t.Context(), got, at)
				}
				if err != nil || got[0] != last[at] {
					t.Errorf("byte %d: %v, read %d, want %d", at, err, got[0], last[at])
					return
				}
			}
		})
	}
	wg.Wait()
	got := make([]byte, d.Size())
	if err := d.ReadAt(t.Context(), got, 0); err != nil || !bytes.Equal(got, last) {
		t.Fatalf("an update was lost: %v", err)
	}
}

func TestDisjointWritesRunSideBySide(t *testing.T) {
	both := make(chan struct{}, 2)
	release := make(chan struct{})
	o := sized(1<<20, 4096)
	o.Hook = func(_ context.Context, c memfile.Call) error {
		if c.Op == memfile.Write {
			both <- struct{}{}
			<-release
		}
		return nil
	}
	d, _ := openMem(t, o, Options{})
	var wg sync.WaitGroup
	for i := range uint64(2) {
		wg.Go(func() {
			if err := d.WriteAt(t.Context(), make([]byte, 4096), i*4096, false); err != nil {
				t.Error(err)
			}
		})
	}
	await(t, both, "one write reaches the file")
	await(t, both, "the other one too")
	close(release)
	wg.Wait()
}

// TestOneWrite: whatever its alignment, a write is one call, and reads only sectors that it covers in part.
func TestOneWrite(t *testing.T) {
	var calls []memfile.Call
	var mu sync.Mutex
	o := sized(1<<20, 4096)
	o.Hook = func(_ context.Context, c memfile.Call) error {
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, c)
		return nil
	}
	d, _ := openMem(t, o, Options{})
	for _, x := range []struct {
		name                 string
		off, length          uint64
		reads, readSectors   uint64
		wantFirst, wantCount uint64
	}{
		{"aligned", 4096, 8192, 0, 0, 1, 2},
		{"inside one sector", 4100, 5, 1, 1, 1, 1},
		{"head", 4100, 4092, 1, 1, 1, 1},
		{"tail of one", 4096, 100, 1, 1, 1, 1},
		{"tail", 4096, 4096 + 1, 1, 1, 1, 2},
		{"head of more", 4097, 2*4096 - 1, 1, 1, 1, 2},
		{"two parts", 4097, 4096, 1, 2, 1, 2},
		{"head and tail", 4097, 3 * 4096, 2, 2, 1, 4},
	} {
		calls = nil
		if err := d.WriteAt(t.Context(), make([]byte, x.length), x.off, false); err != nil {
			t.Fatal(err)
		}
		var reads, readSectors uint64
		var writes []memfile.Call
		for _, c := range calls {
			if c.Op == memfile.Read {
				reads++
				readSectors += c.Count
			} else {
				writes = append(writes, c)
			}
		}
		want := memfile.Call{Op: memfile.Write, First: blocktree.SectorIndex(x.wantFirst), Count: x.wantCount}
		if reads != x.reads || readSectors != x.readSectors || len(writes) != 1 || writes[0] != want {
			t.Errorf("%s: %+v", x.name, calls)
		}
	}
}

func TestBounds(t *testing.T) {
	d, f := openMem(t, sized(1<<20, 4096), Options{})
	for _, x := range []struct{ off, length uint64 }{
		{1 << 20, 1}, {1<<20 + 1, 0}, {1<<20 - 1, 2}, {math.MaxUint64, 1}, {math.MaxUint64 - 3, 4}, {0, 1<<20 + 1},
	} {
		p := make([]byte, x.length)
		for name, err := range map[string]error{
			"read": d.ReadAt(t.Context(), p, x.off), "write": d.WriteAt(t.Context(), p, x.off, false),
			"zero": d.Zero(t.Context(), x.off, x.length, false), "trim": d.Trim(t.Context(), x.off, x.length, false),
		} {
			if blocktree.KindOf(err) != blocktree.OutOfRange {
				t.Errorf("%s of %d at %d: %v", name, x.length, x.off, err)
			}
		}
	}
	if err := d.Zero(t.Context(), 5, math.MaxUint64, false); blocktree.KindOf(err) != blocktree.OutOfRange {
		t.Error(err)
	}
	if n := f.Calls(memfile.Read) + f.Calls(memfile.Write) + f.Calls(memfile.Zero); n != 0 {
		t.Errorf("%d calls reached the file", n)
	}
}

func TestReadOnly(t *testing.T) {
	mo := sized(1<<20, 4096)
	mo.Info.ReadOnly = true
	ofFile, _ := openMem(t, mo, Options{})
	byWish, _ := openMem(t, sized(1<<20, 4096), Options{ReadOnly: true})
	for _, d := range []*Device{ofFile, byWish} {
		for _, err := range []error{d.WriteAt(t.Context(), []byte{1}, 0, false), d.Zero(t.Context(), 0, 1, false),
			d.Trim(t.Context(), 0, 1, false), d.WriteAt(t.Context(), []byte{1}, 1<<30, false)} {
			if blocktree.KindOf(err) != blocktree.ReadOnly {
				t.Error(err)
			}
		}
		if err := d.ReadAt(t.Context(), make([]byte, 1), 0); err != nil {
			t.Error(err)
		}
	}
}

// TestFailedEdge: a write whose partial sector cannot be read changes nothing.
func TestFailedEdge(t *testing.T) {
	o := sized(1<<20, 4096)
	o.Hook = func(_ context.Context, c memfile.Call) error {
		if c.Op == memfile.Read && c.First == 9 {
			return blocktree.E("test", blocktree.Corrupt, nil)
		}
		return nil
	}
	d, f := openMem(t, o, Options{})
	p := make([]byte, 4*4096)
	for _, x := range []struct {
		err  error
		kind blocktree.Kind
	}{
		{d.WriteAt(t.Context(), p, 6*4096+1, false), blocktree.Other}, // from sector 6 to sector 10
		{d.WriteAt(t.Context(), p, 5*4096+1, false), blocktree.Corrupt},
		{d.WriteAt(t.Context(), p, 9*4096+1, false), blocktree.Corrupt},
		{d.Zero(t.Context(), 9*4096+5, 7, false), blocktree.Corrupt},
	} {
		if blocktree.KindOf(x.err) != x.kind || (x.err == nil) != (x.kind == blocktree.Other) {
			t.Errorf("%v, want kind %v", x.err, x.kind)
		}
	}
	if n := f.Calls(memfile.Write) + f.Calls(memfile.Zero); n != 1 {
		t.Errorf("%d writes, only the first one had its edges", n)
	}
}

func TestFlushErrorStays(t *testing.T) {
	fail := true
	o := sized(1<<20, 4096)
	o.Hook = func(_ context.Context, c memfile.Call) error {
		if c.Op == memfile.Flush && fail {
			return blocktree.E("test", blocktree.IO, nil)
		}
		return nil
	}
	d, f := openMem(t, o, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	fail = false
	if err := d.Flush(ctx); blocktree.KindOf(err) != blocktree.Canceled {
		t.Fatal(err)
	}
	if err := d.Flush(t.Context()); err != nil {
		t.Fatalf("a caller that gave up spoilt the device: %v", err)
	}
	fail = true
	if err := d.WriteAt(t.Context(), []byte{1}, 0, true); blocktree.KindOf(err) != blocktree.IO {
		t.Fatal(err)
	}
	fail = false
	for name, err := range map[string]error{"flush": d.Flush(t.Context()), "fua": d.WriteAt(t.Context(), []byte{1}, 0, true),
		"zero": d.Zero(t.Context(), 0, 1, true), "trim": d.Trim(t.Context(), 0, 4096, true), "close": d.Close()} {
		if blocktree.KindOf(err) != blocktree.IO {
			t.Errorf("%s: %v", name, err)
		}
	}
	again, err := Open(f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.flush(t.Context(), "test"); blocktree.KindOf(err) != blocktree.Closed {
		t.Errorf("a new opening starts anew: %v", err)
	}
}

// TestDurable crashes the file after answers with FUA or after Flush.
func TestDurable(t *testing.T) {
	o := sized(1<<20, 4096)
	o.Volatile = true
	d, f := openMem(t, o, Options{})
	full := bytes.Repeat([]byte{7}, 1<<20)
	steps := []struct {
		name string
		do   func() error
		want byte // of byte 100 after the crash
	}{
		{"write", func() error { return d.WriteAt(t.Context(), full[:5], 100, false) }, 0},
		{"write with FUA", func() error { return d.WriteAt(t.Context(), full[:5], 100, true) }, 7},
		{"zero", func() error { return d.Zero(t.Context(), 0, 8192, false) }, 7},
		{"zero with FUA", func() error { return d.Zero(t.Context(), 0, 8192, true) }, 0},
		{"flush", func() error {
			return errors.Join(d.WriteAt(t.Context(), full[:8192], 0, false), d.Flush(t.Context()))
		}, 7},
		{"trim with FUA", func() error { return d.Trim(t.Context(), 0, 8192, true) }, 0},
		{"read-modify-write", func() error { return d.WriteAt(t.Context(), full[:200], 50, true) }, 7},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		f.Crash()
		got := make([]byte, 1)
		if err := d.ReadAt(t.Context(), got, 100); err != nil || got[0] != s.want {
			t.Fatalf("%s: %d after the crash, want %d (%v)", s.name, got[0], s.want, err)
		}
	}
}

func TestCloseWaitsAndFlushes(t *testing.T) {
	holding, release := make(chan struct{}), make(chan struct{})
	o := sized(1<<20, 4096)
	o.Hook = func(_ context.Context, c memfile.Call) error {
		if c.Op == memfile.Write {
			close(holding)
			<-release
		}
		return nil
	}
	d, f := openMem(t, o, Options{})
	written := make(chan error, 1)
	go func() { written <- d.WriteAt(t.Context(), []byte{1}, 0, false) }()
	await(t, holding, "the write reaches the file")
	closed := make(chan struct{})
	go func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		close(closed)
	}()
	until(t, "the device is closing", func() bool {
		return blocktree.KindOf(d.ReadAt(t.Context(), make([]byte, 1), 0)) == blocktree.Closed
	})
	select {
	case <-closed:
		t.Fatal("Close did not wait for a write")
	default:
	}
	close(release)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	await(t, closed, "Close ends")
	if n := f.Calls(memfile.Flush); n != 1 {
		t.Fatalf("%d flushes", n)
	}
	for _, err := range []error{d.Flush(t.Context()), d.WriteAt(t.Context(), nil, 0, false), d.Zero(t.Context(), 0, 0, false)} {
		if blocktree.KindOf(err) != blocktree.Closed {
			t.Error(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
	if d.TryReadAt(make([]byte, 1), 0) {
		t.Error("read after Close")
	}
}

func TestCanceledWhileLocked(t *testing.T) {
	holding, release := make(chan struct{}), make(chan struct{})
	o := sized(1<<20, 4096)
	o.Hook = func(_ context.Context, c memfile.Call) error {
		if c.Op == memfile.Write && c.First == 0 {
			close(holding)
			<-release
		}
		return nil
	}
	d, _ := openMem(t, o, Options{})
	var wg sync.WaitGroup
	wg.Go(func() { d.WriteAt(t.Context(), make([]byte, 8192), 0, false) })
	await(t, holding, "the write reaches the file")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range []error{d.WriteAt(ctx, []byte{1}, 5000, false), d.Zero(ctx, 4096, 4096, false)} {
		if blocktree.KindOf(err) != blocktree.Canceled {
			t.Error(err)
		}
	}
	close(release)
	wg.Wait()
}

// TestWriteChargeBytes: a write is charged for the shards that are made of it too, whatever their number.
func TestWriteChargeBytes(t *testing.T) {
	d, _ := openMem(t, sized(1<<20, 4096), Options{})
	for _, x := range []struct {
		code        blocktree.Code
		off, length uint64
		want        int64 // beyond ChargeBytes
	}{
		{blocktree.Code{Data: 2, Parity: 1}, 0, 8192, 12288}, {blocktree.Code{Data: 2, Parity: 1}, 1, 4096, 12288}, {blocktree.Code{Data: 1, Parity: 2}, 0, 8192, 8192},
		{blocktree.Code{Data: 4, Parity: 4}, 4096, 4096, 8192}, {blocktree.Code{Data: 2, Parity: 1}, 0, 0, 0}, {blocktree.Code{Data: 2, Parity: 1}, 1 << 20, 1, 0}, {blocktree.Code{}, 0, 4096, 0},
	} {
		d.info.Code = x.code
		if got := d.WriteChargeBytes(x.off, x.length) - d.ChargeBytes(x.off, x.length); got != x.want {
			t.Errorf("%v, %d at %d: %d more, want %d", x.code, x.length, x.off, got, x.want)
		}
	}
}

// TestChargeBytes: a request is charged for the scratch that it will take, which is a whole size class.
func TestChargeBytes(t *testing.T) {
	d, _ := openMem(t, sized(1<<20, 4096), Options{})
	for _, x := range []struct {
		off, length uint64
		scratch     int // bytes asked for, 0 for none
	}{{0, 4096, 0}, {0, 0, 0}, {1, 1, 4096}, {4095, 2, 8192}, {4096, 5000, 8192}, {1, 70000, 18 * 4096}, {1 << 20, 1, 0}, {math.MaxUint64, 7, 0}} {
		want := 0
		if x.scratch > 0 {
			scratch := d.memory.scratch(x.scratch)
			want = len(scratch.whole)
			scratch.Release()
		}
		if got := d.ChargeBytes(x.off, x.length); got != int64(want) {
			t.Errorf("%d at %d: %d, want %d", x.length, x.off, got, want)
		}
	}
}

package blockdev

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/internal/invariant"
)

// LeaseHolder is an optional ability of a blocktree.File. Lease returns, without blocking, the epoch under which this
// file's sectors are held, and whether the term of that lease is unexpired now, with the margin that clocks need (DESIGN
// section 5, rule 6). Only then may a sector be answered from the cache, and only one that was read under the same epoch:
// between two epochs another holder may have written. A file without this ability is not cached.
type LeaseHolder interface {
	Lease() (epoch blocktree.Epoch, valid bool)
}

// LeaseTerm is an optional ability of a blocktree.File: to say how long its lease holds yet if it is not renewed; ok is false where it has
// none. It does not block.
type LeaseTerm interface {
	LeaseTerm() (epoch blocktree.Epoch, left time.Duration, ok bool)
}

// Prompt is an optional ability of a blocktree.File. Prompt reports that no method waits for a disk, a network or
// another process, so that a caller may do without a goroutine of its own for each request.
type Prompt interface{ Prompt() bool }

// Options of a device. The zero value is a writable, uncached device with pools of its own.
type Options struct {
	Cache    *Cache  // nil for none
	Memory   *Memory // where scratch buffers come from; nil for one of its own
	ReadOnly bool    // refuse writes even if the file allows them

	Refuse error       // what every request fails with, from the start; nil for none
	Lost   func(error) // if not nil, told once when the file first says Lost. It must not block
	Closed func(error) // if not nil, told what Close is about to return
}

// Device is a byte-addressed block device over a file. Offsets and lengths are in bytes and need no alignment. Errors
// are *blocktree.Error of the kinds of blocktree.File, OutOfRange past the end, ReadOnly and Closed. No method keeps a
// slice it was given.
type Device struct {
	file       blocktree.File
	info       blocktree.FileInfo
	sector     uint64
	readOnly   bool
	prompt     bool
	reads      blocktree.ReadStarter  // nil where the file has not that ability
	writes     blocktree.WriteStarter // likewise
	extents    blocktree.Extenter     // likewise
	sizer      blocktree.Sizer        // nil where the size never changes
	batches    blocktree.Batcher      // likewise
	memory     *Memory
	cache      *deviceCache
	ahead      *ahead
	locks      rangeLocks
	ops        gate
	flushErr   atomic.Pointer[blocktree.Error] // the first one stays
	unsynced   atomic.Bool                     // something was written since the last flush
	over       over
	onClosed   func(error)
	closeErr   func() error
	stopShrink func() // nil where nobody can ask
	uncut      uncut
	gone       context.Context // ends when the device is closed
	end        context.CancelFunc

	startedReads, startedWrites sync.Pool // of *startedRead and *startedWrite
}

// Open makes a device of file, which it owns from now on: Close closes it.
func Open(file blocktree.File, o Options) (*Device, error) {
	info := file.Info()
	if info.SectorBytes < blocktree.SectorBytesMin || info.SectorBytes > blocktree.SectorBytesMax ||
		info.SectorBytes&(info.SectorBytes-1) != 0 || info.SizeBytes%uint64(info.SectorBytes) != 0 ||
		info.SizeBytes > blocktree.FileBytesMax {
		return nil, &blocktree.Error{Op: "blockdev.Open", Path: string(info.Path), Kind: blocktree.Invalid,
			Err: fmt.Errorf("%d bytes in sectors of %d", info.SizeBytes, info.SectorBytes)}
	}
	d := &Device{file: file, info: info, sector: uint64(info.SectorBytes), readOnly: o.ReadOnly || info.ReadOnly,
		memory: o.Memory, onClosed: o.Closed}
	d.over.init(o)
	d.gone, d.end = context.WithCancel(context.Background())
	d.ops.drained = make(chan struct{})
	if d.memory == nil {
		d.memory = NewMemory(blocktree.InFlightBytesMax)
	}
	if p, ok := file.(Prompt); ok {
		d.prompt = p.Prompt()
	}
	d.reads, _ = file.(blocktree.ReadStarter)
	d.writes, _ = file.(blocktree.WriteStarter)
	d.extents, _ = file.(blocktree.Extenter)
	d.sizer, _ = file.(blocktree.Sizer)
	d.batches, _ = file.(blocktree.Batcher)
	if l, ok := file.(LeaseHolder); ok {
		d.cache = newDeviceCache(o.Cache, l)
	}
	d.ahead = newAhead(d)
	d.closeErr = sync.OnceValue(d.close)
	d.followShrink()
	return d, nil
}

// Info describes the file beneath.
func (d *Device) Info() blocktree.FileInfo {
	info := d.info
	info.SizeBytes = d.Size()
	return info
}

// Size is the length of the device in bytes. It may change at any time.
func (d *Device) Size() uint64 {
	if d.sizer == nil {
		return d.info.SizeBytes
	}
	return d.sizer.SizeBytes()
}

// ReadOnly reports whether every write is refused.
func (d *Device) ReadOnly() bool { return d.readOnly }

// Prompt reports whether the file beneath never waits (see the interface of that name).
func (d *Device) Prompt() bool { return d.prompt }

// ChargeBytes is what a read or write of length bytes at off holds in memory beyond the caller's own buffer: nothing
// when it is aligned.
func (d *Device) ChargeBytes(off, length uint64) int64 {
	if d.aligned(off, length) || !d.inside(off, length) {
		return 0
	}
	_, count := d.span(off, length)
	return scratchBytes(int(count * d.sector))
}

// WriteChargeBytes is ChargeBytes of a write, with what the file beneath makes of its sectors: all shards of them, but for replicas, which share
// the bytes.
func (d *Device) WriteChargeBytes(off, length uint64) int64 {
	if !d.inside(off, length) {
		return 0
	}
	charge, code := d.ChargeBytes(off, length), d.info.Code
	if code.Data > 0 && length > 0 {
		shards := uint64(code.Shards())
		if code.Data == 1 {
			shards = 1
		}
		_, count := d.span(off, length)
		charge += int64(count * d.sector * shards / uint64(code.Data))
	}
	return charge
}

// Lease returns the epoch under which the file is held and for how long yet, less the margin that clocks need; ok is false where the file
// has no lease. It does not block.
func (d *Device) Lease() (epoch blocktree.Epoch, left time.Duration, ok bool) {
	if l, has := d.file.(LeaseTerm); has {
		return l.LeaseTerm()
	}
	return 0, 0, false
}

// WritesZeros reports whether zeros are written as any data, so that neither TRIM nor FAST_ZERO is worth offering.
func (d *Device) WritesZeros() bool {
	z, ok := d.file.(blocktree.ZeroWriter)
	return ok && z.WritesZeros()
}

// File is what the device is of, for whoever wants to know how it is. It is the device's to read, write and close.
func (d *Device) File() blocktree.File { return d.file }

// Gone ends when the device has been closed.
func (d *Device) Gone() context.Context { return d.gone }

// Condition is what is wrong with a device for good.
type Condition struct {
	Refused     bool // every request fails, since the opening (Options.Refuse)
	Lost        bool // every request fails, since the file said Lost
	FlushFailed bool // every flush fails
}

// Condition does not block.
func (d *Device) Condition() Condition {
	return Condition{Refused: d.over.refused != nil, Lost: d.over.lost() != nil, FlushFailed: d.flushErr.Load() != nil}
}

// Flush returns when every write that was answered before the call would survive the loss of power everywhere. Its
// first error stays: every later Flush, and every write with FUA, fails with it until the device is opened again.
func (d *Device) Flush(ctx context.Context) error {
	if err := d.ops.enter(); err != nil {
		return d.wrap("blockdev.Flush", err)
	}
	defer d.ops.leave()
	if why := d.over.why(); why != nil {
		return why
	}
	return d.flush(ctx, "blockdev.Flush")
}

func (d *Device) flush(ctx context.Context, op string) error {
	if stuck := d.flushErr.Load(); stuck != nil {
		return stuck
	}
	written := d.unsynced.Swap(false) // before the flush: what is answered later belongs to the next one
	err := d.file.Flush(ctx)
	if err == nil {
		// Another flush may have failed meanwhile; writes that both had to cover are then lost to both.
		if stuck := d.flushErr.Load(); stuck != nil {
			return stuck
		}
		return nil
	}
	if written {
		d.unsynced.Store(true)
	}
	wrapped := d.wrap(op, err)
	if ctx.Err() == nil { // a caller that gave up says nothing about the device
		d.flushErr.CompareAndSwap(nil, wrapped)
	}
	return wrapped
}

// Close refuses new calls with Closed, waits for those in flight, flushes what was written since the last flush, and
// closes the file. It returns the first error, Lost if the file has ever said so, and the same one when called again.
func (d *Device) Close() error { return d.closeErr() }

func (d *Device) close() error {
	if d.stopShrink != nil {
		d.stopShrink()
	}
	d.ops.shut()
	d.ahead.close()
	err := d.over.lost()
	if err == nil && d.unsynced.Load() {
		err = d.flush(context.Background(), "blockdev.Close")
	}
	if closeErr := d.file.Close(); err == nil && closeErr != nil {
		err = d.wrap("blockdev.Close", closeErr)
	}
	if d.onClosed != nil {
		d.onClosed(err)
	}
	d.end()
	return err
}

// check admits one request; the caller must leave d.ops when it returned nil.
func (d *Device) check(op string, off, length uint64, write bool) error {
	if err := d.ops.enter(); err != nil {
		return d.wrap(op, err)
	}
	var kind blocktree.Kind
	why := d.over.why()
	switch {
	case why != nil:
		d.ops.leave()
		return why
	case write && d.readOnly:
		kind = blocktree.ReadOnly
	case !d.inside(off, length):
		kind = blocktree.OutOfRange
	default:
		return nil
	}
	d.ops.leave()
	return &blocktree.Error{Op: op, Path: string(d.info.Path), Kind: kind,
		Err: fmt.Errorf("%d bytes at %d of %d", length, off, d.Size())}
}

func (d *Device) inside(off, length uint64) bool {
	size := d.Size()
	return off <= size && length <= size-off
}

func (d *Device) aligned(off, length uint64) bool { return (off|length)&(d.sector-1) == 0 }

// span returns the sectors that hold length > 0 bytes at off.
func (d *Device) span(off, length uint64) (first blocktree.SectorIndex, count uint64) {
	first = blocktree.SectorIndex(off / d.sector)
	return first, (off+length-1)/d.sector - uint64(first) + 1
}

// wrap adds this layer's name once; the kind is that of err, Canceled for the errors of a context. Every error of the file comes by here,
// so this is where a loss is noticed.
func (d *Device) wrap(op string, err error) *blocktree.Error {
	kind := blocktree.KindOf(err)
	if kind == blocktree.Other && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		kind = blocktree.Canceled
	}
	wrapped := &blocktree.Error{Op: op, Path: string(d.info.Path), Kind: kind, Err: err}
	if kind == blocktree.Lost {
		d.over.note(wrapped)
	}
	return wrapped
}

// gate counts the calls in flight and turns new ones away once it is shut.
type gate struct {
	state   atomic.Int64 // twice the calls in flight, plus one when shut
	drained chan struct{}
	once    sync.Once
}

func (g *gate) enter() error {
	if g.state.Add(2)&1 == 0 {
		return nil
	}
	g.leave()
	return blocktree.E("", blocktree.Closed, nil)
}

func (g *gate) leave() {
	n := g.state.Add(-2)
	invariant.Check(n >= 0, "more calls ended than began")
	if n == 1 {
		g.once.Do(func() { close(g.drained) })
	}
}

// shut is called once; it waits for the calls in flight.
func (g *gate) shut() {
	if g.state.Add(1) == 1 {
		g.once.Do(func() { close(g.drained) })
	}
	<-g.drained
}

package memfile

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"blocktree"
)

// Op names a method of the file for hooks and counters.
type Op int

// The operations that a hook sees.
const (
	Read Op = iota
	Write
	Zero
	Flush
	Extents
	opEnd
)

// Call is one call of the file.
type Call struct {
	Op    Op
	First blocktree.SectorIndex
	Count uint64 // sectors
}

// Options of a file. Only the sizes are needed.
type Options struct {
	Info blocktree.FileInfo // SectorBytes 0 takes the default

	// Hook, if any, runs before every call and may block or fail it; the error is returned as it is, and nothing is done.
	Hook func(context.Context, Call) error

	// Volatile remembers what Crash needs to forget what was not flushed.
	Volatile bool

	// Prompt makes the file say that it never waits. Leave it false with a hook that blocks.
	Prompt bool

	// Starts makes the file a blocktree.ReadStarter and WriteStarter; its hook's context then ends with Close.
	Starts bool

	// Lease, if any, answers for the method of that name. Without it the lease is of epoch 1 and never runs out.
	Lease func() (epoch blocktree.Epoch, valid bool)
}

const chunkSectors = 256

// File is a file in memory. Chunks that were never written, or wholly zeroed, take no memory.
type File struct {
	o      Options
	chunks []chunk
	calls  [opEnd]atomic.Int64
	closed atomic.Bool
	life   context.Context // of started reads
	end    context.CancelFunc
	open   sync.RWMutex // held for reading by calls in flight, hook included, for writing by Close
	busy   sync.RWMutex // held for reading while sectors change, for writing by Crash and a volatile Flush

	undoMu sync.Mutex
	undo   map[blocktree.SectorIndex][]byte // the flushed content of sectors written since; nil is zeros
}

type chunk struct {
	mu   sync.RWMutex
	data []byte // nil reads as zeros
}

// New returns a file of zeros. The size must be a whole number of sectors.
func New(o Options) *File {
	if o.Info.SectorBytes == 0 {
		o.Info.SectorBytes = blocktree.SectorBytesDefault
	}
	if o.Info.Path == "" {
		o.Info.Path = "/mem"
	}
	f := &File{o: o, undo: make(map[blocktree.SectorIndex][]byte)}
	f.life, f.end = context.WithCancel(context.Background())
	f.chunks = make([]chunk, (o.Info.Sectors()+chunkSectors-1)/chunkSectors)
	return f
}

// Info describes the file.
func (f *File) Info() blocktree.FileInfo { return f.o.Info }

// Prompt is what the options say (blockdev.Prompt).
func (f *File) Prompt() bool { return f.o.Prompt }

// Lease is what the options say (blockdev.LeaseHolder).
func (f *File) Lease() (epoch blocktree.Epoch, valid bool) {
	if f.o.Lease == nil {
		return 1, true
	}
	return f.o.Lease()
}

// Calls counts the calls of op that came so far, failed ones too.
func (f *File) Calls(op Op) int64 { return f.calls[op].Load() }

// ReadSectors implements blocktree.File.
func (f *File) ReadSectors(ctx context.Context, first blocktree.SectorIndex, dst []byte) error {
	count, err := f.whole(dst)
	if err != nil {
		return err
	}
	return f.do(ctx, Call{Read, first, count}, func() {
		f.each(first, count, func(c *chunk, at, n, done int) {
			c.mu.RLock()
			defer c.mu.RUnlock()
			if c.data == nil {
				clear(dst[done : done+n])
			} else {
				copy(dst[done:done+n], c.data[at:])
			}
		})
	})
}

// StartRead implements blocktree.ReadStarter where the options say so: a goroutine reads, and then asks whether dst may be
// filled.
func (f *File) StartRead(first blocktree.SectorIndex, dst []byte, r blocktree.Started) bool {
	if !f.o.Starts || f.o.Prompt {
		return false
	}
	go func() {
		got := make([]byte, len(dst))
		err := f.ReadSectors(f.life, first, got)
		if r.Claim() {
			copy(dst, got)
			r.End(err)
		}
	}()
	return true
}

// StartWrite implements blocktree.WriteStarter where the options say so.
func (f *File) StartWrite(first blocktree.SectorIndex, src []byte, done func(error)) bool {
	if !f.o.Starts || f.o.Prompt {
		return false
	}
	src = bytes.Clone(src)
	go func() { done(f.WriteSectors(f.life, first, src)) }()
	return true
}

// WriteSectors implements blocktree.File.
func (f *File) WriteSectors(ctx context.Context, first blocktree.SectorIndex, src []byte) error {
	count, err := f.whole(src)
	if err != nil {
		return err
	}
	return f.do(ctx, Call{Write, first, count}, func() {
		f.remember(first, count)
		f.each(first, count, func(c *chunk, at, n, done int) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.data == nil {
				c.data = make([]byte, chunkSectors*f.o.Info.SectorBytes)
			}
			copy(c.data[at:], src[done:done+n])
		})
	})
}

// ZeroSectors implements blocktree.File.
func (f *File) ZeroSectors(ctx context.Context, first blocktree.SectorIndex, count uint64) error {
	return f.do(ctx, Call{Zero, first, count}, func() {
		f.remember(first, count)
		f.each(first, count, func(c *chunk, at, n, _ int) {
			c.mu.Lock()
			defer c.mu.Unlock()
			switch {
			case c.data == nil:
			case n == len(c.data):
				c.data = nil
			default:
				clear(c.data[at : at+n])
			}
		})
	})
}

// Extents implements blocktree.Extenter. A sector of zeros is a hole, however it came to be one.
func (f *File) Extents(ctx context.Context, first blocktree.SectorIndex, count uint64, most int) (out []blocktree.Extent, err error) {
	if count == 0 || most <= 0 {
		return nil, f.fail(blocktree.Invalid, errors.New("nothing is asked about"))
	}
	size := f.o.Info.SectorBytes
	full := false
	add := func(sectors int, zero bool) {
		switch n := len(out); {
		case full:
		case n > 0 && out[n-1].Zero == zero:
			out[n-1].Count += uint64(sectors)
		case n == most:
			full = true
		default:
			out = append(out, blocktree.Extent{Count: uint64(sectors), Zero: zero})
		}
	}
	err = f.do(ctx, Call{Extents, first, count}, func() {
		f.each(first, count, func(c *chunk, at, n, _ int) {
			c.mu.RLock()
			defer c.mu.RUnlock()
			if c.data == nil {
				add(n/size, true)
				return
			}
			for ; n > 0; at, n = at+size, n-size {
				sector := c.data[at : at+size]
				add(1, sector[0] == 0 && bytes.Equal(sector[1:], sector[:size-1]))
			}
		})
	})
	return out, err
}

// Flush implements blocktree.File.
func (f *File) Flush(ctx context.Context) error {
	if err := f.do(ctx, Call{Op: Flush}, func() {}); err != nil || !f.o.Volatile {
		return err
	}
	f.busy.Lock()
	defer f.busy.Unlock()
	clear(f.undo)
	return nil
}

// Crash forgets every write that was not flushed. The file stays usable, as after a restart. It needs Volatile.
func (f *File) Crash() {
	f.busy.Lock()
	defer f.busy.Unlock()
	for sector, old := range f.undo {
		c := &f.chunks[sector/chunkSectors]
		at := int(sector%chunkSectors) * f.o.Info.SectorBytes
		switch {
		case old != nil && c.data != nil:
			copy(c.data[at:], old)
		case old != nil:
			c.data = make([]byte, chunkSectors*f.o.Info.SectorBytes)
			copy(c.data[at:], old)
		case c.data != nil:
			clear(c.data[at : at+f.o.Info.SectorBytes])
		}
	}
	clear(f.undo)
}

// Close implements blocktree.File.
func (f *File) Close() error {
	f.end()
	f.open.Lock()
	defer f.open.Unlock()
	if f.closed.Swap(true) {
		return f.fail(blocktree.Closed, nil)
	}
	return nil
}

func (f *File) do(ctx context.Context, c Call, act func()) error {
	f.calls[c.Op].Add(1)
	f.open.RLock()
	defer f.open.RUnlock()
	if f.closed.Load() {
		return f.fail(blocktree.Closed, nil)
	}
	sectors := f.o.Info.Sectors()
	if uint64(c.First) > sectors || c.Count > sectors-uint64(c.First) {
		return f.fail(blocktree.OutOfRange, nil)
	}
	if f.o.Info.ReadOnly && (c.Op == Write || c.Op == Zero) {
		return f.fail(blocktree.ReadOnly, nil)
	}
	if ctx.Err() != nil {
		return f.fail(blocktree.Canceled, ctx.Err())
	}
	if f.o.Hook != nil {
		if err := f.o.Hook(ctx, c); err != nil {
			return err
		}
	}
	f.busy.RLock()
	defer f.busy.RUnlock()
	act()
	return nil
}

func (f *File) whole(p []byte) (uint64, error) {
	if len(p) == 0 || len(p)%f.o.Info.SectorBytes != 0 {
		return 0, f.fail(blocktree.Invalid, errors.New("not a whole number of sectors"))
	}
	return uint64(len(p) / f.o.Info.SectorBytes), nil
}

// each calls visit for every chunk that sectors first … first+count-1 touch: n bytes at byte at of the chunk, after done
// bytes of the range.
func (f *File) each(first blocktree.SectorIndex, count uint64, visit func(c *chunk, at, n, done int)) {
	done := 0
	for count > 0 {
		at := uint64(first % chunkSectors)
		n := min(count, chunkSectors-at)
		bytes := int(n) * f.o.Info.SectorBytes
		visit(&f.chunks[first/chunkSectors], int(at)*f.o.Info.SectorBytes, bytes, done)
		done += bytes
		first += blocktree.SectorIndex(n)
		count -= n
	}
}

func (f *File) remember(first blocktree.SectorIndex, count uint64) {
	if !f.o.Volatile {
		return
	}
	f.undoMu.Lock()
	defer f.undoMu.Unlock()
	for i := range count {
		sector := first + blocktree.SectorIndex(i)
		if _, known := f.undo[sector]; known {
			continue
		}
		f.undo[sector] = nil
		f.each(sector, 1, func(c *chunk, at, n, _ int) {
			c.mu.RLock()
			defer c.mu.RUnlock()
			if c.data != nil {
				f.undo[sector] = append([]byte(nil), c.data[at:at+n]...)
			}
		})
	}
}

func (f *File) fail(kind blocktree.Kind, err error) error {
	return &blocktree.Error{Op: "memfile", Path: string(f.o.Info.Path), Kind: kind, Err: err}
}

package file

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
)

// File is an open file; it implements blocktree.File. One that is open for reading only has no lease, and no handle.
type File struct {
	info          blocktree.FileInfo // but for its size, which may change
	handle        *cluster.Handle
	reader        *cluster.Reader
	unlocker      *unlocker
	keys          atomic.Pointer[ring]
	gate          gate
	endsAt        atomic.Uint64 // in bytes, while the file is made smaller, or may yet be; else 0
	keeper        *keeper       // of a holder of an encrypted file; else nil
	heard         meta.Heard    // what the group had heard when the lease was had
	durability    stripe.Durability
	regionSectors uint64
	runSectors    uint64
	guard         *guard // of a file of integrity tree
	ending        ending
	unnamed       *unnamed       // of a file of MakeUnnamed; else nil
	started       sync.WaitGroup // reads and writes that were started, and writes that nobody waits for any more, and have not ended
}

var (
	_ blocktree.File           = (*File)(nil)
	_ blocktree.ReadStarter    = (*File)(nil)
	_ blocktree.WriteStarter   = (*File)(nil)
	_ blocktree.Batcher        = (*File)(nil)
	_ blocktree.LossNumberer   = (*File)(nil)
	_ blocktree.Extenter       = (*File)(nil)
	_ blocktree.Sizer          = (*File)(nil)
	_ blocktree.Shrinker       = (*File)(nil)
	_ blocktree.Ender          = (*File)(nil)
	_ blocktree.EndCloser      = (*File)(nil)
	_ blocktree.Hearer         = (*File)(nil)
	_ blocktree.Epocher        = (*File)(nil)
	_ blocktree.WriteForgetter = (*File)(nil)
)

// Info describes the file as it is now.
func (f *File) Info() blocktree.FileInfo {
	info := f.info
	info.SizeBytes = f.SizeBytes()
	return info
}

// SizeBytes implements blocktree.Sizer.
func (f *File) SizeBytes() uint64 {
	size := f.keptBytes()
	if end := f.endsAt.Load(); end != 0 {
		return min(size, end)
	}
	return size
}

// keptBytes is SizeBytes, but for what a file that is made smaller has behind its new end until that is done: it may not come to it.
func (f *File) keptBytes() uint64 {
	switch {
	case f.handle != nil:
		return f.handle.SizeBytes()
	case f.reader != nil:
		return f.reader.SizeBytes()
	}
	return f.info.SizeBytes // nobody could say that it changes
}

func (f *File) kept() uint64 { return f.keptBytes() / uint64(f.info.SectorBytes) }

func (f *File) sectors() uint64 { return f.SizeBytes() / uint64(f.info.SectorBytes) }

// Durability says what a write has survived when it is answered.
func (f *File) Durability() stripe.Durability { return f.durability }

// Handle is the coordinator that the file is held through, nil if it is open for reading only.
func (f *File) Handle() *cluster.Handle { return f.handle }

// Stats counts what the coordinator that the file is held, or read, through has done.
func (f *File) Stats() stripe.HolderStats {
	if f.handle == nil {
		return f.reader.Stats()
	}
	return f.handle.Stats()
}

// Lease returns the epoch that the file is held under and whether the lease is known to hold now: while it does, a
// sector that was read or written through this file is what everybody would read. It does not block.
func (f *File) Lease() (blocktree.Epoch, bool) {
	if f.handle == nil {
		return 0, false
	}
	return f.handle.Lease()
}

// Epochs implements blocktree.Epocher. What is cut of a file of integrity tree is no write, so of such a file only the epoch before is known.
func (f *File) Epochs() (held, written blocktree.Epoch) {
	if f.handle == nil {
		return 0, 0
	}
	held, written = f.handle.Epoch(), f.handle.Written()
	if f.guard != nil {
		written = held - 1
	}
	return held, written
}

// LossNumber implements blocktree.LossNumberer.
func (f *File) LossNumber(ctx context.Context) (uint64, error) {
	if f.handle == nil {
		return f.reader.LossNumber(ctx)
	}
	return f.handle.LossNumber(), nil
}

// LeaseTerm implements blockdev.LeaseTerm.
func (f *File) LeaseTerm() (epoch blocktree.Epoch, left time.Duration, ok bool) {
	if f.handle == nil {
		return 0, 0, false
	}
	epoch, left = f.handle.LeaseLeft()
	return epoch, left, true
}

// run is a piece of a request that lies in one region and fits one record.
type run struct {
	region blocktree.RegionIndex
	first  blocktree.SectorIndex
	count  uint64
}

// cut calls do for each run of [first, first+count) of at most sectorsMax sectors.
func (f *File) cut(first blocktree.SectorIndex, count, sectorsMax uint64, do func(run) error) error {
	for count > 0 {
		region := uint64(first) / f.regionSectors
		n := min(count, sectorsMax, (region+1)*f.regionSectors-uint64(first))
		if err := do(run{blocktree.RegionIndex(region), first, n}); err != nil {
			return err
		}
		first += blocktree.SectorIndex(n)
		count -= n
	}
	return nil
}

// check refuses requests that are not whole sectors inside the file, and returns their count.
func (f *File) check(op string, first blocktree.SectorIndex, bytes int) (uint64, error) {
	if bytes%f.info.SectorBytes != 0 {
		return 0, blocktree.E(op, blocktree.Invalid, fmt.Errorf("%d bytes are not whole sectors of %d", bytes, f.info.SectorBytes))
	}
	count := uint64(bytes / f.info.SectorBytes)
	return count, f.checkRange(op, first, count)
}

func (f *File) checkRange(op string, first blocktree.SectorIndex, count uint64) error {
	if total := f.sectors(); uint64(first) > total || count > total-uint64(first) {
		return blocktree.E(op, blocktree.OutOfRange, fmt.Errorf("%d sectors from %d of %d", count, first, total))
	}
	return nil
}

// fail gives err the name of the file, once.
func (f *File) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	return &blocktree.Error{Op: op, Path: f.info.Path.Short(), Err: err}
}

const (
	readOp  = "file.ReadSectors"
	writeOp = "file.WriteSectors"
)

// ReadSectors implements blocktree.File.
func (f *File) ReadSectors(ctx context.Context, first blocktree.SectorIndex, dst []byte) error {
	const op = readOp
	count, err := f.check(op, first, len(dst))
	if err != nil {
		return err
	}
	type asked struct {
		run
		read *cluster.Read
	}
	var reads []asked
	err = f.cut(first, count, f.runSectors, func(r run) error {
		reads = append(reads, asked{r, f.ask(ctx, r)})
		return nil
	})
	for _, a := range reads {
		at := uint64(a.first-first) * uint64(f.info.SectorBytes)
		part := dst[at : at+a.count*uint64(f.info.SectorBytes)]
		if e := f.finishRead(ctx, a.run, a.read, part); e != nil && err == nil {
			err = e
		}
	}
	return f.fail(op, err)
}

// ask asks for a run.
func (f *File) ask(ctx context.Context, r run) *cluster.Read {
	if f.handle == nil {
		return f.reader.ReadIn(ctx, r.region, r.first, uint32(r.count))
	}
	return f.handle.Read(r.region, r.first, uint32(r.count))
}

// finishRead waits for one run and opens its sectors into dst.
func (f *File) finishRead(ctx context.Context, r run, read *cluster.Read, dst []byte) error {
	if f.guard != nil {
		return f.readGuarded(ctx, r, read, dst)
	}
	pieces, err := read.Wait(ctx)
	if err != nil {
		return err
	}
	defer read.Release()
	return f.openPieces(r, pieces, dst, func(p *cluster.Piece, part []byte) error { return f.openPiece(ctx, r, p, part, f.open) })
}

// openPieces fills dst with the sectors of a run, each piece of sealed ones by one.
func (f *File) openPieces(r run, pieces []cluster.Piece, dst []byte, one func(*cluster.Piece, []byte) error) error {
	size := uint64(f.info.SectorBytes)
	for i := range pieces {
		p := &pieces[i]
		at := uint64(p.First-r.first) * size
		part := dst[at : at+uint64(p.Count)*size]
		if !p.Data() {
			clear(part)
			continue
		}
		if err := one(p, part); err != nil {
			return err
		}
	}
	return nil
}

// openPiece joins and opens one piece; when a sector does not open, every shard of it is asked for and every choice of k
// is tried (rule 2 of the package). open is told of sectors that turn out to have no data, too.
func (f *File) openPiece(ctx context.Context, r run, p *cluster.Piece, dst []byte, open func(*cluster.Piece, []byte) error) error {
	if f.handle != nil {
		err := open(p, dst)
		if blocktree.KindOf(err) == blocktree.Corrupt {
			err = f.handle.ReadCareful(ctx, r.region, p.First, p.Count, dst, open)
		}
		return err
	}
	k := keyed{f: f, ctx: ctx, opens: open}
	err := k.open(p, dst)
	if blocktree.KindOf(err) == blocktree.Corrupt && k.failed == nil {
		err = f.reader.ReadCareful(ctx, r.region, p.First, p.Count, dst, k.open)
	}
	if k.failed != nil {
		return k.failed
	}
	return err
}

// keyed opens pieces for a reader without a lease, which hears of a rekey by what it meets: at the first sector of a generation that it does not know, whatever else it was that
// did not open before, it asks for the newest access record. Once that has failed nothing opens, so that nobody who may be right is taken for wrong.
type keyed struct {
	f      *File
	ctx    context.Context
	opens  func(*cluster.Piece, []byte) error
	asked  bool
	failed error
}

func (k *keyed) open(p *cluster.Piece, dst []byte) error {
	if k.failed != nil {
		return k.failed
	}
	err := k.opens(p, dst)
	var unknown unknownGeneration
	if !errors.As(err, &unknown) || k.asked || k.f.unlocker == nil { // a member may have made it up, so it is asked once
		return err
	}
	k.asked = true
	if k.failed = k.f.refresh(k.ctx); k.failed != nil {
		return k.failed
	}
	return k.opens(p, dst)
}

// refresh asks for the newest access record, of a file that is open without a lease.
func (f *File) refresh(ctx context.Context) error {
	inode, err := f.unlocker.client.StatFile(ctx, f.info.ID)
	if err != nil {
		return err
	}
	r, err := f.unlocker.ring(ctx, inode)
	if err == nil {
		f.setKeys(r)
	}
	return err
}

// setKeys has the file go by the keys of a record, and the pages of its tree, if it has one.
func (f *File) setKeys(r *ring) {
	f.keys.Store(r)
	if f.guard != nil {
		f.guard.pages.keys.Store(r.pages)
	}
}

// open opens the sectors of a piece from the shards that came, each from its places in them.
func (f *File) open(p *cluster.Piece, dst []byte) error {
	_, err := f.openUnder(p, dst, nil)
	return err
}

// openUnder is open that notes the generation of each sector in generations, unless that is nil, and returns the data shards.
func (f *File) openUnder(p *cluster.Piece, dst []byte, generations []uint32) ([][]byte, error) {
	if !p.Data() { // a careful look has found none, and cleared dst
		return nil, nil
	}
	keys := f.keys.Load()
	if keys.access == nil && !p.SameSeals() { // a leaf alone proves nothing
		clear(dst)
		return nil, blocktree.E("file", blocktree.Corrupt, errors.New("members have different leaves of a sector"))
	}
	shards, err := p.DataShards()
	if err != nil {
		return nil, err
	}
	size := f.info.SectorBytes
	var room [blocktree.DataShardsMax][]byte
	for i := range int(p.Count) {
		parts := p.Parts(i, shards, room[:0])
		generation, err := keys.open(dst[i*size:(i+1)*size], parts, p.First+blocktree.SectorIndex(i), p.Version, p.Seal(i))
		if err != nil {
			return nil, fmt.Errorf("sector %d: %w", p.First+blocktree.SectorIndex(i), err)
		}
		if generations != nil {
			generations[i] = generation
		}
	}
	return shards, nil
}

// WriteSectors implements blocktree.File.
func (f *File) WriteSectors(ctx context.Context, first blocktree.SectorIndex, src []byte) error {
	const op = writeOp
	count, err := f.check(op, first, len(src))
	if err != nil {
		return err
	}
	if f.info.ReadOnly {
		return blocktree.E(op, blocktree.ReadOnly, nil)
	}
	phase, err := f.pass(ctx, op, first, count)
	if err != nil {
		return f.fail(op, err)
	}
	var writes []*cluster.Write
	defer func() { f.leave(ctx, phase, writes) }()
	f.handle.Wrote()
	if f.guard != nil {
		writes, err = f.writeGuarded(ctx, first, count, src)
		return f.fail(op, err)
	}
	err = f.cut(first, count, f.runSectors, func(r run) error {
		w, err := f.write(r, f.part(src, first, r))
		if err == nil {
			writes = append(writes, w)
		}
		return err
	})
	return f.fail(op, waitAll(ctx, writes, err))
}

// pass lets a write through the gate that lies in the file yet once it is through.
func (f *File) pass(ctx context.Context, op string, first blocktree.SectorIndex, count uint64) (phase uint32, err error) {
	phase, err = f.gate.pass(ctx, first, count)
	if err != nil {
		return 0, err
	}
	if err := f.checkRange(op, first, count); err != nil {
		f.gate.leave(phase)
		return 0, err
	}
	return phase, nil
}

// part is what a run has of the sectors from first on.
func (f *File) part(b []byte, first blocktree.SectorIndex, r run) []byte {
	at := uint64(r.first-first) * uint64(f.info.SectorBytes)
	return b[at : at+r.count*uint64(f.info.SectorBytes)]
}

// write seals one run and hands it to the coordinator.
func (f *File) write(r run, src []byte) (*cluster.Write, error) {
	out, err := f.seal(r, src)
	if err != nil {
		return nil, err
	}
	return f.handle.Write(out), nil
}

// seal seals one run under a version of its own, within the gate. The coordinator must get it.
func (f *File) seal(r run, src []byte) (*cluster.Run, error) {
	keys := f.keys.Load()
	if keys.refused != nil {
		return nil, keys.refused
	}
	v, err := f.handle.Begin(r.region)
	if err != nil {
		return nil, err
	}
	size := f.info.SectorBytes
	out := f.handle.NewRun(r.region, r.first, uint32(r.count), v)
	keys.newest.SealRun(out, src[:int(r.count)*size], size, r.first, v)
	return out, nil
}

// ZeroSectors implements blocktree.File: one tombstone per region.
func (f *File) ZeroSectors(ctx context.Context, first blocktree.SectorIndex, count uint64) error {
	const op = "file.ZeroSectors"
	if err := f.checkRange(op, first, count); err != nil {
		return err
	}
	if f.info.ReadOnly {
		return blocktree.E(op, blocktree.ReadOnly, nil)
	}
	phase, err := f.pass(ctx, op, first, count)
	if err != nil {
		return f.fail(op, err)
	}
	var writes []*cluster.Write
	defer func() { f.leave(ctx, phase, writes) }()
	if err := f.keys.Load().refused; err != nil {
		return f.fail(op, err)
	}
	f.handle.Wrote()
	if f.guard != nil {
		writes, err = f.zeroGuarded(ctx, first, count)
		return f.fail(op, err)
	}
	err = f.cut(first, count, f.regionSectors, func(r run) error {
		v, err := f.handle.Begin(r.region)
		if err == nil {
			writes = append(writes, f.handle.Zero(r.region, r.first, uint32(r.count), v))
		}
		return err
	})
	return f.fail(op, waitAll(ctx, writes, err))
}

// leave leaves the gate when all writes have ended: those that nobody waits for any more are on their way nonetheless, under the key that they were sealed with.
func (f *File) leave(ctx context.Context, phase uint32, writes []*cluster.Write) {
	if ctx.Err() == nil { // waitAll has seen them end
		f.gate.leave(phase)
		return
	}
	f.started.Go(func() {
		defer f.gate.leave(phase)
		_ = waitAll(context.Background(), writes, nil) // who asked has been told that the outcome is unknown; they end with the handle at the latest
	})
}

// waitAll waits for every write, also after an error, and returns the first error.
func waitAll(ctx context.Context, writes []*cluster.Write, err error) error {
	for _, w := range writes {
		if e := w.Wait(ctx); e != nil && err == nil {
			err = e
		}
	}
	return err
}

// Flush implements blocktree.File. In durability ack every answered write is durable already, so it waits for what is in
// flight and makes sure that this holder may still speak for the file; in flush it has what was answered made durable, too.
func (f *File) Flush(ctx context.Context) error {
	if f.info.ReadOnly {
		return nil
	}
	err := f.handle.Flush(ctx)
	if err == nil {
		f.handle.NoteWrites()
	}
	if err == nil && f.guard != nil {
		f.guard.flushed()
	}
	return f.fail("file.Flush", err)
}

// ForgetWrites implements blocktree.WriteForgetter.
func (f *File) ForgetWrites(ctx context.Context) (again func(), err error) {
	if f.handle == nil {
		return func() {}, nil
	}
	again, err = f.handle.ForgetWrites(ctx)
	return again, f.fail("file.ForgetWrites", err)
}

// Close implements blocktree.File.
func (f *File) Close() error {
	if f.keeper != nil { // which re-seals pages, too
		f.keeper.end()
	}
	var err error
	if f.guard != nil {
		err = f.guard.close()
	}
	if f.handle == nil {
		return f.fail("file.Close", either(f.reader.Close(), err))
	}
	err = f.fail("file.Close", either(f.handle.Close(), err))
	f.started.Wait()
	return err
}

// either returns the first of two errors that is one.
func either(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

package blockdev

import (
	"context"

	"blocktree"
)

const (
	readOp  = "blockdev.ReadAt"
	writeOp = "blockdev.WriteAt"
)

// ReadAt fills p from byte off on. A sector that a write in flight touches is the old one or the new one. On an error p
// holds no promise. It blocks until the file answers or ctx ends.
func (d *Device) ReadAt(ctx context.Context, p []byte, off uint64) error {
	const op = readOp
	if err := d.check(op, off, uint64(len(p)), false); err != nil {
		return err
	}
	defer d.ops.leave()
	if len(p) == 0 {
		return nil
	}
	if err := d.read(ctx, p, off); err != nil {
		return d.wrap(op, err)
	}
	return nil
}

// TryReadAt is ReadAt for a caller that must not wait: it fills p and returns true where the cache, or what was read ahead, has all of it, and
// else returns false with p undefined; ReadAt says then what the matter is.
func (d *Device) TryReadAt(p []byte, off uint64) bool {
	if d.cache == nil || len(p) == 0 || d.check("", off, uint64(len(p)), false) != nil {
		return false
	}
	defer d.ops.leave()
	first, count := d.span(off, uint64(len(p)))
	if count > cacheReadSectorsMax {
		return false
	}
	if d.aligned(off, uint64(len(p))) && d.ahead.serve(nil, first, p) == count {
		d.ahead.fared(d.ahead.note(first, count), first, count, count)
		return true
	}
	skip := off % d.sector
	for i := range count {
		data, _ := d.cache.get(first + blocktree.SectorIndex(i))
		if data == nil {
			return false
		}
		p = p[copy(p, data[skip:]):]
		skip = 0
	}
	d.cache.cache.hits.Add(count)
	return true
}

func (d *Device) read(ctx context.Context, p []byte, off uint64) error {
	first, count := d.span(off, uint64(len(p)))
	if d.aligned(off, uint64(len(p))) {
		return d.readClient(ctx, first, p)
	}
	scratch := d.memory.scratch(int(count * d.sector))
	defer scratch.Release()
	if err := d.readClient(ctx, first, scratch.B); err != nil {
		return err
	}
	copy(p, scratch.B[off%d.sector:])
	return nil
}

// readClient is readSectors for a client, whose reads may go on: what was read ahead comes first.
func (d *Device) readClient(ctx context.Context, first blocktree.SectorIndex, dst []byte) error {
	count := uint64(len(dst)) / d.sector
	d.ahead.wants(1, len(dst))
	defer d.ahead.wants(-1, len(dst))
	stream := d.ahead.note(first, count) // before the file is asked: what comes next is read beside it
	served := d.ahead.serve(ctx, first, dst)
	d.ahead.fared(stream, first, count, served)
	if served == count {
		return nil
	}
	dst = dst[served*d.sector:]
	d.ahead.asks(stream, 1)
	defer d.ahead.asks(stream, -1)
	return d.readSectors(ctx, first+blocktree.SectorIndex(served), dst, true)
}

// readSectors fills whole sectors from the cache where it can: one call to the file fetches what lies between the
// first and the last one missing. With keep it caches those; there is no use in that before a write of them.
func (d *Device) readSectors(ctx context.Context, first blocktree.SectorIndex, dst []byte, keep bool) error {
	count := uint64(len(dst)) / d.sector
	if d.cache == nil || count > cacheReadSectorsMax {
		d.cache.missed(count)
		return d.file.ReadSectors(ctx, first, dst)
	}
	var stamps [cacheReadSectorsMax]cacheStamp
	from, to := count, uint64(0)
	hits, stale := uint64(0), uint64(0)
	for i := range count {
		sector := first + blocktree.SectorIndex(i)
		stamps[i] = d.cache.stamp(sector) // before the read begins
		data, old := d.cache.get(sector)
		if data != nil {
			copy(dst[i*d.sector:], data)
			hits++
			continue
		}
		if old {
			stale++
		}
		from, to = min(from, i), i+1
	}
	d.cache.counted(hits, count-hits, stale)
	if from >= to {
		return nil
	}
	missing := dst[from*d.sector : to*d.sector]
	if err := d.file.ReadSectors(ctx, first+blocktree.SectorIndex(from), missing); err != nil {
		return err
	}
	for i := from; keep && i < to; i++ {
		d.cache.put(first+blocktree.SectorIndex(i), stamps[i], dst[i*d.sector:(i+1)*d.sector])
	}
	return nil
}

// WriteAt writes p at byte off. With fua it returns only when the bytes would survive as after Flush. After an error
// each sector is the old one or the new one, and no byte outside the range has changed either way. It blocks until the
// file answers or ctx ends.
func (d *Device) WriteAt(ctx context.Context, p []byte, off uint64, fua bool) error {
	const op = writeOp
	if err := d.check(op, off, uint64(len(p)), true); err != nil {
		return err
	}
	defer d.ops.leave()
	if len(p) > 0 {
		if err := d.write(ctx, p, off); err != nil {
			return d.wrap(op, err)
		}
	}
	return d.after(ctx, op, fua)
}

// after makes a finished write durable if it has to be.
func (d *Device) after(ctx context.Context, op string, fua bool) error {
	if !fua {
		return nil
	}
	return d.flush(ctx, op)
}

func (d *Device) write(ctx context.Context, p []byte, off uint64) error {
	first, count := d.span(off, uint64(len(p)))
	lock := d.locks.lock(ctx, first, first+blocktree.SectorIndex(count-1))
	if lock == nil {
		return ctx.Err()
	}
	defer d.locks.unlock(lock)
	if d.aligned(off, uint64(len(p))) {
		return d.writeSectors(ctx, first, p)
	}
	scratch := d.memory.scratch(int(count * d.sector))
	defer scratch.Release()
	epoch := d.cache.epoch()
	if err := d.readEdges(ctx, first, scratch.B, off%d.sector, uint64(len(p))); err != nil {
		return err
	}
	copy(scratch.B[off%d.sector:], p)
	if err := d.writeSectors(ctx, first, scratch.B); err != nil {
		return err
	}
	d.keepEdges(first, scratch.B, off%d.sector, uint64(len(p)), epoch)
	return nil
}

// keepEdges caches those sectors that a write has completed, which are likely to be written in part again, as it left them. They are locked yet.
func (d *Device) keepEdges(first blocktree.SectorIndex, buf []byte, skip, length uint64, epoch blocktree.Epoch) {
	last := uint64(len(buf))/d.sector - 1
	if skip != 0 || length < d.sector {
		d.cache.wrote(first, epoch, buf[:d.sector])
	}
	if last > 0 && (skip+length)%d.sector != 0 {
		d.cache.wrote(first+blocktree.SectorIndex(last), epoch, buf[last*d.sector:])
	}
}

// writeSectors writes sectors that the caller has locked.
func (d *Device) writeSectors(ctx context.Context, first blocktree.SectorIndex, src []byte) error {
	return d.modify(first, uint64(len(src))/d.sector, func() error { return d.file.WriteSectors(ctx, first, src) })
}

// modify runs one change of locked sectors between begin and end of the cache's counters.
func (d *Device) modify(first blocktree.SectorIndex, count uint64, change func() error) error {
	d.ahead.asks(nil, 1)
	defer d.ahead.asks(nil, -1)
	d.cache.begin(first, count)
	err := change()
	d.modified(first, count, err)
	return err
}

// modified ends a change that begin has told the cache of.
func (d *Device) modified(first blocktree.SectorIndex, count uint64, err error) {
	d.unsynced.Store(true)
	if err == nil {
		d.cache.end(first, count)
	} // else without end: what becomes of these sectors is not known, so they are not cached any more
}

// readEdges reads into buf, which stands for whole sectors from first on, those sectors that the bytes skip … skip+length
// of buf cover in part. The caller has locked them, so that what is read here is what is there when they are written.
func (d *Device) readEdges(ctx context.Context, first blocktree.SectorIndex, buf []byte, skip, length uint64) error {
	count := uint64(len(buf)) / d.sector
	tail := (skip + length) % d.sector
	head := skip != 0 || count == 1
	last := first + blocktree.SectorIndex(count-1)
	switch {
	case !head:
		return d.readSectors(ctx, last, buf[(count-1)*d.sector:], false)
	case count == 1 || tail == 0:
		return d.readSectors(ctx, first, buf[:d.sector], false)
	case count == 2:
		return d.readSectors(ctx, first, buf, false)
	}
	tailErr := make(chan error, 1)
	go func() { tailErr <- d.readSectors(ctx, last, buf[(count-1)*d.sector:], false) }()
	err := d.readSectors(ctx, first, buf[:d.sector], false)
	if other := <-tailErr; err == nil {
		err = other
	}
	return err
}

// Zero makes length bytes at off read as zeros, with fua durably so. Whole sectors cost metadata only, however many;
// at most two that are covered in part are rewritten.
func (d *Device) Zero(ctx context.Context, off, length uint64, fua bool) error {
	const op = "blockdev.Zero"
	if err := d.check(op, off, length, true); err != nil {
		return err
	}
	defer d.ops.leave()
	if length > 0 {
		if err := d.zero(ctx, off, length); err != nil {
			return d.wrap(op, err)
		}
	}
	return d.after(ctx, op, fua)
}

// Trim says that the content of length bytes at off is no longer needed. Whole sectors read as zeros afterwards; those
// covered in part stay as they are. With fua it is durable like a write.
func (d *Device) Trim(ctx context.Context, off, length uint64, fua bool) error {
	const op = "blockdev.Trim"
	if err := d.check(op, off, length, true); err != nil {
		return err
	}
	defer d.ops.leave()
	from := (off + d.sector - 1) / d.sector * d.sector
	to := (off + length) / d.sector * d.sector
	if from < to {
		if err := d.zero(ctx, from, to-from); err != nil {
			return d.wrap(op, err)
		}
	}
	return d.after(ctx, op, fua)
}

func (d *Device) zero(ctx context.Context, off, length uint64) error {
	first, count := d.span(off, length)
	last := first + blocktree.SectorIndex(count-1)
	lock := d.locks.lock(ctx, first, last)
	if lock == nil {
		return ctx.Err()
	}
	defer d.locks.unlock(lock)
	if skip := off % d.sector; skip != 0 || (count == 1 && length < d.sector) {
		part := min(length, d.sector-skip)
		if err := d.zeroPart(ctx, first, skip, part); err != nil {
			return err
		}
		first, count, length = first+1, count-1, length-part
	}
	if tail := length % d.sector; count > 0 && tail != 0 {
		if err := d.zeroPart(ctx, last, 0, tail); err != nil {
			return err
		}
		count--
	}
	if count == 0 {
		return nil
	}
	return d.modify(first, count, func() error { return d.file.ZeroSectors(ctx, first, count) })
}

// zeroPart rewrites one locked sector with length bytes at skip zeroed.
func (d *Device) zeroPart(ctx context.Context, sector blocktree.SectorIndex, skip, length uint64) error {
	scratch := d.memory.scratch(int(d.sector))
	defer scratch.Release()
	epoch := d.cache.epoch()
	if err := d.readSectors(ctx, sector, scratch.B, false); err != nil {
		return err
	}
	clear(scratch.B[skip : skip+length])
	if err := d.writeSectors(ctx, sector, scratch.B); err != nil {
		return err
	}
	d.cache.wrote(sector, epoch, scratch.B)
	return nil
}

package file

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"blocktree"
)

const (
	// moveBytes are read of both files at a time: as much as goes to each member in one message.
	moveBytes = 1 << 20
	// movesAtOnce is how many such pieces are on their way, so that neither cluster waits for the other: 16 MiB are held.
	movesAtOnce = 8
)

// moveWith does something with a piece that was read of the old file and of its copy; it returns how many bytes it has written.
type moveWith func(ctx context.Context, dst *File, first blocktree.SectorIndex, is, has []byte) (uint64, error)

// pass goes through both files once.
func (m *Mover) pass(ctx context.Context, path blocktree.Path, src, dst *File, p *Moving, do moveWith) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	var mu sync.Mutex
	var failed error
	count := func(bytes, written uint64, err error) {
		mu.Lock()
		defer mu.Unlock()
		p.Bytes += bytes
		p.Written += written
		if err != nil && failed == nil {
			failed = err
			cancel()
		}
		if m.Tell != nil {
			m.Tell(path, *p)
		}
	}
	why := func(err error) error {
		wg.Wait()
		return either(failed, err)
	}
	room := make(chan struct{}, movesAtOnce)
	size := uint64(src.info.SectorBytes)
	for first, sectors := blocktree.SectorIndex(0), p.SizeBytes/size; uint64(first) < sectors; { // as the copy is, though it may grow meanwhile
		n, zeros, err := alike(ctx, src, dst, first, sectors-uint64(first))
		if err != nil {
			return why(err)
		}
		if zeros {
			count(n*size, 0, nil)
			first += blocktree.SectorIndex(n)
			continue
		}
		for end := uint64(first) + n; uint64(first) < end; {
			at, n := first, min(end-uint64(first), moveBytes/size)
			select {
			case room <- struct{}{}:
			case <-ctx.Done():
				return why(ctx.Err())
			}
			wg.Go(func() {
				defer func() { <-room }()
				written, err := piece(ctx, src, dst, at, n, do)
				count(n*size, written, err)
			})
			first += blocktree.SectorIndex(n)
		}
	}
	return why(nil)
}

// alike says of how many sectors from first on it is known that both files have zeros there, or else how many are to be read.
func alike(ctx context.Context, src, dst *File, first blocktree.SectorIndex, count uint64) (n uint64, zeros bool, err error) {
	for i, f := range []*File{src, dst} {
		extents, err := f.Extents(ctx, first, count, 1)
		if err != nil {
			return 0, false, err
		}
		e := extents[0]
		if !e.Zero && i == 0 {
			return e.Count, false, nil
		}
		if count = min(count, e.Count); !e.Zero {
			return count, false, nil
		}
	}
	return count, true, nil
}

// piece reads a piece of both files at once.
func piece(ctx context.Context, src, dst *File, first blocktree.SectorIndex, count uint64, do moveWith) (uint64, error) {
	bytes := count * uint64(src.info.SectorBytes)
	is, has := make([]byte, bytes), make([]byte, bytes)
	read := make(chan error, 1)
	go func() { read <- dst.ReadSectors(ctx, first, has) }()
	err := src.ReadSectors(ctx, first, is)
	if err = either(<-read, err); err != nil {
		return 0, err
	}
	return do(ctx, dst, first, is, has)
}

// fill writes to the copy what is not in it: sectors that differ, and, of integrity tree, those that have no floor yet, as a run that died may have written them. Where the old file has zeros the copy gets holes.
func fill(ctx context.Context, dst *File, first blocktree.SectorIndex, is, has []byte) (written uint64, err error) {
	size := dst.info.SectorBytes
	zero := make([]byte, size)
	verdict := make([]change, len(is)/size)
	if dst.guard != nil {
		floors, err := dst.guard.floors(ctx, first, uint64(len(verdict)))
		if err != nil {
			return 0, err
		}
		for i := range floors {
			if floors[i].Version.IsZero() {
				verdict[i] = overwrite
			}
		}
	}
	for i := range verdict {
		a, b := is[i*size:(i+1)*size], has[i*size:(i+1)*size]
		empty, equal := bytes.Equal(a, zero), bytes.Equal(a, b)
		switch {
		case equal && (empty || verdict[i] != overwrite):
			verdict[i] = keep
		case empty:
			verdict[i] = clearOut
		default:
			verdict[i] = overwrite
		}
	}
	for i := 0; i < len(verdict) && err == nil; {
		n := 1
		for i+n < len(verdict) && verdict[i+n] == verdict[i] {
			n++
		}
		at := first + blocktree.SectorIndex(i)
		switch verdict[i] {
		case overwrite:
			err = dst.WriteSectors(ctx, at, is[i*size:(i+n)*size])
		case clearOut:
			err = dst.ZeroSectors(ctx, at, uint64(n))
		}
		if verdict[i] != keep && err == nil {
			written += uint64(n * size)
		}
		i += n
	}
	return written, err
}

// change is what is done with a sector of a copy.
type change uint8

const (
	keep change = iota
	overwrite
	clearOut
)

// compare refuses a copy that is not what the old file is: under both leases nobody else can have changed either.
func compare(_ context.Context, dst *File, first blocktree.SectorIndex, is, has []byte) (uint64, error) {
	if bytes.Equal(is, has) {
		return 0, nil
	}
	at, size := 0, dst.info.SectorBytes
	for bytes.Equal(is[at:at+size], has[at:at+size]) {
		at += size
	}
	return 0, &blocktree.Error{Op: "compare", Kind: blocktree.Corrupt, Err: fmt.Errorf("sector %d of the copy is not what was written", first+blocktree.SectorIndex(at/size)),
		Hint: "the old file stays what it was; look at the nodes of both clusters (btnode scrub), and migrate again"}
}

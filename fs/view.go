package fs

import (
	"context"
	"fmt"
	"io"

	"blocktree"
)

// view is a file of whole sectors as bytes, without a lock: whoever has it does one write after the other.
type view struct {
	file blocktree.File
	info *Info // as it was last looked at
}

// size is where the file ends now, in bytes: at the length that it was given, if that is not its size.
func (v view) size() uint64 {
	size := v.file.Info().SizeBytes
	if s, ok := v.file.(blocktree.Sizer); ok {
		size = s.SizeBytes()
	}
	if v.info.Length < v.info.SizeBytes {
		size = min(size, v.info.Length)
	}
	return size
}

// span is the whole sectors that cover [off, off+n), in bytes.
func (v view) span(off uint64, n int) (from, to uint64) {
	s := uint64(v.file.Info().SectorBytes)
	return off / s * s, (off + uint64(n) + s - 1) / s * s
}

// read fills p from byte off on, as far as the file reaches; io.EOF says that this was less than asked for.
func (v view) read(ctx context.Context, p []byte, off uint64) (int, error) {
	size := v.size()
	if off > size {
		return 0, blocktree.E("read", blocktree.OutOfRange, fmt.Errorf("byte %d of %d", off, size))
	}
	var end error
	if left := size - off; uint64(len(p)) > left {
		p, end = p[:left], io.EOF
	}
	if len(p) == 0 {
		return 0, end
	}
	from, to := v.span(off, len(p))
	whole := p
	if to-from != uint64(len(p)) {
		whole = make([]byte, to-from)
	}
	if err := v.file.ReadSectors(ctx, v.sector(from), whole); err != nil {
		return 0, err
	}
	if to-from != uint64(len(p)) {
		copy(p, whole[off-from:])
	}
	return len(p), end
}

// write writes p at byte off. Sectors that it covers in part are read first, and written whole.
func (v view) write(ctx context.Context, p []byte, off uint64) error {
	size := v.size()
	if off > size || uint64(len(p)) > size-off {
		return &blocktree.Error{Op: "write", Kind: blocktree.OutOfRange, Err: fmt.Errorf("%d bytes from %d of %d", len(p), off, size),
			Hint: "a file is made larger, or longer, first"}
	}
	if len(p) == 0 {
		return nil
	}
	from, to := v.span(off, len(p))
	if to-from == uint64(len(p)) {
		return v.file.WriteSectors(ctx, v.sector(from), p)
	}
	whole := make([]byte, to-from)
	sector := uint64(v.file.Info().SectorBytes)
	if off != from {
		if err := v.file.ReadSectors(ctx, v.sector(from), whole[:sector]); err != nil {
			return err
		}
	}
	if last := to - sector; off+uint64(len(p)) != to && (last != from || off == from) { // else it is there already
		if err := v.file.ReadSectors(ctx, v.sector(last), whole[last-from:]); err != nil {
			return err
		}
	}
	copy(whole[off-from:], p)
	return v.file.WriteSectors(ctx, v.sector(from), whole)
}

func (v view) sector(off uint64) blocktree.SectorIndex {
	return blocktree.SectorIndex(off / uint64(v.file.Info().SectorBytes))
}

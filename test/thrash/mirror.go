package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"blocktree/test/nbdclient"
)

const (
	mirrorParts       = 4
	mirrorPartSectors = 2048 // 8 MiB; four of them are the file

	// openMax bounds the contents that an unanswered sector may have; it is only read then.
	openMax = 8
)

// mirror is a file of which everybody who writes a part knows what must be there.
type mirror struct {
	tally tally
	parts [mirrorParts]*part
}

// part is the sectors of one client. Nobody else writes them, and it has one operation at a time.
type part struct {
	first   uint64 // sector
	sectors [mirrorPartSectors]sector
	opens   int // sectors with open operations that came to be
}

// sector is what one sector must be: data, or any of open. What is open may still happen while the server of openLife lives;
// after that a read decides.
type sector struct {
	data     []byte // nil is zeros
	open     [][]byte
	openLife int64
}

func newMirror() *mirror {
	m := &mirror{}
	for i := range m.parts {
		m.parts[i] = &part{first: uint64(i * mirrorPartSectors)}
	}
	return m
}

func (s *sector) content() []byte {
	if s.data == nil {
		return make([]byte, sectorBytes)
	}
	return s.data
}

// work is one client until ctx ends.
func (p *part) work(ctx context.Context, c *connection, seed uint64) {
	defer c.close()
	rnd := rand.New(rand.NewPCG(c.w.o.seed, seed))
	for c.ready(ctx) {
		switch n := rnd.IntN(20); {
		case n < 8:
			p.write(c, rnd)
		case n < 11:
			p.writeBytes(c, rnd)
		case n < 13:
			p.zero(c, rnd)
		case n < 14:
			_ = c.do(func(ctx context.Context, nbd *nbdclient.Client) error { return nbd.Flush(ctx) }) // nothing hangs on it
		default:
			first, count := span(rnd, 32)
			_ = p.read(c, first, count) // refused: nothing is learnt
		}
		sleep(ctx, time.Duration(rnd.Int64N(2*int64(thinkMax))))
	}
}

// span is a random run of sectors of a part.
func span(rnd *rand.Rand, longest int) (first, count int) {
	count = 1 + rnd.IntN(longest)
	return rnd.IntN(mirrorPartSectors - count + 1), count
}

// mayWrite reports whether no sector of a run has too much open already; aligned says that whole sectors are written, whatever
// is there.
func (p *part) mayWrite(first, count int, aligned bool) bool {
	for i := first; i < first+count; i++ {
		if n := len(p.sectors[i].open); n >= openMax || n > 0 && !aligned {
			return false
		}
	}
	return true
}

// change sends a write of whole sectors, whose new contents are given, and notes what became of it.
func (p *part) change(c *connection, first int, contents [][]byte, send func(ctx context.Context, nbd *nbdclient.Client) error) {
	err := c.do(send)
	for i, content := range contents {
		s := &p.sectors[first+i]
		if err == nil {
			s.data = content
			continue
		}
		if s.open == nil {
			p.opens++
		}
		s.open = append(s.open, content)
		s.openLife = c.life
	}
}

func (p *part) offset(first int) uint64 { return (p.first + uint64(first)) * sectorBytes }

func (p *part) write(c *connection, rnd *rand.Rand) {
	first, count := span(rnd, 16)
	if !p.mayWrite(first, count, true) {
		return
	}
	data := make([]byte, count*sectorBytes)
	fill(rnd, data)
	flags := uint16(rnd.IntN(4)/3) * nbdclient.FUA
	p.change(c, first, split(data), func(ctx context.Context, nbd *nbdclient.Client) error {
		return nbd.Write(ctx, data, p.offset(first), flags)
	})
}

// writeBytes writes a run that neither begins nor ends with a sector.
func (p *part) writeBytes(c *connection, rnd *rand.Rand) {
	first, count := span(rnd, 5)
	if !p.mayWrite(first, count, false) {
		return
	}
	whole := make([]byte, 0, count*sectorBytes)
	for i := first; i < first+count; i++ {
		whole = append(whole, p.sectors[i].content()...)
	}
	from := rnd.IntN(sectorBytes)
	to := len(whole) - rnd.IntN(sectorBytes)
	if from >= to {
		from, to = 0, 1
	}
	fill(rnd, whole[from:to])
	p.change(c, first, split(whole), func(ctx context.Context, nbd *nbdclient.Client) error {
		return nbd.Write(ctx, whole[from:to], p.offset(first)+uint64(from), 0)
	})
}

// zero trims or zeroes whole sectors; both read as zeros.
func (p *part) zero(c *connection, rnd *rand.Rand) {
	first, count := span(rnd, 64)
	if !p.mayWrite(first, count, true) {
		return
	}
	trim, flags := rnd.IntN(2) == 0, uint16(0)
	if !trim && rnd.IntN(2) == 0 {
		flags = nbdclient.NoHole
	}
	p.change(c, first, make([][]byte, count), func(ctx context.Context, nbd *nbdclient.Client) error {
		if trim {
			return nbd.Trim(ctx, p.offset(first), uint32(count*sectorBytes), flags)
		}
		return nbd.Zeroes(ctx, p.offset(first), uint32(count*sectorBytes), flags)
	})
}

// read reads a run and compares.
func (p *part) read(c *connection, first, count int) error {
	data := make([]byte, count*sectorBytes)
	if err := c.do(func(ctx context.Context, nbd *nbdclient.Client) error { return nbd.Read(ctx, data, p.offset(first)) }); err != nil {
		return err
	}
	for i, got := range split(data) {
		if !p.sectors[first+i].accept(got, c.life) {
			s := &p.sectors[first+i]
			c.w.violate("sector %d of %s: read %s, acknowledged %s, %d open", p.first+uint64(first+i), mirrorPath, brief(got), brief(s.content()), len(s.open))
		}
	}
	return nil
}

// accept reports whether a sector may be what was read. A server of a later life than the one that left something open decides
// it: what is read now is what is there from now on.
func (s *sector) accept(got []byte, life int64) bool {
	ok := bytes.Equal(got, s.content())
	for _, o := range s.open {
		if o == nil {
			o = make([]byte, sectorBytes)
		}
		ok = ok || bytes.Equal(got, o)
	}
	if ok && len(s.open) > 0 && life > s.openLife {
		s.data, s.open = bytes.Clone(got), nil
	}
	return ok
}

// brief is the beginning and the sum of a sector, for people.
func brief(b []byte) string {
	sum := uint32(0)
	for _, x := range b {
		sum = sum*31 + uint32(x)
	}
	return fmt.Sprintf("%x…(%08x)", b[:8], sum)
}

func split(data []byte) (sectors [][]byte) {
	for ; len(data) > 0; data = data[sectorBytes:] {
		sectors = append(sectors, data[:sectorBytes:sectorBytes])
	}
	return sectors
}

// fill makes bytes that will not come again.
func fill(rnd *rand.Rand, p []byte) {
	for i := 0; i < len(p); i += 8 {
		v := rnd.Uint64()
		for j := i; j < min(i+8, len(p)); j++ {
			p[j] = byte(v)
			v >>= 8
		}
	}
}

package main

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"time"

	"blocktree/internal/history"
	"blocktree/test/nbdclient"
)

const (
	// registerCount sectors are shared by everybody, spread over the file; few, so that they are busy.
	registerCount  = 48
	registerStride = 21

	registerWriters = 8 // connections that read and write through the writer
	registerReaders = 3 // connections that read through the reader

	// registerOpsMax bounds what is kept in memory. When it is reached, the load pauses for ever.
	registerOpsMax = 8_000_000

	// porcupineWithin bounds porcupine for each register; the quick decision has no bound and needs none.
	porcupineWithin = 5 * time.Second
)

// registers are sectors that many clients read and write at once.
type registers struct {
	tally tally
	began time.Time

	mu    sync.Mutex
	last  uint32 // value
	ops   int
	hist  [registerCount]history.History
	wrong []string // reads that are no value at all
}

func newRegisters() *registers { return &registers{began: time.Now()} }

// begin records an operation before it is sent and returns where it is.
func (r *registers) begin(reg int, write bool) (at int, value uint32, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ops++; r.ops > registerOpsMax {
		return 0, 0, false
	}
	if write {
		r.last++
		value = r.last
	}
	r.hist[reg] = append(r.hist[reg], history.Op{Call: int64(time.Since(r.began)), Ret: history.Unknown, Value: value, Write: write})
	return len(r.hist[reg]) - 1, value, true
}

// end records the return of an operation; without it the operation stays open. value is what a read returned.
func (r *registers) end(reg, at int, value uint32) {
	now := int64(time.Since(r.began))
	r.mu.Lock()
	defer r.mu.Unlock()
	o := &r.hist[reg][at]
	o.Ret = now
	if !o.Write {
		o.Value = value
	}
}

func registerOffset(reg int) uint64 { return uint64(reg*registerStride) * sectorBytes }

// pattern is a value all over a sector, so that a torn one shows.
func pattern(reg int, value uint32) []byte {
	p := make([]byte, sectorBytes)
	for i := 0; i < len(p); i += 8 {
		binary.BigEndian.PutUint32(p[i:], uint32(reg))
		binary.BigEndian.PutUint32(p[i+4:], value)
	}
	return p
}

// value is the inverse of pattern.
func value(reg int, p []byte) (v uint32, ok bool) {
	v = binary.BigEndian.Uint32(p[4:])
	for i := 0; i < len(p); i += 8 {
		r := binary.BigEndian.Uint32(p[i:])
		if binary.BigEndian.Uint32(p[i+4:]) != v || int(r) != reg && (v != 0 || r != 0) {
			return 0, false
		}
	}
	return v, true
}

// work is one client until ctx ends.
func (r *registers) work(ctx context.Context, c *connection, seed uint64) {
	defer c.close()
	rnd := rand.New(rand.NewPCG(c.w.o.seed, seed))
	for c.ready(ctx) {
		reg := rnd.IntN(registerCount)
		switch n := rnd.IntN(10); {
		case c.s != c.w.reader && n < 5:
			if !r.write(c, reg, uint16(rnd.IntN(2))*nbdclient.FUA) {
				<-ctx.Done()
			}
		case c.s != c.w.reader && n == 5:
			_ = c.do(func(ctx context.Context, nbd *nbdclient.Client) error { return nbd.Flush(ctx) }) // nothing hangs on it
		default:
			r.read(c, reg)
		}
		sleep(ctx, time.Duration(rnd.Int64N(int64(thinkMax))))
	}
}

func (r *registers) write(c *connection, reg int, flags uint16) bool {
	at, v, ok := r.begin(reg, true)
	if !ok {
		return false
	}
	err := c.do(func(ctx context.Context, nbd *nbdclient.Client) error {
		return nbd.Write(ctx, pattern(reg, v), registerOffset(reg), flags)
	})
	if err == nil {
		r.end(reg, at, 0)
	}
	return true
}

// read records a read that was answered; one that was not says nothing and stays out of the history.
func (r *registers) read(c *connection, reg int) error {
	call := int64(time.Since(r.began))
	p := make([]byte, sectorBytes)
	err := c.do(func(ctx context.Context, nbd *nbdclient.Client) error { return nbd.Read(ctx, p, registerOffset(reg)) })
	if err != nil {
		return err
	}
	ret := int64(time.Since(r.began))
	v, whole := value(reg, p)
	if !whole {
		c.w.violate("register %d is torn or foreign, read through %s: it begins with %x", reg, c.s.name, p[:16])
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ops++; r.ops <= registerOpsMax {
		r.hist[reg] = append(r.hist[reg], history.Op{Call: call, Ret: ret, Value: v})
	}
	return nil
}

// check decides about every register. It returns how many operations it looked at, and how often porcupine had no time.
func (r *registers) check(w *world) (ops, undecided int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for reg, h := range r.hist {
		ops += len(h)
		quick := h.Atomic()
		slow, decided := h.LinearizableWithin(porcupineWithin)
		switch {
		case !decided:
			undecided++
		case slow != quick:
			w.violate("register %d: the two checkers disagree: quick %v, porcupine %v", reg, quick, slow)
		}
		if !quick {
			w.violate("register %d is not linearizable (%d operations)", reg, len(h))
			w.dump(reg, h)
		}
	}
	return ops, undecided
}

//go:build !race

package nbd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"testing"

	"blocktree"
	"blocktree/blockdev/memfile"
)

// atOnce is a file that starts what it is asked and ends it before it returns: what a request costs on its way through the device and the
// engine is then all that is seen.
type atOnce struct{ *memfile.File }

// StartRead implements blocktree.ReadStarter.
func (f atOnce) StartRead(first blocktree.SectorIndex, dst []byte, r blocktree.Started) bool {
	if r.Claim() {
		r.End(f.ReadSectors(context.Background(), first, dst))
	}
	return true
}

// StartWrite implements blocktree.WriteStarter.
func (f atOnce) StartWrite(first blocktree.SectorIndex, src []byte, done func(error)) bool {
	done(f.WriteSectors(context.Background(), first, src))
	return true
}

func asStarted(f *memfile.File) blocktree.File { return atOnce{f} }

// inBatches is atOnce with batches: what was started since the Cork ends with the Uncork, so that replies wait for each other. Only the reader
// touches it.
type inBatches struct {
	atOnce
	corked bool
	reads  []blocktree.Started
	writes []func(error)
	after  []func()
}

// StartRead implements blocktree.ReadStarter.
func (f *inBatches) StartRead(first blocktree.SectorIndex, dst []byte, r blocktree.Started) bool {
	if !f.corked {
		return f.atOnce.StartRead(first, dst, r)
	}
	if r.Claim() {
		_ = f.ReadSectors(context.Background(), first, dst) // never fails
		f.reads = append(f.reads, r)
	}
	return true
}

// StartWrite implements blocktree.WriteStarter.
func (f *inBatches) StartWrite(first blocktree.SectorIndex, src []byte, done func(error)) bool {
	if !f.corked {
		return f.atOnce.StartWrite(first, src, done)
	}
	_ = f.WriteSectors(context.Background(), first, src) // likewise
	f.writes = append(f.writes, done)
	return true
}

// Cork implements blocktree.Batcher.
func (f *inBatches) Cork() { f.corked = true }

// Uncork implements blocktree.Batcher.
func (f *inBatches) Uncork() {
	for _, r := range f.reads {
		r.End(nil)
	}
	for _, done := range f.writes {
		done(nil)
	}
	f.corked = false
	for _, do := range f.after {
		do()
	}
	f.reads, f.writes, f.after = f.reads[:0], f.writes[:0], f.after[:0]
}

// AfterBatch implements blocktree.Batcher.
func (f *inBatches) AfterBatch(do func()) bool {
	if f.corked {
		f.after = append(f.after, do)
	}
	return f.corked
}

func asBatched(f *memfile.File) blocktree.File { return &inBatches{atOnce: atOnce{f}} }

// allocSetups are the ways that a request can take through the engine.
func allocSetups() map[string]setup {
	return map[string]setup{
		"inline":    {file: memfile.Options{Prompt: true}},
		"cached":    {cacheBytes: 8 << 20, over: asStarted},
		"started":   {over: asStarted},
		"batched":   {over: asBatched},
		"goroutine": {waits: true},
	}
}

// TestNothingAllocatedPerRequest sends bursts over a socket and counts what the whole process allocates meanwhile, in every style and by every way
// through the engine. The client makes nothing. (Under the race detector pools forget on purpose.)
func TestNothingAllocatedPerRequest(t *testing.T) {
	for way, o := range allocSetups() {
		for _, s := range styles {
			for _, x := range []struct {
				name    string
				command uint16
				length  int
			}{{"read", cmdRead, 4096}, {"write", cmdWrite, 4096}, {"flush", cmdFlush, 0}, {"long read", cmdRead, 256 << 10}, {"long write", cmdWrite, 256 << 10}} {
				t.Run(fmt.Sprintf("%s/%v/%s", way, s, x.name), func(t *testing.T) { nothingAllocated(t, o, s, x.command, x.length) })
			}
		}
	}
}

func nothingAllocated(t *testing.T, o setup, s style, command uint16, length int) {
	const depth = 16
	o.file.Info.SizeBytes = 8 << 20
	b := newBed(t, o)
	fillDevice(t, b)
	c := b.attachAs(s)
	answer := len(bareReply(s))
	offset := uint64(0)
	var payload []byte
	switch command {
	case cmdWrite:
		payload = bytes.Repeat([]byte{7}, length)
	case cmdRead:
		answer = s.room() + length
	}
	var burst []byte
	for i := range depth {
		if command != cmdFlush { // writes of a burst do not overlap: they would have to wait for each other
			offset = uint64(i*length) % b.dev.Size()
		}
		burst = append(burst, c.request(command, 0, uint64(i), offset, uint64(length), payload)...)
	}
	sent, got := make(chan struct{}), make([]byte, answer)
	defer close(sent)
	go func() { // as a client that does not wait for answers before it has sent all
		for range sent {
			if _, err := c.nc.Write(burst); err != nil {
				t.Error(err)
			}
		}
	}()
	exchange := func() {
		sent <- struct{}{}
		for range depth {
			if _, err := io.ReadFull(c.nc, got); err != nil {
				t.Fatal(err)
			}
		}
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // it empties pools
	for range 20 {
		exchange() // until pools have what they need
	}
	// Pools grow until they have what is in flight at most, twice a burst, which a busy machine may see later than in those 20: so one series
	// without an allocation is demanded. What is allocated for each request is in every one.
	n := 1.0
	for range 5 {
		if n = testing.AllocsPerRun(40, exchange); n == 0 {
			return
		}
	}
	t.Errorf("%v allocations for %d requests", n, depth)
}

package nbd

import (
	"sync"
	"testing"

	"blocktree"
	"blocktree/blockdev/memfile"
)

// batchFile starts reads and holds them until the test ends them, and counts what a Batcher is asked.
type batchFile struct {
	*memfile.File

	mu       sync.Mutex
	held     []blocktree.Started
	corks    int
	uncorks  int
	uncorked int // reads that were started while nothing was corked
	after    []func()
	batching bool
}

func (f *batchFile) Cork() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.corks++
}

func (f *batchFile) Uncork() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.uncorks++
}

func (f *batchFile) AfterBatch(do func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.batching {
		f.after = append(f.after, do)
	}
	return f.batching
}

func (f *batchFile) StartRead(_ blocktree.SectorIndex, _ []byte, r blocktree.Started) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = append(f.held, r)
	if f.corks == f.uncorks {
		f.uncorked++
	}
	return true
}

// end ends n of the reads.
func (f *batchFile) end(n int) {
	f.mu.Lock()
	ending := f.held[:n]
	f.held = f.held[n:]
	f.mu.Unlock()
	for _, r := range ending {
		if r.Claim() {
			r.End(nil)
		}
	}
}

// holds reports whether so many reads are started and nothing is corked any more.
func (f *batchFile) holds(reads int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.held) == reads && f.corks == f.uncorks
}

func newBatchBed(t *testing.T, o setup) (*bed, *batchFile) {
	f := new(batchFile)
	o.over = func(m *memfile.File) blocktree.File { f.File = m; return f }
	return newBed(t, o), f
}

// burst is n reads of 4 KiB in one piece.
func burst(n int) (b []byte) {
	for i := range n {
		b = append(b, header(cmdRead, 0, uint64(i), 0, 4096)...)
	}
	return b
}

// TestBurstIsCorked: of requests that came together, what they send is held back until the reader would wait for whatever, and no longer.
func TestBurstIsCorked(t *testing.T) {
	const most = blocktree.NBDRequestsPerConnectionMax
	for _, x := range []struct {
		name    string
		memory  int64
		send    []byte
		started int // until the reader waits
		all     int
	}{
		{"for more", 0, burst(8), 8, 8},
		{"for a slot", 0, burst(most + 4), most, most + 4},
		{"for memory", 4 * (4096 + 64), burst(8), 4, 8}, // each takes that much
		{"for a payload", 0, append(burst(8), header(cmdWrite, 0, 8, 0, 100)...), 8, 8},
		{"for one that is refused", 0, append(burst(8), header(cmdWrite, 0, 8, 1<<40, 100)...), 8, 8},
		{"for a header", 0, append(burst(8), 1), 8, 8},
	} {
		t.Run(x.name, func(t *testing.T) {
			b, f := newBatchBed(t, setup{memory: x.memory})
			c := b.attach()
			c.send(x.send)
			until(t, "the reader waits, and has let everything out", func() bool { return f.holds(x.started) })
			f.mu.Lock()
			if f.corks == 0 || f.uncorked > 1 { // the last one may be by itself
				t.Errorf("corked %d times, %d reads were started while nothing was", f.corks, f.uncorked)
			}
			f.mu.Unlock()
			for left := x.all; left > 0; {
				var n int
				until(t, "there are reads to end", func() bool {
					f.mu.Lock()
					defer f.mu.Unlock()
					n = len(f.held)
					return n > 0
				})
				f.end(n)
				left -= n
				for range n {
					if errno, _ := c.reply(); errno != 0 {
						t.Fatal(errno)
					}
					c.take(4096)
				}
			}
		})
	}
}

// TestRepliesOfABatch: replies that become ready together are written together, once, when the batch has ended.
func TestRepliesOfABatch(t *testing.T) {
	b, f := newBatchBed(t, setup{})
	f.batching = true
	c := b.attach()
	c.send(burst(6))
	until(t, "all are started", func() bool { return f.holds(6) })
	c.send(header(99, 0, 99, 0, 0)) // the answer is the reader's: once it is written, the reader waits
	c.wantReply(99, 22)
	out := &b.onlyConn().out
	until(t, "nobody writes", func() bool {
		out.mu.Lock()
		defer out.mu.Unlock()
		return !out.writing
	})
	f.end(3)
	out.mu.Lock()
	ready, writing := len(out.ready), out.writing
	out.mu.Unlock()
	if ready != 3 || writing || len(f.after) != 1 {
		t.Fatalf("%d replies are ready, being written: %t; the end of the batch is awaited %d times", ready, writing, len(f.after))
	}
	f.after[0]()
	for range 3 {
		if errno, _ := c.reply(); errno != 0 {
			t.Fatal(errno)
		}
		c.take(4096)
	}
	f.end(2)
	f.end(1) // nobody else is open: it waits for nothing, and takes the others along
	for range 3 {
		if errno, _ := c.reply(); errno != 0 {
			t.Fatal(errno)
		}
		c.take(4096)
	}
	if len(f.after) != 2 {
		t.Fatalf("the end of a batch was awaited %d times", len(f.after))
	}
	f.after[1]() // has nothing left to do
}

package cluster

import (
	"bytes"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/crypto/seal"
	"blocktree/internal/bttp"
	"blocktree/internal/erasure"
)

// newRunBed is a delayBed whose handle makes long runs of code 2+1.
func newRunBed(t *testing.T, node bttp.HandlerFunc) *delayBed {
	b := newDelayBed(t, node)
	b.handle.code = blocktree.Code{Data: 2, Parity: 1}
	b.handle.inode.SectorBytes = blocktree.SectorBytesDefault
	return b
}

// filled makes a run of a mebibyte, all of one byte.
func (b *delayBed) filled(fill byte) *stripe.Write { return b.filledRun(fill, blocktree.RunSectorsMax) }

// filledRun makes one of so many sectors.
func (b *delayBed) filledRun(fill byte, sectors uint32) *stripe.Write {
	w := b.handle.NewRun(0, 0, sectors, blocktree.Version{Epoch: 1, Sequence: 1}).write
	for _, s := range append([][]byte{w.Seals}, w.Shards...) {
		copy(s, bytes.Repeat([]byte{fill}, len(s)))
	}
	return w
}

// prepares is filled with what a machine would send of it to each member.
func (b *delayBed) prepares(fill byte) (*stripe.Write, []*stripe.Message) {
	return b.preparesOf(b.filled(fill))
}

func (b *delayBed) preparesOf(w *stripe.Write) (*stripe.Write, []*stripe.Message) {
	var out []*stripe.Message
	for i, s := range w.Shards {
		out = append(out, &stripe.Message{Kind: stripe.KindPrepare, Node: 1, ID: 1, Memory: w.Memory,
			Record: &stripe.Record{Kind: stripe.RecordData, Count: w.Count, Shard: blocktree.ShardIndex(i), ShardBytes: w.ShardBytes, Payload: s, Seals: w.Seals}})
	}
	return w, b.handle.toSend(out)
}

func (b *delayBed) lent() int64 { return b.handle.client.runs.lent.Load() }

// awaitLent waits until so many runs have memory.
func (b *delayBed) awaitLent(n int64) {
	b.t.Helper()
	for end := time.Now().Add(time.Minute); b.lent() != n; time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			b.t.Fatalf("%d runs have memory, want %d", b.lent(), n)
		}
	}
}

// TestRunMemory: whoever takes part in a run's memory is counted; who comes when all are gone gets none, and who leaves twice is found out.
func TestRunMemory(t *testing.T) {
	var p runPool
	m := &runMemory{pool: &p, bytes: p.get(1 << 20)}
	m.users.Store(1)
	if !m.use() {
		t.Fatal("no use of memory that is in use")
	}
	m.done()
	if p.lent.Load() != 1 {
		t.Fatal("given back beside a user")
	}
	m.done()
	if p.lent.Load() != 0 {
		t.Fatal("not given back by the last")
	}
	if m.use() {
		t.Fatal("used after it was given back")
	}
	defer func() {
		if recover() == nil {
			t.Error("given back twice, and nobody minds")
		}
	}()
	m.done()
}

// TestRunSizes: long runs of every code find memory of their length, and runs of one sector; those between and impossible ones none.
func TestRunSizes(t *testing.T) {
	var p runPool
	for _, n := range []int{shortRunBytesMin, 2*2048 + 2048 + seal.HeaderBytes, shortRunBytes} {
		if b := p.get(n); b == nil || len(b.bytes) != shortRunBytes {
			t.Errorf("%d bytes: %v", n, b == nil)
		}
	}
	for _, n := range []int{pooledRunBytesMin, pooledRunBytesMin + 1, 1591296, runBytesMax - 1, runBytesMax} {
		if b := p.get(n); b == nil || len(b.bytes) < n || len(b.bytes) > n+runClassBytes {
			t.Errorf("%d bytes: %v", n, b == nil)
		}
	}
	for _, n := range []int{1, shortRunBytesMin - 1, shortRunBytes + 1, pooledRunBytesMin - 1, runBytesMax + 1} {
		if p.get(n) != nil {
			t.Errorf("memory for %d bytes", n)
		}
	}
	for data := 1; data <= blocktree.DataShardsMax; data++ {
		for parity := range blocktree.ParityShardsMax + 1 {
			c := blocktree.Code{Data: data, Parity: parity}
			for size := blocktree.SectorBytesMin; size <= blocktree.SectorBytesMax; size *= 2 {
				count := min(blocktree.RunSectorsMax, blocktree.RunBytesMax/size)
				copies := c.Shards()
				if data == 1 {
					copies = 1
				}
				if n := count * (c.ShardBytes(size)*copies + stripe.SealBytes); n > runBytesMax {
					t.Errorf("%v, sectors of %d: a run of %d bytes, more than any may have", c, size, n)
				}
			}
		}
	}
}

// TestRunMemoryIsOnesOwn: what waits to be sent of a run that the machine has released is what it was, whatever runs come after.
func TestRunMemoryIsOnesOwn(t *testing.T) {
	const runs = 24 // more than sockets hold
	var mu sync.Mutex
	wrong, got := 0, 0
	goOn := make(chan struct{})
	b := newRunBed(t, func(r *bttp.Request) {
		<-goOn
		mu.Lock()
		got++
		if n := bytes.Count(r.Body, r.Body[:1]); n != len(r.Body) || r.Body[0] == 0xee {
			wrong++
		}
		mu.Unlock()
		r.Reply(nil)
		r.Release()
	})
	conn := b.dial()
	sent := 0
	for i := range runs {
		w, messages := b.prepares(byte(i + 1))
		for _, m := range messages {
			if err := b.handle.post(conn, m); err != nil {
				t.Fatal(err)
			}
			sent++
		}
		releaseRun(w)
		other := b.filled(0xee) // the next run: in memory of its own
		releaseRun(other)
	}
	if b.lent() == 0 {
		t.Errorf("no run has memory, of %d that wait", runs)
	}
	close(goOn)
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		mu.Lock()
		n, bad := got, wrong
		mu.Unlock()
		if bad > 0 {
			t.Fatalf("%d messages of %d with bytes of another run", bad, n)
		}
		if n == sent {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d messages of %d arrived", n, sent)
		}
	}
}

// TestRunMemoryComesBack: a run's memory is given back when its messages have ended, however they did.
func TestRunMemoryComesBack(t *testing.T) {
	for name, c := range map[string]struct {
		node  bttp.HandlerFunc
		close bool // the connection, and when: before, or after all is sent
		after bool
		delay bool // they go by what found no room
	}{
		"answered": {node: func(r *bttp.Request) { r.Reply(nil); r.Release() }},
		"refused":  {node: func(r *bttp.Request) { r.Fail(blocktree.E("node", blocktree.Unavailable, nil)); r.Release() }},
		"cut":      {node: func(r *bttp.Request) { r.Release() }, close: true, after: true},
		"gone":     {node: func(r *bttp.Request) { r.Release() }, close: true, delay: true},
		"delayed":  {node: func(r *bttp.Request) { r.Reply(nil); r.Release() }, delay: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newRunBed(t, c.node)
			conn := b.dial()
			if c.close && !c.after {
				conn.Close()
			}
			for range 3 {
				w, messages := b.prepares(1)
				for _, m := range messages {
					if c.delay {
						b.handle.delay(conn, m)
					} else if err := b.handle.post(conn, m); err != nil {
						t.Fatal(err)
					}
				}
				releaseRun(w)
			}
			if c.close && c.after {
				conn.Close()
			}
			b.awaitLent(0)
		})
	}
}

// TestShortRunMemory: the memory of a sector's run goes around, too, and what waits to be sent of it is what it was.
func TestShortRunMemory(t *testing.T) {
	const runs = 24
	var wrong atomic.Int64
	b := newRunBed(t, func(r *bttp.Request) {
		if bytes.Count(r.Body, r.Body[:1]) != len(r.Body) || r.Body[0] == 0xee {
			wrong.Add(1)
		}
		r.Reply(nil)
		r.Release()
	})
	conn := b.dial()
	for i := range runs {
		w, messages := b.preparesOf(b.filledRun(byte(i+1), 1))
		if w.Memory == nil || len(messages) != len(w.Shards) {
			t.Fatalf("%d messages of a run of one sector, which is not pooled", len(messages))
		}
		for _, m := range messages {
			b.handle.delay(conn, m)
		}
		releaseRun(w)
		releaseRun(b.filledRun(0xee, 1)) // the next run: in memory of its own
	}
	b.awaitLent(0)
	if n := wrong.Load(); n > 0 {
		t.Errorf("%d messages with bytes of another run", n)
	}
}

// BenchmarkRun makes runs of one sector, as a server of small writes does, with what is counted of their messages.
func BenchmarkRun(b *testing.B) {
	h := &Handle{client: &Client{}, code: blocktree.Code{Data: 2, Parity: 1}}
	h.inode.SectorBytes = blocktree.SectorBytesDefault
	b.ReportAllocs()
	for b.Loop() {
		w := h.NewRun(0, 0, 1, blocktree.Version{Epoch: 1, Sequence: 1}).write
		messages := [3]stripe.Message{{Memory: w.Memory}, {Memory: w.Memory}, {Memory: w.Memory}}
		for i := range messages {
			useRun(&messages[i])
			useRun(&messages[i])
			doneWithRun(&messages[i])
			doneWithRun(&messages[i])
		}
		releaseRun(w)
	}
}

// TestReleasedIsNotSent: a message of a run that has no memory any more is not sent.
func TestReleasedIsNotSent(t *testing.T) {
	b := newRunBed(t, func(r *bttp.Request) { r.Release() })
	w, messages := b.prepares(1)
	for _, m := range messages {
		doneWithRun(m)
	}
	releaseRun(w)
	if left := b.handle.toSend(messages); len(left) != 0 {
		t.Errorf("%d messages", len(left))
	}
}

// TestDirtyRun: a run that is sealed in memory with anything in it is the one that is sealed in fresh memory, padding and parity too.
func TestDirtyRun(t *testing.T) {
	for _, code := range []blocktree.Code{{Data: 1, Parity: 2}, {Data: 2, Parity: 1}, {Data: 3, Parity: 2}, {Data: 3, Parity: 0}} {
		codec, err := erasure.New(code)
		if err != nil {
			t.Fatal(err)
		}
		h := &Handle{client: &Client{}, code: code, codec: codec}
		h.inode.SectorBytes = 1 << 10 // three shards of 342 bytes have two too much
		sealer := seal.New([32]byte{}, seal.None, blocktree.FileID{}, 0)
		const count = blocktree.RunSectorsMax
		v := blocktree.Version{Epoch: 1, Sequence: 1}
		sealed := func(dirt byte) *stripe.Write {
			r := h.NewRun(0, 0, count, v)
			if r.write.Memory == nil {
				t.Fatalf("%v: a run that is not pooled shows nothing", code)
			}
			for _, s := range append([][]byte{r.write.Seals}, r.write.Shards...) {
				copy(s, bytes.Repeat([]byte{dirt}, len(s)))
			}
			for i := range count {
				sector := bytes.Repeat([]byte{byte(i), 7}, 1<<9)
				sealer.SealParts(r.Parts(i, nil), sector, blocktree.SectorIndex(i), v, r.Seal(i))
			}
			if code.Data > 1 {
				if err := codec.Encode(r.write.Shards); err != nil {
					t.Fatal(err)
				}
			}
			return r.write
		}
		a, b := sealed(0), sealed(0xff)
		for i := range a.Shards {
			if !bytes.Equal(a.Shards[i], b.Shards[i]) {
				t.Errorf("%v: shard %d has what was there before", code, i)
			}
		}
		if !bytes.Equal(a.Seals, b.Seals) {
			t.Errorf("%v: seals have what was there before", code)
		}
	}
}

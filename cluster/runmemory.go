package cluster

import (
	"sync"
	"sync/atomic"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/invariant"
)

// The memory of a long run goes around (docs/design/0040-bulk.md): a mebibyte of fresh memory costs as much as its erasure code, three times over, and the
// collector's work beside it. It has as many users as there are who may yet read it: the machine, and each message of the run that was not answered, refused
// or lost. Who forgets to say that it is done leaves the memory to the collector, which is no harm; that nobody says so too early is what runMemory is for.

// pooledRunBytesMin is the shortest long run, whose memory goes around: of shorter ones the collector's share is less than the counting. But for those of
// shortRunBytesMin to shortRunBytes: that is one sector of 4 KiB with its parity, and it is most of what a server of small writes allocates (docs/design/0054-write-costs.md).
const (
	pooledRunBytesMin = 64 << 10
	shortRunBytesMin  = 4 << 10
	shortRunBytes     = 8 << 10
)

// runClassBytes is by how much the classes of memory differ, runBytesMax the longest run: RunBytesMax with two parity shards to each data shard, and the
// seals and what the last shard of each sector has too much.
const (
	runClassBytes = 64 << 10
	runBytesMax   = 3*blocktree.RunBytesMax + 2*runClassBytes
	runClasses    = runBytesMax/runClassBytes + 1
)

// runPool keeps memory of runs that have ended. The collector takes what is not asked for.
type runPool struct {
	classes [runClasses]sync.Pool // the first is of short ones
	lent    atomic.Int64          // pieces that somebody uses, or has forgotten
}

// runBytes is the memory of one run.
type runBytes struct {
	bytes []byte
	class int
}

// get returns memory of at least n bytes with anything in it, nil where n is none of the pool's.
func (p *runPool) get(n int) *runBytes {
	class, size := 0, shortRunBytes
	switch {
	case n >= shortRunBytesMin && n <= shortRunBytes:
	case n >= pooledRunBytesMin && n <= runBytesMax:
		class = (n + runClassBytes - 1) / runClassBytes
		size = class * runClassBytes
	default:
		return nil
	}
	b, _ := p.classes[class].Get().(*runBytes)
	if b == nil {
		b = &runBytes{make([]byte, size), class}
	}
	p.lent.Add(1)
	return b
}

// put takes memory back that nobody uses any more.
func (p *runPool) put(b *runBytes) {
	if poisonRuns {
		b.bytes[0] = 0xdb
		for n := 1; n < len(b.bytes); n *= 2 {
			copy(b.bytes[n:], b.bytes[:n])
		}
	}
	p.lent.Add(-1)
	p.classes[b.class].Put(b)
}

// runMemory is a run with what it consists of, in one piece where the code has few shards. It is made anew for each run, only its bytes are not: so whoever
// keeps it for too long can spoil no other run's count.
type runMemory struct {
	run    Run
	write  stripe.Write
	shards [4][]byte

	pool  *runPool
	bytes *runBytes
	users atomic.Int32 // at first one, whoever fills it, and then the machine
}

// use adds a user. It reports false where there is none left: the bytes are another run's by now.
func (m *runMemory) use() bool {
	for {
		n := m.users.Load()
		if n < 1 {
			return false
		}
		if m.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// done says that one user will not look at the bytes any more.
func (m *runMemory) done() {
	left := m.users.Add(-1)
	if left < 0 { // the arguments of Check would be allocated
		invariant.Check(false, "the memory of a run is given back twice")
	}
	if left == 0 {
		m.pool.put(m.bytes)
	}
}

// useRun makes a message a user of the run that it is of, if that is one whose memory goes around. It reports false for a message that must not be sent.
func useRun(m *stripe.Message) bool {
	run, ok := m.Memory.(*runMemory)
	return !ok || run.use()
}

// doneWithRun ends what useRun has begun.
func doneWithRun(m *stripe.Message) {
	if run, ok := m.Memory.(*runMemory); ok {
		run.done()
	}
}

// releaseRun is for the machine, which has no message of a write to send any more, and for whoever does not give it one.
func releaseRun(w *stripe.Write) {
	if run, ok := w.Memory.(*runMemory); ok {
		run.done()
	}
}

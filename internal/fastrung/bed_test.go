package fastrung

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/stripe"
	"blocktree/internal/bttp"
	"blocktree/internal/file"
	"blocktree/internal/testenv"
)

const sectorBytes = blocktree.SectorBytesDefault

// The times that are promised, whatever the code says.
const (
	heartbeat     = 250 * time.Millisecond
	deadAfter     = 1500 * time.Millisecond
	memberTimeout = 4 * time.Second
	leaseTerm     = 5 * time.Second
	leaseMargin   = 500 * time.Millisecond
	leaseRenewal  = 1250 * time.Millisecond
	writeStall    = 30 * time.Second
	raftTick      = 100 * time.Millisecond
	electionMin   = 10 * raftTick
)

// bed is three nodes (withNodes: more), a file of code 2+1 on them, and a client that holds it.
type bed struct {
	*testenv.Simulated
	client *cluster.Client
	file   blocktree.File
}

// within runs a test in a bubble, over the carrier, on a bed that is healthy.
func within(t *testing.T, transport bttp.Transport, seed uint64, test func(b *bed)) {
	withNodes(t, transport, 3, seed, func(*testenv.Simulated) {}, test)
}

// withNodes is within on a domain of n nodes that prepare has changed before anything runs.
func withNodes(t *testing.T, transport bttp.Transport, n int, seed uint64, prepare func(*testenv.Simulated), test func(b *bed)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bed{Simulated: testenv.NewSimulated(t, n, seed)}
		b.Transport = transport
		prepare(b.Simulated)
		b.StartAll()
		b.client = b.Client()
		b.Create(b.client, "/vm/disk0", 16<<20, blocktree.Code{Data: 2, Parity: 1})
		b.file = b.open(b.client)
		b.Healthy(b.client)
		test(b)
	})
}

// carriers runs a test over each carrier.
func carriers(t *testing.T, test func(b *bed)) {
	for _, transport := range []bttp.Transport{bttp.QUIC, bttp.TCP} {
		t.Run(string(transport), func(t *testing.T) { within(t, transport, 1, test) })
	}
}

// open opens the file for writing, and closes it when the test ends.
func (b *bed) open(c *cluster.Client) blocktree.File {
	b.T.Helper()
	f := b.Open(c, "/vm/disk0")
	b.T.Cleanup(func() { _ = f.Close() }) // the tests say what they expect of it, before
	return f
}

// stats are what a file's holder did.
func stats(f blocktree.File) stripe.HolderStats { return f.(*file.File).Handle().Stats() }

// believes reports whether a file's holder would answer for it without asking anybody.
func believes(f blocktree.File) bool {
	_, ok := f.(*file.File).Handle().Lease()
	return ok
}

// await waits until ok holds, looks every millisecond, and returns how long it took; the test fails after limit.
func (b *bed) await(what string, limit time.Duration, ok func() bool) time.Duration {
	b.T.Helper()
	begun := time.Now()
	for !ok() {
		if time.Since(begun) > limit {
			b.T.Fatalf("%v: %s did not happen within %v", b.Elapsed(), what, limit)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(begun)
}

// between fails the test unless a duration lies between two others.
func (b *bed) between(what string, got, low, high time.Duration) {
	b.T.Helper()
	b.T.Logf("%v: %s took %v", b.Elapsed(), what, got)
	if got < low || got > high {
		b.T.Errorf("%s took %v, want %v to %v", what, got, low, high)
	}
}

// noticed waits until the client calls a node down, and returns when: a status that has to say so waits for the node first.
func (b *bed) noticed(node int) (at time.Time) {
	b.T.Helper()
	b.await("to notice", 15*time.Second, func() bool {
		at = time.Now()
		return slices.Contains(b.down(b.Status(b.client)), node)
	})
	return at
}

// down returns the nodes that the client calls down.
func (b *bed) down(s *cluster.Status) (nodes []int) {
	for i, n := range s.Nodes {
		if n.State != "up" {
			nodes = append(nodes, i)
		}
	}
	return nodes
}

// numbered is a sector that says where it is and which write it is of.
func numbered(sector blocktree.SectorIndex, write uint64) []byte {
	p := make([]byte, sectorBytes)
	for i := 0; i < len(p); i += 16 {
		binary.BigEndian.PutUint64(p[i:], uint64(sector))
		binary.BigEndian.PutUint64(p[i+8:], write)
	}
	return p
}

// read returns the number of the write that a sector is of.
func read(ctx context.Context, t testing.TB, f blocktree.File, sector blocktree.SectorIndex) (uint64, error) {
	t.Helper()
	got := make([]byte, sectorBytes)
	if err := f.ReadSectors(ctx, sector, got); err != nil {
		return 0, err
	}
	k := binary.BigEndian.Uint64(got[8:])
	if want := numbered(sector, k); k > 0 && !bytes.Equal(got, want) || k == 0 && !bytes.Equal(got, make([]byte, sectorBytes)) {
		t.Errorf("sector %d is torn", sector)
	}
	return k, nil
}

// writePause is how long a writer rests after each write: else a simulated second would take many real ones.
const writePause = 25 * time.Millisecond

// load writes numbered sectors, each writer to its own, until stopped. It is the mirror, too: acked is the newest write of
// each sector that was acknowledged, begun the newest that was asked for.
type load struct {
	b       *bed
	ctx     context.Context
	stop    context.CancelFunc
	wg      sync.WaitGroup
	mu      sync.Mutex
	acked   []uint64
	begun   []uint64
	slowest time.Duration // of the writes that ended well since forget
	errs    []error
	reads   int // that readAlong had answered
}

// write starts n writers.
func (b *bed) write(f blocktree.File, n int) *load {
	l := &load{b: b, acked: make([]uint64, n), begun: make([]uint64, n)}
	l.start(f)
	return l
}

// start starts the writers, again if they were finished, at f.
func (l *load) start(f blocktree.File) {
	l.ctx, l.stop = context.WithCancel(l.b.T.Context())
	l.b.T.Cleanup(func() { l.stop(); l.wg.Wait() }) // also if the test fails: time ends with it
	for i := range l.acked {
		l.wg.Go(func() {
			for l.ctx.Err() == nil && l.one(f, i) {
				time.Sleep(writePause)
			}
		})
	}
}

// one writes sector i once; false after an error.
func (l *load) one(f blocktree.File, i int) bool {
	l.mu.Lock()
	l.begun[i]++
	k := l.begun[i]
	l.mu.Unlock()
	begun := time.Now()
	err := f.WriteSectors(context.Background(), blocktree.SectorIndex(i), numbered(blocktree.SectorIndex(i), k))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.errs = append(l.errs, err)
		return false
	}
	l.acked[i] = k
	l.slowest = max(l.slowest, time.Since(begun))
	return true
}

// forget forgets the slowest write.
func (l *load) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slowest = 0
}

// pause is how long the slowest write took since forget.
func (l *load) pause() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.slowest
}

func (l *load) total() (n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.acked {
		n += k
	}
	return n
}

// failed returns the errors until now.
func (l *load) failed() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]error(nil), l.errs...)
}

// finish stops the writers and returns their errors.
func (l *load) finish() []error {
	l.stop()
	l.wg.Wait()
	return l.failed()
}

// finishWell stops the writers, none of which may have failed.
func (l *load) finishWell() {
	l.b.T.Helper()
	if errs := l.finish(); len(errs) > 0 {
		l.b.T.Errorf("%d writes failed, the first: %v", len(errs), errs[0])
	}
}

// readAlong reads the sectors through f, one after the other, until the writers stop: what was acknowledged when a read began, or
// newer; nothing that was not begun by its end. It notes how many reads succeeded.
func (l *load) readAlong(f blocktree.File, what string) {
	ctx := l.ctx
	l.wg.Go(func() {
		for i := 0; ctx.Err() == nil; i = (i + 1) % len(l.acked) {
			l.mu.Lock()
			acked := l.acked[i]
			l.mu.Unlock()
			patience, cancel := context.WithTimeout(ctx, 5*time.Second)
			k, err := read(patience, l.b.T, f, blocktree.SectorIndex(i))
			cancel()
			l.mu.Lock()
			if err == nil {
				l.reads++
				if k < acked || k > l.begun[i] {
					l.b.T.Errorf("%v: %s reads write %d of sector %d, %d was acknowledged before, %d begun", l.b.Elapsed(), what, k, i, acked, l.begun[i])
				}
			}
			l.mu.Unlock()
			time.Sleep(writePause)
		}
	})
}

// check reads every sector: it is the acknowledged write or a later one, whole.
func (l *load) check(f blocktree.File, what string) {
	l.b.T.Helper()
	ctx, cancel := context.WithTimeout(l.b.T.Context(), time.Minute)
	defer cancel()
	for i := range l.acked {
		k, err := read(ctx, l.b.T, f, blocktree.SectorIndex(i))
		if err != nil {
			l.b.T.Fatalf("%s: sector %d: %v", what, i, err)
		}
		if k < l.acked[i] || k > l.begun[i] {
			l.b.T.Errorf("%s: sector %d is of write %d, %d was acknowledged, %d begun", what, i, k, l.acked[i], l.begun[i])
		}
	}
}

// checkWithout is check with each node off in turn: every pair of members has everything.
func (l *load) checkWithout(f blocktree.File) {
	l.b.T.Helper()
	for i := range 3 {
		l.b.Off(l.b.NodeAddr(i))
		l.check(f, "without node "+l.b.Members[i].Path.Short())
		l.b.On(l.b.NodeAddr(i))
		l.b.Healthy(l.b.client)
	}
}

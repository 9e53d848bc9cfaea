package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"blocktree"
	"blocktree/internal/vfs"
)

// The crash tests drive a store with a miniature machine whose checkpoint blob holds the dumb model itself: a flat slice
// that says what each sector's content is. After every crash the store must say the same, and the model must hold
// whatever was acknowledged.

const worldSectors = 6 * PageSectors

// cell is what the model knows of one sector.
type cell struct {
	C Content
	V uint64
}

// step is one record as the machine sees it.
type step struct {
	Kind  Kind
	First blocktree.SectorIndex
	Count uint32
	V     uint64
	Ref   Ref
	Order string // of a control record: "reset" forgets a range, "abort" voids version V
}

// mini is the machine: what was applied, and what was appended but not applied yet.
type mini struct {
	Model   []cell
	Pending []step
	Last    uint64

	s        *Store
	replayed []step
}

func newMini() *mini { return &mini{Model: make([]cell, worldSectors)} }

func (m *mini) blob(t testing.TB) []byte {
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (m *mini) Checkpoint(s *Store, blob []byte) error {
	m.s = s
	if blob == nil {
		return nil
	}
	return json.Unmarshal(blob, m)
}

func (m *mini) Record(r Replayed) error {
	st := step{Kind: r.Kind, First: r.First, Count: r.Count, V: uint64(r.Version.Sequence), Ref: r.Ref, Order: string(r.Blob)}
	if r.Bad != nil {
		return fmt.Errorf("record %v came back damaged in %v", r.Ref, r.Bad)
	}
	m.replayed = append(m.replayed, st)
	return nil
}

// recover applies all that is pending and all that was replayed, as if it were committed.
func (m *mini) recover() error {
	all := append(m.Pending, m.replayed...)
	m.Pending, m.replayed = nil, nil
	aborted := map[uint64]bool{}
	for _, st := range all {
		if st.Order == "abort" {
			aborted[st.V] = true
		}
	}
	for _, st := range all {
		if err := m.apply(st, aborted[st.V]); err != nil {
			return err
		}
	}
	return nil
}

// apply commits one step in store and model.
func (m *mini) apply(st step, aborted bool) error {
	m.Last = max(m.Last, st.V)
	x := Extent{First: st.First, Count: st.Count, Version: version(st.V), Ref: st.Ref}
	switch {
	case st.Kind == KindData && aborted:
		m.s.Drop(st.Ref, 0, st.Count)
		return nil
	case st.Kind == KindData:
		x.Content = Data
	case st.Kind == KindZero:
		x.Content = Zero
	case st.Order == "reset":
		for i := range st.Count {
			m.Model[st.First+blocktree.SectorIndex(i)] = cell{}
		}
		return m.s.DropRange(testFile, st.First, uint64(st.Count))
	default:
		return nil
	}
	for i := range st.Count {
		m.Model[st.First+blocktree.SectorIndex(i)] = cell{x.Content, st.V}
	}
	return m.s.Index(testFile, x)
}

// compare checks that the store says what the model says, that every shard reads as written, and that the live counts
// are exactly those of the index.
func (m *mini) compare() error {
	m.s.compactor.mu.Lock() // what is copied meanwhile is in neither place
	defer m.s.compactor.mu.Unlock()
	found, err := m.s.Lookup(testFile, 0, worldSectors, nil)
	if err != nil {
		return err
	}
	live := map[uint32]int64{}
	at := blocktree.SectorIndex(0)
	for _, x := range found {
		if x.First != at {
			return fmt.Errorf("lookup jumps from %d to %d", at, x.First)
		}
		for i := range x.Count {
			if got, want := (cell{x.Content, uint64(x.Version.Sequence)}), m.Model[at]; got != want {
				return fmt.Errorf("sector %d (%d of an extent): index says %v, model %v", at, i, got, want)
			}
			at++
		}
		if x.Content == Data {
			live[x.Ref.Segment] += int64(x.Count)
			if err := checkExtent(m.s, testFile, x); err != nil {
				return err
			}
		}
	}
	if at != worldSectors {
		return fmt.Errorf("lookup ends at %d", at)
	}
	m.s.pins.mu.Lock()
	defer m.s.pins.mu.Unlock()
	for _, p := range m.s.pins.pending {
		return fmt.Errorf("%v is pending after all was applied", p)
	}
	for n, l := range m.s.pins.live {
		if live[n] != l.sectors {
			return fmt.Errorf("segment %d counts %d live sectors, has %d", n, l.sectors, live[n])
		}
		delete(live, n)
	}
	if len(live) > 0 {
		return fmt.Errorf("live sectors in segments that count none: %v", live)
	}
	return nil
}

// world is a store on a crash disk, its machine, and the history that acknowledged writes are checked against.
type world struct {
	t    *testing.T
	rng  *rand.Rand
	opts Options

	fs *vfs.Crash
	m  *mini
	wg sync.WaitGroup // the checkpoint that is being finished

	lazy        bool        // some records wait for a sync that others ask for
	direct      bool        // some records are long, and written past the page cache
	watch       atomic.Bool // crash at sync points
	mu          sync.Mutex
	base        []cell  // what was there when this start began
	history     []event // since, in log order
	applied     int     // how many of history the machine has applied
	clones      int
	copied      uint64 // segments that were compacted
	recycled    uint64 // segments that were made of dead ones
	directBytes uint64
	failures    []string
}

// event is one Append of the history.
type event struct {
	steps   []step
	acked   bool
	written bool // a kill does not take it, a loss of power may
}

func newWorld(t *testing.T, seed uint64, mutant mutant) *world {
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), fs: vfs.NewCrash(), base: make([]cell, worldSectors),
		opts: Options{SegmentBytes: 24 << 10, CheckpointBytes: 100 << 10, CacheBytes: 4 << 10, mutant: mutant, compactEager: true},
	}
	if err := Create(w.fs, testDir, testID, w.opts); err != nil {
		t.Fatal(err)
	}
	return w
}

// start opens the store on the world's disk and checks it.
func (w *world) start() {
	seed := w.rng.Uint64()
	w.fs.OnSync = func(p vfs.SyncPoint) {
		if w.watch.Load() {
			w.crashHere(p, seed)
		}
	}
	m, err := openMini(w.fs, w.opts)
	if err != nil {
		w.fail("start: %v", err)
		return
	}
	w.m = m
	w.base, w.history, w.applied = slices.Clone(m.Model), nil, 0
	w.watch.Store(true)
}

func openMini(fs vfs.FS, opts Options) (*mini, error) {
	m := newMini()
	s, err := Open(fs, testDir, testID, opts, m)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	err = m.recover()
	if err == nil {
		err = m.compare()
	}
	if err == nil && len(s.Damaged()) > 0 {
		err = fmt.Errorf("damage: %+v", s.Damaged())
	}
	if err != nil {
		_ = s.Close(nil)
		return nil, err
	}
	return m, nil
}

// crashHere takes a clone, opens it and compares it with the history.
func (w *world) crashHere(p vfs.SyncPoint, seed uint64) {
	w.mu.Lock()
	if len(w.failures) > 0 {
		w.mu.Unlock()
		return
	}
	history := slices.Clone(w.history)
	w.clones++
	seed += uint64(w.clones)
	clone := w.fs.Clone(seed)
	killed := w.fs.Kill()
	w.mu.Unlock()
	if err := w.verify(clone, history); err != nil {
		w.fail("power loss at %+v, clone seed %d: %v", p, seed, err)
	}
	if seed%4 == 0 {
		if err := w.verifyKilled(killed, history, seed); err != nil {
			w.fail("kill at %+v, then power loss, clone seed %d: %v", p, seed, err)
		}
	}
}

func (w *world) fail(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, fmt.Sprintf(format, args...))
}

func (w *world) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.failures) > 0
}

func (w *world) verify(clone *vfs.Crash, history []event) error {
	if err := w.checkOffline(clone); err != nil {
		return err
	}
	m, err := openMini(clone, w.opts)
	if err != nil {
		return err
	}
	err = w.checkAcked(m.Model, history)
	if closeErr := m.s.Close(nil); err == nil {
		err = closeErr
	}
	return err
}

// verifyKilled opens the store after a kill, then after a power loss: what the first start said is there must stay.
func (w *world) verifyKilled(killed *vfs.Crash, history []event, seed uint64) error {
	if err := w.checkOffline(killed); err != nil {
		return err
	}
	m, err := openMini(killed, w.opts)
	if err != nil {
		return err
	}
	for i := range history {
		history[i].acked = history[i].acked || history[i].written
	}
	err = w.checkAcked(m.Model, history)
	after := killed.Clone(seed)
	if err := errors.Join(err, m.s.Close(nil)); err != nil {
		return err
	}
	m2, err := openMini(after, w.opts)
	if err != nil {
		return err
	}
	defer m2.s.Close(nil)
	if !slices.Equal(m.Model, m2.Model) {
		return fmt.Errorf("the start after the kill said other than the one after the power loss")
	}
	return nil
}

// checkAcked checks that every sector is what the last acknowledged step made it, or what an unacknowledged one of
// the same time or later would have.
func (w *world) checkAcked(model []cell, history []event) error {
	allowed := make([][]cell, worldSectors)
	for i, c := range w.base {
		allowed[i] = []cell{c}
	}
	for _, e := range history {
		aborted := len(e.steps) > 1 && e.steps[1].Order == "abort"
		for _, st := range e.steps {
			var c cell
			switch {
			case st.Kind == KindData && aborted && e.acked, st.Order == "abort":
				continue
			case st.Kind == KindData:
				c = cell{Data, st.V}
			case st.Kind == KindZero:
				c = cell{Zero, st.V}
			}
			for i := st.First; i < st.First+blocktree.SectorIndex(st.Count); i++ {
				if e.acked {
					allowed[i] = allowed[i][:0]
				}
				allowed[i] = append(allowed[i], c)
			}
		}
	}
	for i, c := range model {
		if !slices.Contains(allowed[i], c) {
			return fmt.Errorf("sector %d is %v, allowed are %v", i, c, allowed[i])
		}
	}
	return nil
}

// randomSteps makes the records of one Append.
func (w *world) randomSteps() ([]step, []Record) {
	w.m.Last++
	v := w.m.Last
	first := blocktree.SectorIndex(w.rng.IntN(worldSectors - 8))
	count := uint32(1 + w.rng.IntN(8))
	switch n := w.rng.IntN(20); {
	case n < 14:
		st := step{Kind: KindData, First: first, Count: count, V: v}
		r := dataRecord(testFile, first, count, uint32(100+w.rng.IntN(500)), version(v))
		if w.direct && n%2 == 0 {
			count, st.Count = 8, 8
			r = longRecord(first, count, uint32(1024+w.rng.IntN(1500)), version(v))
		}
		if n < 2 {
			return []step{st, {Kind: KindControl, V: v, Order: "abort"}},
				[]Record{r, {Kind: KindControl, Version: version(v), Blob: []byte("abort")}}
		}
		return []step{st}, []Record{r}
	case n < 18:
		count = uint32(1 + w.rng.IntN(worldSectors-int(first)))
		if n < 16 {
			count = min(count, 20)
		}
		r := Record{Kind: KindZero, File: testFile, First: first, Count: count, Version: version(v)}
		return []step{{Kind: KindZero, First: first, Count: count, V: v}}, []Record{r}
	}
	count = uint32(1 + w.rng.IntN(min(600, worldSectors-int(first))))
	r := Record{Kind: KindControl, First: first, Count: count, Version: version(v), Blob: []byte("reset")}
	return []step{{Kind: KindControl, First: first, Count: count, V: v, Order: "reset"}}, []Record{r}
}

// append appends random records; it does not wait.
func (w *world) append(done *sync.WaitGroup) {
	steps, recs := w.randomSteps()
	w.mu.Lock()
	at := len(w.history)
	w.history = append(w.history, event{steps: slices.Clone(steps)})
	w.mu.Unlock()
	done.Add(1)
	lazy := w.lazy && w.rng.IntN(4) > 0
	tell := func(err error) {
		if err != nil {
			w.fail("append: %v", err)
		}
		w.mu.Lock()
		w.history[at].written = true
		if !lazy {
			w.ackUpTo(at)
		}
		w.mu.Unlock()
		done.Done()
	}
	put := w.m.s.Append
	if lazy {
		put = byTurns(w.m.s, uint64(at))
	}
	refs, err := put(recs, tell)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range steps {
		steps[i].Ref = refs[i]
	}
	w.m.Pending = append(w.m.Pending, steps...)
}

// ackUpTo notes that the log is durable up to an event; mu is held.
func (w *world) ackUpTo(at int) {
	for i := at; i >= 0 && !w.history[i].acked; i-- {
		w.history[i].acked = true
	}
}

// settle waits for what was appended, all of it durable.
func (w *world) settle(done *sync.WaitGroup) {
	w.sync(done)
	done.Wait()
}

// sync has what was appended made durable, where something is not by itself; it does not wait.
func (w *world) sync(done *sync.WaitGroup) {
	if w.lazy {
		w.mu.Lock()
		at := len(w.history) - 1
		w.mu.Unlock()
		done.Add(1)
		err := w.m.s.Sync(func(err error) {
			if err != nil {
				w.fail("sync: %v", err)
			}
			w.mu.Lock()
			w.ackUpTo(at)
			w.mu.Unlock()
			done.Done()
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// pump applies what is acknowledged.
func (w *world) pump() {
	for {
		w.mu.Lock()
		ready := w.applied < len(w.history) && w.history[w.applied].acked
		var steps []step
		if ready {
			steps = w.m.Pending[:len(w.history[w.applied].steps)] // with their places
			w.applied++
		}
		w.mu.Unlock()
		if !ready {
			return
		}
		aborted := len(steps) > 1
		for _, st := range steps {
			if err := w.m.apply(st, aborted); err != nil {
				w.fail("apply: %v", err)
			}
		}
		w.m.Pending = w.m.Pending[len(steps):]
	}
}

// checkpoint begins one, and finishes it in the background.
func (w *world) checkpoint() {
	w.wg.Wait()
	c, err := w.m.s.BeginCheckpoint(w.m.blob(w.t))
	if err != nil {
		w.t.Fatal(err)
	}
	w.wg.Go(func() {
		if err := c.Finish(); err != nil {
			w.fail("checkpoint: %v", err)
		}
	})
}

// run does rounds of random work, each ended by a power loss or a clean stop.
func (w *world) run(rounds, operations int) {
	for range rounds {
		if !w.failed() {
			w.start()
		}
		if w.failed() {
			return
		}
		var done sync.WaitGroup
		for range operations {
			w.append(&done)
			switch w.rng.IntN(12) {
			case 0, 1, 2:
				w.settle(&done)
				w.pump()
			case 3:
				w.pump()
			case 4:
				w.checkpoint()
			case 5, 6:
				w.sync(&done) // what comes next is written beside it
			}
		}
		w.settle(&done)
		w.pump()
		w.wg.Wait()
		if !w.failed() {
			if err := w.m.compare(); err != nil {
				w.fail("live: %v", err)
			}
		}
		var blob []byte
		if w.rng.IntN(3) == 0 {
			blob = w.m.blob(w.t)
		}
		st := w.m.s.Stats()
		w.copied, w.recycled, w.directBytes = w.copied+st.CompactedSegments, w.recycled+st.Recycled, w.directBytes+st.DirectBytes
		if err := w.m.s.Close(blob); err != nil {
			w.fail("close: %v", err)
		}
		w.watch.Store(false)
		w.fs = w.fs.Clone(w.rng.Uint64())
	}
}

func TestCrashAtEverySyncPoint(t *testing.T) {
	clones, copied, recycled := 0, uint64(0), uint64(0)
	for seed := range uint64(4) {
		w := newWorld(t, seed, forgetNothing)
		w.run(3, 60)
		if len(w.failures) > 0 {
			t.Fatalf("seed %d: %s", seed, w.failures[0])
		}
		clones += w.clones
		copied += w.copied
		recycled += w.recycled
	}
	if clones < 300 || copied == 0 || recycled < 10 {
		t.Errorf("only %d crashes were tried, %d segments compacted, %d recycled", clones, copied, recycled)
	}
	t.Logf("%d crashes, %d segments compacted, %d recycled", clones, copied, recycled)
}

// TestMutantsDie proves that the crash test notices each duty that is forgotten.
func TestMutantsDie(t *testing.T) {
	for _, x := range []struct {
		name   string
		mutant mutant
	}{
		{"datasync of the log", forgetDatasync},
		{"datasync of what was put off", forgetPutOff},
		{"directory sync of a segment", forgetSegmentDirSync},
		{"sync of the checkpoint file", forgetCheckpointSync},
		{"directory sync of the checkpoint", forgetCheckpointDirSync},
		{"sync of the index", forgetIndexSync},
		{"writing the tail again", forgetTailRewrite},
		{"counting live sectors as of the checkpoint", forgetDurableLive},
		{"sync of what was copied", forgetCopySync},
		{"a durable checkpoint before a compacted segment goes", forgetDurableBeforeDelete},
	} {
		t.Run(x.name, func(t *testing.T) {
			for seed := range uint64(40) {
				w := newWorld(t, seed, x.mutant)
				w.lazy = x.mutant == forgetPutOff
				w.run(3, 60)
				if len(w.failures) > 0 {
					t.Logf("seed %d: %s", seed, w.failures[0])
					return
				}
			}
			t.Error("the mutant lives")
		})
	}
}

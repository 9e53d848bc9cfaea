package meta

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"blocktree"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(failSyncEnv) != "" {
		m.Run()
		return
	}
	goleak.VerifyTestMain(m)
}

// patience bounds what a healthy test never waits for.
const patience = 60 * time.Second

var (
	rootID  = blocktree.PrincipalOf([]byte("root"))
	rootDir = blocktree.RootPath(rootID)
)

// fakeClock is time that the test moves.
type fakeClock struct{ boot atomic.Int64 }

func (c *fakeClock) Now() time.Time      { return time.Unix(0, c.boot.Load()) }
func (c *fakeClock) Boot() time.Duration { return time.Duration(c.boot.Load()) }
func (c *fakeClock) add(d time.Duration) { c.boot.Add(int64(d)) }
func node(i int) blocktree.NodeID        { return blocktree.NodeID(i) }
func incarnation(i int) (v [16]byte)     { v[0], v[15] = byte(i), 1; return v }
func path(s string) blocktree.Path       { return rootDir + blocktree.Path(s) }
func host(i int) blocktree.Runtime {
	return blocktree.Runtime{Path: path(fmt.Sprintf("/node%d", i)), Principal: blocktree.PrincipalOf([]byte{byte(i)}), Node: node(i),
		Endpoints: []string{fmt.Sprintf("127.0.0.1:%d", 7000+i)}, Services: []string{blocktree.ServiceSector}}
}

// member is one Group of a world, and what survives it.
type member struct {
	id      blocktree.NodeID
	fs      vfs.FS
	group   *Group // nil while down
	ticks   chan time.Time
	ticked  int
	changes []Changes
}

// world runs the members of one group over an in-memory network, with time that runs a hundred times as fast.
type world struct {
	t       testing.TB
	clock   fakeClock
	frozen  atomic.Bool // ticks go on, but the clock stands still
	hooks   hooks
	mu      sync.Mutex
	members map[blocktree.NodeID]*member
	lossy   bool
	cut     map[blocktree.NodeID]bool
	rng     *rand.Rand
	onSend  func(from, to blocktree.NodeID, msg []byte)
	stop    chan struct{}
	wg      sync.WaitGroup
	sends   sync.WaitGroup
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, members: map[blocktree.NodeID]*member{}, cut: map[blocktree.NodeID]bool{}, rng: rand.New(rand.NewPCG(1, 2)),
		stop: make(chan struct{})}
	t.Cleanup(w.close)
	w.wg.Add(1)
	go w.runTime()
	return w
}

// runTime ticks every member that is up; one that is busy misses a tick, as with a real ticker.
func (w *world) runTime() {
	defer w.wg.Done()
	for {
		select {
		case <-w.stop:
			return
		case <-time.After(time.Millisecond):
		}
		if !w.frozen.Load() {
			w.clock.add(blocktree.RaftTick)
		}
		w.mu.Lock()
		for _, m := range w.members {
			if m.group != nil {
				select {
				case m.ticks <- time.Time{}:
					m.ticked++
				default:
				}
			}
		}
		w.mu.Unlock()
	}
}

func (w *world) close() {
	close(w.stop)
	w.wg.Wait()
	for _, id := range w.ids() {
		w.kill(id)
	}
	w.sends.Wait()
}

func (w *world) ids() []blocktree.NodeID {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ids []blocktree.NodeID
	for id := range w.members {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// founders are the runtimes of members 1 … n.
func founders(n int) []blocktree.Runtime {
	var out []blocktree.Runtime
	for i := 1; i <= n; i++ {
		out = append(out, host(i))
	}
	return out
}

// start opens a member on its file system.
func (w *world) start(id blocktree.NodeID, fs vfs.FS, from []blocktree.Runtime) *Group {
	w.t.Helper()
	m := &member{id: id, fs: fs, ticks: make(chan time.Time, 1)}
	h := w.hooks
	h.ticks = m.ticks
	g, err := Open(w.t.Context(), Config{Dir: "meta", FS: fs, Node: id, Founders: from, Clock: &w.clock, hooks: h,
		Send:    func(to blocktree.NodeID, msg []byte) { w.send(id, to, msg) },
		OnApply: func(c Changes) { w.mu.Lock(); m.changes = append(m.changes, c); w.mu.Unlock() }})
	if err != nil {
		w.t.Fatal(err)
	}
	m.group = g
	w.mu.Lock()
	w.members[id] = m
	w.mu.Unlock()
	return g
}

// found starts n members and founds the cluster, with every node started once.
func (w *world) found(n int) {
	w.t.Helper()
	for i := 1; i <= n; i++ {
		w.start(node(i), vfs.NewCrashableMem(), founders(n))
	}
	w.must(Found{Dir: rootDir, Generation: 1, Runtimes: founders(n), Mode: 0o755})
	for i := 1; i <= n; i++ {
		w.must(StartNode{Node: node(i), Incarnation: incarnation(i), StartCounter: 1})
	}
}

// kill closes a member; its file system keeps what it has.
func (w *world) kill(id blocktree.NodeID) {
	w.mu.Lock()
	m := w.members[id]
	g := m.group
	m.group = nil
	w.mu.Unlock()
	if g != nil {
		if err := g.Close(); err != nil {
			w.t.Error(err)
		}
	}
}

func (w *world) group(id blocktree.NodeID) *Group {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m := w.members[id]; m != nil {
		return m.group
	}
	return nil
}

// send delivers a message, later or never where the network is bad.
func (w *world) send(from, to blocktree.NodeID, msg []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(msg) > blocktree.FrameBodyBytesMax {
		w.t.Errorf("a message of %d bytes", len(msg))
	}
	if w.onSend != nil {
		w.onSend(from, to, msg)
	}
	m := w.members[to]
	if m == nil || m.group == nil || w.cut[from] || w.cut[to] || w.lossy && w.rng.IntN(10) == 0 {
		return
	}
	g := m.group
	if !w.lossy {
		if err := g.Step(from, msg); err != nil {
			w.t.Error(err)
		}
		return
	}
	delay := time.Duration(w.rng.IntN(3000)) * time.Microsecond
	w.sends.Add(1)
	go func() {
		defer w.sends.Done()
		time.Sleep(delay)
		if err := g.Step(from, msg); err != nil {
			w.t.Error(err)
		}
	}()
}

// isolate cuts a member off, or lets it back.
func (w *world) isolate(id blocktree.NodeID, cut bool) {
	w.mu.Lock()
	w.cut[id] = cut
	w.mu.Unlock()
}

// propose retries a command with one id at whoever leads, until it is answered or ctx ends.
func (w *world) propose(ctx context.Context, c Command) (Result, error) {
	for {
		for _, id := range w.ids() {
			g := w.group(id)
			if g == nil {
				continue
			}
			if l, ok := g.Leader(); !ok || l != id {
				continue
			}
			short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
			r, err := g.Propose(short, c)
			cancel()
			if err == nil {
				return r, nil
			}
			switch blocktree.KindOf(err) {
			case blocktree.NotLeader, blocktree.Timeout, blocktree.Unavailable, blocktree.Closed, blocktree.IO, blocktree.Canceled:
			default:
				return r, err
			}
		}
		select {
		case <-ctx.Done():
			return Result{}, ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

// do proposes an op and returns its result, refused or not.
func (w *world) do(o Op) Result {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := w.propose(ctx, Command{ID: NewCommandID(), Op: o})
	if err != nil {
		w.t.Fatalf("%T: %v", o, err)
	}
	return r
}

// must is do for an op that is not refused.
func (w *world) must(o Op) Result {
	w.t.Helper()
	r := w.do(o)
	if err := r.Err("propose"); err != nil {
		w.t.Fatalf("%T: %v", o, err)
	}
	return r
}

// sync waits until a member has everything.
func (w *world) sync(id blocktree.NodeID) *Group {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	g := w.group(id)
	if err := g.Sync(ctx); err != nil {
		w.t.Fatal(err)
	}
	return g
}

// leader waits for a leader that most agree on.
func (w *world) leader() blocktree.NodeID {
	w.t.Helper()
	var leader blocktree.NodeID
	w.eventually("a leader", func() bool {
		votes := map[blocktree.NodeID]int{}
		up := 0
		for _, id := range w.ids() {
			if g := w.group(id); g != nil {
				up++
				if l, ok := g.Leader(); ok {
					votes[l]++
				}
			}
		}
		for l, n := range votes {
			if n > up/2 && w.group(l) != nil {
				leader = l
				return true
			}
		}
		return false
	})
	return leader
}

// eventually polls a condition that must come true.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// pass lets n ticks pass at every member that is up.
func (w *world) pass(n int) {
	w.t.Helper()
	for _, id := range w.ids() {
		count := func() int { w.mu.Lock(); defer w.mu.Unlock(); return w.members[id].ticked }
		if from := count(); w.group(id) != nil {
			w.eventually("time", func() bool { return count() >= from+n })
		}
	}
}

// hash is the digest of everything that is applied.
func hash(t testing.TB, g *Group) (h [32]byte) {
	t.Helper()
	err := g.view("hash", func(s *state) error {
		h = s.hash()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

package meta

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"blocktree"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// gone reports whether a session is closed or expired, at member 1 … n, whichever is up.
func (w *world) gone(s SessionID) bool {
	for _, id := range w.ids() {
		if g := w.group(id); g != nil {
			_, err := g.Session(s)
			return blocktree.KindOf(err) == blocktree.NotFound
		}
	}
	return false
}

// A session that is not renewed expires after LeaseTerm, not before, and its leases with it; one that is renewed stays.
func TestSilentSessionExpires(t *testing.T) {
	w := newWorld(t)
	w.frozen.Store(true)
	w.found(3)
	w.must(file("/f"))
	f := fileID(1)
	w.must(open(1))
	w.must(open(2))
	w.must(Acquire{session(1), f})
	step := blocktree.LeaseTerm / 5
	for range 4 {
		w.clock.add(step)
		w.pass(5)
		w.must(RenewSession{session(2)})
		if r := w.do(Acquire{session(2), f}); r.Kind != blocktree.Busy || r.Lease == nil || r.Lease.Holder != path("/client1") {
			t.Fatalf("%+v", r)
		}
	}
	w.clock.add(step)
	w.eventually("the silent session's end", func() bool { return w.gone(session(1)) })
	w.pass(5)
	if r := w.must(Acquire{session(2), f}); r.Lease.Epoch != 2 {
		t.Fatalf("%+v", r.Lease)
	}
	if r := w.do(RenewSession{session(1)}); r.Kind != blocktree.NotFound {
		t.Fatal(r.Kind)
	}
}

// After a change of leader every session has a full term, however long it was silent before.
func TestNewLeaderGivesFullTerm(t *testing.T) {
	w := newWorld(t)
	w.frozen.Store(true)
	w.found(3)
	w.must(open(1))
	for _, id := range w.ids() { // every member notes it now
		w.sync(id)
	}
	w.clock.add(blocktree.LeaseTerm * 4 / 5)
	w.kill(w.leader())
	w.sync(w.leader())
	w.clock.add(blocktree.LeaseTerm * 4 / 5)
	w.pass(20)
	if w.gone(session(1)) {
		t.Fatal("a new leader went on counting where the old one stopped")
	}
	w.clock.add(blocktree.LeaseTerm / 5)
	w.eventually("the silent session's end", func() bool { return w.gone(session(1)) })
}

// The term is LeaseTerm from the last renewal that was applied, on the leader's clock, to the tick.
func TestTermCountsFromRenewal(t *testing.T) {
	w := newWorld(t)
	w.frozen.Store(true)
	w.found(1)
	w.must(open(1))
	for range 3 {
		w.clock.add(blocktree.LeaseTerm - 1)
		w.pass(5)
		w.must(RenewSession{session(1)})
	}
	w.must(file("/f"))
	w.must(Acquire{session(1), fileID(1)})
	w.must(open(2))
	w.clock.add(time.Second)
	if r := w.do(Acquire{session(2), fileID(1)}); r.Kind != blocktree.Busy || r.HolderQuiet != time.Second {
		t.Fatalf("%+v", r)
	}
	w.clock.add(blocktree.LeaseTerm - time.Second)
	w.eventually("the silent session's end", func() bool { return w.gone(session(1)) })
}

// A late copy of a closing says done, but does not keep the same session, opened again, from expiring.
func TestReopenedSessionExpires(t *testing.T) {
	w := newWorld(t)
	w.frozen.Store(true)
	w.found(1)
	w.must(open(1))
	end := Command{ID: NewCommandID(), Op: CloseSession{session(1)}}
	for range 2 {
		if r, err := w.propose(t.Context(), end); err != nil || r.Kind != 0 {
			t.Fatal(r.Kind, err)
		}
		w.must(open(1))
	}
	if r, err := w.propose(t.Context(), end); err != nil || r.Kind != 0 || w.gone(session(1)) {
		t.Fatal(r.Kind, err)
	}
	w.clock.add(blocktree.LeaseTerm)
	w.eventually("the silent session's end", func() bool { return w.gone(session(1)) })
}

// A leader that stood still and lost a renewal expires nothing: its expiry names renewals that have been passed.
func TestExpiryNamesRenewals(t *testing.T) {
	m := founded(t, 1)
	m.must(open(1))
	seen := m.must(RenewSession{session(1)}).Session.Renewals
	m.must(RenewSession{session(1)})
	if r := m.do(ExpireSession{session(1), seen}); r.Kind != blocktree.Busy {
		t.Fatal(r.Kind)
	}
	if m.view().session(session(1)) == nil {
		t.Fatal("expired")
	}
}

// OnApply hears of everything in order, before Propose and Sync return.
func TestOnApplyComesFirst(t *testing.T) {
	w := newWorld(t)
	w.found(1)
	w.must(file("/f"))
	w.must(open(1))
	last := func() Changes {
		w.mu.Lock()
		defer w.mu.Unlock()
		cs := w.members[1].changes
		for i := 1; i < len(cs); i++ {
			if cs[i].Index <= cs[i-1].Index {
				t.Fatalf("%d after %d", cs[i].Index, cs[i-1].Index)
			}
		}
		return cs[len(cs)-1]
	}
	for e := blocktree.Epoch(1); e < 20; e++ {
		w.must(Acquire{session(1), fileID(1)})
		if c := last(); len(c.Layouts) != 1 || c.Layouts[0].Epoch != e || len(c.Leases) != 1 || c.Leases[0].Session != session(1) {
			t.Fatalf("epoch %d: %+v", e, c)
		}
	}
	w.must(CloseSession{session(1)})
	if c := last(); len(c.Leases) != 1 || c.Leases[0].Session != (SessionID{}) {
		t.Fatalf("%+v", c)
	}
	w.must(StartNode{1, incarnation(9), 2, 1})
	if c := last(); len(c.Starts) != 1 || len(c.Layouts) != 1 || !c.Layouts[0].Marked[1] {
		t.Fatalf("%+v", c)
	}
	w.must(PutRuntime{host(7)})
	if !last().Runtimes {
		t.Fatal("a process record changed unheard")
	}
	w.must(Remove{Path: path("/f")})
	if c := last(); len(c.Removed) != 1 {
		t.Fatalf("%+v", c)
	}
}

func TestOpenRefusals(t *testing.T) {
	good := Config{Dir: "meta", FS: vfs.NewMem(), Node: 1, Founders: founders(3), Clock: &fakeClock{},
		Send: func(blocktree.NodeID, []byte) {}}
	g, err := Open(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		kind blocktree.Kind
		f    func(*Config)
	}{
		"no node":        {blocktree.Invalid, func(c *Config) { c.Node = 0 }},
		"no send":        {blocktree.Invalid, func(c *Config) { c.Send = nil }},
		"no clock":       {blocktree.Invalid, func(c *Config) { c.Clock = nil }},
		"not a founder":  {blocktree.Invalid, func(c *Config) { c.Dir, c.Node = "x", 9 }},
		"founder twice":  {blocktree.Invalid, func(c *Config) { c.Dir, c.Founders = "y", append(founders(1), host(1)) }},
		"eight founders": {blocktree.Invalid, func(c *Config) { c.Dir, c.Founders = "z", founders(8) }},
		"in use":         {blocktree.Busy, func(*Config) {}},
	} {
		bad := good
		x.f(&bad)
		if h, err := Open(t.Context(), bad); blocktree.KindOf(err) != x.kind {
			t.Errorf("%s: %v %v", name, h, err)
		}
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	bad := good
	bad.Node = 2
	if _, err := Open(t.Context(), bad); blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
		t.Errorf("another node's store: %v", err)
	}
}

// Calls that wait end with the context or with Close, and calls after Close fail.
func TestClose(t *testing.T) {
	g, err := Open(t.Context(), Config{Dir: "meta", FS: vfs.NewMem(), Node: 1, Founders: founders(3), Clock: &fakeClock{},
		Send: func(blocktree.NodeID, []byte) {}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := g.Sync(ctx); blocktree.KindOf(err) != blocktree.Timeout {
		t.Error(err)
	}
	if _, err := g.Propose(t.Context(), Command{Op: Remove{}}); blocktree.KindOf(err) != blocktree.Invalid {
		t.Errorf("a command without an id: %v", err)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- g.Sync(context.Background()) }()
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if err := <-waiting; blocktree.KindOf(err) != blocktree.Closed {
		t.Error(err)
	}
	if _, err := g.Stat(rootDir); blocktree.KindOf(err) != blocktree.Closed {
		t.Error(err)
	}
	if _, err := g.Propose(context.Background(), Command{ID: NewCommandID(), Op: Remove{}}); blocktree.KindOf(err) != blocktree.Closed {
		t.Error(err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}

func TestStepRefuses(t *testing.T) {
	g, err := Open(t.Context(), Config{Dir: "meta", FS: vfs.NewMem(), Node: 1, Founders: founders(3), Clock: &fakeClock{},
		Send: func(blocktree.NodeID, []byte) {}})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for _, x := range steps() {
		env := envelope{raft: x.m}
		if x.chunk {
			env = envelope{chunk: &snapshotChunk{id: 1, last: true, message: x.m}}
		}
		if err := g.Step(x.from, encodeEnvelope(&env)); (err == nil) != (x.kind == 0) || err != nil && blocktree.KindOf(err) != x.kind {
			t.Errorf("%s: %v", x.name, err)
		}
	}
	if err := g.Step(2, encodeEnvelope(&envelope{ack: &snapshotAck{1, 2}})); err != nil {
		t.Error(err)
	}
	if err := g.Step(2, []byte{formatEnvelope, 99}); blocktree.KindOf(err) != blocktree.Invalid {
		t.Error(err)
	}
}

const failSyncEnv = "BT_META_TEST_FAILED_SYNC"

// A failed sync is latched: the command is not acknowledged, nor any later one, and Fatal says so. It runs in a process of
// its own, because Pebble is then left standing.
func TestFailedSyncLatches(t *testing.T) {
	if os.Getenv(failSyncEnv) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFailedSyncLatches$", "-test.v")
		cmd.Env = append(os.Environ(), failSyncEnv+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "latched") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	var failing atomic.Bool
	if k := failedCommit(t, failFS{vfs.NewMem(), &failing}); k != blocktree.IO {
		t.Fatalf("a write whose sync failed says %v", k)
	}
	g, err := Open(t.Context(), Config{Dir: "meta", FS: failFS{vfs.NewMem(), &failing}, Node: 1, Founders: founders(1),
		Clock: &fakeClock{}, Send: func(blocktree.NodeID, []byte) {}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := g.Propose(ctx, Command{ID: NewCommandID(), Op: Found{Dir: rootDir, Generation: 1}}); err != nil {
		t.Fatal(err)
	}
	failing.Store(true)
	if r, err := g.Propose(ctx, Command{ID: NewCommandID(), Op: MakeDir{Path: path("/a")}}); blocktree.KindOf(err) != blocktree.IO {
		t.Fatalf("acknowledged: %v %v", r, err)
	}
	failing.Store(false)
	if r, err := g.Propose(ctx, Command{ID: NewCommandID(), Op: MakeDir{Path: path("/b")}}); blocktree.KindOf(err) != blocktree.IO {
		t.Fatalf("acknowledged after a failed sync: %v %v", r, err)
	}
	if err := g.Sync(ctx); blocktree.KindOf(err) != blocktree.IO {
		t.Fatal(err)
	}
	t.Log("latched:", <-g.Fatal())
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
}

// failFS fails syncs while told to.
type failFS struct {
	*vfs.MemFS
	failing *atomic.Bool
}

type failFile struct {
	vfs.File
	failing *atomic.Bool
}

func (f failFile) sync(do func() error) error {
	if f.failing.Load() {
		return os.ErrInvalid
	}
	return do()
}
func (f failFile) Sync() error     { return f.sync(f.File.Sync) }
func (f failFile) SyncData() error { return f.sync(f.File.SyncData) }

func (s failFS) Create(n string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.MemFS.Create(n, c)
	return failFile{f, s.failing}, err
}
func (s failFS) ReuseForWrite(a, b string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.MemFS.ReuseForWrite(a, b, c)
	return failFile{f, s.failing}, err
}

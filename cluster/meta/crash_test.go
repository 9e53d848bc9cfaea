package meta

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"blocktree"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/raft/v3/raftpb"
)

// syncFS calls before ahead of every sync of a file or directory.
type syncFS struct {
	*vfs.MemFS
	before func()
}

type syncFile struct {
	vfs.File
	before func()
}

func (f syncFile) Sync() error     { f.before(); return f.File.Sync() }
func (f syncFile) SyncData() error { f.before(); return f.File.SyncData() }

func (s syncFS) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return syncFile{f, s.before}, nil
}
func (s syncFS) Create(n string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return s.wrap(s.MemFS.Create(n, c))
}
func (s syncFS) OpenReadWrite(n string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return s.wrap(s.MemFS.OpenReadWrite(n, c, o...))
}
func (s syncFS) ReuseForWrite(a, b string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return s.wrap(s.MemFS.ReuseForWrite(a, b, c))
}
func (s syncFS) OpenDir(n string) (vfs.File, error) { return s.wrap(s.MemFS.OpenDir(n)) }

// crashPoint is what was acknowledged before a sync began, and what the disks of all members may hold if the power fails
// then.
type crashPoint struct {
	acked []string
	disks [3]*vfs.MemFS
	mode  string
}

// crashRun runs a workload on three members, with the leader killed half way, and takes a crash
// point at every sync and every acknowledgement.
func crashRun(t *testing.T, seed uint64, h hooks, commands int) []crashPoint {
	return crashRunOn(t, seed, h, commands, func(fs vfs.FS) vfs.FS { return fs })
}

// crashRunOn is crashRun where a member has its disk by way of on.
func crashRunOn(t *testing.T, seed uint64, h hooks, commands int, on func(vfs.FS) vfs.FS) []crashPoint {
	w := newWorld(t)
	w.hooks = h
	var mu sync.Mutex
	var acked []string
	var points []crashPoint
	rng := rand.New(rand.NewPCG(seed, 7))
	disks := [3]*vfs.MemFS{vfs.NewCrashableMem(), vfs.NewCrashableMem(), vfs.NewCrashableMem()}
	collecting := false
	crash := func() { // mu is held
		// One member loses power, or all do; of what was not synced nothing, something or everything is there.
		p := crashPoint{acked: acked[:len(acked):len(acked)]}
		victim := rng.IntN(5)
		for i, d := range disks {
			cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: 100}
			if victim > 2 || victim == i {
				cfg.UnsyncedDataPercent = []int{0, 0, 50}[rng.IntN(3)]
			}
			cfg.RNG = rng
			p.disks[i] = d.CrashClone(cfg)
			p.mode += fmt.Sprint(cfg.UnsyncedDataPercent, "% ")
		}
		points = append(points, p)
	}
	before := func() {
		mu.Lock()
		defer mu.Unlock()
		if collecting {
			crash()
		}
	}
	for i := 1; i <= 3; i++ {
		w.start(node(i), on(syncFS{disks[i-1], before}), founders(3))
	}
	w.must(Found{Dir: rootDir, Generation: 1, Runtimes: founders(3), Mode: 0o755})
	mu.Lock()
	acked, collecting = append(acked, ""), true
	mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	work := func(from, to int) {
		var wg sync.WaitGroup
		for c := range 2 {
			wg.Go(func() {
				for i := from; i < to; i++ {
					name := fmt.Sprintf("/c%d-%d", c, i)
					if _, err := w.propose(ctx, Command{ID: NewCommandID(), Op: MakeDir{Path: path(name)}}); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					acked = append(acked, name)
					crash()
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
	work(0, commands/2)
	l := w.leader()
	w.kill(l)
	w.leader()
	w.start(l, w.members[l].fs, nil)
	work(commands/2, commands)
	mu.Lock()
	defer mu.Unlock()
	collecting = false
	return points
}

// check restarts all members from a crash point and returns what is wrong with what they say then.
func (p *crashPoint) check(t *testing.T) error {
	w := newWorld(t)
	for i, d := range p.disks {
		m := &member{id: node(i + 1), fs: d, ticks: make(chan time.Time, 1)}
		g, err := Open(t.Context(), Config{Dir: "meta", FS: d, Node: m.id, Clock: &w.clock, hooks: hooks{ticks: m.ticks},
			Send: func(to blocktree.NodeID, msg []byte) { w.send(m.id, to, msg) }})
		if err != nil {
			return fmt.Errorf("member %d does not open: %w", i+1, err)
		}
		m.group = g
		w.mu.Lock()
		w.members[m.id] = m
		w.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var hs [3][32]byte
	for i := range p.disks {
		g := w.group(node(i + 1))
		if err := g.Sync(ctx); err != nil {
			return err
		}
		for _, name := range p.acked {
			if _, err := g.Stat(path(name)); err != nil {
				return fmt.Errorf("member %d lost what was acknowledged: %w", i+1, err)
			}
		}
	}
	// They agree, and each is what its log says.
	applied := w.group(w.leader()).Status().Applied
	for i := range p.disks {
		g := w.group(node(i + 1))
		w.eventually("all apply all", func() bool { return g.Status().Applied >= applied })
		hs[i] = hash(t, g)
		w.kill(node(i + 1))
	}
	if hs[0] != hs[1] || hs[1] != hs[2] {
		return fmt.Errorf("members differ")
	}
	i := len(p.acked) % 3 // they agree, so one will do
	if h, err := replayed(t, p.disks[i], node(i+1)); err != nil || h != hs[i] {
		return fmt.Errorf("member %d is not what its log says: %v", i+1, err)
	}
	return nil
}

// replayed applies a stored log to an empty state.
func replayed(t *testing.T, fs vfs.FS, id blocktree.NodeID) (sum [32]byte, err error) {
	cfg := &Config{Dir: "meta", FS: fs, Node: id, Logger: discard}
	db, err := openPebble(cfg, newFailure())
	if err != nil {
		return sum, err
	}
	defer db.Close()
	ls, err := openLogStore(db, cfg)
	if err != nil {
		return sum, err
	}
	m := newMachine(t)
	err = ls.scan(ls.truncIndex+1, func(e *pb.Entry, _ int) bool {
		if e.GetIndex() <= ls.applied.index && len(e.GetData()) > 0 {
			m.raw(e.GetIndex(), e.GetData())
		}
		return true
	})
	return m.hash(), err
}

// At every sync point of a workload the power fails, for one member or for all: nothing that was acknowledged is lost, and
// the state is the replay of the log. Logs have zeros ahead, as on disks.
func TestCrashAtEverySync(t *testing.T) {
	points := crashRunOn(t, 1, hooks{}, 14, func(fs vfs.FS) vfs.FS { return logsAhead{FS: fs, memory: true} })
	if len(points) < 50 {
		t.Fatalf("only %d syncs", len(points))
	}
	for i := range points {
		if err := points[i].check(t); err != nil {
			t.Fatalf("crash %d of %d (kept %s): %v", i, len(points), points[i].mode, err)
		}
	}
	t.Logf("%d crashes", len(points))
}

// A member that does not sync its log loses something at one of the crash points: the test above can fail.
func TestCrashMutantForgetsLogSync(t *testing.T) {
	points := crashRun(t, 1, hooks{forgetLogSync: true}, 14)
	for i := range points {
		if err := points[i].check(t); err != nil {
			t.Logf("crash %d of %d (kept %s): %v", i, len(points), points[i].mode, err)
			return
		}
	}
	t.Fatalf("the mutant survived %d crashes", len(points))
}

// durableBeforeSaid runs elections and commands, and at every message asks the disk that would be left by a power failure
// whether the sender would still stand by it. It returns the first message that a crash would belie, and how many it saw.
func durableBeforeSaid(t *testing.T, h hooks) (error, int) {
	w := newWorld(t)
	w.hooks = h
	disks := map[blocktree.NodeID]*vfs.MemFS{}
	var belied error
	seen := 0
	w.onSend = func(from, to blocktree.NodeID, msg []byte) {
		env, err := decodeEnvelope(msg)
		if err != nil {
			t.Error(err)
		}
		m := env.raft
		if m == nil || belied != nil || m.GetReject() {
			return
		}
		switch m.GetType() {
		case pb.MsgVote, pb.MsgVoteResp, pb.MsgAppResp:
			seen++
			belied = standsBy(t, from, m, disks[from].CrashClone(vfs.CrashCloneCfg{}))
		}
	}
	for i := 1; i <= 3; i++ {
		disks[node(i)] = vfs.NewCrashableMem()
	}
	for i := 1; i <= 3; i++ {
		w.start(node(i), disks[node(i)], founders(3))
	}
	w.must(Found{Dir: rootDir, Generation: 1, Runtimes: founders(3)})
	for i := range 3 {
		w.must(MakeDir{Path: path(fmt.Sprintf("/d%d", i))})
		l := w.leader()
		w.kill(l)
		w.leader()
		w.must(MakeDir{Path: path(fmt.Sprintf("/e%d", i))})
		w.start(l, disks[l], nil)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.onSend = nil
	return belied, seen
}

// standsBy opens what a crash left and compares it with what was said.
func standsBy(t *testing.T, id blocktree.NodeID, m *pb.Message, fs vfs.FS) error {
	cfg := &Config{Dir: "meta", FS: fs, Node: id, Logger: discard}
	db, err := openPebble(cfg, newFailure())
	if err != nil {
		return err
	}
	defer db.Close()
	s := &logStore{db: db}
	if ok, err := s.load(); err != nil || !ok {
		return fmt.Errorf("nothing is left: %w", err)
	}
	vote := m.GetTo()
	if m.GetType() == pb.MsgVote {
		vote = m.GetFrom()
	}
	switch {
	case s.hard.GetTerm() < m.GetTerm():
		return fmt.Errorf("%v in term %d, on disk %d", m.GetType(), m.GetTerm(), s.hard.GetTerm())
	case m.GetType() != pb.MsgAppResp && s.hard.GetTerm() == m.GetTerm() && s.hard.GetVote() != vote:
		return fmt.Errorf("%v for %d, on disk %d", m.GetType(), vote, s.hard.GetVote())
	case m.GetType() == pb.MsgAppResp && s.last < m.GetIndex():
		return fmt.Errorf("log up to %d, on disk %d", m.GetIndex(), s.last)
	}
	return nil
}

func TestDurableBeforeSaid(t *testing.T) {
	err, seen := durableBeforeSaid(t, hooks{})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 20 {
		t.Fatalf("only %d messages", seen)
	}
	t.Logf("%d messages", seen)
}

func TestDurableBeforeSaidMutants(t *testing.T) {
	for name, h := range map[string]hooks{"log": {forgetLogSync: true}, "vote": {forgetVoteSync: true}} {
		err, _ := durableBeforeSaid(t, h)
		if err == nil {
			t.Errorf("the mutant that forgets to sync the %s survived", name)
		}
		t.Logf("%s: %v", name, err)
	}
}

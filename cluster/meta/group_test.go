package meta

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/stripe"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func file(p string) CreateFile {
	return CreateFile{Path: path(p), Parents: true, SizeBytes: 1 << 30, SectorBytes: 4096, Code: blocktree.Code{Data: 1}, Mode: 0o644}
}

func TestOneMember(t *testing.T) {
	w := newWorld(t)
	w.found(1)
	made := w.must(file("/vm/disk0"))
	g := w.sync(1)
	i, err := g.Stat(path("/vm/disk0"))
	if err != nil || i.ID != made.Inode.ID || i.SizeBytes != 1<<30 {
		t.Fatal(i, err)
	}
	l, err := g.Layout(i.ID)
	if err != nil || l.Sectors != 1<<18 || len(l.Hosts) != 1 || l.Incarnations[1] != incarnation(1) {
		t.Fatal(l, err)
	}
	want := hash(t, g)
	fs := w.members[1].fs
	w.kill(1)
	g = w.start(1, fs, nil)
	if err := g.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if hash(t, g) != want {
		t.Fatal("the state changed over a restart")
	}
}

func TestThreeMembersAgree(t *testing.T) {
	w := newWorld(t)
	w.found(3)
	for i := range 50 {
		w.must(file(fmt.Sprintf("/dir%d/f%d", i%7, i)))
	}
	var hs [4][32]byte
	for i := 1; i <= 3; i++ {
		hs[i] = hash(t, w.sync(node(i)))
	}
	if hs[1] != hs[2] || hs[2] != hs[3] {
		t.Fatal("members differ")
	}
	st := w.group(w.leader()).Status()
	if len(st.Members) != 3 || st.Leader != w.leader() {
		t.Fatalf("%+v", st)
	}
	w.eventually("all heard", func() bool {
		n := 0
		for _, m := range w.group(w.leader()).Status().Members {
			if m.Recent {
				n++
			}
		}
		return n == 3
	})
}

// A follower proposes nothing and says who leads.
func TestNotLeader(t *testing.T) {
	w := newWorld(t)
	w.found(3)
	l := w.leader()
	follower := node(int(l)%3 + 1)
	w.sync(follower)
	r, err := w.group(follower).Propose(t.Context(), Command{ID: NewCommandID(), Op: MakeDir{Path: path("/x")}})
	if blocktree.KindOf(err) != blocktree.NotLeader || r.Kind != blocktree.NotLeader || r.Leader != l {
		t.Fatal(r, err)
	}
}

// Clients write and read through a lossy network while leaders are killed and come back. Every acknowledged directory must be
// seen by every later linearizable read, on every member.
func TestLeaderKilled(t *testing.T) {
	w := newWorld(t)
	w.found(3)
	w.mu.Lock()
	w.lossy = true
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var acked []string
	stop := make(chan struct{})
	for c := range 3 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				name := fmt.Sprintf("/c%d-%d", c, i)
				r, err := w.propose(ctx, Command{ID: NewCommandID(), Op: MakeDir{Path: path(name)}})
				if err != nil || r.Kind != blocktree.Other { // Exists would be a command done twice
					t.Errorf("%s: %v %v", name, r, err)
					return
				}
				mu.Lock()
				acked = append(acked, name)
				mu.Unlock()
			}
		})
		wg.Go(func() { w.readAcked(ctx, node(c+1), &mu, &acked, stop) })
	}
	for range 4 {
		l := w.leader()
		fs := w.members[l].fs
		w.kill(l)
		w.leader()
		mu.Lock()
		n := len(acked)
		mu.Unlock()
		w.eventually("progress without it", func() bool { mu.Lock(); defer mu.Unlock(); return len(acked) > n+3 })
		w.start(l, fs, nil)
	}
	close(stop)
	wg.Wait()
	w.mu.Lock()
	w.lossy = false
	w.mu.Unlock()
	for i := 1; i <= 3; i++ {
		g := w.sync(node(i))
		for _, name := range acked {
			if _, err := g.Stat(path(name)); err != nil {
				t.Fatalf("member %d: %v", i, err)
			}
		}
	}
	t.Logf("%d acknowledged", len(acked))
}

// readAcked checks that a read begun after an acknowledgement sees it.
func (w *world) readAcked(ctx context.Context, id blocktree.NodeID, mu *sync.Mutex, acked *[]string, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Millisecond):
		}
		mu.Lock()
		n := len(*acked)
		var name string
		if n > 0 {
			name = (*acked)[n-1]
		}
		mu.Unlock()
		g := w.group(id)
		if g == nil || name == "" {
			continue
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		a, err := g.Answer(short, Query{Kind: QueryStat, Path: path(name)})
		cancel()
		if err == nil && a.Kind != blocktree.Other {
			w.t.Errorf("member %v does not see %s: %v", id, name, a.Err("stat"))
			return
		}
	}
}

// A member that was away while the log was cut gets the state in chunks.
func TestLaggingFollowerGetsSnapshot(t *testing.T) {
	w := newWorld(t)
	w.hooks.truncateEntries, w.hooks.keepEntries = 50, 5
	w.found(3)
	l := w.leader()
	away := node(int(l)%3 + 1)
	fs := w.members[away].fs
	w.kill(away)
	big := file("/big")
	big.Access = make([]byte, AccessBytesMax)
	for i := range 7 { // 1.75 MiB: several chunks
		big.Path = path(fmt.Sprintf("/big%d", i))
		w.must(big)
	}
	for i := range 100 {
		w.must(file(fmt.Sprintf("/f%d", i)))
	}
	w.must(Remove{Path: path("/f7")})
	w.must(revoke(1, 10, 100))
	w.mu.Lock()
	w.lossy = true
	w.mu.Unlock()
	w.start(away, fs, nil)
	g := w.sync(away)
	if hash(t, g) != hash(t, w.sync(l)) {
		t.Fatal("members differ")
	}
	w.mu.Lock()
	reset := 0
	for _, c := range w.members[away].changes {
		if c.Reset {
			reset++
			if len(c.Revoked) != 1 || c.Revoked[0].Principal != someone(1) { // before the member says that it has applied them
				t.Errorf("OnApply hears of a snapshot with %+v revoked", c.Revoked)
			}
		}
	}
	w.mu.Unlock()
	if reset != 1 {
		t.Fatalf("%d snapshots were installed", reset)
	}
	n := 0
	if err := g.EachLayout(0, func(*stripe.Layout) bool { n++; return true }); err != nil || n != 106 {
		t.Fatal(n, err)
	}
	// It goes on from there, also after a restart.
	w.must(file("/after"))
	w.sync(away)
	w.kill(away)
	w.start(away, fs, nil)
	if _, err := w.sync(away).Stat(path("/after")); err != nil {
		t.Fatal(err)
	}
}

func TestMembers(t *testing.T) {
	w := newWorld(t)
	w.hooks.truncateEntries, w.hooks.keepEntries = 20, 2
	w.found(1)
	for i := range 30 {
		w.must(MakeDir{Path: path(fmt.Sprintf("/d%d", i))})
	}
	g := w.group(1)
	w.start(2, vfs.NewCrashableMem(), nil)
	w.start(3, vfs.NewCrashableMem(), nil)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := g.AddMember(ctx, 2, false); err != nil {
		t.Fatal(err)
	}
	if hash(t, w.sync(2)) != hash(t, w.sync(1)) {
		t.Fatal("a learner differs")
	}
	for _, id := range []blocktree.NodeID{2, 3} {
		if err := g.AddMember(ctx, id, true); err != nil {
			t.Fatal(err)
		}
		w.sync(id)
	}
	st := g.Status()
	if len(st.Members) != 3 || st.Members[1].Learner {
		t.Fatalf("%+v", st)
	}
	// Two of three go on without the founder, and after a restart know each other.
	fs2, fs3 := w.members[2].fs, w.members[3].fs
	w.kill(1)
	w.kill(2)
	w.kill(3)
	w.start(2, fs2, nil)
	w.start(3, fs3, nil)
	w.must(MakeDir{Path: path("/without")})
	l := w.leader()
	if err := w.group(l).RemoveMember(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if n := len(w.sync(l).Status().Members); n != 2 { // the leader may be another one by now, that has not applied it yet
		t.Fatalf("%d members", n)
	}
}

// Only voters count, and at most VotersMax of them.
func TestMoreThanVotersMaxLearn(t *testing.T) {
	w := newWorld(t)
	w.found(blocktree.VotersMax)
	w.start(99, vfs.NewCrashableMem(), nil)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.group(w.leader()).AddMember(ctx, 99, true); err != nil {
		t.Fatal(err)
	}
	w.sync(99)
	for _, m := range w.group(99).Status().Members {
		if m.Learner != (m.Node == 99) {
			t.Fatalf("%+v", m)
		}
	}
}

// An isolated leader acknowledges nothing and answers no read.
func TestIsolatedLeader(t *testing.T) {
	w := newWorld(t)
	w.found(3)
	l := w.leader()
	old := w.group(l)
	w.isolate(l, true)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if err := old.Sync(ctx); err == nil {
		t.Fatal("an isolated leader answered a read")
	}
	r, err := old.Propose(t.Context(), Command{ID: NewCommandID(), Op: MakeDir{Path: path("/lost")}})
	if err == nil {
		t.Fatalf("an isolated leader acknowledged: %v", r)
	}
	w.eventually("another leader", func() bool {
		for _, id := range w.ids() {
			if n, ok := w.group(id).Leader(); id != l && ok && n != l {
				return true
			}
		}
		return false
	})
	w.isolate(l, false)
	w.must(MakeDir{Path: path("/kept")})
	if _, err := w.sync(l).Stat(path("/kept")); err != nil {
		t.Fatal(err)
	}
}

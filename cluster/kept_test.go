package cluster

import (
	"context"
	"slices"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
)

// withSession is a client of a silent cluster that speaks, with a session that is open.
func withSession(t *testing.T) (*silentCluster, *Client, *session) {
	cluster := &silentCluster{t: t, done: map[meta.CommandID]meta.Result{}, speaks: true, answers: map[string]meta.Result{}}
	c := cluster.client(t)
	s := &session{id: meta.NewSessionID(), opened: make(chan struct{}), until: 1000 * time.Hour, handles: map[*Handle]struct{}{}}
	close(s.opened)
	c.session = s
	return cluster, c, s
}

// left waits until everything was given back, and returns that.
func (c *silentCluster) left(x *Client) (o meta.Leave) {
	x.mu.Lock()
	turns := []chan struct{}{}
	for _, settled := range x.settling {
		turns = append(turns, settled)
	}
	x.mu.Unlock()
	for _, settled := range turns {
		<-settled
	}
	for {
		x.mu.Lock()
		n := len(x.leaves)
		x.mu.Unlock()
		if n == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.leaves {
		o.Dirs, o.Spares = append(o.Dirs, l.Dirs...), append(o.Spares, l.Spares...)
	}
	return o
}

// TestSettlesWhatIsKept: what came of commands that nobody waits for any more is found out, and what they left is given back: a directory that is kept, spares, and a file that did not get its name; one that did loses its lease alone.
func TestSettlesWhatIsKept(t *testing.T) {
	cluster, c, s := withSession(t)
	f, dir := blocktree.FileID{Generation: 1, Inode: 9}, blocktree.FileID{Generation: 1, Inode: 8}
	cluster.answers["mkdir"] = meta.Result{Kept: true, Inode: &meta.Inode{ID: dir, Kind: meta.KindDir}}
	cluster.answers["name"] = meta.Result{Kind: blocktree.Exists}
	c.settle(blocktree.FileID{}, meta.Command{ID: meta.NewCommandID(), Op: meta.MakeDirKept{Session: s.id}})
	c.inTurn(f, func() {
		c.settleName(meta.Command{ID: meta.NewCommandID(), Op: meta.NameFile{Session: s.id, File: f, Epoch: 1, Release: true}})
	})
	if o := cluster.left(c); !slices.Equal(o.Dirs, []blocktree.FileID{dir}) || !slices.Equal(o.Spares, []blocktree.FileID{f}) {
		t.Errorf("%+v is left", o)
	}
	cluster.mu.Lock()
	cluster.answers["name"], cluster.leaves = meta.Result{Inode: &meta.Inode{ID: f, Kind: meta.KindFile}}, nil
	cluster.epoch, cluster.held = 1, true
	cluster.mu.Unlock()
	c.inTurn(f, func() {
		c.settleName(meta.Command{ID: meta.NewCommandID(), Op: meta.NameFile{Session: s.id, File: f, Epoch: 1}})
	})
	o := cluster.left(c)
	cluster.mu.Lock()
	defer cluster.mu.Unlock()
	if len(o.Dirs)+len(o.Spares) != 0 || cluster.held {
		t.Errorf("%+v is left, held %v", o, cluster.held)
	}
}

// TestOlderCluster: G7 of 0079. A cluster of a version before is asked the old way.
func TestOlderCluster(t *testing.T) {
	cluster, c, _ := withSession(t)
	cluster.older = true
	p := blocktree.RootPath(blocktree.Principal{1}).Join("d")
	if i, k, err := c.MakeDirKept(t.Context(), meta.MakeDir{Path: p}); blocktree.KindOf(err) != blocktree.Unsupported || i != nil || k != nil {
		t.Errorf("a directory: %v, %v, %v", i, k, err)
	}
	if h, err := c.Spare(t.Context(), meta.CreateFile{Path: p, SizeBytes: 1 << 20, SectorBytes: 4096, Code: blocktree.Code{Data: 1}}, 0, OpenOptions{}); blocktree.KindOf(err) != blocktree.Unsupported || h != nil {
		t.Errorf("a spare: %v, %v", h, err)
	}
}

// TestKeptEndsWithItsSession: G1 of 0079. Who keeps a directory is told when its session has ended, or what it keeps is wanted, and takes nothing for its own after its term.
func TestKeptEndsWithItsSession(t *testing.T) {
	_, c, s := withSession(t)
	told := func(k *KeptDir) bool {
		select {
		case <-k.Wanted():
			return true
		default:
			return false
		}
	}
	a, b := c.noteKept(s, 1, blocktree.FileID{Inode: 8}), c.noteKept(s, 1, blocktree.FileID{Inode: 9})
	if !a.Kept() || told(a) {
		t.Error("it is not kept")
	}
	c.noteWanted([]blocktree.FileID{{Inode: 8}, {Inode: 7}})
	if !told(a) || !a.Kept() || told(b) {
		t.Error("the wrong one is wanted, or it is kept no more")
	}
	c.mu.Lock()
	s.until = 0
	c.mu.Unlock()
	if b.Kept() {
		t.Error("the term has run out")
	}
	s.until = 1000 * time.Hour
	c.loseSession(s, blocktree.E("test", blocktree.NotFound, nil))
	if !told(b) || b.Kept() {
		t.Error("the session is gone")
	}
	b.Leave() // nothing is asked for
}

// TestGivesUpWhatIsKept: who gives up, as somebody else keeps the directory, has asked with one id all the time, and is told that nobody knows what becomes of it: a copy of it may be done when the directory is left.
func TestGivesUpWhatIsKept(t *testing.T) {
	cluster, c, s := withSession(t)
	cluster.answers["mkdir"] = meta.Result{Kind: blocktree.Busy, Kept: true, Text: "kept", Hint: "ask again"}
	cluster.answers["name"] = cluster.answers["mkdir"]
	p := blocktree.RootPath(blocktree.Principal{1}).Join("d")
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() { failed <- c.MakeDir(ctx, p, 0o755, false) }()
	for n := 0; n < 3; time.Sleep(time.Millisecond) {
		cluster.mu.Lock()
		n = len(cluster.asked)
		cluster.mu.Unlock()
	}
	cancel()
	if err := <-failed; blocktree.KindOf(err) != blocktree.Unavailable || blocktree.HintOf(err) == "" {
		t.Errorf("given up: %v", err)
	}
	if ids := cluster.asked; slices.ContainsFunc(ids, func(id meta.CommandID) bool { return id != ids[0] }) {
		t.Errorf("asked as %v", ids)
	}
	h := spareOf(c, s)
	if _, err := h.Name(ctx, &KeptDir{client: c, session: s}, meta.CreateFile{Path: p}, meta.KeyFound{}, 5); blocktree.KindOf(err) != blocktree.Unavailable || h.naming.pending == nil {
		t.Errorf("a name: %v, pending %v", err, h.naming.pending)
	}
}

// spareOf is a handle of a spare, as far as that is named.
func spareOf(c *Client, s *session) *Handle {
	h := &Handle{client: c, inode: meta.Inode{ID: blocktree.FileID{Generation: 1, Inode: 9}, Kind: meta.KindFile}, epoch: 1}
	h.naming.session = s
	h.naming.unnamed.Store(true)
	return h
}

// TestNamedThoughItWasNotHeard: a file of which nobody heard that it got its name has it: by the same command where that is remembered, and else by a refusal of a session that does not keep it as a spare any more. What it is to be beside is said of the file, not by a path at which it may be no more. One that is a spare yet has lost.
func TestNamedThoughItWasNotHeard(t *testing.T) {
	p := blocktree.RootPath(blocktree.Principal{1}).Join("d").Join("f")
	for name, x := range map[string]struct {
		answer meta.Result
		over   bool // the session's term has run out
		want   blocktree.Kind
	}{
		"remembered":            {answer: meta.Result{Inode: &meta.Inode{Kind: meta.KindFile}}},
		"removed since":         {answer: meta.Result{Kind: blocktree.Fenced}},
		"and made by another":   {answer: meta.Result{Kind: blocktree.Exists}},
		"made by another":       {answer: meta.Result{Kind: blocktree.Exists, Kept: true}, want: blocktree.Exists},
		"refused":               {answer: meta.Result{Kind: blocktree.NoSpace}, want: blocktree.NoSpace},
		"a session that is not": {answer: meta.Result{Kind: blocktree.Fenced}, over: true, want: blocktree.Fenced},
	} {
		cluster, c, s := withSession(t)
		h, k := spareOf(c, s), &KeptDir{client: c, session: s}
		o := h.nameOp(k, meta.CreateFile{Path: p}, meta.KeyFound{}, 5, false)
		h.naming.pending = &meta.Command{ID: meta.NewCommandID(), Op: o}
		cluster.answers["name"] = x.answer
		if x.over {
			s.until = 0
		}
		h.inode.Changed = 77 // when it was made as a spare
		i, err := h.Name(t.Context(), k, o.CreateFile, o.Key, 7)
		if i != nil && i.Changed != 0 {
			t.Errorf("%s: it says that it was named at %d", name, i.Changed)
		}
		if blocktree.KindOf(err) != x.want || h.Unnamed() != (err != nil) {
			t.Errorf("%s: %v, without a name %v", name, err, h.Unnamed())
		}
		if err == nil && (len(cluster.ends) != 1 || cluster.ends[0].Was != 5 || cluster.ends[0].Bytes != 7) {
			t.Errorf("%s: the end is moved by %+v", name, cluster.ends)
		}
	}
}

// TestLeavesWhatItDoesNotKnow: a directory that is wanted, and of which nobody here heard that it is kept, is left, once; an answer that comes later and says that it is kept is not believed.
func TestLeavesWhatItDoesNotKnow(t *testing.T) {
	cluster, c, s := withSession(t)
	known, stray := blocktree.FileID{Generation: 1, Inode: 8}, blocktree.FileID{Generation: 1, Inode: 9}
	k := c.noteKept(s, c.makes(s), known)
	c.noteWanted([]blocktree.FileID{known, stray})
	for range 100 {
		c.noteWanted([]blocktree.FileID{stray})
	}
	late := c.noteKept(s, s.turn, stray)
	c.made(s)
	if late.Kept() || !k.Kept() || !late.left {
		t.Errorf("kept: %v, %v", late.Kept(), k.Kept())
	}
	if o := cluster.left(c); len(o.Dirs) == 0 || len(o.Dirs) > 3 || slices.Contains(o.Dirs, known) {
		t.Errorf("%v are left", o.Dirs)
	}
	if s.gone != nil {
		t.Errorf("%v is remembered", s.gone)
	}
}

// TestWhatIsGoneIsBounded: while directories are made without a pause those that were left unknown are remembered up to a bound; beyond it no answer of before that is believed, and what it says is kept is left.
func TestWhatIsGoneIsBounded(t *testing.T) {
	cluster, c, s := withSession(t)
	id := func(n int) blocktree.FileID { return blocktree.FileID{Generation: 1, Inode: blocktree.Inode(n)} }
	slow := c.makes(s)
	for n := range 3*meta.KeptDirsPerSessionMax + 2 {
		turn := c.makes(s)
		c.noteWanted([]blocktree.FileID{id(9 + n)})
		if k := c.noteKept(s, turn, id(9+n)); !k.left {
			t.Fatalf("%d: it is believed", n)
		}
		c.made(s)
		if len(s.gone) > meta.KeptDirsPerSessionMax {
			t.Fatalf("%d are remembered", len(s.gone))
		}
	}
	if k := c.noteKept(s, c.makes(s), id(8)); !k.Kept() {
		t.Error("one that was asked for later is not kept")
	}
	if k := c.noteKept(s, slow, id(7)); k.Kept() || !k.left {
		t.Error("one that may be gone is kept")
	}
	if o := cluster.left(c); !slices.Contains(o.Dirs, id(7)) || slices.Contains(o.Dirs, id(8)) {
		t.Errorf("%d are left, not those", len(o.Dirs))
	}
}

// TestSettlesBesideOthers: of directories of which nobody heard, one that cannot be settled yet keeps no other from being left.
func TestSettlesBesideOthers(t *testing.T) {
	cluster, c, s := withSession(t)
	dir := blocktree.FileID{Generation: 1, Inode: 8}
	stuck := make(chan struct{})
	c.takeTurn(turn{command: meta.NewCommandID()}, func() { <-stuck })
	defer close(stuck)
	c.inTurn(dir, func() { <-stuck })
	cluster.answers["mkdir"] = meta.Result{Kept: true, Inode: &meta.Inode{ID: dir, Kind: meta.KindDir}}
	command := meta.Command{ID: meta.NewCommandID(), Op: meta.MakeDirKept{Session: s.id}}
	c.settle(blocktree.FileID{}, command)
	for n := 0; n == 0; time.Sleep(time.Millisecond) {
		cluster.mu.Lock()
		n = len(cluster.leaves)
		cluster.mu.Unlock()
	}
}

// TestSparesGrowStale: spares that nobody has taken for so long, and all that were made for other hosts, are given back, and none of them is taken.
func TestSparesGrowStale(t *testing.T) {
	cluster, c, s := withSession(t)
	shape := spareShape{1 << 20, 4096, blocktree.Code{Data: 1}, 0}
	file := meta.CreateFile{SizeBytes: shape.bytes, SectorBytes: shape.sector, Code: shape.code}
	id := func(n int) blocktree.FileID { return blocktree.FileID{Generation: 1, Inode: blocktree.Inode(n)} }
	of := func(n int, asked time.Duration) spare {
		return spare{meta.Result{Inode: &meta.Inode{ID: id(n)}, Lease: &meta.Lease{}}, asked}
	}
	now := c.cfg.Clock.Boot()
	p := &sparePool{batch: sparesMin, refused: now + time.Hour, used: now, free: []spare{of(1, now-SpareAge), of(2, now)}}
	s.pools = map[spareShape]*sparePool{shape: p}
	first, _, err := c.takeSpare(s, shape)
	if err != nil || first.ID() != id(2) {
		t.Fatalf("%+v, %v", first, err)
	}
	if _, _, err := c.takeSpare(s, shape); blocktree.KindOf(err) != blocktree.Unsupported {
		t.Errorf("one that is too old: %v", err)
	}
	p.free = []spare{of(7, now)}
	taken, err := c.TakeSpares(t.Context(), file, 0, 9, false)
	if err != nil || len(taken) != 1 || taken[0].ID() != id(7) {
		t.Fatalf("%v are taken: %v", taken, err)
	}
	other := file
	other.SectorBytes *= 2
	if _, err := taken[0].Use(other, 0, OpenOptions{}); blocktree.KindOf(err) != blocktree.Unsupported {
		t.Errorf("another shape: %v", err)
	}
	taken[0].Leave()
	taken[0].Leave()
	if _, err := taken[0].Use(file, 0, OpenOptions{}); blocktree.KindOf(err) != blocktree.Unsupported {
		t.Errorf("one that was left: %v", err)
	}
	p.free = []spare{of(3, now), of(4, now)}
	c.setDraining([]blocktree.NodeID{1}) // also of what was taken
	if _, err := first.Use(file, 0, OpenOptions{}); blocktree.KindOf(err) != blocktree.Unsupported || len(s.taken) > 0 {
		t.Errorf("one with places at a host that is draining: %v, %d are taken", err, len(s.taken))
	}
	p.free = []spare{of(5, now), of(6, now)}
	c.mu.Lock()
	c.confirm(s, map[meta.FirmLease]bool{{File: id(5)}: true}) // by a renewal of before the other was made
	c.mu.Unlock()
	if o := cluster.left(c); !slices.Equal(o.Spares, []blocktree.FileID{id(1), id(7), id(3), id(4), id(2), id(6)}) || len(p.free) != 1 {
		t.Errorf("%v are given back, %d are kept", o.Spares, len(p.free))
	}
}

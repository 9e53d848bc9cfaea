package cluster

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/internal/bttp"
)

// keptCluster keeps a directory for a session until it is left; then there is what is looked for.
type keptCluster struct {
	t       *testing.T
	mu      sync.Mutex
	kept    *meta.KeptBy
	refuses blocktree.Kind // what it answers to who wants it; Other: Busy, until it is left
	silent  bool           // it answers to that later: speak
	held    []*bttp.Request
	queries int
	hangs   time.Duration // how long the second query waits for its answer; the third finds that the directory was left
	wants   map[meta.CommandID]bool
}

// client is one of that cluster whose session is s.
func (c *keptCluster) client(s meta.SessionID) *Client {
	c.wants = map[meta.CommandID]bool{}
	x := newSilentClient(c.t, c.serve)
	x.session = &session{id: s, handles: map[*Handle]struct{}{}}
	x.wantFor = time.Hour
	return x
}

func (c *keptCluster) serve(r *bttp.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Code == codeQuery {
		defer r.Release()
		c.queries++
		a := meta.Answer{Kind: blocktree.NotFound, Kept: c.kept}
		if c.kept == nil {
			a = meta.Answer{Inode: &meta.Inode{ID: blocktree.FileID{Generation: 1, Inode: 9}, Kind: meta.KindDir}}
		}
		if c.hangs > 0 && c.queries == 2 {
			time.Sleep(c.hangs)
			c.kept = nil
		}
		r.Reply(nil, meta.EncodeAnswer(nil, a))
		return
	}
	command, err := meta.DecodeCommand(append([]byte(nil), r.Body...))
	if o, ok := command.Op.(meta.Want); err != nil || !ok || c.kept != nil && o.Dir != c.kept.Dir {
		c.t.Errorf("%T, %v", command.Op, err)
	}
	c.wants[command.ID] = true
	if c.held = append(c.held, r); !c.silent {
		c.speak()
	}
}

// speak answers what was not answered; mu is held.
func (c *keptCluster) speak() {
	for _, r := range c.held {
		switch {
		case c.refuses == blocktree.NewerFormat:
			r.Fail(blocktree.E("decode command", c.refuses, nil)) // as a node does that does not know it
		case c.refuses != blocktree.Other:
			r.Reply(nil, meta.EncodeResult(nil, meta.Result{Kind: c.refuses}))
		case c.kept == nil:
			r.Reply(nil, meta.EncodeResult(nil, meta.Result{}))
		default:
			c.kept = &meta.KeptBy{Dir: c.kept.Dir, Session: c.kept.Session, Wanted: true}
			r.Reply(nil, meta.EncodeResult(nil, meta.Result{Kind: blocktree.Busy, Kept: true}))
		}
		r.Release()
	}
	c.held, c.silent = nil, false
}

// asked is how many queries, and commands, were asked.
func (c *keptCluster) asked() (queries, wants int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queries, len(c.wants)
}

// TestWantsForQueries: who finds nothing in a directory that another session keeps has that told, by one command for all who do, and asks again until it is left; not what its own session keeps, and where nobody hears of it the answer is as it was.
func TestWantsForQueries(t *testing.T) {
	own, dir := meta.NewSessionID(), blocktree.FileID{Generation: 1, Inode: 8}
	look := func(ctx context.Context, x *Client) error {
		_, err := x.Stat(ctx, blocktree.RootPath(blocktree.Principal{1}).Join("f"))
		return err
	}
	for name, x := range map[string]struct {
		keeper  meta.SessionID
		refuses blocktree.Kind
		wants   int
	}{"its own": {own, 0, 0}, "where it may not": {meta.NewSessionID(), blocktree.Permission, 1}, "a version before": {meta.NewSessionID(), blocktree.NewerFormat, 1}} {
		c := &keptCluster{t: t, kept: &meta.KeptBy{Dir: dir, Session: x.keeper}, refuses: x.refuses}
		client := c.client(own)
		if err := look(t.Context(), client); blocktree.KindOf(err) != blocktree.NotFound {
			t.Errorf("%s: %v", name, err)
		}
		if q, n := c.asked(); q != 1 || n != x.wants {
			t.Errorf("%s: %d queries, %d commands", name, q, n)
		}
	}
	c := &keptCluster{t: t, kept: &meta.KeptBy{Dir: dir, Session: meta.NewSessionID()}}
	client := c.client(own)
	sharesWant(t, c, client, look)
}

// TestWantsThoughTheClusterHangs: a cluster that does not answer for a while, as it has no leader, takes nothing of the time that a keeper has to give a directory back.
func TestWantsThoughTheClusterHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // how long it takes to be answered says nothing of a busy machine
		c := &keptCluster{t: t, kept: &meta.KeptBy{Dir: blocktree.FileID{Generation: 1, Inode: 8}, Session: meta.NewSessionID()}, hangs: 4 * keptPauseMin}
		client := c.client(meta.NewSessionID())
		client.wantFor = 2 * keptPauseMin
		if _, err := client.Stat(t.Context(), blocktree.RootPath(blocktree.Principal{1}).Join("f")); err != nil {
			t.Error(err)
		}
		deaf := &keptCluster{t: t, kept: &meta.KeptBy{Dir: blocktree.FileID{Generation: 1, Inode: 8}, Session: meta.NewSessionID()}, silent: true} // to commands
		client = deaf.client(meta.NewSessionID())
		client.wantFor = 2 * keptPauseMin
		if _, err := client.Stat(t.Context(), blocktree.RootPath(blocktree.Principal{1}).Join("f")); blocktree.KindOf(err) != blocktree.NotFound {
			t.Error(err)
		}
		if q, n := deaf.asked(); q != 2 || n != 1 {
			t.Errorf("%d queries, %d commands that nobody answers", q, n)
		}
		deaf.mu.Lock()
		defer deaf.mu.Unlock()
		deaf.speak()
	})
}

// sharesWant has many look for what is not there yet.
func sharesWant(t *testing.T, c *keptCluster, client *Client, look func(context.Context, *Client) error) {
	const looks = 8
	c.silent = true
	found, gone := make(chan error, looks), make(chan error, 1)
	await := func(n int) { // who want it, or it is in vain
		for now := -1; now != n && len(gone)+len(found) == 0; time.Sleep(time.Millisecond) {
			client.mu.Lock()
			now = 0
			for _, w := range client.wants {
				now += w.waiters
			}
			if _, commands := c.asked(); commands > 2 {
				now = n
			}
			client.mu.Unlock()
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { gone <- look(ctx, client) }()
	await(1)
	cancel()
	if err := <-gone; blocktree.KindOf(err) != blocktree.Unavailable || blocktree.HintOf(err) == "" {
		t.Errorf("who gave up: %v", err)
	}
	client.mu.Lock()
	if len(client.wants) != 0 {
		t.Error("it is asked for, and nobody waits")
	}
	client.mu.Unlock()
	for range looks {
		go func() { found <- look(t.Context(), client) }()
	}
	await(looks)
	c.mu.Lock()
	c.speak()
	before := c.queries
	c.mu.Unlock()
	for q := 0; q < before+looks && len(found) == 0; time.Sleep(time.Millisecond) { // told that it is wanted, nobody says so again
		q, _ = c.asked()
	}
	c.mu.Lock()
	c.kept = nil
	c.mu.Unlock()
	for range looks {
		if err := <-found; err != nil {
			t.Error(err)
		}
	}
	if _, n := c.asked(); n > 2 { // one of them was given up
		t.Errorf("%d commands", n)
	}
}

// TestGivesUpInAnotherCluster: who gives up while somebody keeps a directory in a cluster below leaves that one for others to ask, which need nobody else for it.
func TestGivesUpInAnotherCluster(t *testing.T) {
	root := blocktree.Principal{1}
	tree := lostTree(t, root, blocktree.RootPath(root)) // nobody answers above
	c := &keptCluster{t: t, kept: &meta.KeptBy{Dir: blocktree.FileID{Generation: 1, Inode: 8}, Session: meta.NewSessionID()}, silent: true}
	below := c.client(meta.NewSessionID())
	below.cfg.Scope, below.tree = blocktree.RootPath(root).Join("d"), tree
	tree.byDir[below.cfg.Scope] = below
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	gone := make(chan error, 1)
	f := below.cfg.Scope.Join("f")
	go func() {
		_, err := tree.first.Stat(ctx, f)
		gone <- err
	}()
	for n := 0; n == 0 && len(gone) == 0; time.Sleep(time.Millisecond) {
		_, n = c.asked()
	}
	cancel()
	if err := <-gone; blocktree.KindOf(err) != blocktree.Unavailable || blocktree.HintOf(err) == "" {
		t.Errorf("who gave up: %v", err)
	}
	if tree.nearest(f, false) != below {
		t.Error("it is asked no more")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.speak()
}

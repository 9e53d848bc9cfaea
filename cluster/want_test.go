package cluster

import (
	"context"
	"sync"
	"testing"
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
	queries int
	wants   map[meta.CommandID]int
}

// client is one of that cluster whose session is s.
func (c *keptCluster) client(s meta.SessionID) *Client {
	c.wants = map[meta.CommandID]int{}
	x := newSilentClient(c.t, c.serve)
	x.session = &session{id: s, handles: map[*Handle]struct{}{}}
	return x
}

func (c *keptCluster) serve(r *bttp.Request) {
	defer r.Release()
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Code == codeQuery {
		c.queries++
		a := meta.Answer{Kind: blocktree.NotFound, Kept: c.kept}
		if c.kept == nil {
			a = meta.Answer{Inode: &meta.Inode{ID: blocktree.FileID{Generation: 1, Inode: 9}, Kind: meta.KindDir}}
		}
		r.Reply(nil, meta.EncodeAnswer(nil, a))
		return
	}
	command, err := meta.DecodeCommand(append([]byte(nil), r.Body...))
	if o, ok := command.Op.(meta.Want); err != nil || !ok || c.kept != nil && o.Dir != c.kept.Dir {
		c.t.Errorf("%T, %v", command.Op, err)
	}
	c.wants[command.ID]++
	switch {
	case c.refuses == blocktree.NewerFormat:
		r.Fail(blocktree.E("decode command", c.refuses, nil)) // as a node does that does not know it
	case c.refuses != blocktree.Other:
		r.Reply(nil, meta.EncodeResult(nil, meta.Result{Kind: c.refuses}))
	case c.kept != nil:
		r.Reply(nil, meta.EncodeResult(nil, meta.Result{Kind: blocktree.Busy, Kept: true}))
	default:
		r.Reply(nil, meta.EncodeResult(nil, meta.Result{}))
	}
}

// asked is how many queries, and commands, were asked.
func (c *keptCluster) asked() (queries, wants int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queries, len(c.wants)
}

// TestWantsForQueries: who finds nothing in a directory that another session keeps wants it, by one command for all who do, and looks again; not what its own session keeps, and where nobody hears of it the answer is as it was.
func TestWantsForQueries(t *testing.T) {
	own, dir := meta.NewSessionID(), blocktree.FileID{Generation: 1, Inode: 8}
	look := func(ctx context.Context, x *Client) error {
		_, err := x.Stat(ctx, blocktree.RootPath(blocktree.Principal{1}).Join("f"))
		return err
	}
	for name, x := range map[string]struct {
		keeper         meta.SessionID
		refuses        blocktree.Kind
		queries, wants int
	}{"its own": {own, 0, 1, 0}, "where it may not": {meta.NewSessionID(), blocktree.Permission, 2, 1}, "a version before": {meta.NewSessionID(), blocktree.NewerFormat, 2, 1}} {
		c := &keptCluster{t: t, kept: &meta.KeptBy{Dir: dir, Session: x.keeper}, refuses: x.refuses}
		if err := look(t.Context(), c.client(own)); blocktree.KindOf(err) != blocktree.NotFound {
			t.Errorf("%s: %v", name, err)
		}
		if q, n := c.asked(); q != x.queries || n != x.wants {
			t.Errorf("%s: %d queries, %d commands", name, q, n)
		}
	}
	const looks = 8
	c := &keptCluster{t: t, kept: &meta.KeptBy{Dir: dir, Session: meta.NewSessionID()}}
	client := c.client(own)
	client.wantFor = time.Hour
	found, gone := make(chan error, looks), make(chan error, 1)
	waiting := func(n int) { // or it is in vain
		for now, commands := -1, 0; now != n && commands <= 2 && len(gone)+len(found) == 0; time.Sleep(time.Millisecond) {
			_, commands = c.asked()
			client.mu.Lock()
			if now = 0; client.wants[dir] != nil {
				now = client.wants[dir].waiters
			}
			client.mu.Unlock()
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { gone <- look(ctx, client) }()
	waiting(1)
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
	waiting(looks)
	c.mu.Lock()
	c.kept = nil
	c.mu.Unlock()
	for range looks {
		if err := <-found; err != nil {
			t.Error(err)
		}
	}
	if q, n := c.asked(); q != 1+2*looks || n > 2 { // one of them was given up
		t.Errorf("%d queries, %d commands", q, n)
	}
}

package cluster

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/internal/bttp"
	"blocktree/internal/simnet"
)

// silentCluster does what it is told at once, and tells nobody before it is told to speak. Its one file has an epoch for each
// Acquire; a Release of the newest one gives the file back.
type silentCluster struct {
	t       *testing.T
	mu      sync.Mutex
	speaks  bool
	done    map[meta.CommandID]meta.Result
	epoch   blocktree.Epoch
	held    bool
	applied int
	older   bool                   // it knows none of the commands
	answers map[string]meta.Result // to what makes, or names, something
	leaves  []meta.Leave
	ends    []meta.SetEnd
	asked   []meta.CommandID // but what was done before
}

func (c *silentCluster) serve(r *bttp.Request) {
	defer r.Release()
	command, err := meta.DecodeCommand(append([]byte(nil), r.Body...))
	if err != nil {
		c.t.Error(err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.older {
		r.Fail(blocktree.E("decode command", blocktree.NewerFormat, nil)) // as a node does that does not know it
		return
	}
	result, known := c.done[command.ID]
	if !known {
		switch o := command.Op.(type) {
		case meta.Acquire:
			c.epoch++
			c.held = true
			result.Lease = &meta.Lease{File: o.File, Epoch: c.epoch, Session: o.Session}
		case meta.ReleaseEnd:
			result.Kind = blocktree.StaleView
		case meta.MakeDirKept:
			result = c.answers["mkdir"]
		case meta.NameFile:
			result = c.answers["name"]
		case meta.SetEnd:
			c.ends = append(c.ends, o)
		case meta.MakeSpares:
			result = c.answers["spares"]
		case meta.MakeDir:
			result = c.answers["mkdir"]
		case meta.Leave:
			c.leaves = append(c.leaves, o)
		case meta.CreateHeld:
			result.Kind = blocktree.Fenced
		case meta.Release:
			if result.Kind = blocktree.Fenced; o.Epoch == c.epoch {
				result.Kind, c.held = blocktree.Other, false
			}
		}
		c.asked = append(c.asked, command.ID)
		if !result.Kept || result.Kind != blocktree.Busy { // as the guard's, which is not remembered
			c.done[command.ID] = result
		}
		c.applied++
	}
	if c.speaks {
		r.Reply(nil, meta.EncodeResult(nil, result))
	}
}

// TestSettlesEveryAcquire: of two opens of one file that do not learn what came of them, neither leaves the file held.
func TestSettlesEveryAcquire(t *testing.T) {
	cluster := &silentCluster{t: t, done: map[meta.CommandID]meta.Result{}}
	c := cluster.client(t)
	file, s := blocktree.FileID{Generation: 1, Inode: 9}, &session{id: meta.NewSessionID()}
	until := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			cluster.mu.Lock()
			good := ok()
			cluster.mu.Unlock()
			if good {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: epoch %d, held %v", what, cluster.epoch, cluster.held)
			}
		}
	}
	var cancels []context.CancelFunc
	var failed []chan error
	for i := range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := c.acquire(ctx, s, file)
			done <- err
		}()
		cancels, failed = append(cancels, cancel), append(failed, done)
		until("an open does not arrive", func() bool { return cluster.applied == i+1 })
	}
	for i := range cancels {
		cancels[i]()
		if err := <-failed[i]; err == nil {
			t.Fatal("an open succeeds without an answer")
		}
	}
	cluster.mu.Lock()
	cluster.speaks = true
	cluster.mu.Unlock()
	until("the file stays held", func() bool { return !cluster.held })
}

// TestSettlesAnEnd: of a close that did not learn what came of it, and moved no end, the lease goes all the same.
func TestSettlesAnEnd(t *testing.T) {
	cluster := &silentCluster{t: t, done: map[meta.CommandID]meta.Result{}, speaks: true, held: true, epoch: 1}
	c := cluster.client(t)
	file := blocktree.FileID{Generation: 1, Inode: 9}
	c.settle(file, meta.Command{ID: meta.NewCommandID(), Op: meta.ReleaseEnd{Release: meta.Release{Session: meta.NewSessionID(), File: file, Epoch: 1}, Was: 1, Bytes: 2}})
	c.mu.Lock()
	settled := c.settling[turn{file: file}]
	c.mu.Unlock()
	if settled != nil { // else it is already
		<-settled
	}
	cluster.mu.Lock()
	defer cluster.mu.Unlock()
	if cluster.held || cluster.applied != 2 {
		t.Errorf("held %v after %d commands", cluster.held, cluster.applied)
	}
}

// TestMadeUnderNoSession: a file is not made under a session that has ended without a word: nobody uses that any more.
func TestMadeUnderNoSession(t *testing.T) {
	cluster := &silentCluster{t: t, done: map[meta.CommandID]meta.Result{}, speaks: true}
	c := cluster.client(t)
	s := &session{id: meta.NewSessionID(), opened: make(chan struct{}), until: time.Hour}
	close(s.opened)
	c.session = s
	inode, h, err := c.CreateHeld(t.Context(), meta.CreateFile{Path: blocktree.RootPath(blocktree.Principal{1}).Join("f")}, 0, 0, OpenOptions{})
	if blocktree.KindOf(err) != blocktree.Unsupported || inode != nil || h != nil || c.session != nil {
		t.Errorf("%v, %v, %v, the session %v", inode, h, err, c.session)
	}
}

// client is one that has a connection to the cluster.
func (c *silentCluster) client(t *testing.T) *Client { return newSilentClient(t, c.serve) }

// newSilentClient is a client of one node, which serves as it is told.
func newSilentClient(t *testing.T, serve bttp.HandlerFunc) *Client {
	b := newDelayBedOn(t, simnet.New(1), serve)
	q := &peer{}
	q.conn.Store(b.dial())
	x := newClient(ClientConfig{Logger: slog.New(slog.DiscardHandler), Clock: stoppedClock{}}, nil, &peers{all: map[blocktree.NodeID]*peer{1: q}})
	t.Cleanup(func() { x.cancel(); x.wg.Wait() })
	return x
}

// TestTakeOverThatIsNeverOver: who waits for a take-over is told when the handle ends first.
func TestTakeOverThatIsNeverOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &Handle{settles: make(chan struct{})}
		told := make(chan error)
		go func() { told <- h.recovered(t.Context()) }()
		synctest.Wait()
		h.end(blocktree.E("cluster", blocktree.Closed, nil))
		if err := <-told; blocktree.KindOf(err) != blocktree.Closed {
			t.Error(err)
		}
		if err := h.recovered(t.Context()); blocktree.KindOf(err) != blocktree.Closed {
			t.Error("once more:", err)
		}
	})
}

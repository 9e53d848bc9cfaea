package cluster

import (
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
	a, b := c.noteKept(s, blocktree.FileID{Inode: 8}), c.noteKept(s, blocktree.FileID{Inode: 9})
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

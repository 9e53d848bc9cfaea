package fs

import (
	"cmp"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/crypto/cred"
)

// Times of what the fake has, and requests that wait.

// entered notes that an entry of a directory changes, and returns when, which is no other time, and may be before that of an earlier change; with fake.mu.
func (c *keptFake) entered(path blocktree.Path) int64 {
	c.ticks++
	at := c.ticks ^ 1
	if n := c.nodes[path.Parent()]; n != nil && path != path.Parent() {
		n.inode.Modified, n.inode.Changed = at, at
		c.notes(n, true)
	}
	return at
}

// notes remembers what a node is like from now on, as an entry of it, or something else, was changed; with fake.mu.
func (c *keptFake) notes(n *fakeNode, entry bool) {
	if c.noted != nil {
		c.noted(n, entry)
	}
}

// lags waits, with fake.mu.
func (c *keptFake) lags(when string) {
	gate := c.gates[when]
	delete(c.gates, when)
	if c.lag == nil && gate == nil {
		return
	}
	c.mu.Unlock()
	defer c.mu.Lock()
	if gate != nil {
		<-gate
		return
	}
	c.lag()
}

// holds has a request wait at the cluster: after a question was judged ("look"), before a command is done ("do"), or attributes are changed ("alter"), or after that ("done"); until it is let go.
func (c *keptFake) holds(t *testing.T, s *Service, o *owner, when string, code uint16, r pathRequest) (goOn func() error) {
	t.Helper()
	gate, done := make(chan struct{}), make(chan error, 1)
	c.mu.Lock()
	c.gates = map[string]chan struct{}{when: gate}
	c.mu.Unlock()
	go func() { done <- does(t, s, o, code, r) }()
	synctest.Wait()
	return func() error {
		close(gate)
		return <-done
	}
}

// guard is asked, with the lock, by what changes an entry. Who asks without the keeper's word waits, as at a cluster, for who has begun to leave the directory, which takes no time of the bubble; the cluster would have him wait for longer than that, too, but
// what the service does for itself never comes to that, and is noted.
func (c *keptFake) guard(ctx context.Context, paths ...blocktree.Path) error {
	if gate := c.gate; gate != nil {
		c.mu.Unlock()
		<-gate
		c.mu.Lock()
	}
	c.commands++
	c.lags("do")
	if ctx.Value(ownKey{}) != nil {
		return nil
	}
	for {
		d, path := c.keeper(paths)
		if d == nil {
			return nil
		}
		d.want.Do(func() { close(d.wanted) })
		if !c.leaves(d) {
			c.refused = append(c.refused, path)
			return blocktree.E("fake", blocktree.Busy, nil)
		}
	}
}

// keeper is a directory that is kept and has one of some paths, or is at it, and that path; nil: none is; with fake.mu.
func (c *keptFake) keeper(paths []blocktree.Path) (*fakeDir, blocktree.Path) {
	for _, path := range paths {
		if d := cmp.Or(c.dirsKept[path.Parent()], c.dirsKept[path]); d != nil {
			return d, path
		}
	}
	return nil, ""
}

// leaves waits, with fake.mu, while anybody of the bubble does anything, for a directory to be left, and reports whether it is.
func (c *keptFake) leaves(d *fakeDir) bool {
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-d.left:
		return true
	case <-time.After(time.Nanosecond): // time passes once everybody waits
		return false
	}
}

func (c *keptFake) Look(ctx context.Context, caller cred.Identity, path blocktree.Path) (Found, error) {
	found, err := c.fake.Look(ctx, caller, path)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lags("look")
	c.answers()
	return found, err
}

// alter changes something of what an identity, or else a path, names.
func (c *keptFake) alter(path blocktree.Path, id blocktree.FileID, change func(i *meta.Inode, now int64)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.commands++
	c.lags("alter")
	for p, n := range c.nodes {
		if n.inode.ID == id || id == (blocktree.FileID{}) && p == path {
			does := func() {
				c.ticks++
				n.inode.Changed = c.ticks ^ 1
				change(&n.inode, n.inode.Changed)
				c.notes(n, false)
			}
			if c.vaguely != nil && c.vaguely() {
				c.yet.Go(func() {
					c.lag()
					c.mu.Lock()
					defer c.mu.Unlock()
					does()
				})
				return blocktree.E("fake", blocktree.Unavailable, nil)
			}
			does()
			c.answers()
			return nil
		}
	}
	return blocktree.E("fake", blocktree.NotFound, nil)
}

func (c *keptFake) SetTimes(_ context.Context, _ cred.Identity, path blocktree.Path, id blocktree.FileID, modified int64) error {
	return c.alter(path, id, func(i *meta.Inode, now int64) {
		if i.Modified = modified; modified == TimeNow {
			i.Modified = now
		}
	})
}

func (c *keptFake) SetXattr(_ context.Context, _ cred.Identity, path blocktree.Path, id blocktree.FileID, _ string, _ []byte, _ SetHow) error {
	return c.alter(path, id, func(*meta.Inode, int64) {})
}

func (c *keptFake) RemoveXattr(_ context.Context, _ cred.Identity, path blocktree.Path, id blocktree.FileID, _ string) error {
	return c.alter(path, id, func(*meta.Inode, int64) {})
}

package cluster

import (
	"context"
	"errors"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
)

// Below is what the cluster that keeps a directory's inode says of the cluster in it: which one, nil if there is none, and the process records of the runtimes directly in it. NotFound (no
// such directory), Permission, Unavailable.
func (c *Client) Below(ctx context.Context, dir blocktree.Path) (*meta.Delegation, []blocktree.Runtime, error) {
	a, err := c.query(ctx, meta.Query{Kind: meta.QueryBelow, Path: dir})
	if err == nil && a.Inode == nil {
		err = blocktree.E("cluster.Below", blocktree.Corrupt, errors.New("the cluster's answer makes no sense"))
	}
	if err != nil {
		return nil, nil, &blocktree.Error{Op: "cluster.Below", Path: dir.Short(), Err: err}
	}
	return a.Inode.Delegation, a.Runtimes, nil
}

// Claim has the cluster of a directory founded by the client's own store, and returns who founds it: that, or who was first. It may be asked again. Kinds: Permission (the client is no sector
// host there), NotFound, Unavailable.
func (c *Client) Claim(ctx context.Context, dir blocktree.Path, store blocktree.NodeID) (meta.Delegation, error) {
	r, err := c.change(ctx, "found", dir, meta.AssignGeneration{Dir: dir, Founder: store})
	if err != nil {
		return meta.Delegation{}, err
	}
	r, err = c.propose(ctx, meta.Delegate{Dir: dir, Generation: r.Generation, Founder: store})
	if err == nil && (r.Kind != blocktree.Exists || r.Inode == nil || r.Inode.Delegation == nil) {
		err = r.Err("found")
	}
	if err == nil && (r.Inode == nil || r.Inode.Delegation == nil) {
		err = blocktree.E("found", blocktree.Corrupt, errors.New("the cluster's answer makes no sense"))
	}
	if err != nil {
		return meta.Delegation{}, &blocktree.Error{Op: "cluster.Claim", Path: dir.Short(), Err: err}
	}
	return *r.Inode.Delegation, nil
}

// takeBackAsk bounds the question whether a cluster answers for a directory that is to be taken back.
const takeBackAsk = 5 * time.Second

// TakeBack has the cluster that keeps a directory's inode keep what is in it, too, again, where the cluster in it has never answered and all is there still (docs/design/0056). It returns the sector hosts whose
// records are removed by that. Kinds: NotFound (no such directory), Invalid (no cluster in it), Busy (it has answered, or may have), Permission (not user id 0), Unavailable.
func (c *Client) TakeBack(ctx context.Context, dir blocktree.Path) ([]blocktree.Runtime, error) {
	d, records, err := c.Below(ctx, dir)
	if err == nil && d == nil {
		err = &blocktree.Error{Op: "cluster", Kind: blocktree.Invalid, Err: errors.New("no other cluster has it"), Hint: "nothing has to be taken back"}
	}
	if err == nil {
		err = c.silent(ctx, dir)
	}
	if err == nil {
		_, err = c.change(ctx, "take back", dir, meta.TakeBack{Dir: dir, Generation: d.Generation})
	}
	if err != nil {
		return nil, &blocktree.Error{Op: "take back", Path: dir.Short(), Err: err}
	}
	return sectorHosts(records), nil
}

// silent refuses where a cluster answers for what is in a directory.
func (c *Client) silent(ctx context.Context, dir blocktree.Path) error {
	ctx, cancel := context.WithTimeout(ctx, takeBackAsk)
	defer cancel()
	_, err := c.query(ctx, meta.Query{Kind: meta.QueryList, Path: dir, Limit: 1})
	if err == nil {
		err = &blocktree.Error{Op: "cluster", Kind: blocktree.Busy, Err: errors.New("its cluster answers"), Hint: "it has what is in the directory; a node of it that lost its disk is replaced: btnode node replace"}
	} else if kind := blocktree.KindOf(err); kind == blocktree.Unavailable || kind == blocktree.Timeout || kind == blocktree.Undeliverable {
		return nil
	}
	return err
}

// MayTakeBack reports whether TakeBack would: nil if so. Whoever is a sector host in the directory may ask.
func (c *Client) MayTakeBack(ctx context.Context, dir blocktree.Path, g blocktree.Generation) error {
	_, err := c.change(ctx, "take back", dir, meta.TakeBack{Dir: dir, Generation: g, Try: true})
	return err
}

// AddNode adds or replaces the process record of a runtime in a directory. Kinds: those of meta.PutBelow.
func (c *Client) AddNode(ctx context.Context, r blocktree.Runtime) error {
	_, err := c.change(ctx, "add", r.Path, meta.PutBelow{Runtime: r})
	return err
}

// NewStore draws a store's id.
func NewStore() blocktree.NodeID { return newStore() }

// RemoveRecord removes the process record of a node that has left its cluster, where the directory above keeps one. There is none in the root directory.
func (c *Client) RemoveRecord(ctx context.Context, path blocktree.Path) error {
	if path.Parent() == blocktree.RootPath(path.Root()) {
		return nil
	}
	r, err := c.propose(ctx, meta.RemoveBelow{Path: path})
	if err == nil && r.Kind != blocktree.NotFound {
		err = r.Err("cluster")
	}
	if err != nil {
		return &blocktree.Error{Op: "remove", Path: path.Short(), Err: err}
	}
	return nil
}

package cluster

import (
	"context"
	"errors"
	"slices"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/internal/bttp"
)

// Allowed describes the file or directory at path, and what the client may do with it. NotFound, Permission.
func (c *Client) Allowed(ctx context.Context, path blocktree.Path) (*meta.Inode, *meta.Allowed, error) {
	return c.AllowedTo(ctx, path, nil)
}

// AllowedTo is Allowed for a caller that a sector host speaks for; of who is none the caller is itself. nil: itself.
func (c *Client) AllowedTo(ctx context.Context, path blocktree.Path, caller *meta.Caller) (*meta.Inode, *meta.Allowed, error) {
	return c.allowed(ctx, meta.Query{Kind: meta.QueryAllowed, Path: path, Caller: caller})
}

// StatFor is Stat for who wants rights on it: Permission, and who took them away, without them.
func (c *Client) StatFor(ctx context.Context, path blocktree.Path, want meta.Rights) (*meta.Inode, error) {
	i, _, err := c.allowed(ctx, meta.Query{Kind: meta.QueryAllowed, Path: path, Want: want})
	return i, err
}

func (c *Client) allowed(ctx context.Context, q meta.Query) (*meta.Inode, *meta.Allowed, error) {
	a, err := c.query(ctx, q)
	if err == nil {
		err = checkAllowed(&a)
	}
	if err != nil {
		of := q.File.String()
		if q.Path != "" {
			of = q.Path.Short()
		}
		return nil, nil, &blocktree.Error{Op: "cluster.Allowed", Path: of, Err: err}
	}
	return a.Inode, a.Allowed, nil
}

// checkAllowed refuses what no cluster would answer.
func checkAllowed(a *meta.Answer) error {
	if a.Allowed == nil {
		return blocktree.E("access", blocktree.Corrupt, errors.New("the cluster's answer makes no sense"))
	}
	return checkInode(a.Inode)
}

// MakeDir makes a directory, and with parents those above it. Exists, NotFound, Invalid, Permission.
func (c *Client) MakeDir(ctx context.Context, path blocktree.Path, mode uint32, parents bool) error {
	r, err := c.proposeOnceStarted(ctx, meta.MakeDir{Path: path, Parents: parents, Mode: mode, Time: c.cfg.Clock.Now().UnixNano()})
	return changed("mkdir", path, r, err)
}

// change proposes an op about path.
func (c *Client) change(ctx context.Context, what string, path blocktree.Path, op meta.Op) (meta.Result, error) {
	r, err := c.propose(ctx, op)
	return r, changed(what, path, r, err)
}

// changed is the error of what was proposed about path.
func changed(what string, path blocktree.Path, r meta.Result, err error) error {
	if err == nil {
		err = r.Err("cluster")
	}
	if err != nil {
		return &blocktree.Error{Op: what, Path: path.Short(), Err: err}
	}
	return nil
}

// SetMode gives the file or directory at path another mode, and returns what nodes have applied that. NotFound, Permission, Invalid.
func (c *Client) SetMode(ctx context.Context, path blocktree.Path, mode uint32) (Applied, error) {
	return c.changeRights(ctx, "chmod", path, func(i *meta.Inode) meta.Op {
		return meta.SetAttr{File: i.ID, Mask: meta.AttrMode, Mode: mode}
	})
}

// SetModeOf is SetMode of the file or directory that is or was at path, whatever its name is by now.
func (c *Client) SetModeOf(ctx context.Context, path blocktree.Path, file blocktree.FileID, mode uint32) (Applied, error) {
	inode, err := c.StatID(ctx, file)
	if err != nil {
		return Applied{}, err
	}
	return c.changeRightsOf(ctx, "chmod", path, inode, meta.SetAttr{File: inode.ID, Mask: meta.AttrMode, Mode: mode})
}

// SetOwner gives it another owner and group; nil: the one that it has. As SetMode.
func (c *Client) SetOwner(ctx context.Context, path blocktree.Path, uid, gid *uint32) (Applied, error) {
	return c.changeRights(ctx, "chown", path, func(i *meta.Inode) meta.Op {
		o := meta.SetAttr{File: i.ID, Mask: meta.AttrOwner, UID: i.UID, GID: i.GID}
		if uid != nil {
			o.UID = *uid
		}
		if gid != nil {
			o.GID = *gid
		}
		return o
	})
}

// Grant gives a subject rights on it, in place of those that it was given there. As SetMode, and NoSpace (meta.GrantsMax).
func (c *Client) Grant(ctx context.Context, path blocktree.Path, g meta.Grant) (Applied, error) {
	return c.changeRights(ctx, "grant", path, func(i *meta.Inode) meta.Op { return meta.PutGrant{File: i.ID, Grant: g} })
}

// Revoke takes what a subject was given on it. As SetMode; NotFound also where it was given nothing there.
func (c *Client) Revoke(ctx context.Context, path blocktree.Path, from meta.Subject) (Applied, error) {
	return c.changeRights(ctx, "revoke", path, func(i *meta.Inode) meta.Op { return meta.RemoveGrant{File: i.ID, Subject: from} })
}

// Applied says where a change of rights is in force.
type Applied struct {
	Nodes   []blocktree.Path // that have applied it: they go by it from now on
	Missing []blocktree.Path // that have not said so
	// Until is when one of Missing that hears of no leader stops serving who reads by what it has applied, at the latest; zero without Missing.
	// Somebody who holds a file it may go on to serve until it hears of the change; what it has cannot be changed without the others.
	Until time.Time
	// Beneath are the clusters beneath a directory, to any depth; with More there are others, which were not asked.
	Beneath []Beneath
	More    bool
}

func (c *Client) changeRights(ctx context.Context, what string, path blocktree.Path, op func(*meta.Inode) meta.Op) (Applied, error) {
	inode, err := c.Stat(ctx, path)
	if err != nil {
		return Applied{}, err
	}
	return c.changeRightsOf(ctx, what, path, inode, op(inode))
}

func (c *Client) changeRightsOf(ctx context.Context, what string, path blocktree.Path, inode *meta.Inode, op meta.Op) (Applied, error) {
	r, err := c.change(ctx, what, path, op)
	if err == nil {
		c, err = c.HomeOf(ctx, inode.ID)
	}
	if err != nil {
		return Applied{}, err
	}
	out := c.awaitApplied(ctx, r.Index)
	if inode.Kind == meta.KindDir {
		out.Beneath, out.More = c.awaitLevel(ctx, path)
	}
	return out, nil
}

const (
	// appliedWait is how long a node is asked whether it has applied something: one that is up has in milliseconds.
	appliedWait = 2 * time.Second
	// appliedPauseMin and appliedPauseMax lie between two such questions: who follows applies what the leader has within a message.
	appliedPauseMin, appliedPauseMax = time.Millisecond, 20 * time.Millisecond
	// leaderless is how long after it was cut off a node may still believe that it hears of a leader.
	leaderless = 3 * blocktree.RaftElectionTicks * blocktree.RaftTick
)

// awaitApplied asks every node whether it has applied the log up to an index. One that was away for as long as it would be waited for is not waited for: that was done by those before.
func (c *Client) awaitApplied(ctx context.Context, index uint64) Applied {
	begun := c.cfg.Clock.Now()
	nodes, away := c.peers.nodes(), c.peers.silentFor(appliedWait)
	done := make([]bool, len(nodes))
	ctx, cancel := context.WithTimeout(ctx, appliedWait)
	defer cancel()
	ended := make(chan struct{}, len(nodes))
	for i, n := range nodes {
		go func() {
			defer func() { ended <- struct{}{} }()
			for pause := appliedPauseMin; ; pause = min(2*pause, appliedPauseMax) {
				conn := c.peers.conn(n)
				if done[i] = conn != nil && hasApplied(ctx, conn, n, index); done[i] || conn == nil && slices.Contains(away, n) {
					return
				}
				select {
				case <-ctx.Done():
					return
				case <-time.After(pause):
				}
			}
		}()
	}
	for range nodes {
		<-ended
	}
	var out Applied
	for i, n := range nodes {
		path := c.peers.runtime(n).Path
		if done[i] {
			out.Nodes = append(out.Nodes, path)
		} else {
			out.Missing = append(out.Missing, path)
		}
	}
	slices.Sort(out.Nodes)
	slices.Sort(out.Missing)
	if len(out.Missing) > 0 {
		out.Until = begun.Add(blocktree.PassTerm + leaderless)
	}
	return out
}

// hasApplied asks a node how far it has applied the log.
func hasApplied(ctx context.Context, conn *bttp.Conn, node blocktree.NodeID, index uint64) bool {
	r, err := conn.CallWait(ctx, codeQuery, nil, meta.EncodeQuery(nil, meta.Query{Kind: meta.QueryStatus}))
	if err != nil {
		return false
	}
	defer r.Release()
	a, err := meta.DecodeAnswer(r.Body)
	return err == nil && a.Status != nil && a.Status.Node == node && a.Status.Applied >= index
}

// rightsCheckPause lies between two questions of a handle or reader whether it may still what a node refuses it.
const rightsCheckPause = time.Second

// lostRight asks the cluster whether the client still has want on a file, because a node has refused it. It returns the error to end with, nil if it has, or
// nobody says: the word of one node ends nothing.
func (c *Client) lostRight(ctx context.Context, path blocktree.Path, file blocktree.FileID, want meta.Rights) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, err := c.query(ctx, meta.Query{Kind: meta.QueryAllowed, File: file, Want: want})
	if blocktree.KindOf(err) != blocktree.Permission {
		return nil
	}
	return &blocktree.Error{Op: "cluster", Path: path.Short(), Err: err}
}

package cluster

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/internal/bttp"
)

const (
	// aboveInterval is how often who has the uplink of a child asks its parent what is above, and who its sector hosts are to be: a right that is taken away above is gone below by then.
	aboveInterval = time.Second
	// membersWait is how long a child that has everything waits for others to join before its parent drops what it has of it: until then the founder's disk is the only one with the names.
	membersWait = 30 * time.Second
	// membersWanted is how many voters are enough for that, where so many have records.
	membersWanted = 3
)

// parentLink is what a child says to its parent, and is told, on its uplink: by the one member that has that.
type parentLink struct {
	s      *Service
	client *Client    // nil: to be made
	conn   *bttp.Conn // the uplink that it is of
}

// followParent keeps a child as its parent says (docs/design/0033). It ends at once in a cluster that has none.
func (s *Service) followParent() {
	u := &parentLink{s: s}
	defer u.drop()
	for {
		sb, err := s.group.Superblock()
		if err == nil && !sb.Child {
			return
		}
		if up := s.uplinks.up.Load(); up != u.conn {
			u.drop()
			u.conn = up
		}
		if err == nil && u.conn != nil {
			err = u.turn(sb)
		}
		if err != nil && s.ctx.Err() == nil {
			s.cfg.Logger.Debug("the parent cluster says nothing", "directory", s.cfg.Directory.Short(), "err", err)
		}
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(aboveInterval):
		}
	}
}

// drop gives the client up.
func (u *parentLink) drop() {
	if u.client != nil {
		_ = u.client.Close() // it holds nothing
		u.client = nil
	}
}

// parent is the client of the parent: of the one runtime of it that the uplink leads to, which redirects where another cluster has become nearer.
func (u *parentLink) parent() (*Client, error) {
	if u.client != nil {
		return u.client, nil
	}
	s, peer := u.s, u.conn.Peer()
	c := newClient(ClientConfig{Path: s.cfg.Path, Root: s.cfg.Root, Key: s.cfg.Key, Logger: s.cfg.Logger, Clock: s.cfg.Clock, Scope: peer.Path.Parent(), SpareAfter: s.cfg.SpareAfter}, s.endpoint,
		newPeers(s.endpoint, s.cfg.Logger))
	c.tree = newTree(c, s.routes)
	c.keeps = true
	c.peers.only(blocktree.Runtime{Path: peer.Path, Principal: peer.Principal, Node: 1}, u.conn) // its store does not matter: nothing is written to it
	u.client = c
	return c, nil
}

// turn asks the parent once, and does what follows.
func (u *parentLink) turn(sb *meta.Superblock) error {
	c, err := u.parent()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(u.s.ctx, 2*askTimeout)
	defer cancel()
	d, records, err := c.Below(ctx, sb.Dir)
	if err != nil {
		return err
	}
	if disowned, ends := disowns(sb, d); ends {
		return u.s.disowned(sb, d)
	} else if disowned {
		return &blocktree.Error{Op: "cluster", Path: sb.Dir.Short(), Kind: blocktree.Invalid, Err: errors.New("the parent names another cluster for the directory than this one, which serves on"),
			Hint: "a node of the directory above lies, or went back in time"}
	}
	if err := u.above(ctx, c); err != nil { // of which it is told as a sector host of the directory, which it may be no more
		return err
	}
	switch sb.Taking {
	case meta.TakingEntries:
		return u.take(c, sb)
	case meta.TakingAnswers:
		if err := u.adopt(ctx, records); err != nil {
			return err
		}
		return u.finish(c, sb, d, records)
	}
	return u.adopt(ctx, records)
}

// disowns reports whether by what the parent says another cluster has the directory, and whether the node ends because of that: one that serves does not, as whoever says so is one node,
// and others hold on to what it has.
func disowns(sb *meta.Superblock, d *meta.Delegation) (disowned, ends bool) {
	disowned = d == nil || d.Generation != sb.Generation || sb.Taking == meta.TakingEntries && d.HandedOver
	return disowned, disowned && sb.Taking != meta.TakingNothing
}

// disowned ends a node whose cluster the parent does not know: its store was made anew after the cluster had been handed its directory, or that was taken back.
func (s *Service) disowned(sb *meta.Superblock, d *meta.Delegation) error {
	err := &blocktree.Error{Op: "cluster", Path: sb.Dir.Short(), Kind: blocktree.Invalid, Err: errors.New("the directory was handed over to another cluster than this store's"),
		Hint: "this store is not the one that founded the cluster: put that back, or give the node another one (btnode node replace)"}
	if d == nil {
		err.Err, err.Hint = errors.New("the directory was taken back from the cluster of this store, which is of no use any more"),
			"if the directory above has what was in it (btnode ls "+sb.Dir.Short()+"), move the store's directory away, and add the node with another store: btnode node add "+s.cfg.Path.Short()+" draws its id; else one node above lies: keep the store, and start the node again"
	}
	s.fail(err)
	return err
}

// above notes what is above, if it is news.
func (u *parentLink) above(ctx context.Context, c *Client) error {
	a, err := c.query(ctx, meta.Query{Kind: meta.QueryAbove, Path: u.s.cfg.Directory})
	if err != nil {
		return err
	}
	if a.Above == nil {
		return blocktree.E("above", blocktree.Corrupt, errors.New("the cluster's answer makes no sense"))
	}
	old, err := u.s.group.Above()
	if err != nil {
		return err
	}
	if old != nil {
		same := *old
		if same.Number = a.Above.Number; reflect.DeepEqual(&same, a.Above) {
			return nil
		}
	}
	r, err := u.s.client.propose(ctx, meta.SetAbove{Above: *a.Above})
	if err == nil && r.Kind != blocktree.StaleView {
		err = r.Err("above")
	}
	return err
}

// adopt adds the sector hosts that the parent has records of and this cluster never had, and takes new addresses over.
func (u *parentLink) adopt(ctx context.Context, records []blocktree.Runtime) error {
	own, err := u.s.group.Runtimes()
	if err != nil {
		return err
	}
	for _, r := range sectorHosts(records) {
		i := slices.IndexFunc(own, func(x blocktree.Runtime) bool { return x.Path == r.Path })
		switch {
		case i >= 0 && own[i].Principal == r.Principal && (!hasAll(own[i].Endpoints, r.Endpoints) || !slices.Equal(own[i].Services, r.Services)):
			r.Node = own[i].Node // which store it has is this cluster's
		case i >= 0:
			continue
		default:
			if slices.ContainsFunc(own, func(x blocktree.Runtime) bool { return x.Node == r.Node }) {
				continue
			}
			if _, err := u.s.group.Start(r.Node); err == nil { // it was removed
				continue
			}
		}
		result, err := u.s.client.propose(ctx, meta.PutRuntime{Runtime: r})
		if err == nil {
			err = result.Err("adopt")
		}
		if err != nil {
			return err
		}
		u.s.cfg.Logger.Info("a node was added", "node", r.Path.Short(), "store", r.Node.String())
	}
	return nil
}

// hasAll reports whether a record has the addresses that the parent's has. Where the node itself has said that it is elsewhere, others stand behind them.
func hasAll(own, wanted []string) bool {
	return len(own) >= len(wanted) && slices.Equal(own[:len(wanted)], wanted)
}

// take takes every entry over, and says so, here and to the parent.
func (u *parentLink) take(c *Client, sb *meta.Superblock) error {
	if err := u.takeDir(c, sb.Dir); err != nil {
		return err
	}
	if err := u.handOver(c, sb, true); err != nil {
		return err
	}
	u.s.cfg.Logger.Info("the cluster has every entry of its directory", "directory", sb.Dir.Short())
	if err := u.own(meta.EndTaking{}); err != nil {
		return err
	}
	return u.handOver(c, sb, false)
}

// handOver says which entries the cluster has, and has the parent's group, which no single one of its nodes is, compare them with its own. Where they are others, another node of the parent is asked
// for them from now on: what is missing is added.
func (u *parentLink) handOver(c *Client, sb *meta.Superblock, try bool) error {
	sum, err := u.s.group.EntriesSum()
	if err != nil {
		return err
	}
	err = u.ask(c, meta.HandOverSum{Dir: sb.Dir, Generation: sb.Generation, Sum: sum, Try: try, Drops: !try})
	if blocktree.KindOf(err) == blocktree.Corrupt {
		u.s.cfg.Logger.Error("the entries that the cluster was given are not those of the directory above, which has them still", "directory", sb.Dir.Short(),
			"by", u.conn.Peer().Path.Short(), "err", err, "hint", blocktree.HintOf(err))
		_ = u.conn.Close()
	}
	return err
}

// own and ask have the cluster itself, and the parent, do something.
func (u *parentLink) own(op meta.Op) error { return u.ask(u.s.client, op) }

func (u *parentLink) ask(c *Client, op meta.Op) error {
	ctx, cancel := context.WithTimeout(u.s.ctx, 2*askTimeout)
	defer cancel()
	r, err := c.propose(ctx, op)
	if err == nil {
		err = r.Err("take over")
	}
	return err
}

// entries asks the parent for entries after a name.
func (u *parentLink) entries(c *Client, dir blocktree.Path, after string, limit int) (meta.Answer, error) {
	ctx, cancel := context.WithTimeout(u.s.ctx, 2*askTimeout)
	defer cancel()
	return c.query(ctx, meta.Query{Kind: meta.QueryTake, Path: dir, After: after, Limit: limit})
}

// takeDir takes over what is in a directory. What is there from before stays.
func (u *parentLink) takeDir(c *Client, dir blocktree.Path) error {
	for after := ""; ; {
		a, err := u.entries(c, dir, after, 0)
		if err != nil || len(a.Taken) == 0 {
			return err
		}
		if err := u.own(meta.TakeEntries{Dir: dir, Entries: a.Taken, Below: a.Runtimes}); err != nil {
			return err
		}
		for _, x := range a.Taken {
			if x.Inode.Kind == meta.KindDir && x.Inode.Delegation == nil {
				if err := u.takeDir(c, dir.Join(x.Name)); err != nil {
					return err
				}
			}
		}
		last := a.Taken[len(a.Taken)-1].Name
		if !a.More || last <= after {
			return nil
		}
		after = last
	}
}

// finish has the parent drop what has moved, once others have it too, and the cluster answer.
func (u *parentLink) finish(c *Client, sb *meta.Superblock, d *meta.Delegation, records []blocktree.Runtime) error {
	if !d.HandedOver { // it was cut off before it could say so
		return u.handOver(c, sb, false)
	}
	voters := 0
	for _, m := range u.s.group.Status().Members {
		if !m.Learner {
			voters++
		}
	}
	if voters < min(membersWanted, len(sectorHosts(records))) && u.s.waited() < membersWait {
		return nil
	}
	for { // also where there is nothing: from the first on the directory is not taken back any more, and before it nobody answers
		if err := u.ask(c, meta.DropMoved{Dir: sb.Dir, Generation: sb.Generation}); err != nil {
			return err
		}
		a, err := u.entries(c, sb.Dir, "", 1)
		if err != nil {
			return err
		}
		if len(a.Taken) == 0 {
			break
		}
	}
	if err := u.own(meta.EndTaking{Answer: true}); err != nil {
		return err
	}
	u.s.cfg.Logger.Info("the cluster answers for its directory", "directory", sb.Dir.Short())
	return nil
}

// waited is how long the service has run.
func (s *Service) waited() time.Duration { return s.cfg.Clock.Boot() - s.begun }

// founding is the first command of the cluster.
func (s *Service) founding() meta.Op {
	o := meta.Found{Dir: s.cfg.Directory, Generation: 1, Runtimes: s.cfg.Members, Mode: 0o755, Time: s.cfg.Clock.Now().UnixNano()}
	if s.cfg.Records != nil {
		o.Runtimes = s.cfg.Records
	}
	if s.cfg.Generation == 0 {
		return o
	}
	o.Generation = s.cfg.Generation
	return meta.FoundChild{Found: o}
}

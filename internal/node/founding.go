package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/internal/bttp"
)

const (
	// foundAgain is the pause before a node asks once more whether it may found its cluster, or join it.
	foundAgain = time.Second
	// foundTimeout bounds one such question, and foundToldEvery how often the log says what is waited for.
	foundTimeout   = 10 * time.Second
	foundToldEvery = 30 * time.Second
)

// findCluster finds out, for a node whose configuration lists no members, which cluster it is in: one that it was in before, one that it joins, or one that it founds (docs/design/0033). It blocks until it
// knows, or ctx ends. Of a store that is there already nobody is asked.
func (c *Config) findCluster(ctx context.Context) error {
	known, there, err := loadCluster(c.FS, c.StoreDir)
	if err != nil {
		return err
	}
	if there && !empty(c.FS, c.StoreDir) {
		if known.directory != c.Directory {
			return &blocktree.Error{Op: "node.Open", Path: c.StoreDir, Kind: blocktree.Invalid, Err: fmt.Errorf("the store is of the cluster of %s", known.directory.Short()),
				Hint: "cluster.directory in the config must be that of the store"}
		}
		c.in(known)
		return nil
	}
	var told time.Time
	for {
		known, why := c.settleBelow(ctx)
		switch kind := blocktree.KindOf(why); {
		case why == nil:
			if err := c.makeDir(); err != nil {
				return err
			}
			if err := known.save(c.FS, c.StoreDir); err != nil {
				return &blocktree.Error{Op: "node.Open", Path: c.StoreDir, Err: err, Hint: "the node needs a directory that it may write to"}
			}
			c.in(known)
			return nil
		case ctx.Err() != nil, kind != blocktree.Unavailable && kind != blocktree.Timeout:
			return why
		}
		if time.Since(told) >= foundToldEvery {
			told = time.Now()
			c.Logger.Info("waiting for the cluster of the directory", "directory", c.Directory.Short(), "why", why, "hint", blocktree.HintOf(why))
		}
		select {
		case <-ctx.Done():
			return why
		case <-time.After(foundAgain):
		}
	}
}

// in makes the node one of a cluster.
func (c *Config) in(k clusterOf) {
	c.generation, c.Members = 0, slices.Clone(k.members)
	if k.founder {
		c.generation = k.generation
	}
	if a, ok, err := loadAssigned(c.FS, c.StoreDir); ok && err == nil { // the members know it by that id
		for i := range c.Members {
			if c.Members[i].Path == c.Path && c.Members[i].Node == a.id {
				c.Members[i].Node = c.StoreID
			}
		}
	}
	if !slices.ContainsFunc(c.Members, func(r blocktree.Runtime) bool { return r.Path == c.Path }) {
		c.Members = append(c.Members, c.self())
	}
	c.known = &k
}

// self is the node's own process record, as the configuration has it.
func (c *Config) self() blocktree.Runtime {
	return blocktree.Runtime{Path: c.Path, Principal: c.Key.Principal(), Node: c.StoreID, Endpoints: []string{c.Listen}, Services: []string{blocktree.ServiceSector}}
}

// settleBelow asks once whether the node founds the cluster of its directory, or joins it. Unavailable: ask again.
func (c *Config) settleBelow(ctx context.Context) (k clusterOf, err error) {
	ctx, cancel := context.WithTimeout(ctx, foundTimeout)
	defer cancel()
	client, err := c.dialSeeds(ctx)
	if err != nil {
		return k, err
	}
	defer client.Close()
	d, records, err := client.Below(ctx, c.Directory)
	if err != nil {
		return k, err
	}
	i := slices.IndexFunc(records, func(r blocktree.Runtime) bool { return r.Path == c.Path })
	bad := func(kind blocktree.Kind, hint, format string, args ...any) error {
		return &blocktree.Error{Op: "node.Open", Path: c.Path.Short(), Kind: kind, Err: fmt.Errorf(format, args...), Hint: hint}
	}
	switch {
	case i < 0:
		return k, bad(blocktree.Invalid, "add it: btnode node add "+c.Path.Short()+" (with --principal, --store and --endpoint)", "%s has no process record of this node", c.Directory.Short())
	case records[i].Principal != c.Key.Principal():
		return k, bad(blocktree.Unauthenticated, "use the node's key, or add it again with this one's principal", "the process record names another key")
	}
	own := records[i]
	if d == nil {
		if own.Node != c.StoreID {
			return k, bad(blocktree.Invalid, "write the same id in both places", "store.id is %v, but the process record says %v", c.StoreID, own.Node)
		}
		won, err := client.Claim(ctx, c.Directory, c.StoreID)
		if err != nil {
			return k, err
		}
		d = &won
	}
	switch {
	case d.Founder == c.StoreID && !d.HandedOver:
		return clusterOf{c.Directory, d.Generation, true, []blocktree.Runtime{own}}, nil
	case !d.HandedOver:
		return k, bad(blocktree.Unavailable, "", "store %v is founding the cluster", d.Founder)
	}
	return c.joinBelow(ctx, client, d, records)
}

// joinBelow joins the cluster of the directory, which has been founded: as the store that its records have for the node.
func (c *Config) joinBelow(ctx context.Context, client *cluster.Client, d *meta.Delegation, records []blocktree.Runtime) (k clusterOf, err error) {
	others := slices.DeleteFunc(slices.Clone(records), func(r blocktree.Runtime) bool { return r.Path == c.Path || !meta.IsSectorHost(r) })
	unavailable := func(what string) error {
		return &blocktree.Error{Op: "node.Open", Path: c.Path.Short(), Kind: blocktree.Unavailable, Err: errors.New(what), Hint: "start the other nodes of the directory"}
	}
	back := client.MayTakeBack(ctx, c.Directory, d.Generation) == nil
	if len(others) == 0 {
		return k, c.wipedAlone(back)
	}
	asked := *c
	asked.Members = append(others, c.self())
	hosts, voter := asked.ask(ctx)
	if len(hosts) == 0 && back {
		return k, &blocktree.Error{Op: "node.Open", Path: c.Path.Short(), Kind: blocktree.Unavailable, Err: fmt.Errorf("no other node of the cluster answers, which store %v founded", d.Founder),
			Hint: "start the other nodes of the directory; if that store is lost, the directory above has every name still: btnode dir take-back " + c.Directory.Short()}
	}
	if len(hosts) == 0 {
		return k, unavailable("no other node of the cluster answers")
	}
	i := slices.IndexFunc(hosts, func(r blocktree.Runtime) bool { return r.Path == c.Path })
	switch {
	case i < 0:
		return k, unavailable("the cluster does not know this node yet")
	case hosts[i].Node == c.StoreID && voter:
		return k, c.wiped()
	}
	a := assigned{c.Path, c.StoreID, hosts[i].Node}
	if err := c.makeDir(); err != nil {
		return k, err
	}
	if err := a.save(c.FS, c.StoreDir); err != nil {
		return k, err
	}
	return clusterOf{c.Directory, d.Generation, false, hosts}, nil
}

// wipedAlone is wiped where no other node has a record in the directory, so that nobody else has what the store had, unless the cluster above has it still.
func (c *Config) wipedAlone(back bool) error {
	err := &blocktree.Error{Op: "node.Open", Path: c.Path.Short(), Kind: blocktree.Invalid, Err: fmt.Errorf("store %v was all of the cluster of %s, and this directory is empty", c.StoreID, c.Directory.Short()),
		Hint: "put the store's directory back: nobody else has what is in " + c.Directory.Short()}
	if back {
		err.Hint = "put the store's directory back or, if it is lost, say btnode dir take-back " + c.Directory.Short() + ": the directory above has every name still"
	}
	return err
}

// wiped refuses a store that is gone though the cluster counts on it.
func (c *Config) wiped() error {
	return &blocktree.Error{Op: "node.Open", Path: c.Path.Short(), Kind: blocktree.Invalid, Err: fmt.Errorf("store %v was in the cluster of %s, and this directory is empty", c.StoreID, c.Directory.Short()),
		Hint: "put the store's directory back or, if it is lost, see btnode node replace"}
}

// dialSeeds makes a client of the cluster that keeps the inode of the node's directory, which is found from the root directory on.
func (c *Config) dialSeeds(ctx context.Context) (*cluster.Client, error) {
	return cluster.Dial(ctx, cluster.ClientConfig{Path: c.Path, Root: c.Root, Key: c.Key, Credentials: c.Credentials, Transport: bttp.Transport(c.Transport), Network: c.Network, Loopback: c.loopback,
		Routes: c.routes, Scope: c.Directory.Parent(), Logger: c.Logger, Clock: c.Clock})
}

// noteHosts keeps the file as new as the records.
func (c *Config) noteHosts(hosts []blocktree.Runtime) {
	k := *c.known
	k.members = hosts
	if err := k.save(c.FS, c.StoreDir); err != nil { // the next change, or start, says it again
		c.Logger.Warn("who is in the cluster was not written down", "err", err)
	}
}

package testenv

import (
	"slices"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/crypto/cred"
	"blocktree/fs"
	"blocktree/internal/node"
	"blocktree/route"
)

// Door connects a client of the filesystem services that run, for a runtime of that name and user; "" is nobody in particular. It is closed when
// the test ends.
func (d *Domain) Door(name string, uid, gid uint32, groups ...uint32) *fs.Client {
	d.T.Helper()
	var runtimes []blocktree.Runtime
	for i, m := range d.Members {
		if d.Filesystems[i] != nil && d.nodes[i] != nil {
			m.Services = []string{blocktree.ServiceFilesystem}
			m.Endpoints = slices.Clone(m.Endpoints)
			runtimes = append(runtimes, m)
		}
	}
	table, err := route.NewTable(runtimes)
	d.must(err)
	c := fs.ClientConfig{Root: d.Root, Transport: d.Transport, Resolver: table, Logger: d.Logger("door of " + name)}
	if name != "" {
		c.Key, c.Credentials = d.User(name, uid, gid, groups...)
	}
	client, err := fs.Dial(c)
	d.must(err)
	d.T.Cleanup(func() { _ = client.Close() })
	return client
}

// DoorAt connects a client of the filesystem service of one node alone, as Door does; in a simulated world it is a host of its own.
func (d *Domain) DoorAt(i int, name string, uid, gid uint32) *fs.Client {
	d.T.Helper()
	d.clients++
	at := cluster.ClientConfig{Clock: node.SystemClock{}}
	if d.sim != nil {
		d.sim.client(&at)
	}
	m := d.Members[i]
	m.Services = []string{blocktree.ServiceFilesystem}
	table, err := route.NewTable([]blocktree.Runtime{m})
	d.must(err)
	c := fs.ClientConfig{Root: d.Root, Transport: d.Transport, Network: at.Network, Clock: at.Clock, Resolver: table, Logger: d.Logger("door of " + name)}
	c.Key, c.Credentials = d.User(name, uid, gid)
	client, err := fs.Dial(c)
	d.must(err)
	d.T.Cleanup(func() { _ = client.Close() })
	return client
}

// Finder connects a client that asks for filesystem services, beginning at the domain's nodes, for a runtime of that name and user; "" is nobody in particular. named names more, where none is found; nil: nobody does. It is
// closed when the test ends.
func (d *Domain) Finder(named blocktree.Resolver, name string, uid, gid uint32) *fs.Client {
	d.T.Helper()
	d.clients++
	at := cluster.ClientConfig{Clock: node.SystemClock{}}
	if d.sim != nil {
		d.sim.client(&at)
	}
	log := d.Logger("finder of " + name)
	c := fs.ClientConfig{Root: d.Root, Transport: d.Transport, Network: at.Network, Clock: at.Clock, Resolver: named, Logger: log,
		Begin: &cluster.RoutesConfig{Root: d.Root, Home: cluster.Home(d.dir(), d.Members), Logger: log, Clock: at.Clock}}
	if name != "" {
		c.Key, c.Credentials = d.User(name, uid, gid)
	}
	client, err := fs.Dial(c)
	d.must(err)
	d.T.Cleanup(func() { _ = client.Close() })
	return client
}

// User issues credentials of a user from the root principal.
func (d *Domain) User(name string, uid, gid uint32, groups ...uint32) (cred.Key, cred.Credentials) {
	d.T.Helper()
	key, err := cred.GenerateKey()
	d.must(err)
	chain, err := cred.Issue(d.rootKey, nil, d.Root, cred.Grant{Subject: key.Public(), Path: blocktree.RootPath(d.Root).Join(name), UID: uid, GID: gid, Groups: groups,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)})
	d.must(err)
	return key, chain
}

// AllStarted reports whether every node serves, as they tell a client.
func (d *Domain) AllStarted() bool {
	d.T.Helper()
	status, err := d.asker().Status(d.T.Context())
	if err != nil || len(status.Nodes) != len(d.nodes) {
		return false
	}
	return !slices.ContainsFunc(status.Nodes, func(n cluster.NodeStatus) bool { return n.State != "up" })
}

// asker is a client for such questions, the same for all.
func (d *Domain) asker() *cluster.Client {
	if d.asks == nil {
		d.asks = d.Client()
	}
	return d.asks
}

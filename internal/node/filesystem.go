package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"

	"blocktree"
	"blocktree/cluster"
	"blocktree/crypto/cred"
	"blocktree/crypto/keys"
	"blocktree/fs"
	"blocktree/internal/bttp"
	"blocktree/internal/file"
	"blocktree/route"
)

// Filesystem says that a node is also a filesystem service (docs/design/0030).
type Filesystem struct {
	Reader    *keys.ReaderKey  // opens the files that it serves
	Readers   []keys.PublicKey // new files are wrapped to these, too
	Anonymous bool             // callers without credentials may read what everybody may
	// KeepNoNames is as in fs.Config.
	KeepNoNames bool
}

// door is the filesystem service of a node, and the client of the cluster that it works with.
type door struct {
	client  *cluster.Client
	service *fs.Service
	sectors atomic.Pointer[cluster.Service] // the node's; nil while there is none
	starts  atomic.Uint64                   // how often that has changed
}

// openDoor makes the filesystem service of a configuration, nil if it has none. It asks nobody.
func (c *Config) openDoor(ctx context.Context) (*door, error) {
	if c.Filesystem == nil {
		return nil, nil
	}
	id, err := cred.Verify(c.Credentials, c.Root, c.Clock.Now())
	if err != nil {
		return nil, err
	}
	if err := suits(&id); err != nil {
		return nil, &blocktree.Error{Op: "node.Open", Path: c.Path.Short(), Err: err}
	}
	table, err := route.NewTable(c.Members)
	if err != nil {
		return nil, err
	}
	d := &door{}
	d.client, err = cluster.Dial(ctx, cluster.ClientConfig{Path: c.Path, Root: c.Root, Key: c.Key, Credentials: c.Credentials, Transport: bttp.Transport(c.Transport),
		Network: c.Network, Loopback: c.loopback, Resolver: table, Routes: c.routes, Scope: c.Directory, Logger: c.Logger, Clock: c.Clock, SpareAfter: c.SpareAfter, Speaks: true})
	if err != nil {
		return nil, err
	}
	d.service = fs.New(fs.Config{Anonymous: c.Filesystem.Anonymous, KeepNoNames: c.Filesystem.KeepNoNames, Logger: c.Logger, Clock: c.Clock,
		Cluster: fs.Over(fs.Backing{Client: d.client, Reader: c.Filesystem.Reader, Readers: c.Filesystem.Readers, Rights: d.rights,
			Roots: file.KeepRoots(c.FS, filepath.Join(c.StoreDir, "roots")), Logger: c.Logger})})
	return d, nil
}

// suits refuses credentials with which a node is no filesystem service. Kind Invalid.
func suits(id *cred.Identity) error {
	bad := func(what, hint string) error {
		return &blocktree.Error{Op: "filesystem", Path: id.Path.Short(), Kind: blocktree.Invalid, Err: errors.New(what), Hint: hint}
	}
	switch {
	case !id.Allows(blocktree.ServiceFilesystem):
		return bad("the node's credentials do not have the service filesystem", "issue credentials with the services sector and filesystem, or leave filesystem: out of the config")
	case id.UID != 0: // it would hold leases, and sign access records, that are not its to hold and to sign
		return bad(fmt.Sprintf("the node's credentials are of user id %d, those of a filesystem service must be of 0", id.UID),
			"issue credentials with --uid 0, or leave filesystem: out of the config")
	}
	return nil
}

// setCredentials has the door's client known by newer credentials of the node. It fails as suits.
func (d *door) setCredentials(c *Config, chain cred.Credentials) error {
	if d == nil {
		return nil
	}
	id, err := cred.Verify(chain, c.Root, c.Clock.Now())
	if err == nil {
		err = suits(&id)
	}
	if err != nil {
		return err
	}
	return d.client.SetCredentials(chain)
}

// rights counts the changes of rights that the node has applied. It moves, so that all is judged anew, when the node starts anew, too.
func (d *door) rights() uint64 {
	const startBits = 40 // of changes of rights since a start
	n := d.starts.Load() << startBits
	if s := d.sectors.Load(); s != nil {
		n += s.RightsChanges()
	}
	return n
}

// beside notes which sector service runs; nil for none.
func (d *door) beside(s *cluster.Service) {
	if d != nil {
		d.sectors.Store(s)
		d.starts.Add(1)
	}
}

// serves has the sector service take the door's requests.
func (d *door) serves(c *cluster.ServiceConfig) {
	if d != nil {
		c.Others, c.Admit = d.service, d.service.Admit
	}
}

// close closes what is open through the door while the node still answers, and lets go of the cluster.
func (d *door) close() error {
	if d == nil {
		return nil
	}
	return errors.Join(d.service.Close(), d.client.Close())
}

package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/crypto/cred"
	"blocktree/fs/connect"
	"blocktree/internal/bttp"
	"blocktree/internal/vfs"
	"blocktree/route"
)

// Config says which node to be.
type Config struct {
	Path        blocktree.Path // of this runtime
	Root        blocktree.Principal
	Key         cred.Key
	Credentials cred.Credentials
	Listen      string // "host:port"
	Transport   string // auto, quic or tcp; "" is auto
	StoreDir    string // has the subdirectories sectors and meta
	StoreID     blocktree.NodeID
	Directory   blocktree.Path      // of the cluster
	Members     []blocktree.Runtime // all founding sector hosts, this one included; none: the node asks from Seeds on
	Records     []blocktree.Runtime // as in cluster.ServiceConfig
	Seeds       route.Seeder        // of the root directory, for a node of a delegated directory; nil: Members are all it knows
	Parents     []blocktree.Runtime // as in cluster.ServiceConfig
	ScrubRate   int64               // bytes per second that the scrub in the background reads; 0: there is none
	// SpacePercent is as in store.Options; 0 is the default.
	SpacePercent int64
	Logger       *slog.Logger
	Clock        blocktree.Clock // nil: the system's
	Network      bttp.Network    // nil: the machine's
	FS           vfs.FS          // of all but the metadata's store; nil: the real one
	MetaFS       meta.FS         // of that; nil: the real one
	Boot         *vfs.Boot       // where the tail mark lies (docs/design/0014); nil: the machine's
	SpareAfter   time.Duration   // as in cluster.ClientConfig
	// Lie is as in cluster.ServiceConfig: tests only.
	Lie        func(to blocktree.Path, answer *stripe.Message)
	Filesystem *Filesystem // nil: the node serves sectors only

	door       *door                // of Filesystem
	routes     *cluster.Routes      // of the process
	loopback   *bttp.Loopback       // of the node: its clients reach its service in memory
	generation blocktree.Generation // of the cluster that the node's store founds in a delegated directory
	known      *clusterOf           // what is written down of that cluster; nil where Members were given
}

// Node is a running node.
type Node struct {
	given  Config // as it was before settle
	config cluster.ServiceConfig
	fatal  chan error
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{} // watch has ended

	advertised chan struct{} // closed when advertise has ended

	mu     sync.Mutex
	newest cred.Credentials // that SetCredentials was given; nil: given's

	service *cluster.Service                // watch's, until that has ended; nil once it is closed
	current atomic.Pointer[cluster.Service] // the same, for whoever only looks; nil while there is none
}

// Open starts a node and returns when it listens; it serves as soon as a majority of its cluster runs. The store is made
// when StoreDir is new. A node of a delegated directory without a store waits until it has founded its cluster, or joins it. Kinds: Invalid, Unavailable (the node was replaced, and nobody says by which store), Busy, Permission, NewerFormat,
// Corrupt (a store that must be restored or replaced), NoSpace, IO.
func Open(ctx context.Context, c Config) (*Node, error) {
	if len(c.Members) > 0 || c.Seeds == nil {
		if err := c.validate(); err != nil {
			return nil, err
		}
	}
	if c.Clock == nil {
		c.Clock = SystemClock{}
	}
	if c.FS == nil {
		c.FS = vfs.Disk{}
	}
	if c.Boot == nil {
		boot := vfs.MachineBoot()
		c.Boot = &boot
	}
	n, err := c.openParts(ctx)
	if err != nil {
		if c.routes != nil {
			_ = c.routes.Close() // nobody asks any more
		}
		_ = c.door.close() // nothing was opened through it
	}
	return n, err
}

// openParts is Open of a configuration with all defaults.
func (c *Config) openParts(ctx context.Context) (*Node, error) {
	var err error
	if c.routes, err = c.openRoutes(); err != nil {
		return nil, err
	}
	if len(c.Members) == 0 {
		if err = c.findCluster(ctx); err == nil {
			err = c.validate()
		}
		if err != nil {
			return nil, err
		}
	}
	c.loopback = new(bttp.Loopback) // not before: while a node asks whether it founds its cluster nobody is about to listen, and nobody is waited for
	if c.door, err = c.openDoor(ctx); err != nil {
		return nil, err
	}
	return c.open(ctx)
}

// openRoutes makes the routes of the process: they begin in the node's own cluster, where it is known from the configuration, and at the seeds.
func (c *Config) openRoutes() (*cluster.Routes, error) {
	r := cluster.RoutesConfig{Root: c.Root, Seeds: c.Seeds, Ways: c.Parents, Logger: c.Logger, Clock: c.Clock, Home: route.Redirect{Directory: c.Directory, Runtimes: slices.Clone(c.Members)}}
	if len(c.Members) == 0 { // the node itself knows what its cluster does, once it is one
		r.Home.Runtimes = []blocktree.Runtime{c.self()}
	}
	return cluster.NewRoutes(r)
}

// open is Open of a configuration that is complete.
func (c Config) open(ctx context.Context) (*Node, error) {
	given := c
	made := c.makeDir()
	if made != nil && blocktree.KindOf(made) != blocktree.NoSpace {
		return nil, made
	}
	joins, err := c.settle(ctx)
	if err == nil && !joins { // a store that joins has waited for space
		err = made
	}
	if err != nil {
		return nil, err
	}
	n := &Node{given: given, fatal: make(chan error, 1), done: make(chan struct{}), advertised: make(chan struct{})}
	n.config = n.of(&c, joins)
	if err := n.open(ctx); err != nil {
		return nil, &blocktree.Error{Op: "node.Open", Path: c.Path.Short(), Err: err}
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	go n.watch()
	go func() {
		defer close(n.advertised)
		n.advertise()
	}()
	return n, nil
}

// service is the configuration of the node's service, once it is settled which store that has.
func (c *Config) service(joins bool) cluster.ServiceConfig {
	sectors, metadata := c.dirs()
	sc := cluster.ServiceConfig{Path: c.Path, Root: c.Root, Key: c.Key, Credentials: c.Credentials,
		Listen: c.Listen, Transport: bttp.Transport(c.Transport), Network: c.Network, FS: c.FS, MetaFS: c.MetaFS, StoreDir: sectors, MetaDir: metadata,
		Boot: *c.Boot, Node: c.StoreID, Directory: c.Directory, Members: c.Members, Records: c.Records, Logger: c.Logger,
		Clock: c.Clock, ScrubRate: c.ScrubRate, SpacePercent: c.SpacePercent, Joins: joins, SpareAfter: c.SpareAfter, Lie: c.Lie, Generation: c.generation, Routes: c.routes}
	sc.Loopback = c.loopback
	if len(c.Parents) > 0 {
		sc.Parents = func() []blocktree.Runtime { return c.Parents }
	}
	if c.known != nil {
		sc.Hosts = c.noteHosts
	}
	c.door.serves(&sc)
	return sc
}

// of is the configuration of the node's service by c, with what the node does for it.
func (n *Node) of(c *Config, joins bool) cluster.ServiceConfig {
	sc := c.service(joins)
	if c.known != nil {
		sc.NoteAbove = n.noteAbove
	}
	return sc
}

// dirs are the directories of the node's two stores.
func (c *Config) dirs() (sectors, metadata string) {
	return filepath.Join(c.StoreDir, "sectors"), filepath.Join(c.StoreDir, "meta")
}

// makeDir makes the directory of the stores, durably, and its parents too.
func (c *Config) makeDir() error {
	if err := c.FS.MkdirAll(c.StoreDir); err != nil {
		return &blocktree.Error{Op: "node.Open", Path: c.StoreDir, Err: err, Hint: "the node needs a directory that it may write to"}
	}
	return nil
}

// watch waits for the end of the service, and opens it again where that is all it wants: to be copied up anew, or to be another store.
func (n *Node) watch() {
	defer close(n.done)
	for {
		var err error
		select {
		case <-n.ctx.Done():
			return
		case err = <-n.service.Fatal():
		}
		if n.service.Anew(err) || refused(err) {
			if err = n.anew(err); err == nil {
				continue
			}
		}
		n.fatal <- err // it has room for the only one
		return
	}
}

// runs notes which service runs; nil for none.
func (n *Node) runs(s *cluster.Service) {
	n.current.Store(s)
	n.given.door.beside(s)
}

// refused reports whether the cluster does not want the store, as opposed to one that cannot go on.
func refused(err error) bool {
	kind := blocktree.KindOf(err)
	return kind == blocktree.Permission || kind == blocktree.Invalid
}

// anew closes the service, which ended by why, and opens it again; if it was refused, as the store that the cluster names instead of one that was
// never used. With an error there is no service.
func (n *Node) anew(why error) error {
	again := n.service.Anew(why)
	n.runs(nil)
	err := n.service.Close()
	if err == nil {
		err = n.service.Broken() // a disk that failed is not opened again by the same process
	}
	n.service = nil
	if err == nil && !again {
		err = n.other(n.ctx, why)
	}
	if err != nil {
		return err
	}
	n.config.Logger.Warn("the node starts anew", "node", n.config.Path.Short())
	return n.open(n.ctx)
}

// open opens the service; if it is refused at once, as that of another store. Whoever told the node nothing when it asked which store it has may
// speak a moment later.
func (n *Node) open(ctx context.Context) error {
	n.config.Credentials = n.credentials() // SetCredentials tells the service itself what comes from here on
	s, err := cluster.OpenService(ctx, n.config)
	if refused(err) {
		if err = n.other(ctx, err); err == nil {
			s, err = cluster.OpenService(ctx, n.config)
		}
	}
	if err != nil {
		return err
	}
	n.service = s
	n.runs(s)
	if len(n.credentials()) > 0 { // they may have come while it was opened
		return s.SetCredentials(n.credentials())
	}
	return nil
}

// other asks the cluster, as Open does, whether the node has another store than the one which is refused. It returns why if it has not.
func (n *Node) other(ctx context.Context, why error) error {
	c := n.given
	c.Credentials = n.credentials()
	joins, err := c.settle(ctx)
	if err != nil {
		return err
	}
	if !joins || c.StoreID == n.config.Node {
		return why
	}
	n.config = n.of(&c, joins)
	return nil
}

func (c *Config) validate() error {
	bad := func(hint string, err error) error {
		return &blocktree.Error{Op: "node.Open", Path: c.Path.Short(), Kind: blocktree.Invalid, Err: err, Hint: hint}
	}
	if c.StoreID == 0 {
		return bad("the config gives the store's id", errors.New("no store id"))
	}
	for _, m := range c.Members {
		if m.Node != c.StoreID {
			continue
		}
		if m.Path != c.Path || m.Principal != c.Key.Principal() {
			return bad("the list of members must have this node's own path and principal",
				fmt.Errorf("member %v is %s, %v", m.Node, m.Path.Short(), m.Principal))
		}
		return nil
	}
	return bad("the list of members must have this node", fmt.Errorf("store %v is not a member", c.StoreID))
}

// credentials are the newest of the node.
func (n *Node) credentials() cred.Credentials {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.newest != nil {
		return n.newest
	}
	return n.given.Credentials
}

// SetCredentials has the node known by newer credentials of its key and path, without a new connection. Kinds: those of
// bttp.Endpoint.SetCredentials; Invalid also for credentials with which it cannot go on to be a filesystem service.
func (n *Node) SetCredentials(chain cred.Credentials) error {
	if err := n.given.door.setCredentials(&n.given, chain); err != nil { // it has connections of its own
		return err
	}
	s := n.current.Load()
	if s != nil { // else it starts anew, with these
		if err := s.SetCredentials(chain); err != nil {
			return err
		}
	}
	n.mu.Lock()
	n.newest = chain
	n.mu.Unlock()
	if now := n.current.Load(); now != nil && now != s { // it has started anew with those of before
		return now.SetCredentials(chain)
	}
	return nil
}

// Fatal gives the error after which the process must exit.
func (n *Node) Fatal() <-chan error { return n.fatal }

// Stats returns a snapshot; ok is false while the node starts anew, or stops.
func (n *Node) Stats() (s cluster.ServiceStats, ok bool) {
	service := n.current.Load()
	if service == nil {
		return s, false
	}
	return service.Stats(), true
}

// Close stops the node cleanly and waits.
func (n *Node) Close() error {
	err := n.given.door.close()
	n.cancel()
	<-n.done
	<-n.advertised
	n.runs(nil)
	err = errors.Join(err, n.given.routes.Close()) // before the endpoints by which it asks
	if n.service != nil {
		err = errors.Join(err, n.service.Close())
	}
	return err
}

// SystemClock is the machine's time.
type SystemClock = connect.SystemClock

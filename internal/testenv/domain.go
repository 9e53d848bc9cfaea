package testenv

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/crypto/cred"
	"blocktree/crypto/keys"
	"blocktree/internal/bttp"
	"blocktree/internal/file"
	"blocktree/internal/node"
	"blocktree/internal/vfs"
	"blocktree/route"
)

// Domain is a root principal and one cluster of nodes at its root directory.
type Domain struct {
	T         testing.TB
	Root      blocktree.Principal
	Members   []blocktree.Runtime
	Transport bttp.Transport // of nodes and clients started from now on
	Reader    *keys.ReaderKey
	Dir       string
	Disks     map[int]vfs.FS       // of the sectors of nodes that do not have them on the real one
	Networks  map[int]bttp.Network // of nodes that do not use the machine's
	// SpareAfter is what nodes and clients started from now on have in their configuration; 0: the default.
	SpareAfter time.Duration
	// Filesystems are the nodes that are a filesystem service, too, when they are started from now on.
	Filesystems map[int]*node.Filesystem

	// Log gets what nodes and clients started from now on log, debugging words too, beside the test's own log; nil: nobody.
	Log io.Writer

	nodeUser User // who the nodes are

	// Directory is the one whose cluster it is, the root directory if it is not said, and Seeds are those of the root directory, where nodes are to find their cluster by themselves.
	Directory blocktree.Path
	Seeds     []blocktree.Runtime

	// Liars change what nodes answer that are started from now on.
	Liars map[int]*Liar

	boot    vfs.Boot // of all nodes: they have one machine
	rootKey cred.Key
	owners  map[*cluster.Client]owner
	keys    []cred.Key
	chains  []cred.Credentials
	nodes   []*node.Node
	clients int
	behind  []string        // addresses that the client to be made reaches in no way
	sim     *Simulated      // nil where all is real
	asks    *cluster.Client // of AllStarted; nil until then
	speaks  bool            // the client to be made says that it is a filesystem service
}

// New makes a domain of n nodes, none of which runs.
func New(t testing.TB, n int) *Domain {
	t.Helper()
	return NewOf(t, n, User{})
}

// NewOf is New with nodes of another user than user id 0.
func NewOf(t testing.TB, n int, u User) *Domain {
	t.Helper()
	d := &Domain{nodeUser: u, T: t, Dir: t.TempDir(), Transport: bttp.Auto, nodes: make([]*node.Node, n), boot: vfs.BootAt([16]byte{1}, t.TempDir())}
	d.init(func(int) string { return d.freeAddress() })
	return d
}

// init makes the identities of the root principal and of the nodes, which are to listen on addresses.
func (d *Domain) init(address func(i int) string) {
	d.T.Helper()
	var err error
	d.rootKey, err = cred.GenerateKey()
	d.must(err)
	d.Root, d.owners = d.rootKey.Principal(), map[*cluster.Client]owner{}
	d.Reader = keys.NewReaderKey()
	d.identify(0, address)
}

// dir is the directory whose cluster it is.
func (d *Domain) dir() blocktree.Path {
	if d.Directory != "" {
		return d.Directory
	}
	return blocktree.RootPath(d.Root)
}

// identify makes the nodes' identities; their stores' ids begin behind one.
func (d *Domain) identify(behind int, address func(i int) string) {
	for i := range d.nodes {
		path := d.dir().Join(fmt.Sprintf("node%d", i+1))
		key, chain := d.identityOf(path, d.nodeUser, blocktree.ServiceSector, blocktree.ServiceFilesystem)
		d.keys, d.chains = append(d.keys, key), append(d.chains, chain)
		d.Members = append(d.Members, blocktree.Runtime{Path: path, Principal: key.Principal(), Node: blocktree.NodeID(behind + i + 1),
			Endpoints: []string{address(i)}, Services: []string{blocktree.ServiceSector}})
	}
	d.T.Cleanup(func() {
		for i := range d.nodes {
			d.Stop(i)
		}
	})
}

func (d *Domain) must(err error) {
	d.T.Helper()
	if err != nil {
		d.T.Fatal(err)
	}
}

// Issuer is who issues credentials below a path: a key and what was issued to it.
type Issuer struct {
	Key   cred.Key
	Chain cred.Credentials
}

// owner is what is known of a client's credentials.
type owner struct {
	by   Issuer
	key  cred.Key
	path blocktree.Path
	user User
}

// RootIssuer is the root principal.
func (d *Domain) RootIssuer() Issuer { return Issuer{Key: d.rootKey} }

// Intermediate is who issues below a path in the name of by.
func (d *Domain) Intermediate(by Issuer, short string) Issuer {
	d.T.Helper()
	key, err := cred.GenerateKey()
	d.must(err)
	return Issuer{key, d.issue(by, key, d.Path(short), User{}, time.Now().Add(24*time.Hour), blocktree.ServiceSector)}
}

// issue issues credentials of a user that end at until.
func (d *Domain) issue(by Issuer, key cred.Key, path blocktree.Path, u User, until time.Time, services ...string) cred.Credentials {
	d.T.Helper()
	chain, err := cred.Issue(by.Key, by.Chain, d.Root, cred.Grant{Subject: key.Public(), Path: path, Services: services,
		UID: u.UID, GID: u.GID, Groups: u.Groups, NotBefore: time.Now().Add(-time.Hour), NotAfter: until})
	d.must(err)
	return chain
}

// RenewAll gives every node that runs, and clients, new credentials that end at until.
func (d *Domain) RenewAll(until time.Time, clients ...*cluster.Client) {
	d.T.Helper()
	for i, n := range d.nodes {
		d.chains[i] = d.issue(d.RootIssuer(), d.keys[i], d.Members[i].Path, d.nodeUser, until, blocktree.ServiceSector, blocktree.ServiceFilesystem)
		if n != nil {
			d.must(n.SetCredentials(d.chains[i]))
		}
	}
	for _, c := range clients {
		o := d.owners[c]
		d.must(c.SetCredentials(d.issue(o.by, o.key, o.path, o.user, until)))
	}
}

// identity issues credentials from the root principal.
func (d *Domain) identity(path blocktree.Path, services ...string) (cred.Key, cred.Credentials) {
	return d.identityOf(path, User{}, services...)
}

// User is what credentials say of a client beside its path.
type User struct {
	UID, GID uint32
	Groups   []uint32
}

func (d *Domain) identityOf(path blocktree.Path, u User, services ...string) (cred.Key, cred.Credentials) {
	key, err := cred.GenerateKey()
	d.must(err)
	return key, d.issue(d.RootIssuer(), key, path, u, time.Now().Add(24*time.Hour), services...)
}

// freeAddress finds a port of an address of the loopback network, of which there are 16 million, so that nobody else takes either while the node is stopped. The port
// is below those that the system gives to sockets that do not ask for one: one that listens everywhere has it at this address, too.
func (d *Domain) freeAddress() string {
	for range 100 {
		address := fmt.Sprintf("127.%d.%d.%d:%d", rand.IntN(256), rand.IntN(256), 2+rand.IntN(253), 12000+rand.IntN(20000))
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		u, err := net.ListenPacket("udp", address)
		l.Close()
		if err == nil {
			u.Close()
			return address
		}
	}
	d.T.Fatal("no port is free for both TCP and UDP")
	return ""
}

// Logger prints warnings and errors into the test's log.
func (d *Domain) Logger(name string) *slog.Logger {
	var to io.Writer = testWriter{d.T}
	level := slog.LevelInfo
	if d.Log != nil {
		to, level = io.MultiWriter(to, d.Log), slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(to, &slog.HandlerOptions{Level: level})).With("of", name)
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p[:len(p)-1])
	return len(p), nil
}

// Start starts node i (from 0) on the directory it had before.
func (d *Domain) Start(i int) {
	d.T.Helper()
	d.must(d.TryStart(i))
}

// TryStart is Start for a node that may refuse.
func (d *Domain) TryStart(i int) error { return d.TryStartWithin(d.T.Context(), i) }

// TryStartWithin is TryStart for a node that is told to stop, when ctx ends, before it serves.
func (d *Domain) TryStartWithin(ctx context.Context, i int) error {
	c := node.Config{Path: d.Members[i].Path, Root: d.Root, Key: d.keys[i], Credentials: d.chains[i],
		Listen: d.Members[i].Endpoints[0], Transport: string(d.Transport), StoreDir: d.NodeDir(i), StoreID: d.Members[i].Node,
		Directory: d.dir(), Members: d.Members, Records: d.Records(), FS: d.Disks[i], Boot: &d.boot, SpareAfter: d.SpareAfter, Filesystem: d.Filesystems[i],
		Logger: d.Logger(fmt.Sprintf("node%d", i+1)), Network: d.Networks[i]}
	if len(d.Seeds) > 0 {
		c.Members, c.Seeds = nil, route.Seeds(d.Seeds)
	}
	if l := d.Liars[i]; l != nil {
		c.Lie = l.Lie
	}
	if d.sim != nil {
		d.sim.node(&c, i)
	}
	n, err := node.Open(ctx, c)
	if err == nil {
		d.nodes[i] = n
	}
	return err
}

// Records are the nodes' process records: with the service filesystem of those that are one.
func (d *Domain) Records() []blocktree.Runtime {
	list := slices.Clone(d.Members)
	for i := range list {
		if d.Filesystems[i] != nil {
			list[i].Services = append(slices.Clone(list[i].Services), blocktree.ServiceFilesystem)
		}
	}
	return list
}

// Node is node i, nil while it does not run.
func (d *Domain) Node(i int) *node.Node { return d.nodes[i] }

// Fatal is node i's.
func (d *Domain) Fatal(i int) <-chan error { return d.nodes[i].Fatal() }

// StartAll starts every node that does not run.
func (d *Domain) StartAll() {
	d.T.Helper()
	for i := range d.nodes {
		if d.nodes[i] == nil {
			d.Start(i)
		}
	}
}

// Stop stops node i cleanly, if it runs.
func (d *Domain) Stop(i int) {
	if d.nodes[i] != nil {
		if err := d.nodes[i].Close(); err != nil {
			d.T.Errorf("stop node%d: %v", i+1, err)
		}
		d.nodes[i] = nil
	}
}

// NodeDir is where node i keeps its stores.
func (d *Domain) NodeDir(i int) string { return filepath.Join(d.Dir, fmt.Sprintf("node%d", i+1)) }

// Client connects a new client, which is closed when the test ends.
func (d *Domain) Client() *cluster.Client {
	d.T.Helper()
	return d.clientOf(d.Members, User{})
}

// ClientOfNode is a client with the key and the credentials of node i.
func (d *Domain) ClientOfNode(i int) *cluster.Client {
	d.T.Helper()
	return d.clientWith(d.Members, d.Members[i].Path, d.keys[i], d.chains[i])
}

// Speaker is a client of a runtime at a path, with these services, that takes itself for a filesystem service of the root directory.
func (d *Domain) Speaker(path blocktree.Path, u User, services ...string) *cluster.Client {
	d.T.Helper()
	key, chain := d.identityOf(path, u, services...)
	d.speaks = true
	defer func() { d.speaks = false }()
	return d.clientWith(d.Members, blocktree.RootPath(d.Root).Join("speaker"), key, chain)
}

// NewIdentity issues credentials of a user at a path.
func (d *Domain) NewIdentity(path blocktree.Path, u User) (cred.Key, cred.Credentials) {
	return d.identityOf(path, u)
}

// ClientAs is Client of another user, at the path that it returns.
func (d *Domain) ClientAs(u User) (*cluster.Client, blocktree.Path) {
	d.T.Helper()
	c := d.clientOf(d.Members, u)
	return c, d.clientPath()
}

// clientPath is where the newest client is.
func (d *Domain) clientPath() blocktree.Path {
	return blocktree.RootPath(d.Root).Join(fmt.Sprintf("client%d", d.clients))
}

// ClientWithout is Client that can reach some of the nodes (from 0) at no address.
func (d *Domain) ClientWithout(unreachable ...int) *cluster.Client {
	d.T.Helper()
	members := slices.Clone(d.Members)
	for _, i := range unreachable {
		d.behind = append(d.behind, members[i].Endpoints...) // it will hear of them
		members[i].Endpoints = []string{d.freeAddress()}     // nobody listens there
	}
	defer func() { d.behind = nil }()
	return d.clientOf(members, User{})
}

// clientOf connects a client that knows the nodes so.
func (d *Domain) clientOf(members []blocktree.Runtime, u User) *cluster.Client {
	d.T.Helper()
	return d.clientBy(d.RootIssuer(), blocktree.RootPath(d.Root).Join(fmt.Sprintf("client%d", d.clients+1)), members, u)
}

// ClientBy connects a client of user id 0 at a path that by has issued credentials to.
func (d *Domain) ClientBy(by Issuer, short string) *cluster.Client {
	d.T.Helper()
	return d.clientBy(by, d.Path(short), d.Members, User{})
}

func (d *Domain) clientBy(by Issuer, path blocktree.Path, members []blocktree.Runtime, u User) *cluster.Client {
	d.T.Helper()
	key, err := cred.GenerateKey()
	d.must(err)
	c := d.clientWith(members, path, key, d.issue(by, key, path, u, time.Now().Add(24*time.Hour)))
	d.owners[c] = owner{by, key, path, u}
	return c
}

// clientWith connects a client with these credentials.
func (d *Domain) clientWith(members []blocktree.Runtime, path blocktree.Path, key cred.Key, chain cred.Credentials) *cluster.Client {
	d.T.Helper()
	d.clients++
	table, err := route.NewTable(members)
	d.must(err)
	config := cluster.ClientConfig{Path: path, Root: d.Root, Key: key, Credentials: chain,
		Transport: d.Transport, Resolver: table, Scope: d.dir(), Logger: d.Logger(path.Base()), Clock: node.SystemClock{},
		SpareAfter: d.SpareAfter, Speaks: d.speaks}
	if d.sim != nil {
		d.sim.client(&config)
	} else if len(d.behind) > 0 {
		config.Network = wall{behind: d.behind}
	}
	c, err := cluster.Dial(d.T.Context(), config)
	d.must(err)
	d.T.Cleanup(func() {
		if err := c.Close(); err != nil {
			d.T.Errorf("close client: %v", err)
		}
	})
	return c
}

// Path is a path in the domain's short form.
func (d *Domain) Path(short string) blocktree.Path {
	d.T.Helper()
	p, err := blocktree.ParsePath(short, d.Root)
	d.must(err)
	return p
}

// Create makes an encrypted file.
func (d *Domain) Create(c *cluster.Client, short string, sizeBytes uint64, code blocktree.Code) {
	d.T.Helper()
	ctx, cancel := context.WithTimeout(d.T.Context(), d.patience())
	defer cancel()
	d.must(file.Create(ctx, c, d.Path(short), file.CreateOptions{SizeBytes: sizeBytes, Code: code,
		Readers: []keys.PublicKey{d.Reader.Public()}}))
}

// Open opens a file for writing.
func (d *Domain) Open(c *cluster.Client, short string) blocktree.File {
	d.T.Helper()
	ctx, cancel := context.WithTimeout(d.T.Context(), d.patience())
	defer cancel()
	f, err := file.Open(ctx, c, d.Path(short), file.OpenOptions{Reader: d.Reader, OpenOptions: cluster.OpenOptions{Wait: 15 * time.Second}})
	d.must(err)
	return f
}

// patience is how long what a cluster does may take: a minute, and where time is real three, as the machine may have much else to do.
func (d *Domain) patience() time.Duration {
	if d.sim != nil {
		return time.Minute
	}
	return 3 * time.Minute
}

// Await waits until ok holds, at most as long as the test's patience for a cluster: a minute, three where time is real.
func (d *Domain) Await(what string, ok func() bool) {
	d.T.Helper()
	deadline := time.Now().Add(d.patience())
	for !ok() {
		if time.Now().After(deadline) {
			d.T.Fatalf("%s did not happen within %v", what, d.patience())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Impostor is a client with the key of node i, whose credentials are for another path.
func (d *Domain) Impostor(i int, short string) (*cluster.Client, error) {
	d.T.Helper()
	table, err := route.NewTable(d.Members)
	d.must(err)
	path := d.Path(short)
	c, err := cluster.Dial(d.T.Context(), cluster.ClientConfig{Path: path, Root: d.Root, Key: d.keys[i],
		Credentials: d.issue(d.RootIssuer(), d.keys[i], path, User{UID: 1000, GID: 1000}, time.Now().Add(time.Hour)),
		Transport:   d.Transport, Resolver: table, Scope: blocktree.RootPath(d.Root), Logger: d.Logger("impostor"), Clock: node.SystemClock{}})
	if err == nil {
		d.T.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

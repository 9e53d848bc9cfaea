package testenv

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"
	"time"

	pebble "github.com/cockroachdb/pebble/v2/vfs"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/bttp"
	"blocktree/internal/node"
	"blocktree/internal/simnet"
	"blocktree/internal/vfs"
)

// Simulated is a Domain without sockets, disks and real time: its network and its disks are in memory, its clocks those of the bubble of
// testing/synctest that it is made in. Nothing of it but bytes and CPU is real; the code is all that ships but SystemClock,
// vfs.Disk and bttp.Machine.
type Simulated struct {
	*Domain
	Net *simnet.Net

	clock  bubbleClock
	subnet byte  // of the nodes; the next is that of the clients
	nets   *byte // how many subnets are taken, by all domains of the world
	disks  []disk
	boots  []boot
	hosts  map[netip.Addr]*simnet.Host // of nodes and clients, by the address that they began with
}

// boot is a boot of a node's machine: how many there were, and a directory that stands for its tmpfs. That outlives the boot, too, as it does where
// somebody keeps such a directory on a disk.
type boot struct {
	number byte
	dir    string
}

// disk is what a node keeps: the metadata, and all else.
type disk struct {
	rest *vfs.Crash
	meta *pebble.MemFS
}

// bubbleClock is both clocks of every host. (They have no rates of their own: what differs is what they are subtracted from.)
type bubbleClock struct{ start time.Time }

// Now implements blocktree.Clock.
func (bubbleClock) Now() time.Time { return time.Now() }

// Boot implements blocktree.Clock.
func (c bubbleClock) Boot() time.Duration { return time.Since(c.start) + time.Hour }

// NewSimulated makes a simulated domain of n nodes, none of which runs. It must be called in a bubble; seed decides which packets get
// lost where links lose any.
func NewSimulated(t testing.TB, n int, seed uint64) *Simulated {
	t.Helper()
	s := &Simulated{Net: simnet.New(seed), clock: bubbleClock{time.Now()}, nets: new(byte)}
	*s.nets = 2
	d := &Domain{T: t, Dir: "/", Transport: bttp.QUIC, nodes: make([]*node.Node, n), sim: s}
	s.Domain = d
	s.furnish(n)
	d.init(s.address)
	return s
}

// furnish gives each node empty disks.
func (s *Simulated) furnish(n int) {
	for i := range n {
		s.disks = append(s.disks, disk{})
		s.boots = append(s.boots, boot{1, s.T.TempDir()})
		s.Wipe(i)
	}
}

func (s *Simulated) address(i int) string { return netip.AddrPortFrom(s.NodeAddr(i), 7000).String() }

// Below makes n more nodes of the same domain and world, none of which runs, in a directory of their own; they find their cluster from the nodes of s on.
func (s *Simulated) Below(short string, n int) *Simulated {
	s.T.Helper()
	b := &Simulated{Net: s.Net, clock: s.clock, subnet: *s.nets, nets: s.nets}
	*s.nets += 2
	d := &Domain{T: s.T, Dir: "/", Transport: s.Transport, nodes: make([]*node.Node, n), sim: b, Root: s.Root, rootKey: s.rootKey, owners: s.owners, Reader: s.Reader,
		Directory: s.Path(short), Seeds: s.Members, Log: s.Log}
	if len(s.Seeds) > 0 {
		d.Seeds = s.Seeds
	}
	b.Domain = d
	b.furnish(n)
	d.identify(100*int(b.subnet), b.address)
	s.T.Cleanup(func() {
		for i := range d.nodes {
			d.Stop(i)
		}
	})
	return b
}

// durably makes a directory of the root: the node makes its store directory on its other disk only.
func durably(fs pebble.FS, dir string) error {
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	root, err := fs.OpenDir("/")
	if err != nil {
		return err
	}
	return errors.Join(root.Sync(), root.Close())
}

// NodeAddr is the address of node i (from 0).
func (s *Simulated) NodeAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 0, s.subnet, byte(i + 1)})
}

// ClientAddr is the address of the i-th client (from 0) that the domain has made.
func (s *Simulated) ClientAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 0, s.subnet + 1, byte(i + 1)})
}

// Everybody are the addresses of all nodes and of the clients made by now.
func (s *Simulated) Everybody() (all []netip.Addr) {
	for i := range s.nodes {
		all = append(all, s.NodeAddr(i))
	}
	for i := range s.clients {
		all = append(all, s.ClientAddr(i))
	}
	return all
}

// SetAll changes the links of a host to everybody and from everybody.
func (s *Simulated) SetAll(host netip.Addr, l simnet.Link) {
	for _, other := range s.Everybody() {
		s.Net.Set(host, other, l)
		s.Net.Set(other, host, l)
	}
}

// Off takes a host off the network, On brings it back.
func (s *Simulated) Off(host netip.Addr) { s.SetAll(host, simnet.Link{Cut: true}) }

// On see Off; its links are as good as new.
func (s *Simulated) On(host netip.Addr) { s.SetAll(host, simnet.Link{}) }

// PowerLoss stops nodes at one moment as a loss of power does: what they had not synced is lost or not, as seed has it, and it is another boot that
// they start in. Their links are cut.
func (s *Simulated) PowerLoss(seed uint64, nodes ...int) {
	s.T.Helper()
	s.halt(nodes, func(i int, d disk) disk {
		s.boots[i].number++
		return d.withoutPower(seed + uint64(i)<<32)
	})
}

// PowerLossStopped is PowerLoss of a node that does not run: what it had not synced before it was killed may go.
func (s *Simulated) PowerLossStopped(seed uint64, i int) {
	s.boots[i].number++
	s.disks[i] = s.disks[i].withoutPower(seed + uint64(i)<<32)
}

// withoutPower is what a loss of power leaves.
func (d disk) withoutPower(seed uint64) disk {
	return disk{d.rest.Clone(seed), d.meta.CrashClone(pebble.CrashCloneCfg{})} // synced only: what hangs together is in one of them
}

// Kill ends the processes of nodes at one moment: nothing that they had written is lost. Their links are cut.
func (s *Simulated) Kill(nodes ...int) {
	s.T.Helper()
	s.halt(nodes, func(_ int, d disk) disk { return d.kill() })
}

// kill is what a kill of the process leaves.
func (d disk) kill() disk {
	return disk{d.rest.Kill(), d.meta.CrashClone(pebble.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})}
}

// halt stops nodes at one moment and gives each what is left of its disk.
func (s *Simulated) halt(nodes []int, leave func(i int, d disk) disk) {
	s.T.Helper()
	for _, i := range nodes { // first: what they still promise is heard by nobody
		s.Off(s.NodeAddr(i))
		s.Net.PowerLoss(s.NodeAddr(i))
	}
	left := map[int]disk{}
	for _, i := range nodes {
		left[i] = leave(i, s.disks[i])
		dir := s.T.TempDir()
		s.must(os.CopyFS(dir, os.DirFS(s.boots[i].dir)))
		s.boots[i].dir = dir
	}
	for _, i := range nodes {
		_ = s.nodes[i].Close() // what is left of it works on a disk that nobody has any more
		s.nodes[i] = nil
		s.disks[i] = left[i]
	}
}

// Wipe gives node i, which must be stopped, empty disks.
func (s *Simulated) Wipe(i int) {
	s.T.Helper()
	s.disks[i] = disk{vfs.NewCrash(), pebble.NewCrashableMem()}
	s.must(durably(s.disks[i].meta, s.NodeDir(i)))
}

// Disk is what node i keeps beside its metadata, so that a faulty one can be put over it (Domain.Disks).
func (s *Simulated) Disk(i int) vfs.FS { return s.disks[i].rest }

// Keep is a copy of the disks of node i, which must be stopped, as they are now; Put puts it in.
func (s *Simulated) Keep(i int) Disks {
	s.T.Helper()
	return Disks{s.disks[i].kill()}
}

// Put see Keep. The copy can be put in again.
func (s *Simulated) Put(i int, d Disks) {
	s.disks[i] = d.disk
	s.disks[i] = s.Keep(i).disk
}

// Disks are a copy of a node's disks.
type Disks struct{ disk }

// Renew gives node i credentials that end at until; it has them from its next start on.
func (s *Simulated) Renew(i int, until time.Time) {
	s.T.Helper()
	s.chains[i] = s.issue(s.RootIssuer(), s.keys[i], s.Members[i].Path, s.nodeUser, until, s.Members[i].Services...)
}

// node completes the configuration of node i.
func (s *Simulated) node(c *node.Config, i int) {
	c.Network, c.Clock = s.host(s.NodeAddr(i)), s.clock
	c.MetaFS = s.disks[i].meta
	now := vfs.BootAt([16]byte{1, byte(i), s.boots[i].number}, s.boots[i].dir)
	c.Boot = &now
	if c.FS == nil {
		c.FS = s.disks[i].rest
	}
}

// client completes the configuration of the newest client.
func (s *Simulated) client(c *cluster.ClientConfig) {
	c.Network, c.Clock = s.host(s.ClientAddr(s.clients-1)), s.clock
}

// host is the one that began with an address.
func (s *Simulated) host(at netip.Addr) *simnet.Host {
	if s.hosts == nil {
		s.hosts = map[netip.Addr]*simnet.Host{}
	}
	if s.hosts[at] == nil {
		s.hosts[at] = s.Net.Host(at)
	}
	return s.hosts[at]
}

// Move gives the host that began with an address, of a node or a client, another one.
func (s *Simulated) Move(began, to netip.Addr) { s.host(began).Move(to) }

// Elapsed is how much time has passed since the domain was made.
func (s *Simulated) Elapsed() time.Duration { return time.Since(s.clock.start) }

// Status asks a client for the cluster's status, and fails the test if it has none.
func (s *Simulated) Status(c *cluster.Client) *cluster.Status {
	s.T.Helper()
	ctx, cancel := context.WithTimeout(s.T.Context(), time.Minute)
	defer cancel()
	status, err := c.Status(ctx)
	s.must(err)
	return status
}

// Healthy waits until the cluster says that nothing is missing, and returns how long that took.
func (s *Simulated) Healthy(c *cluster.Client) time.Duration {
	s.T.Helper()
	begun := time.Now()
	s.Await("health", func() bool { return s.Status(c).Health == cluster.HealthOK })
	return time.Since(begun)
}

// Leader is the index of the node that leads the metadata group.
func (s *Simulated) Leader(c *cluster.Client) int {
	s.T.Helper()
	for i, n := range s.Status(c).Nodes {
		if n.Leader {
			for j, m := range s.Members {
				if m.Path.Short() == string(n.Path) {
					return j
				}
			}
			s.T.Fatalf("node %d of the status, %s, is no member", i, n.Path)
		}
	}
	s.T.Fatal("there is no leader")
	return 0
}

var _ blocktree.Clock = bubbleClock{}

package config

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"blocktree"
	"blocktree/internal/cli"
)

// socketPathBytesMax is what the kernel takes as the name of a unix socket, its final zero byte left out.
const socketPathBytesMax = 107

// Durabilities are what a file may be made with: its answered writes are durable, or are so from the next flush on.
func Durabilities() []string { return []string{"ack", durabilityFlush} }

const durabilityFlush = "flush"

// Integrities are what a file may be made with: its sectors prove themselves, or a tree proves that they are the newest, too.
func Integrities() []string { return []string{"sector", integrityTree} }

const integrityTree = "tree"

// Transports are the carriers that a configuration may ask for.
func Transports() []string { return []string{"auto", "quic", "tcp"} }

// missing is the error of a key without a value.
func missing(key, hint string) error { return cli.Invalid(hint, "%s is missing", key) }

// at says which key an error is about.
func at(key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", key, err)
}

// validate checks what all configurations have and fills in defaults.
func (b *Base) validate() error {
	if b.Transport == "" {
		b.Transport = "auto"
	}
	if b.Log.Level == "" {
		b.Log.Level = "info"
	}
	switch {
	case b.Root().IsZero():
		return missing("domain.root", "it is the id of the domain's root principal, that every path starts with")
	case b.Path == "":
		return missing("path", "it is the place of this runtime in the domain, for example /node1")
	case b.Identity.Key == "":
		return missing("identity.key", "it names the file of this runtime's secret key")
	case b.Identity.Credentials == "":
		return missing("identity.credentials", "it names the file of this runtime's credentials")
	case !slices.Contains(Transports(), b.Transport):
		return cli.Invalid("use one of "+strings.Join(Transports(), ", "), "transport: %q is not a transport", b.Transport)
	case !slices.Contains(cli.LogLevels(), b.Log.Level):
		return cli.Invalid("use one of "+strings.Join(cli.LogLevels(), ", "), "log.level: %q is not a log level", b.Log.Level)
	case len(b.Readers) > readersMax:
		return cli.Invalid("wrap new files to fewer readers", "readers: %d, at most %d", len(b.Readers), readersMax)
	}
	for i, r := range b.Readers {
		if r == "" {
			return cli.Invalid("remove the entry", "readers[%d] is empty", i)
		}
	}
	if _, err := b.Resolve(b.Path); err != nil {
		return at("path", err)
	}
	if err := b.Domain.validateWay(b); err != nil {
		return err
	}
	return b.Cluster.validate(b)
}

// validate checks the members of a cluster, each alone and against the others.
func (c *Cluster) validate(b *Base) error {
	if c.Directory == "" {
		return missing("cluster.directory", "it is the directory whose cluster this is, / for a domain of one cluster")
	}
	dir, err := b.Resolve(c.Directory)
	if err != nil {
		return at("cluster.directory", err)
	}
	if n := len(c.Members); n == 0 && len(b.Domain.Seeds) == 0 && b.Domain.DNS.Name == "" || n > membersMax {
		return cli.Invalid("list the founding sector hosts of the cluster, or say in domain.seeds or domain.dns how the root directory is found", "cluster.members: %d of them, 1 to %d are possible", n, membersMax)
	}
	if c.SpareAfter.Duration != 0 && c.SpareAfter.Duration < time.Second {
		return cli.Invalid("a restart takes longer; 10m is the default", "cluster.spareAfter: %v is too short", c.SpareAfter)
	}
	once := onlyOnce()
	for i := range c.Members {
		if err := c.Members[i].validate(b, dir, fmt.Sprintf("cluster.members[%d]", i), once); err != nil {
			return err
		}
	}
	return c.validateParents(b, dir)
}

// onlyOnce refuses what a list has twice.
func onlyOnce() func(key, what string) error {
	seen := map[string]string{}
	return func(key, what string) error {
		if other, ok := seen[what]; ok {
			return cli.Invalid("give each member its own", "%s: %s is also that of %s", key, what, other)
		}
		seen[what] = key
		return nil
	}
}

func (m *Member) validate(b *Base, dir blocktree.Path, key string, once func(key, what string) error) error {
	switch {
	case m.Path == "":
		return missing(key+".path", "it is the place of the member, directly in the cluster's directory")
	case m.Principal.IsZero():
		return missing(key+".principal", "it is the id that the member has to prove")
	case m.Store.NodeID == 0:
		return missing(key+".store", "it is the id of the member's store, as its own store.id says")
	case len(m.Endpoints) == 0 || len(m.Endpoints) > endpointsMax:
		return cli.Invalid("write host:port, the member's listen address as others reach it",
			"%s.endpoints: %d of them, 1 to %d are possible", key, len(m.Endpoints), endpointsMax)
	}
	for _, s := range m.Services {
		if s != blocktree.ServiceFilesystem && s != blocktree.ServiceSector {
			return cli.Invalid("write services: [filesystem] where the member is a filesystem service, else leave it out", "%s.services: there is no service %q", key, s)
		}
	}
	p, err := b.Resolve(m.Path)
	if err != nil {
		return at(key+".path", err)
	}
	if p.Parent() != dir || p == dir {
		return cli.Invalid("a sector host is placed directly in the directory whose sectors it keeps",
			"%s.path: %s is not directly in %s", key, p.Short(), dir.Short())
	}
	for _, what := range []string{string(p), m.Principal.String(), m.Store.String()} {
		if err := once(key, what); err != nil {
			return err
		}
	}
	for _, e := range m.Endpoints {
		if err := checkAddress(e); err != nil {
			return at(key+".endpoints", err)
		}
		if err := once(key, e); err != nil {
			return err
		}
	}
	return nil
}

// validate checks a node's configuration: it has to be one of the members it lists.
func (n *Node) validate() error {
	if err := n.Base.validate(); err != nil {
		return err
	}
	switch {
	case n.Listen == "":
		return missing("listen", "write host:port, for example 0.0.0.0:7001")
	case n.Store.Dir == "":
		return missing("store.dir", "it names the directory of this node's store, made when it is absent")
	case n.Store.ID.NodeID == 0:
		return missing("store.id", "it is the store's id, 16 hexadecimal digits, never used twice in a domain")
	}
	if err := n.validateParents(); err != nil {
		return err
	}
	if err := checkAddress(n.Listen); err != nil {
		return at("listen", err)
	}
	if err := n.Metrics.validate(); err != nil {
		return err
	}
	if n.Filesystem.Anonymous && n.Filesystem.ReaderKey == "" {
		return missing("filesystem.readerKey", "it names the file of the secret key that opens what the filesystem service serves; without it there is none")
	}
	if n.Filesystem.KeepNames != nil && n.Filesystem.ReaderKey == "" {
		return missing("filesystem.readerKey", "keepNames is for a filesystem service; without a key there is none")
	}
	me := n.RuntimePath()
	if len(n.Cluster.Members) == 0 {
		return n.validateBelow(me)
	}
	for _, m := range n.Runtimes() {
		if m.Path != me {
			continue
		}
		if m.Node != n.Store.ID.NodeID {
			return cli.Invalid("write the same id in both places", "store.id is %s, but cluster.members says %s of %s",
				n.Store.ID, m.Node, me.Short())
		}
		return nil
	}
	return cli.Invalid("add this node to cluster.members, on every member alike", "path: %s is not among cluster.members", me.Short())
}

// validateBelow checks that of a node that finds its cluster by itself.
func (n *Node) validateBelow(me blocktree.Path) error {
	dir := n.Directory()
	switch {
	case dir == blocktree.RootPath(n.Root()):
		return cli.Invalid("list the nodes of the root directory in cluster.members: nobody is above them to be asked", "cluster.members is empty")
	case me.Parent() != dir:
		return cli.Invalid("a sector host is placed directly in the directory whose sectors it keeps", "path: %s is not directly in %s", me.Short(), dir.Short())
	}
	return nil
}

// validate checks an NBD server's configuration.
func (n *NBD) validate() error {
	if err := n.Base.validate(); err != nil {
		return err
	}
	switch {
	case n.ReaderKey == "":
		return missing("readerKey", "it names the file of the secret key that opens encrypted files: a device is sealed by its server alone, and no filesystem service opens it instead (btnode locate PATH says which case applies)")
	case len(n.Exports) == 0 && n.OnDemand.Below == "" || len(n.Exports) > exportsMax:
		return cli.Invalid("list the files to serve, each with its path; or give them on demand, with an onDemand: section",
			"exports: %d of them, 1 to %d are possible", len(n.Exports), exportsMax)
	}
	if cache, ahead := n.CacheBytes(), n.ReadAheadBytes(); ahead > cache/2 {
		return cli.Invalid("make the cache larger, or write readAhead: off", "readAhead: %s is more than half of the cache of %s, of which it is a part",
			cli.FormatSize(uint64(ahead)), cli.FormatSize(uint64(cache)))
	}
	if n.StateDir == "" {
		n.StateDir = StateDirDefault
	}
	if err := n.validateListeners(); err != nil {
		return err
	}
	if err := n.Metrics.validate(); err != nil {
		return err
	}
	if err := n.OnDemand.validate(&n.Base); err != nil {
		return at("onDemand", err)
	}
	if err := n.checkClients("onDemand", n.OnDemand.Clients); err != nil {
		return err
	}
	seen := map[blocktree.Path]bool{}
	for i := range n.Exports {
		key := fmt.Sprintf("exports[%d]", i)
		e := &n.Exports[i]
		if e.Path == "" {
			return missing(key+".path", "it is the file to serve, for example /vm/disk0")
		}
		p, err := n.Resolve(e.Path)
		if err != nil {
			return at(key+".path", err)
		}
		if seen[p] {
			return cli.Invalid("leave one of them", "%s.path: %s is exported twice", key, p.Short())
		}
		seen[p] = true
		if err := checkEncryption(e.Encryption); err != nil {
			return at(key, err)
		}
		if err := n.checkClients(key, e.Clients); err != nil {
			return err
		}
		if e.Create != nil {
			if err := e.Create.Validate(len(n.Cluster.Members)); err != nil {
				return at(key+".create", err)
			}
		}
	}
	return nil
}

// Validate checks how a file is to be made in a cluster of so many members, 0 where that is not known: its code, its sectors and its size. It
// fails with kind Invalid or TooLarge and a hint.
func (c *Create) Validate(members int) error {
	if c.Size == 0 {
		return missing("size", "write a size such as 1GiB")
	}
	if c.Code.Data == 0 {
		return missing("code", "write K+M, for example 2+1")
	}
	if err := c.Code.Validate(); err != nil {
		return err
	}
	if members > 0 && c.Code.Shards() > members {
		return cli.Invalid(fmt.Sprintf("use a code of at most %d shards, or add nodes", members),
			"code %v needs %d nodes, the cluster has %d", &c.Code, c.Code.Shards(), members)
	}
	sector := uint64(c.Sector())
	if sector < blocktree.SectorBytesMin || sector > blocktree.SectorBytesMax || sector&(sector-1) != 0 {
		return cli.Invalid("use a power of two, 4KiB where nothing speaks for another",
			"sector size %d is not a power of two from %d to %d", sector, blocktree.SectorBytesMin, blocktree.SectorBytesMax)
	}
	if uint64(c.Size)%sector != 0 {
		return cli.Invalid(fmt.Sprintf("use a multiple of %d bytes", sector), "size %d is not a multiple of the sector size %d", uint64(c.Size), sector)
	}
	if uint64(c.Size) > blocktree.FileBytesMax {
		return &blocktree.Error{Op: "size", Kind: blocktree.TooLarge,
			Err:  fmt.Errorf("%s, at most %s", c.Size.String(), cli.FormatSize(blocktree.FileBytesMax)),
			Hint: "make several smaller files"}
	}
	if c.Durability != "" && !slices.Contains(Durabilities(), c.Durability) {
		return cli.Invalid("use ack, where what was answered is durable; or flush, where what was flushed is, which is faster",
			"durability: %q is neither ack nor flush", c.Durability)
	}
	switch {
	case c.Integrity != "" && !slices.Contains(Integrities(), c.Integrity):
		return cli.Invalid("use sector, or tree, by which nodes that all go back in time are noticed", "integrity: %q is neither sector nor tree", c.Integrity)
	case c.Tree() && !c.Encrypted():
		return cli.Invalid("have it encrypted, or use integrity sector", "integrity tree without encryption would keep nobody from anything")
	}
	return checkEncryption(c.Encryption)
}

func checkEncryption(s string) error {
	if s != "" && s != "on" && s != "none" {
		return cli.Invalid("use on, or none to keep integrity only", "encryption: %q is neither on nor none", s)
	}
	return nil
}

// listenHint shows how an NBD address is written.
const listenHint = "write unix:PATH or tcp:HOST:PORT, for example unix:/run/btnbd/nbd.sock or tcp:127.0.0.1:10809"

// CheckListen refuses an address that an NBD server cannot or may not listen on: TCP beyond loopback has to be asked
// for, by insecure or by TLS with certificates of clients.
func CheckListen(listen string, insecure bool) error {
	if name, ok := strings.CutPrefix(listen, "unix:"); ok {
		if name == "" || len(name) > socketPathBytesMax {
			return cli.Invalid("use a shorter directory", "the name of the socket has %d bytes, 1 to %d are possible", len(name), socketPathBytesMax)
		}
		return nil
	}
	address, ok := strings.CutPrefix(listen, "tcp:")
	if !ok {
		return cli.Invalid(listenHint, "%q is not an address", listen)
	}
	if err := checkAddress(address); err != nil {
		return cli.WithHint(err, listenHint)
	}
	host, _, _ := net.SplitHostPort(address) // checked above
	ip := net.ParseIP(host)
	if host != "localhost" && (ip == nil || !ip.IsLoopback()) && !insecure {
		return cli.Invalid("listen on loopback or a unix socket; or require TLS and clients' certificates, with a tls: section; or accept that anyone who reaches the port can read and write, with --insecure (insecure: true)",
			"%s is reachable from other machines, and clients need not prove who they are", listen)
	}
	return nil
}

// CheckEndpoints refuses addresses of a runtime that nobody could dial.
func CheckEndpoints(list []string) error {
	if len(list) == 0 || len(list) > endpointsMax {
		return cli.Invalid("write host:port, the node's listen address as others reach it", "%d endpoints, 1 to %d are possible", len(list), endpointsMax)
	}
	for _, e := range list {
		if err := checkAddress(e); err != nil {
			return err
		}
	}
	return nil
}

// checkAddress refuses what is not host:port with a fixed port.
func checkAddress(address string) error {
	const hint = "write host:port, for example 127.0.0.1:7001 or [::1]:7001"
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return cli.Invalid(hint, "%q is not host:port", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return cli.Invalid(hint, "%q has no port from 1 to 65535", address)
	}
	if len(host) > 253 || strings.ContainsAny(host, " \t\n/") {
		return cli.Invalid(hint, "%q has no valid host", address)
	}
	return nil
}

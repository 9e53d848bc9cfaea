package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"blocktree"
	"blocktree/internal/cli"
)

// FormatVersion is the version of all three files that this software writes and the newest that it reads.
const FormatVersion = 1

// Bounds of a file; each is far above what a person writes.
const (
	fileBytesMax = 1 << 20
	membersMax   = 128  // sector hosts of one cluster: seven voters and their learners
	endpointsMax = 16   // addresses of one runtime
	readersMax   = 256  // keys that new files are wrapped to
	exportsMax   = 1024 // blockdev.ExportsMax
)

// Base is what every runtime has to know: who it is, in which domain, and which cluster it works with.
type Base struct {
	Version   int      `yaml:"version" mapstructure:"version"`
	Path      string   `yaml:"path" mapstructure:"path"`     // the place of this runtime, short or with the root principal
	Domain    Domain   `yaml:"domain" mapstructure:"domain"` // whose names are ours
	Identity  Identity `yaml:"identity" mapstructure:"identity"`
	Transport string   `yaml:"transport,omitempty" mapstructure:"transport"` // auto, quic or tcp
	Cluster   Cluster  `yaml:"cluster" mapstructure:"cluster"`
	Readers   []string `yaml:"readers,omitempty" mapstructure:"readers"` // public keys (crypto/keys) that new files are wrapped to
	Log       Log      `yaml:"log,omitempty" mapstructure:"log"`
}

// Domain names everything under one root principal.
type Domain struct {
	Root Principal `yaml:"root" mapstructure:"root"`
	Name string    `yaml:"name,omitempty" mapstructure:"name"` // for people; DNS has a name of its own
	// Seeds and DNS are two ways to runtimes of the root directory; one of them, or none.
	Seeds []Member `yaml:"seeds,omitempty" mapstructure:"seeds"`
	DNS   DNS      `yaml:"dns,omitempty" mapstructure:"dns"`
}

// Identity is the pair of files that prove who a runtime is.
type Identity struct {
	Key         string `yaml:"key" mapstructure:"key"`
	Credentials string `yaml:"credentials" mapstructure:"credentials"`
}

// Cluster is the directory cluster that a runtime belongs to or works with, with all its founding sector hosts; none where Domain.Seeds lead to it.
type Cluster struct {
	Directory string   `yaml:"directory" mapstructure:"directory"`
	Members   []Member `yaml:"members,omitempty" mapstructure:"members"`
	// Parents are runtimes of the cluster above, for a client also of others above or below, that are asked for a way where firewalls are between.
	Parents []Parent `yaml:"parents,omitempty" mapstructure:"parents"`
	// SpareAfter is how long a node must have been away before others take its places over; 0: blocktree.SpareAfter.
	SpareAfter Duration `yaml:"spareAfter,omitempty" mapstructure:"spareAfter"`
}

// Member is one sector host of the cluster.
type Member struct {
	Path      string    `yaml:"path" mapstructure:"path"`
	Principal Principal `yaml:"principal" mapstructure:"principal"`
	Store     StoreID   `yaml:"store" mapstructure:"store"`
	Endpoints []string  `yaml:"endpoints,flow" mapstructure:"endpoints"`
	Services  []string  `yaml:"services,flow,omitempty" mapstructure:"services"` // beside sector, which all have: filesystem
}

// Log says how much is logged to stderr.
type Log struct {
	Level string `yaml:"level,omitempty" mapstructure:"level"`
}

// Node is btnode.yaml: a sector host.
type Node struct {
	Base       `yaml:",inline" mapstructure:",squash"`
	Listen     string     `yaml:"listen" mapstructure:"listen"` // host:port, UDP for QUIC and TCP for lanes
	Store      Store      `yaml:"store" mapstructure:"store"`
	Scrub      Scrub      `yaml:"scrub,omitempty" mapstructure:"scrub"`
	Filesystem Filesystem `yaml:"filesystem,omitempty" mapstructure:"filesystem"`
	Metrics    Metrics    `yaml:"metrics,omitempty" mapstructure:"metrics"`
}

// Filesystem makes a node a filesystem service as well, if it has a reader key.
type Filesystem struct {
	ReaderKey string `yaml:"readerKey,omitempty" mapstructure:"readerKey"` // file of the secret key that opens what is served
	Anonymous bool   `yaml:"anonymous,omitempty" mapstructure:"anonymous"` // callers without credentials may read what everybody may
	KeepNames *bool  `yaml:"keepNames,omitempty" mapstructure:"keepNames"` // nil: KeepsNames
}

// KeepsNames reports whether the service keeps the names of directories that it makes, so that small files there cost less; unless it is said otherwise it does.
func (f *Filesystem) KeepsNames() bool { return f.KeepNames == nil || *f.KeepNames }

// Scrub says how fast a node checks in the background what it keeps.
type Scrub struct {
	Rate Amount `yaml:"rate,omitempty" mapstructure:"rate"` // bytes per second, or off
}

// BytesPerSecond is the rate; zero is no scrub in the background.
func (s Scrub) BytesPerSecond() int64 { return s.Rate.bytes(blocktree.ScrubRateDefault) }

// Store is where a node keeps its shards.
type Store struct {
	Dir string  `yaml:"dir" mapstructure:"dir"`
	ID  StoreID `yaml:"id" mapstructure:"id"`
	// Space is how much what is kept may take of what is live in it before writes wait.
	Space Percent `yaml:"space,omitempty" mapstructure:"space"`
}

// Percent is a part as the files spell it: 150%. Zero was not given.
type Percent int64

// UnmarshalText reads how much space a store may take.
func (p *Percent) UnmarshalText(text []byte) error {
	number, ok := strings.CutSuffix(string(text), "%")
	n, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil || n < blocktree.SpacePercentMin || n > blocktree.SpacePercentMax {
		return cli.Invalid(fmt.Sprintf("write a whole number from %d to %d and %%, for example 150%%: of what is live in a store", blocktree.SpacePercentMin, blocktree.SpacePercentMax),
			"%q is no space that a store may take", text)
	}
	*p = Percent(n)
	return nil
}

// MarshalText prints it.
func (p Percent) MarshalText() ([]byte, error) {
	return []byte(strconv.FormatInt(int64(p), 10) + "%"), nil
}

// NBD is btnbd.yaml: an NBD server.
type NBD struct {
	Base      `yaml:",inline" mapstructure:",squash"`
	ReaderKey string    `yaml:"readerKey" mapstructure:"readerKey"` // file of the secret key that opens files
	Listen    Addresses `yaml:"listen" mapstructure:"listen"`       // unix:PATH or tcp:HOST:PORT, with tls+ or plain+ before it or not
	Insecure  bool      `yaml:"insecure,omitempty" mapstructure:"insecure"`
	TLS       TLS       `yaml:"tls,omitempty" mapstructure:"tls"`
	Control   string    `yaml:"control,omitempty" mapstructure:"control"` // a socket's path, off, or what ControlSocket says
	Cache     Amount    `yaml:"cache,omitempty" mapstructure:"cache"`
	ReadAhead Amount    `yaml:"readAhead,omitempty" mapstructure:"readAhead"` // of Cache, at most half
	StateDir  string    `yaml:"stateDir,omitempty" mapstructure:"stateDir"`   // what outlives the server: access records and roots that were seen, and marks of files of durability flush
	Exports   []Export  `yaml:"exports,omitempty" mapstructure:"exports"`
	OnDemand  OnDemand  `yaml:"onDemand,omitempty" mapstructure:"onDemand"`
	Metrics   Metrics   `yaml:"metrics,omitempty" mapstructure:"metrics"`
}

// StateDirDefault is where an NBD server keeps what outlives it: systemd's StateDirectory=btnbd.
const StateDirDefault = "/var/lib/btnbd"

// Export is one file offered as a device.
type Export struct {
	Path        string    `yaml:"path" mapstructure:"path"`
	ReadOnly    bool      `yaml:"readOnly,omitempty" mapstructure:"readOnly"`
	Description string    `yaml:"description,omitempty" mapstructure:"description"`
	Encryption  string    `yaml:"encryption,omitempty" mapstructure:"encryption"` // on (default) or none; create's, where there is one
	Clients     []Allowed `yaml:"clients,omitempty" mapstructure:"clients"`       // none: whoever gets past the listener
	Root        string    `yaml:"root,omitempty" mapstructure:"root"`             // of a file of integrity tree: what it must at least have come to
	Create      *Create   `yaml:"create,omitempty" mapstructure:"create"`
}

// Create says how the file is made when it is absent.
type Create struct {
	Size       cli.Size `yaml:"size" mapstructure:"size"`
	Code       cli.Code `yaml:"code" mapstructure:"code"`
	SectorSize cli.Size `yaml:"sectorSize,omitempty" mapstructure:"sectorSize"` // default 4KiB
	Encryption string   `yaml:"encryption,omitempty" mapstructure:"encryption"` // on (default) or none
	Durability string   `yaml:"durability,omitempty" mapstructure:"durability"` // of an answered write: ack (default) or flush
	Integrity  string   `yaml:"integrity,omitempty" mapstructure:"integrity"`   // sector (default), or tree
}

// Client is client.yaml: whoever works with files through the commands.
type Client struct {
	Base      `yaml:",inline" mapstructure:",squash"`
	ReaderKey string `yaml:"readerKey,omitempty" mapstructure:"readerKey"` // file of the secret key that opens files without a filesystem service
}

// anything has the keys of all three files, for commands that take any of them.
type anything struct {
	NBD        `yaml:",inline" mapstructure:",squash"`
	Store      Store      `yaml:"store" mapstructure:"store"`
	Scrub      Scrub      `yaml:"scrub" mapstructure:"scrub"`
	Filesystem Filesystem `yaml:"filesystem" mapstructure:"filesystem"`
}

// Duration is a length of time as the files spell it: 90s, 10m, 2h.
type Duration struct{ time.Duration }

// UnmarshalText reads a length of time.
func (d *Duration) UnmarshalText(text []byte) (err error) {
	if d.Duration, err = time.ParseDuration(string(text)); err != nil {
		return cli.Invalid("write a number and s, m or h, for example 10m", "%q is not a length of time", text)
	}
	return nil
}

// MarshalText prints a length of time.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Principal is a principal as the files spell it.
type Principal struct{ blocktree.Principal }

// UnmarshalText reads a principal's id.
func (p *Principal) UnmarshalText(text []byte) (err error) {
	p.Principal, err = blocktree.ParsePrincipal(string(text))
	return cli.WithHint(err, "the id of a principal is the letter e and 52 letters or digits")
}

// MarshalText prints a principal's id.
func (p Principal) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// StoreID is a store's id as the files spell it.
type StoreID struct{ blocktree.NodeID }

// UnmarshalText reads a store's id.
func (s *StoreID) UnmarshalText(text []byte) (err error) {
	s.NodeID, err = blocktree.ParseNodeID(string(text))
	return cli.WithHint(err, "a store's id is 16 hexadecimal digits, for example 00c0ffee00c0ffee")
}

// MarshalText prints a store's id.
func (s StoreID) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Amount is a size that can be left out: not given, off, or a number of bytes.
type Amount struct {
	Off  bool
	Size cli.Size
}

// bytes is the number of bytes; zero is off.
func (c Amount) bytes(unless int64) int64 {
	switch {
	case c.Off:
		return 0
	case c.Size == 0:
		return unless
	}
	return int64(c.Size)
}

// CacheBytes is the bound that the read cache gets; zero is no cache.
func (n *NBD) CacheBytes() int64 { return n.Cache.bytes(blocktree.ReadCacheBytesDefault) }

// ReadAheadBytes is what of the read cache holds sectors that are read ahead of a client; zero is no reading ahead.
func (n *NBD) ReadAheadBytes() int64 {
	cache := n.CacheBytes()
	if cache == 0 {
		return 0
	}
	return n.ReadAhead.bytes(min(blocktree.ReadAheadBytesMaxDefault, cache/blocktree.ReadAheadPartDefault))
}

// IsZero reports whether nothing was said.
func (c Amount) IsZero() bool { return c == Amount{} }

// UnmarshalText reads "off" or a size.
func (c *Amount) UnmarshalText(text []byte) error {
	*c = Amount{}
	if string(text) == "off" {
		c.Off = true
		return nil
	}
	return c.Size.UnmarshalText(text)
}

// MarshalText prints what UnmarshalText reads.
func (c Amount) MarshalText() ([]byte, error) {
	if c.Off {
		return []byte("off"), nil
	}
	return c.Size.MarshalText()
}

// Sector returns the sector size of a new file in bytes.
func (c *Create) Sector() int {
	if c.SectorSize == 0 {
		return blocktree.SectorBytesDefault
	}
	return int(c.SectorSize)
}

// Encrypted reports whether the sectors of a new file are encrypted. (They are authenticated in any case.)
func (c *Create) Encrypted() bool { return c.Encryption != "none" }

// Flushes reports whether writes to a new file are durable from the next flush on only.
func (c *Create) Flushes() bool { return c.Durability == durabilityFlush }

// Tree reports whether a new file has a tree, by which members that all go back in time are noticed.
func (c *Create) Tree() bool { return c.Integrity == integrityTree }

// Encrypted reports whether the exported file must be an encrypted one.
func (e *Export) Encrypted() bool {
	if e.Create != nil && e.Encryption == "" {
		return e.Create.Encrypted()
	}
	return e.Encryption != "none"
}

// Root returns the root principal of the domain.
func (b *Base) Root() blocktree.Principal { return b.Domain.Root.Principal }

// Resolve reads a path as the domain sees it: "/vm/disk0" is below the domain's root principal.
func (b *Base) Resolve(path string) (blocktree.Path, error) {
	p, err := blocktree.ParsePath(path, b.Root())
	if err != nil {
		return "", cli.WithHint(err, "a path is absolute inside the domain, for example /vm/disk0")
	}
	if p.Root() != b.Root() {
		return "", &blocktree.Error{Op: "path", Path: path, Kind: blocktree.Unsupported,
			Hint: "paths of other domains are not served yet; leave the first name out"}
	}
	return p, nil
}

// Directory returns the directory whose cluster this is. The configuration must be valid.
func (b *Base) Directory() blocktree.Path {
	p, _ := b.Resolve(b.Cluster.Directory) // validated
	return p
}

// Runtimes returns the founding members of the cluster. The configuration must be valid.
func (b *Base) Runtimes() []blocktree.Runtime { return b.runtimes(b.Cluster.Members) }

// Founders is Runtimes with all services of each, as the process records of a cluster that is founded have them; nil where there are no members.
func (b *Base) Founders() []blocktree.Runtime {
	if len(b.Cluster.Members) == 0 {
		return nil
	}
	list := b.Runtimes()
	for i := range list {
		for _, s := range b.Cluster.Members[i].Services {
			if !slices.Contains(list[i].Services, s) {
				list[i].Services = append(list[i].Services, s)
			}
		}
	}
	return list
}

func (b *Base) runtimes(members []Member) []blocktree.Runtime {
	list := make([]blocktree.Runtime, 0, len(members))
	for _, m := range members {
		p, _ := b.Resolve(m.Path) // validated
		list = append(list, blocktree.Runtime{
			Path: p, Principal: m.Principal.Principal, Node: m.Store.NodeID,
			Endpoints: append([]string(nil), m.Endpoints...), Services: []string{blocktree.ServiceSector},
		})
	}
	return list
}

// Filesystems returns the members that are filesystem services, as such. The configuration must be valid.
func (b *Base) Filesystems() []blocktree.Runtime {
	var list []blocktree.Runtime
	for i, r := range b.Runtimes() {
		if slices.Contains(b.Cluster.Members[i].Services, blocktree.ServiceFilesystem) {
			r.Services = []string{blocktree.ServiceFilesystem}
			list = append(list, r)
		}
	}
	return list
}

// RuntimePath returns the place of this runtime. The configuration must be valid.
func (b *Base) RuntimePath() blocktree.Path {
	p, _ := b.Resolve(b.Path) // validated
	return p
}

// fileKeys are the keys whose values are file names, relative to the file that names them.
func fileKeys() []string {
	return []string{"identity.key", "identity.credentials", "store.dir", "readerKey", "filesystem.readerKey", "stateDir", "tls.certificate", "tls.key", "tls.clientCA", "control"}
}

// inDirectory makes a file name of a configuration file in dir absolute or relative to the working directory.
func inDirectory(dir, name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

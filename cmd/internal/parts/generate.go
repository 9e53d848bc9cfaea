package parts

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/crypto/keys"
	"blocktree/internal/cli"
	"blocktree/internal/config"
)

// credentialsTerm is how long the credentials of a playground are valid.
const credentialsTerm = 10 * 365 * 24 * time.Hour

// Ports are looked for below the range that Linux hands out to outgoing connections, so that a node which was down for
// a while finds its port free.
const (
	portMin   = 20000
	portMax   = 32000
	portTries = 2000
)

// workPrefix begins the name of the directory in which a playground is made.
const workPrefix = ".generate-"

// domain makes the identities of one domain into files.
type domain struct {
	issuer *Issuer
	now    time.Time
}

// generate makes all files in a directory of a temporary name and moves them to their places.
func (p *Playground) generate(o Options) error {
	if err := p.vacant(); err != nil {
		return err
	}
	work, err := os.MkdirTemp(p.Dir, workPrefix)
	if err != nil {
		return fileError("playground", p.Dir, err)
	}
	if err = p.fill(work, o); err == nil {
		err = publish(work, p.Dir)
	}
	if rm := os.RemoveAll(work); err == nil && rm != nil {
		err = fileError("playground", work, rm)
	}
	p.Created = err == nil
	return err
}

// vacant refuses a directory that has anything but what a killed predecessor left unfinished, which it removes: nobody
// else can be at work there, because the directory is locked.
func (p *Playground) vacant() error {
	entries, err := os.ReadDir(p.Dir)
	if err != nil {
		return fileError("playground", p.Dir, err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), workPrefix) {
			return &blocktree.Error{Op: "playground", Path: p.Dir, Kind: blocktree.Exists,
				Err: fmt.Errorf("it has %s and is not a playground", e.Name()), Hint: "use an empty or a new directory"}
		}
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(p.Dir, e.Name())); err != nil {
			return fileError("playground", p.Dir, err)
		}
	}
	return nil
}

// publish moves what is in work to dir, client.yaml last; on an error it takes back what it moved.
func publish(work, dir string) error {
	entries, err := os.ReadDir(work)
	if err != nil {
		return fileError("playground", work, err)
	}
	sort.SliceStable(entries, func(i, j int) bool { return entries[i].Name() != "client.yaml" && entries[j].Name() == "client.yaml" })
	for i, e := range entries {
		if err := os.Rename(filepath.Join(work, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			for _, back := range entries[:i] {
				_ = os.RemoveAll(filepath.Join(dir, back.Name())) // the first error is the one to tell
			}
			return fileError("playground", dir, err)
		}
	}
	return nil
}

// fill writes the whole playground into work. Its files name one another as they will lie in p.Dir.
func (p *Playground) fill(work string, o Options) error {
	root, err := cred.GenerateKey()
	if err != nil {
		return err
	}
	d := &domain{now: time.Now()}
	if d.issuer, err = NewIssuer(root, nil, d.now); err != nil {
		return err
	}
	if err := root.Save(filepath.Join(work, "root.key")); err != nil {
		return err
	}
	reader := keys.NewReaderKey()
	if err := reader.Save(filepath.Join(work, "reader.key")); err != nil {
		return err
	}
	ports, err := freePorts(o.Nodes)
	if err != nil {
		return err
	}
	members := make([]config.Member, o.Nodes)
	for i := range members {
		name := fmt.Sprintf("node%d", i+1)
		p.Nodes = append(p.Nodes, p.nodeFile(i))
		if err := os.Mkdir(filepath.Join(work, name), 0o700); err != nil {
			return fileError("playground", work, err)
		}
		key, err := d.identity(filepath.Join(work, name, "node"), "/"+name, o.services()...)
		if err != nil {
			return err
		}
		members[i] = config.Member{Path: "/" + name, Principal: config.Principal{Principal: key.Principal()},
			Store: config.StoreID{NodeID: newStoreID()}, Endpoints: []string{ports[i]}, Services: o.services()[1:]}
	}
	base := config.Base{Version: config.FormatVersion, Domain: config.Domain{Root: config.Principal{Principal: root.Principal()}, Name: "playground"},
		Transport: "auto", Cluster: config.Cluster{Directory: "/", Members: members}, Log: config.Log{Level: "info"}}
	return p.writeConfigs(work, o, d, base, reader.Public().String())
}

// services are what a node of the playground may register; the first is the one that all have.
func (o *Options) services() []string {
	if o.Filesystem {
		return []string{blocktree.ServiceSector, blocktree.ServiceFilesystem}
	}
	return []string{blocktree.ServiceSector}
}

// writeConfigs writes the configuration of every node, of the NBD server and of the client.
func (p *Playground) writeConfigs(work string, o Options, d *domain, base config.Base, reader string) error {
	comment := "Made by `" + o.Name + "`; configs/ in the sources of blocktree explains every key."
	for i, m := range base.Cluster.Members {
		node := config.Node{Base: base, Listen: m.Endpoints[0], Store: config.Store{Dir: "store", ID: m.Store}}
		node.Path = m.Path
		node.Identity = config.Identity{Key: "node.key", Credentials: "node.cred"}
		if o.Filesystem {
			node.Filesystem = config.Filesystem{ReaderKey: filepath.Join("..", "reader.key"), Anonymous: true}
		}
		if err := writeConfig(filepath.Join(work, fmt.Sprintf("node%d", i+1), "btnode.yaml"), comment, &node); err != nil {
			return err
		}
	}
	base.Readers = []string{reader}
	for _, name := range []string{"btnbd", "client"} {
		if _, err := d.identity(filepath.Join(work, name), "/"+name); err != nil {
			return err
		}
	}
	client := config.Client{Base: base}
	client.Path, client.Identity = "/client", config.Identity{Key: "client.key", Credentials: "client.cred"}
	if err := writeConfig(filepath.Join(work, "client.yaml"), comment, &client); err != nil {
		return err
	}
	nbd := config.NBD{Base: base, ReaderKey: "reader.key", Listen: config.Addresses{"unix:" + filepath.Join(p.Dir, "nbd.sock")}, StateDir: "btnbd.state",
		Exports: []config.Export{{Path: Disk, Description: "the first disk", Create: &config.Create{Size: o.Size, Code: o.Code, Durability: o.Durability}}}}
	nbd.Path, nbd.Identity = "/btnbd", config.Identity{Key: "btnbd.key", Credentials: "btnbd.cred"}
	if err := config.CheckListen(nbd.Listen[0], false); err != nil {
		return err
	}
	return writeConfig(filepath.Join(work, "btnbd.yaml"), comment, &nbd)
}

// identity makes a key and its credentials as the files name.key and name.cred.
func (d *domain) identity(name, path string, services ...string) (cred.Key, error) {
	key, err := cred.GenerateKey()
	if err != nil {
		return cred.Key{}, err
	}
	chain, _, err := d.issuer.Issue(Request{Subject: key.Public(), Path: path, Services: services, Valid: credentialsTerm}, d.now)
	if err != nil {
		return cred.Key{}, err
	}
	if err := key.Save(name + ".key"); err != nil {
		return cred.Key{}, err
	}
	return key, chain.Save(name + ".cred")
}

func writeConfig(name, comment string, c any) error {
	text, err := config.Marshal(comment, c)
	if err != nil {
		return err
	}
	if err := os.WriteFile(name, text, 0o600); err != nil {
		return fileError("playground", name, err)
	}
	return nil
}

// newStoreID draws an id that is not zero.
func newStoreID() blocktree.NodeID {
	var b [8]byte
	for {
		if _, err := rand.Read(b[:]); err != nil {
			panic(err) // crypto/rand does not fail since Go 1.24
		}
		if id := binary.BigEndian.Uint64(b[:]); id != 0 {
			return blocktree.NodeID(id)
		}
	}
}

// freePorts finds n loopback addresses whose port is free for TCP and for UDP, all at once.
func freePorts(n int) ([]string, error) {
	var free []string
	var held []interface{ Close() error }
	defer func() {
		for _, h := range held {
			h.Close() // only listened
		}
	}()
	for range portTries {
		if len(free) == n {
			return free, nil
		}
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(portMin+int(uint64(newStoreID())%(portMax-portMin))))
		tcp, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		held = append(held, tcp)
		udp, err := net.ListenPacket("udp", address)
		if err != nil {
			continue
		}
		held = append(held, udp)
		free = append(free, address)
	}
	return nil, cli.WithHint(blocktree.E("playground", blocktree.Busy, errors.New("too few free ports on 127.0.0.1")),
		"look with `ss -ltn` what uses them")
}

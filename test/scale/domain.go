package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/route"
)

// shape is a tree of clusters: how many children the clusters of each level have, and how many directories, beside its own, each cluster keeps.
type shape struct {
	name        string
	fan         []int
	directories int
	plain       bool // answerers know how far their answers hold
}

// clusters is how many there are, the root's among them.
func (s shape) clusters() int {
	total, level := 1, 1
	for _, f := range s.fan {
		level *= f
		total += level
	}
	return total
}

// hostsEach is how many sector hosts each cluster has.
const hostsEach = 3

// domain is all of it. A cluster is made when it is first looked at: its place follows from its path.
type domain struct {
	shape
	lives   time.Duration
	founds  time.Duration
	root    cred.Key
	path    blocktree.Path
	begin   time.Time
	now     time.Time
	made    map[blocktree.Scope]*cluster
	asked   uint64 // runtimes, and
	atRoot  uint64 // those of them that are the root's
	refused uint64 // that were not there any more
}

// cluster is one of them.
type cluster struct {
	d       *domain
	dir     blocktree.Scope
	level   int
	own     bool     // of a directory that had none at first
	key     cred.Key // of all its hosts: one is as good as three here
	signers [hostsEach]*route.Signer
	answer  *route.Answerer
	from    int // the host that answers now
}

func newDomain(s shape, lives time.Duration) (*domain, error) {
	key, err := cred.GenerateKey()
	if err != nil {
		return nil, err
	}
	begin := time.Unix(1_800_000_000, 0)
	return &domain{shape: s, lives: lives, root: key, path: blocktree.RootPath(key.Principal()), begin: begin, now: begin, made: map[blocktree.Scope]*cluster{}}, nil
}

// directory is the n-th directory of the domain, spread over the clusters in turn.
func (d *domain) directory(n int) blocktree.Scope {
	c := n % d.clusters()
	dir := d.dirOf(c)
	if i := n / d.clusters() % (d.directories + 1); i > 0 {
		dir = dir.Join("d" + strconv.Itoa(i))
	}
	return dir
}

// dirOf is the directory of the c-th cluster, level by level.
func (d *domain) dirOf(c int) blocktree.Scope {
	level, before := 1, 0
	for depth := 0; ; depth++ {
		if c-before < level {
			index, names := c-before, make([]string, depth)
			for i := depth - 1; i >= 0; i-- {
				names[i] = "c" + strconv.Itoa(index%d.fan[i])
				index /= d.fan[i]
			}
			dir := d.path
			for _, n := range names {
				dir = dir.Join(n)
			}
			return dir
		}
		before += level
		level *= d.fan[depth]
	}
}

// home returns the cluster of a scope: the names that are clusters', from the root on.
func (d *domain) home(scope blocktree.Scope) (*cluster, error) {
	dir, level := d.path, 0
	for name := range strings.SplitSeq(strings.TrimPrefix(scope.Short(), "/"), "/") {
		if level == len(d.fan) || !strings.HasPrefix(name, "c") {
			break
		}
		dir, level = dir.Join(name), level+1
	}
	own := false
	if level == len(d.fan) { // does the next name have a cluster of its own by now?
		rest := strings.TrimPrefix(string(scope[len(dir):]), "/")
		if name, _, _ := strings.Cut(rest, "/"); strings.HasPrefix(name, "d") && !strings.HasPrefix(name, "disk") && d.founded(dir.Join(name)) {
			dir, own = dir.Join(name), true
		}
	}
	if c := d.made[dir]; c != nil {
		return c, nil
	}
	key, err := cred.GenerateKey()
	if err != nil {
		return nil, err
	}
	c := &cluster{d: d, dir: dir, level: level, own: own, key: key}
	var ns route.Namespace = c
	if d.plain {
		ns = plain{c}
	}
	c.answer, err = route.NewAnswerer(route.AnswererConfig{Namespace: ns, Signer: func() route.Signer { return *c.signers[c.from] },
		Now: func() time.Time { return d.now }})
	d.made[dir] = c
	return c, err
}

// moves is how often the cluster has changed its addresses by now.
func (c *cluster) moves() int {
	if c.d.lives == 0 {
		return 0
	}
	return int((c.d.now.Sub(c.d.begin) + phase(c.dir, c.d.lives)) / c.d.lives)
}

// phase is a time within a span that follows from a directory.
func phase(dir blocktree.Scope, span time.Duration) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(dir.Short()))
	return time.Duration(float64(span) * float64(h.Sum32()) / (1 << 32))
}

// founded reports whether a directory of the last level has a cluster of its own by now.
func (d *domain) founded(dir blocktree.Scope) bool {
	return d.founds > 0 && d.now.Sub(d.begin) >= phase(dir, d.founds)
}

// runtimes are the cluster's sector hosts, where they are now.
func (c *cluster) runtimes() []blocktree.Runtime {
	list := make([]blocktree.Runtime, hostsEach)
	for i := range list {
		list[i] = blocktree.Runtime{Path: c.dir.Join("node" + strconv.Itoa(i)), Principal: c.key.Principal(), Node: blocktree.NodeID(i + 1),
			Endpoints: []string{fmt.Sprintf("m%d.n%d:7000", c.moves(), i)}, Services: []string{blocktree.ServiceSector}}
	}
	return list
}

func (c *cluster) redirect() route.Redirect {
	return route.Redirect{Directory: c.dir, Generation: blocktree.Generation(c.level + 1), Runtimes: c.runtimes()}
}

// sign lets the i-th host answer.
func (c *cluster) sign(i int) error {
	c.from = i
	if c.signers[i] != nil {
		return nil
	}
	chain, err := cred.Issue(c.d.root, nil, c.d.root.Principal(), cred.Grant{Subject: c.key.Public(), Path: c.dir.Join("node" + strconv.Itoa(i)),
		Services: []string{blocktree.ServiceSector}, NotBefore: c.d.begin, NotAfter: c.d.begin.Add(1000 * time.Hour)})
	c.signers[i] = &route.Signer{Key: c.key, Credentials: chain}
	return err
}

// Directory implements route.Namespace.
func (c *cluster) Directory() blocktree.Scope { return c.dir }

// Parent implements route.Namespace.
func (c *cluster) Parent(context.Context) (route.Redirect, bool, error) {
	if c.level == 0 {
		return route.Redirect{}, false, nil
	}
	up, err := c.d.home(c.dir.Parent())
	if err != nil {
		return route.Redirect{}, false, err
	}
	return up.redirect(), true, nil
}

// Delegated implements route.Namespace.
func (c *cluster) Delegated(_ context.Context, scope blocktree.Scope) (route.Redirect, bool, error) {
	rest, ok := strings.CutPrefix(string(scope), string(c.dir)+"/")
	name, _, _ := strings.Cut(rest, "/")
	below := strings.HasPrefix(name, "c")
	if c.level == len(c.d.fan) {
		below = !c.own && strings.HasPrefix(name, "d") && !strings.HasPrefix(name, "disk") && c.d.founded(c.dir.Join(name))
	}
	if !ok || !below {
		return route.Redirect{}, false, nil
	}
	child, err := c.d.home(c.dir.Join(name))
	if err != nil {
		return route.Redirect{}, false, err
	}
	return child.redirect(), true, nil
}

// Registered implements route.Namespace.
func (c *cluster) Registered(_ context.Context, dir blocktree.Scope, service string) ([]blocktree.Runtime, error) {
	if dir == c.dir && service == blocktree.ServiceSector {
		return c.runtimes(), nil
	}
	return nil, nil
}

// OthersRead implements route.Namespace.
func (c *cluster) OthersRead(context.Context, blocktree.Scope) (bool, error) { return true, nil }

// HasRight implements route.Namespace.
func (c *cluster) HasRight(context.Context, cred.Identity, blocktree.Scope) (bool, error) {
	return false, nil
}

// plain is a cluster that knows how far its answers hold: of all it keeps, if nothing below is delegated, else of the one directory.
type plain struct{ *cluster }

// Plain implements route.Plain.
func (p plain) Plain(_ context.Context, scope blocktree.Scope) (blocktree.Scope, bool, error) {
	if p.level == len(p.d.fan) && (p.d.founds == 0 || p.own) {
		return p.dir, true, nil
	}
	if scope == p.dir {
		return "", false, nil
	}
	return scope[:len(p.dir)+1+strings.IndexByte(string(scope[len(p.dir)+1:])+"/", '/')], true, nil
}

// member asks in the name of a runtime of the domain. It is alone, so that no bound of a querier is met.
type member struct {
	d  *domain
	id cred.Identity
}

// Ask implements route.Asker.
func (m member) Ask(ctx context.Context, to blocktree.Runtime, in blocktree.Scope, q route.Query) ([]byte, error) {
	c, err := m.d.home(in)
	if err != nil {
		return nil, err
	}
	m.d.asked++
	var moves, host int
	if _, err := fmt.Sscanf(to.Endpoints[0], "m%d.n%d:7000", &moves, &host); err != nil {
		return nil, err
	}
	if moves != c.moves() {
		m.d.refused++
		return nil, blocktree.E("dial", blocktree.Unavailable, errors.New("nobody there"))
	}
	if c.level == 0 {
		m.d.atRoot++
	}
	if err := c.sign(host); err != nil {
		return nil, err
	}
	return c.answer.Serve(ctx, q.Encode(), route.Querier{Identity: m.id})
}

// rootSeeds are the root's runtimes, where they are now.
type rootSeeds struct{ d *domain }

// Seeds implements route.Seeder.
func (s rootSeeds) Seeds(context.Context) ([]blocktree.Runtime, error) {
	c, err := s.d.home(s.d.path)
	if err != nil {
		return nil, err
	}
	return c.runtimes(), nil
}

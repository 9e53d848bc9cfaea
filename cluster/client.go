package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
	"blocktree/route"
)

// ClientConfig says who a client is and where its cluster can be found.
type ClientConfig struct {
	Path        blocktree.Path // of this runtime
	Root        blocktree.Principal
	Key         cred.Key
	Credentials cred.Credentials
	Transport   bttp.Transport
	Network     bttp.Network       // nil: the machine's
	Loopback    *bttp.Loopback     // of the runtime, where a service of it is in the same process; nil: it is reached over the network
	Resolver    blocktree.Resolver // names the sector hosts of the cluster that is used; nil: Routes or Seeds lead there
	Routes      *Routes            // of the process; nil: the client has its own
	Seeds       route.Seeder       // of its own routes, sector hosts of the root directory; nil: they begin with the cluster that is used
	Scope       blocktree.Scope    // directory whose cluster is used; where it has none of its own, that of the nearest above it that has
	Logger      *slog.Logger
	Clock       blocktree.Clock
	// Ways are runtimes of clusters above the one that is used, or below, that are asked for a way to nodes that cannot be dialled, beside those above that the client's own routes have met.
	Ways []blocktree.Runtime
	// Speaks says that the runtime is a filesystem service of user id 0: it asks clusters below its own directory in the name of its callers, too (OnBehalf).
	Speaks bool
	// SpareAfter is how long a node must have been away before spares take its places over; 0: blocktree.SpareAfter.
	SpareAfter time.Duration
}

// Client speaks to one cluster: its metadata, and through handles its sectors; what another cluster of the domain keeps, it asks of that (tree). It owns the connections to the sector
// hosts and one session, opened when the first lease is wanted.
type Client struct {
	cfg      ClientConfig
	endpoint *bttp.Endpoint
	owned    bool    // endpoint is the client's to close
	keeps    bool    // peers are the client's, which follows who they are
	routes   *Routes // its own to close, if cfg has none
	tree     *tree   // nil: it follows no redirects
	inTree   inTree
	peers    *peers
	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	lead lead

	mu       sync.Mutex
	session  *session
	leaves   map[meta.SessionID]*leaving
	wants    map[blocktree.FileID]*wanting // directories that others keep
	wantFor  time.Duration                 // as the constant
	settling map[turn]chan struct{}        // files of which a command's outcome is being found out; closed when it is
	draining []blocktree.NodeID            // as far as is known, ascending
	closed   bool
	readers  map[*Reader]struct{}
	suspects *suspects
	spaces   *spaces

	strangers chan struct{} // the nodes may be others than those that are known

	runs runPool
}

// Dial makes a client of the cluster of cfg.Scope. Of one that the resolver names it does not wait for any node to answer; the first request does. One that is to be found is asked for until somebody
// says which it is, or ctx ends. The error kinds are Invalid, NotFound (no such cluster), Unauthenticated (the seeds are of another domain), and Unavailable or Timeout when ctx ended.
func Dial(ctx context.Context, cfg ClientConfig) (*Client, error) {
	const op = "cluster.Dial"
	var runtimes []blocktree.Runtime
	var err error
	if cfg.Resolver != nil {
		if runtimes, err = cfg.Resolver.Closest(ctx, cfg.Scope, blocktree.ServiceSector); err != nil {
			return nil, &blocktree.Error{Op: op, Path: string(cfg.Scope), Err: err, Hint: "the config must list the sector hosts of the cluster"}
		}
	}
	endpoint, err := bttp.New(bttp.Config{Key: cfg.Key, Credentials: cfg.Credentials, Root: cfg.Root,
		Transport: cfg.Transport, Network: cfg.Network, Loopback: cfg.Loopback, Log: cfg.Logger, Clock: cfg.Clock})
	if err != nil {
		return nil, err
	}
	routes := cfg.Routes
	if routes == nil {
		routes, err = NewRoutes(RoutesConfig{Root: cfg.Root, Seeds: cfg.Seeds, Home: Home(cfg.Scope, runtimes), Ways: cfg.Ways, Logger: cfg.Logger, Clock: cfg.Clock})
		if err != nil {
			_ = endpoint.Close() // it has no connection
			return nil, &blocktree.Error{Op: op, Err: err, Hint: "name members of the cluster, or seeds of the root directory"}
		}
	}
	a := &routeAsker{endpoint: endpoint}
	routes.join(a)
	if runtimes == nil {
		if cfg.Scope, runtimes, err = routes.await(ctx, cfg.Scope); err != nil {
			routes.leave(endpoint)
			if cfg.Routes == nil {
				_ = routes.Close()
			}
			_ = endpoint.Close()
			return nil, &blocktree.Error{Op: op, Path: cfg.Scope.Short(), Err: err}
		}
	}
	c := newClient(cfg, endpoint, newPeers(endpoint, cfg.Logger))
	c.owned, c.routes = true, routes
	c.tree = newTree(c, routes)
	c.keep(runtimes)
	return c, nil
}

// Home is the cluster that a configuration lists, as far as it can be asked.
func Home(dir blocktree.Scope, runtimes []blocktree.Runtime) (r route.Redirect) {
	for _, x := range sectorHosts(runtimes) {
		if x.Path.Parent() == dir && len(x.Endpoints) > 0 {
			r.Runtimes = append(r.Runtimes, x)
		}
	}
	r.Directory = dir
	return r
}

// findPause is the pause before a cluster that is not found is looked for again, and findToldEvery how often the log says so.
const (
	findPause     = time.Second
	findToldEvery = 30 * time.Second
)

// await finds the cluster that keeps what is in a directory, as soon as somebody says which.
func (r *Routes) await(ctx context.Context, dir blocktree.Scope) (blocktree.Scope, []blocktree.Runtime, error) {
	var told time.Time
	for {
		in, hosts, err := r.nearest(ctx, dir, false)
		if err == nil {
			return in, hosts, nil
		}
		if kind := blocktree.KindOf(err); ctx.Err() != nil || kind != blocktree.Unavailable && kind != blocktree.Timeout && kind != blocktree.Busy {
			return dir, nil, err
		}
		if time.Since(told) >= findToldEvery {
			told = time.Now()
			r.cfg.Logger.Warn("the cluster is not found yet", "directory", dir.Short(), "err", err)
		}
		select {
		case <-ctx.Done():
			return dir, nil, err
		case <-time.After(findPause):
		}
	}
}

// keep begins to keep connections to the cluster's nodes, and to follow what is to be followed. Nodes of a cluster that is not the root directory's may be behind firewalls.
func (c *Client) keep(hosts []blocktree.Runtime) {
	c.keeps = true
	c.peers.stranger, c.peers.detours = c.strange, true
	if len(c.cfg.Ways) > 0 || c.cfg.Scope != blocktree.RootPath(c.cfg.Scope.Root()) {
		newWays(c.peers, c.tree.waysTo)
	}
	c.peers.ensure(hosts)
	c.wg.Go(c.followRecords)
	c.wg.Go(c.tellSuspects)
	c.wg.Go(c.followDraining)
	c.wg.Go(c.followSizes)
	if c.tree.first.owned {
		c.wg.Go(c.followRevoked)
	}
}

// newClient makes a client over an endpoint and the connections to the cluster's nodes.
func newClient(cfg ClientConfig, endpoint *bttp.Endpoint, p *peers) *Client {
	c := &Client{cfg: cfg, endpoint: endpoint, peers: p, settling: map[turn]chan struct{}{}, lead: lead{patience: leaderPatience}, wantFor: wantFor, strangers: make(chan struct{}, 1)}
	if c.cfg.SpareAfter == 0 {
		c.cfg.SpareAfter = blocktree.SpareAfter
	}
	c.spaces = newSpaces()
	c.suspects = newSuspects(cfg.Logger, func(n blocktree.NodeID) string { return string(p.runtime(n).Path.Short()) })
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Close ends the session, releases what hangs on it and waits for every goroutine. Handles must be closed before.
func (c *Client) Close() error {
	var others []*Client
	if c.tree != nil && c.tree.first == c {
		others = c.tree.others()
	}
	for _, o := range others {
		_ = o.Close() // it has no endpoint of its own, which is all that could fail
	}
	c.mu.Lock()
	s := c.session
	var id meta.SessionID
	if s != nil {
		id = s.id
	}
	c.session, c.closed = nil, true
	if s != nil {
		s.endKept()
	}
	c.mu.Unlock()
	if s != nil {
		ctx, cancel := context.WithTimeout(c.ctx, 2*time.Second)
		_, _ = c.propose(ctx, meta.CloseSession{Session: id}) // a session that cannot be closed expires
		cancel()
	}
	if hs := c.suspects.takeHints(); c.keeps && len(hs) > 0 {
		c.peers.broadcast(codeSuspects, encodeHints(hs))
	}
	c.cancel()
	c.wg.Wait()
	if c.keeps {
		c.peers.close()
	}
	if c.owned {
		c.routes.leave(c.endpoint)
		if c.cfg.Routes == nil {
			_ = c.routes.Close()
		}
		return c.endpoint.Close()
	}
	return nil
}

// propose has the cluster do op once, however often it must be asked. It blocks until a result is known or ctx ends,
// which leaves the outcome unknown (kind Unavailable, or Closed). A refusal comes as a Result whose Kind is set.
func (c *Client) propose(ctx context.Context, op meta.Op) (meta.Result, error) {
	return c.proposeCommand(ctx, meta.Command{ID: meta.NewCommandID(), Op: op})
}

// proposeCommand is propose of a command that may have been proposed before. Redirects are followed, but for those to a file.
func (c *Client) proposeCommand(ctx context.Context, command meta.Command) (r meta.Result, err error) {
	p, f := meta.About(command.Op)
	if c.tree == nil || p == "" && f == (blocktree.FileID{}) {
		return c.proposeHere(ctx, command)
	}
	at := c.start(p, false, f)
	at, err = c.tree.follow(ctx, at, func(at *Client) (*meta.Redirect, error) {
		var err error
		r, err = at.proposeHere(ctx, command)
		return r.Redirect, err
	})
	if err == nil && r.Kind == blocktree.Other && r.Inode != nil {
		c.tree.isHome(r.Inode.ID, at)
	}
	return r, err
}

// start is who is asked first about a path, or about a file.
func (c *Client) start(p blocktree.Path, inside bool, f blocktree.FileID) *Client {
	if p != "" {
		return c.tree.nearest(p, inside)
	}
	return c.tree.home(f.Generation, c)
}

// proposeHere is proposeCommand to this cluster alone. Where somebody else keeps the names of a directory that would change (docs/design/0079) it is asked again, as the same command, until he has left it, or ctx ends: then nobody knows what becomes of it, as a copy of it may be done when he has left.
func (c *Client) proposeHere(ctx context.Context, command meta.Command) (meta.Result, error) {
	command.Caller = behind(ctx, command.Caller)
	if command.Keeper == (meta.SessionID{}) {
		command.Keeper = c.keeperIn(ctx)
	}
	for pause := keptPauseMin; ; pause = min(2*pause, keptPauseMax) {
		r, err := c.proposeOnce(ctx, command)
		if err != nil || r.Kind != blocktree.Busy || !r.Kept {
			return r, err
		}
		kind := blocktree.Other
		select {
		case <-ctx.Done():
			kind = blocktree.Unavailable
		case <-c.ctx.Done():
			kind = blocktree.Closed
		case <-time.After(pause):
		}
		if kind != blocktree.Other {
			return meta.Result{}, &blocktree.Error{Op: "cluster", Kind: kind, Err: errKept(r.Text), Hint: r.Hint}
		}
	}
}

// proposeOnce asks this cluster alone, and takes its answer as it is.
func (c *Client) proposeOnce(ctx context.Context, command meta.Command) (meta.Result, error) {
	request, err := meta.EncodeCommand(nil, command)
	if err != nil {
		return meta.Result{}, err
	}
	reply, err := c.ask(ctx, c.code(codePropose, codeProposeFor, command.Caller), request)
	if err != nil {
		return meta.Result{}, err
	}
	r, err := meta.DecodeResult(reply)
	c.noteWanted(r.Wanted)
	return r, err
}

// query asks the cluster, or the one that it redirects to; the answer is linearizable (but for QueryStatus). A refusal is an error.
func (c *Client) query(ctx context.Context, q meta.Query) (meta.Answer, error) {
	a, _, err := c.queryAt(ctx, q)
	if err == nil {
		err = a.Err("cluster")
	}
	return a, err
}

// queryAt is query that also says who answered; a refusal is in the answer.
func (c *Client) queryAt(ctx context.Context, q meta.Query) (a meta.Answer, at *Client, err error) {
	if c.tree == nil || q.Path == "" && q.File == (blocktree.FileID{}) {
		a, err = c.queryHere(ctx, q)
		return a, c, err
	}
	if q.Caller != nil { // as stays
		ctx = context.WithValue(ctx, behalfKey{}, q.Caller)
	}
	at, err = c.tree.follow(ctx, c.start(q.Path, q.Kind == meta.QueryList, q.File), func(at *Client) (*meta.Redirect, error) {
		var err error
		a, err = at.queryHere(ctx, q)
		return a.Redirect, err
	})
	if r := a.Redirect; err == nil && r != nil && q.Path != "" && r.File != (blocktree.FileID{}) { // it has moved: its home is asked
		if q.Path, q.File = "", r.File; q.Kind == meta.QueryStat {
			q.Kind = meta.QueryStatID
		}
		return at.queryAt(ctx, q)
	}
	if err == nil && a.Kind == blocktree.Other && a.Inode != nil {
		c.tree.isHome(a.Inode.ID, at)
	}
	return a, at, err
}

// queryHere asks this cluster alone. A refusal is in the answer. Where that may lack a name, or say that there is none, which the client of another session has given away and not told, it is asked again when that has told all (docs/design/0086).
func (c *Client) queryHere(ctx context.Context, q meta.Query) (meta.Answer, error) {
	q.Caller = behind(ctx, q.Caller)
	a, err := c.queryOnce(ctx, q)
	if err == nil && c.othersKeep(a.Kept) {
		return c.queryWhenLeft(ctx, q, a)
	}
	return a, err
}

// queryOnce asks this cluster alone, and takes its answer as it is.
func (c *Client) queryOnce(ctx context.Context, q meta.Query) (meta.Answer, error) {
	reply, err := c.ask(ctx, c.code(codeQuery, codeQueryFor, q.Caller), meta.EncodeQuery(nil, q))
	if err != nil {
		return meta.Answer{}, err
	}
	return meta.DecodeAnswer(reply)
}

// askTimeout bounds one try at one node; another node is tried then.
const askTimeout = 3 * time.Second

// deniedPatience is how long a request waits though every node refuses this runtime: new credentials may be on their way.
const deniedPatience = 2 * time.Second

// ask sends a request to one node after the other until one answers.
func (c *Client) ask(ctx context.Context, code uint16, request []byte) ([]byte, error) {
	const pauseMin, pauseMax = 20 * time.Millisecond, 250 * time.Millisecond
	pause := pauseMin
	var last error
	for begun := time.Now(); ; {
		nodes := c.peers.nodes()
		asked, older, before := 0, 0, error(nil)
		first := c.lead.first(nodes)
		for i := range nodes {
			if ctx.Err() != nil && last != nil { // the others would not be asked, and what version they are of nobody knows
				older = 0
				break
			}
			node := nodes[(first+i)%len(nodes)]
			began := time.Now()
			reply, sent, err := c.askNode(ctx, node, code, request)
			if err == nil {
				return reply, nil
			}
			if sent {
				asked++
			}
			if ctx.Err() == nil || last == nil {
				last = err
			}
			switch blocktree.KindOf(err) {
			case blocktree.Permission, blocktree.Unauthenticated, blocktree.TooLarge, blocktree.Unsupported:
				return nil, err
			case blocktree.NewerFormat, blocktree.Invalid: // one of a version before, which does not know the command, or the question
				older, before = older+1, err
			}
			c.lead.failed(nodes, node, sent && time.Since(began) >= c.lead.patience)
		}
		if older > 0 && older == asked { // all that were asked in this round are of a version before
			return nil, before
		}
		if why := c.peers.denied(); why != nil && time.Since(begun) >= deniedPatience {
			return nil, &blocktree.Error{Op: "cluster: no node takes this runtime", Kind: blocktree.Unavailable, Err: why,
				Hint: cmp.Or(blocktree.HintOf(why), "look at the credentials with btnode credential show, and at the clocks; they may have been revoked")}
		}
		select {
		case <-ctx.Done():
			return nil, &blocktree.Error{Op: "cluster: no node answers", Kind: blocktree.Unavailable, Err: last,
				Hint: hintNobodyAnswers}
		case <-c.ctx.Done():
			return nil, blocktree.E("cluster", blocktree.Closed, nil)
		case <-time.After(pause):
		}
		pause = min(pause*2, pauseMax)
	}
}

// askNode tries one node. It says whether that was asked.
func (c *Client) askNode(ctx context.Context, node blocktree.NodeID, code uint16, request []byte) (reply []byte, sent bool, err error) {
	conn := c.peers.conn(node)
	if conn == nil {
		return nil, false, &blocktree.Error{Op: "cluster", Runtime: c.peers.runtime(node).Path.Short(), Kind: blocktree.Unavailable}
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r, err := conn.CallWait(ctx, code, nil, request)
	if err != nil {
		return nil, true, err
	}
	defer r.Release()
	c.lead.heard(r.Header, func(n blocktree.NodeID) bool { return c.peers.conn(n) != nil })
	return append([]byte(nil), r.Body...), true, nil
}

// Stat describes the file or directory at path. NotFound where there is none.
func (c *Client) Stat(ctx context.Context, path blocktree.Path) (*meta.Inode, error) {
	a, err := c.query(ctx, meta.Query{Kind: meta.QueryStat, Path: path})
	if err != nil {
		return nil, &blocktree.Error{Op: "cluster.Stat", Path: path.Short(), Err: err}
	}
	if err := checkInode(a.Inode); err != nil {
		return nil, &blocktree.Error{Op: "cluster.Stat", Path: path.Short(), Err: err}
	}
	return a.Inode, nil
}

// checkInode refuses what no cluster would have: sizes that others divide by come over the network.
func checkInode(i *meta.Inode) error {
	if i != nil && i.Kind != meta.KindFile {
		return nil
	}
	if i == nil || i.Code.Validate() != nil || i.SectorBytes < blocktree.SectorBytesMin || i.SectorBytes > blocktree.SectorBytesMax ||
		i.SectorBytes&(i.SectorBytes-1) != 0 || i.SizeBytes == 0 || i.SizeBytes%uint64(i.SectorBytes) != 0 || i.SizeBytes > blocktree.FileBytesMax {
		return blocktree.E("inode", blocktree.Corrupt, errNoSense)
	}
	return nil
}

// layout asks for the newest layout of a file.
func (c *Client) layout(ctx context.Context, inode *meta.Inode) (*stripe.Layout, error) {
	a, err := c.query(ctx, meta.Query{Kind: meta.QueryLayout, File: inode.ID})
	if err == nil && !fits(a.Layout, inode) {
		err = blocktree.E("layout", blocktree.Corrupt, errors.New("the cluster's answer makes no sense"))
	}
	return a.Layout, err
}

// List returns the entries of a directory in the order of their names.
func (c *Client) List(ctx context.Context, path blocktree.Path) ([]meta.DirEntry, error) {
	var all []meta.DirEntry
	for after := ""; ; {
		entries, more, err := c.ListAfter(ctx, path, after, blocktree.ListEntriesMax)
		if err != nil {
			return nil, err
		}
		all = append(all, entries...)
		if !more || len(entries) == 0 || entries[len(entries)-1].Name <= after { // the last: no progress
			return all, nil
		}
		after = entries[len(entries)-1].Name
	}
}

// ListAfter returns at most limit of a directory's entries, in the order of their names, those after a name; more says that there are others behind them.
func (c *Client) ListAfter(ctx context.Context, path blocktree.Path, after string, limit int) (entries []meta.DirEntry, more bool, err error) {
	a, err := c.query(ctx, meta.Query{Kind: meta.QueryList, Path: path, After: after, Limit: limit})
	if err != nil {
		return nil, false, &blocktree.Error{Op: "cluster.List", Path: path.Short(), Err: err}
	}
	if err := checkListing(a.Entries, after, a.More); err != nil {
		return nil, false, &blocktree.Error{Op: "cluster.List", Path: path.Short(), Err: err}
	}
	return a.Entries, a.More, c.complete(ctx, a.Entries)
}

// checkListing refuses an answer that a directory cannot give: whoever goes on after its last name would not come to an end, or out of the directory.
func checkListing(entries []meta.DirEntry, after string, more bool) error {
	if more && len(entries) == 0 {
		return blocktree.E("listing", blocktree.Invalid, errors.New("the node's answer makes no sense: there is more after nothing"))
	}
	for i := range entries {
		n := entries[i].Name
		if err := blocktree.CheckName(n); err != nil {
			return blocktree.E("listing", blocktree.Invalid, fmt.Errorf("the node's answer makes no sense: %w", err))
		}
		if n <= after {
			return blocktree.E("listing", blocktree.Invalid, errors.New("the node's answer makes no sense: names out of order"))
		}
		after = n
	}
	return nil
}

// hintNobodyAnswers is what there is to do where no node of a cluster answers.
const hintNobodyAnswers = "are the nodes of the cluster running, and do they form a majority? see btnode status; those that cannot be dialled from here, behind a firewall or NAT, are reached only through runtimes above them, as domain.seeds, domain.dns or cluster.parents name them"

// startWait is how long CreateFile waits for nodes of the cluster that have never started, and both it and MakeDir for a cluster that is not founded yet.
const startWait = 10 * time.Second

// CreateFile makes a file as meta.CreateFile says, of a durability. While too few hosts have started it waits for them, for ten seconds.
func (c *Client) CreateFile(ctx context.Context, file meta.CreateFile, durability stripe.Durability) (*meta.Inode, error) {
	var op meta.Op = file
	if durability == stripe.DurabilityFlush {
		op = meta.CreateFlushFile{CreateFile: file}
	}
	return c.createFile(ctx, file.Path, op)
}

// proposeOnceStarted is propose that waits for a cluster which has just begun, for startWait.
func (c *Client) proposeOnceStarted(ctx context.Context, op meta.Op) (meta.Result, error) {
	deadline := time.Now().Add(startWait)
	r, err := c.propose(ctx, op)
	for err == nil && r.Kind == blocktree.Unavailable && time.Now().Before(deadline) && ctx.Err() == nil {
		time.Sleep(100 * time.Millisecond)
		r, err = c.propose(ctx, op)
	}
	return r, err
}

func (c *Client) createFile(ctx context.Context, path blocktree.Path, op meta.Op) (*meta.Inode, error) {
	r, err := c.proposeOnceStarted(ctx, op)
	if err == nil {
		err = r.Err("cluster.CreateFile")
	}
	if err == nil && r.Inode == nil {
		err = blocktree.E("cluster.CreateFile", blocktree.Corrupt, errors.New("the cluster's answer makes no sense"))
	}
	if err != nil {
		return nil, &blocktree.Error{Op: "create", Path: path.Short(), Err: err}
	}
	return r.Inode, nil
}

// Remove removes a file that nobody holds, or an empty directory.
func (c *Client) Remove(ctx context.Context, path blocktree.Path) error {
	inode, gone := c.Stat(ctx, path)
	named := nobodys
	if gone == nil {
		named = inode.ID
	} else if blocktree.KindOf(gone) != blocktree.NotFound || c.tree == nil || !c.tree.several() { // else it may be an entry whose file is gone from its home
		return gone
	}
	r, err := c.propose(ctx, meta.Remove{Path: path, File: named}) // whatever else may have the name by then stays
	switch {
	case err == nil && r.Redirect != nil && r.Redirect.File != (blocktree.FileID{}):
		err = c.removeMoved(ctx, path, r.Redirect.File)
	case gone != nil:
		return gone
	case err == nil:
		err = r.Err("cluster.Remove")
	}
	if err != nil {
		return &blocktree.Error{Op: "remove", Path: path.Short(), Err: err}
	}
	return nil
}

// RemoveFile removes the file or empty directory that was at a path, and no other that is there by now: NotFound. Kinds beside that as Remove.
func (c *Client) RemoveFile(ctx context.Context, path blocktree.Path, f blocktree.FileID) error {
	if f == (blocktree.FileID{}) { // which the command would take for any
		return &blocktree.Error{Op: "remove", Path: path.Short(), Kind: blocktree.Invalid, Err: errors.New("no file is named")}
	}
	r, err := c.propose(ctx, meta.Remove{Path: path, File: f})
	switch {
	case err == nil && r.Redirect != nil && r.Redirect.File == f:
		err = c.removeMoved(ctx, path, f)
	case err == nil && r.Redirect != nil && r.Redirect.File != (blocktree.FileID{}):
		err = blocktree.E("cluster.Remove", blocktree.NotFound, errors.New("another file has the name"))
	case err == nil:
		err = r.Err("cluster.Remove")
	}
	if err != nil {
		return &blocktree.Error{Op: "remove", Path: path.Short(), Err: err}
	}
	return nil
}

package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
	"blocktree/internal/vfs"
	"blocktree/internal/workers"
	"blocktree/route"
)

// ServiceConfig says which node of which cluster a service is.
type ServiceConfig struct {
	Path        blocktree.Path // of this runtime
	Root        blocktree.Principal
	Key         cred.Key
	Credentials cred.Credentials
	Listen      string // "host:port" for both carriers
	Transport   bttp.Transport
	Network     bttp.Network // nil: the machine's
	FS          vfs.FS       // of the sector store, and of what lies beside the metadata
	MetaFS      meta.FS      // of the metadata, with the same names; nil: the real one
	StoreDir    string
	MetaDir     string
	Boot        vfs.Boot // where the tail mark lies; the zero Boot: there is none
	Node        blocktree.NodeID
	Directory   blocktree.Scope           // whose entries the cluster keeps
	Members     []blocktree.Runtime       // every founding sector host, or every one there is now; this one included
	Records     []blocktree.Runtime       // of a cluster that is founded: Members with all services of each; nil: as Members
	Joins       bool                      // the cluster runs already, without this store: there is nothing to found
	Generation  blocktree.Generation      // of a cluster that is to be founded in a delegated directory; 0: it is the root cluster, or any that works by a list of members
	Routes      *Routes                   // of the process, which find the cluster above; nil: the service has its own, and begins with Members
	Hosts       func([]blocktree.Runtime) // is told of the cluster's sector hosts whenever their records change; nil: nobody wants to know
	// NoteAbove has the record that the cluster above keeps of this node, which was started with the addresses given, name another one, too; it may fail, and is called again. nil: nobody keeps one.
	NoteAbove  func(ctx context.Context, at string, given []string) error
	SpareAfter time.Duration // as in ClientConfig
	ScrubRate  int64         // bytes per second that a scrub in the background reads; 0: there is none
	// SpacePercent is as in store.Options; 0 is the default.
	SpacePercent int64
	Others       bttp.Handler              // serves messages of codes from CodesOfOthers on; nil: nobody does
	Admit        func(cred.Identity) error // as in bttp.Config. Whom it admits without credentials reaches Others and nothing else
	// Parents are runtimes of the cluster above, to one of which a member keeps a connection, where no process records above say so; nil, or none: there is none, as far as is known. It is
	// called often, and does not block.
	Parents func() []blocktree.Runtime
	// AdmitChild says whether who wants to be the uplink of its directory's cluster is a member of one; nil: who has a process record, and where there are none of that directory
	// whoever may keep sectors below this one's.
	AdmitChild func(cred.Identity) error
	Logger     *slog.Logger
	Clock      blocktree.Clock
	Loopback   *bttp.Loopback // the runtime's, by which its clients in the process reach the service in memory; nil: they do so over the network
	// Lie changes what the node answers about sectors, on the way out; nil in production. For tests of what a lying node can do.
	Lie func(to blocktree.Path, answer *stripe.Message)
}

// Service is the sector service of a node: a member of the cluster's Raft group and of its files' regions.
type Service struct {
	cfg      ServiceConfig
	member   *member
	group    *meta.Group
	endpoint *bttp.Endpoint
	peers    *peers
	gateway  atomic.Pointer[peers] // peers, once others may be passed on to them
	client   *Client               // of this cluster, over the service's own connections
	roster   *roster
	records  chan struct{} // the process records have changed
	fatal    chan error
	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup // of what the service does by itself
	holders  holders
	passes   passes
	audit    audit
	copyUps  copyUps
	syncs    atomic.Int64 // messages that wait in admit
	requests workers.Pool // of metadata requests and of messages that wait; none is added once the endpoint is closed
	learner  learner
	noticed  noticed      // of the healer
	mark     startMark    // as it was found
	volatile volatileMark // as it was found, if something vouches for it; join's from then on
	// remembered is what the mark beside the metadata said when it was found.
	remembered remembered
	scrubber   *scrubber
	revoked    revoked
	looks      hintLooks
	uplinks    *uplinks
	noting     atomic.Bool // an address of this node
	aboveNote  aboveNote
	crossing   *crossing
	routes     *Routes
	answerer   *route.Answerer
	name       []byte        // the store's id, as header of Raft messages
	begun      time.Duration // when it was opened, by Clock.Boot

	mu      sync.Mutex
	serving incarnations // zero until the service serves
	healing map[blocktree.FileID]context.CancelFunc
}

// OpenService opens (or makes) the node's stores, listens, and returns; the node serves once a majority of the group
// runs. Kinds: Busy (another process has the store or the address), Invalid (a store of another node, or metadata older than what
// the cluster or the node's own sectors know), NewerFormat, Corrupt (the sectors or the metadata are damaged beyond what the
// node mends, or gone), NoSpace, Permission (the address), IO.
func OpenService(ctx context.Context, cfg ServiceConfig) (*Service, error) {
	s := &Service{cfg: cfg, fatal: make(chan error, 1), roster: newRoster(cfg.Members), records: make(chan struct{}, 1),
		healing: map[blocktree.FileID]context.CancelFunc{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.begun = cfg.Clock.Boot()
	s.name = binary.BigEndian.AppendUint64(nil, uint64(cfg.Node))
	s.learner.init()
	s.holders.nodes, s.holders.known = s.roster, map[blocktree.FileID]holder{}
	s.passes.clock, s.audit.clock, s.audit.log = cfg.Clock, cfg.Clock, cfg.Logger
	if err := s.open(ctx); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Service) open(ctx context.Context) (err error) {
	if err = s.openSectors(ctx); err != nil {
		return err
	}
	if s.mark, err = s.loadMark(); err != nil {
		return err
	}
	if err = s.findVolatile(); err != nil {
		return err
	}
	s.endpoint, err = bttp.Listen(ctx, bttp.Config{Key: s.cfg.Key, Credentials: s.cfg.Credentials, Root: s.cfg.Root, Relay: s.relayTo, Admit: s.cfg.Admit,
		Addrs: []string{s.cfg.Listen}, Transport: s.cfg.Transport, Network: s.cfg.Network, Loopback: s.cfg.Loopback, Log: s.cfg.Logger, Clock: s.cfg.Clock})
	if err != nil {
		return err
	}
	s.endpoint.SetHandler(bttp.HandlerFunc(refuseEarly))
	s.member.endpoint.Store(s.endpoint)
	if err := s.refuseStale(ctx); err != nil {
		return err
	}
	s.peers = newPeers(s.endpoint, s.cfg.Logger)
	s.peers.greeted = s.here
	s.peers.ensure(s.cfg.Members)
	founders := s.cfg.Members
	if s.cfg.Joins {
		founders = nil
	}
	s.group, err = meta.Open(ctx, meta.Config{Dir: s.cfg.MetaDir, FS: s.cfg.MetaFS, Node: s.cfg.Node, Founders: founders, Send: s.sendRaft,
		Clock: s.cfg.Clock, Logger: s.cfg.Logger, OnApply: s.applied, RoomBytes: meta.RoomBytes})
	if err != nil {
		return err
	}
	s.member.group, s.holders.group, s.passes.group = s.group, s.group, s.group
	s.audit.pathOf = s.group.PathOf
	s.passes.led.Store(int64(s.cfg.Clock.Boot())) // it serves nobody before it has heard of one
	s.passes.tick()
	s.wg.Go(func() { s.watchPasses(s.ctx) })
	s.client = newClient(ClientConfig{Path: s.cfg.Path, Root: s.cfg.Root, Key: s.cfg.Key, Logger: s.cfg.Logger,
		Clock: s.cfg.Clock, Scope: s.cfg.Directory, SpareAfter: s.cfg.SpareAfter}, s.endpoint, s.peers)
	s.client.suspects.load(s.cfg.FS, s.cfg.StoreDir)
	s.readRecords(false)
	if err = s.readRevoked(); err != nil {
		return err
	}
	if err = s.openRoutes(); err != nil {
		return err
	}
	s.uplinks = s.newUplinks()
	s.followTree(s.uplinks)
	s.crossing = &crossing{endpoint: s.endpoint, uplinks: s.uplinks, mirror: s.mirror, now: s.cfg.Clock.Now, asks: newAsks()}
	s.endpoint.SetHandler(bttp.HandlerFunc(s.serve))
	s.ready()
	s.wg.Go(func() { s.uplinks.run(s.ctx) })
	s.scrubber = newScrubber(s)
	s.member.met.Store(s.scrubber)
	s.wg.Go(s.run)
	s.wg.Go(s.watchFatal)
	return nil
}

// openSectors opens the sector store. One that has run before waits for the space that it needs to start, as it would for any other: whoever
// started the node may be no one who looks. So does one that takes the place of a store that was lost: the cluster counts on it. A new node says
// that there is none.
func (s *Service) openSectors(ctx context.Context) error {
	err := s.openMember()
	if blocktree.KindOf(err) != blocktree.NoSpace {
		return err
	}
	if mark, e := loadStart(s.cfg.FS, s.cfg.StoreDir); !s.cfg.Joins && (e != nil || mark.current == 0) {
		return &blocktree.Error{Op: "cluster.OpenService", Path: s.cfg.StoreDir, Kind: blocktree.NoSpace, Err: err,
			Hint: fmt.Sprintf("a new store needs %d MiB of free space", blocktree.SegmentBytes>>20)}
	}
	return AwaitSpace(ctx, s.cfg.Logger, "the space that it needs to start", s.openMember)
}

func (s *Service) openMember() (err error) {
	if s.member, err = openMember(s.cfg.FS, s.cfg.StoreDir, s.cfg.Node, s.cfg.Logger, s.cfg.SpacePercent); err == nil {
		s.member.lie = s.cfg.Lie
	}
	return err
}

// loadMark reads the start mark. One that is damaged vouches for nothing, as one that is not there. A mark without the
// group's log beside it is a log that was lost: the member would vote anew under an id that has voted.
func (s *Service) loadMark() (startMark, error) {
	mark, err := loadStart(s.cfg.FS, s.cfg.StoreDir)
	if blocktree.KindOf(err) == blocktree.Corrupt {
		s.cfg.Logger.Error("the start mark is damaged: this node's shards will be copied up anew", "err", err)
		return startMark{}, nil
	}
	if err == nil && mark.current != 0 && meta.Missing(s.cfg.MetaFS, s.cfg.MetaDir) {
		return startMark{}, &blocktree.Error{Op: "cluster.OpenService", Path: s.cfg.MetaDir, Kind: blocktree.Corrupt,
			Err:  errors.New("the sector store has been a member, but its metadata is gone"),
			Hint: "restore the directory, or wipe the whole store and join with a new store id"}
	}
	return mark, err
}

// Fatal gives the error after which the process must exit: a disk that failed, or a store that is not the cluster's.
func (s *Service) Fatal() <-chan error { return s.fatal }

// Addrs returns the addresses that the service listens on.
func (s *Service) Addrs() []string { return s.endpoint.Addrs() }

func (s *Service) fail(err error) {
	select {
	case s.fatal <- err:
	default:
	}
}

func (s *Service) watchFatal() {
	select {
	case err := <-s.member.fatal:
		s.fail(err)
	case err := <-s.group.Fatal():
		s.fail(err)
	case <-s.ctx.Done():
	}
}

// Close stops serving, makes a checkpoint and gives the directories back.
func (s *Service) Close() error {
	s.cancel()
	var errs []error
	if s.client != nil {
		errs = append(errs, s.client.Close())
	}
	s.wg.Wait()
	if s.peers != nil {
		s.peers.close()
	}
	errs = append(errs, s.closeRoutes())
	if s.endpoint != nil {
		errs = append(errs, s.endpoint.Close())
	}
	s.requests.Wait()
	if s.group != nil {
		errs = append(errs, s.group.Close())
	}
	if s.member != nil {
		errs = append(errs, s.member.close())
	}
	return errors.Join(errs...)
}

// run brings the node into its cluster, then keeps its member up to date and heals files that nobody holds.
func (s *Service) run() {
	serving, err := s.join()
	if err != nil {
		if s.ctx.Err() == nil {
			s.fail(err)
		}
		return
	}
	removed, err := s.removedMeanwhile()
	if err != nil {
		if s.ctx.Err() == nil {
			s.fail(err)
		}
		return
	}
	if err := s.readRevoked(); err != nil { // a snapshot may have come
		s.fail(err)
		return
	}
	s.member.start(serving, removed)
	s.mu.Lock()
	s.serving = serving
	s.mu.Unlock()
	s.cfg.Logger.Info("serving", "node", s.cfg.Path.Short(), "store", s.cfg.Node.String(), "incarnation", serving.disk.String())
	s.wg.Go(s.heal)
	s.wg.Go(func() { s.scrubber.run(s.ctx) })
	s.wg.Go(s.followRecords)
	s.wg.Go(s.keepVoters)
	s.wg.Go(s.followParent)
	s.learner.run(s.ctx, s.member, s.group)
}

// removedMeanwhile returns the files that the member knows and that are not there any more, once the group's state here is at least what it was
// before the restart.
func (s *Service) removedMeanwhile() ([]blocktree.FileID, error) {
	for {
		ctx, cancel := context.WithTimeout(s.ctx, askTimeout)
		err := s.group.Sync(ctx)
		cancel()
		switch {
		case err == nil:
			return missing(s.member.files(), s.group.EachFile)
		case s.ctx.Err() != nil || blocktree.KindOf(err) != blocktree.Timeout && blocktree.KindOf(err) != blocktree.Unavailable:
			return nil, err
		}
	}
}

// join founds the cluster if it is new, and records this start of the node (startMark and volatileMark say in which order). It blocks
// until a majority answers.
func (s *Service) join() (incarnations, error) {
	var none incarnations
	r, err := s.client.propose(s.ctx, s.founding())
	if err != nil {
		return none, s.unwelcome(err)
	}
	if r.Kind != blocktree.Other && r.Kind != blocktree.Exists {
		return none, r.Err("found the cluster")
	}
	mark := s.mark
	for {
		known, err := s.knownStart()
		if err != nil {
			return none, err
		}
		serving, err := s.prepareStart(&mark, known)
		if err != nil {
			return none, err
		}
		start := meta.StartNode{Node: s.cfg.Node, Incarnation: mark.incarnation, StartCounter: mark.next, ExpectCounter: known.Counter}
		r, err := s.client.propose(s.ctx, meta.StartVolatile{StartNode: start, Volatile: serving.volatile})
		if err != nil {
			return none, s.unwelcome(err)
		}
		if r.Kind == blocktree.Other {
			mark.current = mark.next
			return serving, s.begin(mark)
		}
		if r.Kind != blocktree.StaleMember {
			return none, r.Err("start")
		}
	}
}

// prepareStart draws what a start proposes, where known is the newest that Raft has, and makes it durable. It refuses what nextMark refuses.
func (s *Service) prepareStart(mark *startMark, known meta.NodeStart) (incarnations, error) {
	next, err := s.nextMark(*mark, known, len(s.member.store.Damaged()))
	if err != nil {
		return incarnations{}, err
	}
	if v := &s.volatile; v.start != known.Counter && v.start != mark.next {
		*v = volatileMark{} // an older version's start, which knows no such mark: Raft, and so the layouts, have left its incarnation
	}
	*mark = next
	if err := s.saveMark(next); err != nil {
		return incarnations{}, err
	}
	serving := incarnations{next.incarnation, s.nextVolatile(next.incarnation)}
	s.volatile.start = next.next
	return serving, s.awaitVolatile()
}

// nextMark is the mark with which a start is proposed, where known is the newest that Raft knows. It refuses what remembered refuses.
func (s *Service) nextMark(mark startMark, known meta.NodeStart, damaged int) (startMark, error) {
	if err := s.remembered.refuse(s, known.Counter); err != nil {
		return startMark{}, err
	}
	if !mark.vouches(known.Counter) || mark.incarnation != known.Incarnation || damaged > 0 {
		if known.Counter != 0 {
			s.cfg.Logger.Warn("this store missed a start or is damaged: its shards will be copied up anew",
				"node", s.cfg.Path.Short(), "damaged", damaged)
		}
		mark.incarnation = randomIncarnation()
	}
	mark.next = s.nextToken(mark, known)
	s.remembered = remembered{token: mark.next}
	return mark, nil
}

// nextToken is later than all that Raft knows of this node, and than all that its disk has proposed: what Raft takes late is no start of another
// disk, then, and a disk that was put back knows none as late as those since.
func (s *Service) nextToken(mark startMark, known meta.NodeStart) uint64 {
	return max(known.Counter, mark.current, mark.next, s.remembered.token) + randomStep()
}

// unwelcome adds a hint where the others do not take this node's store for a host's.
func (s *Service) unwelcome(err error) error {
	if blocktree.KindOf(err) != blocktree.Permission {
		return err
	}
	return &blocktree.Error{Op: "start", Path: s.cfg.Path.Short(), Kind: blocktree.Permission, Err: err,
		Hint: "was this node removed? If its store was replaced (btnode node replace), " + replacedHint}
}

// saveMark makes the mark durable beside both of the node's stores, either of which may be lost without the other. On a full disk it waits: a
// node that others left no space is to come back by itself.
func (s *Service) saveMark(mark startMark) error {
	return AwaitSpace(s.ctx, s.cfg.Logger, "space to record its start", func() error { return s.saveMarks(mark) })
}

// saveMarks is saveMark without waiting.
func (s *Service) saveMarks(mark startMark) error {
	if s.cfg.MetaFS != nil { // else the metadata has made the directory
		if err := s.cfg.FS.MkdirAll(s.raftMarkDir()); err != nil {
			return err
		}
	}
	if err := mark.save(s.cfg.FS, s.raftMarkDir()); err != nil {
		return err
	}
	return mark.save(s.cfg.FS, s.cfg.StoreDir)
}

// knownStart returns what Raft has of this node's newest start; zeros if it has none.
func (s *Service) knownStart() (meta.NodeStart, error) {
	a, err := s.client.query(s.ctx, meta.Query{Kind: meta.QueryStarts})
	if err != nil {
		return meta.NodeStart{}, err
	}
	for _, n := range a.Starts {
		if n.Node == s.cfg.Node {
			return n, nil
		}
	}
	return meta.NodeStart{Node: s.cfg.Node}, nil
}

// serve takes every request that comes over the network: those of the cluster from anybody who has proven to be in the domain.
func (s *Service) serve(req *bttp.Request) {
	if req.Code >= CodesOfOthers && s.cfg.Others != nil {
		s.cfg.Others.Serve(req)
		return
	}
	if req.Code >= CodesOfOthers && !req.Conn.Peer().Anonymous() { // to nobody: it is looked for elsewhere (0048)
		req.Fail(blocktree.E("dispatch", blocktree.Undeliverable, errors.New("no such service at this runtime")))
		req.Release()
		return
	}
	if req.Code == codeRoute {
		s.serveRoute(req)
		req.Release()
		return
	}
	if req.Conn.Peer().Anonymous() {
		err := denied("anonymous callers may not ask for this")
		s.audit.refused(asker{req.Conn.Peer(), req.Conn.RemoteAddr()}, fmt.Sprintf("code %d", req.Code), "", err)
		req.Fail(err)
		req.Release()
		return
	}
	switch req.Code {
	case codeStripe:
		s.admit(req)
		return
	case codeRaft:
		if from, ok := s.roster.speaker(req); ok {
			_ = s.group.Step(from, req.Body) // a message that is dropped is sent again
		}
	case codeHello:
		s.hello(req)
	case codeReach:
		s.answerReach(req)
	case codeUplink:
		s.serveUplink(req)
	case codeUplinkHeld:
		s.serveUplinkHeld(req)
	case codeUplinkWord:
		s.serveUplinkWord(req)
	case codeWay:
		s.answerWay(req)
	case codeHere:
		s.serveHere(req)
	case codeYield:
		s.yield(req)
	case codeScrub, codeSpace:
		s.serveState(req)
	case codeSuspects:
		s.serveSuspects(req)
	case codeKnown:
		s.serveKnown(req)
		return
	case codeCopyUp:
		s.copyUps.told(req, s.holders.mayChange)
	case codeCopyUps:
		s.copyUps.answer(req)
	case codePropose, codeQuery, codeProposeFor, codeQueryFor:
		if req.OneWay {
			break // nothing bounds how many of them come
		}
		forwarded := len(req.Header) > 0
		body := append([]byte(nil), req.Body...)
		s.requests.Go(func() { s.answerMeta(req, forwarded, body) })
	default:
		req.Fail(blocktree.E("cluster", blocktree.Unsupported, nil))
	}
	req.Release()
}

// metaTimeout bounds the work on one metadata request of a client, which asks another node after askTimeout.
const metaTimeout = askTimeout - 500*time.Millisecond

// answerMeta answers a proposal or a query; what only the leader can do is forwarded to it, once.
func (s *Service) answerMeta(req *bttp.Request, forwarded bool, body []byte) {
	ctx, cancel := context.WithTimeout(s.ctx, metaTimeout)
	defer cancel()
	var reply []byte
	var err error
	from := speaker{asker{req.Conn.Peer(), req.Conn.RemoteAddr()}, req.Code == codeProposeFor || req.Code == codeQueryFor}
	if req.Code == codeQuery || req.Code == codeQueryFor {
		reply, err = s.answerQuery(ctx, from, body)
	} else {
		reply, err = s.answerPropose(ctx, from, forwarded, body)
	}
	if err != nil {
		req.Fail(err)
		return
	}
	req.Reply(s.leaderHeader(), reply)
}

func (s *Service) answerQuery(ctx context.Context, from speaker, body []byte) ([]byte, error) {
	q, err := meta.DecodeQuery(body)
	if err != nil {
		return nil, err
	}
	if from.speaks {
		if err := s.refusesFor(from.Identity, q.Caller, nil); err != nil {
			what, on := queryWords(&q)
			s.audit.refused(from.asker, what, on, err)
			return nil, err
		}
	}
	onBehalf := s.onBehalf(from, q.Caller)
	q.Caller, q.Time = s.calledBy(from, q.Caller, q.Time)
	a, err := s.group.Answer(ctx, q)
	if err != nil {
		return nil, err
	}
	if (a.Kind == blocktree.Permission || a.Kind == blocktree.Unauthenticated) && !onBehalf { // else who asked writes it
		what, on := queryWords(&q)
		s.audit.refused(from.asker, what, on, a.Err("cluster"))
	}
	return meta.EncodeAnswer(nil, a), nil
}

func (s *Service) answerPropose(ctx context.Context, from speaker, forwarded bool, body []byte) ([]byte, error) {
	command, err := meta.DecodeCommand(body)
	if err != nil {
		return nil, err
	}
	_, fromNode := s.roster.node(from.Principal)
	if forwarded = forwarded && fromNode && !from.speaks; !forwarded {
		err := s.permit(ctx, from.Identity, command.Op)
		if err == nil && command.Keeper != (meta.SessionID{}) {
			err = s.permitKeeper(ctx, from.Identity, &command)
		}
		if err == nil && from.speaks {
			err = s.refusesFor(from.Identity, command.Caller, command.Op)
		}
		if err != nil {
			if blocktree.KindOf(err) == blocktree.Permission {
				what, on := opWords(command.Op)
				s.audit.refused(from.asker, what, on, err)
			}
			return nil, err
		}
	}
	who, onBehalf := from.asker, s.onBehalf(from, command.Caller)
	if onBehalf {
		who.Identity = cred.Identity{Principal: command.Caller.Principal, Path: command.Caller.Path}
	}
	command.Caller, command.Time = s.calledBy(from, command.Caller, command.Time)
	r, err := s.group.Propose(ctx, command)
	if blocktree.KindOf(err) == blocktree.NotLeader && !forwarded {
		r, err = s.forward(ctx, r.Leader, command, err)
	}
	if err != nil {
		return nil, err
	}
	if !forwarded {
		s.audit.told(who, onBehalf, command.Op, &r)
	}
	return meta.EncodeResult(nil, r), nil
}

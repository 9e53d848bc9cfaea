package meta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/cluster/stripe"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3"
)

// FS is the disk as Pebble knows it.
type FS = vfs.FS

// Missing reports whether there is no directory dir on disk, which is the real one if it is nil.
func Missing(disk FS, dir string) bool {
	if disk == nil {
		disk = vfs.Default
	}
	_, err := disk.Stat(dir)
	return errors.Is(err, fs.ErrNotExist)
}

// Discard removes all that is in a group's directory, if that is there, durably; disk as in Missing. It keeps the directory, which may be a link or
// a disk of its own. No process may have it open.
func Discard(disk FS, dir string) error {
	if disk == nil {
		disk = vfs.Default
	}
	names, err := disk.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, name := range names {
		err = errors.Join(err, disk.RemoveAll(disk.PathJoin(dir, name)))
	}
	if err == nil {
		var opened vfs.File
		if opened, err = disk.OpenDir(dir); err == nil {
			err = errors.Join(opened.Sync(), opened.Close())
		}
	}
	if err != nil {
		return &blocktree.Error{Op: "meta.Discard", Path: dir, Kind: blocktree.IO, Err: err}
	}
	return nil
}

// Config is what a Group needs. Dir, Node, Send and Clock have no default.
type Config struct {
	Dir string // of the Pebble store; created if absent
	FS  FS     // nil: the real one
	// RoomBytes is how much space is kept allocated for the store, for a disk that others fill; then what finds no space waits for it.
	// 0: none, and a write without space is the end of the store.
	RoomBytes int64
	Node      blocktree.NodeID
	// Founders are the initial voters, used when Dir has no group yet: the same list at each of them. Only Node counts. A
	// store that joins a running group (AddMember) has none.
	Founders []blocktree.Runtime
	// Send carries a message, at most FrameBodyBytesMax long, to another member, whose Group.Step gets it with this Node as
	// from. It is called on the group's goroutine and must not block; msg is its to keep; it may drop it.
	Send   func(to blocktree.NodeID, msg []byte)
	Clock  blocktree.Clock
	Logger *slog.Logger // nil: silent
	// OnApply learns what was applied, in order, on the group's goroutine: it must not block nor call Propose, Sync,
	// Answer or Close. It may be nil.
	OnApply func(Changes)

	room  *room
	hooks hooks // tests of this package
}

// hooks let the tests of this package stand in for time, shrink bounds, and forget a sync.
type hooks struct {
	ticks           <-chan time.Time // instead of a RaftTick ticker
	truncateEntries uint64
	keepEntries     uint64
	applyBytes      int
	committed       func() // before each write of the store
	forgetLogSync   bool   // mutant: the log is not synced
	forgetVoteSync  bool   // mutant: term and vote are not synced
}

// Log bounds: a log longer than truncateEntries or truncateBytes is cut to its last keepEntries; a follower that lacks
// more gets a snapshot.
const (
	truncateEntries = 10000
	keepEntries     = 2000
	truncateBytes   = 64 << 20
	keepBytes       = 8 << 20
)

// Group is one member of a cluster's Raft group. Its methods may be called by many goroutines.
type Group struct {
	cfg  Config
	log  *slog.Logger
	db   *pebble.DB
	fail *failure

	inbox  inbox
	status atomic.Pointer[Status]
	stop   chan struct{}
	done   chan struct{} // the loop has ended
	once   sync.Once
	gate   gate // readers of db; Close waits for them
	cache  *cache

	// Below: the loop's alone.
	store     *logStore
	rn        *raft.RawNode
	leading   bool
	lead      blocktree.NodeID
	leadTerm  uint64
	applied   uint64
	ids       *doneIDs
	hard      []byte // the hard state that is written with what is applied next; nil: none
	tick      uint64
	proposals map[CommandID][]*proposal
	changing  []CommandID // changes of members that were proposed since the last Ready
	reads     readQueue
	sessions  map[SessionID]*sessionClock
	claims    map[blocktree.FileID]*claimClock
	heard     map[blocktree.NodeID]uint64 // tick of the last message
	sending   map[blocktree.NodeID]*snapshotSender
	receiving *snapshotReceiver

	acknowledged acknowledged
}

// Open opens or creates the member's store and starts it. It returns once the applied state can be read; a leader may
// not be known yet. IO, Corrupt, NewerFormat, Invalid (another node's store, Node not among Founders), Busy (open elsewhere).
func Open(ctx context.Context, cfg Config) (*Group, error) {
	if err := ctx.Err(); err != nil {
		return nil, blocktree.E("meta.Open", blocktree.Canceled, err)
	}
	if cfg.Node == 0 || cfg.Send == nil || cfg.Clock == nil || cfg.Dir == "" {
		return nil, blocktree.E("meta.Open", blocktree.Invalid, errors.New("config lacks a field"))
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.FS == nil {
		cfg.FS = vfs.Default
	}
	if cfg.hooks.truncateEntries == 0 {
		cfg.hooks.truncateEntries, cfg.hooks.keepEntries = truncateEntries, keepEntries
	}
	if cfg.hooks.applyBytes == 0 {
		cfg.hooks.applyBytes = applyBatchBytes
	}
	g := &Group{cfg: cfg, log: cfg.Logger, fail: newFailure(), stop: make(chan struct{}), done: make(chan struct{}),
		proposals: map[CommandID][]*proposal{}, sessions: map[SessionID]*sessionClock{}, claims: map[blocktree.FileID]*claimClock{},
		heard: map[blocktree.NodeID]uint64{}, sending: map[blocktree.NodeID]*snapshotSender{},
		reads: readQueue{next: rand.Uint64()}}
	g.inbox.wake = make(chan struct{}, 1)
	if err := g.openIn(ctx); err != nil {
		return nil, err
	}
	go g.run()
	return g, nil
}

// openIn opens the store in the room that is kept for it. It waits for space no longer than ctx.
func (g *Group) openIn(ctx context.Context) (err error) {
	if g.cfg.RoomBytes <= 0 {
		return g.open()
	}
	if g.cfg.room, err = openRoom(&g.cfg, g.fail); err != nil {
		return err
	}
	if err := g.fail.get(); err != nil { // a sync, before there was anything
		g.cfg.room.close()
		return &blocktree.Error{Op: "meta.Open", Path: g.cfg.Dir, Err: err}
	}
	stop := context.AfterFunc(ctx, g.cfg.room.close)
	done := make(chan error, 1)
	go func() { done <- g.open() }() // may stand still within Pebble once that has failed, until the process ends
	select {
	case err = <-done:
	case <-g.fail.latched:
		err = &blocktree.Error{Op: "meta.Open", Path: g.cfg.Dir, Err: g.fail.get()}
	}
	if err != nil || !stop() {
		g.cfg.room.close()
	}
	return err
}

// open opens the store, and Raft on top of it.
func (g *Group) open() error {
	db, err := openPebble(&g.cfg, g.fail)
	if err != nil {
		return err
	}
	g.db = db
	g.store, err = openLogStore(db, &g.cfg)
	if err == nil {
		err = g.reload()
	}
	if err == nil {
		g.applied = g.store.applied.index
		err = g.openRaft()
	}
	if err != nil {
		if g.fail.get() == nil {
			err = errors.Join(err, db.Close())
		}
		return err
	}
	if v := g.store.applied.conf.GetVoters(); len(v) == 1 && v[0] == uint64(g.cfg.Node) {
		err = g.rn.Campaign() // nobody else to wait for
	}
	g.publish()
	return err
}

// openRaft starts Raft from the store; Corrupt if what is stored contradicts itself.
func (g *Group) openRaft() (err error) {
	defer func() { raftFailed(recover(), &err) }()
	g.rn, err = raft.NewRawNode(&raft.Config{
		ID: uint64(g.cfg.Node), ElectionTick: blocktree.RaftElectionTicks, HeartbeatTick: 1, Storage: g.store,
		Applied: g.applied, MaxSizePerMsg: 512 << 10, MaxCommittedSizePerReady: 4 << 20,
		MaxUncommittedEntriesSize: 64 << 20, MaxInflightMsgs: 64, MaxInflightBytes: 8 << 20,
		CheckQuorum: true, PreVote: true, ReadOnlyOption: raft.ReadOnlySafe, DisableProposalForwarding: true,
		StepDownOnRemoval: true, Logger: raftLogger{g.log},
	})
	return err
}

// Close stops the member and waits for its goroutine and, unless its store has failed, for readers. What waits in Propose or Sync gets Closed. Messages
// already handed to Send may still be on their way.
func (g *Group) Close() error {
	var err error
	g.once.Do(func() {
		close(g.stop)
		select {
		case <-g.done:
		case <-time.After(closeWait): // it waits for space: the log ends where it is, as with a crash
			g.cfg.room.close()
			<-g.done
		}
		g.gate.shut()
		g.cache.shut()
		if g.fail.get() == nil {
			err = g.closeStore() // after a failed write Pebble must not be touched again, and readers may stand still in it
		}
		g.cfg.room.close()
	})
	return err
}

// closeWait is how long Close waits for a store that finds no space.
const closeWait = 3 * time.Second

// closeStore waits for readers and closes Pebble, however slow the disk is. Where that finds no space, it is given none after a while, and
// the next start has to replay its log.
func (g *Group) closeStore() error {
	done := make(chan error, 1)
	go func() { // Pebble's own goroutines may stand still by then, and so may this one, until the process ends
		g.gate.close()
		done <- g.db.Close()
	}()
	for {
		select {
		case err := <-done:
			return err
		case <-g.fail.latched:
			return blocktree.E("meta.Close", blocktree.NoSpace, g.fail.get())
		case <-time.After(closeWait):
			g.cfg.room.close()
		}
	}
}

// Failed reports whether an error has latched (Fatal): the process is about to end.
func (g *Group) Failed() bool { return g.fail.get() != nil }

// Fatal gets the first failed write or sync of the store (IO), or Raft's finding that the store lost what it once had
// (Corrupt). Nothing is answered after it; the process should exit.
func (g *Group) Fatal() <-chan error { return g.fail.ch }

// Step takes a message that another member's Send carried. It does not block and does not keep msg's array beyond its
// decoding; a message over the inbox's bound is dropped, as a network may. A malformed one is refused with Invalid, one that names another sender or
// receiver with Permission.
func (g *Group) Step(from blocktree.NodeID, msg []byte) error {
	env, err := decodeEnvelope(msg)
	if err != nil {
		return blocktree.E("meta.Step", blocktree.KindOf(err), err)
	}
	m := env.raft
	if env.chunk != nil {
		m = env.chunk.message
	}
	if m != nil && blocktree.NodeID(m.GetFrom()) != from {
		return blocktree.E("meta.Step", blocktree.Permission, fmt.Errorf("%v speaks for another", from))
	}
	if m != nil && blocktree.NodeID(m.GetTo()) != g.cfg.Node {
		return blocktree.E("meta.Step", blocktree.Permission, fmt.Errorf("meant for %016x", m.GetTo()))
	}
	if env.chunk != nil && !env.chunk.last {
		m = nil
	}
	if m != nil {
		if why := impossible(m, env.chunk != nil); why != "" {
			return blocktree.E("meta.Step", blocktree.Invalid, textError(why))
		}
	}
	g.inbox.putMessage(from, env, len(msg))
	return nil
}

// Propose replicates and applies c and returns what came of it; a refusal is in Result.Kind, not in the error. The error
// kinds: NotLeader (Result.Leader says who is, if known; the outcome is unknown if leadership was lost on the way),
// Timeout and Canceled (ctx; outcome unknown), Unavailable (too many proposals), TooLarge, Invalid, Closed, IO. After an
// unknown outcome the same command with the same ID may be proposed again, to any leader.
func (g *Group) Propose(ctx context.Context, c Command) (Result, error) {
	if c.ID == (CommandID{}) {
		return Result{}, blocktree.E("meta.Propose", blocktree.Invalid, errors.New("a command needs an id"))
	}
	data, err := EncodeCommand(nil, c)
	if err != nil {
		return Result{}, err
	}
	return g.propose(ctx, &proposal{id: c.ID, data: data})
}

// AddMember makes node a voter, or a learner if voter is false or there are VotersMax voters. A learner may be added again
// as a voter. Errors as Propose; Unavailable also while another change is under way.
func (g *Group) AddMember(ctx context.Context, node blocktree.NodeID, voter bool) error {
	_, err := g.propose(ctx, &proposal{id: NewCommandID(), change: &memberChange{node: node, voter: voter}})
	return err
}

// RemoveMember takes node out of the group; its store may never come back under this id. Errors as AddMember; Invalid for the
// last voter.
func (g *Group) RemoveMember(ctx context.Context, node blocktree.NodeID) error {
	_, err := g.propose(ctx, &proposal{id: NewCommandID(), change: &memberChange{node: node, remove: true}})
	return err
}

func (g *Group) propose(ctx context.Context, p *proposal) (Result, error) {
	p.done = make(chan outcome, 1)
	if err := g.inbox.putProposal(p); err != nil {
		return Result{}, err
	}
	select {
	case o := <-p.done:
		return o.result, o.err
	case <-ctx.Done():
		return Result{}, ctxError("meta.Propose", ctx)
	case <-g.done:
		return Result{}, g.stopped("meta.Propose")
	}
}

// Sync returns when everything that was acknowledged anywhere before the call is applied here, OnApply included. It works
// on every member; calls are batched. Timeout, Canceled, Unavailable (too many wait), Closed, IO.
func (g *Group) Sync(ctx context.Context) error {
	r := &readWaiter{done: make(chan struct{})}
	if err := g.inbox.putRead(r); err != nil {
		return err
	}
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		r.abandoned.Store(true)
		return ctxError("meta.Sync", ctx)
	case <-g.done:
		return g.stopped("meta.Sync")
	}
}

// Leader returns the leader's id, or false if none is known.
func (g *Group) Leader() (blocktree.NodeID, bool) {
	l := g.status.Load().Leader
	return l, l != 0
}

// Status returns what this member knows of the group. It does not block. The slice is shared.
func (g *Group) Status() Status { return *g.status.Load() }

// EachLayout calls f with the layout of every file whose inode is greater than after, as applied at the time of the call, ascending
// by inode, until f returns false. Of a million files that takes seconds of a processor.
func (g *Group) EachLayout(after blocktree.Inode, f func(*stripe.Layout) bool) error {
	return g.view("meta.EachLayout", func(s *state) error { return s.eachLayout(after, f) })
}

// EachFile calls f with the identity of every file that has a layout, as EachLayout does, but decodes none of them.
func (g *Group) EachFile(f func(blocktree.FileID) bool) error {
	return g.view("meta.EachFile", func(s *state) error { return s.eachFile(f) })
}

// stopped is the error of calls that the end of the loop cut short.
func (g *Group) stopped(op string) error {
	if err := g.fail.get(); err != nil {
		return blocktree.E(op, blocktree.IO, err)
	}
	return blocktree.E(op, blocktree.Closed, nil)
}

// ctxError is the error of a call whose context ended.
func ctxError(op string, ctx context.Context) error {
	kind := blocktree.Canceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		kind = blocktree.Timeout
	}
	return blocktree.E(op, kind, context.Cause(ctx))
}

// failure latches the first error that ends a Group.
type failure struct {
	mu      sync.Mutex
	err     error
	ch      chan error    // has the error once
	latched chan struct{} // closed with it
}

func newFailure() *failure { return &failure{ch: make(chan error, 1), latched: make(chan struct{})} }

func (f *failure) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		kind := blocktree.KindOf(err)
		if kind == blocktree.Other {
			kind = blocktree.IO
		}
		f.err = blocktree.E("meta: store", kind, err)
		f.ch <- f.err
		close(f.latched)
	}
}

func (f *failure) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// viewsMax bounds the readers of a store, and with them those whose snapshot waits to be closed until Pebble has space for its manifest.
const viewsMax = 4096

// gate lets readers in until it is closed, and close wait for them.
type gate struct {
	mu      sync.Mutex
	closed  bool
	inside  int
	readers sync.WaitGroup
}

// enter fails with Closed once the gate is closed, and with Unavailable while too many are inside; else leave must follow.
func (g *gate) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return blocktree.E("meta: read", blocktree.Closed, nil)
	case g.inside >= viewsMax:
		return blocktree.E("meta: read", blocktree.Unavailable, textError("too many read, or the disk is full and metadata wait for space"))
	}
	g.inside++
	g.readers.Add(1)
	return nil
}

func (g *gate) leave() {
	g.mu.Lock()
	g.inside--
	g.mu.Unlock()
	g.readers.Done()
}

// shut lets nobody in any more.
func (g *gate) shut() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
}

func (g *gate) close() {
	g.shut()
	g.readers.Wait()
}

var _ io.Closer = (*Group)(nil)

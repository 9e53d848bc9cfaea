package meta

import (
	"log/slog"
	"slices"
	"sync"
	"testing"

	"blocktree"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/raft/v3/raftpb"
)

var discard = slog.New(slog.DiscardHandler)

// machine is the state machine without Raft.
type machine struct {
	t     testing.TB
	db    *pebble.DB
	index uint64
	last  Changes // of the last command
	once  sync.Once

	cache *cache // nil: none
	amid  func() // called while the store changes, before and after, where there is a cache; may be nil
	gate  gate
	ids   *doneIDs
}

func newMachine(t testing.TB) *machine {
	t.Helper()
	cfg := &Config{Dir: "m", FS: vfs.NewMem(), Node: 1, Founders: founders(1), Logger: discard}
	db, err := openPebble(cfg, newFailure())
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, db: db, index: 1}
	t.Cleanup(m.close)
	if _, err := openLogStore(db, cfg); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *machine) close() {
	m.once.Do(func() {
		if m.cache != nil {
			m.cache.shut()
		}
		m.gate.close()
		if err := m.db.Close(); err != nil {
			m.t.Error(err)
		}
	})
}

// cached has m go by a cache from now on.
func (m *machine) cached() *machine {
	m.t.Helper()
	s, err := stateAt(m.db)
	if err != nil {
		m.t.Fatal(err)
	}
	m.ids, m.cache = readDoneIDs(s), newCache(m.db, &m.gate, s)
	return m
}

// changing is the state that b is to change.
func (m *machine) changing(b *pebble.Batch) *state {
	if m.cache == nil {
		return openState(b, b, spaceA)
	}
	s := m.cache.apply(b)
	s.ids = m.ids
	return s
}

// raw applies an encoded command.
func (m *machine) raw(index uint64, data []byte) Result {
	m.t.Helper()
	b := m.db.NewIndexedBatch()
	s := m.changing(b)
	_, r := s.apply(index, data)
	s.saveCounters()
	if s.err != nil {
		m.t.Fatal(s.err)
	}
	if m.cache != nil {
		put(b, []byte{keyApplied}, encodeApplied(&appliedState{node: 1, space: spaceA, index: index, conf: &pb.ConfState{}}))
		m.cache.begin()
		m.inAmid()
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		m.t.Fatal(err)
	}
	if m.cache != nil {
		m.inAmid()
		m.cache.publish(index, s)
	}
	m.last = s.changes
	return r
}

func (m *machine) inAmid() {
	if m.amid != nil {
		m.amid()
	}
}

func (m *machine) command(c Command) Result {
	m.t.Helper()
	data, err := EncodeCommand(nil, c)
	if err != nil {
		m.t.Fatal(err)
	}
	m.index++
	return m.raw(m.index, data)
}

func (m *machine) do(o Op) Result {
	m.t.Helper()
	return m.command(Command{ID: NewCommandID(), Op: o})
}

// as is do for a caller, at a time.
func (m *machine) as(c *Caller, now int64, o Op) Result {
	m.t.Helper()
	return m.command(Command{ID: NewCommandID(), Op: o, Caller: c, Time: now})
}

// mustAs is must for a caller.
func (m *machine) mustAs(c *Caller, o Op) Result {
	m.t.Helper()
	r := m.as(c, 1, o)
	if r.Kind != blocktree.Other {
		m.t.Fatalf("%T: %v", o, r.Err("apply"))
	}
	return r
}

func (m *machine) must(o Op) Result {
	m.t.Helper()
	r := m.do(o)
	if r.Kind != blocktree.Other {
		m.t.Fatalf("%T: %v", o, r.Err("apply"))
	}
	return r
}

// view returns the state to read.
func (m *machine) view() *state { return openState(m.db, nil, spaceA) }

// ask answers a query as a group does.
func (m *machine) ask(q Query) Answer {
	m.t.Helper()
	if m.cache == nil {
		snap := m.db.NewSnapshot()
		defer closeSnapshot(snap)
		s, err := stateAt(snap)
		if err != nil {
			m.t.Fatal(err)
		}
		return s.judged(q)
	}
	s, done, err := m.cache.view()
	if err != nil {
		m.t.Fatal(err)
	}
	defer done()
	a := s.judged(q)
	if s.err != nil {
		m.t.Fatal(s.err)
	}
	return a
}

func (m *machine) hash() [32]byte { return m.view().hash() }

// then returns a fresh slice, for tables.
func then(before []Op, more ...Op) []Op { return slices.Concat(before, more) }

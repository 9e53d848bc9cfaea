package meta

import (
	"log/slog"
	"slices"
	"sync"
	"testing"

	"blocktree"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

var discard = slog.New(slog.DiscardHandler)

// machine is the state machine without Raft.
type machine struct {
	t     testing.TB
	db    *pebble.DB
	index uint64
	last  Changes // of the last command
	once  sync.Once
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
		if err := m.db.Close(); err != nil {
			m.t.Error(err)
		}
	})
}

// raw applies an encoded command.
func (m *machine) raw(index uint64, data []byte) Result {
	m.t.Helper()
	b := m.db.NewIndexedBatch()
	s := openState(b, b, spaceA)
	_, r := s.apply(index, data)
	s.saveCounters()
	if s.err != nil {
		m.t.Fatal(s.err)
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		m.t.Fatal(err)
	}
	m.last = s.changes
	return r
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

func (m *machine) hash() [32]byte { return m.view().hash() }

// then returns a fresh slice, for tables.
func then(before []Op, more ...Op) []Op { return slices.Concat(before, more) }

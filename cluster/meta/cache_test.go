package meta

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"blocktree"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"
)

// TestCacheIsLarger: blocks stay in memory beside what Pebble takes off the cache for its memory tables.
func TestCacheIsLarger(t *testing.T) {
	db, err := openPebble(&Config{Dir: "meta", FS: vfs.NewMem(), Node: 1, Logger: discard}, newFailure())
	if err != nil {
		t.Fatal(err)
	}
	value := make([]byte, 1<<10)
	const keys = 1 << 10
	for round := range 12 { // more than two memory tables
		for i := range keys {
			value[i] = byte(round)
			if err := db.Set([]byte{'x', byte(i >> 8), byte(i)}, value, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := db.Compact(t.Context(), []byte{'x'}, []byte{'y'}, false); err != nil { // now, not while it is looked
		t.Fatal(err)
	}
	look := func() {
		for i := range keys {
			if _, ok, err := get(db, []byte{'x', byte(i >> 8), byte(i)}); err != nil || !ok {
				t.Fatal(i, ok, err)
			}
		}
	}
	look()
	before := db.Metrics().BlockCache.Misses
	look()
	if misses := db.Metrics().BlockCache.Misses - before; misses > keys/16 {
		t.Errorf("%d of %d looks were not from memory", misses, keys)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// keysOf are the state's keys that a reader of the store finds, without their space.
func keysOf(t *testing.T, r pebble.Reader, into map[string]bool) {
	t.Helper()
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceA}, UpperBound: []byte{spaceB + 1}})
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		into[string(it.Key()[1:])] = true
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
}

// asStored fails where what s says of keys is not what the store says that it reads.
func asStored(t *testing.T, s *state, keys map[string]bool) {
	t.Helper()
	for k := range keys {
		want, there, err := get(s.r, append([]byte{s.space}, k...))
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := s.get(k[0], []byte(k[1:])); ok != there || !bytes.Equal(got, want) {
			t.Fatalf("state %d: %q is %x %v, the store has %x %v", s.at, k, got, ok, want, there)
		}
	}
	for _, kind := range []byte{kindRuntime, kindRevoked, kindBelow} {
		var got, want []string
		s.scan(kind, nil, nil, func(rest, v []byte) bool { got = append(got, string(rest)+"="+string(v)); return true })
		s.iterate(kind, nil, nil, func(rest, v []byte) bool { want = append(want, string(rest)+"="+string(v)); return true })
		if !slices.Equal(got, want) {
			t.Fatalf("state %d: of %q there is %q, the store has %q", s.at, kind, got, want)
		}
	}
	if s.err != nil {
		t.Fatal(s.err)
	}
}

// G1, G2 of docs/design/0081: over random histories a machine that keeps values does what one does that reads all from its store, and whoever still reads an older state is told that one.
func TestCachedAsStored(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m, plain, kept := newModel(3), newMachine(t), newMachine(t).cached()
		defer plain.close()
		defer kept.close()
		type reader struct {
			s    *state
			done func()
		}
		var readers []reader
		defer func() {
			for _, x := range readers {
				x.done()
			}
		}()
		keys := map[string]bool{}
		look := func() {
			s, done, err := kept.cache.view()
			if err != nil {
				rt.Fatal(err)
			}
			readers = append(readers, reader{s, done})
			keysOf(t, s.r, keys)
			for _, x := range readers {
				asStored(t, x.s, keys)
			}
		}
		kept.amid = func() {
			if rapid.IntRange(0, 2).Draw(rt, "amid") == 0 {
				look()
			}
		}
		both := func(o Op, now int64) {
			c := Command{ID: NewCommandID(), Op: o, Time: now}
			want, got := plain.command(c), kept.command(c)
			if a, b := EncodeResult(nil, want), EncodeResult(nil, got); !bytes.Equal(a, b) {
				rt.Fatalf("%T %+v: %+v, and from the store %+v", o, o, got, want)
			}
			if kept.hash() != plain.hash() {
				rt.Fatalf("%T %+v: the states differ", o, o)
			}
		}
		both(Found{Dir: rootDir, Generation: 1, Runtimes: founders(3), Mode: 0o755}, 0)
		for i := 1; i <= 3; i++ {
			both(StartNode{Node: node(i), Incarnation: incarnation(i), StartCounter: 1}, 0)
		}
		for step := range rapid.IntRange(5, 20).Draw(rt, "commands") {
			o := drawOp(rt, m)
			if rapid.IntRange(0, 4).Draw(rt, "rarely") == 0 {
				o = drawRare(rt)
			} else {
				m.apply(o)
			}
			both(o, int64(step+1))
			look()
			if n := rapid.IntRange(0, 4).Draw(rt, "end"); n < len(readers) {
				readers[n].done()
				readers = slices.Delete(readers, n, n+1)
			}
			if rapid.IntRange(0, 3).Draw(rt, "age") == 0 {
				kept.cache.tick()
			}
		}
	})
}

// drawRare draws an op that changes a kind which is kept as a whole.
func drawRare(t *rapid.T) Op {
	at := path("/n" + rapid.SampledFrom([]string{"1", "2"}).Draw(t, "runtime"))
	switch rapid.IntRange(0, 3).Draw(t, "rare") {
	case 0:
		return PutRuntime{blocktree.Runtime{Path: at, Endpoints: []string{"e" + rapid.SampledFrom([]string{"1", "2"}).Draw(t, "endpoint")}}}
	case 1:
		return RemoveRuntime{at}
	case 2:
		return PutBelow{blocktree.Runtime{Path: path("/a/" + string(at[len(at)-2:])), Node: node(9)}}
	}
	return RevokePrincipal{Revocation{Principal: blocktree.Principal{byte(rapid.IntRange(1, 9).Draw(t, "revoked"))}, Scope: rootDir, Time: 1, Until: 9}}
}

// G1, G2 in a group: whoever reads while commands are applied, and others read, sees one state, which is the one that it says.
func TestReadersAmongCommands(t *testing.T) {
	g, err := Open(t.Context(), Config{Dir: "meta", FS: vfs.NewMem(), Node: 1, Founders: founders(1), Send: func(blocktree.NodeID, []byte) {}, Clock: &fakeClock{}, Logger: discard})
	if err != nil {
		t.Fatal(err)
	}
	do := func(o Op) {
		if _, err := g.Propose(t.Context(), Command{ID: NewCommandID(), Op: o}); err != nil {
			t.Error(err)
		}
	}
	do(Found{Dir: rootDir, Generation: 1, Runtimes: founders(1)})
	var writers, readers sync.WaitGroup
	var ended atomic.Bool
	for n := range 2 {
		writers.Go(func() {
			for i := range 60 {
				p := path(fmt.Sprintf("/d%d", (i+n)%3))
				do(MakeDir{Path: p})
				do(SetAttr{File: fileID(i), Mask: AttrMode, Mode: uint32(i)})
				do(PutRuntime{blocktree.Runtime{Path: p, Endpoints: []string{fmt.Sprint(i)}}})
				do(Remove{Path: p})
			}
		})
		readers.Go(func() {
			keys := map[string]bool{}
			for !ended.Load() && !t.Failed() {
				_ = g.view("test", func(s *state) error {
					keysOf(t, s.r, keys)
					asStored(t, s, keys)
					at, err := stateAt(s.r)
					if err != nil || at.applied != s.applied || at.counts != s.counts || *at.superblock() != *s.superblock() {
						t.Errorf("%+v is told, the store has %+v: %v", s.counts, at.counts, err)
					}
					return nil
				})
			}
		})
	}
	writers.Wait()
	ended.Store(true)
	readers.Wait()
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}

// G3: what is kept has a bound, and what nobody asks for is given back.
func TestCacheIsBounded(t *testing.T) {
	m := founded(t, 1).cached()
	c := m.cache
	size := func() (n int) {
		for _, values := range []map[string]cachedValue{c.newer, c.older} {
			for k, v := range values {
				n += v.bytes(k)
			}
		}
		return n
	}
	value := make([]byte, cacheValueBytes)
	for i := range 3 * cacheBytes / len(value) {
		c.fill(u64(uint64(i)), value, true, c.index)
		if v, known := c.get(u64(0), c.index); !known || !v.there {
			t.Fatal("what was asked for all the time is gone")
		}
	}
	if n := size(); n > cacheBytes || n < cacheBytes/2 {
		t.Errorf("%d bytes are kept", n)
	}
	c.fill(u64(0), append(value, 0), true, c.index) // too long
	if _, known := c.get(u64(0), c.index); known {
		t.Error("an older value is kept")
	}
	c.tick()
	if c.tick(); size() != 0 {
		t.Errorf("%d bytes are kept of what nobody asked for", size())
	}
}

// G4: a group that is opened again, and one that installs a snapshot, knows which commands were done.
func TestDoneIDsAreThoseStored(t *testing.T) {
	m := founded(t, 1).cached()
	for i := range DedupMax + 100 {
		m.must(SetAttr{File: fileID(0), Mask: AttrMode, Mode: uint32(i) & 0o777})
	}
	again := readDoneIDs(m.view())
	if !maps.Equal(again.ids, m.ids.ids) || !maps.Equal(again.sequences, m.ids.sequences) || len(again.ids) != DedupMax || len(again.sequences) != DedupMax {
		t.Errorf("%d of %d, then %d", len(m.ids.ids), DedupMax, len(again.ids))
	}
	for id := range again.sequences {
		if _, ok := m.view().done(id); !ok {
			t.Fatalf("%x was not done", id)
		}
	}
}

// G2 of a store that a version before the parent index made: what such a store does not keep of the counters is not kept in memory either.
func TestCountedAsStored(t *testing.T) {
	plain, kept := newMachine(t), newMachine(t)
	found := Command{ID: NewCommandID(), Op: Found{Dir: rootDir, Generation: 1, Runtimes: founders(1)}}
	for _, m := range []*machine{plain, kept} {
		m.command(found)
		b := m.db.NewIndexedBatch()
		s := openState(b, b, spaceA)
		s.counts.parents = false
		s.saveCounters()
		if err := b.Commit(pebble.NoSync); err != nil {
			t.Fatal(err)
		}
	}
	kept.cached()
	for i, c := range []Command{
		{Op: RevokePrincipal{Revocation{Principal: blocktree.Principal{1}, Scope: rootDir, Time: 1, Until: 9}}},
		{Op: MakeDir{Path: path("/a")}},
		{Op: MakeDir{Path: path("/b")}, Caller: &Caller{}},
	} {
		c.ID = NewCommandID()
		a, b := plain.command(c), kept.command(c)
		if !bytes.Equal(EncodeResult(nil, a), EncodeResult(nil, b)) || kept.hash() != plain.hash() {
			t.Errorf("command %d: %v, and from the store %v: the states differ", i, b.Kind, a.Kind)
		}
		if n, was := kept.cache.counts, kept.view().counts; n != was {
			t.Errorf("command %d: %+v is kept, the store has %+v", i, n, was)
		}
	}
}

// G1 of a member that is given one snapshot after the other, into the one and the other space in turn: of what it knew before nothing is told any more.
func TestCachedAsInstalled(t *testing.T) {
	w := newWorld(t)
	w.hooks.truncateEntries, w.hooks.keepEntries = 10, 1
	w.found(3)
	away := node(int(w.leader())%3 + 1)
	keys := map[string]bool{}
	look := func() {
		if err := w.sync(away).view("test", func(s *state) error {
			keysOf(t, s.r, keys)
			asStored(t, s, keys)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 4 {
		look()
		w.isolate(away, true)
		for i := range 15 {
			w.must(SetAttr{File: fileID(0), Mask: AttrMode, Mode: uint32(round<<4 | i)})
			w.must(PutRuntime{blocktree.Runtime{Path: path("/n9"), Endpoints: []string{fmt.Sprint(round, i)}}})
		}
		w.must(MakeDir{Path: path(fmt.Sprintf("/d%d", round))})
		if round > 0 {
			w.must(Remove{Path: path(fmt.Sprintf("/d%d", round-1))})
		}
		w.isolate(away, false)
		look()
		if hash(t, w.group(away)) != hash(t, w.sync(w.leader())) {
			t.Fatal("members differ")
		}
	}
	installed := 0
	w.mu.Lock()
	for _, c := range w.members[away].changes {
		if c.Reset {
			installed++
		}
	}
	w.mu.Unlock()
	if installed < 3 {
		t.Errorf("%d snapshots were installed", installed)
	}
}

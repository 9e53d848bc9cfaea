package meta

import (
	"testing"

	"blocktree"

	"github.com/cockroachdb/pebble/v2"
	pb "go.etcd.io/raft/v3/raftpb"
)

// entriesOf makes log entries lo … hi of a term.
func entriesOf(lo, hi, term uint64) (out []*pb.Entry) {
	for i := lo; i <= hi; i++ {
		kind := pb.EntryNormal
		out = append(out, &pb.Entry{Index: new(i), Term: new(term), Type: &kind, Data: []byte{byte(i)}})
	}
	return out
}

// An end of the log that another leader replaces is gone, in memory and on disk, and so is a beginning that was cut.
func TestLogReplacedAndCut(t *testing.T) {
	m := newMachine(t)
	s := &logStore{db: m.db}
	if _, err := s.load(); err != nil {
		t.Fatal(err)
	}
	write := func(f func(*pebble.Batch)) {
		b := m.db.NewBatch()
		f(b)
		if err := b.Commit(pebble.NoSync); err != nil {
			t.Fatal(err)
		}
	}
	write(func(b *pebble.Batch) { s.append(b, entriesOf(2, 9, 2)) })
	write(func(b *pebble.Batch) { s.append(b, entriesOf(5, 6, 3)) })
	write(func(b *pebble.Batch) {
		if err := s.truncate(b, 3); err != nil {
			t.Fatal(err)
		}
	})
	again := &logStore{db: m.db}
	if ok, err := again.load(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	for name, x := range map[string]*logStore{"memory": s, "disk": again} {
		x.recent = x.recent[len(x.recent)-1:] // the rest comes from disk
		es, err := x.Entries(4, 7, 1<<20)
		if err != nil || len(es) != 3 || x.last != 6 || x.truncIndex != 3 || len(x.sizes) != 3 || x.bytes != again.bytes {
			t.Fatalf("%s: %d entries, last %d, %v", name, len(es), x.last, err)
		}
		for i, want := range []uint64{2, 2, 3, 3} {
			if term, err := x.Term(uint64(3 + i)); err != nil || term != want {
				t.Errorf("%s: term of %d is %d, %v", name, 3+i, term, err)
			}
		}
		if _, err := x.Entries(3, 4, 1); err == nil {
			t.Errorf("%s: an entry that was cut", name)
		}
	}
}

// failedCommit returns what a synced write says whose sync fails. For the process of TestFailedSyncLatches.
func failedCommit(t *testing.T, fs failFS) blocktree.Kind {
	g := &Group{fail: newFailure()}
	db, err := openPebble(&Config{Dir: "commit", FS: fs, Logger: discard}, g.fail)
	if err != nil {
		t.Fatal(err)
	}
	g.db = db
	fs.failing.Store(true)
	defer fs.failing.Store(false)
	b := db.NewBatch()
	put(b, []byte("k"), []byte("v"))
	return blocktree.KindOf(g.commit(b, true))
}

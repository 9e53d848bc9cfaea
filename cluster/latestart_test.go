package cluster

import (
	"log/slog"
	"math/rand/v2"
	"testing"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/internal/vfs"
)

// TestLateStart: a node is killed again and again while it starts, and what it has proposed may be taken as long afterwards as that can be. Its disk
// is its own all the while, and is refused never; the one of yesterday is refused always, as soon as the group knows a start since.
func TestLateStart(t *testing.T) {
	judged := 0
	for seed := range uint64(2000) {
		disk := vfs.NewCrash()
		if err := disk.MkdirAll("/s"); err != nil {
			t.Fatal(err)
		}
		w := &lateStarts{t: t, r: rand.New(rand.NewPCG(seed, 1))}
		for range 6 {
			if err := w.start(disk); err != nil {
				t.Fatalf("seed %d: its own disk: %v", seed, err)
			}
		}
		yesterday := disk.Kill()
		since := map[uint64]bool{}
		for range 6 {
			if err := w.start(disk); err != nil {
				t.Fatalf("seed %d: its own disk: %v", seed, err)
			}
			mark, err := loadStart(disk, "/s")
			if err != nil {
				t.Fatal(err)
			}
			since[mark.next] = true
		}
		if !since[w.known.Counter] {
			continue // nothing since was taken, or one that was tried again within a start
		}
		judged++
		if err := w.start(yesterday); blocktree.KindOf(err) != blocktree.Invalid {
			t.Fatalf("seed %d: the disk of yesterday: %v", seed, err)
		}
	}
	if judged < 1000 {
		t.Errorf("%d disks of yesterday were looked at", judged)
	}
}

// lateStarts is what Raft knows of one node, and what is on its way to it.
type lateStarts struct {
	t     *testing.T
	r     *rand.Rand
	known meta.NodeStart
	sent  []meta.StartNode // and neither taken nor refused
}

func (w *lateStarts) take() {
	i := w.r.IntN(len(w.sent))
	o := w.sent[i]
	w.sent = append(w.sent[:i:i], w.sent[i+1:]...)
	if o.ExpectCounter == w.known.Counter {
		w.known = meta.NodeStart{Incarnation: o.Incarnation, Counter: o.StartCounter}
	}
}

// start is a start on a disk, as join does it; it may end early.
func (w *lateStarts) start(disk vfs.FS) error {
	s := &Service{cfg: ServiceConfig{FS: disk, MetaDir: "/s", Logger: slog.New(slog.DiscardHandler)}}
	if err := s.remembered.load(s); err != nil {
		w.t.Fatal(err)
	}
	mark, err := loadStart(disk, "/s")
	if err != nil {
		w.t.Fatal(err)
	}
	for {
		raft := w.known
		if mark, err = s.nextMark(mark, raft, 0); err != nil {
			return err
		}
		if err := mark.save(disk, "/s"); err != nil {
			w.t.Fatal(err)
		}
		for len(w.sent) > 0 && w.r.IntN(3) == 0 {
			w.take()
		}
		w.sent = append(w.sent, meta.StartNode{Incarnation: mark.incarnation, StartCounter: mark.next, ExpectCounter: raft.Counter})
		if w.r.IntN(2) == 0 {
			return nil // killed
		}
		for w.known.Counter != mark.next && len(w.sent) > 0 {
			w.take()
		}
		if w.known.Counter == mark.next {
			mark.current = mark.next
			return mark.save(disk, "/s")
		}
	}
}

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
		r := rand.New(rand.NewPCG(seed, 1))
		disk := vfs.NewCrash()
		if err := disk.MkdirAll("/s"); err != nil {
			t.Fatal(err)
		}
		var known meta.NodeStart
		var sent []meta.StartNode // and neither taken nor refused
		take := func() (taken bool) {
			i := r.IntN(len(sent))
			o := sent[i]
			sent = append(sent[:i:i], sent[i+1:]...)
			if taken = o.ExpectCounter == known.Counter; taken {
				known = meta.NodeStart{Incarnation: o.Incarnation, Counter: o.StartCounter}
			}
			return taken
		}
		// start is a start on a disk, as join does it; it may end early.
		start := func(disk vfs.FS) error {
			s := &Service{cfg: ServiceConfig{FS: disk, MetaDir: "/s", Logger: slog.New(slog.DiscardHandler)}}
			if err := s.remembered.load(s); err != nil {
				t.Fatal(err)
			}
			mark, err := loadStart(disk, "/s")
			if err != nil {
				t.Fatal(err)
			}
			for {
				raft := known
				if mark, err = s.nextMark(mark, raft, 0); err != nil {
					return err
				}
				if err := mark.save(disk, "/s"); err != nil {
					t.Fatal(err)
				}
				for len(sent) > 0 && r.IntN(3) == 0 {
					take()
				}
				sent = append(sent, meta.StartNode{Incarnation: mark.incarnation, StartCounter: mark.next, ExpectCounter: raft.Counter})
				if r.IntN(2) == 0 {
					return nil // killed
				}
				for known.Counter != mark.next && len(sent) > 0 {
					take()
				}
				if known.Counter == mark.next {
					mark.current = mark.next
					if err := mark.save(disk, "/s"); err != nil {
						t.Fatal(err)
					}
					return nil
				}
			}
		}
		for range 6 {
			if err := start(disk); err != nil {
				t.Fatalf("seed %d: its own disk: %v", seed, err)
			}
		}
		yesterday := disk.Kill()
		since := map[uint64]bool{}
		for range 6 {
			if err := start(disk); err != nil {
				t.Fatalf("seed %d: its own disk: %v", seed, err)
			}
			mark, err := loadStart(disk, "/s")
			if err != nil {
				t.Fatal(err)
			}
			since[mark.next] = true
		}
		if !since[known.Counter] {
			continue // nothing since was taken, or one that was tried again within a start
		}
		judged++
		if err := start(yesterday); blocktree.KindOf(err) != blocktree.Invalid {
			t.Fatalf("seed %d: the disk of yesterday: %v", seed, err)
		}
	}
	if judged < 1000 {
		t.Errorf("%d disks of yesterday were looked at", judged)
	}
}

package cluster

import (
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/store"
	"blocktree/cluster/stripe"
	"blocktree/internal/vfs"
)

// startWalk starts and ends one node again and again, at any sync of a start too, and compares with what Raft and the node's askers know.
type startWalk struct {
	t        *testing.T
	rng      *rand.Rand
	disk     *vfs.Crash
	dir      string // of the tail marks
	boot     byte
	sequence uint64

	counter  uint64 // Raft's: the newest start
	inc      blocktree.Incarnation
	vol      blocktree.Incarnation
	proposed map[blocktree.Incarnation]bool
	found    int // records that the log had when vol was drawn, or was cleanly stopped last
	answered int // records that were answered for since

	kept, drawn, cuts int

	mu *sync.Mutex // of what Raft knows, while a cut waits for its sync: any goroutine of the store's may come to it
}

// cut is a moment at which the process, or the machine, ended.
type cut struct {
	syncs int  // how many are left until it; zero or less: it is none of a sync
	power bool // what was not synced is lost as seed says
	keep  bool // the tmpfs is there afterwards
	seed  uint64

	disk  *vfs.Crash // nil: it has not been
	dir   string
	world startWalk
}

// draw says when this start ends, and how.
func (w *startWalk) draw() *cut {
	c := &cut{syncs: w.rng.IntN(24), power: w.rng.IntN(3) == 0, keep: true, seed: w.rng.Uint64()}
	if c.power {
		c.keep = w.rng.IntN(2) == 0
	}
	if w.rng.IntN(2) == 0 {
		c.syncs = 0
	}
	return c
}

func (w *startWalk) service() *Service {
	boot := vfs.BootAt([16]byte{w.boot}, w.dir)
	return &Service{ctx: w.t.Context(), cfg: ServiceConfig{Node: memberNode, FS: w.disk, StoreDir: "/sectors", MetaDir: "/meta", Boot: boot,
		Logger: slog.New(slog.DiscardHandler)}}
}

// at remembers this moment as the one at which it ends: by a kill, or by a loss of power, over which somebody may keep the tmpfs. w.mu is held.
func (w *startWalk) at(c *cut) {
	c.world, c.dir = *w, w.t.TempDir()
	c.world.proposed = maps.Clone(w.proposed) // what is proposed later was not, where it ends here
	c.disk = w.disk.Kill()
	if c.power {
		c.disk = w.disk.Clone(c.seed)
		c.world.boot++
	}
	if c.keep {
		if err := os.CopyFS(filepath.Join(c.dir, "kept"), os.DirFS(w.dir)); err != nil {
			w.t.Error(err)
		}
	}
	c.dir = filepath.Join(c.dir, "kept")
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		w.t.Error(err)
	}
}

// goOn makes a remembered moment the present; kinds of counts are of the whole walk.
func (w *startWalk) goOn(c *cut) {
	kept, drawn, cuts, sequence, rng := w.kept, w.drawn, w.cuts+1, w.sequence, w.rng
	*w = c.world
	w.disk, w.dir, w.kept, w.drawn, w.cuts, w.sequence, w.rng = c.disk, c.dir, kept, drawn, cuts, sequence, rng
}

// raft takes a start.
func (w *startWalk) raft(s *Service, mark startMark, vol blocktree.Incarnation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counter, w.inc = mark.next, mark.incarnation
	switch {
	case vol == mark.incarnation: // of an older version, which answers for nothing here
		w.vol = vol
		return
	case vol == w.vol:
		w.kept++
		if got := s.member.store.Recovery().Replayed; got < w.found+w.answered {
			w.t.Fatalf("the incarnation is kept, and of %d+%d records there are %d", w.found, w.answered, got)
		}
		return
	}
	w.drawn++
	if w.proposed[vol] {
		w.t.Fatal("a start goes back to an incarnation that Raft has left")
	}
	w.vol, w.found, w.answered = vol, s.member.store.Recovery().Replayed, 0
	w.proposed[vol] = true
}

// start opens the store and takes the node to where it serves; older is a start of a version without volatile incarnations.
func (w *startWalk) start(older bool) *Service {
	s := w.service()
	err := s.openMember()
	if err == nil {
		s.mark, err = loadStart(w.disk, "/sectors")
	}
	if err == nil {
		err = s.remembered.load(s)
	}
	if err == nil && !older {
		err = s.findVolatile()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = s.member.close() })
	mark, known := s.mark, meta.NodeStart{Node: memberNode, Incarnation: w.inc, Counter: w.counter}
	if older {
		return w.startOlder(s, mark)
	}
	serving, err := s.prepareStart(&mark, known)
	if err == nil {
		w.raft(s, mark, serving.volatile)
		mark.current = mark.next
		err = s.begin(mark)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// startOlder goes on as an older version does, and perhaps ends before it has noted that Raft took its start.
func (w *startWalk) startOlder(s *Service, mark startMark) *Service {
	if !mark.vouches(w.counter) || mark.incarnation != w.inc {
		mark.incarnation = randomIncarnation()
	}
	mark.next = w.counter + randomStep()
	if err := s.saveMark(mark); err != nil {
		w.t.Fatal(err)
	}
	w.raft(s, mark, mark.incarnation)
	if mark.current = mark.next; w.rng.IntN(2) == 0 {
		if err := s.saveMark(mark); err != nil {
			w.t.Fatal(err)
		}
	}
	return s
}

func (w *startWalk) serve(s *Service) {
	for range w.rng.IntN(12) {
		w.sequence++
		r := &stripe.Record{Kind: stripe.RecordData, File: memberFile, First: blocktree.SectorIndex(w.sequence), Count: 1, ShardBytes: 4096,
			Version: blocktree.Version{Epoch: 1, Sequence: blocktree.Sequence(w.sequence)}, Payload: make([]byte, 4096), Seals: make([]byte, stripe.SealBytes)}
		put := s.member.store.AppendLazy
		if w.rng.IntN(8) == 0 {
			put = s.member.store.Append
		}
		if _, err := put([]store.Record{toStore(r)}, func(err error) {
			if err != nil {
				w.t.Error(err)
			}
		}); err != nil {
			w.t.Fatal(err)
		}
		s.member.store.WriteLazy()
		synctest.Wait()
		w.answered++
	}
}

// step starts the node, which ends during the start, while it serves, or cleanly.
func (w *startWalk) step() {
	c := w.draw()
	w.disk.OnSync = func(vfs.SyncPoint) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if c.syncs--; c.syncs == 0 {
			w.at(c)
		}
	}
	if w.rng.IntN(12) == 0 { // somebody else opens the store
		s := w.service()
		if err := s.openMember(); err != nil {
			w.t.Fatal(err)
		}
		if err := s.member.close(); err != nil {
			w.t.Fatal(err)
		}
	}
	older := w.rng.IntN(8) == 0
	s := w.start(older)
	w.mu.Lock()
	c.syncs = 0 // no sync from here on
	ended := c.disk != nil
	w.mu.Unlock()
	clean := false
	if !ended {
		if !older {
			w.serve(s)
			clean = w.rng.IntN(3) == 0
		}
		if !clean {
			w.mu.Lock()
			w.at(c)
			w.mu.Unlock()
		}
	}
	s.member.mu.Lock()
	s.member.serving = clean
	s.member.mu.Unlock()
	if err := s.member.close(); err != nil {
		w.t.Fatal(err)
	}
	if clean { // the next replay begins here
		w.found, w.answered = 0, 0
		return
	}
	w.goOn(c)
}

// TestStartWalk: wherever a start, or what follows, is cut off, a node comes back under a volatile incarnation (F12) only with all that it answered for
// under it, and never to one that Raft has left.
func TestStartWalk(t *testing.T) {
	kept, drawn, cuts := 0, 0, 0
	for _, seed := range []uint64{0, 1, 2, 3, 12, 24, 36, 58} { // the last four go through a start of an older version that ends early
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &startWalk{t: t, rng: rand.New(rand.NewPCG(seed, 7)), disk: vfs.NewCrash(), dir: t.TempDir(), proposed: map[blocktree.Incarnation]bool{}, mu: new(sync.Mutex)}
				for _, dir := range []string{"/sectors", "/meta"} {
					if err := w.disk.MkdirAll(dir); err != nil {
						t.Fatal(err)
					}
				}
				for range 30 {
					w.step()
				}
				kept, drawn, cuts = kept+w.kept, drawn+w.drawn, cuts+w.cuts
			})
		})
	}
	t.Logf("kept %d times, drawn %d times, %d ends", kept, drawn, cuts)
	if kept < 30 || drawn < 30 {
		t.Error("one of both hardly ever happens")
	}
}

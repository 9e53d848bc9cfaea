package cluster

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"blocktree"
	"blocktree/cluster/store"
	"blocktree/cluster/stripe"
	"blocktree/internal/vfs"
)

func FuzzDecodeTail(f *testing.F) {
	f.Add(tail{}.encode())
	f.Add(tail{boot: [16]byte{1}, node: 2, start: 3, opened: 4, volatile: randomIncarnation(), sequence: 5}.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := decodeTail(b)
		if err == nil && !bytes.Equal(x.encode(), b) {
			t.Fatalf("%x decodes to %+v, which encodes to %x", b, x, x.encode())
		}
	})
}

// TestTailProves: a mark vouches for the start before only if it is of this boot, store, start and incarnation, the store was not opened between,
// and its log has everything.
func TestTailProves(t *testing.T) {
	now := tail{boot: [16]byte{1}, node: 2, start: 3, opened: 4, volatile: blocktree.Incarnation{5}}
	mark := now
	mark.sequence = 100
	found := store.Recovery{Starts: 5, Whole: 100}
	for name, x := range map[string]struct {
		change func(mark *tail, found *store.Recovery)
		want   bool
	}{
		"all is there":           {func(*tail, *store.Recovery) {}, true},
		"and more":               {func(_ *tail, f *store.Recovery) { f.Whole = 110 }, true},
		"another boot":           {func(m *tail, _ *store.Recovery) { m.boot[15]++ }, false},
		"another store":          {func(m *tail, _ *store.Recovery) { m.node++ }, false},
		"an earlier start":       {func(m *tail, _ *store.Recovery) { m.start-- }, false},
		"another incarnation":    {func(m *tail, _ *store.Recovery) { m.volatile[9]++ }, false},
		"opened between":         {func(_ *tail, f *store.Recovery) { f.Starts++ }, false},
		"a mark of an older one": {func(m *tail, _ *store.Recovery) { m.opened-- }, false},
		"a record is missing":    {func(_ *tail, f *store.Recovery) { f.Whole = 99 }, false},
		"damage":                 {func(_ *tail, f *store.Recovery) { f.Damaged = []store.Run{{}} }, false},
	} {
		m, f := mark, found
		x.change(&m, &f)
		if got := m.proves(now, f); got != x.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestTailMarkFiles: what is torn, foreign or stale does not count, wherever it lies; the newest is found in any directory.
func TestTailMarkFiles(t *testing.T) {
	run, shm := t.TempDir(), t.TempDir()
	boot := vfs.BootAt([16]byte{1}, filepath.Join(run, "not", "there"), run, shm)
	now := tail{boot: boot.ID(), node: 2, start: 3, opened: 4, volatile: blocktree.Incarnation{5}}
	found := store.Recovery{Starts: 5, Whole: 100}
	put := func(dir string, b []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "mark"), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	proves := func() bool { return findTail(boot, "mark", now, found) }
	if proves() {
		t.Error("nothing vouches")
	}
	torn := now.encode()
	torn[20] ^= 1
	put(run, torn)
	if proves() {
		t.Error("a torn mark vouches")
	}
	put(run, torn[:10])
	if proves() {
		t.Error("half a mark vouches")
	}
	put(shm, now.encode())
	if !proves() {
		t.Error("the mark is not found beside a torn one")
	}
	mark := newTailMark(boot, "mark", now, slog.New(slog.DiscardHandler))
	if err := mark.reached(101); err != nil {
		t.Fatal(err)
	}
	if proves() {
		t.Error("the log lacks what the mark says, or an old mark beside it counts")
	}
	found.Whole = 101
	if !proves() {
		t.Error("the mark is not found")
	}
	if err := mark.close(false); err != nil || !proves() {
		t.Errorf("it goes with the process: %v", err)
	}
	if err := newTailMark(boot, "mark", now, slog.New(slog.DiscardHandler)).close(true); err != nil || proves() {
		t.Errorf("it outlives a clean stop: %v", err)
	}
}

// TestTailMarkThatCannotBeWritten is removed; if it cannot be, nothing is answered.
func TestTailMarkThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	boot := vfs.BootAt([16]byte{1}, dir)
	for _, stays := range []bool{false, true} {
		mark := newTailMark(boot, "mark", tail{}, slog.New(slog.DiscardHandler))
		if err := mark.file.Close(); err != nil { // so that no write succeeds
			t.Fatal(err)
		}
		if stays { // under the feet of who removes it: a directory that is not empty
			if err := os.Remove(filepath.Join(dir, "mark")); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Join(dir, "mark", "x"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		err := mark.reached(1)
		_, gone := os.Stat(filepath.Join(dir, "mark"))
		if stays != (err != nil) || stays == os.IsNotExist(gone) {
			t.Errorf("one that stays: %v, error %v, %v", stays, err, gone)
		}
		if err := mark.reached(2); !stays && err != nil {
			t.Errorf("without a mark: %v", err)
		}
	}
}

// TestMemberMarksBeforeItAnswers: after a kill, whenever it comes, the mark vouches and the log has every write that was answered; after a loss of power
// it vouches only if the log has them all.
func TestMemberMarksBeforeItAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemberBed(t)
		b.layout.Durability = stripe.DurabilityFlush
		boot := vfs.BootAt([16]byte{1}, t.TempDir())
		now := tail{boot: boot.ID(), node: memberNode, opened: b.member.store.Recovery().Starts}
		b.member.mark.Store(newTailMark(boot, "mark", now, slog.New(slog.DiscardHandler)))
		b.takeOver()
		b.settle()
		const writes = 5
		for i := range uint64(writes) {
			b.step(&stripe.Message{Kind: stripe.KindPrepare, Record: b.record(i+1, blocktree.SectorIndex(i), 1, false)})
		}
		b.settle()
		judge := func(disk *vfs.Crash) (vouches bool, records int) {
			m, err := openMember(disk, "/sectors", memberNode, slog.New(slog.DiscardHandler), 0)
			if err != nil {
				t.Fatal(err)
			}
			defer m.close()
			return findTail(boot, "mark", now, m.store.Recovery()), m.store.Recovery().Replayed
		}
		vouches, all := judge(b.disk.Kill())
		if !vouches || all < writes {
			t.Errorf("after a kill there are %d records, and the mark vouches: %v", all, vouches)
		}
		lost := 0
		for seed := range uint64(12) {
			vouches, records := judge(b.disk.Clone(seed))
			if vouches != (records == all) {
				t.Errorf("seed %d: %d of %d records are left, and the mark vouches: %v", seed, records, all, vouches)
			}
			if records < all {
				lost++
			}
		}
		if lost == 0 {
			t.Error("no loss of power took anything")
		}
		twice := b.disk.Clone(0)
		for seed := uint64(1); ; seed++ {
			if _, records := judge(twice); records < all {
				break
			}
			twice = b.disk.Clone(seed)
		}
		if vouches, _ := judge(twice); vouches { // the first start has named void what it missed
			t.Error("the second start after a loss of power finds that nothing is missing")
		}
	})
}

package fastrung

import (
	"context"
	"sync"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/file"
	"blocktree/internal/simnet"
)

// expiryCheck is how often the leader looks for sessions that are over, acquireInterval how often a file that is busy is asked for.
const (
	expiryCheck     = 2 * raftTick
	acquireInterval = 200 * time.Millisecond
)

// witness reads one sector of a holder again and again, and notes when each read that succeeded was done, and of which write it was;
// and when the holder believed in its lease.
type witness struct {
	stop  context.CancelFunc
	wg    sync.WaitGroup
	mu    sync.Mutex
	reads []observed
	errs  []error
	faith []time.Time // when the holder believed in its lease
}

type observed struct {
	done  time.Time
	write uint64
}

// watch reads a sector each pace; without one it leaves the holder alone, which a read would tell that it has lost the file.
func (b *bed) watch(f blocktree.File, sector blocktree.SectorIndex, pace time.Duration) *witness {
	w := &witness{}
	var ctx context.Context
	ctx, w.stop = context.WithCancel(b.T.Context())
	b.T.Cleanup(func() { w.stop(); w.wg.Wait() })
	w.wg.Go(func() {
		for ctx.Err() == nil && pace > 0 {
			k, err := read(ctx, b.T, f, sector)
			w.mu.Lock()
			if err == nil {
				w.reads = append(w.reads, observed{time.Now(), k})
			} else {
				w.errs = append(w.errs, err)
			}
			w.mu.Unlock()
			time.Sleep(pace)
		}
	})
	w.wg.Go(func() {
		for ctx.Err() == nil {
			if believes(f) {
				w.mu.Lock()
				w.faith = append(w.faith, time.Now())
				w.mu.Unlock()
			}
			time.Sleep(time.Millisecond)
		}
	})
	return w
}

// finish stops the reads and returns what was read, what was not, and when the holder last believed in its lease.
func (w *witness) finish() (reads []observed, errs []error, faith time.Time) {
	w.stop()
	w.wg.Wait()
	return w.reads, w.errs, w.faith[len(w.faith)-1]
}

// TestFencing cuts the holder off, for longer than its lease. Another gets the file a term after the old holder's newest renewal, and not
// sooner than the old one has ceased to believe in it. From then on the old one reads nothing and writes nothing, cut off or not.
func TestFencing(t *testing.T) {
	carriers(t, func(b *bed) {
		ctx := b.T.Context()
		if err := b.file.WriteSectors(ctx, 0, numbered(0, 1)); err != nil {
			b.T.Fatal(err)
		}
		other := b.Client()
		b.Status(other) // it is connected
		old := b.watch(b.file, 0, 5*time.Millisecond)
		w := b.write(b.file, 4)
		w.begun[0], w.acked[0] = 1, 1
		time.Sleep(3*leaseRenewal + 300*time.Millisecond)
		b.Off(b.ClientAddr(0))
		cut := time.Now()
		second := b.open(other)
		b.between("the take-over", time.Since(cut), leaseTerm-leaseRenewal-simnet.DelayDefault,
			leaseTerm+expiryCheck+acquireInterval+100*time.Millisecond)
		if believes(b.file) {
			b.T.Error("two holders believe that they have the lease")
		}
		taken := time.Now()
		if err := second.WriteSectors(ctx, 0, numbered(0, 1_000_000)); err != nil {
			b.T.Fatal(err)
		}
		written := time.Now()
		time.Sleep(5 * time.Second)
		acked := w.total()
		b.On(b.ClientAddr(0))
		b.await("the old holder learns of it", 10*time.Second, func() bool { return len(w.failed()) == len(w.acked) })
		for _, err := range w.finish() {
			if blocktree.KindOf(err) != blocktree.Fenced {
				b.T.Errorf("a write of the old holder got %v", err)
			}
		}
		if now := w.total(); now != acked {
			b.T.Errorf("the old holder was acknowledged %d writes after it was taken over", now-acked)
		}
		reads, errs, faith := old.finish()
		b.checkOld(reads, cut, written)
		if blocktree.KindOf(errs[len(errs)-1]) != blocktree.Fenced {
			b.T.Errorf("a read of the old holder got %v", errs[len(errs)-1])
		}
		b.between("the old holder's faith after the cut", faith.Sub(cut), leaseTerm-leaseMargin-leaseRenewal-50*time.Millisecond,
			leaseTerm-leaseMargin)
		if margin := taken.Sub(faith); margin < leaseMargin {
			b.T.Errorf("the file was taken %v after the old holder believed in its lease, want at least %v", margin, leaseMargin)
		}
		if k, err := read(ctx, b.T, second, 0); k != 1_000_000 || err != nil {
			b.T.Errorf("the new holder reads write %d, %v", k, err)
		}
		w.acked[0], w.begun[0] = 1_000_000, 1_000_000
		w.check(second, "by the new holder") // what was in flight is one way or the other
		if err := b.file.Close(); blocktree.KindOf(err) != blocktree.Fenced {
			b.T.Errorf("to close what was taken over got %v", err)
		}
	})
}

// checkOld demands that no read of the old holder that ended after the new one's write was done is of an older write; and that some
// succeeded before the cut, or this shows nothing.
func (b *bed) checkOld(reads []observed, cut, written time.Time) {
	b.T.Helper()
	before := 0
	for _, r := range reads {
		if r.done.Before(cut) {
			before++
		}
		if r.done.After(written) && r.write < 1_000_000 {
			b.T.Errorf("a read of the old holder that ended %v after the new one's write is of write %d", r.done.Sub(written), r.write)
		}
	}
	if before < 100 {
		b.T.Errorf("only %d reads before the cut", before)
	}
}

// TestForced takes the file from a holder that is as alive as ever, writes all the time and is 50 ms away: it takes a term. What the old
// holder is acknowledged the new one finds, and from the moment that it has the file the old one is acknowledged nothing.
func TestForced(t *testing.T) {
	carriers(t, func(b *bed) {
		other := b.Client()
		b.Status(other)
		b.SetAll(b.ClientAddr(0), simnet.Link{Delay: 50 * time.Millisecond})
		old, w := b.watch(b.file, 0, 0), b.write(b.file, 4)
		time.Sleep(time.Second)
		begun := time.Now()
		second, err := file.Open(b.T.Context(), other, b.Path("/vm/disk0"), file.OpenOptions{Reader: b.Reader,
			OpenOptions: cluster.OpenOptions{Wait: 15 * time.Second, TakeOver: true}})
		if err != nil {
			b.T.Fatal(err)
		}
		b.T.Cleanup(func() { _ = second.Close() })
		taken := time.Now()
		b.between("to take over by force", taken.Sub(begun), leaseTerm, leaseTerm+expiryCheck+2*acquireInterval)
		if believes(b.file) {
			b.T.Error("two holders believe that they have the lease")
		}
		found := make([]uint64, len(w.acked))
		for i := range found {
			if found[i], err = read(b.T.Context(), b.T, second, blocktree.SectorIndex(i)); err != nil {
				b.T.Fatal(err)
			}
		}
		b.await("the old holder learns of it", 10*time.Second, func() bool { return len(w.failed()) == len(w.acked) })
		for _, err := range w.finish() {
			if blocktree.KindOf(err) != blocktree.Fenced {
				b.T.Errorf("a write of the old holder got %v", err)
			}
		}
		for i, k := range found {
			if w.acked[i] > k {
				b.T.Errorf("the old holder was acknowledged write %d of sector %d, the new one found %d", w.acked[i], i, k)
			}
		}
		w.check(second, "by the new holder")
		if _, _, faith := old.finish(); taken.Sub(faith) < leaseMargin {
			b.T.Errorf("the file was taken %v after the old holder believed in its lease", taken.Sub(faith))
		}
		if err := b.file.Close(); blocktree.KindOf(err) != blocktree.Fenced {
			b.T.Errorf("to close what was taken over got %v", err)
		}
	})
}

// TestHolderReadsOn cuts the holder off the metadata only in effect: the other nodes lose sight of one another, so nobody leads. The
// holder that reaches all members reads and writes on, for much longer than its lease, and nobody else gets the file.
func TestHolderReadsOn(t *testing.T) {
	carriers(t, func(b *bed) {
		other := b.Client()
		b.Status(other)
		w := b.write(b.file, 4)
		time.Sleep(time.Second)
		for i := range 3 {
			for j := range 3 {
				b.Net.Set(b.NodeAddr(i), b.NodeAddr(j), simnet.Link{Cut: true})
			}
		}
		time.Sleep(2 * leaseTerm)
		before := w.total()
		w.forget()
		old := b.watch(b.file, 0, 50*time.Millisecond)
		time.Sleep(time.Minute)
		reads, errs, _ := old.finishQuietly()
		if len(errs) > 0 || len(reads) < 20 {
			b.T.Errorf("%d reads, %d failed: %v", len(reads), len(errs), errs)
		}
		if w.total() < before+1000 {
			b.T.Errorf("%d writes in a minute", w.total()-before)
		}
		b.T.Logf("in a minute %d reads and %d writes, the slowest of %v", len(reads), w.total()-before, w.pause())
		short, cancel := context.WithTimeout(b.T.Context(), 30*time.Second)
		defer cancel()
		if _, err := file.Open(short, other, b.Path("/vm/disk0"), file.OpenOptions{Reader: b.Reader}); err == nil {
			b.T.Error("another got the file without a majority")
		}
		for i := range 3 {
			b.On(b.NodeAddr(i))
		}
		b.Healthy(b.client)
		w.finishWell()
		w.check(b.file, "in the end")
	})
}

// finishQuietly is finish of a holder that may never have believed in its lease.
func (w *witness) finishQuietly() (reads []observed, errs []error, faith int) {
	w.stop()
	w.wg.Wait()
	for _, err := range w.errs {
		if k := blocktree.KindOf(err); k != blocktree.Canceled {
			errs = append(errs, err)
		}
	}
	return w.reads, errs, len(w.faith)
}

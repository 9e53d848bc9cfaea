package node_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/file"
	"blocktree/internal/testenv"
)

// force opens /vm/disk0 by force.
func force(ctx context.Context, d *testenv.Domain, c *cluster.Client) (blocktree.File, error) {
	return file.Open(ctx, c, d.Path("/vm/disk0"), file.OpenOptions{Reader: d.Reader,
		OpenOptions: cluster.OpenOptions{Wait: 15 * time.Second, TakeOver: true}})
}

// believes reports whether a file's holder would answer for it without asking anybody.
func believes(f blocktree.File) bool {
	_, ok := f.(interface {
		Lease() (blocktree.Epoch, bool)
	}).Lease()
	return ok
}

// TestTakenOverByForce: a busy holder that renews loses one file to another, by force, and keeps its other one all the time. It never
// believes in its lease once the other has the file, acknowledges nothing that the other does not find, and gets errors then.
func TestTakenOverByForce(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 3)
	d.StartAll()
	ctx := patience(t)
	c, other := d.Client(), d.Client()
	d.Create(c, "/vm/disk0", 16<<20, blocktree.Code{Data: 2, Parity: 1})
	d.Create(c, "/vm/disk1", 16<<20, blocktree.Code{Data: 2, Parity: 1})
	f, spared := d.Open(c, "/vm/disk0"), d.Open(c, "/vm/disk1")
	w, v := startWriters(ctx, f, 8), startWriters(ctx, spared, 2)
	d.Await("writes", func() bool { return w.total() > 200 && v.total() > 50 })
	var watch sync.WaitGroup
	defer watch.Wait()
	stop, doubted := make(chan struct{}), 0
	watch.Go(func() {
		for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
			select {
			case <-stop:
				tick.Stop()
				return
			default:
			}
			if !believes(spared) {
				doubted++
			}
		}
	})
	begun := time.Now()
	second, err := force(ctx, d, other)
	took, old := time.Since(begun), believes(f) // the first question after the other has the file
	if err != nil {
		t.Fatal(err)
	}
	if old {
		t.Error("two holders believe that they have the lease")
	}
	if took < blocktree.LeaseTerm || took > 6*blocktree.LeaseTerm {
		t.Errorf("it took %v", took)
	}
	t.Logf("taken over after %v", took)
	w.finish(t, true)
	if len(w.errs) == 0 || blocktree.KindOf(w.errs[0]) != blocktree.Fenced {
		t.Errorf("the old holder's writers got %v", w.errs)
	}
	w.check(ctx, t, second)
	if err := f.ReadSectors(ctx, 0, make([]byte, sectorBytes)); blocktree.KindOf(err) != blocktree.Fenced {
		t.Errorf("a read of the old holder got %v", err)
	}
	before := v.total()
	d.Await("writes of the other file", func() bool { return v.total() > before+50 })
	close(stop)
	watch.Wait()
	v.finish(t, false)
	if doubted > 0 && took < 2*blocktree.LeaseTerm { // a machine so busy that a take-over takes longer renews late, too
		t.Errorf("the lease of the other file was doubted %d times", doubted)
	}
	if err := f.Close(); blocktree.KindOf(err) != blocktree.Fenced {
		t.Errorf("to close what was taken over got %v", err)
	}
	_, err = file.Open(ctx, c, d.Path("/vm/disk0"), file.OpenOptions{Reader: d.Reader})
	if text := err.Error(); !strings.Contains(text, "held by /client2 under epoch ") || !strings.Contains(text, " ago, ends in ") ||
		!strings.Contains(blocktree.HintOf(err), "--take-over") {
		t.Errorf("a third opener is told %q, hint %q", text, blocktree.HintOf(err))
	}
	for _, g := range []blocktree.File{second, spared} {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestTakeOverGivenUp: a claimant that stops while it waits leaves the file to its holder, whose writes never failed and whose lease
// is confirmed again.
func TestTakeOverGivenUp(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 3)
	d.StartAll()
	ctx := patience(t)
	c, other := d.Client(), d.Client()
	d.Create(c, "/vm/disk0", 16<<20, blocktree.Code{Data: 2, Parity: 1})
	f := d.Open(c, "/vm/disk0")
	w := startWriters(ctx, f, 4)
	short, cancel := context.WithTimeout(ctx, blocktree.LeaseTerm-time.Second)
	defer cancel()
	begun := time.Now()
	if g, err := force(short, d, other); err == nil {
		t.Fatalf("it has %v after %v", g.Info().Path, time.Since(begun))
	}
	over := blocktree.LeaseTerm + blocktree.ClaimTerm // what was confirmed before the claim has run out by then
	d.Await("the lease is confirmed again", func() bool { return time.Since(begun) > over && believes(f) })
	w.finish(t, false)
	w.check(ctx, t, f)
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// TestTakersDoNotFight: of two that take a file over at the same time one gets it and keeps it, the other is told who is first. Their idle
// victim does not believe in its lease by then.
func TestTakersDoNotFight(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 3)
	d.StartAll()
	ctx := patience(t)
	c := d.Client()
	d.Create(c, "/vm/disk0", 16<<20, blocktree.Code{Data: 2, Parity: 1})
	f := d.Open(c, "/vm/disk0")
	type outcome struct {
		f   blocktree.File
		err error
	}
	outcomes := make(chan outcome, 2)
	for range 2 {
		taker := d.Client()
		go func() {
			g, err := force(ctx, d, taker)
			outcomes <- outcome{g, err}
		}()
	}
	lost, won := <-outcomes, <-outcomes
	if believes(f) { // it has nothing to do, and so only its renewals can tell it
		t.Error("the old holder believes that it has the lease")
	}
	if lost.err == nil {
		lost, won = won, lost
	}
	if blocktree.KindOf(lost.err) != blocktree.Busy || won.err != nil {
		t.Fatalf("%v; %v", lost.err, won.err)
	}
	t.Logf("the other one: %v", lost.err)
	if err := won.f.WriteSectors(ctx, 1, numbered(1, 1)); err != nil {
		t.Error(err)
	}
	if err := won.f.Close(); err != nil {
		t.Error(err)
	}
	_ = f.Close()
}

package file_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/crypto/keys"
	"blocktree/internal/file"
)

func (b *bed) admin() *file.Admin { return &file.Admin{Client: b.Client(), Reader: b.Reader} }

// described is what the access record of the tree file says now.
func (b *bed) described() *file.Described {
	b.T.Helper()
	inode, err := b.client.Stat(b.T.Context(), b.Path("/vm/tree"))
	b.must(err)
	d, err := file.Describe(b.Path("/vm/tree"), inode, nil)
	b.must(err)
	return d
}

// rekey gives the tree file a new key.
func (b *bed) rekey(a *file.Admin, without ...keys.PublicKey) {
	b.T.Helper()
	ctx, cancel := context.WithTimeout(b.T.Context(), time.Minute)
	defer cancel()
	_, err := a.Rekey(ctx, b.Path("/vm/tree"), without...)
	b.must(err)
}

// resealed waits until no key of before is left.
func (b *bed) resealed() {
	b.T.Helper()
	for began := b.Elapsed(); b.described().Older > 0; time.Sleep(time.Second) {
		if b.Elapsed()-began > 3*time.Minute {
			b.T.Fatalf("%v: not re-sealed", b.Elapsed())
		}
	}
}

// spread writes a version of sectors over three leaf pages, and folds; every other one if it is another than the first.
func (b *bed) spread(f blocktree.File, want map[blocktree.SectorIndex]uint64, n uint64) {
	b.T.Helper()
	for s := blocktree.SectorIndex(0); s < 300; s += blocktree.SectorIndex(n) {
		want[s] = n
		b.write(f, s, n)
	}
	b.must(file.Fold(b.T.Context(), f))
}

// TestTreeRekey gives a tree file a new key while it is held and read, twice: the record, what is written, the pages, and in the end all of it is under the new key, as who has only that finds.
func TestTreeRekey(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		want := map[blocktree.SectorIndex]uint64{}
		f := b.open()
		b.spread(f, want, 1)
		b.must(f.Close())
		early := b.roots.clone()
		f = b.open() // another line, so that the history has a page
		b.spread(f, want, 2)
		reader, err := b.try(b.Client(), nil, readOnly)
		b.must(err)
		b.check(reader, want)
		for round := uint32(2); round < 4; round++ {
			was := file.Root(f)
			b.rekey(b.admin())
			if r := file.Root(f); r.Generation != round || r.Number <= was.Number || r.Line != 1 {
				b.T.Errorf("after a rekey the root is %v, it was %v", r, was)
			}
			b.spread(f, want, uint64(round))
			b.check(reader, want)
			b.resealed()
			file.Forget(f)
			b.check(f, want)
			fresh, err := b.try(b.Client(), nil, readOnly)
			b.must(err)
			b.check(fresh, want)
			b.must(fresh.Close())
			b.check(reader, want)
		}
		b.must(f.Close())
		f = b.open()
		b.check(f, want)
		if r := file.Root(f); r.Generation != 3 {
			b.T.Errorf("%v", r)
		}
		want[5] = 4
		b.write(f, 5, 4)
		b.must(f.Close())
		f, err = b.try(b.Client(), early) // by a page of the history that nothing has changed since
		b.must(err)
		b.check(f, want)
		b.must(f.Close())
	})
}

// TestTreeRekeyOfNobodys: where nobody holds the file, nor a record of it is there yet, rekey makes one under the new key.
func TestTreeRekeyOfNobodys(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		for round := uint32(2); round < 4; round++ {
			b.rekey(b.admin())
			reader, err := b.try(b.Client(), nil, readOnly)
			b.must(err)
			if r := file.Root(reader); r.Generation != round {
				b.T.Errorf("round %d: %v", round, r)
			}
			b.must(reader.Close())
		}
		f := b.open()
		b.write(f, 5, 1)
		b.check(f, map[blocktree.SectorIndex]uint64{5: 1, 6: 0})
		b.must(f.Close())
		b.must(b.admin().Reseal(b.T.Context(), b.Path("/vm/tree"), func(file.Resealing) {}))
		if d := b.described(); d.Older != 0 || d.Generation != 3 {
			b.T.Errorf("%+v", d)
		}
		f = b.open()
		b.check(f, map[blocktree.SectorIndex]uint64{5: 1, 6: 0})
		b.must(f.Close())
	})
}

// TestRecordOfTheKeyBefore: after a rekey whoever has only the key of before, and all members on his side, makes a record that nobody goes by, however new it is, not even while sectors are still
// under that key. Who saw the one of the new key says what it is; rekey goes on from what is there.
func TestRecordOfTheKeyBefore(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		want := map[blocktree.SectorIndex]uint64{}
		f := b.open()
		b.spread(f, want, 1)
		early := b.roots.clone()
		stayed, err := b.try(b.Client(), nil, readOnly)
		b.must(err)
		b.rekey(b.admin())
		b.check(stayed, want)
		b.must(file.Forge(b.T.Context(), f, 1))
		_ = f.Close() // its next record has a number that is there
		for who, roots := range map[string]*kept{"who knows nothing": nil, "who knows a record of before": early} {
			for _, how := range []func(*file.OpenOptions){func(*file.OpenOptions) {}, readOnly} {
				if _, err := b.try(b.Client(), roots, how); blocktree.KindOf(err) != blocktree.Unavailable || blocktree.HintOf(err) == "" {
					b.T.Errorf("%s goes by it: %v", who, err)
				}
			}
		}
		for _, how := range []func(*file.OpenOptions){func(*file.OpenOptions) {}, readOnly} {
			_, err := b.try(b.Client(), b.roots, how)
			b.detected("who saw a record of the new key", err)
		}
		b.rekey(b.admin())
		f, err = b.try(b.Client(), early)
		b.must(err)
		b.check(f, want)
		b.resealed()
		b.must(f.Close())
		b.check(stayed, want)
	})
}

// TestRemovedHolder: a holder to whom the new key is not wrapped makes no record any more, and is no obstacle to the one under the new key. It reads and writes nothing that is new.
func TestRemovedHolder(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		mallory := keys.NewReaderKey()
		his := func(o *file.OpenOptions) { o.Reader = mallory }
		b.must(b.admin().Grant(b.T.Context(), b.Path("/vm/tree"), mallory.Public()))
		f, err := b.try(b.Client(), nil, his)
		b.must(err)
		b.write(f, 5, 1)
		b.must(file.Fold(b.T.Context(), f))
		reader, err := b.try(b.Client(), nil, his, readOnly)
		b.must(err)
		b.write(f, 6, 2)
		b.rekey(b.admin(), mallory.Public())
		if err := f.WriteSectors(b.T.Context(), 7, content(7, 3)); err == nil {
			b.T.Error("he writes")
		}
		if err := file.Fold(b.T.Context(), f); err == nil {
			b.T.Error("he makes records")
		}
		_ = f.Close()
		g := b.open()
		if r := file.Root(g); r.Generation != 2 {
			b.T.Errorf("%v", r)
		}
		b.check(g, map[blocktree.SectorIndex]uint64{5: 1, 6: 2})
		b.write(g, 5, 4)
		b.must(file.Fold(b.T.Context(), g))
		if n, err := b.read(reader, 5); err == nil {
			b.T.Errorf("he reads %d", n)
		}
		for _, how := range [][]func(*file.OpenOptions){{his}, {his, readOnly}} {
			if _, err := b.try(b.Client(), nil, how...); blocktree.KindOf(err) != blocktree.Permission {
				b.T.Errorf("he opens it: %v", err)
			}
		}
		b.must(g.Close())
	})
}

// TestTreeResealJudges: a sector that is older than its floor is not sealed anew, under a version above it.
func TestTreeResealJudges(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		f := b.open()
		b.write(f, 5, 1)
		is, err := file.Floor(b.T.Context(), f, 5)
		b.must(err)
		b.must(file.Fold(b.T.Context(), f))
		is.Version.Sequence++
		file.Raise(f, 5, is)
		b.rekey(b.admin())
		time.Sleep(time.Minute)
		_, err = b.read(f, 5)
		b.detected("after it was to be re-sealed", err)
		if b.described().Older == 0 {
			b.T.Error("the key that it is under was dropped")
		}
	})
}

// TestHolderEndsInARekey cuts the holder off at each step of the fold that a rekey makes, with and without a loss of power of all nodes, and whoever rekeys, or not: who comes next finds everything, under a record
// of the new key.
func TestHolderEndsInARekey(t *testing.T) {
	for _, durability := range durabilities() {
		for at := range steps {
			for _, both := range []bool{false, true} {
				t.Run(fmt.Sprintf("%v/%s%d/%v", durability, steps[at], at, both), func(t *testing.T) {
					within(t, durability, func(b *bed) { b.endRekeyAt(at, both) })
				})
			}
		}
	}
}

// ending is a step function that cuts the client off at a step, once it is armed.
type ending struct {
	b       *bed
	at, met int
	armed   bool
	power   bool
	ended   chan struct{}
}

func (e *ending) step(what string) error {
	switch {
	case !e.armed:
		return nil
	case e.met > e.at:
		return errEnded
	}
	if what == steps[e.met] {
		e.met++
	}
	if e.met <= e.at {
		return nil
	}
	e.b.Off(e.b.ClientAddr(0))
	if e.power {
		e.b.PowerLoss(uint64(e.at), e.b.nodes...)
	}
	close(e.ended)
	return errEnded
}

func (b *bed) endRekeyAt(at int, both bool) {
	e := &ending{b: b, at: at, power: both, ended: make(chan struct{})}
	f := b.open(func(o *file.OpenOptions) { o.SetStep(e.step) })
	want := map[blocktree.SectorIndex]uint64{}
	b.spread(f, want, 1)
	for s := blocktree.SectorIndex(0); s < 300; s += 7 {
		want[s] = 2
		b.write(f, s, 2)
	}
	b.must(f.Flush(b.T.Context()))
	admin := b.admin()
	ctx, cancel := context.WithTimeout(b.T.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	e.armed = true
	go func() {
		_, err := admin.Rekey(ctx, b.Path("/vm/tree"))
		done <- err
	}()
	<-e.ended
	if both { // and who rekeys it ends, too
		cancel()
		<-done
		for _, i := range b.nodes {
			b.On(b.NodeAddr(i))
		}
		b.Off(b.ClientAddr(0))
		b.StartAll()
	} else {
		b.must(<-done)
	}
	b.client = b.Client()
	g := b.open()
	if r := file.Root(g); r.Generation != 2 {
		b.T.Errorf("%v", r)
	}
	b.check(g, want)
	b.resealed()
	b.must(g.Close())
	g, err := b.try(b.Client(), nil)
	b.must(err)
	b.check(g, want)
	b.must(g.Close())
}

// TestHolderEndsInAReseal cuts one holder off after the other while sectors, and then pages, are re-sealed.
func TestHolderEndsInAReseal(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		want := map[blocktree.SectorIndex]uint64{}
		f := b.open()
		b.spread(f, want, 1)
		b.must(f.Close())
		open := func() blocktree.File {
			f, err := b.try(b.Client(), b.roots)
			b.must(err)
			return f
		}
		f = open()
		b.spread(f, want, 2)
		holder := 1 // by number
		b.rekey(b.admin())
		for i := range 5 {
			time.Sleep(time.Duration(i) * 700 * time.Millisecond)
			b.Off(b.ClientAddr(holder))
			f = open()
			holder = len(b.Everybody()) - len(b.nodes) - 1
			b.check(f, want)
		}
		b.resealed()
		b.check(f, want)
		b.must(f.Close())
	})
}

// TestForsakenTreeWrite: who asked for a write, or for zeros, waits for it no more, but it is on its way: until it has ended nothing that it writes to is re-sealed.
func TestForsakenTreeWrite(t *testing.T) {
	for what, write := range map[string]func(ctx context.Context, f blocktree.File) error{
		"write": func(ctx context.Context, f blocktree.File) error { return f.WriteSectors(ctx, 5, content(5, 2)) },
		"zeros": func(ctx context.Context, f blocktree.File) error { return f.ZeroSectors(ctx, 5, 1) },
	} {
		within(t, stripe.DurabilityAck, func(b *bed) {
			f := b.open()
			b.write(f, 5, 1)
			b.Off(b.NodeAddr(2)) // it leaves the view after a while: then the write ends
			ctx, cancel := context.WithTimeout(b.T.Context(), 10*time.Millisecond)
			defer cancel()
			if err := write(ctx, f); err == nil {
				b.T.Errorf("the %s does not hang: the test looks at nothing", what)
			}
			time.Sleep(100 * time.Millisecond)
			if file.Within(f) == 0 {
				b.T.Errorf("%s: it has left the gate, and has not ended", what)
			}
			for began := b.Elapsed(); file.Within(f) != 0; time.Sleep(100 * time.Millisecond) {
				if b.Elapsed()-began > time.Minute {
					b.T.Fatalf("%s: it does not leave the gate", what)
				}
			}
		})
	}
}

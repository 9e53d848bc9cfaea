package fastrung

import (
	"context"
	"fmt"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/stripe"
	"blocktree/crypto/keys"
	"blocktree/internal/bttp"
	"blocktree/internal/file"
)

// flushBed is a bed with a second file, of durability flush, and the mirror of it: which write of each sector was flushed last, and which
// acknowledged.
type flushBed struct {
	*bed
	lazy           blocktree.File
	flushed, acked []uint64
}

const flushSectors = 48

// flushing runs a test on a file of durability flush, over the carriers in turn.
func flushing(t *testing.T, first, seeds uint64, test func(b *flushBed, seed uint64)) {
	for seed := first; seed < first+seeds; seed++ {
		transport := []bttp.Transport{bttp.QUIC, bttp.TCP}[seed%2]
		t.Run(fmt.Sprintf("seed=%d/%s", seed, transport), func(t *testing.T) {
			within(t, transport, seed, func(b *bed) {
				f := &flushBed{bed: b, flushed: make([]uint64, flushSectors), acked: make([]uint64, flushSectors)}
				err := file.Create(b.T.Context(), b.client, b.Path("/vm/lazy"), file.CreateOptions{SizeBytes: 16 << 20, Code: blocktree.Code{Data: 2, Parity: 1},
					Readers: []keys.PublicKey{b.Reader.Public()}, Durability: stripe.DurabilityFlush})
				if err != nil {
					b.T.Fatal(err)
				}
				f.lazy = f.openLazy(b.client)
				test(f, seed)
			})
		})
	}
}

func (b *flushBed) openLazy(c *cluster.Client) blocktree.File {
	b.T.Helper()
	f := b.Open(c, "/vm/lazy")
	b.T.Cleanup(func() { _ = f.Close() })
	return f
}

// put writes count sectors from first on, one by one, as of a write.
func (b *flushBed) put(first, count int, write uint64) {
	b.T.Helper()
	for i := first; i < first+count; i++ {
		if err := b.lazy.WriteSectors(b.T.Context(), blocktree.SectorIndex(i), numbered(blocktree.SectorIndex(i), write)); err != nil {
			b.T.Fatalf("write %d of sector %d: %v", write, i, err)
		}
		b.acked[i] = write
	}
}

func (b *flushBed) flush() {
	b.T.Helper()
	if err := b.lazy.Flush(b.T.Context()); err != nil {
		b.T.Fatal(err)
	}
	copy(b.flushed, b.acked)
}

// back brings all nodes that do not run back.
func (b *flushBed) back() {
	b.T.Helper()
	for i := range 3 {
		b.On(b.NodeAddr(i))
	}
	b.StartAll()
}

// check reads every sector: of what was flushed, or of a later write that was acknowledged; only of that if all must be there. It returns how
// many sectors are of an older write than the last that was acknowledged.
func (b *flushBed) check(what string, f blocktree.File, all bool) (older int) {
	b.T.Helper()
	ctx, cancel := context.WithTimeout(b.T.Context(), time.Minute)
	defer cancel()
	for i := range b.acked {
		k, err := read(ctx, b.T, f, blocktree.SectorIndex(i))
		if err != nil {
			b.T.Fatalf("%s: sector %d: %v", what, i, err)
		}
		if k < b.flushed[i] || k > b.acked[i] || all && k != b.acked[i] {
			b.T.Errorf("%s: sector %d is of write %d; %d was flushed, %d acknowledged", what, i, k, b.flushed[i], b.acked[i])
		}
		if k < b.acked[i] {
			older++
		}
	}
	return older
}

// checkWithout is check with each node off in turn.
func (b *flushBed) checkWithout(what string) {
	b.T.Helper()
	for i := range 3 {
		b.Off(b.NodeAddr(i))
		b.check(fmt.Sprintf("%s, without node %d", what, i+1), b.lazy, true)
		b.On(b.NodeAddr(i))
		b.Healthy(b.client)
	}
}

func (b *flushBed) lossNumber(f blocktree.File) uint64 {
	b.T.Helper()
	n, err := f.(blocktree.LossNumberer).LossNumber(b.T.Context())
	if err != nil {
		b.T.Fatal(err)
	}
	return n
}

// lossless demands that all nodes are back without a loss: who has the file goes on, everything acknowledged is there by every pair of members, and
// by the next holder.
func (b *flushBed) lossless(what string) {
	b.T.Helper()
	b.Healthy(b.client)
	b.check(what, b.lazy, true)
	b.put(0, flushSectors/2, b.acked[0]+1)
	b.flush()
	b.checkWithout(what)
	if err := b.lazy.Close(); err != nil {
		b.T.Errorf("%s: close: %v", what, err)
	}
	b.lazy = b.openLazy(b.client)
	if n := b.lossNumber(b.lazy); n != 0 {
		b.T.Errorf("%s: the loss number is %d", what, n)
	}
	b.check(what+", by the next holder", b.lazy, true)
}

// lost demands that the loss is said: to who has the file open, by its number, and to nobody else; and that what was flushed is there. (One loss of
// power may count twice: nodes come back one after the other.)
func (b *flushBed) lost() (older int) {
	b.T.Helper()
	before := b.lossNumber(b.lazy)
	reader, err := file.Open(b.T.Context(), b.client, b.Path("/vm/lazy"), file.OpenOptions{Reader: b.Reader, ReadOnly: true})
	if err != nil {
		b.T.Fatal(err)
	}
	defer reader.Close()
	if n := b.lossNumber(reader); n != before {
		b.T.Errorf("before anybody opened the file anew its loss number is %d, not %d", n, before)
	}
	kind := func() blocktree.Kind {
		ctx, cancel := context.WithTimeout(b.T.Context(), 5*time.Second)
		defer cancel()
		_, err := read(ctx, b.T, b.lazy, 0)
		if err == nil {
			b.T.Error("who had the file open reads on")
		}
		return blocktree.KindOf(err)
	}
	b.await("the holder to hear of the loss", time.Minute, func() bool { return kind() == blocktree.Lost })
	if err := b.lazy.WriteSectors(b.T.Context(), 0, numbered(0, 1000)); blocktree.KindOf(err) != blocktree.Lost {
		b.T.Errorf("a write after the loss: %v", err)
	}
	if err := b.lazy.Flush(b.T.Context()); blocktree.KindOf(err) != blocktree.Lost {
		b.T.Errorf("a flush after the loss: %v", err)
	}
	if err := b.lazy.Close(); blocktree.KindOf(err) != blocktree.Lost {
		b.T.Errorf("close after the loss: %v", err)
	}
	b.lazy = b.openLazy(b.client)
	if n := b.lossNumber(b.lazy); n <= before || n > before+2 {
		b.T.Errorf("the loss number is %d, it was %d", n, before)
	}
	if _, err := read(b.T.Context(), b.T, reader, 0); blocktree.KindOf(err) != blocktree.Lost {
		b.T.Errorf("a reader that was there before the loss: %v", err)
	}
	older = b.check("after the loss", b.lazy, false)
	for i := range b.acked { // from now on it is what it is
		k, err := read(b.T.Context(), b.T, b.lazy, blocktree.SectorIndex(i))
		if err != nil {
			b.T.Fatal(err)
		}
		b.acked[i], b.flushed[i] = k, k
	}
	b.Healthy(b.client)
	b.put(0, flushSectors/2, b.acked[0]+10)
	b.flush()
	b.checkWithout("after the loss")
	b.fill(0, 8, 1) // the other file lost nothing, and its holder goes on
	return older
}

// TestFlushPowerLossOfAll takes the power of all nodes at once while some writes are not flushed: all that was flushed is there, the loss is said, and
// the file is as good as new for whoever opens it. So again, after that.
func TestFlushPowerLossOfAll(t *testing.T) {
	older := 0
	flushing(t, 0, 4, func(b *flushBed, seed uint64) {
		for loss := range uint64(2) {
			write := 100*loss + 1
			b.put(0, flushSectors, write)
			b.flush()
			b.put(0, flushSectors/2, write+1)
			b.flush()
			b.put(0, flushSectors/4, write+2)
			b.PowerLoss(10*seed+loss, 0, 1, 2)
			b.back()
			older += b.lost()
		}
	})
	if older == 0 {
		t.Error("nothing was ever lost")
	}
}

// TestFlushEndOfAllProcesses ends all processes at once, by a kill or cleanly: nothing is lost, and nobody is told of anything.
func TestFlushEndOfAllProcesses(t *testing.T) {
	for name, end := range map[string]func(b *flushBed){
		"killed":  func(b *flushBed) { b.Kill(0, 1, 2) },
		"stopped": func(b *flushBed) { b.Stop(0); b.Stop(1); b.Stop(2) },
		"killed, and each again before there is a majority, after which the power goes": func(b *flushBed) {
			b.Kill(0, 1, 2)
			for i := range 3 { // what a start finds it makes durable, and notes that
				b.Start(i)
				time.Sleep(time.Second)
				b.Kill(i)
			}
			b.losePowerStopped(1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			flushing(t, 0, 2, func(b *flushBed, _ uint64) {
				b.put(0, flushSectors, 1)
				b.flush()
				b.put(0, flushSectors/2, 2)
				end(b)
				b.back()
				b.lossless(name)
			})
		})
	}
}

// TestFlushKillThenPower: what a kill has left in memory goes with the power if that is lost before the node starts again.
func TestFlushKillThenPower(t *testing.T) {
	flushing(t, 0, 2, func(b *flushBed, seed uint64) {
		b.put(0, flushSectors, 1)
		b.flush()
		b.put(0, flushSectors/2, 2)
		b.Kill(0, 1, 2)
		b.losePowerStopped(seed)
		b.back()
		b.lost()
	})
}

// losePowerStopped takes the power of all nodes, none of which runs.
func (b *flushBed) losePowerStopped(seed uint64) {
	for i := range 3 {
		b.PowerLossStopped(seed, i)
	}
}

// TestFlushOneNode kills one node, and takes the power of one, under load: nothing is lost, and what the one without power had not synced is copied
// up.
func TestFlushOneNode(t *testing.T) {
	for name, end := range map[string]func(b *flushBed, seed uint64, node int){
		"killed": func(b *flushBed, _ uint64, node int) {
			b.Kill(node)
			b.back()
		},
		"without power": func(b *flushBed, seed uint64, node int) {
			before := stats(b.lazy)
			b.PowerLoss(seed, node)
			b.back()
			b.await("promotion", time.Minute, func() bool { return stats(b.lazy).Promoted > before.Promoted })
		},
	} {
		t.Run(name, func(t *testing.T) {
			flushing(t, 0, 2, func(b *flushBed, seed uint64) {
				b.put(0, flushSectors, 1)
				node := (b.Leader(b.client) + int(seed)) % 3
				load := b.write(b.lazy, 4)
				time.Sleep(900 * time.Millisecond)
				end(b, seed, node)
				time.Sleep(100 * time.Millisecond)
				load.finishWell()
				copy(b.acked, load.acked)
				b.lossless(name)
			})
		})
	}
}

// TestFlushStopBesideAPowerLoss stops a node just after another one has lost its power, and before that is noticed: what the stopped one has it
// keeps, so that nothing is lost. The one without power comes back first, and makes a majority in which the other could be voted out.
func TestFlushStopBesideAPowerLoss(t *testing.T) {
	flushing(t, 0, 6, func(b *flushBed, seed uint64) {
		b.put(0, flushSectors, 1)
		b.flush()
		b.put(0, flushSectors/2, 2)
		dark := int(seed) / 2 % 3
		stopped := (dark + 1) % 3
		b.PowerLoss(seed, dark)
		b.Stop(stopped)
		time.Sleep(time.Second) // over lostGrace, under DeadAfter
		b.On(b.NodeAddr(dark))
		b.Start(dark)
		time.Sleep(10 * time.Second)
		b.back()
		b.lossless("a stop beside a loss of power")
	})
}

// TestFlushHealer: what a loss of power left of a file that nobody has open is taken by the cluster itself, so that it can be read; the next holder
// finds its number raised.
func TestFlushHealer(t *testing.T) {
	flushing(t, 0, 2, func(b *flushBed, seed uint64) {
		b.put(0, flushSectors, 1)
		if err := b.lazy.Close(); err != nil {
			b.T.Fatal(err)
		}
		copy(b.flushed, b.acked) // to let go of a file is to flush it
		b.PowerLoss(seed, 0, 1, 2)
		b.back()
		b.Healthy(b.client)
		loss := func() cluster.FileDurability {
			d, err := b.client.Stat(b.T.Context(), b.Path("/vm/lazy"))
			if err != nil {
				b.T.Fatal(err)
			}
			l, err := b.client.Durability(b.T.Context(), d)
			if err != nil {
				b.T.Fatal(err)
			}
			return l
		}
		b.await("the loss to be noticed", 30*time.Second, func() bool { return loss().LossNumber > 0 }) // who opened it before is told of it
		reader, err := file.Open(b.T.Context(), b.client, b.Path("/vm/lazy"), file.OpenOptions{Reader: b.Reader, ReadOnly: true})
		if err != nil {
			b.T.Fatal(err)
		}
		defer reader.Close()
		b.await("the cluster to take what is left", 30*time.Second, func() bool { return !loss().Lossy })
		b.check("by a reader", reader, true)
	})
}

// TestFlushOpenWhileNodesComeBack: who opens a file while a node that lost its power, too, is away still gets it once that is back, and no error
// of a loss that was not its own.
func TestFlushOpenWhileNodesComeBack(t *testing.T) {
	flushing(t, 0, 2, func(b *flushBed, seed uint64) {
		b.put(0, flushSectors, 1)
		b.Stop(1)
		b.await("removal", 5*time.Second, func() bool { return stats(b.lazy).Removed > 0 })
		b.flush()
		b.PowerLoss(seed, 0, 2)
		b.On(b.NodeAddr(0))
		b.On(b.NodeAddr(2))
		b.Start(0)
		b.Start(1)
		opened := make(chan blocktree.File, 1)
		go func() {
			f, err := file.Open(b.T.Context(), b.client, b.Path("/vm/lazy"), file.OpenOptions{Reader: b.Reader})
			if err != nil {
				b.T.Errorf("it does not open: %v", err)
			}
			opened <- f
		}()
		time.Sleep(5 * time.Second)
		b.Start(2)
		f := <-opened
		if f == nil {
			return
		}
		defer f.Close()
		if n := b.lossNumber(f); n != 2 {
			b.T.Errorf("the loss number is %d", n)
		}
		b.check("after the loss", f, true)
	})
}

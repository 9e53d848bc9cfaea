package file_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/stripe"
	"blocktree/crypto/tree"
	"blocktree/internal/bttp"
	"blocktree/internal/file"
	"blocktree/internal/testenv"
)

const (
	sectorBytes = blocktree.SectorBytesDefault
	treeSize    = 16 << 20
)

// kept is a Roots in memory.
type kept struct {
	mu   sync.Mutex
	seen map[blocktree.Path]file.Seen
}

func (k *kept) Load(p blocktree.Path) (*file.Seen, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s, ok := k.seen[p]; ok {
		return &s, nil
	}
	return nil, nil
}

func (k *kept) Save(p blocktree.Path, s file.Seen) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen[p] = s
	return nil
}

func (k *kept) Forgotten(p blocktree.Path) string { return "forget " + p.Short() }

func (k *kept) clone() *kept {
	k.mu.Lock()
	defer k.mu.Unlock()
	return &kept{seen: maps.Clone(k.seen)}
}

// bed is three nodes, or more, with a tree file, /vm/tree, and a plain one, /vm/plain.
type bed struct {
	*testenv.Simulated
	client *cluster.Client
	roots  *kept
	nodes  []int
}

func within(t *testing.T, d stripe.Durability, test func(b *bed)) { withNodes(t, 3, d, test) }

func withNodes(t *testing.T, n int, d stripe.Durability, test func(b *bed), prepare ...func(*testenv.Domain)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bed{Simulated: testenv.NewSimulated(t, n, 1), roots: &kept{seen: map[blocktree.Path]file.Seen{}}}
		for i := range n {
			b.nodes = append(b.nodes, i)
		}
		b.Transport = bttp.TCP
		for _, f := range prepare {
			f(b.Domain)
		}
		b.StartAll()
		b.client = b.Client()
		for path, tree := range map[string]bool{"/vm/tree": true, "/vm/plain": false} {
			err := file.Create(b.T.Context(), b.client, b.Path(path), file.CreateOptions{SizeBytes: treeSize, Code: blocktree.Code{Data: 2, Parity: 1},
				Readers: readers(b), Durability: d, Tree: tree})
			b.must(err)
		}
		test(b)
	})
}

func (b *bed) must(err error) {
	b.T.Helper()
	if err != nil {
		b.T.Fatalf("%v: %v", b.Elapsed(), err)
	}
}

// try opens /vm/tree as a client that keeps its roots in r.
func (b *bed) try(c *cluster.Client, r *kept, change ...func(*file.OpenOptions)) (blocktree.File, error) {
	o := file.OpenOptions{Reader: b.Reader, OpenOptions: cluster.OpenOptions{Wait: 20 * time.Second}}
	if r != nil {
		o.Roots = r
	}
	for _, f := range change {
		f(&o)
	}
	f, err := file.Open(b.T.Context(), c, b.Path("/vm/tree"), o)
	if err == nil {
		b.T.Cleanup(func() { _ = f.Close() }) // the tests say what they expect of it, before
	}
	return f, err
}

func (b *bed) open(change ...func(*file.OpenOptions)) blocktree.File {
	b.T.Helper()
	f, err := b.try(b.client, b.roots, change...)
	b.must(err)
	return f
}

func readOnly(o *file.OpenOptions) { o.ReadOnly = true }

// content is what version n of a sector holds.
func content(at blocktree.SectorIndex, n uint64) []byte {
	b := bytes.Repeat([]byte{byte(n), byte(at)}, sectorBytes/2)
	binary.BigEndian.PutUint64(b, uint64(at)<<32|n)
	return b
}

func (b *bed) write(f blocktree.File, at blocktree.SectorIndex, n uint64) {
	b.T.Helper()
	b.must(f.WriteSectors(b.T.Context(), at, content(at, n)))
}

// read returns which version of a sector is there, 0 for zeros.
func (b *bed) read(f blocktree.File, at blocktree.SectorIndex) (uint64, error) {
	b.T.Helper()
	got := make([]byte, sectorBytes)
	if err := f.ReadSectors(b.T.Context(), at, got); err != nil {
		return 0, err
	}
	n := binary.BigEndian.Uint64(got) & (1<<32 - 1)
	if n == 0 && !bytes.Equal(got, make([]byte, sectorBytes)) || n != 0 && !bytes.Equal(got, content(at, n)) {
		b.T.Fatalf("sector %d holds what nobody wrote", at)
	}
	return n, nil
}

func (b *bed) check(f blocktree.File, want map[blocktree.SectorIndex]uint64) {
	b.T.Helper()
	for at, n := range want {
		if got, err := b.read(f, at); err != nil || got != n {
			b.T.Fatalf("%v: sector %d holds %d, want %d (%v)", b.Elapsed(), at, got, n, err)
		}
	}
}

// detected fails the test unless err says that something is older than it was.
func (b *bed) detected(what string, err error) {
	b.T.Helper()
	if blocktree.KindOf(err) != blocktree.Corrupt || !strings.Contains(err.Error(), "rollback detected") || blocktree.HintOf(err) == "" {
		b.T.Errorf("%s: %v", what, err)
	}
}

func (b *bed) stopAll() {
	for i := range 3 {
		b.Stop(i)
	}
}

// TestTreeFile writes, folds and reads through holders and readers; a record is made only where something was written.
func TestTreeFile(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		f := b.open()
		want := map[blocktree.SectorIndex]uint64{0: 1, 1: 2, 127: 3, 128: 4, 4095: 5, 2000: 0}
		for at, n := range want {
			if n > 0 {
				b.write(f, at, n)
			}
		}
		b.check(f, want)
		if r := file.Root(f); !r.IsZero() {
			b.T.Errorf("a record before any flush: %v", r)
		}
		b.must(f.Flush(b.T.Context()))
		time.Sleep(file.FoldDelay + time.Second)
		if r := file.Root(f); r.Number != 1 || r.Line != 0 {
			b.T.Errorf("%v after a flush, and %v", r, file.FoldDelay)
		}
		file.Forget(f)
		b.check(f, want)
		other := b.Client()
		reader, err := b.try(other, nil, readOnly)
		b.must(err)
		b.check(reader, want)
		for n := uint64(6); n < 12; n++ { // each page is in either place several times
			b.write(f, 128, n)
			b.must(file.Fold(b.T.Context(), f))
			b.check(reader, map[blocktree.SectorIndex]uint64{128: n, 127: 3})
		}
		want[128] = 11
		b.must(f.Close())
		f = b.open()
		if r := file.Root(f); r.Number != 7 || r.Line != 0 {
			b.T.Errorf("%v: to open and close is no reason for a record", r)
		}
		b.must(f.ZeroSectors(b.T.Context(), 100, 50))
		want[127], want[128] = 0, 0
		b.check(f, want)
		b.must(f.Close())
		f = b.open()
		if r := file.Root(f); r.Number != 8 || r.Line != 1 {
			b.T.Errorf("%v after another holder's close", r)
		}
		b.check(f, want)
		if x, err := f.(blocktree.Extenter).Extents(b.T.Context(), 1000, 2000, 5); err != nil || len(x) != 1 || x[0].Zero {
			b.T.Errorf("%v, %v: members alone say where it is zeros", x, err)
		}
		b.must(f.Close())
	})
}

// TestAllRolledBack is what a tree is for: all nodes, metadata and all, are as they were. Who saw the newer root refuses; of the file without a tree nobody notices.
func TestAllRolledBack(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		plain := b.Open(b.client, "/vm/plain")
		f := b.open()
		b.write(f, 5, 1)
		b.write(plain, 5, 1)
		b.must(f.Close())
		b.must(plain.Close())
		early := b.roots.clone()
		b.stopAll()
		var old []testenv.Disks
		for i := range 3 {
			old = append(old, b.Keep(i))
		}
		b.StartAll()
		f, plain = b.open(), b.Open(b.client, "/vm/plain")
		b.write(f, 5, 2)
		b.write(plain, 5, 2)
		b.must(f.Close())
		b.must(plain.Close())
		b.stopAll()
		for i := range 3 {
			b.Put(i, old[i])
		}
		b.StartAll()
		client := b.Client() // as a server that was started again, with the same state directory
		plain = b.Open(client, "/vm/plain")
		if n, err := b.read(plain, 5); n != 1 || err != nil {
			b.T.Errorf("the file without a tree holds %d, %v", n, err)
		}
		b.must(plain.Close())
		_, err := b.try(client, b.roots)
		b.detected("a holder", err)
		_, err = b.try(client, b.roots, readOnly)
		b.detected("a reader", err)
		root := b.roots.seen[b.Path("/vm/tree")].Root
		_, err = b.try(client, nil, func(o *file.OpenOptions) { o.Root = root })
		b.detected("who knows the root", err)

		f, err = b.try(client, nil) // who knows nothing goes on with what is there, past what was seen
		b.must(err)
		for n := uint64(3); n < 8; n++ {
			b.write(f, 9, n)
			b.must(file.Fold(b.T.Context(), f))
		}
		b.must(f.Close())
		_, err = b.try(client, b.roots)
		b.detected("another history, of a higher number", err)
		f, err = b.try(client, early) // what it saw is in both
		b.must(err)
		b.check(f, map[blocktree.SectorIndex]uint64{5: 1, 9: 7})
		b.must(f.Close())
	})
}

// TestOlderSector: what is below its floor is not given out, whatever else is right, and neither is what is of the floor's version and another leaf; a read that was overtaken is.
func TestOlderSector(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		f := b.open()
		b.write(f, 5, 1)
		is, err := file.Floor(b.T.Context(), f, 5)
		b.must(err)
		b.must(file.Fold(b.T.Context(), f)) // so that what is raised is not compared with what was written since
		later, forged := is, is
		later.Version.Sequence++
		forged.Leaf[3]++
		file.Raise(f, 5, forged)
		_, err = b.read(f, 5)
		b.detected("another leaf", err)
		file.Raise(f, 5, later)
		_, err = b.read(f, 5)
		b.detected("a newer version", err)
		file.Raise(f, 77, later)
		_, err = b.read(f, 77)
		b.detected("a sector that was never written, and has a floor", err)
		b.check(f, map[blocktree.SectorIndex]uint64{78: 0})
	})
}

// TestPageOfBefore: the page that the tree's root refers to is replaced by the one of before, as members could together.
func TestPageOfBefore(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		f := b.open()
		old := make([]byte, tree.PageBytes)
		b.write(f, 5, 1)
		b.must(file.Fold(b.T.Context(), f))
		b.must(file.Pages(f).ReadSectors(b.T.Context(), file.Address(f, 5, 1), old))
		b.write(f, 5, 2)
		b.must(file.Fold(b.T.Context(), f))
		file.Forget(f)
		b.check(f, map[blocktree.SectorIndex]uint64{5: 2})
		b.must(file.Pages(f).WriteSectors(b.T.Context(), file.Address(f, 5, 2), old))
		reader, err := b.try(b.Client(), nil, readOnly)
		b.must(err)
		for who, x := range map[string]blocktree.File{"the holder": f, "a reader": reader} {
			file.Forget(x)
			_, err := b.read(x, 5)
			b.detected(who, err)
			_, err = b.read(x, 4000)
			b.must(err)
		}
		_ = f.Close() // it cannot fold on
	})
}

// TestMadeAnew: a file that was removed and made anew by who owned it is opened, and what was there before is refused from then on, as is another file under the key of before, or one that was made before.
func TestMadeAnew(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		remake := func() {
			b.must(b.client.Remove(b.T.Context(), b.Path("/vm/tree")))
			time.Sleep(2 * time.Second)
			b.must(file.Create(b.T.Context(), b.client, b.Path("/vm/tree"), file.CreateOptions{SizeBytes: treeSize, Code: blocktree.Code{Data: 2, Parity: 1}, Readers: readers(b), Tree: true}))
		}
		write := func(n uint64) {
			f := b.open()
			b.write(f, 5, n)
			b.must(f.Close())
		}
		write(1)
		first := b.roots.clone()
		b.stopAll()
		var old []testenv.Disks
		for i := range 3 {
			old = append(old, b.Keep(i))
		}
		b.StartAll()
		remake()
		write(2)
		second := b.roots.seen[b.Path("/vm/tree")]
		if was := first.seen[b.Path("/vm/tree")]; second.File == was.File || second.Key == was.Key || second.Made <= was.Made {
			b.T.Errorf("%+v, after %+v", second, was)
		}
		other := second // as if the file that is there were one under the key of the one that was seen
		other.File.Inode--
		b.roots.seen[b.Path("/vm/tree")] = other
		_, err := b.try(b.client, b.roots)
		b.detected("another file under the same key", err)
		b.roots.seen[b.Path("/vm/tree")] = second
		b.stopAll()
		for i := range 3 {
			b.Put(i, old[i])
		}
		b.StartAll()
		client := b.Client()
		_, err = b.try(client, b.roots)
		b.detected("the file of before", err)
		_, err = b.try(client, b.roots, readOnly)
		b.detected("the file of before, to a reader", err)
		f, err := b.try(client, first)
		b.must(err)
		b.must(f.Close())
		time.Sleep(2 * time.Second)
		b.client = client
		remake() // by who was taken in, later than all that was seen
		write(3)
	})
}

// TestDowngrade: a path that had a tree file, and has another file now, is refused: one without a tree, and one that was not made later.
func TestDowngrade(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		f := b.open()
		b.write(f, 5, 1)
		b.must(f.Close())
		seen := b.roots.seen[b.Path("/vm/tree")]
		root := seen.Root
		seen.Made += 1000
		b.roots.seen[b.Path("/vm/tree")] = seen
		b.must(b.client.Remove(b.T.Context(), b.Path("/vm/tree")))
		if s, err := b.client.Status(b.T.Context()); err != nil || len(s.Files) != 1 {
			b.T.Errorf("%d files after one of two was removed, %v", len(s.Files), err)
		}
		for _, isTree := range []bool{true, false} {
			b.must(file.Create(b.T.Context(), b.client, b.Path("/vm/tree"), file.CreateOptions{SizeBytes: treeSize, Readers: readers(b), Tree: isTree}))
			_, err := b.try(b.client, b.roots)
			b.detected("another file", err)
			_, err = b.try(b.client, nil, func(o *file.OpenOptions) { o.Root = root })
			b.detected("a root is demanded", err)
			b.must(b.client.Remove(b.T.Context(), b.Path("/vm/tree")))
		}
	})
}

// steps are those of a fold, in their order; a page is met several times.
var steps = []string{"flush", "page", "page", "page", "flush pages", "anchor", "adopt"}

// TestHolderEndsAtEachStep cuts a holder off at each step of a fold, in each durability, with and without a loss of power of all nodes: who comes next finds all that was
// flushed, and nothing is called a rollback that is none.
func TestHolderEndsAtEachStep(t *testing.T) {
	for _, durability := range durabilities() {
		for at := range steps {
			for _, power := range []bool{false, true} {
				name := durability.String() + "/" + steps[at] + string(rune('0'+at))
				if power {
					name += "/power"
				}
				t.Run(name, func(t *testing.T) {
					within(t, durability, func(b *bed) { b.endAt(at, power, durability == stripe.DurabilityAck) })
				})
			}
		}
	}
}

var errEnded = errors.New("the holder has ended")

func (b *bed) endAt(at int, power, ack bool) {
	ctx, armed, met := b.T.Context(), false, 0
	f := b.open(func(o *file.OpenOptions) {
		o.SetStep(func(what string) error {
			if !armed || met > at {
				return map[bool]error{true: errEnded}[armed]
			}
			if what == steps[met] {
				met++
			}
			if met <= at {
				return nil
			}
			b.Off(b.ClientAddr(0))
			if power { // at once: nodes sync by themselves before long
				b.PowerLoss(uint64(at), b.nodes...)
			}
			return errEnded
		})
	})
	want := map[blocktree.SectorIndex]uint64{}
	for s := range blocktree.SectorIndex(300) {
		want[s*10] = 1
		b.write(f, s*10, 1)
	}
	b.must(file.Fold(ctx, f))
	for s := range blocktree.SectorIndex(100) {
		want[s*20] = 2
		b.write(f, s*20, 2)
	}
	b.must(f.Flush(ctx))
	maybe := map[blocktree.SectorIndex]uint64{}
	for s := range blocktree.SectorIndex(20) {
		maybe[s*30] = 3
		b.write(f, s*30, 3)
	}
	armed = true
	if err := file.Fold(ctx, f); !errors.Is(err, errEnded) {
		b.T.Fatalf("a fold that was to end at %s: %v", steps[at], err)
	}
	if power {
		for _, i := range b.nodes {
			b.On(b.NodeAddr(i))
		}
		b.Off(b.ClientAddr(0))
		b.StartAll()
	}
	next := b.Client()
	g, err := b.try(next, b.roots)
	b.must(err)
	for s := range maybe { // acknowledged, not flushed: in ack they are there; in flush either, unless the fold has had them flushed
		n, err := b.read(g, s)
		b.must(err)
		if n != 3 && (ack || at > 0 || n != want[s]) {
			b.T.Errorf("sector %d holds %d, %d was written", s, n, 3)
		}
		delete(want, s)
	}
	b.check(g, want)
	b.write(g, 4000, 4)
	want[4000] = 4
	b.must(file.Fold(ctx, g))
	b.must(g.Close())
	g, err = b.try(b.Client(), b.roots)
	b.must(err)
	b.check(g, want)
	b.must(g.Close())
}

// TestAnchorUnknown: the answer to an anchoring is lost. The next fold asks for it again before it does anything else, and no number is used twice.
func TestAnchorUnknown(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		lose := true
		f := b.open(func(o *file.OpenOptions) {
			o.SetStep(func(what string) error {
				if what == "adopt" && lose {
					return context.DeadlineExceeded
				}
				return nil
			})
		})
		b.write(f, 5, 1)
		if err := file.Fold(b.T.Context(), f); err == nil {
			b.T.Fatal("the answer was not lost")
		}
		b.write(f, 5, 2)
		b.check(f, map[blocktree.SectorIndex]uint64{5: 2})
		lose = false
		b.must(file.Fold(b.T.Context(), f))
		if r := file.Root(f); r.Number != 2 {
			b.T.Errorf("%v", r)
		}
		b.must(f.Close())
		b.check(b.open(), map[blocktree.SectorIndex]uint64{5: 2})
	})
}

// TestNoTree: whoever keeps no roots, and says so, opens no tree file, neither for reading nor for writing.
func TestNoTree(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		for _, how := range []func(*file.OpenOptions){func(o *file.OpenOptions) { o.NoTree = true }, func(o *file.OpenOptions) { o.NoTree, o.ReadOnly = true, true }} {
			if _, err := b.try(b.client, nil, how); blocktree.KindOf(err) != blocktree.Unsupported || blocktree.HintOf(err) == "" {
				b.T.Errorf("%v", err)
			}
		}
		b.must(b.open().Close())
	})
}

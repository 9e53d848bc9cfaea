package node_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/file"
	"blocktree/internal/testenv"
)

const sectorBytes = blocktree.SectorBytesDefault

// numbered is a sector that says where it is and which write it is of.
func numbered(sector blocktree.SectorIndex, write uint64) []byte {
	b := make([]byte, sectorBytes)
	for i := 0; i < len(b); i += 16 {
		binary.BigEndian.PutUint64(b[i:], uint64(sector))
		binary.BigEndian.PutUint64(b[i+8:], write)
	}
	return b
}

// writers write numbered sectors, each to its own, until stopped. acked is the newest write of each that was acknowledged,
// begun the newest that was asked for.
type writers struct {
	stop         chan struct{}
	wg           sync.WaitGroup
	mu           sync.Mutex
	acked, begun []uint64
	errs         []error
}

func startWriters(ctx context.Context, f blocktree.File, n int) *writers {
	w := &writers{stop: make(chan struct{}), acked: make([]uint64, n), begun: make([]uint64, n)}
	for i := range n {
		w.wg.Go(func() {
			for k := uint64(1); ; k++ {
				select {
				case <-w.stop:
					return
				default:
				}
				w.mu.Lock()
				w.begun[i] = k
				w.mu.Unlock()
				err := f.WriteSectors(ctx, blocktree.SectorIndex(i), numbered(blocktree.SectorIndex(i), k))
				w.mu.Lock()
				if err != nil {
					w.errs = append(w.errs, err)
					w.mu.Unlock()
					return
				}
				w.acked[i] = k
				w.mu.Unlock()
			}
		})
	}
	return w
}

func (w *writers) total() (n uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range w.acked {
		n += k
	}
	return n
}

// finish stops the writers; their errors are the test's unless they are allowed.
func (w *writers) finish(t *testing.T, errorsAllowed bool) {
	t.Helper()
	close(w.stop)
	w.wg.Wait()
	if !errorsAllowed && len(w.errs) > 0 {
		t.Fatalf("%d writes failed, the first: %v", len(w.errs), w.errs[0])
	}
}

// check reads every writer's sector: it is the acknowledged one or a later one, whole.
func (w *writers) check(ctx context.Context, t *testing.T, f blocktree.File) {
	t.Helper()
	got := make([]byte, sectorBytes)
	for i := range w.acked {
		if err := f.ReadSectors(ctx, blocktree.SectorIndex(i), got); err != nil {
			t.Fatalf("sector %d: %v", i, err)
		}
		k := binary.BigEndian.Uint64(got[8:])
		want := numbered(blocktree.SectorIndex(i), k)
		if k == 0 {
			want = make([]byte, sectorBytes)
		}
		if !bytes.Equal(got, want) || k < w.acked[i] || k > w.begun[i] {
			t.Fatalf("sector %d is of write %d, %d was acknowledged, %d begun", i, k, w.acked[i], w.begun[i])
		}
	}
}

// healthy waits until the cluster says that nothing is missing.
func healthy(ctx context.Context, d *testenv.Domain, c *cluster.Client) {
	d.T.Helper()
	d.Await("health", func() bool {
		s, err := c.Status(ctx)
		return err == nil && s.Health == cluster.HealthOK
	})
}

// TestKilledDuringWrites kills a node's process in mid-write: the writes go on. Started again it is copied up, and can stand
// in for another.
func TestKilledDuringWrites(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 3)
	ctx := patience(t)
	d.Start(0)
	d.Start(1)
	p := d.StartProcess(2)
	c := d.Client()
	d.Create(c, "/vm/disk0", 16<<20, blocktree.Code{Data: 2, Parity: 1})
	f := d.Open(c, "/vm/disk0")
	w := startWriters(ctx, f, 8)
	d.Await("writes", func() bool { return w.total() > 200 })
	p.Kill()
	before := w.total()
	d.Await("writes without the node", func() bool { return w.total() > before+200 })
	d.StartProcess(2)
	healthy(ctx, d, c)
	before = w.total()
	d.Await("writes with the node", func() bool { return w.total() > before+200 })
	w.finish(t, false)
	w.check(ctx, t, f)
	d.Stop(0)
	w.check(ctx, t, f)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestAllRestartedUnderOpenFile kills every node at once in mid-write and starts them again: the file goes on, or says that
// it does not; what was acknowledged is there.
func TestAllRestartedUnderOpenFile(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 3)
	ctx := patience(t)
	var processes []*testenv.Process
	for i := range 3 {
		processes = append(processes, d.StartProcess(i))
	}
	c := d.Client()
	d.Create(c, "/vm/disk0", 16<<20, blocktree.Code{Data: 2, Parity: 1})
	f := d.Open(c, "/vm/disk0")
	w := startWriters(ctx, f, 8)
	d.Await("writes", func() bool { return w.total() > 200 })
	for _, p := range processes {
		p.Kill()
	}
	for i := range 3 {
		d.StartProcess(i)
	}
	healthy(ctx, d, c)
	before := w.total()
	d.Await("writes go on, or fail", func() bool {
		w.mu.Lock()
		failed := len(w.errs) == len(w.acked)
		w.mu.Unlock()
		return failed || w.total() > before+100
	})
	w.finish(t, true)
	if len(w.errs) == 0 {
		w.check(ctx, t, f)
	}
	if err := f.Close(); err != nil && len(w.errs) == 0 {
		t.Fatal(err)
	}
	f = d.Open(d.Client(), "/vm/disk0")
	w.check(ctx, t, f)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestOneWriter opens a file twice for writing: the second gets Busy, and the lease once the first has closed. Readers need
// no lease, see what is written, and disturb nobody.
func TestOneWriter(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 3)
	d.StartAll()
	ctx := patience(t)
	c, other := d.Client(), d.Client()
	d.Create(c, "/vm/disk0", 16<<20, blocktree.Code{Data: 2, Parity: 1})
	f := d.Open(c, "/vm/disk0")
	if err := f.WriteSectors(ctx, 7, numbered(7, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Open(ctx, other, d.Path("/vm/disk0"), file.OpenOptions{Reader: d.Reader}); blocktree.KindOf(err) != blocktree.Busy {
		t.Fatalf("a second writer gets %v", err)
	}
	r, err := file.Open(ctx, other, d.Path("/vm/disk0"), file.OpenOptions{Reader: d.Reader, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, sectorBytes)
	for k := uint64(2); k < 20; k++ {
		if err := f.WriteSectors(ctx, 7, numbered(7, k)); err != nil {
			t.Fatal(err)
		}
		if err := r.ReadSectors(ctx, 7, got); err != nil || !bytes.Equal(got, numbered(7, k)) {
			t.Fatalf("write %d: a reader sees %d, %v", k, binary.BigEndian.Uint64(got[8:]), err)
		}
	}
	if err := r.WriteSectors(ctx, 7, got); blocktree.KindOf(err) != blocktree.ReadOnly {
		t.Errorf("a reader wrote: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.ReadSectors(ctx, 7, got); err != nil || !bytes.Equal(got, numbered(7, 19)) {
		t.Fatalf("a reader without a writer sees %d, %v", binary.BigEndian.Uint64(got[8:]), err)
	}
	second, err := file.Open(ctx, other, d.Path("/vm/disk0"), file.OpenOptions{Reader: d.Reader})
	if err != nil {
		t.Fatalf("after the close: %v", err)
	}
	if err := second.WriteSectors(ctx, 7, numbered(7, 20)); err != nil {
		t.Fatal(err)
	}
	if err := r.ReadSectors(ctx, 7, got); err != nil || !bytes.Equal(got, numbered(7, 20)) {
		t.Fatalf("a reader over a take-over sees %d, %v", binary.BigEndian.Uint64(got[8:]), err)
	}
	for _, f := range []blocktree.File{r, second} {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if err := f.ReadSectors(ctx, 7, got); blocktree.KindOf(err) != blocktree.Closed {
			t.Errorf("a closed file gives %v", err)
		}
	}
}

// TestDamagedShard changes bytes of a sector's shard on one node's disk: readers with and without a lease get the sector,
// and a holder has the shard made anew.
func TestDamagedShard(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 3)
	d.StartAll()
	ctx := patience(t)
	c := d.Client()
	d.Create(c, "/vm/disk0", 16<<20, blocktree.Code{Data: 1, Parity: 2}) // each node has the whole sealed sector
	f := d.Open(c, "/vm/disk0")
	for i := range blocktree.SectorIndex(8) {
		if err := f.WriteSectors(ctx, i, numbered(i, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	damaged := 0
	for i := range 2 { // two of three; reads of k = 1 meet at least one of them
		damaged += damage(t, d.NodeDir(i))
	}
	if damaged < 16 {
		t.Fatalf("damaged %d records", damaged)
	}
	r, err := file.Open(ctx, c, d.Path("/vm/disk0"), file.OpenOptions{Reader: d.Reader, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	f = d.Open(c, "/vm/disk0")
	got := make([]byte, 8*sectorBytes)
	for _, x := range []blocktree.File{r, f} {
		if err := x.ReadSectors(ctx, 0, got); err != nil {
			t.Fatal(err)
		}
		for i := range blocktree.SectorIndex(8) {
			if !bytes.Equal(got[int(i)*sectorBytes:int(i+1)*sectorBytes], numbered(i, 1)) {
				t.Fatalf("sector %d is wrong", i)
			}
		}
	}
	h := f.(*file.File).Handle()
	d.Await("repair", func() bool { return h.Stats().ShardsMended >= 8 })
	for _, x := range []blocktree.File{r, f} {
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// damage changes a byte in every 4 KiB payload of a node's segments; it returns how many.
func damage(t *testing.T, dir string) (n int) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "sectors", "segment-*"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no segments in %s: %v", dir, err)
	}
	const recordBytes = 4608 // 160 of header, 4096 of payload, 76 of seal, up to a multiple of 512
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at+recordBytes <= min(len(b), 1<<20); at += 512 { // a segment is allocated ahead, and empty behind
			if isDataRecord(b[at : at+recordBytes]) {
				if _, err := f.WriteAt([]byte{b[at+1000] ^ 1}, int64(at+1000)); err != nil {
					t.Fatal(err)
				}
				n++
				at += recordBytes - 512
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// isDataRecord reports whether a record of one sealed sector lies about here: nothing else has so many different bytes.
func isDataRecord(b []byte) bool {
	seen := map[byte]bool{}
	for _, c := range b[200:4200] {
		seen[c] = true
	}
	return len(seen) > 250
}

package node_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/file"
	"blocktree/internal/testenv"
)

const liarBytes = 64 * sectorBytes

// liarBed is a cluster of which any node can be made to lie, and a file that was written twice.
type liarBed struct {
	*testenv.Domain
	t    *testing.T
	ctx  context.Context
	want []byte
}

func newLiarBed(t *testing.T, code blocktree.Code, plain bool) *liarBed {
	d := testenv.New(t, code.Shards())
	d.Liars = map[int]*testenv.Liar{}
	for i := range code.Shards() {
		d.Liars[i] = &testenv.Liar{}
	}
	d.StartAll()
	b := &liarBed{Domain: d, t: t, ctx: patience(t), want: pattern(2, liarBytes)}
	c := d.Client()
	if plain {
		if err := file.Create(b.ctx, c, d.Path("/vm/disk0"), file.CreateOptions{SizeBytes: 2 * liarBytes, Code: code, Plain: true}); err != nil {
			t.Fatal(err)
		}
	} else {
		d.Create(c, "/vm/disk0", 2*liarBytes, code)
	}
	f := b.open(c, false, plain)
	b.write(f, pattern(1, liarBytes))
	b.read(f, pattern(1, liarBytes)) // so that liars know what was there
	b.write(f, b.want)
	if err := f.ZeroSectors(b.ctx, liarBytes/sectorBytes, 8); err != nil {
		t.Fatal(err)
	}
	time.Sleep(settled)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *liarBed) open(c *cluster.Client, readOnly, plain bool) blocktree.File {
	b.t.Helper()
	f, err := file.Open(b.ctx, c, b.Path("/vm/disk0"), file.OpenOptions{Reader: b.Reader, ReadOnly: readOnly, Plain: plain,
		OpenOptions: cluster.OpenOptions{Wait: 15 * time.Second}})
	if err != nil {
		b.t.Fatal(err)
	}
	return f
}

func (b *liarBed) write(f blocktree.File, p []byte) {
	b.t.Helper()
	if err := f.WriteSectors(b.ctx, 0, p); err != nil {
		b.t.Fatal(err)
	}
}

func (b *liarBed) read(f blocktree.File, want []byte) {
	b.t.Helper()
	got := make([]byte, len(want))
	if err := f.ReadSectors(b.ctx, 0, got); err != nil || !bytes.Equal(got, want) {
		b.t.Errorf("read: %v, right %v", err, bytes.Equal(got, want))
	}
}

// TestLiars: whatever one node answers, in whichever place it is, a holder and a reader without a lease read what was written; zeros are zeros. A client
// that met a lie has told the nodes of it.
func TestLiars(t *testing.T) {
	t.Parallel()
	for _, code := range []blocktree.Code{{Data: 2, Parity: 1}, {Data: 1, Parity: 2}} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			b := newLiarBed(t, code, false)
			for i := range code.Shards() {
				for _, lie := range testenv.Lies() {
					for _, readOnly := range []bool{true, false} {
						b.lieTo(fmt.Sprintf("node%d, %s, reader=%v", i+1, lie, readOnly), i, lie, readOnly, false)
					}
				}
			}
			b.named()
		})
	}
}

// TestLiarsOfPlainFiles: where there is no key, one node that lies cannot make up what two others do not have.
func TestLiarsOfPlainFiles(t *testing.T) {
	t.Parallel()
	b := newLiarBed(t, blocktree.Code{Data: 2, Parity: 1}, true)
	for i := range 3 {
		for _, lie := range testenv.Lies() {
			b.lieTo(fmt.Sprintf("node%d, %s, plain", i+1, lie), i, lie, i == 1, true)
		}
	}
}

func (b *liarBed) lieTo(name string, liar int, lie string, readOnly, plain bool) {
	b.t.Helper()
	c := b.Client()
	f := b.open(c, readOnly, plain)
	b.Liars[liar].Set(lie, "")
	got, zeros := make([]byte, liarBytes), make([]byte, 8*sectorBytes)
	for i := range zeros {
		zeros[i] = 7
	}
	for at := 0; at < liarBytes; at += liarBytes / 4 {
		if err := f.ReadSectors(b.ctx, blocktree.SectorIndex(at/sectorBytes), got[at:at+liarBytes/4]); err != nil {
			b.t.Errorf("%s: %v", name, err)
		}
	}
	if err := f.ReadSectors(b.ctx, liarBytes/sectorBytes, zeros); err != nil {
		b.t.Errorf("%s: zeros: %v", name, err)
	}
	if !bytes.Equal(got, b.want) || !bytes.Equal(zeros, make([]byte, len(zeros))) {
		b.t.Errorf("%s: other bytes than were written", name)
	}
	b.Liars[liar].Set("", "")
	if err := f.Close(); err != nil {
		b.t.Errorf("%s: %v", name, err)
	}
	if err := c.Close(); err != nil {
		b.t.Errorf("%s: %v", name, err)
	}
}

// named demands that the status names every node, as each has lied to clients.
func (b *liarBed) named() {
	b.t.Helper()
	c := b.Client()
	b.Await("every liar is named", func() bool {
		s, err := c.Status(b.ctx)
		if err != nil {
			b.t.Fatal(err)
		}
		named := 0
		for _, n := range s.Nodes {
			if slices.ContainsFunc(n.Suspects, func(x cluster.SuspectStatus) bool {
				return x.Clients > 0 && x.Times > 0 && !x.Since.IsZero() && !x.Certain
			}) {
				named++
			}
		}
		return named >= 2 // one that keeps parity need not be asked
	})
}

// TestLiarIsNamed: a scrub names who gave wrong answers, with certainty as all others have seen it, and nobody else; nothing wrong spreads, and the name
// outlives the nodes.
func TestLiarIsNamed(t *testing.T) {
	t.Parallel()
	b := newLiarBed(t, blocktree.Code{Data: 2, Parity: 1}, false)
	c := b.Client()
	for _, x := range []struct{ lie, kind string }{
		{"random bytes", "wrong shard"}, {"another sector's shard", "wrong shard"}, {"old shard, new header", "wrong shard"}, {"old shard, old header", "wrong shard"},
		{"old version", "lost write"}, {"absent", "lost write"}, {"version too high", "unknown version"}, {"other leaf", "wrong shard"},
	} {
		b.Liars[0].Set(x.lie, "")
		if _, err := c.Scrub(b.ctx, nil, func([]cluster.NodeScrub) {}); err != nil {
			t.Fatal(err)
		}
		b.Liars[0].Set("", "")
		if !b.certain(c, 0, x.kind) {
			t.Errorf("%s: it is not named for %s", x.lie, x.kind)
		}
	}
	if s, err := c.Status(b.ctx); err != nil || len(s.Nodes[1].Suspects)+len(s.Nodes[2].Suspects) > 0 {
		t.Errorf("others are named, too: %+v %v", s, err)
	}
	for i := range 3 {
		b.Stop(i)
	}
	b.StartAll()
	b.Await("it is named after a restart", func() bool { return b.certain(c, 0, "wrong shard") })
	b.Stop(0)
	f := b.open(c, false, false)
	b.read(f, b.want)
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// TestLiarProcess is the same with a liar in a process of its own, that lies to whoever asks: clients read what was written, and both others say so.
func TestLiarProcess(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 3)
	var liar *testenv.Liar
	for i := range 3 {
		if p := d.StartProcess(i); i == 1 {
			liar = p.Liar()
		}
	}
	b := &liarBed{Domain: d, t: t, ctx: patience(t), want: pattern(2, liarBytes)}
	c := d.Client()
	d.Create(c, "/vm/disk0", liarBytes, blocktree.Code{Data: 2, Parity: 1})
	f := b.open(c, false, false)
	b.write(f, pattern(1, liarBytes))
	b.read(f, pattern(1, liarBytes))
	b.write(f, b.want)
	r := b.open(c, true, false)
	for _, lie := range testenv.Lies() {
		liar.Set(lie, "")
		b.read(f, b.want)
		b.read(r, b.want)
	}
	liar.Set("random bytes", "")
	if _, err := c.Scrub(b.ctx, nil, func([]cluster.NodeScrub) {}); err != nil {
		t.Fatal(err)
	}
	if !b.certain(c, 1, "wrong shard") {
		t.Error("the liar is not named")
	}
	for _, f := range []blocktree.File{r, f} {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// certain reports whether the status says of a node that it did something for sure.
func (b *liarBed) certain(c *cluster.Client, node int, kind string) bool {
	b.t.Helper()
	s, err := c.Status(b.ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	return slices.ContainsFunc(s.Nodes[node].Suspects, func(x cluster.SuspectStatus) bool { return x.Kind == kind && x.Nodes == 2 && x.Certain })
}

// TestLiarBesideARekey: a reader that was opened before a rekey learns of it though one node lies, whatever that says and whichever it is, and names none that does not.
func TestLiarBesideARekey(t *testing.T) {
	t.Parallel()
	for _, code := range []blocktree.Code{{Data: 2, Parity: 1}, {Data: 1, Parity: 2}} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			b := newLiarBed(t, code, false)
			c := b.Client()
			var readers []blocktree.File
			for range code.Shards() * len(testenv.Lies()) {
				readers = append(readers, b.open(c, true, false))
			}
			writer := b.open(b.Client(), false, false)
			if _, err := (&file.Admin{Client: c, Reader: b.Reader}).Rekey(b.ctx, b.Path("/vm/disk0")); err != nil {
				t.Fatal(err)
			}
			b.want = pattern(3, liarBytes)
			b.write(writer, b.want)
			time.Sleep(settled)
			for i := range code.Shards() {
				for _, lie := range testenv.Lies() {
					b.Liars[i].Set(lie, "")
					f, got := readers[0], make([]byte, liarBytes)
					readers = readers[1:]
					if err := f.ReadSectors(b.ctx, 0, got); err != nil || !bytes.Equal(got, b.want) {
						t.Errorf("node%d, %s: %v, right %v", i+1, lie, err, bytes.Equal(got, b.want))
					}
					b.Liars[i].Set("", "")
					_ = f.Close() // it was only read from
				}
			}
			if err := writer.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

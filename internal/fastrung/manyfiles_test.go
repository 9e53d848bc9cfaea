package fastrung

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/bttp"
	"blocktree/internal/testenv"
)

// TestManyFilesComeBack has a node away while many small files are written. When it is back they are copied up side by side (docs/design/0069), by four commands
// each; those that nobody wrote take none, and who opens some of them meanwhile has them at once.
func TestManyFilesComeBack(t *testing.T) {
	const files, untouched, reopened = 150, 30, 5
	synctest.Test(t, func(t *testing.T) {
		d := testenv.NewSimulated(t, 3, 1)
		d.Transport = bttp.TCP
		d.StartAll()
		c := d.Client()
		path := func(i int) string { return fmt.Sprintf("/small/%d", i) }
		write := func(i int, write uint64) { writeOnce(d, c, path(i), write) }
		for i := range files {
			d.Create(c, path(i), 16<<10, blocktree.Code{Data: 2, Parity: 1})
			write(i, 1)
		}
		lead := d.Leader(c)
		applied := func() uint64 {
			x, _ := d.Node(lead).Stats()
			return x.Meta.Applied
		}
		away := (lead + 1) % 3
		d.Off(d.NodeAddr(away))
		time.Sleep(2 * lostAfter)
		for i := untouched; i < files; i++ {
			write(i, 2)
		}
		before, begun := applied(), time.Now()
		d.On(d.NodeAddr(away))
		for hurt(d.Status(c)) == files-untouched && time.Since(begun) < time.Minute {
			time.Sleep(time.Second / 20)
		}
		if left := hurt(d.Status(c)); left < reopened {
			t.Errorf("only %d files are left to be opened while they are copied up", left)
		}
		for i := range reopened {
			opened := time.Now()
			if write(files-1-i, 3); time.Since(opened) > leaseTerm/2 {
				t.Errorf("a file that is copied up could be had after %v", time.Since(opened))
			}
		}
		for d.Status(c).Health != cluster.HealthOK && time.Since(begun) < time.Minute {
			time.Sleep(time.Second / 2)
		}
		took := time.Since(begun)
		renewals := 4 * (uint64(took/leaseRenewal) + 1) // of three nodes and a client
		n := applied() - before
		t.Logf("%d commands for %d files in %v", n, files-untouched, took)
		if n > 4*(files-untouched)+8*reopened+renewals+10 {
			t.Errorf("%d commands for %d files, in %v", n, files-untouched, took)
		}
		if took > files*joinDelay/4 {
			t.Errorf("%d files were copied up in %v", files-untouched, took)
		}
		d.Off(d.NodeAddr((away + 1) % 3))
		time.Sleep(2 * lostAfter)
		for i := 0; i < files; i += 10 {
			want := uint64(2)
			if i < untouched {
				want = 1
			} else if i >= files-reopened {
				want = 3
			}
			f := d.Open(c, path(i))
			if got, err := read(t.Context(), t, f, 0); got != want || err != nil {
				t.Errorf("file %d has write %d, %v", i, got, err)
			}
			_ = f.Close() // nothing was written
		}
	})
}

// writeOnce opens a file, writes its first sector and closes it.
func writeOnce(d *testenv.Simulated, c *cluster.Client, path string, write uint64) {
	d.T.Helper()
	f := d.Open(c, path)
	if err := f.WriteSectors(d.T.Context(), 0, numbered(0, write)); err != nil {
		d.T.Fatal(err)
	}
	if err := f.Close(); err != nil {
		d.T.Fatal(err)
	}
}

// hurt counts the files that have members which are not in sync.
func hurt(s *cluster.Status) (n int) {
	for _, f := range s.Files {
		if f.InSync < 3 {
			n++
		}
	}
	return n
}

const (
	// lostAfter is by when all have called a node down.
	lostAfter = 5 * time.Second
	// joinDelay is how long a holder lets a node that was out be reachable before it copies a file up.
	joinDelay = 500 * time.Millisecond
)

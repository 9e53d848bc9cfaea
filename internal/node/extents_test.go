package node_test

import (
	"context"
	"testing"
	"time"

	"blocktree"
	"blocktree/internal/file"
	"blocktree/internal/testenv"
)

// mapOf asks where a file's holes are, from the first sector to the last, and returns the lengths of its extents in sectors, those
// of holes negative, and how many calls that took.
func mapOf(ctx context.Context, t *testing.T, f blocktree.File) (out []int64, calls int) {
	t.Helper()
	total := f.Info().Sectors()
	for at := uint64(0); at < total; calls++ {
		got, err := f.(blocktree.Extenter).Extents(ctx, blocktree.SectorIndex(at), total-at, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range got {
			n := int64(x.Count)
			if x.Zero {
				n = -n
			}
			if last := len(out) - 1; last >= 0 && (out[last] < 0) == x.Zero {
				out[last] += n
			} else {
				out = append(out, n)
			}
			at += x.Count
		}
	}
	return out, calls
}

func wantMap(ctx context.Context, t *testing.T, what string, f blocktree.File, want ...int64) {
	t.Helper()
	got, _ := mapOf(ctx, t, f)
	if len(got) != len(want) {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%s: %v, want %v", what, got, want)
		}
	}
}

// TestExtents: a fresh terabyte is one hole, at the cost of a question to each region; what was written is none, what was zeroed is
// one again; under a lease and without, with a node away, and after all were restarted.
func TestExtents(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 3)
	d.StartAll()
	c := d.Client()
	const tebibyte, region = 1 << 28, 1 << 18 // in sectors
	d.Create(c, "/vm/disk0", 1<<40, blocktree.Code{Data: 2, Parity: 1})
	f := d.Open(c, "/vm/disk0")
	ctx := patience(t)
	start := time.Now()
	if got, calls := mapOf(ctx, t, f); len(got) != 1 || got[0] != -tebibyte || calls > 128 {
		t.Fatalf("%v in %d calls", got, calls)
	}
	t.Logf("a fresh TiB in %v", time.Since(start))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(f.WriteSectors(ctx, 3*region-100, pattern(1, 200*4096))) // in two regions
	must(f.WriteSectors(ctx, 5*region+10, pattern(2, 4096)))
	written := []int64{-(3*region - 100), 200, -(2*region - 90), 1, -(tebibyte - 5*region - 11)}
	wantMap(ctx, t, "written", f, written...)
	must(f.ZeroSectors(ctx, 3*region-50, 75))
	zeroed := []int64{-(3*region - 100), 50, -75, 75, -(2*region - 90), 1, -(tebibyte - 5*region - 11)}
	wantMap(ctx, t, "zeroed in part", f, zeroed...)

	d.Stop(2)
	must(f.ZeroSectors(ctx, 3*region+25, 10))
	zeroed[2], zeroed[3] = -85, 65
	wantMap(ctx, t, "with a node away", f, zeroed...)
	reader, err := file.Open(ctx, c, d.Path("/vm/disk0"), file.OpenOptions{ReadOnly: true, Reader: d.Reader})
	must(err)
	wantMap(ctx, t, "without a lease", reader, zeroed...)
	must(reader.Close())
	must(f.Close())
	d.Start(2)
	for i := range 3 {
		d.Stop(i)
	}
	d.StartAll()
	f = d.Open(c, "/vm/disk0")
	wantMap(ctx, t, "restarted", f, zeroed...)
	must(f.ZeroSectors(ctx, 0, tebibyte))
	must(f.Flush(ctx))
	wantMap(ctx, t, "all zeroed", f, -tebibyte)
	must(f.Close())
	if _, err := f.(blocktree.Extenter).Extents(ctx, 0, 1, 1); blocktree.KindOf(err) != blocktree.Closed {
		t.Errorf("after close: %v", err)
	}
}

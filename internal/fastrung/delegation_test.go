package fastrung

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
	"blocktree/internal/file"
	"blocktree/internal/testenv"
)

// childCode is the code of files in a child of three nodes.
var childCode = blocktree.Code{Data: 2, Parity: 1}

// addAll adds the process records of a directory's nodes.
func addAll(b *testenv.Simulated, c *cluster.Client, nodes *testenv.Simulated) {
	b.T.Helper()
	for _, r := range nodes.Records() {
		if err := c.AddNode(b.T.Context(), r); err != nil {
			b.T.Fatal(err)
		}
	}
}

// opened opens a file of any cluster, waiting while its directory is being taken over.
func opened(b *testenv.Simulated, c *cluster.Client, short string) blocktree.File {
	b.T.Helper()
	var f blocktree.File
	b.Await("opening "+short, func() (ok bool) {
		ctx, cancel := context.WithTimeout(b.T.Context(), 20*time.Second)
		defer cancel()
		var err error
		f, err = file.Open(ctx, c, b.Path(short), file.OpenOptions{Reader: b.Reader, OpenOptions: cluster.OpenOptions{Wait: 15 * time.Second}})
		if kind := blocktree.KindOf(err); err != nil && kind != blocktree.Unavailable {
			b.T.Fatalf("%s: %v", short, err)
		}
		return err == nil
	})
	return f
}

// answers waits until a client is answered for a directory of its own cluster, and says which files are in it.
func answers(b *testenv.Simulated, c *cluster.Client, short string) (names []string) {
	b.T.Helper()
	b.Await("an answer for "+short, func() bool {
		ctx, cancel := context.WithTimeout(b.T.Context(), 5*time.Second)
		defer cancel()
		entries, err := c.List(ctx, b.Path(short))
		if kind := blocktree.KindOf(err); err != nil && kind != blocktree.Unavailable {
			b.T.Fatalf("%s: %v", short, err)
		}
		names = nil
		for _, e := range entries {
			names = append(names, e.Name)
		}
		return err == nil
	})
	return names
}

// write and read check that a file keeps what it is given.
func writeSectors(b *testenv.Simulated, f blocktree.File, fill byte) {
	b.T.Helper()
	if err := f.WriteSectors(b.T.Context(), 0, bytes.Repeat([]byte{fill}, 2*sectorBytes)); err != nil {
		b.T.Fatal(err)
	}
}

func readSectors(b *testenv.Simulated, f blocktree.File, fill byte) {
	b.T.Helper()
	got := make([]byte, 2*sectorBytes)
	if err := f.ReadSectors(b.T.Context(), 0, got); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{fill}, len(got))) {
		b.T.Fatalf("read %x, want %x: %v", got[:4], fill, err)
	}
}

// closed closes a file.
func closed(b *testenv.Simulated, f blocktree.File) {
	b.T.Helper()
	if err := f.Close(); err != nil {
		b.T.Fatal(err)
	}
}

// withChild runs a test with a root cluster of three nodes, in which /rack1/old and /rack1/sub/older were written, and a child of three that has taken /rack1 over.
func withChild(t *testing.T, test func(b *bed, child *testenv.Simulated)) {
	withNodes(t, bttp.TCP, 3, 1, func(*testenv.Simulated) {}, func(b *bed) {
		for i, short := range []string{"/rack1/old", "/rack1/sub/older"} {
			b.Create(b.client, short, 1<<20, childCode)
			f := opened(b.Simulated, b.client, short)
			writeSectors(b.Simulated, f, byte(i+1))
			closed(b.Simulated, f)
		}
		child := b.Below("/rack1", 3)
		addAll(b.Simulated, b.client, child)
		child.StartAll()
		answers(b.Simulated, b.client, "/rack1")
		test(b, child)
	})
}

// TestDelegated: a directory is taken over by its own nodes; what was in it is used as before, what is made in it from then on is kept by them, from wherever it is asked for.
func TestDelegated(t *testing.T) {
	withChild(t, func(b *bed, child *testenv.Simulated) {
		inside := child.Client()
		child.Await("all three in the group", func() bool {
			return len(child.Status(inside).Nodes) == 3 && child.Status(inside).Health == cluster.HealthOK
		})
		for _, c := range []*cluster.Client{b.client, inside} {
			if got := answers(b.Simulated, c, "/rack1"); !slices.Equal(got, []string{"old", "sub"}) {
				t.Fatalf("entries %v", got)
			}
			for i, short := range []string{"/rack1/old", "/rack1/sub/older"} {
				f := opened(b.Simulated, c, short)
				readSectors(b.Simulated, f, byte(i+1))
				if g := f.Info().ID.Generation; g != 1 {
					t.Errorf("%s is of generation %d", short, g)
				}
				closed(b.Simulated, f)
			}
		}
		b.Create(b.client, "/rack1/new", 1<<20, childCode)
		f := opened(b.Simulated, b.client, "/rack1/new")
		writeSectors(b.Simulated, f, 7)
		if g := f.Info().ID.Generation; g == 1 {
			t.Error("a new file is the parent's")
		}
		closed(b.Simulated, f)
		f = opened(b.Simulated, inside, "/rack1/new")
		readSectors(b.Simulated, f, 7)
		closed(b.Simulated, f)
		if i, err := inside.Stat(b.T.Context(), b.Path("/vm/disk0")); err != nil || i.ID.Generation != 1 { // rootward
			t.Errorf("%+v, %v", i, err)
		}
	})
}

// TestMovedFile: a file whose entry has moved is listed with all that there is of it, and removed from its home and from its directory; a removal that was cut off between is asked for again.
func TestMovedFile(t *testing.T) {
	withChild(t, func(b *bed, child *testenv.Simulated) {
		ctx := b.T.Context()
		entries, err := b.client.List(ctx, b.Path("/rack1"))
		if err != nil || len(entries) != 2 || entries[0].Inode.SizeBytes != 1<<20 {
			t.Fatalf("%+v, %v", entries, err)
		}
		if err := b.client.Remove(ctx, b.Path("/rack1/old")); err != nil {
			t.Fatal(err)
		}
		if _, err := b.client.StatID(ctx, entries[0].Inode.ID); blocktree.KindOf(err) != blocktree.NotFound {
			t.Errorf("it is at home still: %v", err)
		}
		older, err := b.client.Stat(ctx, b.Path("/rack1/sub/older"))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.client.RemoveHome(ctx, older.ID); err != nil { // and then it was cut off
			t.Fatal(err)
		}
		if err := b.client.Remove(ctx, b.Path("/rack1/sub/older")); err != nil {
			t.Errorf("asked again: %v", err)
		}
		if got := answers(b.Simulated, b.client, "/rack1/sub"); len(got) != 0 {
			t.Errorf("left: %v", got)
		}
		if err := b.client.Remove(ctx, b.Path("/rack1/sub/older")); blocktree.KindOf(err) != blocktree.NotFound {
			t.Errorf("once more: %v", err)
		}
	})
}

// TestTwoFounders: nodes that start together found one cluster, whoever of them.
func TestTwoFounders(t *testing.T) {
	withNodes(t, bttp.TCP, 3, 1, func(*testenv.Simulated) {}, func(b *bed) {
		if err := b.client.MakeDir(b.T.Context(), b.Path("/rack1"), 0o755, false); err != nil {
			t.Fatal(err)
		}
		child := b.Below("/rack1", 3)
		addAll(b.Simulated, b.client, child)
		started := make(chan error, 3)
		for i := range 3 {
			go func() { started <- child.TryStart(i) }()
		}
		for range 3 {
			if err := <-started; err != nil {
				t.Fatal(err)
			}
		}
		answers(b.Simulated, b.client, "/rack1")
		inside := child.Client()
		child.Await("one cluster of three", func() bool {
			return len(child.Status(inside).Nodes) == 3 && child.Status(inside).Health == cluster.HealthOK
		})
	})
}

// TestParentAway: a child starts from its own disks, serves and makes files while nothing of its parent runs.
func TestParentAway(t *testing.T) {
	withChild(t, func(b *bed, child *testenv.Simulated) {
		inside := child.Client()
		child.Await("all three in the group", func() bool {
			return len(child.Status(inside).Nodes) == 3 && child.Status(inside).Health == cluster.HealthOK
		})
		b.Create(b.client, "/rack1/new", 1<<20, childCode)
		f := opened(b.Simulated, inside, "/rack1/new")
		writeSectors(b.Simulated, f, 7)
		_ = b.file.Close() // its nodes go
		b.Kill(0, 1, 2)
		writeSectors(b.Simulated, f, 8)
		closed(b.Simulated, f)
		for i := range 3 {
			child.Stop(i)
		}
		child.StartAll()
		f = opened(b.Simulated, child.Client(), "/rack1/new")
		readSectors(b.Simulated, f, 8)
		closed(b.Simulated, f)
	})
}

// TestRevokedAbove: a grant on a directory of the parent holds in the child, until it is revoked there.
func TestRevokedAbove(t *testing.T) {
	withChild(t, func(b *bed, child *testenv.Simulated) {
		friend, path := b.ClientAs(testenv.User{UID: 11, GID: 11})
		ctx := b.T.Context()
		make := func(short string) error { return friend.MakeDir(ctx, b.Path(short), 0o755, false) }
		if err := make("/rack1/a"); blocktree.KindOf(err) != blocktree.Permission {
			t.Fatalf("without a right: %v", err)
		}
		if _, err := b.client.Grant(ctx, blocktree.RootPath(b.Root), meta.Grant{Subject: meta.Subject{Path: path}, Rights: meta.RightWrite}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second) // aboveInterval, and what it takes
		if err := make("/rack1/a"); err != nil {
			t.Fatalf("granted above: %v", err)
		}
		if _, err := b.client.Revoke(ctx, blocktree.RootPath(b.Root), meta.Subject{Path: path}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if err := make("/rack1/b"); blocktree.KindOf(err) != blocktree.Permission {
			t.Errorf("revoked above: %v", err)
		}
	})
}

// TestOnBehalfStays: a sector host that speaks for somebody is not sent to another cluster, which would take it for itself.
func TestOnBehalfStays(t *testing.T) {
	withChild(t, func(b *bed, child *testenv.Simulated) {
		host := b.ClientOfNode(0)
		ctx := cluster.OnBehalf(b.T.Context(), cred.Identity{Path: b.Path("/stranger"), UID: 77, GID: 77, Principal: blocktree.PrincipalOf([]byte("x"))})
		if err := host.MakeDir(ctx, b.Path("/rack1/x"), 0o755, false); blocktree.KindOf(err) != blocktree.Unsupported {
			t.Errorf("made for somebody: %v", err)
		}
		if _, _, err := host.AllowedTo(b.T.Context(), b.Path("/rack1/sub"), &meta.Caller{}); blocktree.KindOf(err) != blocktree.Unsupported {
			t.Errorf("asked for nobody: %v", err)
		}
		if _, err := host.Stat(b.T.Context(), b.Path("/rack1/sub")); err != nil { // and now it knows the way
			t.Fatal(err)
		}
		if err := host.MakeDir(ctx, b.Path("/rack1/x"), 0o755, false); blocktree.KindOf(err) != blocktree.Unsupported {
			t.Errorf("made for somebody, by a way that is known: %v", err)
		}
	})
}

// TestThreeLevels: a directory of a child has a cluster of its own, which founds itself though the root cluster keeps neither its inode nor its records.
func TestThreeLevels(t *testing.T) {
	withChild(t, func(b *bed, child *testenv.Simulated) {
		if err := b.client.MakeDir(b.T.Context(), b.Path("/rack1/lab"), 0o755, false); err != nil {
			t.Fatal(err)
		}
		lab := b.Below("/rack1/lab", 1)
		addAll(b.Simulated, b.client, lab)
		lab.StartAll()
		answers(b.Simulated, b.client, "/rack1/lab")
		b.Create(b.client, "/rack1/lab/f", 1<<20, blocktree.Code{Data: 1})
		f := opened(b.Simulated, lab.Client(), "/rack1/lab/f")
		writeSectors(b.Simulated, f, 9)
		closed(b.Simulated, f)
		f = opened(b.Simulated, child.Client(), "/rack1/lab/f")
		readSectors(b.Simulated, f, 9)
		closed(b.Simulated, f)
		if got := answers(b.Simulated, lab.Client(), "/vm"); !slices.Equal(got, []string{"disk0"}) { // two up
			t.Errorf("%v", got)
		}
	})
}

// TestFoundingCutOff: power is lost, at the founder or at all of the parent, at any moment of the founding. In the end there is one cluster, which has every entry.
func TestFoundingCutOff(t *testing.T) {
	for _, parent := range []bool{false, true} {
		for after := time.Duration(0); after < 2500*time.Millisecond; after += 160 * time.Millisecond {
			withNodes(t, bttp.TCP, 3, uint64(after), func(*testenv.Simulated) {}, func(b *bed) {
				for _, short := range []string{"/rack1/old", "/rack1/sub/older", "/rack1/sub/deep/oldest"} {
					b.Create(b.client, short, 1<<20, childCode)
				}
				child := b.Below("/rack1", 1)
				addAll(b.Simulated, b.client, child)
				_ = b.file.Close() // its nodes may go
				child.Start(0)
				time.Sleep(after)
				if parent {
					b.PowerLoss(uint64(after), 0, 1, 2)
					for i := range 3 {
						b.On(b.NodeAddr(i))
					}
					b.StartAll()
				} else {
					child.PowerLoss(uint64(after), 0)
					child.On(child.NodeAddr(0))
					child.Start(0)
				}
				c := b.Client()
				for short, want := range map[string][]string{"/rack1": {"old", "sub"}, "/rack1/sub": {"deep", "older"}, "/rack1/sub/deep": {"oldest"}} {
					if got := answers(b.Simulated, c, short); !slices.Equal(got, want) {
						t.Errorf("cut off after %v, parent %v: %s has %v", after, parent, short, got)
					}
				}
				if i, err := c.Stat(b.T.Context(), b.Path("/rack1/sub/deep/oldest")); err != nil || i.ID.Generation != 1 {
					t.Errorf("cut off after %v, parent %v: %+v, %v", after, parent, i, err)
				}
			})
		}
	}
}

// TestFounderWiped: a founder whose disk is lost after the directory was handed over does not found another cluster in its place.
func TestFounderWiped(t *testing.T) {
	withNodes(t, bttp.TCP, 3, 1, func(*testenv.Simulated) {}, func(b *bed) {
		b.Create(b.client, "/rack1/old", 1<<20, childCode)
		child := b.Below("/rack1", 1)
		addAll(b.Simulated, b.client, child)
		child.Start(0)
		answers(b.Simulated, b.client, "/rack1")
		child.Stop(0)
		child.Wipe(0)
		if err := child.TryStart(0); blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
			t.Errorf("a wiped founder: %v", err)
		}
	})
}

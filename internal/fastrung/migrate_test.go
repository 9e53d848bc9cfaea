package fastrung

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/crypto/keys"
	"blocktree/internal/bttp"
	"blocktree/internal/file"
	"blocktree/internal/simnet"
	"blocktree/internal/testenv"
)

const (
	oldBytes   = 4 << 20
	oldSectors = oldBytes / sectorBytes
)

// wrote are the newest acknowledged writes of a file, by sector; the others are zeros.
type wrote map[blocktree.SectorIndex]uint64

// old is a file that was made before its directory was delegated.
type old struct {
	short string
	id    blocktree.FileID
	wrote wrote
}

// put writes to a sector of an open file.
func (o *old) put(b *testenv.Simulated, f blocktree.File, sector blocktree.SectorIndex) {
	b.T.Helper()
	o.wrote[sector]++
	if err := f.WriteSectors(b.T.Context(), sector, numbered(sector, o.wrote[sector])); err != nil {
		b.T.Fatal(err)
	}
}

// check reads all of it by its path.
func (o *old) check(b *testenv.Simulated, c *cluster.Client) {
	b.T.Helper()
	var f blocktree.File
	b.Await("reading "+o.short, func() bool {
		ctx, cancel := context.WithTimeout(b.T.Context(), 20*time.Second)
		defer cancel()
		var err error
		f, err = file.Open(ctx, c, b.Path(o.short), file.OpenOptions{Reader: b.Reader, ReadOnly: true})
		if kind := blocktree.KindOf(err); err != nil && kind != blocktree.Unavailable {
			b.T.Fatalf("%s: %v", o.short, err)
		}
		return err == nil
	})
	got := make([]byte, oldBytes)
	if err := f.ReadSectors(b.T.Context(), 0, got); err != nil {
		b.T.Fatalf("%s: %v", o.short, err)
	}
	for i := range blocktree.SectorIndex(oldSectors) {
		want := make([]byte, sectorBytes)
		if n := o.wrote[i]; n > 0 {
			want = numbered(i, n)
		}
		if !bytes.Equal(got[int(i)*sectorBytes:int(i+1)*sectorBytes], want) {
			b.T.Fatalf("%s: sector %d is not write %d", o.short, i, o.wrote[i])
		}
	}
	closed(b, f)
}

// withOld runs a test with files that a root cluster of three keeps, in /rack1, which a child of three has taken over.
func withOld(t *testing.T, make map[string]file.CreateOptions, test func(b *bed, child *testenv.Simulated, olds map[string]*old)) {
	withNodes(t, bttp.TCP, 3, 1, func(*testenv.Simulated) {}, func(b *bed) {
		olds := map[string]*old{}
		for _, name := range slices.Sorted(maps.Keys(make)) {
			o := &old{short: "/rack1/" + name, wrote: wrote{}}
			olds[name] = o
			made := make[name]
			made.SizeBytes, made.Code = oldBytes, childCode
			if !made.Plain {
				made.Readers = []keys.PublicKey{b.Reader.Public()}
			}
			if err := file.Create(b.T.Context(), b.client, b.Path(o.short), made); err != nil {
				t.Fatal(err)
			}
			f, err := file.Open(b.T.Context(), b.client, b.Path(o.short), file.OpenOptions{Reader: b.Reader, Plain: made.Plain})
			if err != nil {
				t.Fatal(err)
			}
			for _, sector := range []blocktree.SectorIndex{0, 1, 300, 301, oldSectors - 1} {
				o.put(b.Simulated, f, sector)
			}
			o.id = f.Info().ID
			closed(b.Simulated, f)
		}
		child := b.Below("/rack1", 3)
		addAll(b.Simulated, b.client, child)
		child.StartAll()
		answers(b.Simulated, b.client, "/rack1")
		child.Await("all three in the group", func() bool {
			s := child.Status(child.Client())
			return len(s.Nodes) == 3 && s.Health == cluster.HealthOK
		})
		test(b, child, olds)
	})
}

// moving is a run of the command by a client of its own.
type moving struct {
	file.Mover
	moved, left []string
	dropped     int
}

func newMoving(b *bed, c *cluster.Client) *moving {
	return &moving{Mover: file.Mover{Client: c, Reader: b.Reader, Patience: time.Minute}}
}

// run does what the command does: it names what is left, and goes on.
func (m *moving) run(b *bed, short string) error {
	ctx := b.T.Context()
	if _, err := m.Join(ctx, b.Path(short)); err != nil {
		return err
	}
	unfinished, err := m.Unfinished(ctx, b.Path(short))
	for _, x := range unfinished {
		done, e := m.Finish(ctx, x)
		if e != nil {
			return e
		}
		if done.Moved {
			m.moved = append(m.moved, x.Path.Base())
		}
		if done.Dropped {
			m.dropped++
		}
	}
	if err != nil {
		return err
	}
	return m.Find(ctx, b.Path(short), func(o file.Old) error {
		if _, err := m.Move(ctx, o.Path, &o.Inode); blocktree.KindOf(err) == blocktree.Busy || blocktree.KindOf(err) == blocktree.Permission {
			m.left = append(m.left, o.Path.Base())
		} else if err != nil {
			return err
		} else {
			m.moved = append(m.moved, o.Path.Base())
		}
		return nil
	}, func(blocktree.Path) error { return nil })
}

// gone checks that a file has moved: its path leads to another file, which is kept by its directory's cluster and can be written to, and of the old one nothing is left.
func (o *old) gone(b *bed) {
	b.T.Helper()
	o.check(b.Simulated, b.client)
	if _, err := b.client.StatID(b.T.Context(), o.id); blocktree.KindOf(err) != blocktree.NotFound {
		b.T.Errorf("%s: it is at home still: %v", o.short, err)
	}
	f := opened(b.Simulated, b.client, o.short)
	if g := f.Info().ID.Generation; g == 1 {
		b.T.Errorf("%s is of generation %d", o.short, g)
	}
	o.put(b.Simulated, f, 2)
	closed(b.Simulated, f)
	o.check(b.Simulated, b.client)
}

// errEnded is what a run ends with that is cut off.
var errEnded = errors.New("ended")

// TestMigrateEndsAtEachStep: wherever a run is cut off, the path leads to all that was acknowledged, and who writes to it is acknowledged or refused; the next run moves the file, and leaves nothing.
func TestMigrateEndsAtEachStep(t *testing.T) {
	steps := []string{"begin", "open copy", "stay", "open old", "copy", "halfway", "flush", "fold", "verify", "depart", "attributes", "adopt", "remove", "end"}
	refused := []string{"attributes", "adopt", "remove", "end"} // for writing, until the next run
	make := map[string]file.CreateOptions{}
	name := func(step string) string { return strings.ReplaceAll(step, " ", "-") + "/f" } // each in a directory of its own
	for i, s := range steps {
		make[name(s)] = file.CreateOptions{Tree: i%2 == 1 || s == "adopt"} // halfway and fold among them
	}
	withOld(t, make, func(b *bed, child *testenv.Simulated, olds map[string]*old) {
		ctx := b.T.Context()
		for i, step := range steps {
			o, host := olds[name(step)], b.ClientAddr(i+1) // of the client that is made now
			m := newMoving(b, b.Client())
			ended := false
			end := func() error {
				ended = true
				b.Off(host)
				child.SetAll(host, simnet.Link{Cut: true})
				return errEnded
			}
			m.Step = func(what string) error {
				if what == step {
					return end()
				}
				return nil
			}
			m.Tell = func(_ blocktree.Path, p file.Moving) {
				if step == "halfway" && !ended && p.Written > 0 {
					_ = end()
				}
			}
			dir := strings.TrimSuffix(o.short, "/f")
			if err := m.run(b, dir); !ended || len(m.moved) > 0 {
				t.Fatalf("%s: it was not cut off: %v, moved %v", step, err, m.moved)
			}
			o.check(b.Simulated, b.client)
			f, err := file.Open(ctx, b.client, b.Path(o.short), file.OpenOptions{Reader: b.Reader, OpenOptions: cluster.OpenOptions{Wait: 4 * leaseTerm}})
			if want := slices.Contains(refused, step); want != (blocktree.KindOf(err) == blocktree.Busy) || err != nil && blocktree.HintOf(err) == "" || err != nil && !want {
				t.Fatalf("%s: opened for writing: %v", step, err)
			}
			if err == nil {
				o.put(b.Simulated, f, 1)
				o.put(b.Simulated, f, blocktree.SectorIndex(100+i))
				if err := f.ZeroSectors(ctx, 301, 1); err != nil {
					t.Fatal(err)
				}
				delete(o.wrote, 301)
				closed(b.Simulated, f)
			}
			o.check(b.Simulated, b.client)
			next := newMoving(b, b.client)
			if err := next.run(b, dir); err != nil || len(next.left) > 0 || fmt.Sprint(next.moved) != "[f]" || next.dropped > 0 {
				t.Fatalf("%s: the next run: %v, moved %v, left %v", step, err, next.moved, next.left)
			}
			o.gone(b)
			if moves, err := next.Unfinished(ctx, b.Path("/rack1")); err != nil || len(moves) > 0 {
				t.Errorf("%s: left: %+v, %v", step, moves, err)
			}
		}
	})
}

// TestMigrate: all that a file has goes over.
func TestMigrate(t *testing.T) {
	make := map[string]file.CreateOptions{"sector": {}, "tree": {Tree: true, Mode: 0o640}, "flush": {Durability: stripe.DurabilityFlush}, "plain": {Plain: true}}
	withOld(t, make, func(b *bed, child *testenv.Simulated, olds map[string]*old) {
		ctx := b.T.Context()
		path := b.Path("/rack1/sector")
		uid, gid := uint32(7), uint32(70)
		friend := meta.Subject{Path: b.Path("/friend")}
		for _, err := range []error{second(b.client.SetOwner(ctx, path, &uid, &gid)), second(b.client.Grant(ctx, path, meta.Grant{Subject: friend, Rights: meta.RightRead})), b.client.SetLength(ctx, path, 12345),
			b.client.SetXattr(ctx, path, blocktree.FileID{}, "user.x", []byte("v"), meta.XattrSet), b.client.SetTimes(ctx, b.Path("/rack1/plain"), blocktree.FileID{}, false, 5)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		before := map[string]*meta.Inode{}
		for name := range olds {
			i, err := b.client.Stat(ctx, b.Path("/rack1/"+name))
			if err != nil {
				t.Fatal(err)
			}
			before[name] = i
		}
		m := newMoving(b, b.Client())
		if err := m.run(b, "/rack1"); err != nil || len(m.moved) != len(olds) {
			t.Fatalf("%v, moved %v", err, m.moved)
		}
		for name, o := range olds {
			is, access, err := b.client.Allowed(ctx, b.Path(o.short))
			if err != nil {
				t.Fatal(err)
			}
			was := before[name]
			if is.ID == was.ID || is.ID.Generation == 1 || is.Mode != was.Mode || is.UID != was.UID || is.GID != was.GID || is.Created != was.Created || is.Modified != was.Modified || is.SizeBytes != was.SizeBytes ||
				is.Length() != was.Length() || is.SectorBytes != was.SectorBytes || is.Code != was.Code || is.KeyID != was.KeyID || !bytes.Equal(is.Access, was.Access) || is.Integrity != was.Integrity {
				t.Errorf("%s: %+v, was %+v", name, is, was)
			}
			if d, err := b.client.Durability(ctx, is); err != nil || d.Durability != make[name].Durability {
				t.Errorf("%s: durability %v, %v", name, d, err)
			}
			if name == "sector" && (len(access.Grants) != 1 || access.Grants[0].Subject != friend) {
				t.Errorf("grants %+v", access.Grants)
			}
			if xs, err := b.client.Xattrs(ctx, b.Path(o.short), blocktree.FileID{}, ""); err != nil || (len(xs) == 1) != (name == "sector") || len(xs) == 1 && (xs[0].Name != "user.x" || string(xs[0].Value) != "v") {
				t.Errorf("%s: attributes %v, %v", name, xs, err)
			}
			if name == "plain" && is.Modified != 5 {
				t.Errorf("it is of %d", is.Modified)
			}
			if name == "plain" {
				continue
			}
			o.gone(b)
		}
		f, err := file.Open(ctx, b.client, b.Path("/rack1/plain"), file.OpenOptions{Plain: true})
		if err != nil {
			t.Fatal(err)
		}
		e, err := f.(blocktree.Extenter).Extents(ctx, 2, oldSectors-2, 2)
		if err != nil || len(e) != 2 || !e[0].Zero || e[0].Count != 298 {
			t.Errorf("holes: %+v, %v", e, err)
		}
		closed(b.Simulated, f)
	})
}

// second drops what was applied where.
func second[T any](_ T, err error) error { return err }

// TestMigrateSkips: a file that somebody has open stays, and he writes on; so does one whose key there is not. A copy of a file that was removed goes with it.
func TestMigrateSkips(t *testing.T) {
	make := map[string]file.CreateOptions{"free": {}, "held": {}, "removed": {}}
	withOld(t, make, func(b *bed, child *testenv.Simulated, olds map[string]*old) {
		o := olds["held"]
		f := opened(b.Simulated, b.client, o.short)
		m := newMoving(b, b.Client())
		m.Reader = nil
		if err := m.run(b, "/rack1"); err != nil || len(m.left) != 3 {
			t.Fatalf("without a key: %v, left %v", err, m.left)
		}
		if moves, err := m.Unfinished(b.T.Context(), b.Path("/rack1")); err != nil || len(moves) > 0 {
			t.Errorf("left: %+v, %v", moves, err)
		}
		m = newMoving(b, b.Client())
		m.Step = func(what string) error { // /rack1/removed is the last
			if what == "verify" && len(m.moved) == 1 && len(m.left) == 1 {
				return errEnded
			}
			return nil
		}
		if err := m.run(b, "/rack1"); !errors.Is(err, errEnded) || fmt.Sprint(m.moved, m.left) != "[free] [held]" {
			t.Fatalf("%v, moved %v, left %v", err, m.moved, m.left)
		}
		o.put(b.Simulated, f, 5)
		closed(b.Simulated, f)
		olds["free"].gone(b)
		if err := b.client.Remove(b.T.Context(), b.Path("/rack1/removed")); err != nil {
			t.Fatal(err)
		}
		next := newMoving(b, b.client)
		if err := next.run(b, "/rack1"); err != nil || fmt.Sprint(next.moved, next.left) != "[held] []" {
			t.Fatalf("%v, moved %v, left %v", err, next.moved, next.left)
		}
		o.gone(b)
		if moves, err := next.Unfinished(b.T.Context(), b.Path("/rack1")); err != nil || len(moves) > 0 {
			t.Errorf("left: %+v, %v", moves, err)
		}
	})
}

// TestMigrateChanged: what is done to a file while it is copied is not lost: another size begins the copy anew, a mode, a length and a grant go over as they are when the file is left.
func TestMigrateChanged(t *testing.T) {
	withOld(t, map[string]file.CreateOptions{"f": {}}, func(b *bed, child *testenv.Simulated, olds map[string]*old) {
		ctx, o := b.T.Context(), olds["f"]
		path := b.Path(o.short)
		m := newMoving(b, b.Client())
		departs := 0
		m.Step = func(what string) error {
			if what != "depart" {
				return nil
			}
			if departs++; departs > 1 {
				return nil
			}
			_, _, err := b.client.Resize(ctx, path, cluster.ResizeOptions{Bytes: func(uint64) (uint64, error) { return 2 * oldBytes, nil }})
			return errors.Join(err, second(b.client.SetMode(ctx, path, 0o640)), b.client.SetLength(ctx, path, 777))
		}
		if err := m.run(b, "/rack1"); err != nil || len(m.moved) != 1 || departs != 2 {
			t.Fatalf("%v, moved %v, begun %d times", err, m.moved, departs)
		}
		i, err := b.client.Stat(ctx, path)
		if err != nil || i.SizeBytes != 2*oldBytes || i.Mode != 0o640 || i.Length() != 777 {
			t.Errorf("%+v, %v", i, err)
		}
		o.gone(b)
		if moves, err := m.Unfinished(ctx, b.Path("/rack1")); err != nil || len(moves) > 0 {
			t.Errorf("left: %+v, %v", moves, err)
		}
	})
}

package fastrung

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/crypto/keys"
	"blocktree/internal/bttp"
	"blocktree/internal/file"
)

// keptBed is a bed with a second client, both of user id 0, and what files are made with.
type keptBed struct {
	*bed
	other *cluster.Client
	own   *keys.ReaderKey
	o     file.CreateOptions
}

func withinKept(t *testing.T, seed uint64, test func(b *keptBed)) {
	within(t, bttp.TCP, seed, func(b *bed) {
		own, ready := keys.NewReaderKey(), new(file.KeyPool)
		defer ready.Close()
		o := file.CreateOptions{SizeBytes: 1 << 20, Readers: []keys.PublicKey{own.Public()}, Keyless: new(file.Keyless), Keys: ready}
		test(&keptBed{b, b.Client(), own, o})
	})
}

func (b *keptBed) must(err error) {
	b.T.Helper()
	if err != nil {
		b.T.Fatal(err)
	}
}

// keep makes a directory whose names the first client keeps.
func (b *keptBed) keep(dir blocktree.Path) *cluster.KeptDir {
	b.T.Helper()
	_, k, err := b.client.MakeDirKept(b.T.Context(), meta.MakeDir{Path: dir, Mode: 0o755})
	b.must(err)
	if k == nil || !k.Kept() {
		b.T.Fatalf("%s is not kept", dir.Short())
	}
	return k
}

// unnamed makes a file without a name, and writes a sector of it.
func (b *keptBed) unnamed(k *cluster.KeptDir, name blocktree.Path) *file.File {
	b.T.Helper()
	f, i, err := file.MakeUnnamed(b.T.Context(), b.client, k, name, b.o, file.OpenOptions{Reader: b.own})
	b.must(err)
	if i.ID != f.Info().ID || i.Length() != 0 || !f.Unnamed() {
		b.T.Fatalf("%+v, without a name %v", i, f.Unnamed())
	}
	b.must(f.WriteSectors(b.T.Context(), 0, numbered(0, 7)))
	b.must(f.Flush(b.T.Context()))
	return f
}

// has reads a file as somebody else.
func (b *keptBed) has(name blocktree.Path, reader *keys.ReaderKey, id blocktree.FileID, end uint64) {
	b.T.Helper()
	i, err := b.other.Stat(b.T.Context(), name)
	b.must(err)
	if i.ID != id || i.Length() != end || i.Mode != 0o600 {
		b.T.Errorf("%s is %+v, want %v that ends at %d", name.Short(), i, id, end)
	}
	f, err := file.Open(b.T.Context(), b.other, name, file.OpenOptions{ReadOnly: true, Reader: reader})
	b.must(err)
	defer func() { _ = f.Close() }() // nothing was done with it
	if n, err := read(b.T.Context(), b.T, f, 0); err != nil || n != 7 {
		b.T.Errorf("%s has write %d: %v", name.Short(), n, err)
	}
}

// nothing wants that a name is not there.
func (b *keptBed) nothing(name blocktree.Path) {
	b.T.Helper()
	if i, err := b.other.Stat(b.T.Context(), name); blocktree.KindOf(err) != blocktree.NotFound {
		b.T.Errorf("%s is %+v, %v", name.Short(), i, err)
	}
}

// TestNamedAtTheFlush: G4 of 0079. A file has no name for others before it is named; then it is there, with its end and all that was written, and goes on as any file; one that is closed without a name is nowhere. A file costs a command.
func TestNamedAtTheFlush(t *testing.T) {
	withinKept(t, 31, func(b *keptBed) {
		ctx, dir := b.T.Context(), b.Path("/k")
		k := b.keep(dir)
		f := b.unnamed(k, dir.Join("a"))
		b.nothing(dir.Join("a"))
		b.must(f.Name(ctx, 5))
		b.has(dir.Join("a"), b.own, f.Info().ID, 5)
		b.must(f.Name(ctx, 9))
		if now, err := f.SetEnd(ctx, 9, 11); err != nil || now != 11 {
			b.T.Errorf("the end moves to %d: %v", now, err)
		}
		b.must(f.CloseEnd(ctx, 11, 12))
		b.has(dir.Join("a"), b.own, f.Info().ID, 12)
		again, err := file.Open(ctx, b.other, dir.Join("a"), file.OpenOptions{Reader: b.own}) // its lease is free
		b.must(err)
		b.must(again.Close())
		before, begun := b.applied(), time.Now()
		const files = 40
		for i := range files {
			f := b.unnamed(k, dir.Join(fmt.Sprint(i)))
			b.must(f.CloseName(ctx, 4096))
		}
		if n := b.applied() - before; n > files+files/4 {
			b.T.Errorf("%d commands for %d files in %v", n, files, time.Since(begun))
		}
		last, err := b.client.Stat(ctx, dir.Join("0"))
		b.must(err)
		b.has(dir.Join("0"), b.own, last.ID, 4096)
		gone := b.unnamed(k, dir.Join("gone"))
		b.must(gone.Close())
		b.nothing(dir.Join("gone"))
		b.await("it is gone", 5*time.Second, func() bool {
			_, err := b.client.StatFile(ctx, gone.Info().ID)
			return blocktree.KindOf(err) == blocktree.NotFound
		})
	})
}

// fullPins remember nothing.
type fullPins struct{ asked int }

func (p *fullPins) Pin(blocktree.Path) (keys.Pin, bool, error) { return keys.Pin{}, false, nil }
func (p *fullPins) Where(blocktree.Path) string                { return "nowhere" }
func (p *fullPins) SetPin(blocktree.Path, keys.Pin) error {
	p.asked++
	return blocktree.E("pin", blocktree.NoSpace, nil)
}

// TestNamedThoughItIsNotPinned: a file that has its name at the cluster is named, whatever becomes of the pin of its record: that is tried again when it is named again.
func TestNamedThoughItIsNotPinned(t *testing.T) {
	withinKept(t, 35, func(b *keptBed) {
		ctx, dir, pins := b.T.Context(), b.Path("/k"), &fullPins{}
		k := b.keep(dir)
		b.o.Pins = pins
		f := b.unnamed(k, dir.Join("closed"))
		b.must(f.CloseName(ctx, 5))
		b.has(dir.Join("closed"), b.own, f.Info().ID, 5)
		if i := f.Named(); i == nil || i.ID != f.Info().ID {
			b.T.Errorf("it is named as %+v", i)
		}
		f = b.unnamed(k, dir.Join("open"))
		asked := pins.asked
		b.must(f.Name(ctx, 5))
		b.must(f.Name(ctx, 6))
		b.must(f.CloseName(ctx, 7))
		b.has(dir.Join("open"), b.own, f.Info().ID, 7)
		if pins.asked -= asked; pins.asked != 3 {
			b.T.Errorf("a pin is tried %d times", pins.asked)
		}
	})
}

// applied is how many commands a node has applied.
func (b *keptBed) applied() uint64 {
	x, _ := b.Node(0).Stats()
	return x.Meta.Applied
}

// TestOthersWait: G2 and G3 of 0079. Who would change a directory that is kept waits; its keeper hears of it, and goes on himself; when he has left it, or has died, the other gets through. One whose context ends before is told that nobody knows what becomes of it, with a hint.
func TestOthersWait(t *testing.T) {
	withinKept(t, 32, func(b *keptBed) {
		ctx, dir := b.T.Context(), b.Path("/k")
		k := b.keep(dir)
		short, cancel := context.WithTimeout(ctx, time.Second)
		if err := b.other.MakeDir(short, dir.Join("d"), 0o755, false); blocktree.KindOf(err) != blocktree.Unavailable || blocktree.HintOf(err) == "" {
			b.T.Errorf("in a directory that is kept: %v", err)
		}
		cancel()
		select {
		case <-k.Wanted(): // at the next renewal, if no command was answered since
		case <-time.After(2 * leaseRenewal):
			b.T.Error("the keeper is not told that it is wanted")
		}
		own := k.Own(ctx)
		b.must(b.client.MakeDir(own, dir.Join("mine"), 0o755, false))
		f := b.unnamed(k, dir.Join("f"))
		b.must(f.CloseName(ctx, 4096))
		b.must(b.client.RemoveFile(own, dir.Join("f"), f.Info().ID))
		made := make(chan error, 1)
		go func() { made <- b.other.MakeDir(ctx, dir.Join("d"), 0o755, false) }()
		time.Sleep(time.Second)
		select {
		case err := <-made:
			b.T.Fatalf("made where another keeps the names: %v", err)
		default:
		}
		k.Leave()
		b.must(<-made)
		if k.Kept() {
			b.T.Error("it is kept yet")
		}
		k = b.keep(b.Path("/dead"))
		b.must(b.file.Close())
		b.Off(b.ClientAddr(0))
		begun := time.Now()
		b.nothing(b.Path("/dead/d"))
		b.between("a look at what a keeper that died may have made", time.Since(begun), 2*time.Second, 2500*time.Millisecond)
		b.must(b.other.MakeDir(ctx, b.Path("/dead/d"), 0o755, false))
		b.between("the names of a keeper that died", time.Since(begun), leaseTerm/2, 2*leaseTerm)
		if k.Kept() {
			b.T.Error("a keeper that is cut off takes names for its own")
		}
		b.On(b.ClientAddr(0))
		b.await("the keeper hears of it", 2*leaseTerm, func() bool {
			select {
			case <-k.Wanted():
				return true
			default:
				return false
			}
		})
	})
}

// TestOneMakesIt: G1 of 0079. Of two who make one name exclusively, one by a file that has no name yet, one has it, whenever the directory is left, and the other is told so.
func TestOneMakesIt(t *testing.T) {
	withinKept(t, 33, func(b *keptBed) {
		ctx, r := b.T.Context(), rand.New(rand.NewPCG(33, 79))
		wins := map[bool]int{}
		for i := range 30 {
			dir := b.Path(fmt.Sprintf("/k%d", i))
			name, k := dir.Join("f"), b.keep(dir)
			f := b.unnamed(k, name)
			pause := func() { time.Sleep(time.Duration(r.IntN(40)) * time.Millisecond) }
			type outcome struct {
				id  blocktree.FileID
				err error
			}
			theirs, ours := make(chan outcome, 1), make(chan outcome, 1)
			wait := []time.Duration{time.Duration(r.IntN(40)) * time.Millisecond, time.Duration(r.IntN(40)) * time.Millisecond}
			go func() {
				time.Sleep(wait[0])
				g, i, err := file.MakeHeld(ctx, b.other, name, b.o, 0, file.OpenOptions{Reader: b.own})
				if err != nil {
					theirs <- outcome{err: err}
					return
				}
				theirs <- outcome{i.ID, g.Close()}
			}()
			go func() {
				time.Sleep(wait[1])
				ours <- outcome{f.Info().ID, f.CloseName(ctx, 4096)}
			}()
			pause()
			k.Leave()
			a, c := <-ours, <-theirs
			there, err := b.client.Stat(ctx, name)
			b.must(err)
			won := a.err == nil
			if wins[won]++; won == (c.err == nil) || won && there.ID != a.id || !won && (there.ID != c.id || blocktree.KindOf(a.err) != blocktree.Exists) || won && blocktree.KindOf(c.err) != blocktree.Exists {
				b.T.Fatalf("%d: %v, and %v; %v is there", i, a, c, there.ID)
			}
		}
		if wins[true] == 0 || wins[false] == 0 {
			b.T.Errorf("won and lost: %v: they never met", wins)
		}
	})
}

// TestNamedUnderTheNewKey: H7 of 0067 and N3 of 0072 hold for files that get their names later: they are wrapped to the key that the directory has by then.
func TestNamedUnderTheNewKey(t *testing.T) {
	withinKept(t, 34, func(b *keptBed) {
		ctx, admin, reader := b.T.Context(), b.admin(b.client), keys.NewReaderKey()
		b.must(admin.MakeDir(ctx, b.Path("/team"), 0o755, false, keys.X25519, []keys.PublicKey{reader.Public(), b.Reader.Public()}))
		record := func(path blocktree.Path) *keys.Access {
			i, err := b.client.Stat(ctx, path)
			b.must(err)
			a, err := keys.DecodeAccess(i.Access)
			b.must(err)
			return a
		}
		dir := b.Path("/team/k")
		k := b.keep(dir)
		before := b.unnamed(k, dir.Join("before"))
		b.must(before.Name(ctx, 4096))
		open, closed := b.unnamed(k, dir.Join("open")), b.unnamed(k, dir.Join("closed"))
		_, err := admin.Rekey(ctx, b.Path("/team"), reader.Public())
		b.must(err)
		b.must(open.Name(ctx, 4096))
		b.must(closed.CloseName(ctx, 4096))
		for _, f := range []*file.File{open, closed} {
			b.has(f.Info().Path, b.Reader, f.Info().ID, 4096)
			if a := record(f.Info().Path); !a.WrappedTo(record(b.Path("/team")).Directory) || a.Number != 1 || a.Path != f.Info().Path {
				b.T.Errorf("%s is not wrapped to the key that the directory has", f.Info().Path.Short())
			}
			if _, err := file.Open(ctx, b.other, f.Info().Path, file.OpenOptions{ReadOnly: true, Reader: reader}); blocktree.KindOf(err) != blocktree.Permission {
				b.T.Errorf("%s is read by who was a reader before: %v", f.Info().Path.Short(), err)
			}
		}
		b.must(open.Close())
		b.must(before.Close())
	})
}

// TestKeyOfAFileThatFailed: J5 of 0087. What was drawn for a file that failed, at whichever step, no other file gets.
func TestKeyOfAFileThatFailed(t *testing.T) {
	withinKept(t, 67, func(b *keptBed) {
		ctx, dir := b.T.Context(), b.Path("/k")
		k := b.keep(dir)
		spare, err := file.TakeSpares(ctx, k, dir, b.o, 1, true)
		b.must(err)
		seen := map[keys.KeyID]bool{}
		names := func(name string, spare *cluster.TakenSpare) error {
			synctest.Wait() // a key is ready
			o := b.o
			o.Spare = spare
			f, inode, err := file.MakeUnnamed(ctx, b.client, k, dir.Join(name), o, file.OpenOptions{Reader: b.own})
			if err != nil {
				return err
			}
			if seen[inode.KeyID] || inode.KeyID == (keys.KeyID{}) {
				b.T.Errorf("the key %v of %s is that of another file, or none", inode.KeyID, name)
			}
			seen[inode.KeyID] = true
			return f.CloseName(ctx, 0)
		}
		b.must(names("a", spare[0]))
		for range 2 {
			if err := names("b", spare[0]); err == nil {
				b.T.Error("a spare is used again")
			}
			if err := names("a", nil); blocktree.KindOf(err) != blocktree.Exists {
				b.T.Errorf("a name is given again: %v", err)
			}
		}
		b.must(names("b", nil))
	})
}

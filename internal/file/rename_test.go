package file_test

import (
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/crypto/keys"
	"blocktree/internal/file"
	"blocktree/internal/vfs"
)

// renamed gives something another name, by who keeps no roots, or those of r.
func (b *bed) rename(from, to string, r file.Roots) {
	b.T.Helper()
	b.must(file.Rename(b.T.Context(), b.client, b.Path(from), b.Path(to), file.RenameOptions{Roots: r}))
}

// tryAt is try of another path.
func (b *bed) tryAt(path string, change ...func(*file.OpenOptions)) (blocktree.File, error) {
	o := file.OpenOptions{Reader: b.Reader, Roots: b.roots}
	for _, f := range change {
		f(&o)
	}
	f, err := file.Open(b.T.Context(), b.client, b.Path(path), o)
	if err == nil {
		b.T.Cleanup(func() { _ = f.Close() }) // the tests say what they expect of it, before
	}
	return f, err
}

// TestRenameCarriesRoots: who renames has what is kept of a file kept for its new name, also where another file, made later, had that; and of files beneath a directory.
func TestRenameCarriesRoots(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		k := file.KeepRoots(vfs.NewCrash(), "/roots")
		kept := func(o *file.OpenOptions) { o.Roots = k }
		use := func(path string, n uint64) file.Seen {
			f, err := b.tryAt(path, kept)
			b.must(err)
			b.write(f, 5, n)
			b.must(f.Close())
			s, err := k.Load(b.Path(path))
			b.must(err)
			return *s
		}
		old := use("/vm/tree", 1)
		time.Sleep(2 * time.Second)
		b.must(file.Create(b.T.Context(), b.client, b.Path("/vm/new"), file.CreateOptions{SizeBytes: treeSize, Code: blocktree.Code{Data: 2, Parity: 1}, Readers: readers(b), Tree: true}))
		use("/vm/new", 2)
		time.Sleep(2 * time.Second)
		b.rename("/vm/tree", "/vm/new", k)
		b.rename("/vm", "/moved", k)
		got, err := k.Load(b.Path("/moved/new"))
		if err != nil || got == nil || got.File != old.File || got.Root != old.Root || got.Made <= old.Made {
			b.T.Fatalf("kept %+v, %v; before it was renamed %+v", got, err, old)
		}
		use("/moved/new", 3)
		later := *got
		later.Root.Number += 100
		b.must(k.Save(b.Path("/moved/new"), later))
		_, err = b.tryAt("/moved/new", kept)
		b.detected("a file that went back in time", err)
	})
}

// TestRootsOfWhatIsRenamedWhileOpen: what a holder sees of its file after that was renamed is kept for its name as it is then, and never in the place of another file that has the old one.
func TestRootsOfWhatIsRenamedWhileOpen(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		f := b.open()
		b.write(f, 5, 1)
		b.must(file.Fold(b.T.Context(), f))
		b.rename("/vm/tree", "/vm/moved", nil)
		time.Sleep(10 * time.Second) // it hears of it
		b.must(file.Create(b.T.Context(), b.client, b.Path("/vm/tree"), file.CreateOptions{SizeBytes: treeSize, Code: blocktree.Code{Data: 2, Parity: 1}, Readers: readers(b), Tree: true}))
		other := b.open()
		b.write(other, 5, 7)
		b.must(other.Close())
		b.rename("/vm/moved", "/vm/again", nil) // its record is later than that of the other
		time.Sleep(10 * time.Second)
		b.write(f, 5, 2)
		b.must(f.Close())
		if got := b.roots.seen[b.Path("/vm/again")]; got.File != f.Info().ID || got.Root != file.Root(f) {
			b.T.Errorf("kept %+v, it has %v", got, file.Root(f))
		}
		if got := b.roots.seen[b.Path("/vm/tree")]; got.File != other.Info().ID {
			b.T.Errorf("%+v is kept for the other file, %v", got, other.Info().ID)
		}
		for _, path := range []string{"/vm/tree", "/vm/again"} {
			x, err := b.tryAt(path)
			b.must(err)
			b.must(x.Close())
		}
	})
}

// TestRootOfTheNameBefore: a file that is opened by its identity, and was renamed by who keeps no roots, is judged by what is kept for its name before.
func TestRootOfTheNameBefore(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		pins := ofFiles{}
		f := b.open(func(o *file.OpenOptions) { o.Pins = pins })
		b.write(f, 5, 1)
		b.must(f.Close())
		id := f.Info().ID
		byID := func(o *file.OpenOptions) { o.Pins, o.File = pins, id }
		b.rename("/vm/tree", "/vm/moved", nil)
		later := b.roots.clone()
		s := later.seen[b.Path("/vm/tree")]
		s.Root.Number++ // as if the nodes had gone back in time, but for the rename
		later.seen[b.Path("/vm/tree")] = s
		for _, change := range [](func(*file.OpenOptions)){func(*file.OpenOptions) {}, readOnly} {
			_, err := b.try(b.client, later, byID, change)
			b.detected("a file that went back in time", err)
			f, err = b.try(b.client, b.roots, byID, change)
			b.must(err)
			b.must(f.Close())
		}
		if got := b.roots.seen[b.Path("/vm/moved")]; got.File != id {
			b.T.Errorf("%+v is kept for its new name", got)
		}
	})
}

// ofFiles are pins of files, as a filesystem service has them.
type ofFiles map[blocktree.FileID]keys.Pin

type ofFile struct {
	ofFiles
	id blocktree.FileID
}

func (p ofFiles) Of(id blocktree.FileID) file.Pins            { return ofFile{p, id} }
func (p ofFiles) Pin(blocktree.Path) (keys.Pin, bool, error)  { return keys.Pin{}, false, nil }
func (p ofFiles) SetPin(blocktree.Path, keys.Pin) error       { return nil }
func (p ofFiles) Where(blocktree.Path) string                 { return "memory" }
func (p ofFile) SetPin(_ blocktree.Path, seen keys.Pin) error { p.ofFiles[p.id] = seen; return nil }
func (p ofFile) Pin(blocktree.Path) (seen keys.Pin, ok bool, err error) {
	seen, ok = p.ofFiles[p.id]
	return seen, ok, nil
}

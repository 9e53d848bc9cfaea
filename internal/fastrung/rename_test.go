package fastrung

import (
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/crypto/keys"
	"blocktree/internal/bttp"
	"blocktree/internal/file"
)

// ofFiles are pins of files, as a filesystem service has them.
type ofFiles map[blocktree.FileID]keys.Pin

type ofFile struct {
	all ofFiles
	id  blocktree.FileID
}

func (p ofFiles) Of(id blocktree.FileID) file.Pins            { return ofFile{p, id} }
func (p ofFiles) Pin(blocktree.Path) (keys.Pin, bool, error)  { return keys.Pin{}, false, nil }
func (p ofFiles) SetPin(blocktree.Path, keys.Pin) error       { return nil }
func (p ofFiles) Where(blocktree.Path) string                 { return "memory" }
func (p ofFile) Where(blocktree.Path) string                  { return "memory" }
func (p ofFile) SetPin(_ blocktree.Path, seen keys.Pin) error { p.all[p.id] = seen; return nil }
func (p ofFile) Pin(blocktree.Path) (seen keys.Pin, ok bool, err error) {
	seen, ok = p.all[p.id]
	return seen, ok, nil
}

// TestRenameWhileHeld: a block device goes on while its file, and then the directory that this is in, get other names: its lease, its writes, whoever reads it, and what comes after: a new key is heard of.
func TestRenameWhileHeld(t *testing.T) {
	carriers(t, func(b *bed) {
		ctx := b.T.Context()
		must := func(err error) {
			b.T.Helper()
			if err != nil {
				b.T.Fatal(err)
			}
		}
		b.fill(0, 512, 1)
		other := b.Client()
		reader := b.reader(other, "/vm/disk0")
		epoch, _ := b.file.(*file.File).Lease()
		w := b.write(b.file, 8)
		w.readAlong(reader, "a reader")
		must(other.MakeDir(ctx, b.Path("/moved"), 0o755, false))
		id, _ := b.record(other, "/vm/disk0")
		for i, x := range []struct{ from, to, disk string }{{"/vm/disk0", "/moved/disk", "/moved/disk"}, {"/moved", "/again", "/again/disk"}} {
			must(file.Rename(ctx, other, b.Path(x.from), b.Path(x.to), file.RenameOptions{}))
			number := uint64(2 + 3*i) // then comes that of the rekey, and the one without older keys
			b.await("the holder to hear of it", heard, func() bool {
				inode, d := b.record(other, x.disk)
				return inode.ID == id.ID && d.Number == number && inode.Heard.Number == number
			})
			begun := time.Now()
			r, err := b.admin(other).Rekey(ctx, b.Path(x.disk))
			must(err)
			b.between("a rekey", time.Since(begun), 0, rekeyed)
			first := blocktree.SectorIndex(2000 + 10*i)
			b.fill(first, 3, 9)
			if got := b.generations(b.file, first, 3); got[r.Generation] != 3 {
				b.T.Errorf("written under the new key, %d: %v", r.Generation, got)
			}
			b.await("re-sealing", 20*time.Second, func() bool { _, d := b.record(other, x.disk); return d.Older == 0 })
			if k, err := read(ctx, b.T, reader, first); k != 9 || err != nil {
				b.T.Errorf("a reader from before finds %d, %v", k, err)
			}
		}
		w.finishWell()
		w.check(b.file, "renamed")
		if now, held := b.file.(*file.File).Lease(); now != epoch || !held {
			b.T.Errorf("the lease of epoch %d is of %d, held %v", epoch, now, held)
		}
		if _, err := file.Open(ctx, other, b.Path("/vm/disk0"), file.OpenOptions{ReadOnly: true, Reader: b.Reader}); blocktree.KindOf(err) != blocktree.NotFound {
			b.T.Errorf("by its old name: %v", err)
		}
		if k, err := read(ctx, b.T, b.reader(b.Client(), "/again/disk"), 2010); k != 9 || err != nil {
			b.T.Errorf("by its new name it is of write %d, %v", k, err)
		}
	})
}

// TestRenameOpens: whoever reads a file reads it under its new name; what was wrapped to a directory above is wrapped to the one that it gets into, which takes a key, or else to nobody there; nothing is left that nobody reads.
func TestRenameOpens(t *testing.T) {
	within(t, bttp.TCP, 9, func(b *bed) {
		ctx := b.T.Context()
		must := func(err error) {
			b.T.Helper()
			if err != nil {
				b.T.Fatal(err)
			}
		}
		team, secret, third, own := keys.NewReaderKey(), keys.NewReaderKey(), keys.NewReaderKey(), keys.NewReaderKey()
		admin := b.admin(b.client)
		must(admin.MakeDir(ctx, b.Path("/team"), 0o755, false, keys.X25519, []keys.PublicKey{team.Public()}))
		must(admin.MakeDir(ctx, b.Path("/team/secret"), 0o755, false, keys.X25519, []keys.PublicKey{secret.Public()}))
		must(admin.MakeDir(ctx, b.Path("/third"), 0o755, false, keys.X25519, []keys.PublicKey{third.Public()}))
		must(b.client.MakeDir(ctx, b.Path("/plain"), 0o755, false))
		create := func(name string, readers ...keys.PublicKey) {
			must(file.Create(ctx, b.client, b.Path(name), file.CreateOptions{SizeBytes: 1 << 20, Readers: readers}))
		}
		create("/team/a", own.Public())
		create("/team/secret/b", own.Public())
		create("/team/only")
		names := map[*keys.ReaderKey]string{team: "team", secret: "secret", third: "third", own: "its own"}
		opens := func(name string, who ...*keys.ReaderKey) {
			b.T.Helper()
			for key, what := range names {
				want := blocktree.Permission
				for _, k := range who {
					if k == key {
						want = blocktree.Other
					}
				}
				f, err := file.Open(ctx, b.client, b.Path(name), file.OpenOptions{ReadOnly: true, Reader: key})
				if blocktree.KindOf(err) != want {
					b.T.Errorf("%s with the key of %s: %v, want %v", name, what, err, want)
				}
				if err == nil {
					_ = f.Close() // nothing was done with it
				}
			}
		}
		move := func(from, to string, o file.RenameOptions, want blocktree.Kind) {
			b.T.Helper()
			err := file.Rename(ctx, b.client, b.Path(from), b.Path(to), o)
			if blocktree.KindOf(err) != want || want != blocktree.Other && blocktree.HintOf(err) == "" {
				b.T.Errorf("%s to %s: %v, want %v", from, to, err, want)
			}
		}
		opens("/team/secret/b", secret, team, own)
		move("/team/secret", "/team/other", file.RenameOptions{}, 0)
		opens("/team/other/b", secret, team, own)
		move("/team/other", "/third/other", file.RenameOptions{}, blocktree.Permission) // what is wrapped to /team's key is to be wrapped to /third's
		move("/team/other", "/third/other", file.RenameOptions{Reader: team}, 0)
		opens("/third/other/b", secret, third, own)
		move("/team/a", "/third/a", file.RenameOptions{Reader: secret}, blocktree.Permission)
		move("/team/a", "/third/a", file.RenameOptions{Reader: own}, 0)
		opens("/third/a", third, own)
		move("/third/a", "/plain/a", file.RenameOptions{}, 0)
		opens("/plain/a", own)
		move("/team/only", "/plain/only", file.RenameOptions{Reader: team}, blocktree.Invalid)
		move("/team/only", "/team/same", file.RenameOptions{}, 0)
		opens("/team/same", team)
		move("/team/same", "/third/a2", file.RenameOptions{Reader: team, Keep: true}, 0)
		move("/third/a2", "/plain/a", file.RenameOptions{Keep: true}, blocktree.Exists)
		create("/plain/new", own.Public())
		move("/plain/new", "/plain/a", file.RenameOptions{}, 0)
		opens("/plain/a", own)
		b.notRenamed()
		b.foundAgain(own)
	})
}

// notRenamed has somebody who may write, and administer, but signs for nobody, try to rename /plain/a.
func (b *bed) notRenamed() {
	b.T.Helper()
	ctx := b.T.Context()
	must := func(err error) {
		b.T.Helper()
		if err != nil {
			b.T.Fatal(err)
		}
	}
	c, at := b.ClientAs(user) // who may write, and administer, and signs for nobody
	for _, dir := range []string{"/plain", "/plain/a"} {
		_, err := b.client.Grant(ctx, b.Path(dir), meta.Grant{Subject: meta.Subject{Path: at}, Rights: meta.RightRead | meta.RightWrite | meta.RightList | meta.RightAdmin})
		must(err)
	}
	if err := file.Rename(ctx, c, b.Path("/plain/a"), b.Path("/plain/b"), file.RenameOptions{}); blocktree.KindOf(err) != blocktree.Permission || blocktree.HintOf(err) == "" {
		b.T.Errorf("by who does not own it: %v", err)
	}
}

// foundAgain renames /plain/a, which was seen, and finds it by its identity; another one is not taken for it.
func (b *bed) foundAgain(own *keys.ReaderKey) {
	b.T.Helper()
	ctx := b.T.Context()
	must := func(err error) {
		b.T.Helper()
		if err != nil {
			b.T.Fatal(err)
		}
	}
	pins := ofFiles{}
	f, err := file.Open(ctx, b.client, b.Path("/plain/a"), file.OpenOptions{ReadOnly: true, Reader: own, Pins: pins})
	must(err)
	must(f.Close())
	byID := file.OpenOptions{ReadOnly: true, Reader: own, Pins: pins, File: f.Info().ID}
	must(file.Rename(ctx, b.client, b.Path("/plain/a"), b.Path("/plain/c"), file.RenameOptions{}))
	f, err = file.Open(ctx, b.client, b.Path("/plain/a"), byID)
	must(err)
	if got := f.Info(); got.ID != byID.File || got.Path != b.Path("/plain/c") {
		b.T.Errorf("opened %+v", got)
	}
	must(f.Close())
	for what, pins := range map[string]file.Pins{"nobody has seen": ofFiles{}, "was seen with another key": ofFiles{byID.File: {Number: 1}}, "is remembered by path": nil} {
		byID.Pins = pins
		if _, err := file.Open(ctx, b.client, b.Path("/plain/a"), byID); err == nil {
			b.T.Errorf("a renamed file that %s is opened", what)
		}
	}
}

// TestRekeyBesideRenames: what gets another name while a tree is rekeyed has a new key in the end, too: whoever is taken out of the directory's readers opens nothing there.
func TestRekeyBesideRenames(t *testing.T) {
	within(t, bttp.TCP, 6, func(b *bed) {
		ctx := b.T.Context()
		must := func(err error) {
			b.T.Helper()
			if err != nil {
				b.T.Fatal(err)
			}
		}
		bob, admin := keys.NewReaderKey(), b.admin(b.client)
		top := b.Path("/team")
		must(admin.MakeDir(ctx, top, 0o700, false, keys.X25519, []keys.PublicKey{b.Reader.Public(), bob.Public()}))
		must(b.client.MakeDir(ctx, top.Join("n"), 0o700, false))
		for _, p := range []string{"a", "m", "n/x", "z"} {
			must(file.Create(ctx, b.client, b.Path("/team/"+p), file.CreateOptions{SizeBytes: 1 << 20}))
		}
		rename := func(from, to string) {
			must(file.Rename(ctx, b.client, b.Path(from), b.Path(to), file.RenameOptions{}))
		}
		told := map[blocktree.FileID]int{}
		must(admin.RekeyTree(ctx, top, func(r *file.Rekeyed) error {
			switch told[r.ID]++; r.Path {
			case b.Path("/team/a"):
				rename("/team/m", "/team/a2")   // is not where it was listed
				rename("/team/n/x", "/team/a3") // is not listed there any more
				must(file.Create(ctx, b.client, b.Path("/team/a4"), file.CreateOptions{SizeBytes: 1 << 20}))
			case b.Path("/team/a2"):
				rename("/team/a3", "/team/n/x")
			}
			return nil
		}, bob.Public()))
		for _, p := range []string{"a", "a2", "a4", "n/x", "z"} {
			if f, err := file.Open(ctx, b.client, b.Path("/team/"+p), file.OpenOptions{ReadOnly: true, Reader: bob}); blocktree.KindOf(err) != blocktree.Permission {
				b.T.Errorf("%s is opened by who was taken out: %v", p, err)
				if err == nil {
					must(f.Close())
				}
			}
			f, err := file.Open(ctx, b.client, b.Path("/team/"+p), file.OpenOptions{ReadOnly: true, Reader: b.Reader})
			must(err)
			must(f.Close())
		}
		for id, n := range told {
			if n != 1 {
				b.T.Errorf("%v was rekeyed %d times", id, n)
			}
		}
		if len(told) != 5 {
			b.T.Errorf("%d of 5 were rekeyed", len(told))
		}
	})
}

package fastrung

import (
	"context"
	"fmt"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/crypto/keys"
	"blocktree/internal/bttp"
	"blocktree/internal/file"
	"blocktree/internal/simnet"
	"blocktree/internal/testenv"
	"blocktree/internal/vfs"
)

// TestRekeyWaitsForForsakenWrites: who asked for a write waits for it no more, but it is on its way, under the old key. A rekey waits for it, else it could
// come to be behind the place up to which all is re-sealed, and its key be dropped.
func TestRekeyWaitsForForsakenWrites(t *testing.T) {
	var disk *vfs.Fault
	prepare := func(s *testenv.Simulated) {
		disk = vfs.NewFault(s.Disk(2))
		s.Disks = map[int]vfs.FS{2: disk}
	}
	withNodes(t, bttp.TCP, 3, 9, prepare, func(b *bed) {
		b.fill(0, 1, 1)
		stall := make(chan struct{})
		disk.Inject(vfs.Injection{Op: vfs.FaultSync, Times: -1, Stall: stall})
		ctx, cancel := context.WithTimeout(b.T.Context(), 10*time.Millisecond)
		defer cancel()
		if err := b.file.WriteSectors(ctx, 1, numbered(1, 1)); err == nil {
			b.T.Error("the write does not hang: the test looks at nothing")
		}
		time.AfterFunc(2*time.Second+heard, func() { disk.Clear(); close(stall) })
		begun := time.Now()
		if _, err := b.admin(b.Client()).Rekey(b.T.Context(), b.Path("/vm/disk0")); err != nil {
			b.T.Fatal(err)
		}
		if took := time.Since(begun); took < 2*time.Second+heard && stats(b.file).Removed == 0 {
			b.T.Errorf("rekey returned after %v, with a write under way that is under the old key", took)
		}
		b.await("re-sealing", 60*time.Second, func() bool { _, d := b.record(b.client, "/vm/disk0"); return d.Older == 0 })
		if got := b.generations(b.file, 1, 1); got[1] != 0 {
			b.T.Errorf("sectors by generation: %v", got)
		}
		if k, err := read(b.T.Context(), b.T, b.file, 1); err != nil || k > 1 {
			b.T.Errorf("it is of write %d, %v", k, err)
		}
	})
}

// TestRekeyBesideAFailedWrite: a write under the old key has failed, as too few members answered for too long, and is in flight for all that: it may become what the sector has when they
// answer again. Until then its key is not dropped.
func TestRekeyBesideAFailedWrite(t *testing.T) {
	var disks [3]*vfs.Fault
	prepare := func(s *testenv.Simulated) {
		s.Disks = map[int]vfs.FS{}
		for i := 1; i < 3; i++ {
			disks[i] = vfs.NewFault(s.Disk(i))
			s.Disks[i] = disks[i]
		}
	}
	withNodes(t, bttp.TCP, 3, 15, prepare, func(b *bed) {
		ctx := b.T.Context()
		stall := make(chan struct{})
		for _, d := range disks[1:] {
			d.Inject(vfs.Injection{Op: vfs.FaultSync, Times: -1, Stall: stall})
		}
		if err := b.file.WriteSectors(ctx, 1, numbered(1, 1)); err == nil { // nothing was ever written there
			b.T.Error("the write does not fail: the test looks at nothing")
		}
		if _, err := b.admin(b.Client()).Rekey(ctx, b.Path("/vm/disk0")); err != nil {
			b.T.Fatal(err)
		}
		time.Sleep(20 * time.Second) // time enough to find nothing else to be re-sealed
		for _, d := range disks[1:] {
			d.Clear()
		}
		close(stall)
		b.await("re-sealing", 2*time.Minute, func() bool { _, d := b.record(b.client, "/vm/disk0"); return d.Older == 0 })
		if got := b.generations(b.file, 1, 1); got[1] != 0 {
			b.T.Errorf("sectors by generation: %v", got)
		}
		if k, err := read(ctx, b.T, b.file, 1); err != nil || k > 1 {
			b.T.Errorf("it is of write %d, %v", k, err)
		}
	})
}

// TestRekeyBesideACutOffHolder: the holder is cut off together with the only node that keeps the file, and its lease has ended for the others. Once rekey has returned, nothing that is written is
// acknowledged under the old key; where that cannot be known, it says so.
func TestRekeyBesideACutOffHolder(t *testing.T) {
	withNodes(t, bttp.TCP, 4, 11, func(*testenv.Simulated) {}, func(b *bed) {
		ctx := b.T.Context()
		holder, admin := b.Client(), b.Client()
		var files []blocktree.File
		for i := range 8 {
			name := fmt.Sprintf("/vm/one%d", i)
			b.Create(b.client, name, 1<<20, blocktree.Code{Data: 1})
			f := b.Open(holder, name)
			defer f.Close()
			if err := f.WriteSectors(ctx, 0, numbered(0, 1)); err != nil {
				b.T.Fatal(err)
			}
			files = append(files, f)
		}
		b.Off(b.NodeAddr(3))
		b.Off(b.ClientAddr(1))
		b.Net.Set(b.ClientAddr(1), b.NodeAddr(3), simnet.Link{})
		b.Net.Set(b.NodeAddr(3), b.ClientAddr(1), simnet.Link{})
		b.await("the end of the leases", time.Minute, func() bool {
			l, err := admin.Holder(ctx, files[7].Info().ID)
			return err == nil && l == nil
		})
		wrong, refused := 0, 0
		for _, f := range files {
			rekey, cancel := context.WithTimeout(ctx, 8*time.Second)
			_, err := b.admin(admin).Rekey(rekey, f.Info().Path)
			cancel()
			write, cancel := context.WithTimeout(ctx, 2*time.Second)
			written := f.WriteSectors(write, 1, numbered(1, 1)) == nil
			cancel()
			switch {
			case err != nil:
				refused++
			case written:
				wrong++
			}
		}
		if wrong > 0 || refused == 0 || refused == len(files) {
			b.T.Errorf("%d of %d files written under the old key after rekey had returned, which said of %d that it does not know", wrong, len(files), refused)
		}
	})
}

// TestResealPlaceIsDurable: a record without a new key comes while a file of durability flush is being re-sealed. What the holder says then of the place is durable, too:
// a loss of power that follows takes nothing back from behind it.
func TestResealPlaceIsDurable(t *testing.T) {
	for seed := range uint64(4) {
		resealPlaceIsDurable(t, seed)
	}
}

func resealPlaceIsDurable(t *testing.T, seed uint64) {
	within(t, bttp.TCP, 12, func(b *bed) {
		ctx := b.T.Context()
		const name, size, each = "/vm/big", 256 << 20, 64
		o := file.CreateOptions{SizeBytes: size, Code: blocktree.Code{Data: 2, Parity: 1}, Readers: []keys.PublicKey{b.Reader.Public()}, Durability: stripe.DurabilityFlush}
		if err := file.Create(ctx, b.client, b.Path(name), o); err != nil {
			b.T.Fatal(err)
		}
		lost := b.Open(b.Client(), name)
		for s := blocktree.SectorIndex(0); s < size/sectorBytes; s += each {
			if err := lost.WriteSectors(ctx, s, numbered(s, 1)); err != nil {
				b.T.Fatal(err)
			}
		}
		if err := lost.Flush(ctx); err != nil {
			b.T.Fatal(err)
		}
		admin := b.admin(b.client)
		if _, err := admin.Rekey(ctx, b.Path(name)); err != nil {
			b.T.Fatal(err)
		}
		time.Sleep(4500 * time.Millisecond) // the next look at the record is a second after the place was last made durable
		before, d := b.record(b.client, name)
		if err := admin.Grant(ctx, b.Path(name), keys.NewReaderKey().Public()); err != nil {
			b.T.Fatal(err)
		}
		var said *meta.Inode
		b.await("news", 2*heard, func() bool { said, _ = b.record(b.client, name); return said.Heard.Number > d.Number })
		b.PowerLoss(seed, 0, 1, 2)
		b.Off(b.ClientAddr(1))
		for i := range 3 {
			b.On(b.NodeAddr(i))
		}
		b.Off(b.ClientAddr(1))
		b.StartAll()
		b.T.Logf("the place was %d, then %d", before.Heard.Sectors, said.Heard.Sectors)
		_ = lost.Close() // it says that it lost the file
		f := b.Open(b.Client(), name)
		defer f.Close()
		for s := blocktree.SectorIndex(0); uint64(s) < min(said.Heard.Sectors, size/sectorBytes); s += each {
			if got := b.generations(f, s, 1); got[2] != 1 {
				b.T.Fatalf("sector %d lies before %d and is of %v", s, said.Heard.Sectors, got)
			}
		}
	})
}

// TestDirectoryKeyByMode: who may list a directory, by its mode, and reads a file in it, by its mode too, opens it with the key of the directory's reader.
func TestDirectoryKeyByMode(t *testing.T) {
	within(t, bttp.TCP, 13, func(b *bed) {
		ctx := b.T.Context()
		bob := keys.NewReaderKey()
		if err := b.admin(b.client).MakeDir(ctx, b.Path("/team"), 0o755, false, keys.X25519, []keys.PublicKey{b.Reader.Public(), bob.Public()}); err != nil {
			b.T.Fatal(err)
		}
		if err := file.Create(ctx, b.client, b.Path("/team/a"), file.CreateOptions{SizeBytes: 1 << 20, Mode: 0o644}); err != nil {
			b.T.Fatal(err)
		}
		c, _ := b.ClientAs(user)
		f, err := file.Open(ctx, c, b.Path("/team/a"), file.OpenOptions{ReadOnly: true, Reader: bob})
		if err != nil {
			b.T.Fatal(err)
		}
		defer f.Close()
		if k, err := read(ctx, b.T, f, 0); k != 0 || err != nil {
			b.T.Errorf("%d, %v", k, err)
		}
	})
}

// TestInheritedUnseen: who owns a file in a directory that it may not look at takes the file from none of the directory's readers.
func TestInheritedUnseen(t *testing.T) {
	within(t, bttp.TCP, 14, func(b *bed) {
		ctx := b.T.Context()
		must := func(err error) {
			b.T.Helper()
			if err != nil {
				b.T.Fatal(err)
			}
		}
		bob, own := keys.NewReaderKey(), keys.NewReaderKey()
		dir, name := b.Path("/team"), b.Path("/team/mine")
		must(b.admin(b.client).MakeDir(ctx, dir, 0o700, false, keys.X25519, []keys.PublicKey{b.Reader.Public(), bob.Public()}))
		c, at := b.ClientAs(user)
		_, err := b.client.Grant(ctx, dir, meta.Grant{Subject: meta.Subject{Path: at}, Rights: meta.RightWrite | meta.RightList})
		must(err)
		must(file.Create(ctx, c, name, file.CreateOptions{SizeBytes: 1 << 20, Readers: []keys.PublicKey{own.Public()}}))
		_, err = b.client.Revoke(ctx, dir, meta.Subject{Path: at})
		must(err)
		opens := func(what string) {
			b.T.Helper()
			f, err := file.Open(ctx, b.client, name, file.OpenOptions{ReadOnly: true, Reader: bob})
			if err != nil {
				b.T.Fatalf("%s: %v", what, err)
			}
			must(f.Close())
		}
		opens("made")
		his := &file.Admin{Client: c, Reader: own}
		must(his.Grant(ctx, name, keys.NewReaderKey().Public()))
		opens("granted")
		if _, err := his.Rekey(ctx, name); blocktree.KindOf(err) != blocktree.Permission || blocktree.HintOf(err) == "" {
			b.T.Errorf("rekey: %v", err)
		}
		opens("not rekeyed")
	})
}

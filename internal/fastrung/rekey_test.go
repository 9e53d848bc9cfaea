package fastrung

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/crypto/keys"
	"blocktree/crypto/seal"
	"blocktree/internal/bttp"
	"blocktree/internal/file"
	"blocktree/internal/simnet"
	"blocktree/internal/testenv"
	"blocktree/internal/vfs"
)

// rekeyed is how long a rekey of a file may take that somebody has open and writes to.
const rekeyed = heard + time.Second

// admin administers with the domain's reader key.
func (b *bed) admin(c *cluster.Client) *file.Admin { return &file.Admin{Client: c, Reader: b.Reader} }

// record is what is known of a file, and of its access record.
func (b *bed) record(c *cluster.Client, name string) (*meta.Inode, *file.Described) {
	b.T.Helper()
	inode, err := c.Stat(b.T.Context(), b.Path(name))
	if err != nil {
		b.T.Fatal(err)
	}
	d, err := file.Describe(b.Path(name), inode, nil)
	if err != nil {
		b.T.Fatal(err)
	}
	return inode, d
}

// pieces are the shards of a run as the members keep them.
func (b *bed) pieces(f blocktree.File, first blocktree.SectorIndex, count uint32) []cluster.Piece {
	b.T.Helper()
	h := f.(*file.File).Handle()
	region := uint64(first) / h.RegionSectors()
	got, err := h.Read(blocktree.RegionIndex(region), first, count).Wait(b.T.Context())
	if err != nil {
		b.T.Fatal(err)
	}
	return got
}

// generations counts the sectors of a run by the key generation that their nonces name; 0 are zeros.
func (b *bed) generations(f blocktree.File, first blocktree.SectorIndex, count uint32) map[uint32]int {
	b.T.Helper()
	counts := map[uint32]int{}
	for _, p := range b.pieces(f, first, count) {
		for i := range int(p.Count) {
			if p.Data() {
				counts[seal.GenerationOf(p.Seal(i))]++
			} else {
				counts[0]++
			}
		}
	}
	return counts
}

// TestRekeyLive gives a file a new key while its holder writes. What begins to be written once rekey has returned is under the new key; who may read still does, and what
// was written before is re-sealed beside the writes, none of which is undone.
func TestRekeyLive(t *testing.T) {
	carriers(t, func(b *bed) {
		ctx := b.T.Context()
		b.fill(0, 512, 1)
		b.fill(512, 512, 1)
		other := b.Client()
		reader := b.reader(other, "/vm/disk0")
		w := b.write(b.file, 8)
		w.readAlong(reader, "a reader")
		time.Sleep(time.Second)
		begun := time.Now()
		r, err := b.admin(other).Rekey(ctx, b.Path("/vm/disk0"))
		if err != nil {
			b.T.Fatal(err)
		}
		b.between("a rekey", time.Since(begun), 0, rekeyed)
		if r.Number != 2 || r.Generation != 2 {
			b.T.Errorf("number %d, generation %d", r.Number, r.Generation)
		}
		b.fill(2000, 3, 9)
		if got := b.generations(b.file, 2000, 4); got[2] != 3 || got[0] != 1 {
			b.T.Errorf("written under the new key: %v", got)
		}
		b.await("re-sealing", 20*time.Second, func() bool { _, d := b.record(other, "/vm/disk0"); return d.Older == 0 })
		for first := blocktree.SectorIndex(0); first < 1024; first += 256 {
			if got := b.generations(b.file, first, 256); got[2] != 256 {
				b.T.Errorf("sectors from %d: %v", first, got)
			}
		}
		if k, err := read(ctx, b.T, reader, 2001); k != 9 || err != nil {
			b.T.Errorf("a reader from before finds %d, %v", k, err)
		}
		w.finishWell()
		if w.reads < 20 {
			b.T.Errorf("only %d reads beside it", w.reads)
		}
		w.check(b.file, "re-sealed")
		for s := blocktree.SectorIndex(8); s < 1024; s++ {
			if k, err := read(ctx, b.T, b.file, s); k != 1 || err != nil {
				b.T.Fatalf("sector %d is of write %d, %v", s, k, err)
			}
		}
		if inode, d := b.record(other, "/vm/disk0"); inode.Heard.Number < 2 || inode.Heard.Sectors != meta.AllResealed || d.Number != 3 || d.Generation != 2 {
			b.T.Errorf("heard %+v, record %+v", inode.Heard, d)
		}
	})
}

// TestResealBesideWrites: over a slow line, so that much lies between the two halves of re-sealing a run, each sector is written once at some time: none of it is undone.
func TestResealBesideWrites(t *testing.T) {
	within(t, bttp.TCP, 8, func(b *bed) {
		const sectors, pace = 1024, 3 * time.Millisecond
		ctx := b.T.Context()
		b.fill(0, sectors, 1)
		other := b.Client()
		b.SetAll(b.ClientAddr(0), simnet.Link{Delay: 20 * time.Millisecond})
		for round := uint64(2); round < 4; round++ {
			if r, err := b.admin(other).Rekey(ctx, b.Path("/vm/disk0")); err != nil || r.Generation != uint32(round) {
				b.T.Fatal(r, err)
			}
			var wg sync.WaitGroup
			for i := range blocktree.SectorIndex(sectors) {
				s := i * 389 % sectors // each once, in an order of no meaning
				wg.Go(func() {
					if err := b.file.WriteSectors(ctx, s, numbered(s, round)); err != nil {
						b.T.Error(err)
					}
				})
				time.Sleep(pace)
			}
			wg.Wait()
			b.await("re-sealing", 60*time.Second, func() bool { _, d := b.record(other, "/vm/disk0"); return d.Older == 0 })
			for s := range blocktree.SectorIndex(sectors) {
				if k, err := read(ctx, b.T, b.file, s); k != round || err != nil {
					b.T.Errorf("sector %d is of write %d, not %d: %v", s, k, round, err)
				}
			}
		}
	})
}

// TestRekeyWaitsForWrites: a write that was sealed before, and is still under way, has been answered when rekey returns.
func TestRekeyWaitsForWrites(t *testing.T) {
	var disk *vfs.Fault
	prepare := func(s *testenv.Simulated) {
		disk = vfs.NewFault(s.Disk(2))
		s.Disks = map[int]vfs.FS{2: disk}
	}
	withNodes(t, bttp.TCP, 3, 9, prepare, func(b *bed) {
		b.fill(0, 1, 1)
		stall := make(chan struct{})
		resume := sync.OnceFunc(func() { disk.Clear(); close(stall) })
		defer resume() // else the node could not be stopped
		disk.Inject(vfs.Injection{Op: vfs.FaultSync, Times: -1, Stall: stall})
		var answered atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := b.file.WriteSectors(b.T.Context(), 1, numbered(1, 1)); err != nil {
				b.T.Error(err)
			}
			answered.Store(true)
		})
		defer wg.Wait()
		time.Sleep(10 * time.Millisecond)
		if answered.Load() {
			b.T.Fatal("the write does not hang: the test looks at nothing")
		}
		if _, err := b.admin(b.Client()).Rekey(b.T.Context(), b.Path("/vm/disk0")); err != nil {
			b.T.Fatal(err)
		}
		if !answered.Load() {
			b.T.Error("a write under the old key is answered after the rekey returned")
		}
	})
}

// TestRekeyBeforeLease: who looked at the file before a rekey and gets its lease after it writes under the new key from the first sector on.
func TestRekeyBeforeLease(t *testing.T) {
	within(t, bttp.TCP, 10, func(b *bed) {
		next := b.Client()
		opened := make(chan blocktree.File, 1)
		go func() { opened <- b.Open(next, "/vm/disk0") }()
		time.Sleep(time.Second) // it has looked, and waits for the lease
		if _, err := b.admin(b.Client()).Rekey(b.T.Context(), b.Path("/vm/disk0")); err != nil {
			b.T.Fatal(err)
		}
		if err := b.file.Close(); err != nil {
			b.T.Fatal(err)
		}
		f := <-opened
		defer f.Close()
		if err := f.WriteSectors(b.T.Context(), 5, numbered(5, 1)); err != nil {
			b.T.Fatal(err)
		}
		if got := b.generations(f, 5, 1); got[2] != 1 {
			b.T.Errorf("%v", got)
		}
	})
}

// TestResealCrashes: a file is re-sealed by one holder after the other, each of which is cut off, and twice all nodes lose power meanwhile. The keys of before are dropped when no sector
// is left under them, not sooner; no place is said that was not reached durably; nothing is lost.
func TestResealCrashes(t *testing.T) {
	within(t, bttp.TCP, 7, func(b *bed) {
		const name, size = "/vm/big", 1 << 30
		ctx := b.T.Context()
		b.Create(b.client, name, size, blocktree.Code{Data: 2, Parity: 1})
		first := b.Open(b.client, name)
		const step = 4099 // sectors
		for s := blocktree.SectorIndex(0); s < size/sectorBytes; s += step {
			if err := first.WriteSectors(ctx, s, numbered(s, 5)); err != nil {
				b.T.Fatal(err)
			}
		}
		if err := first.Close(); err != nil {
			b.T.Fatal(err)
		}
		admin := b.admin(b.client)
		if r, err := admin.Rekey(ctx, b.Path(name)); err != nil || r.Generation != 2 {
			b.T.Fatal(err)
		}
		place, holders := uint64(0), 0
		for done := false; !done; holders++ {
			if holders > 10 {
				b.T.Fatal("it does not end")
			}
			c := b.Client()
			f := b.Open(c, name)
			host := b.ClientAddr(holders + 1)
			time.Sleep(time.Duration(6+2*holders) * time.Second) // past the first place that is said, for all of them
			inode, d := b.record(b.client, name)
			if inode.Heard.Sectors < place {
				b.T.Errorf("the place went back from %d to %d", place, inode.Heard.Sectors)
			}
			place = inode.Heard.Sectors
			done = d.Older == 0
			for s := blocktree.SectorIndex(0); s < size/sectorBytes; s += step {
				if got := b.generations(f, s, 1); uint64(s) < place && got[2] != 1 {
					b.T.Fatalf("holder %d: sector %d lies before %d and is of %v", holders, s, place, got)
				}
			}
			b.Off(host)
			if holders == 1 || holders == 2 {
				b.PowerLoss(uint64(holders), 0, 1, 2)
				for i := range 3 {
					b.On(b.NodeAddr(i))
				}
				b.Off(host)
				b.StartAll()
			}
			_ = f.Close() // it says that it lost the file
			b.On(host)
		}
		if holders < 3 {
			b.T.Errorf("only %d holders had a part in it", holders)
		}
		f := b.Open(b.client, name)
		defer f.Close()
		for s := blocktree.SectorIndex(0); s < size/sectorBytes; s += step {
			if k, err := read(ctx, b.T, f, s); k != 5 || err != nil {
				b.T.Fatalf("sector %d is of write %d, %v", s, k, err)
			}
		}
	})
}

// TestRevokedReader: bob has the file open, then is revoked. He reads nothing that is written from then on, asked for as he likes; and with all raw
// shards and every key that he ever had he opens what was not re-sealed, and nothing else.
func TestRevokedReader(t *testing.T) {
	within(t, bttp.TCP, 3, func(b *bed) {
		ctx := b.T.Context()
		path := b.Path("/vm/disk0")
		bob := keys.NewReaderKey()
		admin := b.admin(b.Client())
		if err := admin.Grant(ctx, path, bob.Public()); err != nil {
			b.T.Fatal(err)
		}
		b.fill(10, 1, 1)
		before, _ := b.record(b.client, "/vm/disk0")
		old := b.pieces(b.file, 10, 1)
		his, err := file.Open(ctx, b.Client(), path, file.OpenOptions{ReadOnly: true, Reader: bob})
		if err != nil {
			b.T.Fatal(err)
		}
		defer his.Close()
		if k, err := read(ctx, b.T, his, 10); k != 1 || err != nil {
			b.T.Fatalf("bob reads %d, %v", k, err)
		}
		if _, err := admin.Rekey(ctx, path, bob.Public()); err != nil {
			b.T.Fatal(err)
		}
		b.fill(20, 1, 2)
		if k, err := read(ctx, b.T, his, 20); blocktree.KindOf(err) != blocktree.Permission {
			b.T.Errorf("bob reads %d of what is new, %v", k, err)
		}
		if _, err := file.Open(ctx, b.client, path, file.OpenOptions{ReadOnly: true, Reader: bob}); blocktree.KindOf(err) != blocktree.Permission {
			b.T.Errorf("bob opens it again: %v", err)
		}
		access, err := keys.DecodeAccess(before.Access)
		if err != nil {
			b.T.Fatal(err)
		}
		ring, err := access.OpenAll(bob)
		if err != nil {
			b.T.Fatal(err)
		}
		opens := func(pieces []cluster.Piece) bool {
			p := &pieces[0]
			shards, err := p.DataShards()
			if err != nil || !p.Data() {
				b.T.Fatal(err)
			}
			for _, key := range ring {
				for g := range uint32(5) {
					s := seal.New(key.Sealing(access.KeyID, g), seal.Suite(access.Suite), before.ID, g)
					plain := make([]byte, sectorBytes)
					if s.OpenParts(plain, p.Parts(0, shards, nil), p.First, p.Version, p.Seal(0)) == nil {
						return bytes.Equal(plain, numbered(10, 1)) || bytes.Equal(plain, numbered(20, 2))
					}
				}
			}
			return false
		}
		if !opens(old) {
			b.T.Error("he does not open what he could read: the test looks at nothing")
		}
		if opens(b.pieces(b.file, 20, 1)) {
			b.T.Error("he opens what was written after he was revoked")
		}
		b.await("re-sealing", 20*time.Second, func() bool { _, d := b.record(b.client, "/vm/disk0"); return d.Older == 0 })
		if opens(b.pieces(b.file, 10, 1)) {
			b.T.Error("he opens what was re-sealed")
		}
	})
}

// TestHolderOfTheOldKey: a holder to whom nothing is wrapped any more writes nothing more, and says that it heard; so the rekey returns.
func TestHolderOfTheOldKey(t *testing.T) {
	within(t, bttp.TCP, 4, func(b *bed) {
		ctx := b.T.Context()
		bob := keys.NewReaderKey()
		const name = "/vm/shared"
		if err := file.Create(ctx, b.client, b.Path(name), file.CreateOptions{SizeBytes: 1 << 20, Readers: []keys.PublicKey{b.Reader.Public(), bob.Public()}}); err != nil {
			b.T.Fatal(err)
		}
		his, err := file.Open(ctx, b.Client(), b.Path(name), file.OpenOptions{Reader: bob})
		if err != nil {
			b.T.Fatal(err)
		}
		if err := his.WriteSectors(ctx, 1, numbered(1, 1)); err != nil {
			b.T.Fatal(err)
		}
		if _, err := b.admin(b.client).Rekey(ctx, b.Path(name), bob.Public()); err != nil {
			b.T.Fatal(err)
		}
		for what, err := range map[string]error{"a write": his.WriteSectors(ctx, 1, numbered(1, 2)), "zeros": his.ZeroSectors(ctx, 1, 1)} {
			if blocktree.KindOf(err) != blocktree.Permission {
				b.T.Errorf("%s: %v", what, err)
			}
		}
		if err := his.Close(); err != nil {
			b.T.Error(err)
		}
		f := b.Open(b.client, name)
		defer f.Close()
		if k, err := read(ctx, b.T, f, 1); k != 1 || err != nil {
			b.T.Errorf("sector 1 is of write %d, %v", k, err)
		}
	})
}

// TestResealByOthers: a holder that may not administer the file re-seals it and leaves the older keys, which who may drops; and where nobody has the file open, who asks does the work.
func TestResealByOthers(t *testing.T) {
	within(t, bttp.TCP, 5, func(b *bed) {
		ctx, cancel := context.WithTimeout(b.T.Context(), 2*time.Minute)
		defer cancel()
		path := b.Path("/vm/disk0")
		b.fill(0, 256, 1)
		if err := b.file.Close(); err != nil {
			b.T.Fatal(err)
		}
		other, at := b.ClientAs(testenv.User{UID: 7})
		b.grant(at, meta.RightRead|meta.RightWrite|meta.RightLease)
		guest := b.Open(other, "/vm/disk0")
		admin := b.admin(b.client)
		if _, err := admin.Rekey(ctx, path); err != nil {
			b.T.Fatal(err)
		}
		b.await("re-sealing", 20*time.Second, func() bool { i, _ := b.record(b.client, "/vm/disk0"); return i.Heard.Sectors == meta.AllResealed })
		time.Sleep(5 * time.Second)
		if _, d := b.record(b.client, "/vm/disk0"); d.Older != 1 || d.Number != 2 {
			b.T.Errorf("by a guest: %+v", d)
		}
		looks := 0
		if err := admin.Reseal(ctx, path, func(r file.Resealing) { looks++ }); err != nil || looks == 0 {
			b.T.Fatal(looks, err)
		}
		if _, d := b.record(b.client, "/vm/disk0"); d.Older != 0 || d.Number != 3 {
			b.T.Errorf("dropped: %+v", d)
		}
		if err := guest.Close(); err != nil {
			b.T.Error(err)
		}
		if _, err := (&file.Admin{Client: other, Reader: b.Reader}).Rekey(ctx, path); blocktree.KindOf(err) != blocktree.Permission {
			b.T.Errorf("a guest's rekey: %v", err)
		}
		for g := uint32(3); g < 6; g++ {
			if r, err := admin.Rekey(ctx, path); err != nil || r.Generation != g {
				b.T.Fatal(r, err)
			}
		}
		if err := admin.Reseal(ctx, path, func(file.Resealing) {}); err != nil {
			b.T.Fatal(err)
		}
		f := b.open(b.client)
		if got := b.generations(f, 0, 256); got[5] != 256 {
			b.T.Errorf("%v", got)
		}
	})
}

// TestDirectoryKey: who reads a directory reads the files beneath, later ones and those in directories beneath it too, and after a rekey of the tree no more.
func TestDirectoryKey(t *testing.T) {
	within(t, bttp.TCP, 6, func(b *bed) {
		ctx := b.T.Context()
		alice, bob, eve := keys.NewReaderKey(), keys.NewReaderKeyOf(keys.MLKEM768X25519), keys.NewReaderKey()
		admin := b.admin(b.client)
		top, sub := b.Path("/team"), b.Path("/team/deep/sub")
		must := func(err error) {
			b.T.Helper()
			if err != nil {
				b.T.Fatal(err)
			}
		}
		must(admin.MakeDir(ctx, top, 0o700, false, keys.X25519, []keys.PublicKey{b.Reader.Public(), bob.Public()}))
		if err := admin.MakeDir(ctx, top, 0o700, false, keys.X25519, []keys.PublicKey{eve.Public()}); blocktree.KindOf(err) != blocktree.Exists {
			b.T.Errorf("a second key: %v", err)
		}
		must(admin.MakeDir(ctx, sub.Parent(), 0o700, false, keys.X25519, nil))
		must(admin.MakeDir(ctx, sub, 0o700, false, keys.X25519, []keys.PublicKey{alice.Public()}))
		files := []blocktree.Path{top.Join("a"), top.Join("deep").Join("b"), sub.Join("c")}
		for _, p := range files {
			must(file.Create(ctx, b.client, p, file.CreateOptions{SizeBytes: 1 << 20}))
		}
		opens := func(who *keys.ReaderKey, want ...bool) {
			b.T.Helper()
			for i, p := range files {
				f, err := file.Open(ctx, b.client, p, file.OpenOptions{ReadOnly: true, Reader: who})
				if (err == nil) != want[i] || err != nil && blocktree.KindOf(err) != blocktree.Permission {
					b.T.Errorf("%s: %v", p.Short(), err)
				}
				if err == nil {
					must(f.Close())
				}
			}
		}
		opens(bob, true, true, true)
		opens(alice, false, false, true)
		opens(eve, false, false, false)
		must(admin.Grant(ctx, top, eve.Public()))
		opens(eve, true, true, true)
		told := 0
		must(admin.RekeyTree(ctx, top, func(*file.Rekeyed) error { told++; return nil }, bob.Public()))
		if told != 5 {
			b.T.Errorf("%d of 5 were rekeyed", told)
		}
		opens(bob, false, false, false)
		opens(alice, false, false, true)
		opens(eve, true, true, true)
		later := top.Join("deep").Join("later")
		must(file.Create(ctx, b.client, later, file.CreateOptions{SizeBytes: 1 << 20}))
		files = []blocktree.Path{later}
		opens(eve, true)
		opens(bob, false)
	})
}

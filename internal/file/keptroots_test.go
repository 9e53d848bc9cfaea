package file

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"blocktree"
	"blocktree/crypto/keys"
	"blocktree/crypto/tree"
	"blocktree/internal/vfs"
)

func seenAt(inode blocktree.Inode, number uint64) Seen {
	return Seen{File: blocktree.FileID{Generation: 1, Inode: inode}, Root: tree.Root{Generation: 3, Number: number, Random: [16]byte{2}}}
}

// TestKeptRoots: what was saved is there for the next process; nothing older of the same file replaces it, another file does; what is damaged is said to be.
func TestKeptRoots(t *testing.T) {
	dir, p := t.TempDir()+"/not/there/yet", blocktree.Path("/e1/vm/disk0")
	one, two := KeepRoots(vfs.Disk{}, dir), KeepRoots(vfs.Disk{}, dir)
	if got, err := one.Load(p); got != nil || err != nil {
		t.Fatalf("%v, %v", got, err)
	}
	for _, x := range []struct {
		by         *KeptRoots
		save, want Seen
	}{{one, seenAt(9, 1), seenAt(9, 1)}, {two, seenAt(9, 3), seenAt(9, 3)}, {one, seenAt(9, 2), seenAt(9, 3)}, {one, Seen{File: seenAt(8, 0).File}, Seen{File: seenAt(8, 0).File}}} {
		if err := x.by.Save(p, x.save); err != nil {
			t.Fatal(err)
		}
		if got, err := two.Load(p); err != nil || got == nil || *got != x.want {
			t.Errorf("after %+v: %+v, %v", x.save, got, err)
		}
		if got, err := two.Load(p + "x"); got != nil || err != nil {
			t.Errorf("another path: %v, %v", got, err)
		}
	}
	f, err := vfs.Disk{}.Create(one.Where(p))
	if err == nil {
		_, err = f.WriteAt([]byte("blocktree root record 1\npath /x\n"), 0)
		_ = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := two.Load(p); blocktree.KindOf(err) != blocktree.Corrupt || blocktree.HintOf(err) == "" {
		t.Errorf("damaged: %v", err)
	}
}

// TestKeptRootsOfTwo: two processes save at the same time, and the newest stays, whole.
func TestKeptRootsOfTwo(t *testing.T) {
	dir, p, last := t.TempDir(), blocktree.Path("/e1/vm/disk0"), uint64(120)
	var wg sync.WaitGroup
	for i := range uint64(2) {
		k := KeepRoots(vfs.Disk{}, dir)
		wg.Go(func() {
			for n := 9 + i; n <= last+i; n += 2 {
				if err := k.Save(p, seenAt(9, n)); err != nil {
					t.Errorf("%d: %v", n, err)
				}
				if got, err := k.Load(p); err != nil || got == nil || got.Root.Number < n {
					t.Errorf("after %d: %+v, %v", n, got, err)
				}
			}
		})
	}
	wg.Wait()
}

// madeAt is what is seen of a file of an owner, made at a time.
func madeAt(inode blocktree.Inode, owner uint32, made int64) Seen {
	s := seenAt(inode, 1)
	s.Key, s.Owner, s.Made = keys.KeyID{byte(inode)}, owner, made
	return s
}

// TestSeen: what is kept is read to the byte, what a version before has kept, too, and nothing else is.
func TestSeen(t *testing.T) {
	const before = "blocktree root record 1\npath /e1/vm/disk0\nfile 1.9\nroot none\n"
	if text := string(EncodeSeen("/e1/vm/disk0", Seen{File: seenAt(9, 0).File})); !strings.HasPrefix(text, before+"sum ") {
		t.Errorf("a record of the first format is\n%s", text)
	}
	for _, s := range []Seen{seenAt(9, 5), {File: seenAt(9, 1).File}, madeAt(9, 0, 1), madeAt(9, 1<<32-1, 1<<40)} {
		text := EncodeSeen("/e1/vm/disk0", s)
		if p, got, err := DecodeSeen(text); err != nil || got != s || p != "/e1/vm/disk0" {
			t.Errorf("%v, %v", got, err)
		}
		for i := range text {
			bad := append([]byte(nil), text...)
			bad[i] ^= 1
			if _, _, err := DecodeSeen(bad); blocktree.KindOf(err) != blocktree.Corrupt {
				t.Fatalf("byte %d makes no difference: %v", i, err)
			}
		}
	}
}

// TestReplacedBy: who may make a file in the place of one that was seen, and when; all else is another file.
func TestReplacedBy(t *testing.T) {
	seen := madeAt(9, 7, 1000)
	owner, root, other, nobody := keys.Signer{UID: 7}, keys.Signer{}, keys.Signer{UID: 8}, keys.Signer{Anonymous: true}
	for name, x := range map[string]struct {
		seen   Seen
		inode  blocktree.Inode
		access keys.Access
		signer keys.Signer
		want   bool
	}{
		"made later by its owner":              {seen, 12, keys.Access{KeyID: keys.KeyID{1}, Number: 1, Owner: 7, Made: 1001}, owner, true},
		"made later by user 0":                 {seen, 12, keys.Access{KeyID: keys.KeyID{1}, Number: 1, Owner: 7, Made: 1001}, root, true},
		"made later by user 0, as its own":     {seen, 12, keys.Access{KeyID: keys.KeyID{1}, Number: 1, Made: 1001}, root, true},
		"in the same second, after it":         {seen, 12, keys.Access{KeyID: keys.KeyID{1}, Number: 1, Owner: 7, Made: 1000}, owner, true},
		"in the same second, before it":        {seen, 8, keys.Access{KeyID: keys.KeyID{1}, Number: 1, Owner: 7, Made: 1000}, owner, false},
		"made before":                          {seen, 12, keys.Access{KeyID: keys.KeyID{1}, Number: 9, Owner: 7, Made: 999}, owner, false},
		"under the key of before":              {seen, 12, keys.Access{KeyID: seen.Key, Number: 2, Owner: 7, Made: 1001}, owner, false},
		"by user 0, in somebody else's name":   {seen, 12, keys.Access{KeyID: keys.KeyID{1}, Number: 1, Owner: 8, Made: 1001}, root, false},
		"by somebody else":                     {seen, 12, keys.Access{KeyID: keys.KeyID{1}, Number: 1, Owner: 8, Made: 1001}, other, false},
		"signed by nobody":                     {seen, 12, keys.Access{KeyID: keys.KeyID{1}, Owner: 7, Made: 1001}, nobody, false},
		"after one of which nobody knows when": {seenAt(9, 1), 12, keys.Access{KeyID: keys.KeyID{1}, Number: 1, Owner: 7, Made: 1001}, owner, false},
	} {
		err := x.seen.replacedBy(blocktree.FileID{Generation: 1, Inode: x.inode}, &x.access, x.signer)
		if (err == nil) != x.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKeptRootsOfFilesMadeAnew: who has the file of before open does not put that in the place of the one that was made since.
func TestKeptRootsOfFilesMadeAnew(t *testing.T) {
	k, p := KeepRoots(vfs.Disk{}, t.TempDir()), blocktree.Path("/e1/vm/disk0")
	for _, x := range []struct{ save, want Seen }{{madeAt(9, 7, 100), madeAt(9, 7, 100)}, {madeAt(12, 7, 200), madeAt(12, 7, 200)}, {madeAt(9, 7, 150), madeAt(12, 7, 200)},
		{Seen{File: madeAt(12, 7, 0).File, Root: seenAt(9, 0).Root, Key: keys.KeyID{8}, Made: 300}, Seen{File: madeAt(12, 7, 0).File, Root: seenAt(9, 0).Root, Key: keys.KeyID{8}, Made: 300}}} {
		if err := k.Save(p, x.save); err != nil {
			t.Fatal(err)
		}
		if got, err := k.Load(p); err != nil || got == nil || *got != x.want {
			t.Errorf("after %+v: %+v, %v", x.save, got, err)
		}
	}
	if err := k.Replace(p, madeAt(9, 7, 150)); err != nil {
		t.Fatal(err)
	}
	if got, err := k.Load(p); err != nil || got == nil || *got != madeAt(9, 7, 150) {
		t.Errorf("what was to be begun anew: %+v, %v", got, err)
	}
}

func pathOf(i int) blocktree.Path { return blocktree.Path(fmt.Sprintf("/e1/vm/disk%d", i)) }

// isKept lists which of the first n paths are kept.
func isKept(t *testing.T, k *KeptRoots, n int) (kept []int) {
	t.Helper()
	for i := range n {
		s, err := k.Load(pathOf(i))
		if err != nil {
			t.Fatal(err)
		}
		if s != nil {
			kept = append(kept, i)
		}
	}
	return kept
}

// TestKeptRootsAreBounded: where there are as many as may be, those of whose files most are kept make room, the one that was opened longest ago first; those of others stay, and so does what is opened now and then.
func TestKeptRootsAreBounded(t *testing.T) {
	const most, many = 32, 100
	dir := t.TempDir()
	k := KeepRoots(vfs.Disk{}, dir)
	k.most = most
	old := func(i int, by time.Duration) {
		if err := os.Chtimes(k.Where(pathOf(i)), time.Time{}, time.Now().Add(-by)); err != nil {
			t.Fatal(err)
		}
	}
	save := func(i int, owner uint32) {
		if err := k.Save(pathOf(i), madeAt(9, owner, 5)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		save(i, 1)
		old(i, 1000*time.Hour)
	}
	for i := 3; i < many; i++ {
		save(i, 2)
		old(i, time.Duration(200-i)*time.Hour)
		save(3, 2) // which is opened now and then: it is written anew once a day
		if got := len(isKept(t, k, many)); got > most {
			t.Fatalf("%d are kept", got)
		}
	}
	got := isKept(t, k, many)
	if len(got) < most-most/16 || got[0] != 0 || got[1] != 1 || got[2] != 2 || got[3] != 3 || got[4] < many-most {
		t.Errorf("%v are kept", got)
	}
	if err := os.WriteFile(k.Where(pathOf(500))+newSuffix, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	next := KeepRoots(vfs.Disk{}, dir) // the next process counts what is there
	next.most = most
	if err := next.Save(pathOf(many), madeAt(9, 2, 5)); err != nil {
		t.Fatal(err)
	}
	if got := len(isKept(t, next, many+1)); got > most {
		t.Errorf("%d are kept after another process", got)
	}
	if _, err := os.Stat(k.Where(pathOf(500)) + newSuffix); err == nil {
		t.Error("what somebody left half done stays")
	}
}

// TestKeptRootsCrash: whatever step of a save fails, one that makes room too, and whatever the power leaves of it: each root that is kept is whole, no more are than may be, what was saved stays, and a path has what it
// had or what was to be.
func TestKeptRootsCrash(t *testing.T) {
	const most = 4
	was, is := madeAt(9, 7, 100), madeAt(12, 7, 200)
	for _, op := range []vfs.FaultOp{vfs.FaultCreate, vfs.FaultWrite, vfs.FaultSync, vfs.FaultRename, vfs.FaultSyncDir, vfs.FaultRemove} {
		for skip := range 4 {
			for seed := range uint64(8) {
				disk := vfs.NewCrash()
				k := KeepRoots(disk, "/roots")
				k.most = most
				for i := range most {
					if err := k.Save(pathOf(i), was); err != nil {
						t.Fatal(err)
					}
				}
				fault := vfs.NewFault(disk)
				fault.Inject(vfs.Injection{Op: op, Skip: skip, Times: -1})
				k = KeepRoots(fault, "/roots")
				k.most = most
				again, more := k.Save(pathOf(0), is), k.Save(pathOf(most), was)
				k = KeepRoots(disk.Clone(seed), "/roots")
				k.most = most
				got := isKept(t, k, most+1)
				first, err := k.Load(pathOf(0))
				if err != nil || len(got) > most || len(got) < most-1 {
					t.Fatalf("%v after %d, seed %d: %v are kept, %v", op, skip, seed, got, err)
				}
				if again == nil && first != nil && *first != is || first != nil && *first != is && *first != was {
					t.Fatalf("%v after %d, seed %d: it has %+v; saving said %v", op, skip, seed, first, again)
				}
				if last := got[len(got)-1]; more == nil && last != most {
					t.Fatalf("%v after %d, seed %d: %v are kept, without what was saved", op, skip, seed, got)
				}
				if err := k.Save(pathOf(most+1), is); err != nil {
					t.Fatalf("%v after %d, seed %d: nothing can be saved any more: %v", op, skip, seed, err)
				}
			}
		}
	}
}

// FuzzSeen decodes anything, and encodes what it could decode to the same bytes.
func FuzzSeen(f *testing.F) {
	f.Add(EncodeSeen("/e1/vm/disk0", seenAt(1, 2)))
	f.Add(EncodeSeen("/e1/vm/disk0", madeAt(1, 2, 3)))
	f.Fuzz(func(t *testing.T, text []byte) {
		if p, s, err := DecodeSeen(text); err == nil && string(EncodeSeen(p, s)) != string(text) {
			t.Fatal("another encoding")
		}
	})
}

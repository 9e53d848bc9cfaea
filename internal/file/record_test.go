package file

import (
	"errors"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/crypto/cred"
	"blocktree/crypto/keys"
	"blocktree/crypto/seal"
)

// memoryPins are pins that nothing outlives.
type memoryPins map[blocktree.Path]keys.Pin

func (m memoryPins) Pin(p blocktree.Path) (keys.Pin, bool, error) {
	seen, ok := m[p]
	return seen, ok, nil
}

func (m memoryPins) SetPin(p blocktree.Path, seen keys.Pin) error {
	m[p] = seen
	return nil
}

func (m memoryPins) Where(p blocktree.Path) string { return "the pin of " + string(p) }

// noPins are pins that cannot be read.
type noPins struct{ memoryPins }

func (noPins) Pin(blocktree.Path) (keys.Pin, bool, error) {
	return keys.Pin{}, false, blocktree.E("test", blocktree.IO, errors.New("no disk"))
}

// domain is a root principal that issues credentials.
type domain struct {
	t    *testing.T
	root cred.Key
}

func (d domain) key() cred.Key {
	k, err := cred.GenerateKey()
	if err != nil {
		d.t.Fatal(err)
	}
	return k
}

func (d domain) path(name string) blocktree.Path {
	return blocktree.RootPath(d.root.Principal()).Join(name)
}

// sign completes a record as a user of the domain.
func (d domain) sign(a *keys.Access, uid uint32) *keys.Access {
	key := d.key()
	chain, err := cred.Issue(d.root, nil, d.root.Principal(), cred.Grant{Subject: key.Public(), Path: d.path("somebody"), UID: uid,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)})
	if err != nil {
		d.t.Fatal(err)
	}
	a.Sign(time.Now(), chain.Encode(), key.Sign)
	return a
}

// TestRecordOf: what a cluster that lies may show, and what of it is gone by.
func TestRecordOf(t *testing.T) {
	d := domain{t: t}
	d.root = d.key()
	other := domain{t: t, root: d.key()}
	path := d.path("disk")
	made := func(name string) *keys.Access {
		a, _, err := keys.Create(uint8(seal.XAES256GCM), []keys.PublicKey{keys.NewReaderKey().Public()})
		if err != nil {
			t.Fatal(err)
		}
		a.Path, a.Owner = d.path(name), 7
		return a
	}
	inode := func(a *keys.Access) *meta.Inode {
		return &meta.Inode{Kind: meta.KindFile, Suite: uint8(seal.XAES256GCM), Access: a.Append(nil)}
	}
	unsigned := made("disk")
	unsigned.Number = 0
	for name, x := range map[string]struct {
		inode *meta.Inode
		want  blocktree.Kind
	}{
		"by its owner":       {inode(d.sign(made("disk"), 7)), blocktree.Other},
		"by user 0":          {inode(d.sign(made("disk"), 0)), blocktree.Other},
		"by another user":    {inode(d.sign(made("disk"), 8)), blocktree.Permission},
		"by another domain":  {inode(other.sign(made("disk"), 0)), blocktree.Unauthenticated},
		"by nobody":          {inode(made("disk")), blocktree.Unauthenticated},
		"of another file":    {inode(d.sign(made("other"), 7)), blocktree.Corrupt},
		"of format 1":        {inode(unsigned), blocktree.Other},
		"of another suite":   {&meta.Inode{Kind: meta.KindFile, Suite: 9, Access: d.sign(made("disk"), 7).Append(nil)}, blocktree.Corrupt},
		"of a directory now": {&meta.Inode{Kind: meta.KindDir, Suite: uint8(seal.XAES256GCM), Access: d.sign(made("disk"), 7).Append(nil)}, blocktree.Corrupt},
	} {
		pins := memoryPins{}
		if _, err := recordOf(path, x.inode, pins); (err == nil) != (x.want == blocktree.Other) || err != nil && blocktree.KindOf(err) != x.want {
			t.Errorf("%s: %v", name, err)
		} else if _, seen := pins[path]; seen != (err == nil) {
			t.Errorf("%s: seen %v", name, seen)
		}
	}
	pins := memoryPins{}
	first := d.sign(made("disk"), 7)
	second := d.sign(first.WithoutOlder(), 7)
	for _, x := range []struct {
		name string
		a    *keys.Access
		want blocktree.Kind
	}{{"the first", first, blocktree.Other}, {"the next", second, blocktree.Other}, {"the next again", second, blocktree.Other}, {"the first again", first, blocktree.Permission},
		{"an unsigned one", unsigned, blocktree.Permission}, {"another file's", d.sign(made("disk"), 7), blocktree.Permission}, {"the next still", second, blocktree.Other}} {
		_, err := recordOf(path, inode(x.a), pins)
		if (err == nil) != (x.want == blocktree.Other) || err != nil && (blocktree.KindOf(err) != x.want || blocktree.HintOf(err) == "") {
			t.Errorf("%s: %v", x.name, err)
		}
	}
	if _, err := recordOf(path, inode(second), noPins{}); blocktree.KindOf(err) != blocktree.IO {
		t.Errorf("what was seen cannot be read: %v", err)
	}
}

// TestRecordsThatMove: who has a file open goes by a record of another path if it comes after the one that it went by, of the same key id, by who may say so; by no other, and stays where it is.
func TestRecordsThatMove(t *testing.T) {
	d := domain{t: t}
	d.root = d.key()
	other := domain{t: t, root: d.key()}
	first, _, err := keys.Create(uint8(seal.XAES256GCM), []keys.PublicKey{keys.NewReaderKey().Public()})
	if err != nil {
		t.Fatal(err)
	}
	first.Path, first.Owner = d.path("disk"), 7
	d.sign(first, 7)
	show := func(u *unlocker, a *keys.Access) error {
		_, err := u.record(&meta.Inode{Kind: meta.KindFile, Suite: uint8(seal.XAES256GCM), Access: a.Append(nil)})
		return err
	}
	next := func(change func(*keys.Access)) *keys.Access {
		a := first.WithPath(d.path("moved"))
		change(a)
		return a
	}
	for name, x := range map[string]struct {
		record *keys.Access
		want   blocktree.Kind
	}{
		"by its owner":             {d.sign(next(func(*keys.Access) {}), 7), blocktree.Other},
		"by user 0":                {d.sign(next(func(a *keys.Access) { a.Owner = 9 }), 0), blocktree.Other},
		"some later":               {d.sign(next(func(a *keys.Access) { a.Number += 5 }), 7), blocktree.Other},
		"by another":               {d.sign(next(func(*keys.Access) {}), 8), blocktree.Permission},
		"by a new owner":           {d.sign(next(func(a *keys.Access) { a.Owner = 8 }), 8), blocktree.Permission},
		"by nobody":                {next(func(*keys.Access) {}), blocktree.Unauthenticated},
		"by a stranger":            {other.sign(next(func(*keys.Access) {}), 0), blocktree.Unauthenticated},
		"of another key":           {d.sign(next(func(a *keys.Access) { a.KeyID[0]++ }), 7), blocktree.Permission},
		"of the same time":         {d.sign(next(func(a *keys.Access) { a.Number-- }), 7), blocktree.Permission},
		"another domain's":         {other.sign(next(func(a *keys.Access) { a.Path = other.path("moved") }), 7), blocktree.Unauthenticated},
		"of our domain in another": {d.sign(next(func(a *keys.Access) { a.Path = other.path("moved") }), 7), blocktree.Corrupt},
	} {
		u := &unlocker{path: d.path("disk")}
		if err := show(u, first); err != nil {
			t.Fatal(err)
		}
		err := show(u, x.record)
		if (err == nil) != (x.want == blocktree.Other) || err != nil && blocktree.KindOf(err) != x.want {
			t.Errorf("%s: %v", name, err)
		}
		at := d.path("disk")
		if err == nil {
			at = d.path("moved")
			if err := show(u, first); blocktree.KindOf(err) != blocktree.Permission {
				t.Errorf("%s: and back again: %v", name, err)
			}
		}
		if u.path != at {
			t.Errorf("%s: it is at %s", name, u.path.Short())
		}
		if fresh := (&unlocker{path: d.path("disk")}); show(fresh, x.record) == nil {
			t.Errorf("%s: the record of another path is gone by at once", name)
		}
	}
}

// TestGenerations: a sector opens under the generation that its nonce names; one that seems to be of a later one by accident opens under 1; one of an unknown generation says so.
func TestGenerations(t *testing.T) {
	reader := keys.NewReaderKey()
	id := blocktree.FileID{Generation: 1, Inode: 9}
	v := blocktree.Version{Epoch: 1, Sequence: 1}
	a, key, err := keys.Create(uint8(seal.XAES256GCM), []keys.PublicKey{reader.Public()})
	if err != nil {
		t.Fatal(err)
	}
	first := newRing(a, keys.Ring{1: key}, seal.XAES256GCM, id)
	b, next, err := a.Rekey(keys.Ring{1: key}, []keys.PublicKey{reader.Public()})
	if err != nil {
		t.Fatal(err)
	}
	second := newRing(b, keys.Ring{1: key, 2: next}, seal.XAES256GCM, id)
	done := newRing(b.WithoutOlder(), keys.Ring{2: next}, seal.XAES256GCM, id)
	sealed := func(r *ring) ([]byte, []byte) {
		s, header := make([]byte, 512), make([]byte, seal.HeaderBytes)
		r.newest.Seal(s, make([]byte, 512), 3, v, header)
		return s, header
	}
	open := func(r *ring, sector, header []byte) (uint32, error) {
		return r.open(make([]byte, 512), [][]byte{sector}, 3, v, header)
	}
	old, oldHeader := sealed(first)
	now, nowHeader := sealed(second)
	for name, x := range map[string]struct {
		r              *ring
		sector, header []byte
		want           uint32 // 0: it does not open
	}{
		"old by the first": {first, old, oldHeader, 1}, "old by both": {second, old, oldHeader, 1}, "old by the last": {done, old, oldHeader, 0},
		"new by the first": {first, now, nowHeader, 0}, "new by both": {second, now, nowHeader, 2}, "new by the last": {done, now, nowHeader, 2},
	} {
		g, err := open(x.r, x.sector, x.header)
		if (err == nil) != (x.want != 0) || err == nil && g != x.want || err != nil && blocktree.KindOf(err) != blocktree.Corrupt {
			t.Errorf("%s: generation %d, %v", name, g, err)
		}
		if unknown := unknownGeneration(0); x.want == 0 && !errors.As(err, &unknown) {
			t.Errorf("%s does not say that there is no such key: %v", name, err)
		}
	}
	// A session of the version before that drew a prefix which names generation 2: here its sealer stands under 1.
	accident := seal.New(key.Sealing(a.KeyID, 2), seal.XAES256GCM, id, 2)
	r := &ring{generation: 2, newest: second.newest, sealers: map[uint32]*seal.Sealer{1: accident, 2: second.newest}}
	sector, header := make([]byte, 512), make([]byte, seal.HeaderBytes)
	accident.Seal(sector, make([]byte, 512), 3, v, header)
	if g, err := open(r, sector, header); g != 1 || err != nil {
		t.Errorf("it is of generation %d, %v", g, err)
	}
	sector[5] ^= 1
	if _, err := open(r, sector, header); blocktree.KindOf(err) != blocktree.Corrupt {
		t.Errorf("and damaged: %v", err)
	}
}

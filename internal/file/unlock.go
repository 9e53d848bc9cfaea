package file

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/crypto/keys"
	"blocktree/crypto/seal"
)

// unlocker opens the access records of one file with a reader's key, by way of the directories above where it is not wrapped to that itself.
type unlocker struct {
	client *cluster.Client
	reader *keys.ReaderKey
	plain  bool
	pins   Pins

	mu   sync.Mutex
	path blocktree.Path // of the file, as the newest record that was gone by says
	last *keys.Access   // that record; nil: none yet
}

// record is the access record of the file as it is now, which may have another path by then.
func (u *unlocker) record(inode *meta.Inode) (*keys.Access, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	path, err := u.moved(inode.Access)
	if err != nil {
		return nil, err
	}
	a, err := recordOf(path, inode, u.pins)
	if err == nil {
		u.path, u.last = path, a
	}
	return a, err
}

// moved is where a record says that the file is, where that is elsewhere and the record comes after the one that was gone by: of the same key id, by who may say so. Else it is where it was.
func (u *unlocker) moved(record []byte) (blocktree.Path, error) {
	if u.last == nil {
		return u.path, nil
	}
	a, err := keys.DecodeAccess(record)
	if err != nil || a.Number == 0 || a.Path == u.path {
		return u.path, err
	}
	return a.Path, followsTo(a, u.last.Pin(), u.path)
}

// followsTo fails unless a record of another path than before comes after the one that was seen there.
func followsTo(a *keys.Access, seen keys.Pin, before blocktree.Path) error {
	signer, err := a.Verify(a.Path, verifier(before))
	if err == nil && a.Path.Root() != before.Root() {
		err = blocktree.E("access record", blocktree.Corrupt, errors.New("it is of another domain"))
	}
	if err != nil {
		return err
	}
	return a.Follows(seen, signer)
}

// unlock opens the keys of a record: with the reader's key, or with that of a directory above which the reader opens.
func (u *unlocker) unlock(ctx context.Context, path blocktree.Path, a *keys.Access) (keys.Ring, error) {
	if u.reader == nil {
		return nil, &blocktree.Error{Op: "open", Kind: blocktree.Permission, Err: errors.New("the file is encrypted"),
			Hint: "the config names no reader key"}
	}
	if a.WrappedTo(u.reader.Public()) {
		return a.OpenAll(u.reader)
	}
	type directory struct {
		path   blocktree.Path
		access *keys.Access
	}
	var dirs []directory
	err := above(ctx, u.client, path.Parent(), u.pins, func(p blocktree.Path, a *keys.Access) (bool, error) {
		if a != nil {
			dirs = append(dirs, directory{p, a})
		}
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	known := []*keys.ReaderKey{u.reader}
	for _, d := range slices.Backward(dirs) { // from the root down
		k := keyFor(d.access, known)
		if k == nil {
			continue
		}
		ring, err := d.access.OpenAll(k)
		if err != nil {
			return nil, &blocktree.Error{Op: "open", Path: d.path.Short(), Err: err}
		}
		pairs, err := d.access.Pairs(ring)
		if err != nil {
			return nil, &blocktree.Error{Op: "open", Path: d.path.Short(), Err: err}
		}
		known = append(known, pairs...)
	}
	if k := keyFor(a, known); k != nil {
		return a.OpenAll(k)
	}
	return a.OpenAll(u.reader) // which says why not
}

// keyFor is the first key that a record is wrapped to, nil if none is.
func keyFor(a *keys.Access, known []*keys.ReaderKey) *keys.ReaderKey {
	for _, k := range known {
		if a.WrappedTo(k.Public()) {
			return k
		}
	}
	return nil
}

// ring unwraps the keys of the file.
func (u *unlocker) ring(ctx context.Context, inode *meta.Inode) (*ring, error) {
	if inode.Kind != meta.KindFile {
		return nil, &blocktree.Error{Op: "open", Kind: blocktree.Invalid, Err: errors.New("it is no file")}
	}
	suite, err := seal.SuiteOf(inode.Suite)
	if err != nil {
		return nil, err
	}
	if suite == seal.None && !u.plain {
		return nil, &blocktree.Error{Op: "open", Kind: blocktree.Permission, Err: errors.New("the file is not encrypted"),
			Hint: "say encryption: none for it where that is meant"}
	}
	if suite == seal.None && inode.Integrity != meta.IntegritySector {
		return nil, &blocktree.Error{Op: "open", Kind: blocktree.Invalid, Err: errors.New("a file of integrity tree is encrypted"), Hint: "make the file anew"}
	}
	if suite == seal.None {
		s := seal.New([32]byte{}, suite, inode.ID, 1)
		return &ring{generation: 1, newest: s, sealers: map[uint32]*seal.Sealer{1: s}}, nil
	}
	if u.reader == nil {
		return nil, &blocktree.Error{Op: "open", Kind: blocktree.Permission, Err: errors.New("the file is encrypted"),
			Hint: "the config names no reader key"}
	}
	a, err := u.record(inode)
	if err != nil {
		return nil, err
	}
	at := a.Path
	if a.Number == 0 { // it names none
		at = u.path
	}
	opened, err := u.unlock(ctx, at, a)
	if err != nil {
		return nil, err
	}
	r := newRing(a, opened, suite, inode.ID)
	if inode.Integrity == meta.IntegrityTree {
		r.pages = newRing(a, opened, suite, inode.CompanionInode().ID)
		r.integrity = map[uint32][keys.FileKeyBytes]byte{}
		for g, k := range opened {
			r.integrity[g] = k.Integrity(a.KeyID, g)
		}
	}
	return r, nil
}

// ring has the sealers of all generations of a file's key that an access record knows. It does not change.
type ring struct {
	access     *keys.Access // nil of a file that is not encrypted
	generation uint32       // under which is sealed
	newest     *seal.Sealer
	sealers    map[uint32]*seal.Sealer
	// pages and integrity are those of a tree file's companion and, by generation, its records (docs/design/0028).
	pages     *ring
	integrity map[uint32][keys.FileKeyBytes]byte
	// refused is why nothing may be sealed any more: the newest record is not wrapped to the reader.
	refused error
}

func newRing(a *keys.Access, opened keys.Ring, suite seal.Suite, id blocktree.FileID) *ring {
	r := &ring{access: a, generation: a.Generation, sealers: map[uint32]*seal.Sealer{}}
	for g, k := range opened {
		r.sealers[g] = seal.New(k.Sealing(a.KeyID, g), suite, id, g)
	}
	r.newest = r.sealers[a.Generation]
	return r
}

// number is that of the access record, 0 of a file that is not encrypted.
func (r *ring) number() uint64 {
	if r.access == nil {
		return 0
	}
	return r.access.Number
}

// older says whether sectors of other generations than the newest may be there.
func (r *ring) older() bool { return len(r.sealers) > 1 }

// unknownGeneration is why a sector does not open: there is no key of the generation that it names.
type unknownGeneration uint32

func (g unknownGeneration) Error() string {
	return fmt.Sprintf("sealed under generation %d of the key, which is not known", uint32(g))
}

// open opens a sector under the generation that its header names, and returns that. One of the version before may name any by accident, and is of generation 1.
func (r *ring) open(dst []byte, parts [][]byte, at blocktree.SectorIndex, v blocktree.Version, header []byte) (uint32, error) {
	g := r.generation
	if len(r.sealers) > 1 || g > 1 {
		g = seal.GenerationOf(header)
	}
	first := r.sealers[1]
	s := r.sealers[g]
	if s == nil {
		if first == nil {
			return 0, blocktree.E("open", blocktree.Corrupt, unknownGeneration(g))
		}
		s, g = first, 1
	}
	err := s.OpenParts(dst, parts, at, v, header)
	if err != nil && g != 1 && first != nil && first.OpenParts(dst, parts, at, v, header) == nil {
		return 1, nil
	}
	if err != nil && g == 1 && seal.GenerationOf(header) > r.generation {
		return 0, blocktree.E("open", blocktree.Corrupt, unknownGeneration(seal.GenerationOf(header)))
	}
	return g, err
}

package file

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/crypto/keys"
	"blocktree/crypto/seal"
)

// unlocker opens the access records of one path with a reader's key, by way of the directories above where it is not wrapped to that itself.
type unlocker struct {
	client *cluster.Client
	path   blocktree.Path
	reader *keys.ReaderKey
	plain  bool
	pins   Pins
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
		return nil, &blocktree.Error{Op: "open", Kind: blocktree.Invalid, Err: errors.New("it is a directory")}
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
	a, err := recordOf(u.path, inode, u.pins)
	if err != nil {
		return nil, err
	}
	opened, err := u.unlock(ctx, u.path, a)
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

package file

import (
	"errors"
	"fmt"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/crypto/keys"
)

// A file that was removed and made anew has another key, and an access record that was signed later, by who owned the one before or by user 0. Nobody else can make one: members that put an older file
// back, or an empty one under the key of before, have none (docs/design/0038).

// isOf says whether s is of a file with an access record: of the same key, as a cluster whose nodes went back in time gives the same identity twice.
func (s *Seen) isOf(id blocktree.FileID, a *keys.Access) bool {
	return s.File == id && (s.Made == 0 || a != nil && a.KeyID == s.Key)
}

// sameFile says whether both are of one file, as far as they know.
func (s *Seen) sameFile(other *Seen) bool {
	return s.File == other.File && (s.Made == 0 || other.Made == 0 || s.Key == other.Key)
}

// laterThan says whether s is of a file that came to its path after that of was: by when their access records were signed and, in the same second, by the order in which a cluster makes files.
func (s *Seen) laterThan(was *Seen) bool {
	if s.Made != was.Made {
		return s.Made > was.Made
	}
	return s.File.Generation == was.File.Generation && s.File.Inode > was.File.Inode
}

// replacedBy says why a file with an access record, which was verified, and that signer, is not one that was made in the place of the one that was seen; nil if it is.
func (s *Seen) replacedBy(id blocktree.FileID, a *keys.Access, signer keys.Signer) error {
	switch now := (&Seen{File: id, Made: a.Made}); {
	case s.Made == 0:
		return errors.New("what was kept of it does not say when it was made")
	case a.Number == 0:
		return errors.New("nobody has signed when it was made")
	case a.KeyID == s.Key:
		return errors.New("it has the key of the one before")
	case a.Owner != s.Owner && (a.Owner != 0 || signer.Anonymous || signer.UID != 0): // what user 0 signs in somebody else's name, as a filesystem service does for whoever asks, is somebody else's
		return fmt.Errorf("it is of user %d, the one before was of user %d", a.Owner, s.Owner)
	case !now.laterThan(s):
		return errors.New("its access record is not later than that of the one before")
	}
	return nil
}

// madeAnew refuses another file than was seen at a path, unless it was made anew there.
func madeAnew(path blocktree.Path, seen *Seen, inode *meta.Inode, a *keys.Access, o *OpenOptions) error {
	if a == nil {
		return anotherFile(path, seen, inode, o, errors.New("it has no access record"))
	}
	signer := keys.Signer{Anonymous: true}
	if a.Number > 0 {
		var err error
		if signer, err = a.Verify(path, verifier(path)); err != nil {
			return err
		}
	}
	if why := seen.replacedBy(inode.ID, a, signer); why != nil {
		return anotherFile(path, seen, inode, o, why)
	}
	return nil
}

// anotherFile is the rollback of a path that had another file.
func anotherFile(path blocktree.Path, seen *Seen, inode *meta.Inode, o *OpenOptions, why error) error {
	hint := "the nodes' disks, or some of them, have gone back in time, or somebody put another file there: bring the newer ones back; a file that was made anew has a tree, a key of its own, and a later access record, by who owned the one before, or of user 0; " +
		"if it was done on purpose, " + o.Roots.Forgotten(path)
	return rollback(hint, "it was another file, %v, when it was last opened here; now it is %v, and no newer one: %w", seen.File, inode.ID, why)
}

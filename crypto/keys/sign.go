package keys

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"blocktree"
)

// Sign completes a record: signer is the credentials of whoever holds the key that sign signs with.
func (a *Access) Sign(made time.Time, signer []byte, sign func(message []byte) []byte) {
	a.Made, a.Signer = made.Unix(), signer
	a.Signature = sign(a.Signed())
}

// Signer is what credentials say of who signed a record.
type Signer struct {
	UID       uint32
	Anonymous bool // then the user id says nothing
}

// Verifier checks the signature over message of whoever held the credentials at a time, and returns what they say.
type Verifier func(credentials, message, signature []byte, made time.Time) (Signer, error)

// Verify says whether a record is that of the file or directory at path, and whether who signed it may say who reads that. One of the first format was signed by nobody: kind
// Unauthenticated, as for all else that is wrong with a signature; Permission for a signer who may not, Corrupt for the record of another path.
func (a *Access) Verify(path blocktree.Path, verify Verifier) (Signer, error) {
	const op = "keys.Verify"
	if len(a.Signature) == 0 {
		return Signer{}, blocktree.E(op, blocktree.Unauthenticated, errors.New("the access record is signed by nobody"))
	}
	s, err := verify(a.Signer, a.Signed(), a.Signature, time.Unix(a.Made, 0))
	switch {
	case err != nil:
		return Signer{}, &blocktree.Error{Op: op, Kind: blocktree.Unauthenticated, Err: fmt.Errorf("the access record: %w", err)}
	case a.Path != path:
		return Signer{}, blocktree.E(op, blocktree.Corrupt, fmt.Errorf("the access record is that of %s", a.Path.Short()))
	case s.Anonymous || s.UID != 0 && s.UID != a.Owner:
		return Signer{}, blocktree.E(op, blocktree.Permission, fmt.Errorf("the access record is signed by user %d, its owner is %d", s.UID, a.Owner))
	}
	return s, nil
}

// Pin is what a client remembers of the newest record of a path that it has gone by.
type Pin struct {
	Number uint64
	KeyID  KeyID
	Owner  uint32
	Digest [sha256.Size]byte
}

// Pin is that of the record.
func (a *Access) Pin() Pin {
	return Pin{Number: a.Number, KeyID: a.KeyID, Owner: a.Owner, Digest: sha256.Sum256(a.Append(nil))}
}

// Follows says whether a record whose signer was verified may come after the one that p is of: kind Permission if not.
func (a *Access) Follows(p Pin, signer Signer) error {
	const op = "keys.Follows"
	now := a.Pin()
	bad := func(format string, args ...any) error {
		return blocktree.E(op, blocktree.Permission, fmt.Errorf(format, args...))
	}
	switch {
	case now == p:
		return nil
	case now.KeyID != p.KeyID:
		return bad("it is another file than was last seen here, or one that was made anew")
	case now.Number < p.Number:
		return bad("the access record has number %d, older than %d, which was seen here", now.Number, p.Number)
	case now.Number == p.Number:
		return bad("there are two access records of number %d", now.Number)
	case p.Number > 0 && now.Owner != p.Owner && (signer.Anonymous || signer.UID != 0 && signer.UID != p.Owner):
		return bad("the file's owner was user %d and is %d, and neither that user nor user 0 has signed that", p.Owner, now.Owner)
	}
	return nil
}

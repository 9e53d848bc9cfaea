package parts

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
)

const (
	// IssueMax is the longest time that credentials are issued for. A revocation is kept for as long: all that was issued before has ended then.
	IssueMax = 10 * 366 * 24 * time.Hour
	// issueEarlyMax is how long before they are issued credentials begin to be valid, at most, for clocks that differ; never more than a tenth of
	// their time.
	issueEarlyMax = 5 * time.Minute
)

// Issuer issues credentials: the root principal, or an intermediate.
type Issuer struct {
	key   cred.Key
	chain cred.Credentials
	root  blocktree.Principal
	me    cred.Identity // zero: the root principal
}

// NewIssuer makes one of a key and of what was issued to it, which is nothing if it is the root principal's. It fails with Unauthenticated
// where they do not belong together or are not valid now.
func NewIssuer(key cred.Key, chain cred.Credentials, now time.Time) (*Issuer, error) {
	i := &Issuer{key: key, chain: chain, root: key.Principal()}
	if len(chain) == 0 {
		return i, nil
	}
	i.root = chain.Root()
	me, err := cred.Verify(chain, i.root, now)
	if err != nil {
		return nil, &blocktree.Error{Op: "issuer", Err: err}
	}
	if me.Principal != key.Principal() {
		return nil, &blocktree.Error{Op: "issuer", Path: me.Path.Short(), Kind: blocktree.Unauthenticated, Err: errors.New("the issuer's credentials are those of another key"),
			Hint: "give the key and the credentials that were issued for it"}
	}
	i.me = me
	return i, nil
}

// Request is what is to be issued.
type Request struct {
	Subject  ed25519.PublicKey
	Path     string // short, or with the root principal
	UID, GID uint32
	Groups   []uint32
	Services []string
	Reader   string
	Valid    time.Duration // at most IssueMax
}

// Issue issues credentials that are valid from now on, or from a little before. They end no later than the issuer's own: cut says that they
// would have. It fails as cred.Issue does, with hints, and with Invalid for a time that is not possible.
func (i *Issuer) Issue(r Request, now time.Time) (chain cred.Credentials, cut bool, err error) {
	if r.Valid < time.Second || r.Valid > IssueMax {
		return nil, false, &blocktree.Error{Op: "issue", Kind: blocktree.Invalid, Err: fmt.Errorf("valid for %v", r.Valid),
			Hint: "credentials are valid for a second at least and ten years at most"}
	}
	path, err := blocktree.ParsePath(r.Path, i.root)
	if err != nil {
		return nil, false, err
	}
	until := now.Add(r.Valid)
	if !i.me.Anonymous() && until.After(i.me.NotAfter) {
		until, cut = i.me.NotAfter, true
	}
	chain, err = cred.Issue(i.key, i.chain, i.root, cred.Grant{Subject: r.Subject, Path: path, UID: r.UID, GID: r.GID, Groups: r.Groups, Services: r.Services,
		Reader: r.Reader, NotBefore: now.Add(-min(issueEarlyMax, r.Valid/10)), NotAfter: until})
	if err != nil {
		hint := ""
		if !i.me.Anonymous() {
			hint = fmt.Sprintf("the issuer is at %s with user id %d, group %d %v and services %v: what it issues lies at or below that and has no more", i.me.Path.Short(), i.me.UID, i.me.GID, i.me.Groups, i.me.Services)
		}
		return nil, false, &blocktree.Error{Op: "issue", Path: path.Short(), Err: err, Hint: hint}
	}
	return chain, cut, nil
}

// Attributes are the user and group ids of the issuer, and whether it may give others.
func (i *Issuer) Attributes() (uid, gid uint32, any bool) { return i.me.UID, i.me.GID, i.me.UID == 0 }

package cred

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"blocktree"
	"blocktree/internal/wire"
)

// Credentials are the links from a domain's root principal to a runtime, the root's first. Empty credentials are
// those of an anonymous caller. They must not be changed once made.
type Credentials []Certificate

// Identity is what verified credentials say of a runtime. The zero Identity is an anonymous caller: its UID 0 means nobody,
// not the user who may do everything, so ask Anonymous before UID. Its slices must not be changed.
type Identity struct {
	Principal blocktree.Principal
	Path      blocktree.Path
	UID, GID  uint32
	Groups    []uint32
	Services  []string
	NotBefore time.Time // when the last link began to be valid, and
	NotAfter  time.Time // when the first link ends; who holds a connection closes it then
	Reader    string    // as in Certificate: the last link's
	// Chain are the principals of all links, the runtime's own last; the root principal is not among them. To revoke one of them is to
	// revoke the identity.
	Chain []blocktree.Principal
}

// Anonymous reports whether nobody in particular is meant.
func (i Identity) Anonymous() bool { return i.Principal.IsZero() }

// Allows reports whether the runtime may register the service.
func (i Identity) Allows(service string) bool { return slices.Contains(i.Services, service) }

// soonMax and soonShare say when credentials end soon: when less than a tenth of their time is left, and less than a week.
const (
	soonMax   = 7 * 24 * time.Hour
	soonShare = 10
)

// EndsSoon reports whether new credentials are due. Those of an anonymous caller never end.
func (i Identity) EndsSoon(now time.Time) bool {
	return !i.Anonymous() && i.NotAfter.Sub(now) < min(i.NotAfter.Sub(i.NotBefore)/soonShare, soonMax)
}

// Root returns the principal that the chain starts from, the zero Principal for empty credentials.
func (c Credentials) Root() blocktree.Principal {
	if len(c) == 0 {
		return blocktree.Principal{}
	}
	return blocktree.PrincipalOf(c[0].Issuer)
}

// Encode returns the wire form of the credentials: a version byte, the number of links, the links.
func (c Credentials) Encode() []byte {
	var e wire.Encoder
	e.U8(formatCredentials)
	e.U16(uint16(len(c)))
	for i := range c {
		c[i].encode(&e)
	}
	return e.Buf
}

// Decode reads what Encode wrote; it keeps nothing of in. The links have the right form and are not yet verified.
// It fails with Invalid, TooLarge, Unsupported or NewerFormat.
func Decode(in []byte) (Credentials, error) {
	if len(in) > blocktree.CredentialBytesMax {
		return nil, blocktree.E("cred.Decode", blocktree.TooLarge,
			fmt.Errorf("%d bytes, at most %d", len(in), blocktree.CredentialBytesMax))
	}
	d := wire.NewDecoder(in)
	d.Format(formatCredentials)
	n := int(d.U16())
	if n > blocktree.CredentialLinksMax {
		d.Fail(blocktree.E("decode", blocktree.TooLarge, fmt.Errorf("%d links, at most %d", n, blocktree.CredentialLinksMax)))
	}
	var c Credentials
	for ; n > 0 && d.Err() == nil; n-- {
		c = append(c, decodeCertificate(d))
	}
	if err := d.Finish(); err != nil {
		return nil, &blocktree.Error{Op: "cred.Decode", Err: err}
	}
	return c, nil
}

// Save writes the credentials to a new file. They are no secret. It fails with Exists or IO.
func (c Credentials) Save(file string) error {
	return save("cred.Credentials.Save", file, pemCredentials, c.Encode(), 0o644)
}

// Replace is Save in the place of what the file had before: whoever reads it finds the one or the other.
func (c Credentials) Replace(file string) error {
	work := file + ".new"
	if err := os.Remove(work); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fileError("cred.Credentials.Replace", work, err)
	}
	if err := c.Save(work); err != nil {
		return err
	}
	err := os.Rename(work, file)
	if err == nil {
		err = syncDirectory(filepath.Dir(file))
	}
	if err != nil {
		return fileError("cred.Credentials.Replace", file, err)
	}
	return nil
}

// Load reads a file that Credentials.Save wrote. It fails with NotFound, Invalid, TooLarge, NewerFormat or IO.
func Load(file string) (Credentials, error) {
	der, err := load("cred.Load", file, pemCredentials)
	if err != nil {
		return nil, err
	}
	c, err := Decode(der)
	if err != nil {
		return nil, &blocktree.Error{Op: "cred.Load", Path: file, Err: err}
	}
	return c, nil
}

// authority is what the holder of a key may say of others.
type authority struct {
	key      ed25519.PublicKey
	path     blocktree.Path
	all      bool // the root principal: every service, every attribute
	uid, gid uint32
	groups   []uint32
	services []string
}

// authority is what the subject of the link may say.
func (c *Certificate) authority() authority {
	return authority{key: c.Subject, path: c.Path, uid: c.UID, gid: c.GID, groups: c.Groups, services: c.Services}
}

// permits reports why a may not have issued c, nil if it may. It does not look at the signature or the time.
func (a authority) permits(c *Certificate) error {
	deny := func(why string) error {
		return &blocktree.Error{Op: "certificate", Path: string(c.Path), Kind: blocktree.Unauthenticated, Err: errors.New(why)}
	}
	if !slices.Equal(a.key, c.Issuer) {
		return deny("issued by another key than the one above it")
	}
	if !c.Path.Within(a.path) {
		return deny("its issuer speaks for " + string(a.path) + " only")
	}
	if a.all {
		return nil
	}
	for _, s := range c.Services {
		if !slices.Contains(a.services, s) {
			return deny("its issuer does not have service " + s)
		}
	}
	if a.uid == 0 {
		return nil
	}
	if c.UID != a.uid {
		return deny(fmt.Sprintf("user id %d, its issuer has %d", c.UID, a.uid))
	}
	for _, g := range append([]uint32{c.GID}, c.Groups...) {
		if g != a.gid && !slices.Contains(a.groups, g) {
			return deny(fmt.Sprintf("its issuer is not in group %d", g))
		}
	}
	return nil
}

// Verify checks the chain from the root principal to its last link at the time now, and returns what it says. The
// caller has to know that the peer holds the key of the identity's principal: TLS proves that. It fails with
// Unauthenticated, Invalid for a malformed link, or TooLarge.
func Verify(chain Credentials, root blocktree.Principal, now time.Time) (Identity, error) {
	id, err := chain.verify(root, func(c *Certificate) error {
		if s := now.Unix(); s < c.NotBefore || s > c.NotAfter {
			return &blocktree.Error{Op: "certificate", Path: string(c.Path), Kind: blocktree.Unauthenticated,
				Err: fmt.Errorf("valid from %v to %v, now it is %v", time.Unix(c.NotBefore, 0).UTC(),
					time.Unix(c.NotAfter, 0).UTC(), now.UTC()),
				Hint: "look at the clocks of both machines, then issue new credentials"}
		}
		return nil
	})
	if err != nil {
		return Identity{}, &blocktree.Error{Op: "cred.Verify", Err: err}
	}
	return id, nil
}

// VerifyForm is Verify at no particular time: what the links say is signed and allowed, whether or not it is over.
func VerifyForm(chain Credentials, root blocktree.Principal) (Identity, error) {
	id, err := chain.verify(root, func(*Certificate) error { return nil })
	if err != nil {
		return Identity{}, &blocktree.Error{Op: "cred.VerifyForm", Err: err}
	}
	return id, nil
}

// verify applies all rules but that of time, which it leaves to valid.
func (c Credentials) verify(root blocktree.Principal, valid func(*Certificate) error) (Identity, error) {
	if len(c) == 0 {
		return Identity{}, blocktree.E("credentials", blocktree.Unauthenticated, errors.New("there are none"))
	}
	if len(c) > blocktree.CredentialLinksMax {
		return Identity{}, blocktree.E("credentials", blocktree.TooLarge,
			fmt.Errorf("%d links, at most %d", len(c), blocktree.CredentialLinksMax))
	}
	if blocktree.PrincipalOf(c[0].Issuer) != root {
		return Identity{}, blocktree.E("credentials", blocktree.Unauthenticated,
			fmt.Errorf("issued by %v, the root principal is %v", blocktree.PrincipalOf(c[0].Issuer), root))
	}
	by := authority{key: c[0].Issuer, path: blocktree.RootPath(root), all: true}
	begins, ends := c[0].NotBefore, c[0].NotAfter
	principals := make([]blocktree.Principal, 0, len(c))
	for i := range c {
		link := &c[i]
		if err := link.validate(); err != nil {
			return Identity{}, err
		}
		if err := by.permits(link); err != nil {
			return Identity{}, err
		}
		if !ed25519.Verify(link.Issuer, link.signed(), link.Signature) {
			return Identity{}, &blocktree.Error{Op: "certificate", Path: string(link.Path),
				Kind: blocktree.Unauthenticated, Err: errors.New("bad signature")}
		}
		if err := valid(link); err != nil {
			return Identity{}, err
		}
		by, begins, ends = link.authority(), max(begins, link.NotBefore), min(ends, link.NotAfter)
		principals = append(principals, blocktree.PrincipalOf(link.Subject))
	}
	last := &c[len(c)-1]
	return Identity{Principal: blocktree.PrincipalOf(last.Subject), Path: last.Path, UID: last.UID, GID: last.GID,
		Groups: last.Groups, Services: last.Services, NotBefore: time.Unix(begins, 0), NotAfter: time.Unix(ends, 0),
		Reader: last.Reader, Chain: principals}, nil
}

// Issue returns the issuer's chain with one more link, signed by the issuer. The root principal's own chain is empty.
// It refuses, with the kinds of Verify, what Verify would refuse at any time.
func Issue(issuer Key, issuerChain Credentials, root blocktree.Principal, g Grant) (Credentials, error) {
	const op = "cred.Issue"
	if issuer.IsZero() {
		return nil, blocktree.E(op, blocktree.Invalid, errors.New("no key"))
	}
	link := g.certificate(issuer.Public())
	if err := link.validate(); err != nil {
		return nil, &blocktree.Error{Op: op, Err: err}
	}
	link.Signature = ed25519.Sign(issuer.private(), link.signed())
	chain := append(slices.Clone(issuerChain), link)
	if _, err := chain.verify(root, func(*Certificate) error { return nil }); err != nil {
		return nil, &blocktree.Error{Op: op, Err: err}
	}
	if n := len(chain.Encode()); n > blocktree.CredentialBytesMax {
		return nil, blocktree.E(op, blocktree.TooLarge, fmt.Errorf("%d bytes, at most %d", n, blocktree.CredentialBytesMax))
	}
	return chain, nil
}

package cred

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"blocktree"
	"blocktree/internal/wire"
)

// formatCertificate is the version byte of an encoded certificate, formatCredentials that of a chain.
const (
	formatCertificate       = 1
	formatCertificateReader = 2 // of a link with a reader's key; all others are of format 1, so that versions before read them
	formatCredentials       = 1
)

// keyEd25519 is the algorithm byte before a public key, the same letter that a principal starts with.
const keyEd25519 = 'e'

// Bounds of one certificate, chosen so that a chain of the longest useful paths fits CredentialBytesMax.
const (
	GroupsMax       = 64
	ServicesMax     = 32
	ServiceBytesMax = 64
	ReaderBytesMax  = 2560 // an ML-KEM-768 and X25519 key in base32, and some
)

// unixSecondsMax is the end of the year 9999. A time far beyond it overflows package time and lies in the past: the link
// would be valid, and every connection that it opened would end at once.
const unixSecondsMax = 253402300799

// signatureContext keeps a signature over a certificate from meaning anything else.
const signatureContext = "blocktree certificate\x00"

// Certificate is one link: Issuer says that Subject is at Path, with these attributes, from NotBefore to NotAfter
// (unix seconds, both included). Groups and Services are sorted and have no duplicates.
type Certificate struct {
	Issuer    ed25519.PublicKey
	Subject   ed25519.PublicKey
	Path      blocktree.Path
	UID, GID  uint32
	Groups    []uint32
	Services  []string
	NotBefore int64
	NotAfter  int64
	// Reader is the public key that what Subject may read is wrapped to, as crypto/keys spells it; "" where the link says none.
	Reader    string
	Signature []byte
}

// Grant is what an issuer says of a subject. The order of Groups and Services and the sub-second parts of the times
// do not matter.
type Grant struct {
	Subject             ed25519.PublicKey
	Path                blocktree.Path
	UID, GID            uint32
	Groups              []uint32
	Services            []string
	NotBefore, NotAfter time.Time
	Reader              string // as in Certificate
}

// certificate makes an unsigned link.
func (g Grant) certificate(issuer ed25519.PublicKey) Certificate {
	c := Certificate{Issuer: issuer, Subject: g.Subject, Path: g.Path, UID: g.UID, GID: g.GID,
		Groups: slices.Clone(g.Groups), Services: slices.Clone(g.Services),
		NotBefore: g.NotBefore.Unix(), NotAfter: g.NotAfter.Unix(), Reader: g.Reader}
	slices.Sort(c.Groups)
	slices.Sort(c.Services)
	c.Groups = slices.Compact(c.Groups)
	c.Services = slices.Compact(c.Services)
	return c
}

// validate refuses a link that no issuer should have signed, whoever that was. Decoding ends with it.
func (c *Certificate) validate() error {
	bad := func(why string) error {
		return &blocktree.Error{Op: "certificate", Path: string(c.Path), Kind: blocktree.Invalid, Err: errors.New(why)}
	}
	clean, err := blocktree.ParsePath(string(c.Path), blocktree.Principal{})
	if err != nil {
		return err
	}
	switch {
	case clean != c.Path:
		return bad("path is not clean")
	case len(c.Issuer) != ed25519.PublicKeySize || len(c.Subject) != ed25519.PublicKeySize:
		return bad("not an Ed25519 key")
	case c.NotAfter < c.NotBefore:
		return bad("ends before it begins")
	case c.NotAfter > unixSecondsMax:
		return bad("ends after the year 9999")
	case len(c.Groups) > GroupsMax || len(c.Services) > ServicesMax:
		return bad(fmt.Sprintf("%d groups and %d services, at most %d and %d",
			len(c.Groups), len(c.Services), GroupsMax, ServicesMax))
	case !readerForm(c.Reader):
		return bad("not the form of a reader's public key")
	case !ascending(c.Groups) || !ascending(c.Services):
		return bad("groups or services are not in order")
	}
	for _, s := range c.Services {
		if s == "" || len(s) > ServiceBytesMax {
			return bad(fmt.Sprintf("%q is not the name of a service", s))
		}
	}
	return nil
}

// readerForm reports whether s could be a key that crypto/keys reads, which is all that is asked here.
func readerForm(s string) bool {
	return len(s) <= ReaderBytesMax && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// ascending reports whether s is sorted without duplicates.
func ascending[T uint32 | string](s []T) bool {
	for i := 1; i < len(s); i++ {
		if s[i-1] >= s[i] {
			return false
		}
	}
	return true
}

// encodeBody appends all but the signature, which is over signatureContext and this.
func (c *Certificate) encodeBody(e *wire.Encoder) {
	format := uint8(formatCertificate)
	if c.Reader != "" {
		format = formatCertificateReader
	}
	e.U8(format)
	e.U8(keyEd25519)
	e.Raw(c.Issuer)
	e.U8(keyEd25519)
	e.Raw(c.Subject)
	e.String(string(c.Path))
	e.U32(c.UID)
	e.U32(c.GID)
	e.U32(uint32(len(c.Groups)))
	for _, g := range c.Groups {
		e.U32(g)
	}
	e.U32(uint32(len(c.Services)))
	for _, s := range c.Services {
		e.String(s)
	}
	e.U64(uint64(c.NotBefore))
	e.U64(uint64(c.NotAfter))
	if c.Reader != "" {
		e.String(c.Reader)
	}
}

// signed returns what the issuer signs.
func (c *Certificate) signed() []byte {
	e := wire.Encoder{Buf: []byte(signatureContext)}
	c.encodeBody(&e)
	return e.Buf
}

// encode appends the link.
func (c *Certificate) encode(e *wire.Encoder) {
	c.encodeBody(e)
	e.Raw(c.Signature)
}

// decodeKey reads an algorithm byte and a public key.
func decodeKey(d *wire.Decoder) ed25519.PublicKey {
	if a := d.U8(); a != keyEd25519 && d.Err() == nil {
		d.Fail(blocktree.E("decode", blocktree.Unsupported, fmt.Errorf("key algorithm %d", a)))
	}
	return slices.Clone(d.Raw(ed25519.PublicKeySize))
}

// decodeCertificate reads a link, copying what it keeps. It is checked for form, not for its signature.
func decodeCertificate(d *wire.Decoder) Certificate {
	format := d.U8()
	switch {
	case format > formatCertificateReader:
		d.Fail(blocktree.E("decode", blocktree.NewerFormat, fmt.Errorf("a certificate of format %d, this software reads up to %d", format, formatCertificateReader)))
	case format == 0:
		d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New("a certificate of format 0")))
	}
	c := Certificate{Issuer: decodeKey(d), Subject: decodeKey(d), Path: blocktree.Path(d.String(blocktree.PathBytesMax))}
	c.UID, c.GID = d.U32(), d.U32()
	for n := d.Count(GroupsMax); n > 0 && d.Err() == nil; n-- {
		c.Groups = append(c.Groups, d.U32())
	}
	for n := d.Count(ServicesMax); n > 0 && d.Err() == nil; n-- {
		c.Services = append(c.Services, d.String(ServiceBytesMax))
	}
	c.NotBefore, c.NotAfter = int64(d.U64()), int64(d.U64())
	if format == formatCertificateReader {
		if c.Reader = d.String(ReaderBytesMax); c.Reader == "" && d.Err() == nil {
			d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New("no reader's key in a link that has one")))
		}
	}
	c.Signature = slices.Clone(d.Raw(ed25519.SignatureSize))
	if d.Err() == nil {
		if err := c.validate(); err != nil {
			d.Fail(err)
		}
	}
	return c
}

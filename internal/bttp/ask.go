package bttp

import (
	"errors"
	"slices"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/internal/wire"
)

// An ask is what a dialer signs who cannot dial a runtime and wants another way to it: docs/design/0034-firewalls.md. This file has what it says, back.go
// and legs.go what each end and whoever is between do.

// Way is how a connection came about.
type Way string

// The ways.
const (
	Direct     Way = "direct"       // one side dialled the other
	DialedBack Way = "dialled back" // who was asked for dialled the asker
	Relayed    Way = "relayed"      // others pass its bytes on
	Punched    Way = "punched"      // both sides opened their firewalls for each other at one moment
)

// Mode is what an ask asks for. Modes are append-only.
type Mode uint8

// The modes.
const (
	AskBack  Mode = 1 // dial me
	AskRelay Mode = 2 // pass on what I send
	AskPunch Mode = 3 // dial me through the hole that I make, at the port that I have outside, while you make one
)

// formatAsk is the version byte of an ask.
const formatAsk = 1

// askContext begins what is signed.
const askContext = "blocktree ask\x00"

// AskBytesMax bounds an encoded ask.
const AskBytesMax = blocktree.CredentialBytesMax + blocktree.PathBytesMax + 256

// askToken names an ask, and the carriers that come of it. Whoever draws it draws it at random.
type askToken = connID

// Ask is a signed wish for a way to a runtime. It names no address: only ports, at the host that the asker is seen at.
type Ask struct {
	Mode   Mode
	Token  [16]byte
	Path   blocktree.Path      // of who is asked for
	Target blocktree.Principal // the same
	TCP    uint16              // port on which the asker takes carriers, 0: none
	UDP    uint16              // likewise
	Lanes  int
	Time   time.Time // by the asker's clock

	chain     []byte // encoded
	signature []byte
}

// signed is what the signature is over.
func (a *Ask) signed() []byte {
	var e wire.Encoder
	e.Raw([]byte(askContext))
	a.encodeBody(&e)
	return e.Buf
}

func (a *Ask) encodeBody(e *wire.Encoder) {
	e.U8(formatAsk)
	e.U8(uint8(a.Mode))
	e.Raw(a.Token[:])
	e.String(string(a.Path))
	e.Raw(a.Target[:])
	e.U16(a.TCP)
	e.U16(a.UDP)
	e.U8(uint8(a.Lanes))
	e.U64(uint64(a.Time.UnixNano()))
}

// Encode returns the ask as DecodeAsk reads it.
func (a *Ask) Encode() []byte {
	var e wire.Encoder
	a.encodeBody(&e)
	e.Bytes(a.chain)
	e.Bytes(a.signature)
	return e.Buf
}

// signatureBytesMax bounds a signature; that of Ed25519 is 64 bytes long.
const signatureBytesMax = 128

// DecodeAsk reads an ask. It keeps nothing of b, and verifies nothing. Kinds: Invalid, TooLarge, NewerFormat.
func DecodeAsk(b []byte) (*Ask, error) {
	var a Ask
	d := wire.NewDecoder(b)
	d.Format(formatAsk)
	a.Mode = Mode(d.U8())
	copy(a.Token[:], d.Raw(len(a.Token)))
	a.Path = blocktree.Path(d.String(blocktree.PathBytesMax))
	copy(a.Target[:], d.Raw(len(a.Target)))
	a.TCP, a.UDP = d.U16(), d.U16()
	a.Lanes = int(d.U8())
	a.Time = time.Unix(0, int64(d.U64()))
	a.chain = slices.Clone(d.Bytes(blocktree.CredentialBytesMax))
	a.signature = slices.Clone(d.Bytes(signatureBytesMax))
	if d.Err() == nil {
		if err := a.validate(); err != nil {
			d.Fail(err)
		}
	}
	if err := d.Finish(); err != nil {
		return nil, &blocktree.Error{Op: "ask", Err: err}
	}
	return &a, nil
}

// validate checks the form.
func (a *Ask) validate() error {
	bad := func(why string) error { return blocktree.E("ask", blocktree.Invalid, errors.New(why)) }
	path, err := blocktree.ParsePath(string(a.Path), a.Path.Root())
	switch {
	case err != nil || path != a.Path || a.Path.Root().IsZero():
		return bad("no path with a root principal")
	case a.Target.IsZero():
		return bad("nobody is asked for")
	case a.Lanes < 1 || a.Lanes > blocktree.AskLanesMax:
		return bad("so many lanes are not given")
	case a.Mode == AskBack && a.TCP == 0 && a.UDP == 0, a.Mode == AskPunch && (a.TCP != 0 || a.UDP == 0):
		return bad("no port to dial back to")
	}
	return nil
}

// sign completes an ask.
func (a *Ask) sign(key cred.Key, chain cred.Credentials) {
	a.chain = chain.Encode()
	a.signature = key.Sign(a.signed())
}

// VerifyAsk returns who asks. It fails with Unauthenticated where nobody of the domain has signed this, or for an ask that is not of now; Unsupported for a mode that is
// not known here.
func (e *Endpoint) VerifyAsk(a *Ask) (cred.Identity, error) {
	now := e.now()
	if d := now.Sub(a.Time); d > blocktree.AskTimeMax || d < -blocktree.AskTimeMax {
		return cred.Identity{}, &blocktree.Error{Op: "ask", Kind: blocktree.Unauthenticated, Err: errors.New("the ask is not of now"),
			Hint: "are the clocks of both machines right?"}
	}
	id, err := cred.VerifySigned(a.chain, e.config.Root, a.signed(), a.signature, now)
	if err != nil {
		return cred.Identity{}, &blocktree.Error{Op: "ask", Kind: blocktree.Unauthenticated, Err: err}
	}
	if a.Path.Root() != e.config.Root {
		return cred.Identity{}, blocktree.E("ask", blocktree.Unauthenticated, errors.New("a path of another domain"))
	}
	if a.Mode != AskBack && a.Mode != AskRelay && a.Mode != AskPunch {
		return cred.Identity{}, blocktree.E("ask", blocktree.Unsupported, errors.New("an ask of a newer kind"))
	}
	return id, nil
}

package route

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/internal/wire"
)

// The version bytes of what goes over the wire.
const (
	formatQuery  = 1
	formatAnswer = 1 // of the body, which is signed, and of the frame around it
)

// signedAs begins what is signed, so that no signature of another use is one of an answer.
const signedAs = "blocktree route answer 1\x00"

// Encode returns the wire form of a query.
func (q Query) Encode() []byte {
	var e wire.Encoder
	q.encode(&e)
	return e.Buf
}

func (q Query) encode(e *wire.Encoder) {
	e.U8(formatQuery)
	e.U8(uint8(q.Kind))
	e.Raw(q.Nonce[:])
	e.String(string(q.Scope))
	e.String(q.Service)
}

// DecodeQuery reads what Encode wrote and keeps nothing of in. It fails with Invalid, TooLarge or NewerFormat, and as Query.Check does.
func DecodeQuery(in []byte) (Query, error) {
	d := wire.NewDecoder(in)
	q := decodeQuery(d)
	err := d.Finish()
	if err == nil {
		err = q.Check()
	}
	if err != nil {
		return Query{}, &blocktree.Error{Op: "route.DecodeQuery", Err: err}
	}
	return q, nil
}

func decodeQuery(d *wire.Decoder) (q Query) {
	d.Format(formatQuery)
	q.Kind = QueryKind(d.U8())
	copy(q.Nonce[:], d.Raw(len(q.Nonce)))
	q.Scope = blocktree.Scope(d.String(blocktree.PathBytesMax))
	q.Service = d.String(cred.ServiceBytesMax)
	return q
}

// encode appends all of an answer.
func (a *Answer) encode(e *wire.Encoder) {
	e.U8(formatAnswer)
	a.Query.encode(e)
	e.String(string(a.Directory))
	e.U8(uint8(a.Outcome))
	e.U32(uint32(a.TTL / time.Millisecond))
	e.U64(uint64(a.Given.UnixMilli()))
	e.String(string(a.Covers))
	switch a.Outcome {
	case Found:
		e.String(string(a.In))
		e.Bool(a.Partial)
		encodeRuntimes(e, a.Runtimes)
	case Redirected:
		e.String(string(a.Redirect.Directory))
		e.U64(uint64(a.Redirect.Generation))
		encodeRuntimes(e, a.Redirect.Runtimes)
	}
}

func encodeRuntimes(e *wire.Encoder, list []blocktree.Runtime) {
	e.U32(uint32(len(list)))
	for _, r := range list {
		e.String(string(r.Path))
		e.Raw(r.Principal[:])
		e.U64(uint64(r.Node))
		e.U32(uint32(len(r.Endpoints)))
		for _, p := range r.Endpoints {
			e.String(p)
		}
		e.U32(uint32(len(r.Services)))
		for _, s := range r.Services {
			e.String(s)
		}
	}
}

// decodeAnswer reads what encode wrote, and checks it.
func decodeAnswer(in []byte) (a Answer, err error) {
	d := wire.NewDecoder(in)
	d.Format(formatAnswer)
	a.Query = decodeQuery(d)
	a.Directory = blocktree.Scope(d.String(blocktree.PathBytesMax))
	a.Outcome = Outcome(d.U8())
	a.TTL = time.Duration(d.U32()) * time.Millisecond
	a.Given = time.UnixMilli(int64(d.U64()))
	a.Covers = blocktree.Scope(d.String(blocktree.PathBytesMax))
	switch a.Outcome {
	case Found:
		a.In = blocktree.Scope(d.String(blocktree.PathBytesMax))
		a.Partial = d.Bool()
		a.Runtimes = decodeRuntimes(d, blocktree.RouteRuntimesMax)
	case Redirected:
		a.Redirect.Directory = blocktree.Scope(d.String(blocktree.PathBytesMax))
		a.Redirect.Generation = blocktree.Generation(d.U64())
		a.Redirect.Runtimes = decodeRuntimes(d, blocktree.RouteRedirectRuntimesMax)
	}
	if err = d.Finish(); err == nil {
		err = a.Check()
	}
	if err != nil {
		return Answer{}, err
	}
	return a, nil
}

// endpointBytesMax is a name of DNS, a colon and a port.
const endpointBytesMax = 253 + 6

func decodeRuntimes(d *wire.Decoder, most int) (list []blocktree.Runtime) {
	for n := d.Count(most); n > 0 && d.Err() == nil; n-- {
		r := blocktree.Runtime{Path: blocktree.Path(d.String(blocktree.PathBytesMax))}
		copy(r.Principal[:], d.Raw(len(r.Principal)))
		r.Node = blocktree.NodeID(d.U64())
		for i := d.Count(blocktree.RouteEndpointsMax); i > 0 && d.Err() == nil; i-- {
			r.Endpoints = append(r.Endpoints, d.String(endpointBytesMax))
		}
		for i := d.Count(cred.ServicesMax); i > 0 && d.Err() == nil; i-- {
			r.Services = append(r.Services, d.String(cred.ServiceBytesMax))
		}
		list = append(list, r)
	}
	return list
}

// Signer gives answers in the name of a runtime.
type Signer struct {
	Key         cred.Key
	Credentials cred.Credentials
}

// Seal signs an answer and returns the frame that Open reads: the answer, the credentials of who gives it, its signature. It fails as Answer.Check does.
func (s Signer) Seal(a Answer) ([]byte, error) {
	if err := a.Check(); err != nil {
		return nil, &blocktree.Error{Op: "route.Seal", Err: err}
	}
	var body, e wire.Encoder
	a.encode(&body)
	e.U8(formatAnswer)
	e.Bytes(body.Buf)
	e.Bytes(s.Credentials.Encode())
	e.Raw(s.Key.Sign(append([]byte(signedAs), body.Buf...)))
	if len(e.Buf) > blocktree.RouteAnswerBytesMax {
		return nil, blocktree.E("route.Seal", blocktree.TooLarge, fmt.Errorf("%d bytes, at most %d", len(e.Buf), blocktree.RouteAnswerBytesMax))
	}
	return e.Buf, nil
}

// Open reads an answer to q, and believes it only from who speaks for it: the signature is that of a sector host of the directory that the answer names, by credentials that
// end at the root principal and are good at the time now. It returns who that is, to be blamed where the answer turns out to be wrong. It keeps nothing of in. It fails with
// Unauthenticated where the signer may not say this, Invalid where nobody may, TooLarge, NewerFormat, Unsupported.
func Open(in []byte, root blocktree.Principal, q Query, now time.Time) (Answer, cred.Identity, error) {
	fail := func(err error) (Answer, cred.Identity, error) {
		return Answer{}, cred.Identity{}, &blocktree.Error{Op: "route.Open", Path: string(q.Scope), Err: err}
	}
	if len(in) > blocktree.RouteAnswerBytesMax {
		return fail(blocktree.E("answer", blocktree.TooLarge, fmt.Errorf("%d bytes, at most %d", len(in), blocktree.RouteAnswerBytesMax)))
	}
	d := wire.NewDecoder(in)
	d.Format(formatAnswer)
	body, credentials, signature := d.Bytes(len(in)), d.Bytes(blocktree.CredentialBytesMax), d.Raw(ed25519.SignatureSize)
	if err := d.Finish(); err != nil {
		return fail(err)
	}
	id, err := cred.VerifySigned(credentials, root, append([]byte(signedAs), body...), signature, now)
	if err != nil {
		return fail(err)
	}
	a, err := decodeAnswer(body)
	if err != nil {
		return fail(err)
	}
	if a.Query != q {
		return fail(blocktree.E("answer", blocktree.Invalid, errors.New("to another question")))
	}
	if dir, ok := SpeaksFor(id); !ok || dir != a.Directory {
		return fail(&blocktree.Error{Op: "answer", Runtime: id.Path.Short(), Kind: blocktree.Unauthenticated,
			Err: fmt.Errorf("its credentials do not let it speak for %s", a.Directory.Short())})
	}
	return a, id, nil
}

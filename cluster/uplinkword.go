package cluster

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
	"blocktree/internal/wire"
	"blocktree/route"
)

// Who says that it has its cluster's uplink proves it, by the word of the runtime above: docs/design/0049-tree-ends.md.

const (
	// uplinkProven is how long a member is believed that it has the uplink once it has proven it, uplinkDoubted how long without, in all, until it does: more than the looks that an honest one may need for it.
	uplinkProven  = 10 * time.Second
	uplinkDoubted = 5 * time.Second
	// uplinkWordWait is how long a holder waits for its word: less than the sibling waits that asks, who else hears nothing at all, takes that for a no, and the uplink away at once.
	uplinkWordWait = uplinkLook * 3 / 4
	// uplinkWordsMax bounds the words that a holder has asked for at a time: as many as siblings look in one second. uplinkWordsEach bounds those for one sibling: of two looks, so that one that asks
	// without end keeps the others from none.
	uplinkWordsMax  = 64
	uplinkWordsEach = 2
	// challengeBytes are so many that none is drawn twice.
	challengeBytes = 16
	// formatUplinkWord is the version byte of a word, uplinkWordContext begins what is signed.
	formatUplinkWord  = 1
	uplinkWordContext = "blocktree uplink word\x00"
)

// uplinkWord is what a runtime says of a member of a cluster below: that it keeps its line.
type uplinkWord struct {
	challenge [challengeBytes]byte
	holder    blocktree.Principal
	chain     []byte // encoded
	signature []byte
}

func (w *uplinkWord) body() []byte {
	var e wire.Encoder
	e.U8(formatUplinkWord)
	e.Raw(w.challenge[:])
	e.Raw(w.holder[:])
	return e.Buf
}

func (w *uplinkWord) signed() []byte { return append([]byte(uplinkWordContext), w.body()...) }

func (w *uplinkWord) encode() []byte {
	e := wire.Encoder{Buf: w.body()}
	e.Bytes(w.chain)
	e.Raw(w.signature)
	return e.Buf
}

func decodeUplinkWord(b []byte) (*uplinkWord, error) {
	var w uplinkWord
	d := wire.NewDecoder(b)
	d.Format(formatUplinkWord)
	copy(w.challenge[:], d.Raw(challengeBytes))
	copy(w.holder[:], d.Raw(len(w.holder)))
	w.chain = slices.Clone(d.Bytes(blocktree.CredentialBytesMax))
	w.signature = slices.Clone(d.Raw(ed25519.SignatureSize))
	if err := d.Finish(); err != nil {
		return nil, &blocktree.Error{Op: "uplink", Err: err}
	}
	return &w, nil
}

// newUplinkWord signs one.
func newUplinkWord(key cred.Key, chain cred.Credentials, holder blocktree.Principal, challenge []byte) *uplinkWord {
	w := &uplinkWord{holder: holder, chain: chain.Encode()}
	copy(w.challenge[:], challenge)
	w.signature = key.Sign(w.signed())
	return w
}

// openUplinkWord reads a word, and believes it of a holder and a challenge if it is signed by a sector host of a directory above dir. It returns who that is.
func openUplinkWord(in []byte, root blocktree.Principal, dir blocktree.Scope, holder blocktree.Principal, challenge []byte, now time.Time) (cred.Identity, error) {
	w, err := decodeUplinkWord(in)
	if err != nil {
		return cred.Identity{}, err
	}
	if w.holder != holder || !slices.Equal(w.challenge[:], challenge) {
		return cred.Identity{}, blocktree.E("uplink", blocktree.Unauthenticated, errors.New("the word is of another, or of before"))
	}
	id, err := cred.VerifySigned(w.chain, root, w.signed(), w.signature, now)
	if err != nil {
		return cred.Identity{}, err
	}
	if at, ok := route.SpeaksFor(id); !ok || at == dir || !dir.Within(at) {
		return cred.Identity{}, &blocktree.Error{Op: "uplink", Runtime: id.Path.Short(), Kind: blocktree.Unauthenticated, Err: errors.New("the word is not of a sector host above")}
	}
	return id, nil
}

// word is this runtime's, of a holder whose line it keeps.
func (s *Service) word(holder blocktree.Principal, challenge []byte) *uplinkWord {
	return newUplinkWord(s.cfg.Key, s.endpoint.Credentials(), holder, challenge)
}

// serveUplinkWord gives this runtime's word of a connection that it keeps as a line. It signs where the request is read, so that one connection has it sign one at a time.
func (s *Service) serveUplinkWord(req *bttp.Request) {
	switch {
	case len(req.Header) != challengeBytes:
		req.Fail(blocktree.E("uplink", blocktree.Invalid, nil))
	case req.OneWay: // nobody hears it
	case !s.uplinks.has(req.Conn):
		req.Fail(&blocktree.Error{Op: "uplink", Path: req.Conn.Peer().Path.Short(), Kind: blocktree.Permission, Err: errors.New("this connection is no cluster's line")})
	case s.uplinks.doubt.doubted(req.Conn.Peer().Principal, s.cfg.Clock.Now()):
		req.Fail(&blocktree.Error{Op: "uplink", Path: req.Conn.Peer().Path.Short(), Kind: blocktree.Unavailable, Err: errors.New("asks along this line got to nobody")})
	default:
		req.Reply(nil, s.word(req.Conn.Peer().Principal, req.Header).encode())
	}
}

// serveUplinkHeld tells a sibling whether this member holds the uplink, and proves it where it is asked to.
func (s *Service) serveUplinkHeld(req *bttp.Request) {
	u := s.uplinks
	line := u.line.Load()
	from, ok := route.SpeaksFor(req.Conn.Peer())
	switch {
	case u.up.Load() == nil || line == nil:
		req.Reply([]byte{0})
		return
	case len(req.Header) != challengeBytes || !ok || from != u.directory || req.OneWay:
		req.Reply([]byte{1})
		return
	}
	challenge := slices.Clone(req.Header)
	asks := req.Conn.Peer().Principal
	if !u.wordBegins(asks) {
		req.Reply([]byte{1})
		return
	}
	s.requests.Go(func() {
		defer u.wordEnds(asks)
		ctx, cancel := context.WithTimeout(s.ctx, uplinkWordWait)
		defer cancel()
		r, err := line.CallWait(ctx, codeUplinkWord, challenge)
		defer r.Release()
		if err != nil { // the one who asks doubts it, and looks again
			req.Reply([]byte{1})
			return
		}
		req.Reply([]byte{1}, slices.Clone(r.Body))
	})
}

// wordBegins counts a word that a sibling has asked for, until wordEnds; false where there are enough.
func (u *uplinks) wordBegins(sibling blocktree.Principal) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.wordsAll >= uplinkWordsMax || u.words[sibling] >= uplinkWordsEach {
		return false
	}
	u.wordsAll++
	u.words[sibling]++
	return true
}

func (u *uplinks) wordEnds(sibling blocktree.Principal) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.wordsAll--
	if u.words[sibling]--; u.words[sibling] == 0 {
		delete(u.words, sibling)
	}
}

// uplinkClaim is what a sibling has said of having the uplink.
type uplinkClaim struct {
	proven time.Time // when it did so last
	since  time.Time // since when it says so without; zero: it has proven what it said
	told   bool      // the log has it
}

// believes reports whether a sibling that was asked has the uplink; reply is what it has said, to a challenge if that is not nil. sure says that it has proven it lately. The caller has mu of the look.
func (u *uplinks) believes(x sibling, challenge []byte, header, body []byte) (has, sure bool) {
	if len(header) != 1 || header[0] != 1 {
		return false, false
	}
	c := u.claims[x.node]
	if c == nil {
		c = new(uplinkClaim)
		u.claims[x.node] = c
	}
	now := time.Now()
	if challenge != nil && len(body) > 0 {
		id, err := u.opens(body, x.conn.Peer().Principal, challenge)
		if err == nil {
			*c = uplinkClaim{proven: now}
		} else {
			u.logger.Debug("a word of the uplink is not believed", "of", x.runtime.Path.Short(), "by", id.Path.Short(), "err", err)
		}
	}
	if c.fresh(now) {
		return true, true
	}
	if c.since.IsZero() {
		c.since = now
	}
	if now.Sub(c.since) < uplinkDoubted {
		return true, false
	}
	if !c.told {
		c.told = true
		u.logger.Warn("a node says that it has the uplink, and does not prove it: others take it", "node", x.runtime.Path.Short(), "store", x.node.String(),
			"hint", "it is of the version before, cut off from above, or lies")
	}
	return false, false
}

// fresh reports whether the claim was proven lately.
func (c *uplinkClaim) fresh(now time.Time) bool {
	return c != nil && !c.proven.IsZero() && now.Sub(c.proven) < uplinkProven
}

// newChallenge draws one for a sibling; nil where none is needed.
func (u *uplinks) newChallenge(n blocktree.NodeID) []byte {
	if u.claims[n].fresh(time.Now()) {
		return nil
	}
	b := make([]byte, challengeBytes)
	_, _ = rand.Read(b) // it never fails
	return b
}

package bttp

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"slices"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/internal/gcm"
)

// What RFC 8446 says of records and of the messages in them.
const (
	typeAlert       = 21
	typeHandshake   = 22
	typeApplication = 23

	recordBytesMax    = 1 << 14              // of content
	recordBytes       = 16320                // of content of a long record of ours: four make one segment (stageBytesMax), and so many bytes are whole lines of a cache
	sealedBytesMax    = recordBytesMax + 256 // of a record behind its header
	keyUpdateBytes    = 5
	typeKeyUpdate     = 24
	alertCloseNotify  = 0
	uselessRecordsMax = 16 // in a row: as many as crypto/tls takes
	recordsPerKeyMax  = 1 << 24
)

// records seals and opens the records of a TLS 1.3 connection after its handshake, in place of crypto/tls and with the same bytes on the wire (docs/design/0064-ciphers.md): what is sealed is copied
// once less, what is opened goes to its place twice less, and AES-GCM is internal/gcm's. read is for one goroutine; seal is guarded by rawConn.hold.
type records struct {
	raw     *rawConn
	in, out traffic
	rest    []byte // of the last record, in raw.in: what read has not taken
	useless int    // records in a row that brought nothing
	err     error  // why nothing is read any more
	renewed bool   // nothing was sealed since the peer asked for new keys and had them; guarded by rawConn.hold
}

// traffic is one direction.
type traffic struct {
	hash     func() hash.Hash
	keyBytes int
	secret   []byte
	aead     gcm.AEAD
	iv       [gcm.NonceBytes]byte
	sequence uint64
	scratch  [gcm.NonceBytes]byte
}

// secrets takes the secrets that crypto/tls says to a log of keys, which is the only one it tells. They are written nowhere.
type secrets struct{ client, server []byte }

func (s *secrets) Write(line []byte) (int, error) {
	fields := bytes.Fields(line)
	if len(fields) != 3 {
		return len(line), nil
	}
	var to *[]byte
	switch string(fields[0]) {
	case "CLIENT_TRAFFIC_SECRET_0":
		to = &s.client
	case "SERVER_TRAFFIC_SECRET_0":
		to = &s.server
	default:
		return len(line), nil
	}
	secret, err := hex.AppendDecode(nil, fields[2])
	*to = secret
	return len(line), err
}

// handshake makes a lane's carrier of a connection, as its server or its client, and says whose key the peer has proven. Where it fails nothing is closed.
func (c *rawConn) handshake(ctx context.Context, config *tls.Config, server bool) (*tlsCarrier, blocktree.Principal, error) {
	var s secrets
	config = config.Clone()
	config.KeyLogWriter = &s
	config.SessionTicketsDisabled = true // a ticket would be the first record under the keys that records begin with
	shake := tls.Client
	if server {
		shake = tls.Server
	}
	secure := shake(c, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, blocktree.Principal{}, err
	}
	state := secure.ConnectionState()
	proven, err := cred.PeerPrincipal(state)
	if err != nil {
		return nil, blocktree.Principal{}, err
	}
	in, out := s.server, s.client
	if server {
		in, out = out, in
	}
	r := newRecords(c, state.CipherSuite, in, out)
	if r != nil {
		secure = nil // its memory goes, and its copies of the secrets, which a key update would leave behind
	}
	carrier := newTLSCarrier(c, secure)
	carrier.records = r
	return carrier, proven, nil
}

// newRecords takes a connection over from crypto/tls after its handshake, before anything else was read or written. It is nil where crypto/tls has to go on: for a cipher that is not AES-GCM.
func newRecords(raw *rawConn, suite uint16, in, out []byte) *records {
	var t traffic
	switch suite {
	case tls.TLS_AES_128_GCM_SHA256:
		t.hash, t.keyBytes = sha256.New, 16
	case tls.TLS_AES_256_GCM_SHA384:
		t.hash, t.keyBytes = sha512.New384, 32
	default:
		return nil
	}
	r := &records{raw: raw, in: t, out: t}
	if r.in.use(in) != nil || r.out.use(out) != nil {
		return nil
	}
	return r
}

// use begins with a secret: RFC 8446, 7.3.
func (t *traffic) use(secret []byte) error {
	if len(secret) != t.hash().Size() {
		return errors.New("no secret")
	}
	key, err := t.expand(secret, "key", t.keyBytes)
	if err != nil {
		return err
	}
	iv, err := t.expand(secret, "iv", len(t.iv))
	if err != nil {
		return err
	}
	if t.aead, err = gcm.New(key); err != nil {
		return err
	}
	clear(key)
	t.secret, t.sequence = secret, 0
	copy(t.iv[:], iv)
	return nil
}

// update goes on with the next secret: RFC 8446, 7.2.
func (t *traffic) update() error {
	next, err := t.expand(t.secret, "traffic upd", len(t.secret))
	if err != nil {
		return err
	}
	clear(t.secret)
	return t.use(next)
}

// expand is HKDF-Expand-Label with no context: RFC 8446, 7.1.
func (t *traffic) expand(secret []byte, label string, n int) ([]byte, error) {
	label = "tls13 " + label
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(info, byte(len(label)))
	info = append(info, label...)
	info = append(info, 0)
	return hkdf.Expand(t.hash, secret, string(info), n)
}

// nonce is that of the next record, good until the next call: RFC 8446, 5.3. A number is never used twice: the key is another long before they end (recordsPerKeyMax).
func (t *traffic) nonce() []byte {
	t.scratch = t.iv
	at := t.scratch[len(t.scratch)-8:]
	binary.BigEndian.PutUint64(at, binary.BigEndian.Uint64(at)^t.sequence)
	t.sequence++
	return t.scratch[:]
}

// read is io.Reader's Read. What is as long as a record, and one byte longer, is opened into p itself; what else there is of p may be overwritten.
func (r *records) read(p []byte) (int, error) {
	for len(r.rest) == 0 && r.err == nil {
		n, err := r.next(p)
		if n > 0 || err != nil {
			r.err = err
			return n, err
		}
	}
	if len(r.rest) == 0 {
		return 0, r.err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// next opens one record, into p, of which it says how much is read, or into rest.
func (r *records) next(p []byte) (int, error) {
	record, err := r.raw.nextRecord()
	if err != nil {
		return 0, err
	}
	header, sealed := record[:recordHeaderBytes], record[recordHeaderBytes:]
	if n := len(sealed); header[0] != typeApplication || header[1] != 3 || header[2] != 3 || n <= gcm.TagBytes || n > sealedBytesMax {
		return 0, fmt.Errorf("tls: a record of type %d, version %x, with %d bytes", header[0], header[1:3], n)
	}
	inPlace := len(p) < len(sealed)-gcm.TagBytes
	to := p
	if inPlace {
		to = sealed
	}
	plain, err := r.in.aead.Open(to[:0], r.in.nonce(), sealed, header)
	if err != nil {
		return 0, errors.New("tls: a record that is not authentic")
	}
	kind, content := contentOf(plain)
	if len(content) > recordBytesMax {
		return 0, errors.New("tls: a record that is too long")
	}
	switch {
	case kind == typeApplication && len(content) > 0:
		r.useless = 0
		if inPlace {
			r.rest = content
			return 0, nil
		}
		return len(content), nil
	case kind == typeApplication:
	case kind == typeHandshake:
		err = r.updateKeys(content)
	case kind == typeAlert:
		err = alertError(content)
	default:
		err = fmt.Errorf("tls: a record of type %d", kind)
	}
	if r.useless++; r.useless > uselessRecordsMax && err == nil {
		err = errors.New("tls: too many records that bring nothing")
	}
	return 0, err
}

// contentOf takes an opened record apart: content, its type, and zeros that hide its length.
func contentOf(plain []byte) (kind byte, content []byte) {
	for n := len(plain) - 1; n >= 0; n-- {
		if plain[n] != 0 {
			return plain[n], plain[:n]
		}
	}
	return 0, nil
}

// updateKeys takes a key update, the only message that comes after a handshake here: no tickets are given, and nobody is asked again who he is.
func (r *records) updateKeys(message []byte) error {
	if len(message) != keyUpdateBytes || !bytes.Equal(message[:keyUpdateBytes-1], []byte{typeKeyUpdate, 0, 0, 1}) || message[keyUpdateBytes-1] > 1 {
		return errors.New("tls: a message that is none of those after a handshake")
	}
	if err := r.in.update(); err != nil || message[keyUpdateBytes-1] == 0 {
		return err
	}
	r.raw.hold.Lock()
	defer r.raw.hold.Unlock()
	if r.renewed { // one answer does (RFC 8446, 4.6.3); more would be held for as long as we have nothing to say
		return nil
	}
	r.renewed = true
	return r.renew()
}

// renew goes on under new keys, and says so under the old ones. hold is locked.
func (r *records) renew() error {
	r.seal(typeHandshake, []byte{typeKeyUpdate, 0, 0, 1, 0})
	return r.out.update()
}

// alertError is what an alert ends the connection with.
func alertError(message []byte) error {
	if len(message) != 2 {
		return errors.New("tls: an alert of another length")
	}
	if message[1] == alertCloseNotify {
		return io.EOF
	}
	return &net.OpError{Op: "remote error", Err: tls.AlertError(message[1])} // as crypto/tls has it
}

// stage seals p into what the next flush sends. No key is for more records than RFC 8446, 5.5, allows AES-GCM.
func (r *records) stage(p []byte) error {
	r.raw.hold.Lock()
	defer r.raw.hold.Unlock()
	for len(p) > 0 {
		if r.out.sequence >= recordsPerKeyMax {
			if err := r.renew(); err != nil {
				return err
			}
		}
		n := min(len(p), recordBytes)
		r.seal(typeApplication, p[:n])
		r.renewed = false
		p = p[n:]
	}
	return nil
}

// seal appends a record to what is held. hold is locked.
func (r *records) seal(kind byte, content []byte) {
	n := len(content) + 1 + gcm.TagBytes
	out := slices.Grow(r.raw.out, recordHeaderBytes+n)
	at := len(out)
	out = append(out, typeApplication, 3, 3, byte(n>>8), byte(n))
	r.raw.out = r.out.aead.SealWith(out, r.out.nonce(), content, kind, out[at:])
}

package bttp

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"blocktree/crypto/cred"
)

// tlsPair returns configurations of two ends that accept each other.
func tlsPair(t testing.TB) (serve, call *tls.Config) {
	t.Helper()
	key, err := cred.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	if serve, err = cred.NewTLSConfig(cred.TLSOptions{Key: key, ALPN: []string{"test"}, Server: true}); err != nil {
		t.Fatal(err)
	}
	if call, err = cred.NewTLSConfig(cred.TLSOptions{Key: key, Expect: key.Principal(), ALPN: []string{"test"}}); err != nil {
		t.Fatal(err)
	}
	return serve, call
}

// besideTLS returns our end of a connection, as its server or client, and that of crypto/tls.
func besideTLS(t *testing.T, server bool) (*tlsCarrier, *tls.Conn) {
	t.Helper()
	serve, call := tlsPair(t)
	near, far := net.Pipe()
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	ours, peer := call, tls.Server(far, serve)
	if server {
		ours, peer = serve, tls.Client(far, call)
	}
	shaken := make(chan error, 1)
	go func() { shaken <- peer.HandshakeContext(t.Context()) }()
	c, _, err := newRawConn(near, time.Minute).handshake(t.Context(), ours, server)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	if c.records == nil {
		t.Fatal("crypto/tls seals the records")
	}
	return c, peer
}

// testBytes are n bytes, none of which is like its neighbour.
func testBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8*11)
	}
	return b
}

// TestRecordsAreThoseOfTLS: crypto/tls at the other end, of either role, understands what is sealed here, and what it seals is understood, whatever the lengths of what is written and read.
func TestRecordsAreThoseOfTLS(t *testing.T) {
	want := testBytes(200_000)
	for _, server := range []bool{false, true} {
		c, peer := besideTLS(t, server)
		sent := make(chan error, 1)
		go func() {
			rest := want
			for n := 1; len(rest) > 0; n = n*3 + 1 {
				n = min(n, len(rest))
				if err := c.stage(rest[:n]); err != nil {
					sent <- err
					return
				}
				rest = rest[n:]
			}
			sent <- c.flush()
		}()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("server %v: crypto/tls reads other bytes: %v", server, err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		for _, room := range []int{1 << 20, 40_000, recordBytesMax + 1, recordBytesMax, 1000} {
			go func() {
				_, err := peer.Write(want)
				sent <- err
			}()
			buf := bytes.Repeat([]byte{0xee}, room+1)
			got = got[:0]
			for len(got) < len(want) {
				n, err := c.Read(buf[:min(room, len(want)-len(got))])
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, buf[:n]...)
			}
			if err := <-sent; err != nil || !bytes.Equal(got, want) || buf[room] != 0xee {
				t.Fatalf("server %v, %d bytes at a time: other bytes are read, or more than there is room for: %v", server, room, err)
			}
		}
	}
}

// TestKeyUpdates: crypto/tls follows an update of ours and answers it with its own, which is followed here.
func TestKeyUpdates(t *testing.T) {
	c, peer := besideTLS(t, true)
	done := make(chan error, 1)
	go func() { // what it reads it writes, under the new keys
		b := make([]byte, 5)
		for range 3 {
			if _, err := io.ReadFull(peer, b); err != nil {
				done <- err
				return
			}
			if _, err := peer.Write(b); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for range 3 {
		c.raw.hold.Lock()
		c.records.seal(typeHandshake, []byte{typeKeyUpdate, 0, 0, 1, 1})
		if err := c.records.out.update(); err != nil {
			t.Fatal(err)
		}
		c.raw.hold.Unlock()
		if err := c.stage([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		flushed := make(chan error, 1)
		go func() { flushed <- c.flush() }()
		b := make([]byte, 5)
		if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
			t.Fatalf("%q, %v", b, err)
		}
		if err := <-flushed; err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestKeyUpdateIsAnswered: who is asked for new keys says so under the old ones, and goes on with the next.
func TestKeyUpdateIsAnswered(t *testing.T) {
	from, to, wire := betweenRecords(t)
	from.seal(typeHandshake, []byte{typeKeyUpdate, 0, 0, 1, 1})
	if err := from.out.update(); err != nil {
		t.Fatal(err)
	}
	if err := from.stage([]byte("there")); err != nil {
		t.Fatal(err)
	}
	wire.Write(bytes.Join(from.taken(), nil))
	b := make([]byte, 100)
	if n, err := to.read(b); err != nil || string(b[:n]) != "there" {
		t.Fatalf("%q, %v", b[:n], err)
	}
	if err := to.stage([]byte("back")); err != nil {
		t.Fatal(err)
	}
	from.raw.Conn = readConn{Reader: bytes.NewReader(bytes.Join(to.taken(), nil))}
	if n, err := from.read(b); err != nil || string(b[:n]) != "back" {
		t.Fatalf("%q, %v", b[:n], err)
	}
}

// TestManyKeyUpdates: who has nothing to say answers them once, and holds no more, however many come. When he has, he is understood, and answers again.
func TestManyKeyUpdates(t *testing.T) {
	from, to, wire := betweenRecords(t)
	for range 2 {
		for range 1000 {
			from.seal(typeHandshake, []byte{typeKeyUpdate, 0, 0, 1, 1})
			if err := from.out.update(); err != nil {
				t.Fatal(err)
			}
			if err := from.stage([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		wire.Write(bytes.Join(from.taken(), nil))
		if _, err := io.ReadFull(readConn{Reader: readerFunc(to.read)}, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		if err := to.stage([]byte("back")); err != nil {
			t.Fatal(err)
		}
		back := to.taken()
		if len(back) != 2 {
			t.Errorf("%d records are held, want an answer and what is said", len(back))
		}
		from.raw.Conn = readConn{Reader: bytes.NewReader(bytes.Join(back, nil))}
		b := make([]byte, 100)
		if n, err := from.read(b); err != nil || string(b[:n]) != "back" {
			t.Fatalf("%q, %v", b[:n], err)
		}
	}
}

// TestHeldIsBounded: nor does crypto/tls have answers held without end.
func TestHeldIsBounded(t *testing.T) {
	raw := newTLSCarrier(newRawConn(nil, time.Minute), nil).raw
	answer := make([]byte, 27)
	for n := range heldBytesMax {
		if _, err := raw.Write(answer); err != nil {
			if n*len(answer) < heldBytesMax || raw.staged() > heldBytesMax+len(answer) {
				t.Errorf("%d bytes are held: %v", raw.staged(), err)
			}
			return
		}
	}
	t.Errorf("%d bytes are held", raw.staged())
}

// TestKeysAreRenewed: a key is for recordsPerKeyMax records, and crypto/tls follows.
func TestKeysAreRenewed(t *testing.T) {
	from, to, wire := betweenRecords(t)
	for range 2 {
		from.out.sequence, to.in.sequence = recordsPerKeyMax-2, recordsPerKeyMax-2
		if err := from.stage(testBytes(4 * recordBytes)); err != nil {
			t.Fatal(err)
		}
		if n := from.out.sequence; n != 2 {
			t.Errorf("the next record is number %d of its key, want 2", n)
		}
		wire.Write(bytes.Join(from.taken(), nil))
		got := make([]byte, 4*recordBytes)
		if _, err := io.ReadFull(readConn{Reader: readerFunc(to.read)}, got); err != nil || !bytes.Equal(got, testBytes(len(got))) {
			t.Fatalf("other bytes are read: %v", err)
		}
	}
	c, peer := besideTLS(t, false)
	c.raw.hold.Lock()
	err := c.records.renew()
	c.raw.hold.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.stage([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	flushed := make(chan error, 1)
	go func() { flushed <- c.flush() }()
	b := make([]byte, 5)
	if _, err := io.ReadFull(peer, b); err != nil || string(b) != "hello" {
		t.Fatalf("%q, %v", b, err)
	}
	if err := <-flushed; err != nil {
		t.Fatal(err)
	}
}

// TestNoTickets: no record precedes ours under their keys, whatever the configuration says of tickets, and whatever the client would like.
func TestNoTickets(t *testing.T) {
	serve, call := tlsPair(t)
	serve.SessionTicketsDisabled, call.SessionTicketsDisabled = false, false
	call.ClientSessionCache, call.ServerName = tls.NewLRUClientSessionCache(1), "same"
	near, far := net.Pipe()
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	read := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(tls.Client(far, call), make([]byte, 5))
		read <- err
		_ = far.Close()
	}()
	c, _, err := newRawConn(near, time.Minute).handshake(t.Context(), serve, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.stage([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, near) }() // an alert, where it fails
	flushErr := c.flush()
	if err := <-read; err != nil || flushErr != nil {
		t.Errorf("crypto/tls reads %v; %v", err, flushErr)
	}
}

// TestCutRecords: an end within a record is another than one between two.
func TestCutRecords(t *testing.T) {
	from, _, _ := betweenRecords(t)
	if err := from.stage([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	record := from.taken()[0]
	for n := range record {
		_, to, wire := betweenRecords(t)
		wire.Write(record[:n])
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		for range 2 {
			if _, err := to.read(make([]byte, 100)); err != want {
				t.Errorf("after %d bytes of a record: %v, want %v", n, err, want)
			}
		}
	}
}

// betweenRecords returns two ends of ours in memory, and what one has sealed is handed to the other by whoever tests.
func betweenRecords(t *testing.T) (from, to *records, wire *bytes.Buffer) {
	t.Helper()
	wire = new(bytes.Buffer)
	secret := func() []byte { return testBytes(32) }
	from = newRecords(newRawConn(nil, time.Minute), tls.TLS_AES_128_GCM_SHA256, secret(), secret())
	to = newRecords(newRawConn(readConn{Reader: wire}, time.Minute), tls.TLS_AES_128_GCM_SHA256, secret(), secret())
	return from, to, wire
}

// readConn is a connection that is read only.
type readConn struct {
	net.Conn
	io.Reader
}

func (c readConn) Read(p []byte) (int, error) { return c.Reader.Read(p) }

// taken returns the records that were sealed since it was called before.
func (r *records) taken() (out [][]byte) {
	b := r.raw.out
	r.raw.out = nil
	for len(b) > 0 {
		n := recordHeaderBytes + int(b[3])<<8 + int(b[4])
		out, b = append(out, b[:n:n]), b[n:]
	}
	return out
}

// TestRecordsAreAuthentic: nothing is read of a record that is another than what was sealed, or comes at another place, and nothing after it.
func TestRecordsAreAuthentic(t *testing.T) {
	for name, spoil := range map[string]func(r [][]byte) [][]byte{
		"nothing":          func(r [][]byte) [][]byte { return r },
		"a bit":            func(r [][]byte) [][]byte { r[1][100] ^= 1; return r },
		"the tag":          func(r [][]byte) [][]byte { r[1][len(r[1])-1] ^= 1; return r },
		"the version":      func(r [][]byte) [][]byte { r[1][2] = 1; return r },
		"the type":         func(r [][]byte) [][]byte { r[1][0] = typeHandshake; return r },
		"one is left":      func(r [][]byte) [][]byte { return slices.Delete(r, 1, 2) },
		"one comes twice":  func(r [][]byte) [][]byte { return slices.Insert(r, 1, bytes.Clone(r[0])) },
		"they are swapped": func(r [][]byte) [][]byte { r[1], r[2] = r[2], r[1]; return r },
		"it is cut": func(r [][]byte) [][]byte {
			r[1] = r[1][:len(r[1])-1]
			r[1][4]--
			return r
		},
	} {
		for _, room := range []int{1000, 1 << 16} {
			from, to, wire := betweenRecords(t)
			for i := range 3 {
				if err := from.stage(bytes.Repeat([]byte{byte(i + 1)}, 2000)); err != nil {
					t.Fatal(err)
				}
			}
			for _, r := range spoil(from.taken()) {
				wire.Write(r)
			}
			var got []byte
			var failed error
			for range 20 {
				b := make([]byte, room)
				n, err := to.read(b)
				got = append(got, b[:n]...)
				if failed != nil && (n > 0 || err == nil) {
					t.Errorf("%s: it goes on after %v", name, failed)
				}
				failed = err
			}
			want := 2000
			if name == "nothing" {
				want = 6000
			}
			if failed == nil || len(got) != want || !bytes.Equal(got[:2000], bytes.Repeat([]byte{1}, 2000)) {
				t.Errorf("%s, %d bytes at a time: %d bytes are read, and then %v", name, room, len(got), failed)
			}
		}
	}
}

// TestRecordsThatEndIt: what else a peer may send under the right keys. Its alerts are those of crypto/tls; an end without one is an end.
func TestRecordsThatEndIt(t *testing.T) {
	for _, c := range []struct {
		name    string
		kind    byte
		content []byte
		want    string
	}{
		{"a close", typeAlert, []byte{1, 0}, "EOF"},
		{"an alert", typeAlert, []byte{2, 42}, "remote error: tls: bad certificate"},
		{"half an alert", typeAlert, []byte{2}, "tls: an alert of another length"},
		{"a ticket", typeHandshake, []byte{4, 0, 0, 1, 0}, "tls: a message that is none of those after a handshake"},
		{"half a key update", typeHandshake, []byte{typeKeyUpdate, 0, 0}, "tls: a message that is none of those after a handshake"},
		{"no type", 0, []byte{0, 0, 0}, "tls: a record of type 0"},
		{"nothing", typeApplication, nil, "tls: too many records that bring nothing"},
	} {
		from, to, wire := betweenRecords(t)
		from.seal(typeApplication, []byte("before"))
		for range uselessRecordsMax + 1 {
			from.seal(c.kind, c.content)
		}
		wire.Write(bytes.Join(from.taken(), nil))
		got, err := io.ReadAll(readConn{Reader: readerFunc(to.read)})
		if err == nil {
			err = io.EOF
		}
		if string(got) != "before" || err.Error() != c.want {
			t.Errorf("%s: %q, %v, want %s", c.name, got, err, c.want)
		}
	}
	for _, length := range []int{gcm16 - 1, gcm16, sealedBytesMax + 1, 1<<16 - 1} {
		_, to, wire := betweenRecords(t)
		wire.Write([]byte{typeApplication, 3, 3, byte(length >> 8), byte(length)})
		wire.Write(make([]byte, length))
		if n, err := to.read(make([]byte, 1<<20)); n > 0 || err == nil || err == io.EOF {
			t.Errorf("a record of %d bytes: %d, %v", length, n, err)
		}
	}
}

// gcm16 is the length of a tag.
const gcm16 = 16

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestPaddedRecords: zeros behind a content hide its length (RFC 8446, 5.4).
func TestPaddedRecords(t *testing.T) {
	from, to, wire := betweenRecords(t)
	from.seal(0, append([]byte("padded"), typeApplication, 0, 0, 0))
	wire.Write(bytes.Join(from.taken(), nil))
	b := make([]byte, 100)
	if n, err := to.read(b); err != nil || string(b[:n]) != "padded" {
		t.Errorf("%q, %v", b[:n], err)
	}
}

// TestOtherCiphersStayWithTLS: crypto/tls goes on with what is not AES-GCM, and where it has told no secret.
func TestOtherCiphersStayWithTLS(t *testing.T) {
	secret := testBytes(32)
	for _, r := range []*records{
		newRecords(nil, tls.TLS_CHACHA20_POLY1305_SHA256, secret, secret),
		newRecords(nil, tls.TLS_AES_128_GCM_SHA256, secret, nil),
		newRecords(nil, tls.TLS_AES_256_GCM_SHA384, secret, secret),
	} {
		if r != nil {
			t.Error("records are sealed with it")
		}
	}
}

// TestRecordsTakeNoMemory: none per record.
func TestRecordsTakeNoMemory(t *testing.T) {
	from, to, _ := betweenRecords(t)
	wire := new(loop)
	to.raw.Conn = readConn{Reader: wire}
	p, b := testBytes(3*recordBytesMax), make([]byte, 1<<20)
	if n := testing.AllocsPerRun(10, func() {
		from.raw.out = from.raw.out[:0]
		if err := from.stage(p); err != nil {
			t.Fatal(err)
		}
		wire.rest = from.raw.out
		for got := 0; got < len(p); {
			n, err := to.read(b)
			if err != nil {
				t.Fatal(err)
			}
			got += n
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// loop reads what rest is.
type loop struct{ rest []byte }

func (l *loop) Read(p []byte) (int, error) {
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// TestConfigIsNotChanged: the configuration that many connections share learns no connection's secrets.
func TestConfigIsNotChanged(t *testing.T) {
	serve, _ := tlsPair(t)
	near, far := net.Pipe()
	_ = far.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := newRawConn(near, time.Minute).handshake(ctx, serve, true); err == nil || serve.KeyLogWriter != nil {
		t.Errorf("%v, %v", err, serve.KeyLogWriter)
	}
}

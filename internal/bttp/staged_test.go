package bttp

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
)

// recordOverheadMax is what TLS adds at most to what is staged for one write, that of what the last call of stage took: 22 bytes for each record. What it added before is counted as staged.
const recordOverheadMax = 4 * 22

// segmentBytesMax is what a TCP segment over loopback has room for: 64 KiB less the headers of IPv6 and of TCP with its timestamps.
const segmentBytesMax = 64<<10 - 40 - 20 - 12

// notedConn notes the lengths of writes.
type notedConn struct {
	net.Conn
	mu     sync.Mutex
	writes []int
}

func (c *notedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.writes = append(c.writes, len(p))
	c.mu.Unlock()
	return c.Conn.Write(p)
}

// noted takes what was noted.
func (c *notedConn) noted() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.writes
	c.writes = nil
	return w
}

// sealedLane makes a lane over TLS in memory, and its other end.
func sealedLane(t *testing.T) (*lane, *notedConn, *rawConn, *tls.Conn) {
	t.Helper()
	serve, call := tlsPair(t)
	near, far := net.Pipe()
	t.Cleanup(func() { _ = far.Close() })
	peer := tls.Server(far, serve)
	shaken := make(chan error, 1)
	go func() { shaken <- peer.HandshakeContext(t.Context()) }()
	conn := &notedConn{Conn: near}
	raw := newRawConn(conn, time.Minute)
	secure, _, err := raw.handshake(t.Context(), call, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	l := newLane(newConn(&Endpoint{}, connID{}, cred.Identity{}, blocktree.Principal{}, 1), 0, secure)
	var done sync.WaitGroup
	done.Go(l.writeLoop)
	t.Cleanup(func() { l.kill(); done.Wait() })
	conn.noted()
	return l, conn, raw, peer
}

// TestWritesAreShort: of whatever is queued, one write carries stageBytesMax and not more, and not one of them is short of it but the last; all of it is
// written with nothing following, and the memory that the connection keeps for it is that of two writes.
func TestWritesAreShort(t *testing.T) {
	if stageBytesMax+recordOverheadMax > segmentBytesMax {
		t.Error("a write is longer than a segment")
	}
	l, conn, raw, peer := sealedLane(t)
	idle := func() { // nobody writes
		l.mu.Lock()
		defer l.mu.Unlock()
		for l.writing {
			l.space.Wait()
		}
	}
	copied := func(n int) *message {
		m := oneWay(n, 3, nil)
		m.mustCopy = true
		return m
	}
	for _, c := range []struct {
		name string
		send []*message
	}{
		{"one short", []*message{oneWay(64, 1, nil)}},
		{"a write less one", []*message{oneWay(stageBytesMax-fixedBytes-1, 1, nil)}},
		{"a write", []*message{oneWay(stageBytesMax-fixedBytes, 1, nil)}},
		{"a write and one", []*message{oneWay(stageBytesMax-fixedBytes+1, 1, nil)}},
		{"one long", []*message{oneWay(1<<20, 2, nil)}},
		{"one long that is copied", []*message{copied(1 << 20)}},
		{"short and long", []*message{oneWay(10, 1, nil), oneWay(200000, 2, nil), copied(100000), oneWay(20, 1, nil), oneWay(300000, 2, nil)}},
	} {
		idle() // else it takes a part of what is queued next
		l.conn.endpoint.cork.push()
		total := 0
		for _, m := range c.send {
			// Not before all are there: what is queued by then is one batch. TestCorkMakesOneWrite has the bounds of that.
			l.mu.Lock()
			size := fixedBytes + m.frame.bodyBytes
			own := size
			if !m.copies() {
				own = fixedBytes
			}
			l.queue.add(m, size, own)
			l.waiting, l.copied = l.waiting+size, l.copied+own
			l.mu.Unlock()
			total += size
		}
		l.conn.endpoint.cork.pull()
		l.writeQueued()
		got := make([]byte, total)
		if _, err := io.ReadFull(peer, got); err != nil { // nothing follows, and all of it comes
			t.Fatal(err)
		}
		if n := len(bodies(t, got)); n != len(c.send) {
			t.Errorf("%s: %d messages came of %d", c.name, n, len(c.send))
		}
		writes := conn.noted()
		if want := (total + stageBytesMax - 1) / stageBytesMax; len(writes) < want || len(writes) > want+1 {
			t.Errorf("%s: %d bytes are %d writes %v, want %d", c.name, total, len(writes), writes, want)
		}
		for i, n := range writes {
			if n > stageBytesMax+recordOverheadMax || i < len(writes)-1 && n < stageBytesMax {
				t.Errorf("%s: write %d of %d has %d bytes", c.name, i, len(writes), n)
			}
		}
	}
	idle()
	if kept := cap(raw.out) + cap(raw.sending); kept > 3*stageBytesMax {
		t.Errorf("the connection keeps %d bytes for writing", kept)
	}
}

// TestLongAnswersAreWrittenByWhoAnswers: one of half a mebibyte, and its seals, wakes nobody as long as the socket takes it; one that asks is left to the lane's goroutine after some writes.
func TestLongAnswersAreWrittenByWhoAnswers(t *testing.T) {
	for _, c := range []struct {
		kind   frameType
		inline bool
	}{{frameReply, true}, {frameRequest, false}, {frameOneWay, false}} {
		carrier := newFakeCarrier()
		l := newLane(newConn(&Endpoint{}, connID{}, cred.Identity{}, blocktree.Principal{}, 1), 0, carrier)
		body := make([]byte, blocktree.FrameBodyBytesMax/2)
		m := &message{frame: frame{kind: c.kind, bodyBytes: len(body)}, body: [][]byte{body}}
		if err := l.send(m, false); err != nil {
			t.Fatal(err)
		}
		if woken := len(l.wake) > 0; woken == c.inline {
			t.Errorf("type %d: the lane's goroutine is woken: %v", c.kind, woken)
		}
		if done := l.out.empty() && carrier.staged() == 0; done != c.inline {
			t.Errorf("type %d: all of it is written: %v", c.kind, done)
		}
	}
}

// TestStagedSeals: bytes that were staged piece by piece are those that were given, whatever the pieces.
func TestStagedSeals(t *testing.T) {
	l, _, _, peer := sealedLane(t)
	want := make([]byte, 5*stageBytesMax+7)
	for i := range want {
		want[i] = byte(i * 31 >> 3)
	}
	m := &message{frame: frame{kind: frameOneWay, bodyBytes: len(want)}, body: [][]byte{want[:5], want[5 : stageBytesMax+6], want[stageBytesMax+6:]}}
	if err := l.send(m, true); err != nil {
		t.Fatal(err)
	}
	r := testReader(peer)
	_, b, err := r.readFrame()
	if err != nil {
		t.Fatal(err)
	}
	defer b.release()
	if !bytes.Equal(b.data[:len(want)], want) {
		t.Fatal("other bytes came")
	}
}

// TestEmptyPiecesAreSent: with the last byte of a body all of it is sent, whatever empty pieces follow, as the peer may answer from then on: an answer to a
// call whose body is not sent ends the connection.
func TestEmptyPiecesAreSent(t *testing.T) {
	for _, empty := range [][][]byte{{}, {nil}, {{}, nil, {}}} {
		c := newFakeCarrier()
		l := newLane(newConn(&Endpoint{}, connID{}, cred.Identity{}, blocktree.Principal{}, 1), 0, c)
		answered := false
		id, _, err := l.conn.calls.add(false, func(Reply, error) { answered = true })
		if err != nil {
			t.Fatal(err)
		}
		body := append([][]byte{nil, make([]byte, stageBytesMax-fixedBytes)}, empty...)
		l.out.add(&message{frame: frame{kind: frameRequest, id: id, bodyBytes: byteCount(body)}, body: body}, stageBytesMax, fixedBytes)
		if err := l.stage(); err != nil {
			t.Fatal(err)
		}
		if c.staged() != stageBytesMax || !l.out.empty() {
			t.Errorf("%d empty pieces: %d bytes are staged, all of them %v", len(empty), c.staged(), l.out.empty())
		}
		if err := l.conn.calls.answer(id, Reply{}, nil); err != nil || !answered {
			t.Errorf("%d empty pieces: %v", len(empty), err)
		}
	}
}

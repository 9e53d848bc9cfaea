package bttp

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
)

// fakeCarrier records flushes. tryFlush takes what room allows; flush takes all, once gate lets it.
type fakeCarrier struct {
	mu      sync.Mutex
	room    int // how much tryFlush takes in all; negative is no bound
	gate    chan struct{}
	fail    error
	out     []byte
	sent    bytes.Buffer
	flushes int
	closed  chan struct{}
	once    sync.Once
}

func newFakeCarrier() *fakeCarrier {
	return &fakeCarrier{room: -1, gate: make(chan struct{}, 1000), closed: make(chan struct{})}
}

func (c *fakeCarrier) Read([]byte) (int, error)    { <-c.closed; return 0, io.EOF }
func (c *fakeCarrier) inputReady() bool            { return false }
func (c *fakeCarrier) onWait(func())               {}
func (c *fakeCarrier) setDeadline(time.Time) error { return nil }
func (c *fakeCarrier) close()                      { c.once.Do(func() { close(c.closed) }) }
func (c *fakeCarrier) stage(p []byte) error        { c.out = append(c.out, p...); return nil }
func (c *fakeCarrier) staged() int                 { return len(c.out) }

func (c *fakeCarrier) take(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent.Write(c.out[:n])
	c.out = c.out[n:]
	c.flushes++
}

func (c *fakeCarrier) tryFlush() (bool, error) {
	if c.fail != nil {
		return false, c.fail
	}
	n := len(c.out)
	if c.room >= 0 {
		n = min(n, c.room)
		c.room -= n
	}
	c.take(n)
	return len(c.out) == 0, nil
}

func (c *fakeCarrier) flush() error {
	select {
	case <-c.gate:
	case <-c.closed:
		return io.ErrClosedPipe
	}
	c.take(len(c.out))
	return c.fail
}

// total is what was sent, and in how many flushes.
func (c *fakeCarrier) total() ([]byte, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.sent.Bytes()), c.flushes
}

// testLane makes a lane with its writer goroutine, and no reader.
func testLane(t *testing.T, c *fakeCarrier) *lane {
	e := &Endpoint{}
	conn := newConn(e, connID{}, cred.Identity{}, blocktree.Principal{}, 1)
	l := newLane(conn, 0, c)
	var done sync.WaitGroup
	done.Go(l.writeLoop)
	t.Cleanup(func() {
		select {
		case <-l.gone:
		default:
			l.kill()
		}
		done.Wait()
	})
	return l
}

// oneWay makes a message whose body is of n bytes b.
func oneWay(n int, b byte, release func()) *message {
	return &message{frame: frame{kind: frameOneWay, bodyBytes: n}, body: [][]byte{bytes.Repeat([]byte{b}, n)}, release: release}
}

// bodies reads the stream back: the first byte and the length of each body.
func bodies(t *testing.T, stream []byte) (got [][2]int) {
	r := testReader(bytes.NewReader(stream))
	for {
		f, b, err := r.readFrame()
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(b.data[:f.bodyBytes], b.data[:1]); n != f.bodyBytes {
			t.Fatalf("%d of %d bytes are of the body", n, f.bodyBytes)
		}
		got = append(got, [2]int{int(b.data[0]), f.bodyBytes})
		b.release()
	}
}

func TestIdleLaneWritesInTheCaller(t *testing.T) {
	c := newFakeCarrier()
	l := testLane(t, c)
	for i := range 3 {
		if err := l.send(oneWay(100+i, byte(i), nil), true); err != nil {
			t.Fatal(err)
		}
		if got, flushes := c.total(); len(bodies(t, got)) != i+1 || flushes != i+1 {
			t.Fatalf("%d messages in %d flushes when send %d returned", len(bodies(t, got)), flushes, i)
		}
	}
	if l.waiting != 0 || l.writing {
		t.Fatalf("%d bytes wait, writing %v", l.waiting, l.writing)
	}
}

func TestCorkMakesOneWrite(t *testing.T) {
	c := newFakeCarrier()
	l := testLane(t, c)
	cork := &l.conn.endpoint.cork
	cork.push()
	cork.push()
	for i := range 10 {
		if err := l.send(oneWay(100, byte(i), nil), true); err != nil {
			t.Fatal(err)
		}
	}
	if _, flushes := c.total(); flushes != 0 {
		t.Fatal("a corked lane wrote")
	}
	cork.pull() // the first of two pulls writes: nobody waits for the longest
	if got, flushes := c.total(); len(bodies(t, got)) != 10 || flushes != 1 {
		t.Fatalf("%d messages in %d flushes", len(bodies(t, got)), flushes)
	}
	for range corkFramesMax {
		if err := l.send(oneWay(1, 0, nil), true); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := c.total(); len(bodies(t, got)) != 10+corkFramesMax {
		t.Fatalf("%d messages went out of a cork that is full", len(bodies(t, got))-10)
	}
	cork.pull()
	if err := l.send(oneWay(1, 0, nil), true); err != nil {
		t.Fatal(err)
	}
	if got, _ := c.total(); len(bodies(t, got)) != 11+corkFramesMax {
		t.Fatal("the lane is still corked")
	}
}

// TestFullSocketHandsOver has the carrier take only part: the caller returns, the lane's goroutine does the rest, in order.
func TestFullSocketHandsOver(t *testing.T) {
	for _, room := range []int{0, 1, 17, 18, 5000, 300000, 700000} {
		c := newFakeCarrier()
		c.room = room
		l := testLane(t, c)
		var released atomic.Int32
		want := [][2]int{}
		for i, n := range []int{10, 9000, 600000, 8192, 8193, 3, 100000} {
			if err := l.send(oneWay(n, byte(i), func() { released.Add(1) }), true); err != nil {
				t.Fatal(err)
			}
			want = append(want, [2]int{i, n})
		}
		for range 100 {
			c.gate <- struct{}{}
		}
		l.mu.Lock()
		for l.writing {
			l.space.Wait()
		}
		l.mu.Unlock()
		got, _ := c.total()
		if b := bodies(t, got); len(b) != len(want) {
			t.Fatalf("room %d: %v", room, b)
		} else {
			for i := range b {
				if b[i] != want[i] {
					t.Fatalf("room %d: body %d is %v, want %v", room, i, b[i], want[i])
				}
			}
		}
		if released.Load() != int32(len(want)) || l.waiting != 0 {
			t.Fatalf("room %d: %d bodies released, %d bytes wait", room, released.Load(), l.waiting)
		}
	}
}

// TestKillReleasesAndFinishes kills a lane whose writer is stuck: nothing is read afterwards, every body is released once.
func TestKillReleasesAndFinishes(t *testing.T) {
	c := newFakeCarrier()
	c.room = 100
	l := testLane(t, c)
	var released atomic.Int32
	const messages = 20
	for range messages {
		if err := l.send(oneWay(100000, 1, func() { released.Add(1) }), true); err != nil {
			t.Fatal(err)
		}
	}
	l.conn.fail(errors.New("test"))
	l.kill()
	if n := released.Load(); n != messages {
		t.Fatalf("%d of %d bodies released", n, messages)
	}
	if err := l.send(oneWay(1, 1, nil), true); err == nil {
		t.Fatal("a dead lane took a message")
	}
}

func TestFailedWriteEndsTheConnection(t *testing.T) {
	c := newFakeCarrier()
	c.fail = errors.New("broken pipe")
	l := testLane(t, c)
	_ = l.send(oneWay(1, 1, nil), true)
	if err := l.conn.Err(); blocktree.KindOf(err) != blocktree.Unavailable {
		t.Fatal(err)
	}
	if err := l.send(oneWay(1, 1, nil), true); err == nil {
		t.Fatal("a dead lane took a message")
	}
}

func TestQueueIsBounded(t *testing.T) {
	c := newFakeCarrier()
	c.room = 0
	l := testLane(t, c)
	copied := oneWay(1<<20, 1, nil)
	copied.mustCopy = true
	sent := 0
	for ; sent < 1000; sent++ {
		if err := l.send(copied, true); err != nil {
			if blocktree.KindOf(err) != blocktree.Busy {
				t.Fatal(err)
			}
			break
		}
	}
	if sent != blocktree.LaneQueueBytesMax>>20-1 { // 18 bytes each of fixed part
		t.Fatalf("%d MiB were queued", sent)
	}
	if err := l.send(copied, false); err != nil {
		t.Fatalf("an answer was refused: %v", err)
	}
}

func TestPingOnlyWhenIdle(t *testing.T) {
	c := newFakeCarrier()
	c.room = 0
	l := testLane(t, c)
	l.ping()
	l.ping() // the first is still on its way
	c.gate <- struct{}{}
	l.mu.Lock()
	for l.writing {
		l.space.Wait()
	}
	l.mu.Unlock()
	got, _ := c.total()
	if f, err := decodeFrame(got); err != nil || f.kind != framePing || len(got) != fixedBytes {
		t.Fatalf("%x: %v", got, err)
	}
}

// TestAnswersToCalls tests the table of calls alone.
func TestAnswersToCalls(t *testing.T) {
	var c calls
	var got []error
	done := func(_ Reply, err error) { got = append(got, err) }
	a, others, err := c.add(true, done)
	if err != nil || others != 0 {
		t.Fatal(others, err)
	}
	b, others, err := c.add(false, done)
	if err != nil || others != 1 || a == b {
		t.Fatal(others, err)
	}
	if err := c.answer(b, Reply{}, nil); err == nil || len(got) != 0 {
		t.Fatal("an answer to a request that is not sent was believed")
	}
	c.markSent(b)
	if err := c.answer(b, Reply{}, nil); err != nil || len(got) != 1 {
		t.Fatal(err, got)
	}
	if err := c.answer(b, Reply{}, nil); err == nil {
		t.Fatal("a second answer was believed")
	}
	again, _, _ := c.add(true, done)
	if again == b || again&(1<<slotBits-1) != b&(1<<slotBits-1) {
		t.Fatalf("id %d after %d", again, b)
	}
	if !c.forget(again) || c.forget(again) {
		t.Fatal("a call is forgotten once")
	}
	end := errors.New("the end")
	c.end(end)
	if len(got) != 2 || got[1] != end || c.forget(a) {
		t.Fatal(got)
	}
	if _, _, err := c.add(true, done); err != end {
		t.Fatal(err)
	}
}

// TestManyBytesBothWays: a peer that has many answers for us is read, however many bytes of our requests wait for it: each side would else wait for
// the other.
func TestManyBytesBothWays(t *testing.T) {
	carriersAndMemory(t, func(t *testing.T, transport Transport) {
		d := newDomain(t)
		sc, cc := d.pair(transport)
		sc.Handler = echo
		_, r := d.listen(sc)
		conn := d.dial(d.client(cc), r)
		const calls = 6 * blocktree.LaneQueueBytesMax >> 20
		body := pattern(make([]byte, 1<<20), 1)
		answers := make(chan error, calls)
		for range calls {
			if err := conn.Call(1, nil, [][]byte{body}, func(r Reply, err error) { r.Release(); answers <- err }); err != nil {
				t.Fatal(err)
			}
		}
		for range calls {
			if err := <-answers; err != nil {
				t.Fatal(err)
			}
		}
	})
}

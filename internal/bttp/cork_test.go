package bttp

import (
	"bytes"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
)

// recordCarrier reads as crypto/tls does, without the cipher: a record of application data is handed out, one that is for
// TLS itself, such as a key update, is swallowed and the next one waited for.
type recordCarrier struct {
	*fakeCarrier
	raw   *rawConn
	input []byte
	calls atomic.Int32 // of Read
}

// recordOf frames data as TLS does.
func recordOf(kind byte, data []byte) []byte {
	return append([]byte{kind, 3, 3, byte(len(data) >> 8), byte(len(data))}, data...)
}

const (
	recordHandshake   = 22
	recordApplication = 23
)

func (c *recordCarrier) inputReady() bool { return c.raw.recordReady() }
func (c *recordCarrier) onWait(f func())  { c.raw.waits = f }
func (c *recordCarrier) close()           { c.fakeCarrier.close(); _ = c.raw.Close() }

func (c *recordCarrier) Read(p []byte) (int, error) {
	c.calls.Add(1)
	for len(c.input) == 0 {
		head := make([]byte, recordHeaderBytes)
		if _, err := io.ReadFull(c.raw, head); err != nil {
			return 0, err
		}
		data := make([]byte, int(head[3])<<8|int(head[4]))
		if _, err := io.ReadFull(c.raw, data); err != nil {
			return 0, err
		}
		if head[0] == recordApplication {
			c.input = data
		}
	}
	n := copy(p, c.input)
	c.input = c.input[n:]
	return n, nil
}

// TestKeyUpdateLiftsTheCork: a peer that lets a key update follow its frames, and then falls silent, must neither keep
// the endpoint corked, which would delay every message to every peer until a heartbeat, nor pass for a busy lane, which
// no heartbeat ever finds dead.
func TestKeyUpdateLiftsTheCork(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	c := &recordCarrier{fakeCarrier: newFakeCarrier(), raw: newRawConn(near, time.Minute)}
	served := make(chan struct{}, 1)
	e := &Endpoint{}
	e.SetHandler(HandlerFunc(func(r *Request) { r.Release(); served <- struct{}{} }))
	conn := newConn(e, connID{}, cred.Identity{}, blocktree.Principal{}, 1)
	l := newLane(conn, 0, c)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.readLoop(e.newReader(c))
	}()
	message := frame{kind: frameOneWay, code: 1}.append(nil)
	if _, err := far.Write(bytes.Join([][]byte{recordOf(recordApplication, message), recordOf(recordHandshake, []byte("key update"))}, nil)); err != nil {
		t.Fatal(err)
	}
	<-served
	for deadline := time.Now().Add(20 * time.Second); c.calls.Load() < 2 || e.cork.count.Load() != 0 || l.busy.Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %d reads: %d corks, busy %v", c.calls.Load(), e.cork.count.Load(), l.busy.Load())
		}
	}
	_ = far.Close()
	<-ended
	if conn.Err() == nil {
		t.Fatal("the connection outlives its carrier")
	}
}

// TestAfterBatch: what is to be done after a batch is done once, at the first pull, and refused where nobody will pull.
func TestAfterBatch(t *testing.T) {
	var c cork
	var done []int
	note := func(n int) func() { return func() { done = append(done, n) } }
	if c.later(note(0)) {
		t.Error("somebody is believed to pull")
	}
	c.push()
	c.push()
	if !c.later(note(1)) || !c.later(note(2)) || len(done) != 0 {
		t.Errorf("done already: %v", done)
	}
	c.pull()
	if !c.later(note(3)) {
		t.Error("nobody is believed to pull")
	}
	c.pull()
	if c.later(note(4)) || !slices.Equal(done, []int{1, 2, 3}) {
		t.Errorf("done: %v", done)
	}
}

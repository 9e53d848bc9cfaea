package bttp

import (
	"bytes"
	"io"
	"net"
	"slices"
	"sync"
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

// oneRead is a carrier that brings all that it has with the first read, and sends nothing.
type oneRead struct {
	*fakeCarrier
	input []byte
}

func (c *oneRead) Read(p []byte) (int, error) {
	if len(c.input) == 0 {
		return c.fakeCarrier.Read(p)
	}
	n := copy(p, c.input)
	c.input = c.input[n:]
	return n, nil
}

// TestAfterOwnBatch: what is to be done after a request's batch is done by its reader when that is over, also while somebody else's lasts; a request that came
// alone has none.
func TestAfterOwnBatch(t *testing.T) {
	for _, frames := range []int{1, 3} {
		c := &oneRead{fakeCarrier: newFakeCarrier()}
		for range frames {
			c.input = frame{kind: frameOneWay, code: 1}.append(c.input)
		}
		e := &Endpoint{}
		e.Cork() // another's, for long
		served, called, alone := 0, 0, 0
		over := make(chan struct{})
		e.SetHandler(HandlerFunc(func(r *Request) {
			r.Release()
			if !r.AfterBatch(func() { called++ }) {
				alone++
			}
			if served++; served == frames {
				close(over)
			}
		}))
		l := newLane(newConn(e, connID{}, cred.Identity{}, blocktree.Principal{}, 1), 0, c)
		ended := make(chan struct{})
		go func() { l.readLoop(e.newReader(c)); close(ended) }()
		<-over
		c.close()
		<-ended
		if called != served-alone || (called == 0) != (frames == 1) { // a slow reader makes two batches of one
			t.Errorf("%d frames: %d came alone, called %d times", frames, alone, called)
		}
	}
}

// TestWaitingForSpaceLiftsTheCork: a peer that asks for much and takes no answer must not keep the endpoint corked while its reader waits for him,
// which would delay every message to every peer until a heartbeat, and what is to be done after a batch even longer.
func TestWaitingForSpaceLiftsTheCork(t *testing.T) {
	c := &oneRead{fakeCarrier: newFakeCarrier()}
	c.room = 0
	const requests = blocktree.LaneQueueBytesMax>>20 + 8
	for id := range uint64(requests) {
		c.input = frame{kind: frameRequest, code: 1, id: id + 1}.append(c.input)
	}
	e := &Endpoint{}
	var served atomic.Int32
	big := make([]byte, 1<<20)
	e.SetHandler(HandlerFunc(func(r *Request) { r.Release(); r.Reply(nil, big); served.Add(1) }))
	conn := newConn(e, connID{}, cred.Identity{}, blocktree.Principal{}, 1)
	l := newLane(conn, 0, c)
	conn.lanes = append(conn.lanes, l)
	var loops sync.WaitGroup
	loops.Go(l.writeLoop)
	loops.Go(func() { l.readLoop(e.newReader(c)) })
	full := func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.answers > blocktree.LaneQueueBytesMax
	}
	for deadline := time.Now().Add(20 * time.Second); !full() || e.cork.count.Load() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%d requests are served, the lane is full: %t, %d corks", served.Load(), full(), e.cork.count.Load())
			break
		}
	}
	if n := served.Load(); n >= requests {
		t.Errorf("the reader did not wait: %d requests are served", n)
	}
	l.kill()
	loops.Wait()
}

package bttp

import (
	"errors"
	"sync"

	"blocktree"
	"blocktree/internal/wire"
)

// formatMeet is the version byte of a meet frame.
const formatMeet = 1

// meetBytes is the length of the body of a meet frame.
const meetBytes = 1 + len(askToken{})

// encodeMeet returns the body of a meet frame: the first frame of a carrier that comes of an ask. The same frame without a body says that it is taken.
func encodeMeet(token askToken) []byte {
	var e wire.Encoder
	e.U8(formatMeet)
	e.Raw(token[:])
	return e.Buf
}

// decodeMeet reads the body of a meet frame.
func decodeMeet(b []byte) (token askToken, err error) {
	d := wire.NewDecoder(b)
	d.Format(formatMeet)
	copy(token[:], d.Raw(len(token)))
	if err := d.Finish(); err != nil {
		return askToken{}, &blocktree.Error{Op: "meet", Err: err}
	}
	return token, nil
}

// arrival is a carrier that came with a token, from whoever has the key that was proven.
type arrival struct {
	relayed   *relayed
	proven    blocktree.Principal
	transport Transport
}

// arrivals are carriers that wait to be used, a bounded number.
type arrivals struct {
	came chan arrival

	mu     sync.Mutex
	left   int // that may still come
	closed bool
}

func newArrivals(lanes int) *arrivals { return &arrivals{came: make(chan arrival, lanes), left: lanes} }

// admit counts one that is to come. It fails with Busy.
func (a *arrivals) admit() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.left == 0 {
		return tooMany(cap(a.came))
	}
	a.left--
	return nil
}

// come adds one that was admitted; with an error it is the caller's.
func (a *arrivals) come(x arrival) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return blocktree.E("meet", blocktree.Closed, errors.New("it is over"))
	}
	a.came <- x // has room for all
	return nil
}

// close ends those that nobody has taken, and lets none come.
func (a *arrivals) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed, a.left = true, 0
	for {
		select {
		case x := <-a.came:
			_ = x.relayed.Close()
		default:
			return
		}
	}
}

// meeting takes the carriers of one token. It must not block; an error refuses the carrier.
type meeting func(a arrival) error

// expect has carriers with the token given to take, until forget. It fails with Exists for a token that is expected already, with Closed.
func (e *Endpoint) expect(token askToken, take meeting) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return blocktree.E("ask", blocktree.Closed, errors.New("endpoint closed"))
	case e.meetings[token] != nil:
		return blocktree.E("ask", blocktree.Exists, errors.New("the ask has been here"))
	}
	e.meetings[token] = take
	return nil
}

func (e *Endpoint) forget(token askToken) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.meetings, token)
}

// serveMeet takes an accepted lane whose first frame, read next, is a meet frame. An error is one that the carrier is refused with.
func (e *Endpoint) serveMeet(c carrier, r *reader, a arrival, remote string) error {
	f, b, err := r.readFrame()
	if err != nil {
		return err
	}
	if b == nil {
		return blocktree.E("meet", blocktree.Invalid, errors.New("an empty meet frame"))
	}
	token, err := decodeMeet(b.data[:f.bodyBytes])
	b.release()
	if err != nil {
		return err
	}
	e.mu.Lock()
	take := e.meetings[token]
	e.mu.Unlock()
	if take == nil {
		return blocktree.E("meet", blocktree.Unauthenticated, errors.New("a carrier that nobody has asked for"))
	}
	a.relayed = &relayed{carrier: c, in: r, remote: remote}
	return take(a)
}

// taken tells who opened a carrier that it goes on from here.
func (s *relayed) taken() error { return s.put(frame{kind: frameMeet}, nil) }

package fs

import (
	"errors"
	"sync"
	"sync/atomic"

	"blocktree"
	"blocktree/crypto/cred"
)

// chunkFiles is how many places of an owner's table are made at a time.
const chunkFiles = 64

// owner has the open files and watches of one connection. Each is found by its handle without a lock; places are taken and given back under one.
type owner struct {
	service   *Service
	caller    func() cred.Identity // as it has proven to be by now: credentials are renewed
	anonymous bool
	address   string // of the connection
	filesMax  int
	bytesMax  int64
	bytes     atomic.Int64  // that reads and writes in flight hold
	locks     atomic.Int64  // ranges that it has locked, and waits for others
	paths     chan struct{} // a token per request about a path
	watches   chan struct{} // and one for each watch
	rate      bucket        // of an anonymous caller

	chunks [blocktree.FSOpenFilesPerConnectionMax / chunkFiles]atomic.Pointer[[chunkFiles]atomic.Pointer[actor]]

	mu    sync.Mutex
	ended bool
	uses  uint64 // of places, so that no handle comes twice
	free  []uint16
	made  int // places ever taken
}

// placeBits holds the index of a place in a handle.
const placeBits = 16

// newOwner makes the owner of a connection.
func newOwner(s *Service, caller func() cred.Identity, address string) *owner {
	o := &owner{service: s, caller: caller, anonymous: caller().Anonymous(), address: address, filesMax: blocktree.FSOpenFilesPerConnectionMax,
		bytesMax: blocktree.FSInFlightBytesPerConnectionMax}
	paths := blocktree.FSPathRequestsPerConnectionMax
	if o.anonymous {
		o.bytesMax = blocktree.FSAnonymousBytesPerConnectionMax
		o.filesMax, paths = blocktree.FSOpenFilesAnonymousMax, blocktree.FSPathRequestsAnonymousConnectionMax
	}
	o.paths = make(chan struct{}, paths)
	o.watches = make(chan struct{}, blocktree.FSWatchesPerConnectionMax)
	return o
}

// find returns what a handle names, nil if there is nothing.
func (o *owner) find(handle uint64) *actor {
	place := handle & (1<<placeBits - 1)
	if place >= uint64(len(o.chunks)*chunkFiles) {
		return nil
	}
	chunk := o.chunks[place/chunkFiles].Load()
	if chunk == nil {
		return nil
	}
	if a := chunk[place%chunkFiles].Load(); a != nil && a.handle == handle {
		return a
	}
	return nil
}

// add gives an actor a handle. It fails with Closed when the owner has ended, TooLarge when it has too many.
func (o *owner) add(a *actor) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return blocktree.E("fs", blocktree.Closed, errors.New("the connection has ended"))
	}
	var place uint16
	switch {
	case len(o.free) > 0:
		place = o.free[len(o.free)-1]
		o.free = o.free[:len(o.free)-1]
	case o.made < o.filesMax:
		place = uint16(o.made)
		o.made++
	default:
		return &blocktree.Error{Op: "fs", Kind: blocktree.TooLarge, Err: errors.New("too many open files on this connection"), Hint: "close some of them"}
	}
	chunk := o.chunks[place/chunkFiles].Load()
	if chunk == nil {
		chunk = new([chunkFiles]atomic.Pointer[actor])
		o.chunks[place/chunkFiles].Store(chunk)
	}
	o.uses++
	a.handle = o.uses<<placeBits | uint64(place)
	chunk[place%chunkFiles].Store(a)
	return nil
}

// forget takes the handle of an actor back.
func (o *owner) forget(a *actor) {
	o.mu.Lock()
	defer o.mu.Unlock()
	place := uint16(a.handle & (1<<placeBits - 1))
	o.chunks[place/chunkFiles].Load()[place%chunkFiles].Store(nil)
	o.free = append(o.free, place)
}

// end closes all that is open, without waiting. No more are added.
func (o *owner) end() {
	o.service.kept.forget(o)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	for i := range o.made {
		if a := o.chunks[i/chunkFiles].Load()[i%chunkFiles].Load(); a != nil {
			a.cancel()
		}
	}
}

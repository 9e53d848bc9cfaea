package sim

import "blocktree/cluster/stripe"

// eventKind says what an event does when its time has come.
type eventKind uint8

const (
	evToNode   eventKind = iota + 1 // a message reaches node who from client peer of life gen
	evToClient                      // an answer of node peer reaches client who of life gen
	evSync                          // node who has synced the first arg entries of its log
	evApply                         // node who applies some of its Raft log
	evRead                          // node who reads its store for a ReadTask
	evCall                          // fn, for whatever is rare
	evTick                          // client who's timer
	evWork                          // client who starts something new
	evClient                        // fn, at client who
)

// event is one thing that will happen; n breaks ties so that the order is total.
type event struct {
	at        int64 // virtual milliseconds
	n         uint64
	kind      eventKind
	who, peer int
	gen       int // the life of who (or of the asking client) that the event is meant for
	arg       int
	msg       *stripe.Message
	fn        func()
}

// queue is a binary heap by (at, n) of places in a slab: what moves in the heap has no pointers.
type queue struct {
	h    []place
	slab []event
	free []int32
	n    uint64
}

type place struct {
	at int64
	n  uint64
	i  int32 // in slab
}

func (p place) before(q place) bool { return p.at < q.at || p.at == q.at && p.n < q.n }

func (q *queue) push(e event) {
	q.n++
	e.n = q.n
	p := place{at: e.at, n: e.n}
	if k := len(q.free); k > 0 {
		p.i = q.free[k-1]
		q.free = q.free[:k-1]
		q.slab[p.i] = e
	} else {
		p.i = int32(len(q.slab))
		q.slab = append(q.slab, e)
	}
	q.h = append(q.h, p)
	i := len(q.h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !p.before(q.h[up]) {
			break
		}
		q.h[i] = q.h[up]
		i = up
	}
	q.h[i] = p
}

func (q *queue) pop() event {
	top := q.h[0].i
	last := len(q.h) - 1
	p := q.h[last]
	q.h = q.h[:last]
	i := 0
	for {
		c := 2*i + 1
		if c >= last {
			break
		}
		if c+1 < last && q.h[c+1].before(q.h[c]) {
			c++
		}
		if !q.h[c].before(p) {
			break
		}
		q.h[i] = q.h[c]
		i = c
	}
	if last > 0 {
		q.h[i] = p
	}
	e := q.slab[top]
	q.slab[top] = event{}
	q.free = append(q.free, top)
	return e
}

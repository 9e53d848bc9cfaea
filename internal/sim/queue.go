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

// queue is a binary heap by (at, n).
type queue struct {
	h []event
	n uint64
}

func (q *queue) push(e event) {
	q.n++
	e.n = q.n
	q.h = append(q.h, e)
	i := len(q.h) - 1
	for i > 0 {
		p := (i - 1) / 2
		if !q.less(i, p) {
			break
		}
		q.h[i], q.h[p] = q.h[p], q.h[i]
		i = p
	}
}

func (q *queue) pop() event {
	top := q.h[0]
	last := len(q.h) - 1
	q.h[0] = q.h[last]
	q.h[last] = event{}
	q.h = q.h[:last]
	i := 0
	for {
		c := 2*i + 1
		if c >= last {
			return top
		}
		if c+1 < last && q.less(c+1, c) {
			c++
		}
		if !q.less(c, i) {
			return top
		}
		q.h[i], q.h[c] = q.h[c], q.h[i]
		i = c
	}
}

func (q *queue) less(i, j int) bool {
	return q.h[i].at < q.h[j].at || q.h[i].at == q.h[j].at && q.h[i].n < q.h[j].n
}

package nbd

import (
	"sync"
	"time"

	"blocktree"
	"blocktree/internal/invariant"
)

const (
	// repliesPerWrite bounds one writev: more do not make it cheaper per reply.
	repliesPerWrite = 64

	// inlineBytes is how much the reader answers by itself before it hands replies to the socket.
	inlineBytes = 64 << 10
)

// outbox collects the replies of one connection. It has no goroutine of its own: who puts a reply in and finds nobody
// writing writes everything that is ready.
type outbox struct {
	c *conn
	w vecWriter

	mu      sync.Mutex
	changed sync.Cond  // open fell, or the writer stopped
	ready   []*request // replies not yet taken by the writer
	open    int        // requests that have a slot: received, and their reply not yet written
	waiting bool       // somebody waits for changed
	writing bool       // somebody is the writer
	soon    bool       // a goroutine is about to be it
	partial bool       // one of the open requests has not been received in full
	retired bool       // kick the reader whenever nothing received in full is open
	broken  bool       // the client is gone: replies are dropped

	readyBytes int        // of replies in ready
	counts     Counts     // of the connection
	batch      []*request // the writer's

	// Made once, so that a goroutine that runs one costs no closure.
	later, after, rest func() // flushLater, flushAfter, writeRest
}

func (o *outbox) init(c *conn) {
	o.c = c
	o.changed.L = &o.mu
	o.batch = make([]*request, 0, repliesPerWrite)
	o.w.init(c.nc)
	o.later, o.after, o.rest = o.flushLater, o.flushAfter, o.writeRest
}

// begin takes a slot for a request, waiting while all are in use. Only the reader calls it.
func (o *outbox) begin() {
	o.mu.Lock()
	for o.open >= blocktree.NBDRequestsPerConnectionMax {
		if len(o.ready) > 0 && !o.writing {
			o.mu.Unlock()
			o.flush(false)
			o.mu.Lock()
			continue
		}
		if o.c.corked {
			o.mu.Unlock()
			o.c.uncork()
			o.mu.Lock()
			continue
		}
		o.waiting = true
		o.changed.Wait()
	}
	o.open++
	o.mu.Unlock()
}

// tryBegin takes a slot if there is one. Only the reader calls it.
func (o *outbox) tryBegin() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open >= blocktree.NBDRequestsPerConnectionMax {
		return false
	}
	o.open++
	return true
}

// unbegin gives back n slots that tryBegin took, of requests that will be received again. The reader has another one.
func (o *outbox) unbegin(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open -= n
}

// put makes a reply ready. It reports whether enough is ready to be written at once.
func (o *outbox) put(r *request) (enough bool) {
	o.mu.Lock()
	o.ready = append(o.ready, r)
	o.readyBytes += r.replyBytes
	enough = len(o.ready) >= repliesPerWrite || o.readyBytes >= inlineBytes
	o.mu.Unlock()
	return enough
}

// flush writes what is ready unless somebody does so already. The reader must not wait for the client and passes
// mayWait false: what the socket does not take at once is then left to a goroutine.
func (o *outbox) flush(mayWait bool) {
	o.mu.Lock()
	if o.writing || len(o.ready) == 0 {
		o.mu.Unlock()
		return
	}
	o.writing = true
	o.take()
	o.mu.Unlock()
	o.write(mayWait)
}

// flushSoon is for a goroutine that must not be held up and has put a reply in. Where no other request is open it writes
// the reply; else others are likely to follow at once, and they are written together: when those that end together have, or by a goroutine.
func (o *outbox) flushSoon() {
	o.mu.Lock()
	alone := o.open <= len(o.ready)
	soon := !alone && !o.writing && !o.soon
	if soon {
		o.soon = true
		o.c.workers.Add(1)
	}
	o.mu.Unlock()
	switch {
	case alone:
		o.flush(false)
	case soon && !o.c.dev.AfterBatch(o.after):
		go o.later()
	}
}

// flushLater is that goroutine.
func (o *outbox) flushLater() {
	defer o.c.workers.Done()
	o.notSoon()
	o.flush(true)
}

// flushAfter is called when a batch has ended. It must not wait.
func (o *outbox) flushAfter() {
	defer o.c.workers.Done()
	o.notSoon()
	o.flush(false)
}

func (o *outbox) notSoon() {
	o.mu.Lock()
	o.soon = false
	o.mu.Unlock()
}

// write is the writer's loop: the batch is taken, o.writing is ours.
func (o *outbox) write(mayWait bool) {
	for {
		done, err := o.w.try()
		if !done && err == nil {
			if !mayWait {
				o.c.workers.Add(1)
				go o.rest()
				return
			}
			err = o.w.wait(o.c.s.stallTimeout, o.c.harmful)
		}
		o.finish(err)
		o.mu.Lock()
		if len(o.ready) == 0 {
			o.writing = false
			o.changed.Broadcast()
			o.mu.Unlock()
			return
		}
		o.take()
		o.mu.Unlock()
	}
}

// writeRest is the goroutine that goes on where the reader would have to wait.
func (o *outbox) writeRest() {
	defer o.c.workers.Done()
	o.finish(o.w.wait(o.c.s.stallTimeout, o.c.harmful))
	o.write(true)
}

// take moves replies into the writer's batch. o.mu is held.
func (o *outbox) take() {
	n := min(len(o.ready), repliesPerWrite)
	o.batch = append(o.batch[:0], o.ready[:n]...)
	left := copy(o.ready, o.ready[n:])
	clear(o.ready[left:])
	o.ready = o.ready[:left]
	now := time.Since(o.c.s.began)
	for _, r := range o.batch {
		if o.broken {
			r.outcome = OutcomeGone
		}
		o.counts.count(r, now)
		o.readyBytes -= r.replyBytes
		for _, b := range r.reply() {
			if !o.broken {
				o.w.add(b)
			}
		}
	}
}

// finish gives back what the replies of the batch held.
func (o *outbox) finish(err error) {
	if err != nil {
		o.c.cut()
	}
	n := len(o.batch)
	for i, r := range o.batch {
		r.free()
		o.batch[i] = nil
	}
	o.batch = o.batch[:0]
	o.mu.Lock()
	o.broken = o.broken || err != nil
	o.open -= n
	invariant.Check(o.open >= 0, "more requests were answered than received")
	if o.waiting {
		o.waiting = false
		o.changed.Broadcast()
	}
	kick := o.idle()
	o.mu.Unlock()
	if kick {
		o.c.kick()
	}
}

// receiving marks the request that the reader is receiving as partial, or ends that.
func (o *outbox) receiving(partial bool) {
	o.mu.Lock()
	o.partial = partial
	kick := o.idle()
	o.mu.Unlock()
	if kick {
		o.c.kick()
	}
}

// idle reports whether a retired connection has nothing left to finish. o.mu is held.
func (o *outbox) idle() bool {
	return o.retired && (o.open == 0 || o.partial && o.open == 1)
}

// drain writes everything and waits until no request is open. Only the reader calls it, at its end.
func (o *outbox) drain() {
	o.flush(false)
	o.mu.Lock()
	for o.open > 0 || o.writing {
		o.waiting = true
		o.changed.Wait()
	}
	o.mu.Unlock()
}

// retire makes the reader end as soon as no request is open.
func (o *outbox) retire() {
	o.mu.Lock()
	o.retired = true
	kick := o.idle()
	o.mu.Unlock()
	if kick {
		o.c.kick()
	}
}

// look returns a copy of what is counted, and how many requests are open.
func (o *outbox) look() (Counts, int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.counts, o.open
}

// past is a deadline that has expired.
func past() time.Time { return time.Unix(1, 0) }

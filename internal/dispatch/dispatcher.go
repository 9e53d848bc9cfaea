package dispatch

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"blocktree"
	"blocktree/internal/bttp"
)

// Config is what a Dispatcher works with.
type Config struct {
	Routes Routes
	// Connect connects to a runtime by whatever way there is, and has it prove place and services; as bttp.Endpoint.Dial does. A connection that is Asked is the dispatcher's own.
	Connect func(context.Context, blocktree.Runtime) (*bttp.Conn, error)
}

// Dispatcher brings messages to whom they are for. It must be closed before the endpoint that it connects by.
type Dispatcher struct {
	cfg   Config
	stats stats

	mu     sync.Mutex
	lead   int // which of several is tried first: one that failed is the last
	links  map[blocktree.Principal]*link
	turn   uint64 // of links
	closed bool
	end    chan struct{} // closed by Close
	wg     sync.WaitGroup
}

// Stats counts since the Dispatcher was made.
type Stats struct {
	Given       uint64 // messages that a connection took
	Elsewhere   uint64 // further tries of one that was certainly not delivered
	Undelivered uint64
	Links       int // connections that are remembered now
}

type stats struct{ given, elsewhere, undelivered atomic.Uint64 }

// New makes a Dispatcher. It connects to nobody.
func New(c Config) *Dispatcher {
	return &Dispatcher{cfg: c, links: map[blocktree.Principal]*link{}, end: make(chan struct{})}
}

// Stats returns the counters.
func (d *Dispatcher) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Stats{d.stats.given.Load(), d.stats.elsewhere.Load(), d.stats.undelivered.Load(), len(d.links)}
}

// Dispatch sends a message and returns the answer, which must be released. It blocks until there is one or ctx ends: that is Canceled or Timeout, and what became of the message is not known; or Undeliverable, where nobody had been found or connected to by then. The error of the
// addressee is returned as it is. Kinds beside those: Undeliverable, with an Undelivered; Invalid, an address without sense; TooLarge; Busy, more is in flight to the runtime than a connection takes.
func (d *Dispatcher) Dispatch(ctx context.Context, a Address, m Message) (Answer, error) {
	if err := a.check(); err != nil {
		return Answer{}, err
	}
	if a.Kind == ToActor {
		return d.toActor(ctx, a, &m)
	}
	tries := 0
	answer, in, err := d.toService(ctx, a, &m, &tries)
	for first := err; a.Kind == Rootward && blocktree.KindOf(err) == blocktree.Unsupported && in != blocktree.RootPath(in.Root()); { // each time nearer to the root
		a.Scope = in.Parent()
		d.stats.elsewhere.Add(1)
		if answer, in, err = d.toService(ctx, a, &m, &tries); WhyOf(err) == NoService {
			err = first
			break
		}
	}
	if WhyOf(err) != 0 {
		d.stats.undelivered.Add(1)
	}
	return answer, err
}

// Find returns who has the service of an address, of those who can be meant, and how that was found: whom Dispatch sends to. Kinds as of Dispatch; Steps come with an error, too.
func (d *Dispatcher) Find(ctx context.Context, a Address) (Found, error) {
	if err := a.check(); err != nil || a.Kind == ToActor {
		return Found{}, errors.Join(err, blocktree.E("dispatch", blocktree.Invalid, errors.New("an actor is not looked for")))
	}
	f, err := d.cfg.Routes.Find(ctx, a)
	if err == nil && len(f.Runtimes) > 0 && a.admits(f.Runtimes[0].Path.Parent()) {
		return f, nil
	}
	why := NoService
	if err != nil && blocktree.KindOf(err) != blocktree.NotFound {
		why = NoRoute
	} else if err == nil {
		err = blocktree.E("find", blocktree.NotFound, errors.New("those who are named are elsewhere"))
	}
	return Found{Steps: f.Steps}, undelivered(a, "", &Undelivered{Why: why, Err: err})
}

// toService sends to one of those who have the service. Where nobody can be connected to they are looked for once more. in is the directory of who was found.
func (d *Dispatcher) toService(ctx context.Context, a Address, m *Message, tries *int) (answer Answer, in blocktree.Scope, err error) {
	for again := false; ; again = true {
		f, known := d.cfg.Routes.Known(a)
		if !known || !a.admits(f.Runtimes[0].Path.Parent()) {
			if f, err = d.Find(ctx, a); err != nil {
				return Answer{}, "", err
			}
		}
		in = f.Runtimes[0].Path.Parent()
		var undone bool
		if answer, undone, err = d.toOneOf(ctx, a, f.Runtimes, m, tries); !undone || again || !f.Asked || ctx.Err() != nil {
			return answer, in, err
		}
		d.cfg.Routes.Failed(a)
		d.stats.elsewhere.Add(1)
	}
}

// toOneOf sends to the first that takes the message. undone says that none did, certainly.
func (d *Dispatcher) toOneOf(ctx context.Context, a Address, runtimes []blocktree.Runtime, m *Message, tries *int) (_ Answer, undone bool, _ error) {
	in, lead := runtimes[0].Path.Parent(), d.first()
	var f failures
	for i := range runtimes {
		r := &runtimes[(lead+i)%len(runtimes)]
		if r.Path.Parent() != in { // a configuration named it, or it is a lie
			continue
		}
		if *tries++; *tries > blocktree.DispatchTriesMax {
			f.add(NoAnswer, errTooMany)
			break
		}
		if i > 0 {
			d.stats.elsewhere.Add(1)
		}
		l, err := d.link(ctx, a.Service, r)
		if err != nil {
			f.add(NoAnswer, err)
			d.next()
			if ctx.Err() != nil {
				break
			}
			continue
		}
		answer, u, err := d.give(ctx, l, m)
		switch {
		case u == nil:
			if blocktree.KindOf(err) == blocktree.Unavailable {
				d.next()
			}
			return answer, false, err
		case u.Maybe:
			d.next()
			return Answer{}, false, undelivered(a, r.Path, u)
		case u.Why == ActorGone: // the runtime is there and has no such service
			f.add(NoService, u.Err)
		default:
			f.add(NoAnswer, u.Err)
		}
		d.next()
	}
	return Answer{}, true, undelivered(a, "", f.undelivered())
}

var errTooMany = errors.New("too many runtimes that offer it were tried")

// failures are why each of several runtimes did not take a message.
type failures struct {
	why  Why // NoService only where each says so
	kind blocktree.Kind
	errs []error
}

func (f *failures) add(why Why, err error) {
	if f.why == 0 || why != NoService {
		f.why = why
	}
	switch k := blocktree.KindOf(err); {
	case why == NoService:
		f.kind = blocktree.NotFound
	case k != blocktree.Other:
		f.kind = k
	case f.kind == blocktree.Other:
		f.kind = blocktree.Unavailable
	}
	f.errs = append(f.errs, err)
}

// undelivered has the kind of the last of them.
func (f *failures) undelivered() *Undelivered {
	return &Undelivered{Why: f.why, Err: &blocktree.Error{Op: "connect", Kind: f.kind, Err: errors.Join(f.errs...)}}
}

// toActor sends to an actor. Nothing is tried elsewhere.
func (d *Dispatcher) toActor(ctx context.Context, a Address, m *Message) (Answer, error) {
	l := a.Actor.link
	d.hold(l)
	answer, u, err := d.give(ctx, l, m)
	if u == nil {
		return answer, err
	}
	d.stats.undelivered.Add(1)
	return Answer{}, undelivered(a, a.Actor.Runtime(), u)
}

// give has a link that is held carry a message, and lets go of it, but for an answer, which holds it until it is released. Undelivered with Why ActorGone is that the runtime says so, whoever it is for.
func (d *Dispatcher) give(ctx context.Context, l *link, m *Message) (Answer, *Undelivered, error) {
	held := false
	defer func() {
		if !held {
			d.letGo(l)
		}
	}()
	w := bttp.Wait{Bulk: m.Bulk}
	if late := m.Late; late != nil {
		conn := l.conn
		w.Late = func(r bttp.Reply) { late(conn, r) }
	}
	reply, err := l.conn.CallWaiting(ctx, w, m.Code, m.Header, m.Body)
	if err == nil || !bttp.NotSent(err) {
		d.stats.given.Add(1)
	}
	if err == nil {
		held = true
		return Answer{Reply: reply, From: l.conn.Peer().Path, d: d, link: l}, nil, nil
	}
	cause := l.conn.Err()
	switch {
	case bttp.NotSent(err) && cause != nil:
		return Answer{}, &Undelivered{Why: RuntimeGone, Err: cause}, nil
	case bttp.NotSent(err) && blocktree.KindOf(err) == blocktree.Busy:
		return Answer{}, nil, &blocktree.Error{Op: "dispatch", Runtime: l.conn.Peer().Path.Short(), Err: err, Hint: "more is in flight to that runtime than a connection takes: try again when some of it is answered"}
	case bttp.NotSent(err):
		return Answer{}, nil, err
	case cause != nil && errors.Is(err, cause):
		return Answer{}, &Undelivered{Why: RuntimeGone, Maybe: true, Err: cause}, nil
	case blocktree.KindOf(err) == blocktree.Undeliverable:
		return Answer{}, &Undelivered{Why: ActorGone, Err: err}, nil
	}
	return Answer{}, nil, err
}

// first is which of several is tried first.
func (d *Dispatcher) first() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lead
}

// next has another be the first.
func (d *Dispatcher) next() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lead++
}

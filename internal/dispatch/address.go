package dispatch

import (
	"context"
	"errors"

	"blocktree"
	"blocktree/internal/bttp"
)

// Kind is which of the three ways of addressing it is.
type Kind uint8

// The kinds.
const (
	InScope  Kind = iota + 1 // to any runtime directly in Scope that registers Service
	Rootward                 // to any of those in the first directory that has such, from Scope toward the root
	ToActor                  // to Actor alone
)

// Address says whom a message is for.
type Address struct {
	Kind    Kind
	Scope   blocktree.Scope // of InScope and Rootward
	Service string          // the same
	Actor   *Actor          // of ToActor; not released
}

// check refuses an address that makes no sense, with Invalid.
func (a Address) check() error {
	switch {
	case (a.Kind == InScope || a.Kind == Rootward) && a.Scope != "" && a.Service != "" && a.Actor == nil:
		return nil
	case a.Kind == ToActor && a.Actor != nil && a.Scope == "" && a.Service == "":
		return nil
	}
	return blocktree.E("dispatch", blocktree.Invalid, errors.New("an address of a scope and a service, or of an actor, and nothing else"))
}

// admits reports whether a runtime in a directory can be whom the address means.
func (a Address) admits(dir blocktree.Scope) bool {
	return a.Kind == InScope && dir == a.Scope || a.Kind == Rootward && a.Scope.Within(dir)
}

// Message is a request as the service understands it.
type Message struct {
	Code   uint16
	Header []byte // copied; so is Body
	Body   []byte
	Bulk   bool // it is short, and its answer long
	// Late gets the answer that comes when nobody waits any more, unless it is nil, with the connection that it came by. It must not block, and does not release it.
	Late func(*bttp.Conn, bttp.Reply)
}

// Answer is what the addressee said. It must be released, once: the connection that it came by is kept until then.
type Answer struct {
	bttp.Reply
	From blocktree.Path // the runtime that said it

	d    *Dispatcher
	link *link
}

// Release gives back the memory of the answer, and lets go of its connection. On the zero Answer it does nothing.
func (a Answer) Release() {
	a.Reply.Release()
	if a.link != nil {
		a.d.letGo(a.link)
	}
}

// Actor is the addressee that the answer was about, at the runtime and by the connection that it came by: actors are their connection's, and end with it. The connection is kept for it until its Release. To be called before the answer is released.
func (a Answer) Actor() *Actor {
	a.d.mu.Lock()
	defer a.d.mu.Unlock()
	a.link.holds++
	return &Actor{d: a.d, link: a.link}
}

// Actor is the address of one actor. Which of its connection's actors it is says the message.
type Actor struct {
	d        *Dispatcher
	link     *link
	released bool // under d.mu
}

// Runtime is where the actor is.
func (a *Actor) Runtime() blocktree.Path { return a.link.conn.Peer().Path }

// Release says that no more messages are sent to the actor. A second time does nothing.
func (a *Actor) Release() {
	a.d.mu.Lock()
	defer a.d.mu.Unlock()
	if !a.released {
		a.released = true
		a.link.holds--
		a.d.reap(a.link)
	}
}

// Found is who has a service.
type Found struct {
	Runtimes []blocktree.Runtime // at least one; not to be changed
	Asked    bool                // others said so, who may be asked again; else a configuration did
	Steps    []string            // how Find came to that, or to an error, in order, a line for people each
}

// Routes say who has a service. There are two: those of package cluster, and tests'.
type Routes interface {
	// Known is Find from memory: false where others must be asked, or nobody is known. It does not block or allocate.
	Known(a Address) (Found, bool)
	// Find returns who has the service; it may ask. Kinds: NotFound where it is known that nobody has it, else any; Steps come with an error, too.
	Find(ctx context.Context, a Address) (Found, error)
	// Failed says that nobody was reached where Find, or Known, said: they ask again.
	Failed(a Address)
}

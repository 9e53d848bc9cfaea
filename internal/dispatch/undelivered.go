package dispatch

import (
	"errors"

	"blocktree"
)

// Why says why a message was not delivered. Whys are append-only.
type Why uint8

// The whys.
const (
	NoService   Why = iota + 1 // nobody in the scope, or rootward from it, has the service
	NoRoute                    // nobody who was asked says who has it
	NoAnswer                   // none of those who have it could be connected to
	ActorGone                  // the runtime is there, and the actor is not
	RuntimeGone                // the connection has ended, and the actor or the question with it
)

var whys = [...]string{NoService: "no such service", NoRoute: "nobody says where the service is", NoAnswer: "nobody answers", ActorGone: "the actor is gone", RuntimeGone: "the runtime is gone"}

// String is the why in a few words.
func (w Why) String() string {
	if w > 0 && int(w) < len(whys) {
		return whys[w]
	}
	return "unknown"
}

var hints = [...]string{
	NoService:   "a runtime offers a service by its credentials, its process record and its configuration",
	NoRoute:     "the error says who was asked; ask again when they can be reached",
	NoAnswer:    "see whether the runtimes that offer the service are running, and can be reached from here",
	ActorGone:   "open it again",
	RuntimeGone: "the connection to the runtime has ended, and what was open there with it; open it again",
}

// Undelivered is in the chain of every error of a message that reached nobody.
type Undelivered struct {
	Why   Why
	Maybe bool  // it was given to a connection that ended before the answer: it may have arrived, and been done
	Err   error // what it came of
}

// Error says why.
func (u *Undelivered) Error() string {
	text := u.Why.String()
	if u.Maybe {
		text += ", and the message may have arrived"
	}
	if u.Err != nil {
		text += ": " + u.Err.Error()
	}
	return text
}

// Unwrap returns what it came of.
func (u *Undelivered) Unwrap() error { return u.Err }

// WhyOf returns why a message was not delivered, 0 for an error of any other sort.
func WhyOf(err error) Why {
	if err == nil { // without memory
		return 0
	}
	if u := (*Undelivered)(nil); errors.As(err, &u) {
		return u.Why
	}
	return 0
}

// undelivered is the error of a message for a.
func undelivered(a Address, runtime blocktree.Path, u *Undelivered) error {
	err := &blocktree.Error{Op: "dispatch", Kind: blocktree.Undeliverable, Err: u, Hint: hints[u.Why]}
	if a.Scope != "" {
		err.Path = a.Scope.Short()
	}
	if runtime != "" {
		err.Runtime = runtime.Short()
	}
	return err
}

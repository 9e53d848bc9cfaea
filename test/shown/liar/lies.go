package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/internal/bttp"
	"blocktree/route"
)

// liar answers queries.
type liar struct {
	me    *runtime
	own   blocktree.Runtime // as others reach it
	other *blocktree.Runtime
	asked atomic.Uint64
}

// serve lies until ctx ends, and says how often it was asked.
func (r *runtime) serve(ctx context.Context, args []string) error {
	l := &liar{me: r, own: r.at(args[0])}
	if len(args) == 3 {
		other, err := load(args[1])
		if err != nil {
			return err
		}
		at := other.at(args[2])
		l.other = &at
	}
	e, err := bttp.Listen(ctx, bttp.Config{Key: r.key, Credentials: r.chain, Root: r.base.Root(), Addrs: []string{args[0]}, Handler: l, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	<-ctx.Done()
	fmt.Printf("asked=%d\n", l.asked.Load())
	return e.Close()
}

// Serve implements bttp.Handler.
func (l *liar) Serve(req *bttp.Request) {
	defer req.Release()
	q, err := route.DecodeQuery(req.Body)
	if req.Code != codeRoute || err != nil {
		req.Fail(blocktree.E("liar", blocktree.Unavailable, err))
		return
	}
	req.Reply(nil, l.lie(q, l.asked.Add(1)))
}

// lie is the answer to the n-th query. Whom it names is always somebody who is not there: the other liar, with its real key, as a node of a directory above.
func (l *liar) lie(q route.Query, n uint64) []byte {
	dir, ok := route.SpeaksFor(l.me.id)
	if !ok {
		return nil
	}
	a := route.Answer{Query: q, Directory: dir, TTL: blocktree.RouteTTLMax, Given: time.Now()}
	if l.other != nil && q.Scope.Within(l.other.Path.Parent()) && l.other.Path.Parent() != dir && l.other.Path.Parent().Within(dir) { // the way down, to the other one
		a.Outcome, a.Redirect = route.Redirected, route.Redirect{Directory: l.other.Path.Parent(), Generation: 99, Runtimes: []blocktree.Runtime{*l.other}}
		return l.sealed(a)
	}
	up := dir.Parent()
	a.Outcome, a.Redirect = route.Redirected, route.Redirect{Directory: up, Generation: 99, Runtimes: []blocktree.Runtime{l.named(up)}}
	switch n % 5 {
	case 1: // somebody else's answer, an old one: to another question
		a.Query.Nonce = route.NewNonce()
	case 2: // not what was signed
		frame := l.sealed(a)
		return bytes.Replace(frame, []byte(dir.Base()), []byte("labs")[:min(4, len(dir.Base()))], 1)
	case 3: // no answer
		return bytes.Repeat([]byte{1}, 4096)
	case 4: // too much of one
		return make([]byte, blocktree.RouteAnswerBytesMax+1)
	}
	return l.sealed(a)
}

// named is a node of a directory above: by its key the other liar, or this one.
func (l *liar) named(dir blocktree.Scope) blocktree.Runtime {
	r := l.own
	if l.other != nil {
		r = *l.other
	}
	if r.Path.Parent() != dir { // else it is where it is said to be: a loop
		r.Path = dir.Join("node9")
	}
	return r
}

func (l *liar) sealed(a route.Answer) []byte {
	frame, err := route.Signer{Key: l.me.key, Credentials: l.me.chain}.Seal(a)
	if err != nil {
		return nil
	}
	return frame
}

package bttp

import (
	"context"
	"testing"
	"time"

	"blocktree"
)

// TestDiscover: who is at an address is known by what it proves; of another domain nobody is.
func TestDiscover(t *testing.T) {
	carriers(t, func(t *testing.T, transport Transport) {
		d, other := newDomain(t), newDomain(t)
		at := func(d *domain, name string) Config {
			c := d.config(name)
			c.Transport = transport
			return c
		}
		_, here := d.listen(at(d, "node"))
		_, foreign := other.listen(at(other, "node"))
		e := d.client(at(d, "client"))
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		id, err := e.Discover(ctx, here.Endpoints[0])
		if err != nil || id.Principal != here.Principal || id.Path != here.Path {
			t.Errorf("%v at %s: %v", id.Principal, id.Path.Short(), err)
		}
		if _, err := e.Discover(ctx, foreign.Endpoints[0]); blocktree.KindOf(err) != blocktree.Unauthenticated {
			t.Errorf("a node of another domain: %v", err)
		}
	})
}

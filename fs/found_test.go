package fs

import (
	"context"
	"testing"

	"blocktree"
	"blocktree/cluster"
)

// told is a Resolver that says what it is told to.
type told []blocktree.Runtime

func (t told) InScope(context.Context, blocktree.Scope, string) ([]blocktree.Runtime, error) {
	return t, nil
}
func (t told) Closest(context.Context, blocktree.Scope, string) ([]blocktree.Runtime, error) {
	return t, nil
}

// F2: whoever is named proves the service, and lies at or above the path.
func TestServiceProves(t *testing.T) {
	b := newBed(t, nil)
	client, who := b.dial("alice")
	path := b.fake.file("a", Read, who)
	if _, err := client.Stat(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	aside := b.runtime
	aside.Path = b.runtime.Path.Parent().Join("aside").Join("node")
	b.must(client.dispatcher.Close())
	client.dispatcher = cluster.Dispatcher(client.endpoint, nil, told{aside})
	if _, err := client.Stat(t.Context(), path); !NoService(err) {
		t.Errorf("a service elsewhere: %v", err)
	}
	key, chain := b.identity("other") // no service in its credentials
	if err := b.endpoint.Close(); err != nil {
		t.Fatal(err)
	}
	b.listen(key, chain)
	client, _ = b.dial("bob")
	if _, err := client.Stat(t.Context(), path); blocktree.KindOf(err) != blocktree.Unauthenticated {
		t.Errorf("who is no service: %v", err)
	}
}

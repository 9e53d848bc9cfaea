package connect

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/crypto/cred"
	"blocktree/fs"
	"blocktree/internal/bttp"
	"blocktree/internal/config"
	"blocktree/route"
)

// Identity loads the key and the credentials that a configuration names, and checks that they belong together and to
// the place that the configuration says. It fails with NotFound, Permission, Invalid or Unauthenticated.
func Identity(b *config.Base) (cred.Key, cred.Credentials, error) {
	key, err := cred.LoadKey(b.Identity.Key)
	if err != nil {
		return cred.Key{}, nil, err
	}
	chain, err := cred.Load(b.Identity.Credentials)
	if err != nil {
		return cred.Key{}, nil, err
	}
	id, err := cred.Verify(chain, b.Root(), time.Now())
	if err != nil {
		return cred.Key{}, nil, &blocktree.Error{Op: "identity", Path: b.Identity.Credentials, Err: err}
	}
	mismatch := func(what, hint string) error {
		return &blocktree.Error{Op: "identity", Path: b.Identity.Credentials, Kind: blocktree.Unauthenticated,
			Err: errors.New(what), Hint: hint}
	}
	if id.Principal != key.Principal() {
		return cred.Key{}, nil, mismatch("the credentials are those of another key than "+b.Identity.Key,
			"identity.key and identity.credentials were made together; use such a pair")
	}
	if id.Path != b.RuntimePath() {
		return cred.Key{}, nil, mismatch("the credentials are for "+id.Path.Short()+", path says "+b.RuntimePath().Short(),
			"write the path that the credentials were issued for")
	}
	return key, chain, nil
}

// Cluster makes a client of the cluster that a configuration names. Where that lists members it waits for no node; the first request does. Else it waits until the cluster of the directory was found.
func Cluster(ctx context.Context, b *config.Base, log *slog.Logger) (*cluster.Client, error) {
	key, chain, err := Identity(b)
	if err != nil {
		return nil, err
	}
	config := cluster.ClientConfig{Path: b.RuntimePath(), Root: b.Root(), Key: key, Credentials: chain,
		Transport: bttp.Transport(b.Transport), Seeds: Seeder(b), Scope: b.Directory(), Logger: log, Clock: SystemClock{},
		SpareAfter: b.Cluster.SpareAfter.Duration, Ways: b.Parents()}
	if members := b.Runtimes(); len(members) > 0 { // else it is found from the root directory on
		table, err := route.NewTable(members)
		if err != nil {
			return nil, err
		}
		config.Resolver = table
	}
	return cluster.Dial(ctx, config)
}

// Filesystem makes a client of the filesystem services that are found by the routes of a client, or by routes of its own as nobody in particular (client is nil); where none is found, of those that the configuration
// names. It connects to nobody; the first request does.
func Filesystem(b *config.Base, client *cluster.Client, log *slog.Logger) (*fs.Client, error) {
	c := fs.ClientConfig{Root: b.Root(), Transport: bttp.Transport(b.Transport), Logger: log, Clock: SystemClock{}}
	var err error
	if c.Resolver, err = route.NewTable(b.Filesystems()); err != nil {
		return nil, err
	}
	if client != nil {
		c.Routes = client.Routes()
		if c.Key, c.Credentials, err = Identity(b); err != nil {
			return nil, err
		}
		return fs.Dial(c)
	}
	begin := cluster.RoutesConfig{Root: b.Root(), Seeds: Seeder(b), Home: cluster.Home(b.Directory(), b.Runtimes()), Logger: log, Clock: SystemClock{}}
	if begin.Seeds != nil || len(begin.Home.Runtimes) > 0 {
		c.Begin = &begin
	}
	return fs.Dial(c)
}

// Seeder returns what names runtimes of the root directory: the seeds of a configuration, or DNS. Nil if it has neither.
func Seeder(b *config.Base) route.Seeder {
	switch {
	case len(b.Domain.Seeds) > 0:
		return route.Seeds(b.Seeds())
	case b.Domain.DNS.Name != "":
		return route.DNS{Root: b.Root(), Name: b.Domain.DNS.Name, Server: b.Domain.DNS.Server}
	}
	return nil
}

package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
	"blocktree/internal/config"
	"blocktree/internal/node"
	"blocktree/route"
)

// codeRoute is the code of queries.
const codeRoute = 43

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "liar: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) < 3 {
		return fmt.Errorf("usage: liar serve|flood|ask|look CONFIG ..., see doc.go")
	}
	me, err := load(args[1])
	if err != nil {
		return err
	}
	switch what, rest := args[0], args[2:]; {
	case what == "serve" && (len(rest) == 1 || len(rest) == 3):
		return me.serve(ctx, rest)
	case what == "flood" && len(rest) == 3:
		return me.flood(ctx, rest)
	case what == "ask" && len(rest) == 1:
		return me.ask(ctx, rest[0])
	case what == "look" && len(rest) == 3:
		return me.look(ctx, rest)
	}
	return fmt.Errorf("usage: liar serve|flood|ask|look CONFIG ..., see doc.go")
}

// runtime is who a configuration describes.
type runtime struct {
	base  *config.Base
	key   cred.Key
	chain cred.Credentials
	id    cred.Identity
}

func load(file string) (*runtime, error) {
	c, err := config.LoadClient(config.Source{File: file})
	if err != nil {
		return nil, err
	}
	r := &runtime{base: &c.Base}
	if r.key, err = cred.LoadKey(c.Identity.Key); err != nil {
		return nil, err
	}
	if r.chain, err = cred.Load(c.Identity.Credentials); err != nil {
		return nil, err
	}
	r.id, err = cred.Verify(r.chain, c.Root(), time.Now())
	return r, err
}

// endpoint is a new one, of nobody in particular if anonymous.
func (r *runtime) endpoint(anonymous bool) (*bttp.Endpoint, error) {
	c := bttp.Config{Key: r.key, Credentials: r.chain, Root: r.base.Root(), Transport: bttp.TCP, Log: slog.New(slog.DiscardHandler)}
	if anonymous {
		c.Key, c.Credentials = cred.Key{}, nil
	}
	return bttp.New(c)
}

// at is the runtime of a configuration at an address, as a record has it.
func (r *runtime) at(address string) blocktree.Runtime {
	return blocktree.Runtime{Path: r.id.Path, Principal: r.id.Principal, Node: 1, Endpoints: []string{address}, Services: []string{blocktree.ServiceSector}}
}

// look asks for a path among liars, and for one that they have nothing to do with, by one cache.
func (r *runtime) look(ctx context.Context, args []string) error {
	times, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	client, err := cluster.Dial(ctx, cluster.ClientConfig{Path: r.id.Path, Root: r.base.Root(), Key: r.key, Credentials: r.chain, Transport: bttp.TCP, Seeds: route.Seeds(r.base.Seeds()),
		Scope: blocktree.RootPath(r.base.Root()), Logger: slog.New(slog.DiscardHandler), Clock: node.SystemClock{}})
	if err != nil {
		return err
	}
	defer client.Close()
	honest, err := r.base.Resolve(args[1])
	if err != nil {
		return err
	}
	for i := range times {
		bad, err := r.base.Resolve(fmt.Sprintf("%s/x%d", args[0], i))
		if err != nil {
			return err
		}
		finder := client.Routes().Finder()
		begun := time.Now()
		found, err := finder.Explain(ctx, route.Closest, bad, blocktree.ServiceFilesystem)
		fmt.Printf("%s: in %q, %v, %v\n", bad.Short(), found.In.Short(), err, time.Since(begun).Round(time.Millisecond))
		if found, err = finder.Explain(ctx, route.Closest, honest, blocktree.ServiceSector); err != nil || found.In != honest {
			return fmt.Errorf("%s is found in %q: %v", honest.Short(), found.In, err)
		}
	}
	s := client.Routes().Stats()
	fmt.Printf("asked=%d redirects=%d forged=%d malformed=%d scopes=%d bytes=%d\n", s.Finder.Asked, s.Finder.Redirects, s.Finder.Forged, s.Finder.Malformed, s.Cache.Scopes, s.Cache.Bytes)
	return nil
}

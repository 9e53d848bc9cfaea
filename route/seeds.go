package route

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"blocktree"
)

// Seeds are those of a configuration.
type Seeds []blocktree.Runtime

// Seeds implements Seeder: a copy in any order, so that not everybody begins with the first.
func (s Seeds) Seeds(context.Context) ([]blocktree.Runtime, error) {
	out := make([]blocktree.Runtime, len(s))
	for i, j := range rand.Perm(len(s)) {
		out[i] = clone(s[j])
	}
	return out, nil
}

// DNS finds seeds by a name. It says where to knock, and never who is there: whoever is reached proves by credentials that it is a sector host of the root directory.
//
//	_blocktree._udp.example.net. IN TXT "root=e4jff6ka..."
//	_blocktree._udp.example.net. IN SRV 0 0 7001 node1.example.net.
type DNS struct {
	Root   blocktree.Principal
	Name   string // of the domain, "example.net"
	Server string // host:port; "" is the system's resolver
	// Dial connects to a server; nil is that of package net.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// txtRoot begins the record with the root principal's id; other TXT records of the name are others' business.
const txtRoot = "root="

// Seeds implements Seeder. It asks for each call, and fails with Unauthenticated if the name is that of another domain, NotFound if it is that of none, Unavailable if
// nobody says.
func (d DNS) Seeds(ctx context.Context) ([]blocktree.Runtime, error) {
	ctx, cancel := context.WithTimeout(ctx, blocktree.SeedsTimeout)
	defer cancel()
	r := d.resolver()
	name := strings.TrimSuffix(d.Name, ".") + "." // from the root: no search list of the system's
	if err := d.checkRoot(ctx, r, "_blocktree._udp."+name); err != nil {
		return nil, err
	}
	_, services, err := r.LookupSRV(ctx, "blocktree", "udp", name)
	if len(services) == 0 { // with some that are good and some that are not there is an error as well
		return nil, d.failed(err, "no SRV record")
	}
	var seeds []blocktree.Runtime
	var last error
	for _, s := range services { // in the order of priorities, and a random one by weights in each
		if len(seeds) == blocktree.SeedsMax {
			break
		}
		addresses, err := r.LookupNetIP(ctx, "ip", s.Target)
		if err != nil || len(addresses) == 0 {
			last = err
			continue
		}
		seed := blocktree.Runtime{}
		for _, a := range addresses[:min(len(addresses), blocktree.SeedAddressesMax)] {
			seed.Endpoints = append(seed.Endpoints, netip.AddrPortFrom(a.Unmap(), s.Port).String())
		}
		seeds = append(seeds, seed)
	}
	if len(seeds) == 0 {
		return nil, d.failed(last, "no address of any of its SRV records")
	}
	return seeds, nil
}

func (d DNS) resolver() *net.Resolver {
	dial := d.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	if d.Server == "" && d.Dial == nil {
		return &net.Resolver{}
	}
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if d.Server != "" {
			address = d.Server
		}
		return dial(ctx, network, address)
	}}
}

// checkRoot wants the name to be that of the domain. DNS proves nothing by that; but what it says of another domain is worth nothing.
func (d DNS) checkRoot(ctx context.Context, r *net.Resolver, name string) error {
	records, err := r.LookupTXT(ctx, name)
	found := false
	for _, text := range records {
		id, ok := strings.CutPrefix(text, txtRoot)
		if !ok {
			continue
		}
		if id != d.Root.String() {
			return &blocktree.Error{Op: "route.DNS", Path: d.Name, Kind: blocktree.Unauthenticated,
				Err:  fmt.Errorf("%s says that its root principal is %s, and not %v", name, strconv.QuoteToASCII(id[:min(len(id), 64)]), d.Root),
				Hint: "the name is that of another domain, or somebody answers for it who should not: look at domain.root, domain.dns and the TXT record"}
		}
		found = true
	}
	if found {
		return nil
	}
	return d.failed(err, "no TXT record with "+txtRoot)
}

// failed is the error of a question that DNS does not answer.
func (d DNS) failed(err error, what string) error {
	e := &blocktree.Error{Op: "route.DNS", Path: d.Name, Kind: blocktree.Unavailable, Err: err, Hint: "look at domain.dns.server, or name seeds in domain.seeds"}
	var dns *net.DNSError
	if err == nil || errors.As(err, &dns) && dns.IsNotFound {
		e.Kind, e.Err = blocktree.NotFound, errors.New(what)
		e.Hint = "DNS needs SRV records of _blocktree._udp." + strings.TrimSuffix(d.Name, ".") + " and a TXT record " + txtRoot + " with the root principal's id; docs/ROUTES.md has an example"
	}
	return e
}

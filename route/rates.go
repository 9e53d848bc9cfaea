package route

import (
	"net/netip"
	"sync"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
)

// Querier is who asks, and from where.
type Querier struct {
	Identity cred.Identity
	Address  netip.Addr // of the other end of the connection; tells the anonymous apart
}

// bucket lets rate pass in a second, and burst at once.
type bucket struct {
	tokens float64
	at     time.Time
}

// fill brings the bucket up to now. A clock that goes back fills nothing.
func (b *bucket) fill(now time.Time, rate, burst float64) {
	if now.After(b.at) {
		b.tokens = min(burst, b.tokens+now.Sub(b.at).Seconds()*rate)
		b.at = now
	}
}

// querierKey tells queriers apart: a principal, or the network of an anonymous one.
type querierKey struct {
	principal blocktree.Principal
	network   netip.Prefix
}

func keyOf(q Querier) querierKey {
	if !q.Identity.Anonymous() {
		return querierKey{principal: q.Identity.Principal}
	}
	addr, bits := q.Address.Unmap().WithZone(""), 64
	if addr.Is4() {
		bits = 32
	}
	network, _ := addr.Prefix(bits) // of no address: the zero one, a network as any
	return querierKey{network: network}
}

// rates bounds what each querier is answered, so that a flood of one, or of all that are anonymous, costs the others nothing.
type rates struct {
	mu        sync.Mutex
	anonymous bucket // of all of them
	queriers  map[querierKey]*bucket
}

func newRates(now time.Time) *rates {
	return &rates{anonymous: bucket{tokens: blocktree.RouteAnonymousAllBurst, at: now}, queriers: map[querierKey]*bucket{}}
}

// admit takes one token, and reports whether there was one.
func (r *rates) admit(q Querier, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	rate, burst := float64(blocktree.RouteQueriesPerSecond), float64(blocktree.RouteQueriesBurst)
	nobody := q.Identity.Anonymous()
	if nobody {
		rate, burst = blocktree.RouteAnonymousPerSecond, blocktree.RouteAnonymousBurst
		r.anonymous.fill(now, blocktree.RouteAnonymousAllPerSecond, blocktree.RouteAnonymousAllBurst)
		if r.anonymous.tokens < 1 { // before anything is kept of it: who has many addresses fills no table
			return false
		}
	}
	key := keyOf(q)
	b := r.queriers[key]
	if b == nil {
		if len(r.queriers) >= blocktree.RouteQueriersMax && !r.sweep(now) {
			return false
		}
		b = &bucket{tokens: burst, at: now}
		r.queriers[key] = b
	}
	b.fill(now, rate, burst)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	if nobody {
		r.anonymous.tokens--
	}
	return true
}

// sweep forgets whom it would find full, which changes nothing for them, and reports whether there is room.
func (r *rates) sweep(now time.Time) bool {
	for key, b := range r.queriers {
		rate, burst := float64(blocktree.RouteQueriesPerSecond), float64(blocktree.RouteQueriesBurst)
		if key.principal.IsZero() {
			rate, burst = blocktree.RouteAnonymousPerSecond, blocktree.RouteAnonymousBurst
		}
		if b.fill(now, rate, burst); b.tokens >= burst {
			delete(r.queriers, key)
		}
	}
	return len(r.queriers) < blocktree.RouteQueriersMax
}

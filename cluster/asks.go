package cluster

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"blocktree"
)

// asks bounds the asks for ways that a runtime works on, and remembers those of the last while.
type asks struct {
	mu     sync.Mutex
	seen   map[[16]byte]time.Time // until when a token is remembered
	old    []seenAsk              // the same, the oldest first
	by     map[blocktree.Principal]*askBudget
	active int
	all    budget
	lines  budget // of the log, about asks and uplinks that were refused
}

type seenAsk struct {
	token [16]byte
	until time.Time
}

// askBudget is one asker's.
type askBudget struct {
	active int
	budget        // of what it asks
	passed budget // of what it passes on
}

// budget is a number of things that are free to happen now, of so many in a second.
type budget struct {
	spent float64
	at    time.Time
}

// spend takes one; false if there is none.
func (b *budget) spend(now time.Time, perSecond, burst int) bool {
	b.spent = max(0, b.spent-now.Sub(b.at).Seconds()*float64(perSecond))
	b.at = now
	if b.spent+1 > float64(burst) {
		return false
	}
	b.spent++
	return true
}

func newAsks() *asks {
	return &asks{seen: map[[16]byte]time.Time{}, by: map[blocktree.Principal]*askBudget{}}
}

// look counts an ask that is about to be verified, which a runtime of the way has passed on: with whatever is bad in it, it costs that one.
func (a *asks) look(leg blocktree.Principal, now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.of(leg, now).passed.spend(now, blocktree.AsksPerSecondMax, blocktree.AsksPerSecondMax) {
		return blocktree.E("ask", blocktree.Busy, errors.New("too many asks in a second"))
	}
	return nil
}

// line reports whether the log may have a line about one that was refused: whoever is refused may try as often as he likes.
func (a *asks) line(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lines.spend(now, blocktree.RefusedLinesPerSecond, blocktree.RefusedLinesPerSecond)
}

// of is the budget of a principal; mu is held.
func (a *asks) of(p blocktree.Principal, now time.Time) *askBudget {
	b := a.by[p]
	if b == nil {
		a.tidy(now)
		b = &askBudget{}
		a.by[p] = b
	}
	return b
}

// enter counts an ask of who has signed it, and remembers its token. It returns what ends the count. Kinds: Busy over a bound, Exists for an ask that has been here.
func (a *asks) enter(asker blocktree.Principal, token [16]byte, now time.Time) (leave func(), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.old) > 0 && !now.Before(a.old[0].until) {
		delete(a.seen, a.old[0].token)
		a.old = a.old[1:]
	}
	b := a.of(asker, now)
	busy := func(what string, n int) (func(), error) {
		return nil, blocktree.E("ask", blocktree.Busy, fmt.Errorf("%d %s already", n, what))
	}
	switch _, again := a.seen[token]; {
	case again:
		return nil, blocktree.E("ask", blocktree.Exists, errors.New("the ask has been here"))
	case !b.spend(now, blocktree.AsksPerSecondPerPrincipal, blocktree.AsksBurst):
		return busy("asks of one principal in a second", blocktree.AsksPerSecondPerPrincipal)
	case !a.all.spend(now, blocktree.AsksPerSecondMax, blocktree.AsksPerSecondMax):
		return busy("asks in a second", blocktree.AsksPerSecondMax)
	case b.active >= blocktree.AsksPerPrincipalMax:
		return busy("asks of one principal", b.active)
	case a.active >= blocktree.AsksMax:
		return busy("asks", a.active)
	case len(a.seen) >= blocktree.AskTokensMax:
		return busy("asks of the last while", len(a.seen))
	}
	until := now.Add(2 * blocktree.AskTimeMax)
	a.seen[token] = until
	a.old = append(a.old, seenAsk{token, until})
	b.active++
	a.active++
	return sync.OnceFunc(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		b.active--
		a.active--
	}), nil
}

// tidy forgets askers that have spent nothing for a while: no more of them are left than asks in that time. mu is held.
func (a *asks) tidy(now time.Time) {
	if len(a.by) < blocktree.AsksMax {
		return
	}
	const idle = blocktree.AsksBurst / blocktree.AsksPerSecondPerPrincipal * time.Second
	for p, b := range a.by {
		if b.active == 0 && now.Sub(b.at) > idle && now.Sub(b.passed.at) > idle {
			delete(a.by, p)
		}
	}
}

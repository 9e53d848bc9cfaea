package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"blocktree"
	"blocktree/internal/bttp"
)

func undeliveredOf(err error) *Undelivered {
	u := &Undelivered{}
	errors.As(err, &u)
	return u
}

// D1: a message gets to a service in scope, to the closest one rootward, and to the actor that an answer was about; the service's own errors come back as they are.
func TestAddresses(t *testing.T) {
	within(t, func(b *bed) {
		top, one, two := b.postman("top"), b.postman("lab/one"), b.postman("lab/two")
		b.routes.says(b.path("/lab"), one, two)
		b.routes.says(b.path("/lab/deep/er"), one, two)
		b.routes.says(b.path("/other"), top)
		lab := Address{Kind: InScope, Scope: b.path("/lab"), Service: service}
		b.want("in scope", lab, one, two)
		b.want("rootward", b.rootward("/lab/deep/er"), one, two)
		b.want("rootward to the root", b.rootward("/other"), top)
		for range 3 {
			actor := b.actor(lab)
			who := map[blocktree.Path]*postman{one.Path: one, two.Path: two}[actor.Runtime()]
			before := who.done.Load()
			b.want("an actor", Address{Kind: ToActor, Actor: actor}, who)
			if who.done.Load() != before+1 {
				t.Error("another runtime than the actor's was asked")
			}
			actor.Release()
			actor.Release()
		}
		if _, err := b.send(lab, codeRefused); blocktree.KindOf(err) != blocktree.Permission || WhyOf(err) != 0 {
			t.Errorf("refused: %v", err)
		}
		if _, err := b.send(lab, codeNot); blocktree.KindOf(err) != blocktree.Unsupported {
			t.Errorf("nobody else is asked about what is in scope: %v", err)
		}
		// In a directory of which somebody says what is not true: whoever is elsewhere is not whom the address means.
		b.routes.says(b.path("/rack"), one)
		_, err := b.send(b.rootward("/rack"), codeDo)
		wantWhy(t, "somebody elsewhere", err, NoService, false)
	})
}

// D2: an address without sense is refused.
func TestBadAddresses(t *testing.T) {
	within(t, func(b *bed) {
		p := b.postman("p")
		b.routes.says(b.path(""), p)
		actor := b.actor(b.rootward(""))
		defer actor.Release()
		for i, a := range []Address{{}, {Kind: 9, Scope: b.path(""), Service: service}, {Kind: InScope, Service: service}, {Kind: Rootward, Scope: b.path("")}, {Kind: ToActor},
			{Kind: ToActor, Actor: actor, Service: service}, {Kind: InScope, Scope: b.path(""), Service: service, Actor: actor}} {
			if _, err := b.send(a, codeDo); blocktree.KindOf(err) != blocktree.Invalid {
				t.Errorf("address %d: %v", i, err)
			}
		}
		if _, err := b.d.Find(b.t.Context(), Address{Kind: ToActor, Actor: actor}); blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("an actor is looked for: %v", err)
		}
	})
}

// D2: what cannot be delivered comes back as such, with why, and no later than the transport notices.
func TestUndeliverable(t *testing.T) {
	within(t, func(b *bed) {
		_, err := b.send(b.rootward("/lab"), codeDo)
		wantWhy(t, "no such service", err, NoService, false)
		b.routes.err = blocktree.E("find", blocktree.Unavailable, errors.New("all were asked"))
		_, err = b.send(b.rootward("/lab"), codeDo)
		wantWhy(t, "nobody says", err, NoRoute, false)
		b.routes.err = nil

		p := b.postman("lab/p")
		b.routes.says(b.path("/lab"), p)
		_, err = b.send(b.rootward("/lab"), codeNoActor)
		wantWhy(t, "the runtime has no such service", err, NoService, false)
		actor := b.actor(b.rootward("/lab"))
		to := Address{Kind: ToActor, Actor: actor}
		_, err = b.send(to, codeNoActor)
		wantWhy(t, "the actor is gone", err, ActorGone, false)

		gone := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := b.send(to, codeSlow)
				gone <- err
			}()
		}
		time.Sleep(time.Second / 2)
		_ = p.endpoint.Close()
		begun := time.Now()
		for range 2 {
			wantWhy(t, "the runtime ends while it is waited for", <-gone, RuntimeGone, true)
		}
		if d := time.Since(begun); d > time.Second/4 {
			t.Errorf("that was noticed after %v", d)
		}
		_, err = b.send(to, codeDo)
		wantWhy(t, "the runtime is gone", err, RuntimeGone, false)
		actor.Release()
		_, err = b.send(b.rootward("/lab"), codeDo)
		wantWhy(t, "nobody answers", err, NoAnswer, false)
		if s := b.d.Stats(); s.Undelivered != 8 {
			t.Errorf("%d are counted", s.Undelivered)
		}
	})
}

// D2: a runtime that is silent is gone after DeadAfter, whoever waits for it.
func TestNetworkCut(t *testing.T) {
	within(t, func(b *bed) {
		p := b.postman("p")
		b.routes.says(b.path(""), p)
		b.want("before", b.rootward(""), p)
		go func() {
			time.Sleep(time.Second / 2)
			b.cut(p)
		}()
		begun := time.Now()
		_, err := b.send(b.rootward(""), codeSlow)
		wantWhy(t, "cut off", err, RuntimeGone, true)
		if d := time.Since(begun); d > time.Second/2+blocktree.DeadAfter+2*blocktree.HeartbeatInterval {
			t.Errorf("that took %v", d)
		}
	})
}

// D3: what may have had its effect is not sent again, to nobody, whoever else has the service; what was not delivered is.
func TestNotSentTwice(t *testing.T) {
	within(t, func(b *bed) {
		one, two := b.postman("one"), b.postman("two")
		b.routes.says(b.path(""), one, two)
		b.want("before", b.rootward(""), one)
		go func() {
			time.Sleep(time.Second / 2)
			b.cut(one) // its effect is there, its answer is lost
		}()
		_, err := b.send(b.rootward(""), codeSlow)
		wantWhy(t, "answer lost", err, RuntimeGone, true)
		if n := one.done.Load() + two.done.Load(); n != 2 {
			t.Errorf("done %d times", n-1)
		}
		b.want("the next", b.rootward(""), two) // at once: it is not tried at who was cut off first
		if b.routes.failed != 0 {
			t.Error("a route was forgotten that leads to somebody")
		}
	})
}

// D4: a route that has grown stale is forgotten, and the message gets to whom it is for all the same, once.
func TestStaleRoutes(t *testing.T) {
	for name, ruin := range map[string]func(b *bed, old *postman){
		"killed":  func(_ *bed, old *postman) { _ = old.endpoint.Close(); time.Sleep(time.Second) },
		"cut off": func(b *bed, old *postman) { b.cut(old); time.Sleep(2 * blocktree.DeadAfter) },
		"moved":   func(_ *bed, old *postman) { old.away.Store(true) },
	} {
		for _, connected := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s connected=%t", name, connected), func(t *testing.T) {
				within(t, func(b *bed) {
					old, young := b.postman("lab/old"), b.postman("young")
					b.routes.says(b.path("/lab"), old)
					if connected {
						b.want("before", b.rootward("/lab"), old)
					} else if _, err := b.routes.Find(b.t.Context(), b.rootward("/lab")); err != nil {
						t.Fatal(err)
					}
					before := old.done.Load()
					b.routes.says(b.path("/lab"), young)
					ruin(b, old)
					b.want("after", b.rootward("/lab"), young)
					if b.routes.failed != 1 || b.routes.finds != 2 || old.done.Load() != before || young.done.Load() != 1 {
						t.Errorf("forgotten %d times, asked %d, done %d and %d times", b.routes.failed, b.routes.finds, old.done.Load()-before, young.done.Load())
					}
					b.want("again", b.rootward("/lab"), young)
					if b.routes.finds != 2 {
						t.Error("it was asked for again")
					}
				})
			})
		}
	}
}

// D4: of several the next one is tried where one is away, and the one that answered stays the first.
func TestTriedElsewhere(t *testing.T) {
	within(t, func(b *bed) {
		one, two, three := b.postman("one"), b.postman("two"), b.postman("three")
		b.routes.says(b.path(""), one, two, three)
		_ = one.endpoint.Close()
		two.away.Store(true)
		for range 3 {
			b.want("the third", b.rootward(""), three)
		}
		if s := b.d.Stats(); s.Elsewhere != 2 || b.routes.failed != 0 {
			t.Errorf("%d further tries, forgotten %d times", s.Elsewhere, b.routes.failed)
		}
	})
}

// D5: where the closest service does not do it those above are asked, each once, and what is said in the end is what the closest one said.
func TestRootwardGoesOn(t *testing.T) {
	within(t, func(b *bed) {
		top, mid, low := b.postman("top"), b.postman("a/mid"), b.postman("a/b/low")
		b.routes.says(b.path("/a/b"), low)
		b.routes.says(b.path("/a"), mid)
		b.routes.says(b.path(""), top)
		if _, err := b.send(b.rootward("/a/b"), codeNot); blocktree.KindOf(err) != blocktree.Unsupported || b.routes.finds != 3 {
			t.Errorf("%v, %d were looked for", err, b.routes.finds)
		}
		b.routes.says(b.path(""))
		b.routes.Failed(b.rootward(""))
		if _, err := b.send(b.rootward("/a/b"), codeNot); blocktree.KindOf(err) != blocktree.Unsupported {
			t.Errorf("nobody above: %v", err)
		}
	})
}

// D5: a message is tried at so many runtimes and no more, however many are named.
func TestTriesAreBounded(t *testing.T) {
	within(t, func(b *bed) {
		p := b.postman("p")
		_ = p.endpoint.Close()
		dials := 0
		b.d.cfg.Connect = func(context.Context, blocktree.Runtime) (*bttp.Conn, error) {
			dials++
			return nil, blocktree.E("dial", blocktree.Unavailable, nil)
		}
		many := make([]*postman, 3*blocktree.DispatchTriesMax)
		for i := range many {
			many[i] = p
		}
		b.routes.says(b.path(""), many...)
		_, err := b.send(b.rootward(""), codeDo)
		wantWhy(t, "all away", err, NoAnswer, false)
		if dials != blocktree.DispatchTriesMax {
			t.Errorf("%d were tried", dials)
		}
	})
}

// D2: who gives up is told so; the answer that comes then goes to whom the message says, and a message for which there is no time is not sent.
func TestGivenUp(t *testing.T) {
	within(t, func(b *bed) {
		p := b.postman("p")
		b.routes.says(b.path(""), p)
		ctx, cancel := context.WithTimeout(b.t.Context(), time.Second/2)
		defer cancel()
		late := make(chan string, 1)
		_, err := b.d.Dispatch(ctx, b.rootward(""), Message{Code: codeSlow, Late: func(c *bttp.Conn, r bttp.Reply) { late <- string(r.Body) + " by " + c.Peer().Path.Short() }})
		if blocktree.KindOf(err) != blocktree.Timeout || WhyOf(err) != 0 {
			t.Errorf("given up: %v", err)
		}
		if got := <-late; got != "/p by /p" {
			t.Errorf("late: %q", got)
		}
	})
}

// D3: what a connection has no room for was not sent, and says nothing of the runtime: Busy, with a hint, and nobody else is asked.
func TestBusyConnection(t *testing.T) {
	within(t, func(b *bed) {
		p, other := b.postman("p"), b.postman("other")
		b.routes.says(b.path(""), p, other)
		b.want("before", b.rootward(""), p)
		conn, err := b.from.Dial(b.t.Context(), p.Runtime)
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range blocktree.RequestsPerConnectionMax {
			all.Add(1)
			if err := conn.Call(codeSlow, nil, nil, func(r bttp.Reply, _ error) { r.Release(); all.Done() }); err != nil {
				t.Fatal(err)
			}
		}
		_, err = b.send(b.rootward(""), codeDo)
		if blocktree.KindOf(err) != blocktree.Busy || WhyOf(err) != 0 || blocktree.HintOf(err) == "" || other.done.Load() != 0 {
			t.Errorf("a full connection: %v, %d done by another", err, other.done.Load())
		}
		all.Wait()
		b.want("afterwards", b.rootward(""), p)
	})
}

// D6, under the race detector: messages by many at once, while runtimes and the dispatcher end.
func TestManyAtOnce(t *testing.T) {
	within(t, func(b *bed) {
		one, two := b.postman("one"), b.postman("two")
		b.routes.says(b.path(""), one, two)
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				for j := range 30 {
					if i == 0 && j == 10 {
						_ = one.endpoint.Close()
					}
					if i == 1 && j == 20 {
						_ = b.d.Close()
					}
					_, err := b.send(b.rootward(""), codeDo)
					if kind := blocktree.KindOf(err); err != nil && kind != blocktree.Undeliverable {
						t.Error(err)
					}
					time.Sleep(time.Millisecond)
				}
			})
		}
		all.Wait()
		if n := b.d.Stats().Links; n != 0 {
			t.Errorf("%d links after the end", n)
		}
	})
}

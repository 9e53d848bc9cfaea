package dispatch

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/internal/bttp"
)

// own has the dispatcher keep a connection as one that was asked for.
func (b *bed) own(p *postman) (*bttp.Conn, *link, error) {
	b.t.Helper()
	conn, err := b.from.Dial(b.t.Context(), p.Runtime)
	if err != nil {
		b.t.Fatal(err)
	}
	l, err := b.d.keep(p.Principal, conn, true)
	return conn, l, err
}

// D6: a connection that has ended is not remembered, whoever it was to and whoever asks then.
func TestDeadLinksAreLetGo(t *testing.T) {
	within(t, func(b *bed) {
		p := b.postman("p")
		b.routes.says(b.path(""), p)
		actor := b.actor(b.rootward(""))
		if n := b.d.Stats().Links; n != 1 {
			t.Fatalf("%d links", n)
		}
		_ = p.endpoint.Close()
		time.Sleep(time.Second)
		if n := b.d.Stats().Links; n != 0 {
			t.Errorf("%d links", n)
		}
		actor.Release()
	})
}

// D6: of those that the dispatcher alone keeps, one is closed when it is idle for BriefIdleMax, and not before, nor while an actor is at its other end.
func TestIdleLinksAreClosed(t *testing.T) {
	within(t, func(b *bed) {
		p := b.postman("p")
		b.routes.says(b.path(""), p)
		conn, l, err := b.own(p)
		if err != nil {
			t.Fatal(err)
		}
		b.d.letGo(l)
		for range 5 {
			time.Sleep(blocktree.BriefIdleMax * 2 / 3)
			b.want("used", b.rootward(""), p)
		}
		if conn.Err() != nil {
			t.Fatal("one that is used was closed")
		}
		actor := b.actor(b.rootward(""))
		time.Sleep(10 * blocktree.BriefIdleMax)
		if conn.Err() != nil {
			t.Fatal("one with an actor was closed")
		}
		actor.Release()
		time.Sleep(2*blocktree.BriefIdleMax + time.Second)
		if conn.Err() == nil || b.d.Stats().Links != 0 {
			t.Error("an idle one stays")
		}
		b.want("afterwards", b.rootward(""), p)
	})
}

// D6: there are at most DispatchLinksMax; the one that was used least lately makes room, one that is used does not, and where all are used who asks for one more is told so.
func TestLinksAreBounded(t *testing.T) {
	within(t, func(b *bed) {
		var conns []*bttp.Conn
		var links []*link
		for i := range blocktree.DispatchLinksMax {
			conn, l, err := b.own(b.postman(fmt.Sprintf("p%d", i)))
			if err != nil {
				t.Fatal(err)
			}
			conns, links = append(conns, conn), append(links, l)
		}
		more := b.postman("more")
		conn, _, err := b.own(more)
		if blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" {
			t.Errorf("one more: %v", err)
		}
		<-conn.Done() // it is nobody's
		b.d.letGo(links[7])
		b.d.letGo(links[5])
		b.d.hold(links[7]) // so 5 was used least lately of those that are let go of
		b.d.letGo(links[7])
		_, l, err := b.own(more)
		if err != nil {
			t.Fatal(err)
		}
		<-conns[5].Done()
		for i, c := range conns {
			if i != 5 && c.Err() != nil {
				t.Errorf("connection %d was closed: %v", i, c.Err())
			}
		}
		if n := b.d.Stats().Links; n != blocktree.DispatchLinksMax {
			t.Errorf("%d links", n)
		}
		b.d.letGo(l)
	})
}

// D6: a link that a direct connection has taken the place of is closed when the last actor at its end is let go of.
func TestReplacedLinks(t *testing.T) {
	within(t, func(b *bed) {
		p := b.postman("p")
		asked, l, err := b.own(p)
		if err != nil {
			t.Fatal(err)
		}
		other := &link{conn: asked}
		b.d.mu.Lock()
		b.d.forget(p.Principal, l)
		b.d.mu.Unlock()
		synctest.Wait()
		if asked.Err() != nil {
			t.Fatal("it was closed under whoever uses it")
		}
		b.d.letGo(l)
		<-asked.Done()
		b.d.hold(other)
		b.d.letGo(other) // not the dispatcher's own: nothing is closed twice
	})
}

// D7: to find the connection that a message goes by, of a route that is known, takes no memory.
func TestRouteTakesNoMemory(t *testing.T) {
	within(t, func(b *bed) {
		p := b.postman("p")
		b.routes.says(b.path("/a"), p)
		a := b.rootward("/a")
		b.want("before", a, p)
		if n := testing.AllocsPerRun(1000, func() {
			f, known := b.routes.Known(a)
			l := b.d.remembered(a.Service, &f.Runtimes[b.d.first()%len(f.Runtimes)])
			if !known || l == nil || !a.admits(f.Runtimes[0].Path.Parent()) {
				t.Fatal("it is not remembered")
			}
			b.d.letGo(l)
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// D6: the connection of an answer is there until the answer is released: what it is about can be addressed, though there is no room for one more connection meanwhile.
func TestAnswerKeepsItsConnection(t *testing.T) {
	within(t, func(b *bed) {
		for i := range blocktree.DispatchLinksMax - 1 {
			if _, _, err := b.own(b.postman(fmt.Sprintf("p%d", i))); err != nil {
				t.Fatal(err)
			}
		}
		p, more := b.postman("p"), b.postman("more")
		b.routes.says(b.path(""), p)
		conn, l, err := b.own(p)
		if err != nil {
			t.Fatal(err)
		}
		b.d.letGo(l)
		answer, err := b.d.Dispatch(b.t.Context(), b.rootward(""), Message{Code: codeDo})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.own(more); blocktree.KindOf(err) != blocktree.Busy {
			t.Errorf("one more: %v", err)
		}
		synctest.Wait()
		actor := answer.Actor()
		answer.Release()
		b.want("the actor", Address{Kind: ToActor, Actor: actor}, p)
		actor.Release()
		_, l, err = b.own(more)
		if err != nil {
			t.Fatal(err)
		}
		<-conn.Done()
		b.d.letGo(l)
	})
}

// D6: a dispatcher that is closed connects to nobody, and says so.
func TestClosedConnectsToNobody(t *testing.T) {
	within(t, func(b *bed) {
		p := b.postman("p")
		b.routes.says(b.path(""), p)
		dials := 0
		b.d.cfg.Connect = func(ctx context.Context, r blocktree.Runtime) (*bttp.Conn, error) {
			dials++
			return b.from.Dial(ctx, r)
		}
		if err := b.d.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := b.send(b.rootward(""), codeDo)
		wantWhy(t, "closed", err, NoAnswer, false)
		if kind := blocktree.KindOf(undeliveredOf(err).Err); kind != blocktree.Closed || dials != 0 || p.done.Load() != 0 {
			t.Errorf("%v, %d were dialled", kind, dials)
		}
	})
}

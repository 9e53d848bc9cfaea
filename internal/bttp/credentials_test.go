package bttp

import (
	"errors"
	"slices"
	"testing"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
)

// issue gives the runtime of c credentials for a place that end at until.
func (d *domain) issue(c *Config, path blocktree.Path, until time.Time, services ...string) cred.Credentials {
	d.t.Helper()
	chain, err := cred.Issue(d.key, nil, d.root, cred.Grant{Subject: c.Key.Public(), Path: path, Services: services, NotBefore: until.Add(-3 * time.Hour), NotAfter: until})
	if err != nil {
		d.t.Fatal(err)
	}
	return chain
}

// await waits for a condition that another goroutine brings about.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for begun := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		if time.Since(begun) > 30*time.Second {
			t.Fatalf("%s did not happen", what)
		}
	}
}

// TestShowCredentials: new credentials reach the peer of a connection that exists, whoever opened it, and it goes on beyond the end of the old.
func TestShowCredentials(t *testing.T) {
	carriers(t, func(t *testing.T, transport Transport) {
		d := newDomain(t)
		clock := &movingClock{}
		sc, cc := d.config("a"), d.config("b")
		sc.Clock, cc.Clock, cc.Transport = clock, clock, transport
		sc.Handler, cc.Handler = echo, echo
		accepted := make(chan *Conn, 1)
		sc.Handler = HandlerFunc(func(r *Request) {
			select {
			case accepted <- r.Conn:
			default:
			}
			echo(r)
		})
		server, r := d.listen(sc)
		client := d.client(cc)
		conn := d.dial(client, r)
		call := func() error {
			reply, err := conn.CallWait(t.Context(), 7, nil, []byte("x"))
			reply.Release()
			return err
		}
		if err := call(); err != nil {
			t.Fatal(err)
		}
		far := <-accepted
		until := time.Now().Add(150 * time.Minute).Truncate(time.Second)
		if err := client.SetCredentials(d.issue(&cc, blocktree.RootPath(d.root).Join("b"), until, "sector", "fs")); err != nil {
			t.Fatal(err)
		}
		if err := server.SetCredentials(d.issue(&sc, r.Path, until, "sector")); err != nil {
			t.Fatal(err)
		}
		await(t, "the renewal", func() bool { return far.Peer().NotAfter.Equal(until) && conn.Peer().NotAfter.Equal(until) })
		if !far.Peer().Allows("fs") || client.Stats().CredentialsEnd != conn.endpoint.Identity().NotAfter {
			t.Errorf("the peer knows %+v", far.Peer())
		}
		clock.add.Store(int64(2 * time.Hour))
		time.Sleep(3 * blocktree.HeartbeatInterval)
		if err := call(); err != nil || conn.Err() != nil || far.Err() != nil {
			t.Errorf("beyond the end of the old ones: %v", err)
		}
		clock.add.Store(int64(3 * time.Hour))
		await(t, "the end of the connection", func() bool { return conn.Err() != nil })
	})
}

// TestShownCredentialsRefused: what does not say who the peer is already is not gone by, nor is it what SetCredentials takes.
func TestShownCredentialsRefused(t *testing.T) {
	d, foreign := newDomain(t), newDomain(t)
	sc, cc, other := d.config("a"), d.config("b"), d.config("c")
	var conns []*Conn
	sc.Handler = HandlerFunc(func(r *Request) { conns = append(conns, r.Conn); echo(r) })
	_, r := d.listen(sc)
	client := d.client(cc)
	conn := d.dial(client, r)
	show := func(chain []byte) error {
		reply, err := conn.CallWait(t.Context(), codeCredentials, nil, chain)
		reply.Release()
		return err
	}
	if reply, err := conn.CallWait(t.Context(), 7, nil); err != nil {
		t.Fatal(err)
	} else {
		reply.Release()
	}
	far, before, soon := conns[0], conns[0].Peer().NotAfter, time.Now().Add(2*time.Hour)
	mine := blocktree.RootPath(d.root).Join("b")
	for name, chain := range map[string][]byte{
		"another path":   d.issue(&cc, mine.Join("x"), soon).Encode(),
		"another key":    d.issue(&other, mine, soon).Encode(),
		"another domain": foreign.issue(&cc, blocktree.RootPath(foreign.root).Join("b"), soon).Encode(),
		"ended":          d.issue(&cc, mine, time.Now().Add(-time.Minute)).Encode(),
		"none":           cred.Credentials{}.Encode(),
		"garbage":        {1, 2, 3},
	} {
		far.mu.Lock()
		far.shown = time.Time{}
		far.mu.Unlock()
		if err := show(chain); err == nil || blocktree.KindOf(err) == blocktree.Busy {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := d.issue(&cc, mine, soon)
	if err := show(good.Encode()); blocktree.KindOf(err) != blocktree.Busy {
		t.Errorf("too often: %v", err)
	}
	if !far.Peer().NotAfter.Equal(before) {
		t.Error("the old ones do not count any more")
	}
	for name, chain := range map[string]cred.Credentials{"path": d.issue(&cc, mine.Join("x"), soon), "key": d.issue(&other, mine, soon), "none": nil} {
		if err := client.SetCredentials(chain); err == nil {
			t.Errorf("another %s is taken", name)
		}
	}
	if err := conn.takeCredentials(d.issue(&sc, r.Path, soon).Encode()); blocktree.KindOf(err) != blocktree.Unauthenticated {
		t.Errorf("a runtime that has not the service any more that it was dialled for: %v", err)
	}
}

// TestRefusedIdentity: who is refused loses its connections and gets none, in either direction; others keep theirs.
func TestRefusedIdentity(t *testing.T) {
	carriers(t, func(t *testing.T, transport Transport) {
		d := newDomain(t)
		sc, bad, good := d.config("a"), d.config("b"), d.config("c")
		sc.Handler, bad.Transport, good.Transport = echo, transport, transport
		server, r := d.listen(sc)
		badClient, goodClient := d.client(bad), d.client(good)
		conn, other := d.dial(badClient, r), d.dial(goodClient, r)
		refuse := func(who blocktree.Principal) func(cred.Identity) error {
			return func(id cred.Identity) error {
				if slices.Contains(id.Chain, who) {
					return blocktree.E("revoked", blocktree.Unauthenticated, errors.New("it was revoked"))
				}
				return nil
			}
		}
		server.SetRefused(refuse(bad.Key.Principal()))
		await(t, "the cut", func() bool { return conn.Err() != nil })
		<-conn.Done()
		if err := d.dialErr(badClient, r); blocktree.KindOf(err) != blocktree.Unauthenticated {
			t.Errorf("again: %v", err)
		}
		if reply, err := other.CallWait(t.Context(), 7, nil); err != nil {
			t.Errorf("another's connection: %v", err)
		} else {
			reply.Release()
		}
		goodClient.SetRefused(refuse(sc.Key.Principal())) // a client refuses a server
		await(t, "the client's cut", func() bool { return other.Err() != nil })
		<-other.Done()
		if err := d.dialErr(goodClient, r); blocktree.KindOf(err) != blocktree.Unauthenticated {
			t.Errorf("the server is dialled again: %v", err)
		}
	})
}

// TestToldOnce: who has been told the newest is left alone, who was told others is told again.
func TestToldOnce(t *testing.T) {
	c := &Conn{endpoint: &Endpoint{}}
	own, newer := new(credentials), new(credentials)
	c.endpoint.own.Store(newer)
	if c.hasTold(own) || !c.showing {
		t.Error("the peer is taken to know what it was not told")
	}
	if !c.hasTold(newer) || c.showing {
		t.Error("the peer is told again")
	}
}

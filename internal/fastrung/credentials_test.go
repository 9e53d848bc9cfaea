package fastrung

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/file"
	"blocktree/internal/node"
	"blocktree/internal/testenv"
)

// connections counts those that a client has had to the nodes.
func connections(c *cluster.Client) (n uint64) {
	for _, l := range c.Links() {
		n += l.Connections
	}
	return n
}

// TestRenewWithoutGap has everybody's credentials live for 20 s and be renewed with 10 s left, under load, many times over: no write fails or waits, no
// connection is made anew. When nobody renews them any more, all ends with them.
func TestRenewWithoutGap(t *testing.T) {
	const life = 20 * time.Second
	carriers(t, func(b *bed) {
		b.RenewAll(time.Now().Add(life), b.client)
		w := b.write(b.file, 4)
		time.Sleep(time.Second)
		w.forget()
		before := connections(b.client)
		for range 8 {
			for _, n := range b.Status(b.client).Nodes { // else what would end is not what is believed
				if n.Credentials == nil || time.Until(n.Credentials.Until) > life || time.Until(n.Credentials.Until) < life/4 {
					b.T.Errorf("%v: %s is known by %+v", b.Elapsed(), n.Path, n.Credentials)
				}
			}
			time.Sleep(life / 2)
			b.RenewAll(time.Now().Add(life), b.client)
			time.Sleep(time.Second)
		}
		b.between("the longest write", w.pause(), 0, 500*time.Millisecond)
		if after := connections(b.client); after != before {
			b.T.Errorf("%d connections before, %d after", before, after)
		}
		w.finishWell()
		w.check(b.file, "after renewals")
		if s := b.Status(b.client); s.Health != cluster.HealthOK {
			b.T.Errorf("%+v", s)
		}
		b.await("the end of what is not renewed", life+5*time.Second, func() bool { serving, _ := b.client.Answering(); return serving == 0 })
		b.RenewAll(time.Now().Add(time.Hour), b.client) // for the sake of a clean stop
		b.Healthy(b.client)
	})
}

// TestRevoke revokes the client that holds the file and writes to it: when the command has been answered no node takes anything from it, the file is
// another's as soon as a term has passed, and nothing that was acknowledged is lost. To revoke who issued to a client is to revoke the client; what
// is said below a path reaches nobody beside it.
func TestRevoke(t *testing.T) {
	carriers(t, func(b *bed) {
		operator := b.Intermediate(b.RootIssuer(), "/")
		rack := b.Intermediate(operator, "/rack1")
		admin, beneath, beside := b.ClientBy(operator, "/"), b.ClientBy(rack, "/rack1/a"), b.ClientBy(operator, "/rack2")
		rackAdmin := b.ClientBy(rack, "/rack1")
		for _, c := range []*cluster.Client{admin, beneath, beside, rackAdmin} {
			b.Status(c)
		}
		w := b.write(b.file, 4)
		time.Sleep(time.Second)
		b.revoke(admin, b.client.Identity().Principal)
		w.mu.Lock()
		acked := slices.Clone(w.acked)
		w.mu.Unlock()
		begun := time.Now()
		other, err := b.tryOpen(admin, 15*time.Second)
		if err != nil {
			b.T.Fatal(err)
		}
		b.between("the take-over", time.Since(begun), leaseTerm-leaseRenewal-leaseMargin, leaseTerm+3*time.Second)
		w.stop()
		if w.mu.Lock(); !slices.Equal(acked, w.acked) {
			b.T.Errorf("%v was acknowledged when the revocation was answered, %v in the end", acked, w.acked)
		}
		w.mu.Unlock()
		w.check(other, "what the revoked holder wrote")
		if _, err := b.tryOpen(b.client, time.Second); err == nil {
			b.T.Error("the revoked client opens the file again")
		}
		if err := other.Close(); err != nil {
			b.T.Error(err)
		}

		b.revoke(rackAdmin, beside.Identity().Principal) // which is not below /rack1
		b.uses(beside, true)
		b.uses(beneath, true)
		b.revoke(admin, beneath.Identity().Chain[1]) // the rack's
		b.uses(beneath, false)
		b.uses(rackAdmin, false)
		b.uses(beside, true)
		list, err := admin.Revoked(b.T.Context())
		if err != nil || len(list) != 3 {
			b.T.Errorf("%d are revoked: %v", len(list), err)
		}
	})
}

// TestRevokedNode: nobody speaks to a node whose principal is revoked, the node ends when it hears of it, and its cluster and clients go on without it.
func TestRevokedNode(t *testing.T) {
	within(t, "quic", 1, func(b *bed) {
		admin := b.ClientBy(b.RootIssuer(), "/")
		w := b.write(b.file, 4)
		b.Status(admin)
		leader := b.Leader(admin)
		bad := (leader + 1) % 3
		ctx, cancel := context.WithTimeout(b.T.Context(), time.Minute)
		defer cancel()
		if _, err := admin.RevokePrincipal(ctx, b.Members[bad].Principal, time.Now().Add(time.Hour)); err != nil {
			b.T.Fatal(err)
		}
		b.await("the client to hear of it", 70*time.Second, func() bool { return slices.Equal(b.down(b.Status(b.client)), []int{bad}) })
		time.Sleep(10 * time.Second)
		b.uses(admin, true)
		w.finishWell()
		w.check(b.file, "without the node")
	})
}

// revoke revokes a principal, which every node is to have applied.
func (b *bed) revoke(by *cluster.Client, p blocktree.Principal) {
	b.T.Helper()
	ctx, cancel := context.WithTimeout(b.T.Context(), time.Minute)
	defer cancel()
	if a, err := by.RevokePrincipal(ctx, p, time.Now().Add(time.Hour)); err != nil || len(a.Missing) > 0 {
		b.T.Fatalf("revoke: %v, not yet at %v", err, a.Missing)
	}
}

// uses fails the test unless a client can, or cannot, ask the cluster anything.
func (b *bed) uses(c *cluster.Client, want bool) {
	b.T.Helper()
	ctx, cancel := context.WithTimeout(b.T.Context(), 5*time.Second)
	defer cancel()
	if _, err := c.Stat(ctx, b.Path("/vm/disk0")); (err == nil) != want {
		b.T.Errorf("want %v: %v", want, err)
	}
}

// tryOpen opens the file for writing within some time.
func (b *bed) tryOpen(c *cluster.Client, wait time.Duration) (blocktree.File, error) {
	ctx, cancel := context.WithTimeout(b.T.Context(), wait+5*time.Second)
	defer cancel()
	return file.Open(ctx, c, b.Path("/vm/disk0"), file.OpenOptions{Reader: b.Reader, OpenOptions: cluster.OpenOptions{Wait: wait}})
}

// TestDoorIsRenewed: a filesystem service goes by its node's new credentials, too, and outlives those that it began with.
func TestDoorIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := testenv.NewSimulated(t, 1, 1)
		d.Filesystems = map[int]*node.Filesystem{0: {Reader: d.Reader}}
		end := time.Now().Add(time.Minute)
		d.RenewAll(end)
		d.StartAll()
		admin := d.Finder(nil, "first", 0, 0)
		stat := func() error {
			_, err := admin.Stat(t.Context(), blocktree.RootPath(d.Root))
			return err
		}
		d.Await("a cluster that is founded", func() bool { return stat() == nil })
		d.RenewAll(time.Now().Add(time.Hour))
		time.Sleep(time.Until(end) + time.Second)
		if err := stat(); err != nil {
			t.Errorf("after the first credentials have ended: %v", err)
		}
	})
}

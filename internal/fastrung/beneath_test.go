package fastrung

import (
	"slices"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/internal/testenv"
)

// beneath says what was told of the clusters beneath: of each directory, how many nodes go by it, -1 where nobody could be asked or somebody is missing.
func beneath(a cluster.Applied) map[string]int {
	out := map[string]int{}
	for _, b := range a.Beneath {
		out[b.Dir.Short()] = len(b.Nodes)
		if b.Err != nil || len(b.Missing) > 0 {
			out[b.Dir.Short()] = -1
		}
	}
	return out
}

// TestRevokedBeneath: a right that was taken above is gone in the clusters beneath, three levels down, when that has been said; and so is a principal. A cluster that is away is named.
func TestRevokedBeneath(t *testing.T) {
	withChild(t, func(b *bed, child *testenv.Simulated) {
		ctx := b.T.Context()
		if err := b.client.MakeDir(ctx, b.Path("/rack1/lab"), 0o755, false); err != nil {
			t.Fatal(err)
		}
		lab := b.Below("/rack1/lab", 1)
		addAll(b.Simulated, b.client, lab)
		lab.StartAll()
		answers(b.Simulated, b.client, "/rack1/lab")
		child.Await("all three in the group", func() bool {
			s := child.Status(child.Client())
			return len(s.Nodes) == 3 && s.Health == cluster.HealthOK
		})
		root := blocktree.RootPath(b.Root)
		friend, path := b.ClientAs(testenv.User{UID: 11, GID: 11})
		all := func(what string, a cluster.Applied, err error) {
			t.Helper()
			if got := beneath(a); err != nil || len(a.Nodes) != 3 || len(got) != 2 || got["/rack1"] != 3 || got["/rack1/lab"] != 1 || a.More {
				t.Fatalf("%s: %+v, %v", what, a, err)
			}
		}
		grant := func(at blocktree.Path) (cluster.Applied, error) {
			return b.client.Grant(ctx, at, meta.Grant{Subject: meta.Subject{Path: path}, Rights: meta.RightWrite})
		}
		a, err := grant(root)
		all("granted", a, err)
		for _, dir := range []string{"/rack1/a", "/rack1/lab/a"} {
			if err := friend.MakeDir(ctx, b.Path(dir), 0o755, false); err != nil {
				t.Errorf("%s: granted above: %v", dir, err)
			}
		}
		a, err = b.client.Revoke(ctx, root, meta.Subject{Path: path})
		all("revoked", a, err)
		for _, dir := range []string{"/rack1/b", "/rack1/lab/b"} {
			if err := friend.MakeDir(ctx, b.Path(dir), 0o755, false); blocktree.KindOf(err) != blocktree.Permission {
				t.Errorf("%s: revoked above: %v", dir, err)
			}
		}
		a, err = grant(b.Path("/rack1/lab")) // whose inode is the child's
		if got := beneath(a); err != nil || len(got) != 1 || got["/rack1/lab"] != 1 {
			t.Errorf("granted there: %+v, %v", a, err)
		}
		a, err = grant(b.Path("/vm"))
		if err != nil || len(a.Beneath) > 0 {
			t.Errorf("beside it: %+v, %v", a.Beneath, err)
		}

		a, err = b.client.RevokePrincipal(ctx, friend.Identity().Principal, time.Now().Add(time.Hour))
		if got := beneath(a); err != nil || got["/rack1"] != 3 || got["/rack1/lab"] != 1 {
			t.Fatalf("a principal: %+v, %v", a, err)
		}
		for _, c := range []*cluster.Client{child.Client(), lab.Client()} {
			list, err := c.Revoked(ctx)
			if err != nil || !slices.ContainsFunc(list, func(r meta.Revocation) bool { return r.Principal == friend.Identity().Principal }) {
				t.Errorf("%s believes it: %+v, %v", c.Scope().Short(), list, err)
			}
		}

		child.Kill(0, 1, 2)
		a, err = grant(root)
		if got := beneath(a); err != nil || got["/rack1"] != -1 {
			t.Errorf("while it is away: %+v, %v", a, err)
		}
		a, err = b.client.RevokePrincipal(ctx, blocktree.PrincipalOf([]byte("thief")), time.Now().Add(time.Hour))
		if got := beneath(a); err != nil || got["/rack1"] != -1 {
			t.Errorf("a principal, while it is away: %+v, %v", a, err)
		}
	})
}

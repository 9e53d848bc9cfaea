package fastrung

import (
	"context"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/internal/testenv"
)

// TestThreeLevelsApart: W10. A child and its own child are behind firewalls of their own, so that neither can dial the other: the directory is founded, what is above is heard of, and its files are
// used from outside and from behind a third firewall.
func TestThreeLevelsApart(t *testing.T) {
	withChild(t, func(b *bed, child *testenv.Simulated) {
		ctx := b.T.Context()
		b.Net.Wall(child.NodeAddr(0), child.NodeAddr(1), child.NodeAddr(2)) // which reach one another
		if err := b.client.MakeDir(ctx, b.Path("/rack1/lab"), 0o755, false); err != nil {
			t.Fatal(err)
		}
		lab := b.Below("/rack1/lab", 1)
		addAll(b.Simulated, b.client, lab)
		b.Net.Wall(lab.NodeAddr(0))
		lab.StartAll()
		b.Await("an answer for /rack1/lab", func() bool { // each question of which costs some tries while nobody there answers
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			_, err := b.client.List(ctx, b.Path("/rack1/lab"))
			return err == nil
		})
		b.Create(b.client, "/rack1/lab/f", 1<<20, blocktree.Code{Data: 1})
		walled := b.Client()
		b.Net.Wall(b.ClientAddr(1))
		fill := byte(8)
		for _, c := range []*cluster.Client{b.client, walled} {
			fill++
			f := opened(b.Simulated, c, "/rack1/lab/f")
			writeSectors(b.Simulated, f, fill)
			readSectors(b.Simulated, f, fill)
			closed(b.Simulated, f)
		}
		friend, path := b.ClientAs(testenv.User{UID: 11, GID: 11})
		b.Net.Wall(b.ClientAddr(2))
		if err := friend.MakeDir(ctx, b.Path("/rack1/lab/a"), 0o755, false); blocktree.KindOf(err) != blocktree.Permission {
			t.Fatalf("without a right: %v", err)
		}
		if _, err := b.client.Grant(ctx, blocktree.RootPath(b.Root), meta.Grant{Subject: meta.Subject{Path: path}, Rights: meta.RightWrite}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) // twice aboveInterval, and what it takes
		if err := friend.MakeDir(ctx, b.Path("/rack1/lab/a"), 0o755, false); err != nil {
			t.Errorf("granted two levels above: %v", err)
		}
	})
}

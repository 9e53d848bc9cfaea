package fs

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/internal/bttp"
	"blocktree/internal/simnet"
	"blocktree/route"
)

// TestFillGoesTo: D3 of 0086. What is asked about a directory that is filled, and made with its spares, goes to the service that granted that, whichever is asked otherwise; when its connection is gone it goes to the next.
func TestFillGoesTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, first := newKept(t)
		b, net := &bed{t: t, root: testKey, fake: c.fake}, simnet.New(1)
		var runtimes []blocktree.Runtime
		var endpoints []*bttp.Endpoint
		for i, s := range []*Service{first, newTestService(t, c.fake, func(o *Config) { o.Cluster = c })} {
			key, chain := b.identity(fmt.Sprint("node", i), blocktree.ServiceFilesystem)
			at := netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
			e, err := bttp.Listen(t.Context(), bttp.Config{Key: key, Credentials: chain, Root: b.root.Principal(), Addrs: []string{at.String() + ":7000"}, Transport: bttp.TCP, Network: net.Host(at),
				Handler: s, Admit: s.Admit, Log: slog.New(slog.DiscardHandler)})
			b.must(err)
			t.Cleanup(func() { _ = e.Close() })
			endpoints = append(endpoints, e)
			runtimes = append(runtimes, blocktree.Runtime{Path: testRoot.Join(fmt.Sprint("node", i)), Principal: key.Principal(), Endpoints: e.Addrs(), Services: []string{blocktree.ServiceFilesystem}})
		}
		table, err := route.NewTable(runtimes)
		b.must(err)
		key, chain := b.identity("ann")
		ann, err := Dial(ClientConfig{Root: b.root.Principal(), Key: key, Credentials: chain, Transport: bttp.TCP, Network: net.Host(netip.AddrFrom4([4]byte{10, 0, 0, 9})), Resolver: table, Logger: slog.New(slog.DiscardHandler)})
		b.must(err)
		t.Cleanup(func() { _ = ann.Close() })
		c.set(testRoot, func(n *fakeNode) { n.rights[key.Principal()] = List | Write })

		o, dir := CreateOptions{SizeBytes: 4096}, below("d")
		b.must(ann.Mkdir(t.Context(), dir, 0o755))
		f, err := ann.Fill(t.Context(), dir, o, 4)
		b.must(err)
		c.mu.Lock()
		c.down = blocktree.E("fake", blocktree.Unavailable, nil)
		c.mu.Unlock()
		_, err = ann.request(t.Context(), testRoot, codeStat, (&pathRequest{path: testRoot}).encode()) // from then on the other one is asked
		wantKind(t, "while the cluster does not answer", err, blocktree.Unavailable)
		c.mu.Lock()
		c.down = nil
		c.mu.Unlock()
		c.asked()
		_, err = ann.Stat(t.Context(), dir.Join("f"))
		wantKind(t, "a look", err, blocktree.NotFound)
		if got := c.asked(); got != "0 commands, 0 questions" {
			t.Errorf("another service was asked: %s", got)
		}
		for i, wait := range []time.Duration{0, 2 * blocktree.FSFillFor} { // also after the term
			time.Sleep(wait)
			info, _, err := ann.MakeWhole(t.Context(), dir.Join(fmt.Sprint(i)), o, Whole{Spare: f.Spares[i], Content: []byte("hello")})
			if err != nil || info.ID != f.Spares[i] || info.Length != 5 {
				t.Errorf("%d: %+v, %v", i, info, err)
			}
		}
		b.must(endpoints[0].Close())
		time.Sleep(time.Second)
		_, next, err := ann.MakeWhole(t.Context(), dir.Join("g"), o, Whole{Spare: f.Spares[2], Content: []byte("hello")})
		if !errors.Is(err, ErrOtherSpare) || len(next.Spares) != 1 {
			t.Fatalf("by another service: %+v, %v", next, err)
		}
		info, _, err := ann.MakeWhole(t.Context(), dir.Join("g"), o, Whole{Spare: next.Spares[0], Content: []byte("hello")})
		if err != nil || info.ID != next.Spares[0] || info.Length != 5 {
			t.Errorf("by another service: %+v, %v", info, err)
		}
	})
}

// TestWholeOfBefore: 0089, 4. A service of a version before, which reads no request of the new format, is asked as before, and may answer with another identity; it is not asked without a spare, as it would make a file of an identity of which nobody knows.
func TestWholeOfBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, net, at := &bed{t: t, root: testKey}, simnet.New(1), netip.AddrFrom4([4]byte{10, 0, 0, 1})
		id := blocktree.FileID{Generation: 1, Inode: 7}
		asked := 0
		before := bttp.HandlerFunc(func(req *bttp.Request) {
			defer req.Release()
			switch r, err := decodeWhole(req.Body); {
			case req.Code != codeMakeWhole || err != nil || r.only:
				req.Fail(blocktree.E("before", blocktree.NewerFormat, err))
			default:
				asked++
				req.Reply(nil, encodeMadeWhole(&Info{ID: id, SizeBytes: 4096}, &Filling{}))
			}
		})
		key, chain := b.identity("node", blocktree.ServiceFilesystem)
		e, err := bttp.Listen(t.Context(), bttp.Config{Key: key, Credentials: chain, Root: b.root.Principal(), Addrs: []string{at.String() + ":7000"}, Transport: bttp.TCP, Network: net.Host(at), Handler: before, Log: slog.New(slog.DiscardHandler)})
		b.must(err)
		t.Cleanup(func() { _ = e.Close() })
		table, err := route.NewTable([]blocktree.Runtime{{Path: testRoot.Join("node"), Principal: key.Principal(), Endpoints: e.Addrs(), Services: []string{blocktree.ServiceFilesystem}}})
		b.must(err)
		key, chain = b.identity("ann")
		ann, err := Dial(ClientConfig{Root: b.root.Principal(), Key: key, Credentials: chain, Transport: bttp.TCP, Network: net.Host(netip.AddrFrom4([4]byte{10, 0, 0, 9})), Resolver: table, Logger: slog.New(slog.DiscardHandler)})
		b.must(err)
		t.Cleanup(func() { _ = ann.Close() })
		_, _, err = ann.MakeWhole(t.Context(), below("f"), CreateOptions{SizeBytes: 4096}, Whole{})
		wantKind(t, "without a spare", err, blocktree.Unsupported)
		info, _, err := ann.MakeWhole(t.Context(), below("f"), CreateOptions{SizeBytes: 4096}, Whole{Spare: blocktree.FileID{Generation: 1, Inode: 6}})
		if err != nil || info.ID != id || asked != 1 {
			t.Errorf("%+v, %v, asked %d times", info, err, asked)
		}
	})
}

// TestFillingsForgotten: of too many terms those that ended first are forgotten.
func TestFillingsForgotten(t *testing.T) {
	var x fillings
	x.dirs = map[blocktree.Path]*granted{}
	now, n := time.Now(), 2*blocktree.FSKeptDirsMax
	for i := range n {
		x.prune(now)
		x.dirs[below(fmt.Sprint(i))] = &granted{dir: blocktree.FileID{Inode: blocktree.Inode(i + 1)}, until: now.Add(time.Duration(i))}
	}
	for i := range n {
		if known := x.dir(below(fmt.Sprint(i))) != (blocktree.FileID{}); known != (i >= n/2) {
			t.Errorf("%d of %d: known %v", i, n, known)
		}
	}
}

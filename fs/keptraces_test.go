package fs

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
)

// TestKeptOnTheWay: G1 and G2. Who makes a name waits for who is changing it, and goes by what came of that; where nobody knows that, he asks the cluster.
func TestKeptOnTheWay(t *testing.T) {
	f, g := below("d/f"), below("d/g")
	for _, r := range []struct {
		pathRequest
		code  uint16
		vague blocktree.Kind // what is done is answered so
		then  blocktree.Kind // to make f after that
	}{
		{pathRequest{path: f}, codeCreate, 0, blocktree.Exists}, {pathRequest{path: f}, codeSymlink, 0, blocktree.Exists}, {pathRequest{path: f}, codeMkdir, 0, blocktree.Exists},
		{pathRequest{path: g, to: f}, codeRename, 0, blocktree.Exists}, {pathRequest{path: f}, codeCreate, blocktree.Unavailable, blocktree.Exists}, {pathRequest{path: f}, codeCreate, blocktree.Busy, blocktree.Exists},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, s := newKept(t)
			o := ownerFor(s, somebody("ann"))
			wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: below("d")}), blocktree.Other)
			wantKind(t, "another", does(t, s, o, codeCreate, pathRequest{path: g}), blocktree.Other)
			c.mu.Lock()
			c.gate = make(chan struct{})
			if r.vague != 0 {
				c.vague = blocktree.E("fake", r.vague, nil)
			}
			c.mu.Unlock()
			first, second := make(chan error, 1), make(chan error, 1)
			go func() { first <- does(t, s, o, r.code, r.pathRequest) }()
			synctest.Wait()
			go func() { second <- does(t, s, o, codeMakeOpen, pathRequest{path: f}) }()
			synctest.Wait()
			if len(second) > 0 {
				t.Fatalf("%s is on its way, and it is made: %v", nameOf(r.code), <-second)
			}
			close(c.gate)
			if err := <-first; (err != nil) != (r.vague != 0) {
				t.Errorf("%s: %v", nameOf(r.code), err)
			}
			wantKind(t, "make beside "+nameOf(r.code), <-second, r.then)
			if c.keeping(s).spares != 0 {
				t.Error("a spare is left")
			}
		})
	}
}

// TestKeptRaces: G1 and G2. Whatever is asked for at the same time, of the same names, one of those who make a name gets it, and what is remembered is what there is.
func TestKeptRaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		dirs := []blocktree.Path{below("d"), below("d/sub"), below("e")}
		first := ownerFor(s, somebody("ann"))
		for _, d := range dirs {
			wantKind(t, "mkdir", does(t, s, first, codeMkdir, pathRequest{path: d}), blocktree.Other)
		}
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				o := ownerFor(s, somebody("ann"))
				defer o.end()
				for i := range 200 {
					x := uint64(i)*2654435761 + uint64(w)*40503
					path := dirs[x%3].Join(fmt.Sprint("n", x/3%4))
					to := dirs[x/7%3].Join(fmt.Sprint("n", x/11%4))
					switch x / 13 % 8 {
					case 0, 1, 2:
						b, err := s.doPath(t.Context(), o, codeMakeOpen, &pathRequest{path: path})
						if err != nil {
							continue
						}
						handle, _, err := decodeOpened(b)
						if err != nil {
							t.Error(err)
							continue
						}
						a := o.find(handle).open
						_, _ = a.ask(message{code: codeWrite, data: []byte("hello")})
						if _, err := a.ask(message{code: []uint16{codeFinish, codeClose, codeFlush}[x%3]}); err != nil && blocktree.KindOf(err) != blocktree.Unsupported {
							t.Errorf("%s: %v", path.Short(), err)
						}
					case 3:
						_ = does(t, s, o, codeRemove, pathRequest{path: path})
					case 4:
						_ = does(t, s, o, codeRename, pathRequest{path: path, to: to})
					case 5:
						_ = does(t, s, o, codeSymlink, pathRequest{path: path, attr: attrRequest{value: "x"}})
					case 6:
						_ = does(t, s, o, codeStat, pathRequest{path: path})
					case 7:
						_ = does(t, s, o, codeList, pathRequest{path: dirs[x%3]})
						time.Sleep(time.Duration(x%50) * time.Millisecond)
					}
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		c.same(t, s)
		c.ended(t, s)
		synctest.Wait()
		if c.spares != 0 || c.opened.Load() != 0 {
			t.Errorf("%d spares, %d open", c.spares, c.opened.Load())
		}
	})
}

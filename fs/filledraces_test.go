package fs

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
)

// fillModel is a client that fills directories as a mount does: it makes files by itself as long as its term lasts, and sends them whole a little later.
type fillModel struct {
	t      testing.TB
	s      *Service
	o      *owner
	random *rand.Rand
	until  time.Time // its term, as it counts it
	spares []blocktree.FileID

	mu     sync.Mutex
	closed []blocktree.Path // that others find from then on
	sends  sync.WaitGroup
}

// takes notes what it was granted by what it had asked for.
func (m *fillModel) takes(f Filling, asked time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.until = time.Time{}
	if f.Term > 0 {
		m.until = asked.Add(f.Term)
	}
	m.spares = append(m.spares, f.Spares...)
}

// make makes a file, of as many bytes as its name says: by itself if it may, and else by the service. It reports whether somebody else has the name.
func (m *fillModel) make(path blocktree.Path) (exists bool) {
	content := fmt.Sprintf("%*s", len(path), "")
	m.mu.Lock()
	spare := blocktree.FileID{}
	pending := time.Until(m.until) >= blocktree.FSFillFor*2/5 && len(m.spares) > 0
	if pending {
		spare, m.spares = m.spares[0], m.spares[1:]
		m.closed = append(m.closed, path)
	}
	wait := time.Duration(m.random.IntN(int(blocktree.FSFillFor / 5)))
	m.mu.Unlock()
	send := func() error {
		asked := time.Now()
		_, f, err := wholesOf(m.t, m.s, m.o, path, spare, content)
		if err == nil {
			m.takes(f, asked)
		}
		return err
	}
	if pending {
		m.sends.Go(func() {
			time.Sleep(wait)
			if err := send(); err != nil {
				m.t.Errorf("%s was pending: %v", path.Short(), err)
			}
		})
		return false
	}
	err := send()
	if err == nil {
		m.mu.Lock()
		m.closed = append(m.closed, path)
		m.mu.Unlock()
		return false
	}
	if blocktree.KindOf(err) != blocktree.Exists {
		m.t.Errorf("%s: %v", path.Short(), err)
	}
	return true
}

// looks for something that another one has closed.
func (m *fillModel) looks(filler *fillModel, random *rand.Rand) {
	filler.mu.Lock()
	closed := slices.Clone(filler.closed)
	filler.mu.Unlock()
	if len(closed) == 0 {
		return
	}
	p := closed[random.IntN(len(closed))]
	if n := seen(m.t, m.s, m.o, p); n != len(p) {
		m.t.Errorf("%s was closed, and ends at %d", p.Short(), n)
	}
}

// TestFillRaces: H1 and H2 of 0086. Of all who make the same names each is made by one; what one who fills the directory has closed is found whole by whoever asks afterwards.
func TestFillRaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		c.atHand = 8
		var all []*fillModel
		for i := range 3 {
			all = append(all, &fillModel{t: t, s: s, o: ownerFor(s, somebody("ann")), random: newRandom(uint64(i))})
		}
		const names = 6
		for round := range 60 {
			dir, filler := below(fmt.Sprint("d", round)), all[round%3]
			if err := does(t, s, filler.o, codeMkdir, pathRequest{path: dir}); err != nil {
				t.Fatal(err)
			}
			made := map[blocktree.Path]int{}
			var mu sync.Mutex
			var wg sync.WaitGroup
			for i, m := range all {
				wg.Go(func() {
					own, random := m == filler, newRandom(uint64(3*round+i))
					if own {
						asked := time.Now()
						if f, err := fills(t, s, m.o, dir, 8); err == nil {
							m.takes(f, asked)
						}
					}
					for n := range names {
						path := dir.Join(fmt.Sprint(n))
						switch {
						case own || random.IntN(3) == 0:
							time.Sleep(time.Duration(random.IntN(int(blocktree.FSFillFor / 4))))
							if !m.make(path) {
								mu.Lock()
								made[path]++
								mu.Unlock()
							}
						default:
							time.Sleep(time.Duration(random.IntN(int(blocktree.FSFillFor))))
							m.looks(filler, random)
						}
					}
				})
			}
			wg.Wait()
			for _, m := range all {
				m.sends.Wait()
				m.takes(Filling{}, time.Time{})
				m.closed = nil
			}
			for path, n := range made {
				if n != 1 {
					t.Errorf("%s was made %d times", path.Short(), n)
				}
			}
		}
		for _, m := range all {
			m.o.end()
		}
		c.same(t, s)
		c.ended(t, s)
		if n := c.keeping(s).spares; n != 0 || c.opened.Load() != 0 {
			t.Errorf("%d spares, %d open", n, c.opened.Load())
		}
	})
}

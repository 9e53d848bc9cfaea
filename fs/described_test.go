package fs

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/crypto/cred"
)

// asks is how many questions a stat of a path takes. What is said must be what the cluster says.
func (c *keptFake) asks(t *testing.T, s *Service, o *owner, path blocktree.Path) int {
	t.Helper()
	c.looks.Store(0)
	info := toldOf(t, s, o, path)
	n := int(c.looks.Swap(0))
	c.mu.Lock()
	defer c.mu.Unlock()
	if want := InfoOf(&c.nodes[path].inode); info != want {
		t.Errorf("it is %+v, not %+v", info, want)
	}
	return n
}

func toldOf(t *testing.T, s *Service, o *owner, path blocktree.Path) Info {
	t.Helper()
	b, err := s.doPath(t.Context(), o, codeStat, &pathRequest{path: path})
	if err != nil {
		t.Fatal(err)
	}
	info, err := decodeInfo(b)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// describedWorld is one directory, dir, that a service keeps.
type describedWorld struct {
	*testing.T
	*keptFake
	s    *Service
	o    *owner
	does func(code uint16, r pathRequest)
}

// finish makes a file and closes it.
func (w *describedWorld) finish(path blocktree.Path) {
	_, err := makes(w.T, w.s, w.o, path).ask(message{code: codeFinish})
	wantKind(w.T, "a close", err, blocktree.Other)
}

// alters changes what is told of the directory beside its entries.
func (w *describedWorld) alters(dir blocktree.Path, r attrRequest) {
	for _, code := range []uint16{codeSetTimes, codeSetXattr, codeRemoveXattr} {
		w.does(code, pathRequest{path: dir, attr: r})
		if n := w.asks(w.T, w.s, w.o, dir); n != 1 {
			w.Errorf("%d questions after %s", n, nameOf(code))
		}
	}
	w.does(codeSetTimes, pathRequest{path: dir, attr: r})
}

// describedCase is something that happens to the directory.
type describedCase struct {
	name string
	do   func(*describedWorld)
	asks [2]int // the first stat then, and the next
}

func describedCases() []describedCase {
	dir, path, ann := below("d"), below("d/f"), somebody("ann")
	return []describedCase{
		{"nothing", func(*describedWorld) {}, [2]int{0, 0}},
		{"a while", func(w *describedWorld) {
			for i := range 10 { // it is in use
				time.Sleep(blocktree.MountCacheFor / 10)
				w.finish(dir.Join(fmt.Sprint(i)))
			}
		}, [2]int{1, 0}},
		{"less than that", func(w *describedWorld) { time.Sleep(blocktree.FSKeptIdleMax / 2); w.finish(path) }, [2]int{0, 0}},
		{"a change of rights", func(w *describedWorld) { w.number.Add(1) }, [2]int{1, 0}},
		{"a file", func(w *describedWorld) { w.finish(path) }, [2]int{0, 0}},
		{"a file without a name", func(w *describedWorld) { makes(w.T, w.s, w.o, path) }, [2]int{0, 0}},
		{"a whole file", func(w *describedWorld) {
			_, _, err := wholesOf(w.T, w.s, w.o, path, blocktree.FileID{}, "x")
			wantKind(w.T, "a whole file", err, blocktree.Other)
		}, [2]int{0, 0}},
		{"a file that others named", func(w *describedWorld) { makes(w.T, w.s, w.o, path); w.does(codeList, pathRequest{path: dir}) }, [2]int{0, 0}},
		{"a removal", func(w *describedWorld) { w.finish(path); w.does(codeRemove, pathRequest{path: path}) }, [2]int{1, 0}},
		{"a rename", func(w *describedWorld) { w.finish(path); w.does(codeRename, pathRequest{path: path, to: below("d/g")}) }, [2]int{1, 0}},
		{"a rename to elsewhere", func(w *describedWorld) { w.finish(path); w.does(codeRename, pathRequest{path: path, to: below("g")}) }, [2]int{1, 0}},
		{"a directory", func(w *describedWorld) { w.does(codeMkdir, pathRequest{path: path}) }, [2]int{1, 0}},
		{"a link", func(w *describedWorld) { w.does(codeSymlink, pathRequest{path: path, attr: attrRequest{value: "x"}}) }, [2]int{1, 0}},
		{"a directory, and a file", func(w *describedWorld) {
			w.does(codeMkdir, pathRequest{path: below("d/sub")})
			w.finish(path)
		}, [2]int{1, 0}},
		{"times and attributes", func(w *describedWorld) { w.alters(dir, attrRequest{time: 77, name: "user.x"}) }, [2]int{1, 0}},
		{"wanted", func(w *describedWorld) {
			_, err := w.Create(w.Context(), ann, below("d/theirs"), CreateOptions{})
			wantKind(w.T, "another service's", err, blocktree.Busy)
		}, [2]int{1, 1}},
		{"left soon", func(w *describedWorld) { w.s.kept.mu.Lock(); w.s.kept.dirs[dir].leaving = true; w.s.kept.mu.Unlock() }, [2]int{1, 1}},
		{"the session is not certain", func(w *describedWorld) { w.mu.Lock(); w.dirsKept[dir].lost = true; w.mu.Unlock() }, [2]int{1, 1}},
		{"it is another cluster's, of whose rights nobody hears here", func(w *describedWorld) { w.mu.Lock(); w.dirsKept[dir].below = true; w.mu.Unlock() }, [2]int{1, 1}},
		{"a name of which nobody knows", func(w *describedWorld) {
			a := makes(w.T, w.s, w.o, path)
			w.names(true, func(*spare) error { return blocktree.E("fake", blocktree.Unavailable, nil) })
			_, err := a.ask(message{code: codeFlush})
			wantKind(w.T, "a flush", err, blocktree.Unavailable)
		}, [2]int{1, 1}},
		{"times of which nobody knows", func(w *describedWorld) {
			w.down = blocktree.E("fake", blocktree.Unavailable, nil)
			wantKind(w.T, "set times", does(w.T, w.s, w.o, codeSetTimes, pathRequest{path: dir}), blocktree.Unavailable)
			w.down = nil
		}, [2]int{1, 1}},
		{"somebody else", func(w *describedWorld) {
			w.set(dir, func(n *fakeNode) { n.rights[somebody("bob").Principal] = List })
			w.o = ownerFor(w.s, somebody("bob"))
		}, [2]int{1, 0}},
		{"nobody in particular", func(w *describedWorld) {
			w.set(dir, func(n *fakeNode) { n.rights[nobody.Principal] = List })
			w.o = ownerFor(w.s, nobody)
		}, [2]int{1, 1}},
	}
}

// TestDescribed: J3 of 0087. A kept directory is described from memory; each of what may make that something else than the cluster would say has the cluster asked.
func TestDescribed(t *testing.T) {
	dir, ann := below("d"), somebody("ann")
	for _, r := range describedCases() {
		synctest.Test(t, func(t *testing.T) {
			c, s := newKept(t)
			w := &describedWorld{T: t, keptFake: c, s: s, o: ownerFor(s, ann)}
			w.does = func(code uint16, r pathRequest) {
				t.Helper()
				wantKind(t, nameOf(code), does(t, s, w.o, code, r), blocktree.Other)
			}
			w.does(codeMkdir, pathRequest{path: dir})
			r.do(w)
			for i, want := range r.asks {
				if n := c.asks(t, s, w.o, dir); n != want {
					t.Errorf("%s: stat %d takes %d questions, not %d", r.name, i, n, want)
				}
			}
		})
	}
}

// TestDescribedByIdentity: what is set of a kept directory by its identity, under another path, is seen at once.
func TestDescribedByIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKept(t)
		o, dir := ownerFor(s, somebody("ann")), below("d")
		wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: dir}), blocktree.Other)
		id := toldOf(t, s, o, dir).ID
		for _, code := range []uint16{codeSetTimes, codeSetXattr, codeRemoveXattr} {
			wantKind(t, nameOf(code), does(t, s, o, code, pathRequest{path: below("old"), attr: attrRequest{file: id, time: 77, name: "user.x"}}), blocktree.Other)
			if n := c.asks(t, s, o, dir); n != 1 {
				t.Errorf("%s: %d questions", nameOf(code), n)
			}
		}
	})
}

// TestDescribedMeanwhile: while a change goes on the cluster is asked, and nothing that it was asked for before the change was answered is said after it, also of a directory that is being made.
func TestDescribedMeanwhile(t *testing.T) {
	dir, path := below("d"), below("d/f")
	for _, r := range []struct {
		code uint16
		pathRequest
	}{
		{codeMkdir, pathRequest{path: path}}, {codeRemove, pathRequest{path: below("d/x")}}, {codeRename, pathRequest{path: below("d/x"), to: path}},
		{codeSetTimes, pathRequest{path: dir, attr: attrRequest{time: 77}}}, {codeSetXattr, pathRequest{path: dir, attr: attrRequest{name: "user.x"}}},
		{codeStat, pathRequest{path: dir}},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, s := newKept(t)
			o := ownerFor(s, somebody("ann"))
			wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: dir}), blocktree.Other)
			wantKind(t, "a file", does(t, s, o, codeCreate, pathRequest{path: below("d/x")}), blocktree.Other)
			goOn := c.slowly(t, s, o, r.code, r.pathRequest)
			for range 2 {
				if n := c.asks(t, s, o, dir); n != 1 && r.code != codeStat {
					t.Errorf("%s goes on: a stat takes %d questions", nameOf(r.code), n)
				}
			}
			if r.code == codeStat { // it was answered before this
				wantKind(t, "a removal", does(t, s, o, codeRemove, pathRequest{path: below("d/x")}), blocktree.Other)
			}
			wantKind(t, nameOf(r.code), goOn(), blocktree.Other)
			for i := range 2 {
				if n := c.asks(t, s, o, dir); n != 1-i {
					t.Errorf("%s is done: stat %d takes %d questions", nameOf(r.code), i, n)
				}
			}
		})
	}
}

// describedLate is something that is heard of late, and how many questions a stat of the directory takes then.
type describedLate struct {
	do   func(t *testing.T, c *keptFake, s *Service, o *owner)
	asks int
}

// describedLateCases are those of one directory, d.
func describedLateCases() map[string]describedLate {
	dir, path, times := below("d"), below("d/f"), pathRequest{path: below("d"), attr: attrRequest{time: 77}}
	return map[string]describedLate{
		"an older answer than another": {func(t *testing.T, c *keptFake, s *Service, o *owner) {
			c.number.Add(1)
			goOn := c.holds(t, s, o, "look", codeStat, pathRequest{path: dir})
			time.Sleep(time.Millisecond)
			wantKind(t, "another service's", c.alter(dir, blocktree.FileID{}, func(*meta.Inode, int64) {}), blocktree.Other)
			c.asks(t, s, o, dir)
			wantKind(t, "a stat", goOn(), blocktree.Other)
		}, 0},
		"rights of which there is no description": {func(t *testing.T, c *keptFake, s *Service, o *owner) {
			a := makes(t, s, o, path)
			wantKind(t, "another service's", c.alter(dir, blocktree.FileID{}, func(i *meta.Inode, _ int64) { i.Mode = 0o755 }), blocktree.Other)
			c.number.Add(1)
			goOn := c.holds(t, s, o, "look", codeStat, pathRequest{path: dir})
			_, err := a.ask(message{code: codeFinish})
			wantKind(t, "a close", err, blocktree.Other)
			wantKind(t, "a stat", goOn(), blocktree.Other)
		}, 1},
		"what others set meanwhile": {func(t *testing.T, c *keptFake, s *Service, o *owner) {
			a, closed, gate := makes(t, s, o, path), make(chan error, 1), make(chan struct{})
			c.mu.Lock()
			c.gates = map[string]chan struct{}{"done": gate}
			c.mu.Unlock()
			go func() {
				_, err := a.ask(message{code: codeFinish})
				closed <- err
			}()
			synctest.Wait()
			wantKind(t, "another service's", c.alter(dir, blocktree.FileID{}, func(i *meta.Inode, _ int64) { i.Modified = 77 }), blocktree.Other)
			if n := c.asks(t, s, o, dir); n != 1 {
				t.Errorf("it is closed: %d questions", n)
			}
			close(gate)
			wantKind(t, "a close", <-closed, blocktree.Other)
		}, 1},
		"times of what had its path": {func(t *testing.T, c *keptFake, s *Service, o *owner) {
			set := c.holds(t, s, o, "alter", codeSetTimes, times)
			wantKind(t, "remove", does(t, s, o, codeRemove, pathRequest{path: dir}), blocktree.Other)
			made := c.slowly(t, s, o, codeMkdir, pathRequest{path: dir})
			wantKind(t, "set times", set(), blocktree.Other)
			wantKind(t, "mkdir", made(), blocktree.Other)
		}, 1},
	}
}

// describedMakingCases are of one that is being made meanwhile, d/sub.
func describedMakingCases() map[string]describedLate {
	sub := below("d/sub")
	times := pathRequest{path: sub, attr: attrRequest{time: 77}}
	return map[string]describedLate{
		"times that are set while it is made": {func(t *testing.T, c *keptFake, s *Service, o *owner) {
			goOn := c.slowly(t, s, o, codeMkdir, pathRequest{path: sub})
			looked := c.holds(t, s, o, "look", codeStat, pathRequest{path: sub})
			wantKind(t, "set times", does(t, s, o, codeSetTimes, times), blocktree.Other)
			wantKind(t, "mkdir", goOn(), blocktree.Other)
			wantKind(t, "a stat", looked(), blocktree.Other)
			if n := c.asks(t, s, o, sub); n != 1 {
				t.Errorf("it was made: %d questions", n)
			}
		}, 1},
		"times that are set when it was made": {func(t *testing.T, c *keptFake, s *Service, o *owner) {
			made := c.slowly(t, s, o, codeMkdir, pathRequest{path: sub})
			set := c.holds(t, s, o, "alter", codeSetTimes, times)
			wantKind(t, "mkdir", made(), blocktree.Other)
			looked := c.holds(t, s, o, "look", codeStat, pathRequest{path: sub})
			wantKind(t, "set times", set(), blocktree.Other)
			wantKind(t, "a stat", looked(), blocktree.Other)
			if n := c.asks(t, s, o, sub); n != 1 {
				t.Errorf("it was made: %d questions", n)
			}
		}, 1},
		"times that may be set when it was made": {func(t *testing.T, c *keptFake, s *Service, o *owner) {
			made := c.slowly(t, s, o, codeMkdir, pathRequest{path: sub})
			c.mu.Lock()
			c.down = blocktree.E("fake", blocktree.Unavailable, nil)
			c.mu.Unlock()
			wantKind(t, "set times", does(t, s, o, codeSetTimes, times), blocktree.Unavailable)
			c.mu.Lock()
			c.down = nil
			c.mu.Unlock()
			wantKind(t, "mkdir", made(), blocktree.Other)
			for range 2 {
				if n := c.asks(t, s, o, sub); n != 1 {
					t.Errorf("it was made: %d questions", n)
				}
			}
		}, 1},
	}
}

// TestDescribedLate: what was said, or done, before something else, and is heard of after it, is not told then.
func TestDescribedLate(t *testing.T) {
	all := describedLateCases()
	maps.Copy(all, describedMakingCases())
	for name, r := range all {
		synctest.Test(t, func(t *testing.T) {
			c, s := newKept(t)
			o, dir := ownerFor(s, somebody("ann")), below("d")
			wantKind(t, "mkdir", does(t, s, o, codeMkdir, pathRequest{path: dir}), blocktree.Other)
			r.do(t, c, s, o)
			if n := c.asks(t, s, o, dir); n != r.asks {
				t.Errorf("%s: %d questions", name, n)
			}
		})
	}
}

// dirVersion is what a directory was like for a while.
type dirVersion struct {
	modified, changed int64
	mode              uint32
	at                time.Time
	strict            bool // nobody may be told of before
}

// describedModel compares what callers are told of directories with what those were like.
type describedModel struct {
	*testing.T
	c        *keptFake
	s        *Service
	mu       sync.Mutex
	versions map[blocktree.FileID][]dirVersion
	lax      bool // with the fake's lock: what is noted next is by somebody else
	number   time.Time
	bob      []time.Time // when he may look at the directories, and may not, in turn
	told     int
}

// stat compares a stat.
func (m *describedModel) stat(o *owner, dir blocktree.Path) {
	m.mu.Lock()
	floors, rights := map[blocktree.FileID]int{}, len(m.bob)
	modes := map[blocktree.FileID]int{}
	begun := time.Now()
	for id, all := range m.versions {
		for i, v := range all {
			if v.strict || i+1 < len(all) && !all[i+1].at.After(begun.Add(-blocktree.MountCacheFor)) {
				floors[id] = i
			}
			if i+1 < len(all) && (!all[i+1].at.After(begun.Add(-blocktree.MountCacheFor)) || !all[i+1].at.After(m.number)) {
				modes[id] = i + 1
			}
		}
	}
	m.mu.Unlock()
	b, err := m.s.doPath(m.Context(), o, codeStat, &pathRequest{path: dir})
	m.mu.Lock()
	defer m.mu.Unlock()
	bob := o.caller().Principal == somebody("bob").Principal
	if bob && err == nil && rights%2 == 0 && len(m.bob) == rights {
		m.Errorf("bob is told of %s", dir.Short())
	}
	if err != nil {
		return
	}
	info, err := decodeInfo(b)
	if err != nil {
		m.Fatal(err)
	}
	m.told++
	all := m.versions[info.ID]
	times, mode := false, false
	for i, v := range all {
		times = times || i >= floors[info.ID] && v.modified == info.Modified && v.changed == info.Changed
		mode = mode || i >= modes[info.ID] && v.mode == info.Mode
	}
	if !times || !mode {
		m.Errorf("%s at %v: told %d, %d, mode %o; from %d (mode %d) on it was %+v", dir.Short(), time.Now(), info.Modified, info.Changed, info.Mode, floors[info.ID], modes[info.ID], all[max(0, len(all)-6):])
	}
}

// TestDescribedModel: J3 of 0087. Whatever goes on in directories that a service keeps, by it and by others, whoever asks it what they are like is told what they are, or, of what others have set, were less than MountCacheFor ago; and nobody is told who may not know.
func TestDescribedModel(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			c, s := newKept(t)
			m := &describedModel{T: t, c: c, s: s, versions: map[blocktree.FileID][]dirVersion{}}
			random := rand.New(rand.NewPCG(seed, 87))
			var lagging sync.Mutex
			c.lag = func() {
				lagging.Lock()
				wait := time.Duration(random.IntN(4)) * time.Duration(random.IntN(4)) * time.Millisecond
				lagging.Unlock()
				time.Sleep(wait)
			}
			c.vaguely = func() bool {
				lagging.Lock()
				defer lagging.Unlock()
				return random.IntN(8) == 0
			}
			c.noted = func(n *fakeNode, entry bool) {
				m.mu.Lock()
				defer m.mu.Unlock()
				i := &n.inode
				m.versions[i.ID] = append(m.versions[i.ID], dirVersion{i.Modified, i.Changed, i.Mode, time.Now(), !m.lax})
				m.lax = false
			}
			dirs := []blocktree.Path{below("d"), below("d/sub"), below("e")}
			ann := ownerFor(s, somebody("ann"))
			again := func() {
				for _, d := range dirs {
					_ = does(t, s, ann, codeMkdir, pathRequest{path: d})
				}
			}
			again()
			var wg sync.WaitGroup
			stop := make(chan struct{})
			for w := range 3 {
				wg.Go(func() { m.changes(rand.New(rand.NewPCG(seed, uint64(w))), w, dirs) })
			}
			wg.Go(func() { m.others(rand.New(rand.NewPCG(seed, 7)), dirs) })
			var readers sync.WaitGroup
			for i := range 3 {
				readers.Go(func() {
					o := ownerFor(s, []cred.Identity{somebody("ann"), somebody("ann"), somebody("bob")}[i])
					defer o.end()
					for n := 0; ; n++ {
						select {
						case <-stop:
							return
						default:
						}
						m.stat(o, dirs[n%3])
						time.Sleep(time.Duration(1+n%3) * time.Millisecond)
					}
				})
			}
			wg.Wait()
			close(stop)
			readers.Wait()
			c.yet.Wait()
			if m.told == 0 {
				t.Error("nobody was told anything")
			}
			if t.Failed() {
				t.Logf("seed %d", seed)
			}
		})
	}
}

// changes is what a caller of the service does.
func (m *describedModel) changes(random *rand.Rand, w int, dirs []blocktree.Path) {
	o := ownerFor(m.s, somebody("ann"))
	defer o.end()
	for i := range 60 {
		dir := dirs[random.IntN(len(dirs))]
		path, other := dir.Join(fmt.Sprintf("w%d-%d", w, random.IntN(3))), dirs[random.IntN(len(dirs))].Join(fmt.Sprintf("w%d-%d", w, random.IntN(3)))
		switch random.IntN(10) {
		case 0, 1, 2, 3:
			b, err := m.s.doPath(m.Context(), o, codeMakeOpen, &pathRequest{path: path})
			if err != nil {
				continue
			}
			if handle, _, err := decodeOpened(b); err == nil {
				m.stat(o, dir)
				_, _ = o.find(handle).open.ask(message{code: []uint16{codeFinish, codeClose}[random.IntN(2)]})
			}
		case 4:
			_ = does(m.T, m.s, o, codeRemove, pathRequest{path: path})
		case 5:
			_ = does(m.T, m.s, o, codeRename, pathRequest{path: path, to: other})
		case 6:
			_ = does(m.T, m.s, o, codeMkdir, pathRequest{path: path})
		case 7:
			_ = does(m.T, m.s, o, []uint16{codeSetTimes, codeSetXattr}[random.IntN(2)], pathRequest{path: dir, attr: attrRequest{time: int64(w<<20 | i), name: "user.x"}})
		case 8: // it is left, and made anew
			if random.IntN(4) == 0 && w == 0 {
				_ = does(m.T, m.s, o, codeRename, pathRequest{path: dirs[2], to: below(fmt.Sprint("was", i))})
				_ = does(m.T, m.s, o, codeMkdir, pathRequest{path: dirs[2]})
			}
		case 9:
			_, _, _ = wholesOf(m.T, m.s, o, path, blocktree.FileID{}, "x")
		}
		m.stat(o, dir)
		time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond)
	}
}

// others is what is done by other services, of which this one hears late, or not at all.
func (m *describedModel) others(random *rand.Rand, dirs []blocktree.Path) {
	for i := range 40 {
		dir := dirs[random.IntN(len(dirs))]
		alter := func(change func(i *meta.Inode, now int64)) {
			_ = m.c.alter(dir, blocktree.FileID{}, func(i *meta.Inode, now int64) {
				change(i, now)
				m.lax = true
			})
		}
		switch random.IntN(6) {
		case 0, 1:
			alter(func(x *meta.Inode, _ int64) { x.Modified = int64(9<<20 | i) })
		case 2:
			alter(func(*meta.Inode, int64) {})
		case 3:
			alter(func(x *meta.Inode, _ int64) { x.Mode ^= 0o077 })
			time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond)
			m.c.number.Add(1)
			m.mu.Lock()
			m.number = time.Now()
			m.mu.Unlock()
		case 4: // they want what is kept
			for range 5 {
				if _, err := m.c.Create(m.Context(), somebody("ann"), dir.Join(fmt.Sprint("theirs", i)), CreateOptions{}); err == nil {
					break
				}
				time.Sleep(50 * time.Millisecond)
			}
		case 5:
			m.c.mu.Lock()
			for p, n := range m.c.nodes {
				if n.inode.Kind == meta.KindDir && p != testRoot {
					if m.mu.Lock(); len(m.bob)%2 == 0 {
						n.rights[somebody("bob").Principal] = List
					} else {
						delete(n.rights, somebody("bob").Principal)
					}
					m.mu.Unlock()
				}
			}
			m.c.number.Add(1)
			m.mu.Lock()
			m.bob = append(m.bob, time.Now())
			m.mu.Unlock()
			m.c.mu.Unlock()
		}
		time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
	}
}

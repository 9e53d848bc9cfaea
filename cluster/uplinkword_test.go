package cluster

import (
	"bytes"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
)

// TestUplinkIsProven: X1. A member that says that it has the uplink, and proves nothing, keeps nobody from having it: one that says so at once, now and then, or with a word of before. It takes the uplink from nobody who has it, though it is the lowest.
func TestUplinkIsProven(t *testing.T) {
	for _, name := range []string{"always", "now and then", "later", "an old word"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newWayBed(t)
				root := b.cluster("/", 1)
				begun := time.Now()
				var old atomic.Pointer[[]byte] // a true word, of another challenge
				b.liar, b.lies = "/lab/n1", func(req *bttp.Request) {
					word := old.Load()
					switch at := time.Since(begun); {
					case name == "now and then" && at%(3*time.Second) < time.Second, name == "later" && at < 20*time.Second:
						req.Reply([]byte{0})
					case word != nil:
						req.Reply([]byte{1}, *word)
					default:
						req.Reply([]byte{1})
					}
				}
				child := b.cluster("/lab", 3, root...)
				if name == "an old word" {
					word := root[0].service.word(child[0].runtime.Principal, make([]byte, challengeBytes)).encode()
					old.Store(&word)
				}
				honest := child[1:]
				b.await("an uplink of the next", uplinkDoubted+uplinkTurn+5*time.Second, func() bool { return slices.Equal(uplinkHolders(honest), []string{"n2"}) })
				for range 400 { // it stays there, whatever is said
					time.Sleep(100 * time.Millisecond)
					if h := uplinkHolders(honest); !slices.Equal(h, []string{"n2"}) {
						t.Fatalf("%v have it", h)
					}
				}
			})
		})
	}
}

// TestUplinkWord: X1. Whose word is believed, and for whom.
func TestUplinkWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWayBed(t)
		challenge := bytes.Repeat([]byte{7}, challengeBytes)
		holder := testKey(t).Principal()
		lab := blocktree.RootPath(b.root).Join("lab")
		by := func(short string, services ...string) (cred.Key, cred.Credentials) {
			c, _ := b.config(short, services...)
			return c.Key, c.Credentials
		}
		open := func(in []byte) error {
			_, err := openUplinkWord(in, b.root, lab, holder, challenge, time.Now())
			return err
		}
		key, chain := by("/n1", blocktree.ServiceSector)
		good := newUplinkWord(key, chain, holder, challenge).encode()
		if err := open(good); err != nil {
			t.Fatal(err)
		}
		bent := bytes.Clone(good)
		bent[len(bent)-1] ^= 1
		other := bytes.Clone(challenge)
		other[0]++
		stranger := testKey(t)
		signed := func(short string, services ...string) []byte {
			k, c := by(short, services...)
			return newUplinkWord(k, c, holder, challenge).encode()
		}
		for name, in := range map[string][]byte{
			"nothing":             nil,
			"bent":                bent,
			"of another time":     newUplinkWord(key, chain, holder, other).encode(),
			"of another holder":   newUplinkWord(key, chain, stranger.Principal(), challenge).encode(),
			"by another's key":    newUplinkWord(stranger, chain, holder, challenge).encode(),
			"by a sibling":        signed("/lab/n2", blocktree.ServiceSector),
			"by one beneath":      signed("/lab/deep/n1", blocktree.ServiceSector),
			"by one beside":       signed("/other/n1", blocktree.ServiceSector),
			"by no sector host":   signed("/n2"),
			"with more behind it": append(bytes.Clone(good), 0),
		} {
			if err := open(in); err == nil {
				t.Errorf("%s: is believed", name)
			}
		}
		if _, err := openUplinkWord(good, holder, lab, holder, challenge, time.Now()); err == nil {
			t.Error("a word of another domain is believed")
		}
	})
}

// TestWordOfALine: X1. A runtime vouches for nobody whose line it does not keep, and a member has no word asked for by who is none of its directory.
func TestWordOfALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWayBed(t)
		root := b.cluster("/", 1)
		child := b.cluster("/lab", 2, root...)
		b.await("an uplink", 20*time.Second, func() bool { return len(uplinkHolders(child)) == 1 })
		m, _ := holderOf(t, child)
		asks := func(short string, of *wayMember, code uint16) (reply []byte, kind blocktree.Kind) {
			c, _ := b.config(short, blocktree.ServiceSector)
			e, err := bttp.New(c)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			conn, err := e.Dial(t.Context(), of.runtime)
			if err != nil {
				t.Fatal(err)
			}
			r, err := conn.CallWait(t.Context(), code, make([]byte, challengeBytes))
			defer r.Release()
			return bytes.Clone(r.Body), blocktree.KindOf(err)
		}
		if _, kind := asks("/lab/n9", root[0], codeUplinkWord); kind != blocktree.Permission {
			t.Errorf("who has no line: %v", kind)
		}
		if word, kind := asks("/other", m, codeUplinkHeld); kind != blocktree.Other || len(word) > 0 {
			t.Errorf("a stranger: %d bytes, %v", len(word), kind)
		}
		if word, kind := asks("/lab/n9", m, codeUplinkHeld); kind != blocktree.Other || len(word) == 0 {
			t.Errorf("a sibling: %d bytes, %v", len(word), kind)
		}
	})
}

// stays wants one member to have the uplink, and no other, for a while.
func (b *wayBed) stays(all []*wayMember, name string, during time.Duration) {
	b.t.Helper()
	for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if h := uplinkHolders(all); !slices.Equal(h, []string{name}) {
			b.t.Fatalf("%v have the uplink", h)
		}
	}
}

// secondHolds is a cluster of three whose second member has the uplink, while the first is away.
func secondHolds(t *testing.T) (b *wayBed, child []*wayMember) {
	b = newWayBed(t)
	root := b.cluster("/", 1)
	child = b.cluster("/lab", 3, root...)
	b.await("the uplink of n1", 20*time.Second, func() bool { return slices.Equal(uplinkHolders(child), []string{"n1"}) })
	child[0].stop()
	b.await("the uplink of n2", 20*time.Second, func() bool { return slices.Equal(uplinkHolders(child), []string{"n2"}) })
	return b, child
}

// TestUplinkOfASlowWord: who holds the uplink loses it to nobody because the runtime above took long for a word or two.
func TestUplinkOfASlowWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, child := secondHolds(t)
		b.slow.Store(int64(uplinkLook + uplinkLook/5))
		child[0].start()
		b.stays(child, "n2", uplinkDoubted/2+uplinkLook)
		b.slow.Store(0)
		b.stays(child, "n2", 30*time.Second)
	})
}

// TestWordsAreShared: a member that has as many words asked for as a holder has at a time keeps no other from one.
func TestWordsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, child := secondHolds(t)
		b.slow.Store(int64(uplinkLook / 2))
		dials := func(short string) *bttp.Conn {
			c, _ := b.config(short, blocktree.ServiceSector)
			e, err := bttp.New(c)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = e.Close() })
			conn, err := e.Dial(t.Context(), child[1].runtime)
			if err != nil {
				t.Fatal(err)
			}
			return conn
		}
		greedy, honest := dials("/lab/n8"), dials("/lab/n9")
		var words atomic.Int64
		for range 2 * uplinkWordsMax {
			err := greedy.Call(codeUplinkHeld, make([]byte, challengeBytes), nil, func(r bttp.Reply, err error) {
				if err == nil && len(r.Body) > 0 {
					words.Add(1)
				}
				r.Release()
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(uplinkLook / 10) // they are there
		r, err := honest.CallWait(t.Context(), codeUplinkHeld, make([]byte, challengeBytes))
		defer r.Release()
		if err != nil || len(r.Body) == 0 {
			t.Errorf("another has no word: %v", err)
		}
		if n := words.Load(); n == 0 || n > uplinkWordsEach {
			t.Errorf("%d words for one sibling", n)
		}
	})
}

// TestUplinkBesideOldParents: below runtimes that give no word, as those of the version before, a cluster of this version has as many uplinks as they take of it, and is never without; and one again once they do.
func TestUplinkBesideOldParents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWayBed(t)
		b.old.Store(true)
		root := b.cluster("/", 1)
		child := b.cluster("/lab", blocktree.DownlinksPerDirectoryMax+1, root...)
		b.await("an uplink", 20*time.Second, func() bool { return len(uplinkHolders(child)) > 0 })
		most := 0
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			n := len(uplinkHolders(child))
			most = max(most, n)
			if n == 0 || n > blocktree.DownlinksPerDirectoryMax {
				t.Fatalf("%d have it", n)
			}
		}
		if most != blocktree.DownlinksPerDirectoryMax {
			t.Errorf("%d have had it", most) // docs/design/0049 says so
		}
		b.old.Store(false)
		b.await("one uplink", 30*time.Second, func() bool { return len(uplinkHolders(child)) == 1 })
		time.Sleep(30 * time.Second) // who was refused looks again
		b.stays(child, uplinkHolders(child)[0], 30*time.Second)
	})
}

func FuzzUplinkWord(f *testing.F) {
	f.Add((&uplinkWord{challenge: [challengeBytes]byte{1}, holder: blocktree.Principal{2}, chain: []byte{3}, signature: make([]byte, 64)}).encode())
	f.Fuzz(func(t *testing.T, in []byte) {
		w, err := decodeUplinkWord(in)
		if err == nil && !bytes.Equal(w.encode(), in) {
			t.Fatalf("encode(decode(%x)) = %x", in, w.encode())
		}
	})
}

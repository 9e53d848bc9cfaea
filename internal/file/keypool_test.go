package file

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"blocktree"
	"blocktree/crypto/keys"
	"blocktree/crypto/seal"
)

// issued are the keys that files were given.
type issued struct {
	mu   sync.Mutex
	ids  map[keys.KeyID]bool
	keys map[keys.FileKey]bool
}

// note refuses a key that another file has, and one that the reader does not get from the record.
func (x *issued) note(t *testing.T, a *keys.Access, key keys.FileKey, reader *keys.ReaderKey) {
	t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ids == nil {
		x.ids, x.keys = map[keys.KeyID]bool{}, map[keys.FileKey]bool{}
	}
	if x.ids[a.KeyID] || x.keys[key] {
		t.Errorf("two files have the key %v", a.KeyID)
	}
	x.ids[a.KeyID], x.keys[key] = true, true
	if got, err := a.Open(reader); err != nil || got != key {
		t.Errorf("the reader does not open the key: %v", err)
	}
}

const suite = uint8(seal.XAES256GCM)

// TestEachFileItsKey: J5 of 0087, with many who make files at a time for more lists of readers than are remembered.
func TestEachFileItsKey(t *testing.T) {
	var p KeyPool
	var all issued
	var readers []*keys.ReaderKey
	for range blocktree.KeyPoolListsMax + 2 {
		readers = append(readers, keys.NewReaderKey())
	}
	var makers sync.WaitGroup
	for m := range 6 {
		makers.Go(func() {
			for i := range 24 {
				r := readers[0]
				if i%3 == 2 {
					r = readers[(i+m)%len(readers)]
				}
				a, key, err := p.create(suite, []keys.PublicKey{r.Public()})
				if err != nil {
					t.Error(err)
					return
				}
				all.note(t, a, key, r)
			}
		})
	}
	makers.Wait()
	p.Close()
}

// TestNextKeyIsReady has the next key of a suite and list of readers be ready, and no other be given for it.
func TestNextKeyIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p KeyPool
		var all issued
		one, two := keys.NewReaderKey(), keys.NewReaderKey()
		ask := func(suite uint8, reader *keys.ReaderKey, ready bool, list ...*keys.ReaderKey) {
			t.Helper()
			var readers []keys.PublicKey
			for _, r := range list {
				readers = append(readers, r.Public())
			}
			var next *keys.Access
			for _, n := range p.next {
				if n.suite == suite && slices.Equal(n.readers, readers) {
					next = n.access
				}
			}
			a, key, err := p.create(suite, readers)
			if err != nil {
				t.Fatal(err)
			}
			all.note(t, a, key, reader)
			if got := a == next; got != ready || (next != nil) != ready {
				t.Errorf("a key was ready: %v (given: %v), want %v", next != nil, got, ready)
			}
			if got := a.PublicKeys(); a.Suite != suite || !slices.Equal(got, readers) {
				t.Errorf("suite %d for %v, want %d for %v", a.Suite, got, suite, readers)
			}
			readers[0] = keys.PublicKey{} // is the caller's
			synctest.Wait()
		}
		ask(suite, one, false, one)
		ask(suite, one, true, one)
		ask(suite, one, false, one, two)
		ask(suite, two, true, one, two)
		ask(suite, two, false, two, one)
		ask(suite+1, one, false, one)
		ask(suite, one, true, one)
		for range blocktree.KeyPoolListsMax {
			r := keys.NewReaderKey()
			ask(suite, r, false, r)
			ask(suite, one, true, one) // it is used, and stays
		}
		if len(p.next) != blocktree.KeyPoolListsMax {
			t.Errorf("%d lists are remembered, want %d", len(p.next), blocktree.KeyPoolListsMax)
		}
		ask(suite, two, false, two, one) // it went
		p.Close()
		ask(suite, one, false, one)
		ask(suite, one, false, one)
	})
}

// TestNoKeyOfAnError has what cannot be made be refused as without a pool, and nothing be ready for it.
func TestNoKeyOfAnError(t *testing.T) {
	var p KeyPool
	r := keys.NewReaderKey().Public()
	for _, readers := range [][]keys.PublicKey{{r, r}, {{}}, slices.Repeat([]keys.PublicKey{r}, keys.ReadersMax+1)} {
		_, _, want := keys.Create(suite, readers)
		if a, _, err := p.create(suite, readers); a != nil || fmt.Sprint(err) != fmt.Sprint(want) || err == nil {
			t.Errorf("%d readers: %v, want %v", len(readers), err, want)
		}
	}
	if len(p.next) != 0 {
		t.Errorf("%d lists are remembered", len(p.next))
	}
	p.Close()
}

// BenchmarkCreate compares what who makes a file waits for, without a pool and with one whose next key is ready.
func BenchmarkCreate(b *testing.B) {
	for _, n := range []int{1, 2} {
		var readers []keys.PublicKey
		for range n {
			readers = append(readers, keys.NewReaderKey().Public())
		}
		b.Run(fmt.Sprintf("readers=%d/drawn", n), func(b *testing.B) {
			for b.Loop() {
				if _, _, err := keys.Create(suite, readers); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("readers=%d/ready", n), func(b *testing.B) {
			var p KeyPool
			defer p.Close()
			for b.Loop() {
				if _, _, err := p.create(suite, readers); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				p.waits()
				b.StartTimer()
			}
		})
	}
}

// waits until no key is being drawn.
func (p *KeyPool) waits() {
	for busy := true; busy; {
		p.mu.Lock()
		busy = slices.ContainsFunc(p.next, func(n *nextKey) bool { return n.drawing })
		p.mu.Unlock()
	}
}

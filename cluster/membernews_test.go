package cluster

import (
	"testing"

	"blocktree"
)

// TestNewsOfAGroup: what the store says of calls that ended together is heard once, when all of it is said; of any other, at once.
func TestNewsOfAGroup(t *testing.T) {
	b := newMemberBed(t)
	b.takeOver()
	b.settle()
	m := b.member
	open := func() int {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.appends
	}
	m.mu.Lock()
	m.appends += 3
	m.queuedBytes += 600
	upTo := m.handed
	m.mu.Unlock()
	told := func(bytes int) func(error) { return m.told(news{calls: 1, bytes: bytes, durable: upTo}) }
	first, second, third := told(100), told(200), told(300)
	m.tellGroup(func() {
		first(nil)
		second(nil)
		if n := open(); n != 3 {
			t.Errorf("%d calls are open while a group is told of, want 3", n)
		}
	})
	if n := open(); n != 1 || m.queuedBytes != 300 {
		t.Errorf("%d calls and %d bytes are open after a group of two, want 1 and 300", n, m.queuedBytes)
	}
	third(nil)
	if n := open(); n != 0 || m.queuedBytes != 0 {
		t.Errorf("%d calls and %d bytes are open after all, want none", n, m.queuedBytes)
	}
	m.mu.Lock()
	m.appends += 2
	m.mu.Unlock()
	good, bad := told(0), told(0)
	m.tellGroup(func() {
		good(nil)
		bad(blocktree.E("test", blocktree.IO, nil))
	})
	if err := <-m.fatal; blocktree.KindOf(err) != blocktree.IO {
		t.Errorf("fatal is %v, want what one of a group said", err)
	}
}

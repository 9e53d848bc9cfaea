package meta

import (
	"testing"

	"blocktree"
)

// TestAskShrink: an ask is noted on the lease of one epoch, heard by its holder, and gone with that lease, with any other size, and when it is taken back.
func TestAskShrink(t *testing.T) {
	m := founded(t, 3)
	f := m.must(with(coded("/w", 2, 1), func(o *CreateFile) { o.SizeBytes = 1 << 20 })).Inode.ID
	refused := func(name string, o AskShrink, want blocktree.Kind) {
		t.Helper()
		if r := m.do(o); r.Kind != want {
			t.Errorf("%s: %v %q", name, r.Kind, r.Text)
		}
	}
	asked := func(name string, want uint64) {
		t.Helper()
		a := m.view().answer(Query{Kind: QueryShrink, File: f})
		switch {
		case want == 0 && a.Kind == blocktree.NotFound:
		case a.Inode == nil || a.Inode.SizeBytes != want || a.Lease == nil || a.Inode.ID != f:
			t.Errorf("%s: %+v, not %d", name, a, want)
		}
	}
	now := func(o AskShrink) AskShrink {
		o.Seq = m.view().layout(f).Seq
		return o
	}
	ask, hear := AskShrink{File: f, Epoch: 1, SizeBytes: 8192}, AskShrink{File: f, Epoch: 1, SizeBytes: 8192, Session: session(1)}
	refused("nobody holds it", ask, blocktree.Fenced)
	m.must(open(1))
	m.must(open(2))
	m.must(Acquire{session(1), f})
	asked("nobody asks", 0)
	refused("heard of nothing", hear, blocktree.NotFound)
	for name, o := range map[string]AskShrink{"not smaller": {File: f, Epoch: 1, SizeBytes: 1 << 20}, "odd": {File: f, Epoch: 1, SizeBytes: 4097}, "zero": {File: f, Epoch: 1, Session: session(1)}} {
		refused(name, o, blocktree.Invalid)
	}
	refused("another epoch", AskShrink{File: f, Epoch: 2, SizeBytes: 8192}, blocktree.Fenced)
	refused("no file", AskShrink{File: fileID(9), Epoch: 1, SizeBytes: 8192}, blocktree.NotFound)
	m.must(now(ask))
	m.must(now(ask))
	asked("asked", 8192)
	refused("another session", AskShrink{File: f, Epoch: 1, SizeBytes: 8192, Session: session(2)}, blocktree.Fenced)
	refused("another size is heard", AskShrink{File: f, Epoch: 1, SizeBytes: 4096, Session: session(1)}, blocktree.NotFound)
	m.must(hear)
	refused("heard", now(ask), blocktree.Exists)
	refused("heard again", hear, blocktree.Exists)
	m.must(now(AskShrink{File: f, Epoch: 1, SizeBytes: 4096}))
	asked("asked for less", 4096)
	m.must(AskShrink{File: f, Epoch: 1})
	asked("taken back", 0)

	m.must(now(ask))
	m.must(Resize{File: f, Seq: m.view().layout(f).Seq, SizeBytes: 2 << 20})
	asked("after another size", 0)

	late := now(ask) // a copy of it comes when the file has been made smaller, as it asks, and larger again
	for _, size := range []uint64{8192, 2 << 20} {
		m.must(Resize{File: f, Seq: m.view().layout(f).Seq, SizeBytes: size, Session: session(1), Epoch: 1})
	}
	refused("late", late, blocktree.StaleView)
	asked("late", 0)
	m.must(now(ask))
	m.must(Acquire{session(1), f})
	asked("of another epoch", 0)
	m.must(now(AskShrink{File: f, Epoch: 2, SizeBytes: 8192}))
	m.must(Release{session(1), f, 2})
	m.must(Acquire{session(2), f})
	asked("of another lease", 0)
}

// TestAskShrinkTree: of a file of integrity tree it is asked by a code of its own, and not of its pages.
func TestAskShrinkTree(t *testing.T) {
	m := founded(t, 3)
	plain := m.must(with(coded("/w", 2, 1), func(o *CreateFile) { o.SizeBytes = 1 << 20 })).Inode.ID
	m.must(open(1))
	m.must(MakeDir{Path: path("/vm")})
	f := m.must(treeFile()).Inode.ID
	m.must(Acquire{session(1), plain})
	m.must(Acquire{session(1), f})
	ask := AskShrink{File: f, Epoch: 1, SizeBytes: 4096, Seq: m.view().layout(f).Seq}
	for name, o := range map[string]Op{"by the other code": ask, "its pages": AskShrinkTree{AskShrink{File: m.view().inode(f).companion(), SizeBytes: 4096}}, "no tree": AskShrinkTree{AskShrink{File: plain, Epoch: 1, SizeBytes: 4096}}} {
		if r := m.do(o); r.Kind != blocktree.Unsupported {
			t.Errorf("%s: %v %q", name, r.Kind, r.Text)
		}
	}
	asked := func(name string, want uint64) {
		t.Helper()
		if a := m.view().answer(Query{Kind: QueryShrink, File: f}); (want == 0) != (a.Kind == blocktree.NotFound) || want > 0 && a.Inode.SizeBytes != want {
			t.Errorf("%s: %+v, not %d", name, a, want)
		}
	}
	m.must(AskShrinkTree{ask})
	asked("asked", 4096)
	m.must(AskShrinkTree{AskShrink{File: f, Epoch: 1, SizeBytes: 4096, Session: session(1)}})
	m.must(ResizeTree{Resize{File: f, Seq: m.view().layout(f).Seq, SizeBytes: 4096, Session: session(1), Epoch: 1}})
	asked("after another size", 0)
}

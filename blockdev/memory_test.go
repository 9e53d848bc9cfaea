package blockdev

import (
	"context"
	"testing"

	"blocktree"
)

func mustGet(t *testing.T, m *Memory, n int, extra int64) *Buffer {
	t.Helper()
	b, err := m.Get(t.Context(), n, extra)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.B) != n {
		t.Fatalf("%d bytes, want %d", len(b.B), n)
	}
	return b
}

func TestBufferClasses(t *testing.T) {
	for _, x := range []struct{ n, whole int }{
		{0, 512 + 64}, {512, 512 + 64}, {576, 576}, {577, 1024 + 64}, {4096, 4096 + 64}, {4096 + 16, 4096 + 64},
		{4096 + 65, 8192 + 64}, {32 << 20, 32<<20 + 64}, {32<<20 + 65, 32<<20 + 65},
	} {
		if got := bufferBytes(bufferClass(x.n), x.n); got != x.whole {
			t.Errorf("%d bytes take %d, want %d", x.n, got, x.whole)
		}
	}
}

func TestMemoryIsFair(t *testing.T) {
	m := NewMemory(10 * 4160)
	small := mustGet(t, m, 4096, 0)
	order := make(chan string, 2)
	get := func(name string, extra int64) {
		b := mustGet(t, m, 4096, extra)
		order <- name
		b.Release()
	}
	go get("large", 9*4160)
	until(t, "the large one waits", func() bool { return m.Waiting() == 1 })
	if m.TryGet(512, 0) != nil {
		t.Fatal("a newcomer passed one who waits")
	}
	go get("small", 0)
	until(t, "the small one waits too", func() bool { return m.Waiting() == 2 })
	small.Release()
	if a, b := <-order, <-order; a != "large" || b != "small" {
		t.Fatalf("order %s, %s", a, b)
	}
	until(t, "everything is given back", func() bool { return m.FreeBytes() == m.bytesMax })
}

func TestMemoryGivesUp(t *testing.T) {
	m := NewMemory(2 * 4160)
	held := mustGet(t, m, 4096, 0)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := m.Get(ctx, 4096, 1<<40) // more than there is: waits for all of it
		failed <- err
	}()
	until(t, "the large one waits", func() bool { return m.Waiting() == 1 })
	got := make(chan struct{})
	go func() {
		mustGet(t, m, 4096, 0).Release()
		close(got)
	}()
	until(t, "the other waits behind it", func() bool { return m.Waiting() == 2 })
	cancel()
	if err := <-failed; blocktree.KindOf(err) != blocktree.Canceled {
		t.Fatalf("got %v", err)
	}
	await(t, got, "the one behind it is served, though nothing was released")
	held.Release()
	if all := mustGet(t, m, 4096, 1<<40); m.FreeBytes() != 0 {
		t.Fatal("a charge over the budget did not take all of it")
	} else {
		all.Release()
	}
}

func TestReleaseTwicePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("no panic")
		}
	}()
	b := mustGet(t, NewMemory(1<<30), 33<<20, 0) // not pooled, so nobody else has it meanwhile
	b.Release()
	b.Release()
}

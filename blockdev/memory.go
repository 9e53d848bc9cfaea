package blockdev

import (
	"context"
	"math/bits"
	"sync"

	"blocktree"
	"blocktree/internal/invariant"
)

const (
	// bufferSlackBytes is added to every size class, so that a protocol can put its header before a payload of 2^n.
	bufferSlackBytes = 64

	bufferClassMin = 9  // 512 bytes, the smallest sector
	bufferClassMax = 25 // 32 MiB, the largest payload; larger ones are not pooled
)

// Memory bounds the bytes in flight of a process (blocktree.InFlightBytesMax in production) and pools the buffers that
// hold them by size class. Waiters are served first come, first served, so a large request is not starved by small ones.
type Memory struct {
	bytesMax int64

	mu      sync.Mutex
	free    int64
	waiters []*memoryWaiter // the first is next

	pools [bufferClassMax + 1]sync.Pool
}

type memoryWaiter struct {
	charge  int64
	granted chan struct{}
}

// NewMemory returns a budget of bytesMax bytes, which must be positive.
func NewMemory(bytesMax int64) *Memory {
	invariant.Check(bytesMax > 0, "a budget of %d bytes", bytesMax)
	return &Memory{bytesMax: bytesMax, free: bytesMax}
}

// Buffer is a slice that counts against a Memory until it is released. B may be resliced; it belongs to the holder.
type Buffer struct {
	B []byte

	memory *Memory
	whole  []byte
	class  int
	charge int64
}

// Get returns a buffer with B of n bytes, not zeroed, once the bytes that it takes (its size class) and extra more are
// free in the budget; one that asks for more than the whole budget waits for all of it. Get blocks until then or until
// ctx ends, and then returns Canceled. Who holds a buffer must not call it.
func (m *Memory) Get(ctx context.Context, n int, extra int64) (*Buffer, error) {
	charge := m.charge(n, extra)
	m.mu.Lock()
	if len(m.waiters) == 0 && m.free >= charge {
		m.free -= charge
		m.mu.Unlock()
		return m.take(n, charge), nil
	}
	w := &memoryWaiter{charge: charge, granted: make(chan struct{})}
	m.waiters = append(m.waiters, w)
	m.mu.Unlock()
	select {
	case <-w.granted:
		return m.take(n, charge), nil
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.waiters {
		if m.waiters[i] == w {
			m.waiters = append(m.waiters[:i], m.waiters[i+1:]...)
			m.grant() // w may have been the large one that held up the others
			return nil, blocktree.E("blockdev.Memory.Get", blocktree.Canceled, ctx.Err())
		}
	}
	return m.take(n, charge), nil // granted at the same moment
}

// TryGet is Get without waiting; it returns nil where Get would wait.
func (m *Memory) TryGet(n int, extra int64) *Buffer {
	charge := m.charge(n, extra)
	m.mu.Lock()
	ok := len(m.waiters) == 0 && m.free >= charge
	if ok {
		m.free -= charge
	}
	m.mu.Unlock()
	if !ok {
		return nil
	}
	return m.take(n, charge)
}

// Waiting is how many calls of Get wait: if there are any, who holds buffers without progress does harm.
func (m *Memory) Waiting() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.waiters)
}

// FreeBytes is what is left of the budget at the moment.
func (m *Memory) FreeBytes() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.free
}

// Release gives the buffer and its charge back. It must be called once; B must not be used after it.
func (b *Buffer) Release() {
	m, charge := b.memory, b.charge
	invariant.Check(b.whole != nil, "a buffer is released twice")
	b.B, b.whole = b.whole, nil // parked in B, so that a second Release is noticed
	if b.class <= bufferClassMax {
		m.pools[b.class].Put(b)
	}
	if charge == 0 {
		return
	}
	m.mu.Lock()
	m.free += charge
	if m.free > m.bytesMax { // tested here, because the arguments of Check would be allocated
		invariant.Check(false, "%d of %d bytes are free", m.free, m.bytesMax)
	}
	m.grant()
	m.mu.Unlock()
}

// scratch is a buffer without a charge, for a request that was charged for it beforehand.
func (m *Memory) scratch(n int) *Buffer { return m.take(n, 0) }

// scratchBytes is what scratch takes for n bytes, its size class and not just n: that is up to twice as much.
func scratchBytes(n int) int64 { return int64(bufferBytes(bufferClass(n), n)) }

// grant serves waiters in order while the budget lasts. m.mu is held.
func (m *Memory) grant() {
	for len(m.waiters) > 0 && m.free >= m.waiters[0].charge {
		m.free -= m.waiters[0].charge
		close(m.waiters[0].granted)
		m.waiters[0] = nil
		m.waiters = m.waiters[1:]
	}
}

func (m *Memory) take(n int, charge int64) *Buffer {
	class := bufferClass(n)
	if class <= bufferClassMax {
		if b, _ := m.pools[class].Get().(*Buffer); b != nil {
			b.whole, b.charge = b.B, charge
			b.B = b.whole[:n]
			return b
		}
	}
	whole := make([]byte, bufferBytes(class, n))
	return &Buffer{B: whole[:n], memory: m, whole: whole, class: class, charge: charge}
}

func (m *Memory) charge(n int, extra int64) int64 {
	return min(scratchBytes(n)+extra, m.bytesMax)
}

func bufferBytes(class, n int) int {
	if class > bufferClassMax {
		return n
	}
	return 1<<class + bufferSlackBytes
}

// bufferClass is the least class whose buffers hold n bytes.
func bufferClass(n int) int {
	if n <= 1<<bufferClassMin+bufferSlackBytes {
		return bufferClassMin
	}
	return bits.Len(uint(n - bufferSlackBytes - 1))
}

package seal

import (
	"crypto/rand"
	"sync"
)

// randomBlockBytes is how much is drawn from the system at once: 341 nonces per call of getrandom.
const randomBlockBytes = 4 << 10

// randomBlock is a block of random bytes that are given out once, from the front. It has one user at a time: whoever took
// it from the pool. A block that the pool drops takes its unused bytes with it.
type randomBlock struct {
	bytes [randomBlockBytes]byte
	next  int
}

var randomBlocks = sync.Pool{New: func() any { return &randomBlock{next: randomBlockBytes} }}

// randomBytes fills dst, at most randomBlockBytes long, with bytes that nobody else was or will be given. It cannot fail:
// crypto/rand ends the process when the system has no randomness.
func randomBytes(dst []byte) {
	b := randomBlocks.Get().(*randomBlock)
	if b.next+len(dst) > len(b.bytes) {
		rand.Read(b.bytes[:])
		b.next = 0
	}
	copy(dst, b.bytes[b.next:b.next+len(dst)])
	b.next += len(dst)
	randomBlocks.Put(b)
}

package store

import (
	"testing"

	"blocktree"
)

// TestBuffers: what a record has beside its payload comes back for the next of its kind, the longest record's too, and no more is kept than the bounds say.
func TestBuffers(t *testing.T) {
	longest := header{Record: Record{Kind: KindData, Count: blocktree.RunSectorsMax, ShardBytes: 2048}}
	n := int(longest.bytes()-longest.payloadBytes()) + sectorPrefixBytes
	if n > longBufferBytes || n+align < longBufferBytes-1<<10 {
		t.Errorf("long buffers have %d bytes, the longest record takes %d", longBufferBytes, n)
	}
	var b buffers
	for _, n := range []int{1, bufferBytesMin, bufferBytesMax, bufferBytesMax + 1, n, longBufferBytes} {
		first := b.get(n)
		b.put([]item{{buf: first, record: true}})
		if again := b.get(n); &again[0] != &first[0] || len(again) != n {
			t.Errorf("%d bytes: another buffer, or one of %d", n, len(again))
		}
	}
	b.put([]item{{buf: b.get(longBufferBytes + 1), record: true}, {buf: make([]byte, longBufferBytes)}}) // a segment's header is none
	if len(b.long) != 0 {
		t.Error("kept what is no record's, or longer than any's")
	}
	var many []item
	for range buffersMax + 1 {
		many = append(many, item{buf: make([]byte, bufferBytesMin), record: true}, item{buf: make([]byte, longBufferBytes), record: true})
	}
	if b.put(many); len(b.short) != buffersMax || len(b.long) != longBuffersMax {
		t.Errorf("%d and %d are kept", len(b.short), len(b.long))
	}
}

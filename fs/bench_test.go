package fs

import (
	"fmt"
	"sync"
	"testing"

	"blocktree"
)

// BenchmarkRead is the way of a read through the actors, without network and cluster, with so many open files: nothing on it grows with their number.
func BenchmarkRead(b *testing.B) {
	for _, files := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("open=%d", files), func(b *testing.B) {
			c, ann := newFake(), somebody("ann")
			path := c.file("f", Read, ann)
			s := newTestService(b, c, nil)
			var owners []*owner
			var handles []uint64
			for i := range files {
				if i%blocktree.FSOpenFilesPerConnectionMax == 0 {
					owners = append(owners, ownerFor(s, ann))
				}
				handles = append(handles, open(b, s, owners[len(owners)-1], path, 0).handle)
			}
			var wg sync.WaitGroup
			done := func(_ []byte, err error) {
				if err != nil {
					b.Error(err)
				}
				wg.Done()
			}
			read := func(i int) {
				at := i * 7919 % files
				if i%32 == 0 {
					wg.Wait() // so many are in flight
				}
				wg.Add(1)
				o := owners[at/blocktree.FSOpenFilesPerConnectionMax]
				if err := o.find(handles[at]).box.put(&message{code: codeRead, count: 4096, done: done}); err != nil {
					b.Fatal(err)
				}
			}
			for i := range files { // which opens the sectors
				read(i)
			}
			wg.Wait()
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				read(i)
			}
			wg.Wait()
		})
	}
}

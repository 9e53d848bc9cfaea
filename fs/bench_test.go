package fs

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"

	"blocktree"
	"blocktree/blockdev/memfile"
	"blocktree/crypto/cred"
)

// processorTime is what the process has taken of processors, in nanoseconds: it does not tell how busy the machine is.
func processorTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// openAndUsed are how many files are open, and how many of them are used. With as many in use, others that are open cost what the collector takes to look at their stacks: no lock or table is shared. With more in use memory is colder.
var openAndUsed = [...]openUsed{{1, 1}, {100, 100}, {10_000, 100}, {10_000, 10_000}}

type openUsed struct{ open, used int }

func (n openUsed) String() string { return fmt.Sprintf("open=%d,used=%d", n.open, n.used) }

// BenchmarkRead is the way of a read through the actors, without network and cluster, with so many open files: nothing on it grows with their number.
func BenchmarkRead(b *testing.B) {
	for _, n := range openAndUsed {
		b.Run(n.String(), func(b *testing.B) {
			files := n.open
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
			read := func(i, used int) {
				at := i * 7919 % used
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
				read(i, files)
			}
			wg.Wait()
			b.ReportAllocs()
			begun := processorTime(b)
			b.ResetTimer()
			for i := range b.N {
				read(i, n.used)
			}
			wg.Wait()
			b.ReportMetric(float64(processorTime(b)-begun)/float64(b.N), "cpu-ns/op")
		})
	}
}

// indexed is a fake that finds a file by its identity at once: a writer is asked about every FSJudgeEvery.
type indexed struct {
	*fake
	paths map[blocktree.FileID]blocktree.Path
}

func (c *indexed) LookFile(ctx context.Context, caller cred.Identity, id blocktree.FileID) (Found, error) {
	return c.Look(ctx, caller, c.paths[id])
}

// BenchmarkWrite is the way of a write through the actors, likewise, each file with a writer of its own.
func BenchmarkWrite(b *testing.B) {
	for _, n := range openAndUsed {
		b.Run(n.String(), func(b *testing.B) {
			files := n.open
			c, ann := &indexed{newFake(), map[blocktree.FileID]blocktree.Path{}}, somebody("ann")
			s := newTestService(b, c.fake, func(cfg *Config) { cfg.Cluster = c })
			var owners []*owner
			var boxes []*mailbox
			for i := range files {
				path := c.file(fmt.Sprintf("f%d", i), Read|Write|Lease, ann)
				c.set(path, func(n *fakeNode) { // a small one: ten thousand of them are in memory
					n.inode.SizeBytes = 4096
					n.mem = memfile.New(memfile.Options{Info: blocktree.FileInfo{ID: n.inode.ID, Path: path, SizeBytes: 4096, SectorBytes: 512, Code: n.inode.Code}})
					c.paths[n.inode.ID] = path
				})
				if i%blocktree.FSOpenFilesPerConnectionMax == 0 {
					owners = append(owners, ownerFor(s, ann))
				}
				boxes = append(boxes, &open(b, s, owners[len(owners)-1], path, flagWrite).box)
			}
			var wg sync.WaitGroup
			done := func(_ []byte, err error) {
				if err != nil {
					b.Error(err)
				}
				wg.Done()
			}
			data := make([]byte, 4096)
			write := func(i, used int) {
				if i%32 == 0 {
					wg.Wait() // so many are in flight
				}
				wg.Add(1)
				if err := boxes[i*7919%used].put(&message{code: codeWrite, data: data, done: done}); err != nil {
					b.Fatal(err)
				}
			}
			for i := range files { // which makes the memory
				write(i, files)
			}
			wg.Wait()
			b.ReportAllocs()
			begun := processorTime(b)
			b.ResetTimer()
			for i := range b.N {
				write(i, n.used)
			}
			wg.Wait()
			b.ReportMetric(float64(processorTime(b)-begun)/float64(b.N), "cpu-ns/op")
		})
	}
}

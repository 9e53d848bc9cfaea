package nbd

import (
	"net"
	"testing"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"
)

// TestGivenUpWhileItStarts cuts a connection off just as it starts a READ: the buffer may be another request's before the device
// is asked.
func TestGivenUpWhileItStarts(t *testing.T) {
	memory := blockdev.NewMemory(1 << 20)
	dev, err := blockdev.Open(memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 1 << 20}, Starts: true}), blockdev.Options{Memory: memory})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	s := NewServer(Config{Exports: new(blockdev.Exports), Memory: memory})
	for range 500 {
		ours, theirs := net.Pipe()
		c := newConn(s, ours)
		c.dev = dev
		c.out.begin()
		buf, err := memory.Get(t.Context(), simpleReplyBytes+4096, 0)
		if err != nil {
			t.Fatal(err)
		}
		r := &request{c: c, command: cmdRead, length: 4096, buf: buf}
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			theirs.Close()
			c.cut()
			for range 4 { // another client's requests
				if b := memory.TryGet(simpleReplyBytes+4096, 0); b != nil {
					b.B = b.B[:1]
					b.Release()
				}
			}
		}()
		if !c.start(r) {
			r.finish(nbdEIO, errGivenUp)
			c.out.put(r)
		}
		<-gone
		c.out.drain()
		c.workers.Wait()
	}
	if free := memory.FreeBytes(); free != 1<<20 {
		t.Errorf("%d bytes are missing", 1<<20-free)
	}
}

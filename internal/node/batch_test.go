package node_test

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"blocktree"
	"blocktree/internal/testenv"
)

// batched is a read that was started between a Cork and its Uncork, and asks for the end of the batch that it ends in.
type batched struct {
	file  blocktree.Batcher
	data  []byte
	ended chan error
	after *sync.WaitGroup
}

func (r *batched) Claim() bool { return true }

func (r *batched) End(err error) {
	r.after.Add(1)
	if !r.file.AfterBatch(r.after.Done) {
		r.after.Done()
	}
	r.ended <- err
}

// TestBatches: what was corked goes out with the Uncork, by real lanes, and whoever asks for the end of a batch hears of it.
func TestBatches(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 3)
	d.StartAll()
	c := d.Client()
	d.Create(c, "/vm/disk0", 1<<20, blocktree.Code{Data: 2, Parity: 1})
	f := d.Open(c, "/vm/disk0")
	want := pattern(1, 1<<20)
	if err := f.WriteSectors(t.Context(), 0, want); err != nil {
		t.Fatal(err)
	}
	file, starts := f.(blocktree.Batcher), f.(blocktree.ReadStarter)
	var after sync.WaitGroup
	for range 20 {
		reads := make([]*batched, 16)
		file.Cork()
		for i := range reads {
			reads[i] = &batched{file: file, data: make([]byte, 4096), ended: make(chan error, 1), after: &after}
			if !starts.StartRead(blocktree.SectorIndex(i*5), reads[i].data, reads[i]) {
				t.Fatal("not started")
			}
		}
		file.Uncork()
		for i, r := range reads {
			select {
			case err := <-r.ended:
				if err != nil || !bytes.Equal(r.data, want[i*5*4096:][:4096]) {
					t.Fatalf("read %d: %v, or other data", i, err)
				}
			case <-time.After(time.Minute):
				t.Fatal("a read never ended")
			}
		}
	}
	after.Wait()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"blocktree"
	"blocktree/cluster/store"
	"blocktree/internal/vfs"
)

const (
	id         = blocktree.NodeID(1)
	shardBytes = 2048
	window     = 8192 // sectors that are written in random order, one window after the other
	group      = 256  // records of one Append
)

var file = blocktree.FileID{Generation: 1, Inode: 7}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bigstore: error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "fill":
		gib, err := strconv.Atoi(args[2])
		if err != nil || gib < 1 {
			return fmt.Errorf("%q is no number of GiB", args[2])
		}
		return fill(args[1], gib<<30/shardBytes)
	case len(args) == 2 && args[0] == "open":
		return open(args[1])
	}
	return errors.New("usage: bigstore fill DIR GIB | bigstore open DIR")
}

// filler writes to a store, and takes a checkpoint when the store asks for one.
type filler struct {
	mu       sync.Mutex // as the store wants of its owner: held for Append with Index, and to begin a checkpoint
	s        *store.Store
	sequence uint64
	payload  []byte
	stop     chan struct{}
	done     sync.WaitGroup
}

func (f *filler) checkpoints() error {
	for {
		select {
		case <-f.stop:
			return nil
		case <-f.s.CheckpointWanted():
		}
		if err := f.checkpoint(); err != nil {
			return err
		}
	}
}

func (f *filler) checkpoint() error {
	f.mu.Lock()
	c, err := f.s.BeginCheckpoint(nil)
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return c.Finish()
}

// write writes sectors, one record each, and returns when they are durable.
func (f *filler) write(sectors []int) error {
	recs := make([]store.Record, len(sectors))
	for i, at := range sectors {
		f.sequence++
		recs[i] = store.Record{Kind: store.KindData, Shard: 1, File: file, First: blocktree.SectorIndex(at), Count: 1,
			ShardBytes: shardBytes, Version: blocktree.Version{Epoch: 1, Sequence: blocktree.Sequence(f.sequence)},
			Seals: make([]byte, store.SealBytes), Payload: f.payload}
	}
	durable := make(chan error, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	refs, err := f.s.Append(recs, func(err error) { durable <- err })
	if err == nil {
		err = <-durable
	}
	for i := range refs {
		if err == nil {
			err = f.s.Index(file, extent(&recs[i], refs[i]))
		}
	}
	return err
}

func extent(r *store.Record, ref store.Ref) store.Extent {
	return store.Extent{First: r.First, Count: r.Count, Content: store.Data, Version: r.Version, Ref: ref}
}

func fill(dir string, sectors int) error {
	disk := vfs.Disk{}
	if err := store.Create(disk, dir, id, store.Options{}); err != nil {
		return err
	}
	s, err := store.Open(disk, dir, id, store.Options{}, replayer{})
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(1, 2))
	f := &filler{s: s, payload: make([]byte, shardBytes), stop: make(chan struct{})}
	for i := range f.payload {
		f.payload[i] = byte(rng.Uint32())
	}
	failed := make(chan error, 1)
	f.done.Go(func() {
		if err := f.checkpoints(); err != nil {
			failed <- err
		}
	})
	each := func(order []int) error {
		for at := 0; at < len(order); at += group {
			if err := f.write(order[at:min(at+group, len(order))]); err != nil {
				return err
			}
		}
		return nil
	}
	for at := 0; at < sectors; at += window {
		order := rng.Perm(min(window, sectors-at))
		for i := range order {
			order[i] += at
		}
		if err := each(order); err != nil {
			return err
		}
	}
	close(f.stop)
	f.done.Wait()
	if len(failed) > 0 {
		return <-failed
	}
	if err := f.checkpoint(); err != nil {
		return err
	}
	// Anywhere in the file, so that the next start needs as many pages of the index as it ever does.
	tail := make([]int, blocktree.CheckpointBytes/(shardBytes+shardBytes/4)-group)
	for i := range tail {
		tail[i] = rng.IntN(sectors)
	}
	if err := each(tail); err != nil {
		return err
	}
	st := s.Stats()
	fmt.Printf("%d sectors in one record each; %.1f GiB of live shards with their headers, %.1f GiB on the disk; %d MiB of log since the last checkpoint\n",
		sectors, gib(st.LiveBytes), gib(st.DiskBytes), st.LogBytes>>20)
	return nil // and no Close, as in a crash
}

func gib(n int64) float64 { return float64(n) / (1 << 30) }

// replayer indexes what it is given, as a node whose records are all committed.
type replayer struct{ state *replayed }

type replayed struct {
	s       *store.Store
	records int
}

func (r replayer) Checkpoint(s *store.Store, _ []byte) error {
	if r.state != nil {
		r.state.s = s
	}
	return nil
}

func (r replayer) Record(x store.Replayed) error {
	if r.state == nil || x.Kind != store.KindData {
		return nil
	}
	r.state.records++
	return r.state.s.Index(file, extent(&x.Record, x.Ref))
}

func open(dir string) error {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	state := &replayed{}
	began := time.Now()
	s, err := store.Open(vfs.Disk{}, dir, id, store.Options{}, replayer{state})
	if err != nil {
		return err
	}
	took := time.Since(began)
	runtime.GC()
	runtime.ReadMemStats(&after)
	st, heap := s.Stats(), int64(after.HeapAlloc-before.HeapAlloc)
	if n := len(s.Damaged()); n > 0 {
		return fmt.Errorf("%d runs are damaged", n)
	}
	fmt.Printf("open %.2f s, %d records replayed, %d pages; memory %d MiB, of which %d MiB pages in the cache; the rest is %.3f GiB per TiB of live shards\n",
		took.Seconds(), state.records, st.Pages, heap>>20, st.CacheBytes>>20,
		float64(heap-st.CacheBytes)/float64(st.LiveBytes)*1024)
	files, err := filepath.Glob(filepath.Join(dir, "index-*"))
	if err != nil {
		return err
	}
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		fmt.Printf("index file %d MiB\n", info.Size()>>20)
	}
	fmt.Println(peak())
	return s.Close([]byte{})
}

// peak is the most memory that this process ever had.
func peak() string {
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "VmHWM:") {
			return "resident at most" + strings.TrimRight(strings.TrimPrefix(line, "VmHWM:"), "\n")
		}
	}
	return "resident at most: unknown"
}

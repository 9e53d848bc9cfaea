package store

import (
	"sync"
	"syscall"
	"testing"

	"blocktree"
	"blocktree/internal/vfs"
)

// blocksFS counts syncs behind which blocks were written for the first time: those that make metadata of a file durable, too.
type blocksFS struct {
	vfs.FS
	mu    sync.Mutex
	syncs int
	first int // of syncs
	bytes int64
}

func (b *blocksFS) Create(name string) (vfs.File, error) {
	f, err := b.FS.Create(name)
	if _, is := numberOf(name[len(testDir)+1:], segmentPrefix); err != nil || !is {
		return f, err
	}
	return &blocksFile{File: f, b: b}, nil
}

type blocksFile struct {
	vfs.File
	b       *blocksFS
	written int64 // all blocks before it were written to
	grown   bool  // since the last sync
}

func (f *blocksFile) WriteAt(p []byte, at int64) (int, error) {
	return f.WritevAt([][]byte{p}, at)
}

func (f *blocksFile) WritevAt(bufs [][]byte, at int64) (int, error) {
	n, err := f.File.WritevAt(bufs, at)
	f.b.mu.Lock()
	defer f.b.mu.Unlock()
	f.b.bytes += int64(n)
	if end := roundUpDirect(at + int64(n)); end > f.written {
		f.written, f.grown = end, true
	}
	return n, err
}

func (f *blocksFile) Datasync() error {
	f.b.mu.Lock()
	f.b.syncs++
	if f.grown {
		f.b.first++
	}
	f.grown = false
	f.b.mu.Unlock()
	return f.File.Datasync()
}

// Of many small records, each of which is synced, few syncs make metadata of the segment durable; the zeros ahead are at most twice what was written; and nothing of a long record is written twice.
func TestZerosAhead(t *testing.T) {
	fs := &blocksFS{FS: vfs.NewCrash()}
	opts := smallOptions
	opts.SegmentBytes = 4 << 20
	s, _ := openTest(t, fs, opts)
	counts := func() (syncs, first int, bytes int64) {
		fs.mu.Lock()
		defer fs.mu.Unlock()
		return fs.syncs, fs.first, fs.bytes
	}
	syncs, first, bytes := counts()
	const records = 300
	for i := range uint64(records) {
		put(t, s, dataRecord(testFile, blocktree.SectorIndex(i), 1, 2048, version(1)))
	}
	a, b, c := counts()
	written := int64(s.Stats().Bytes)
	if a-syncs < records || b-first > 8 {
		t.Errorf("%d of %d syncs made metadata durable", b-first, a-syncs)
	}
	if zeros := c - bytes - written; zeros <= 0 || zeros > 2*written {
		t.Errorf("%d zeros ahead of %d", zeros, written)
	}
	s.logMu.Lock()
	left := s.active.zeroed - s.active.end
	s.logMu.Unlock()
	long := dataRecord(testFile, 1000, 256, 2048, version(1))
	put(t, s, long)
	d := int64(0)
	if _, _, d = counts(); d-c-int64(len(long.Payload)) > 64<<10 {
		t.Errorf("%d bytes written for a record of %d, %d of which were written before", d-c, len(long.Payload), left)
	}
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
}

// Where small and long records take turns, few zeros are written that the next long record goes over: as many as there were small records before.
func TestZerosAheadAmongLong(t *testing.T) {
	fs := &blocksFS{FS: vfs.NewCrash()}
	opts := smallOptions
	opts.SegmentBytes = 4 << 20
	s, _ := openTest(t, fs, opts)
	waitPrepared(t, s)
	fs.mu.Lock()
	before := fs.bytes
	fs.mu.Unlock()
	was := int64(s.Stats().Bytes)
	for i := range uint64(6) {
		put(t, s, dataRecord(testFile, blocktree.SectorIndex(i), 1, 2048, version(1)))
		put(t, s, dataRecord(testFile, blocktree.SectorIndex(1000*(i+1)), 256, 2048, version(1)))
	}
	fs.mu.Lock()
	zeros := fs.bytes - before - (int64(s.Stats().Bytes) - was)
	fs.mu.Unlock()
	if written := int64(s.Stats().Bytes) - was; zeros <= 0 || zeros > written/4 {
		t.Errorf("%d zeros ahead of %d", zeros, written)
	}
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
}

// A disk that fails the write of zeros has failed; one that has no space for them has space for the records that are allocated.
func TestZerosFail(t *testing.T) {
	for _, x := range []struct {
		err  error
		want blocktree.Kind
	}{{nil, blocktree.IO}, {syscall.ENOSPC, blocktree.Other}} {
		fs := vfs.NewFault(vfs.NewCrash())
		s, _ := openTest(t, fs, smallOptions)
		waitPrepared(t, s)
		fs.Inject(vfs.Injection{Op: vfs.FaultWrite, Name: segmentPrefix, Skip: 1, Err: x.err}) // behind the record
		for i := range uint64(3) {
			if _, err := appendSync(s, dataRecord(testFile, blocktree.SectorIndex(i), 1, 512, version(1))); blocktree.KindOf(err) != x.want {
				t.Errorf("%v: record %d: %v", x.err, i, err)
			}
		}
		if fs.Injected() != 1 {
			t.Errorf("%v: %d faults", x.err, fs.Injected())
		}
		if err := s.Close([]byte("blob")); (err == nil) != (x.want == blocktree.Other) {
			t.Errorf("%v: closed: %v", x.err, err)
		}
	}
}

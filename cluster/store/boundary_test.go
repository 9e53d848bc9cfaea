package store

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"blocktree"
	"blocktree/internal/vfs"
)

// stepFS calls before at every change that is about to be made to a file system, so that a test can crash between any two.
type stepFS struct {
	vfs.FS
	before func(op, name string)
}

type stepFile struct {
	vfs.File
	fs   *stepFS
	name string
}

func (f *stepFS) file(name string, under vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &stepFile{under, f, name}, nil
}

func (f *stepFS) Create(name string) (vfs.File, error) {
	f.before("Create", name)
	under, err := f.FS.Create(name)
	return f.file(name, under, err)
}

func (f *stepFS) Open(name string) (vfs.File, error) {
	under, err := f.FS.Open(name)
	return f.file(name, under, err)
}

func (f *stepFS) Rename(from, to string) error {
	f.before("Rename", from)
	return f.FS.Rename(from, to)
}

func (f *stepFS) Remove(name string) error {
	f.before("Remove", name)
	return f.FS.Remove(name)
}

func (f *stepFS) SyncDir(dir string) error {
	f.before("SyncDir", dir)
	return f.FS.SyncDir(dir)
}

func (f *stepFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.before("WriteAt", f.name)
	return f.File.WriteAt(p, off)
}

func (f *stepFile) WritevAt(bufs [][]byte, off int64) (int, error) {
	f.fs.before("WritevAt", f.name)
	return f.File.WritevAt(bufs, off)
}

func (f *stepFile) Datasync() error {
	f.fs.before("Datasync", f.name)
	return f.File.Datasync()
}

func (f *stepFile) Sync() error {
	f.fs.before("Sync", f.name)
	return f.File.Sync()
}

func (f *stepFile) Truncate(bytes int64) error {
	f.fs.before("Truncate", f.name)
	return f.File.Truncate(bytes)
}

func (f *stepFile) Allocate(bytes int64) error {
	f.fs.before("Allocate", f.name)
	return f.File.Allocate(bytes)
}

// TestPowerLossWhileOpeningAfterKill kills the process at every change of a name by a checkpoint and cuts the power at every step of
// the start that follows.
func TestPowerLossWhileOpeningAfterKill(t *testing.T) {
	if err := powerLossWhileOpening(t, forgetNothing); err != nil {
		t.Error(err)
	}
}

func TestMutantRemovingBeforeSyncDies(t *testing.T) {
	err := powerLossWhileOpening(t, forgetOpenDirSync)
	if err == nil {
		t.Error("the mutant lives")
	}
	t.Log(err)
}

// opensWhole opens the store and reads all of it.
func opensWhole(fs vfs.FS) error {
	s, err := Open(fs, testDir, testID, smallOptions, &recorder{})
	if err != nil {
		return err
	}
	found, err := s.Lookup(testFile, 0, 40, nil)
	for _, x := range found {
		if x.Content == Data && err == nil {
			err = checkExtent(s, testFile, x)
		}
	}
	if err == nil && len(s.Damaged()) > 0 {
		err = fmt.Errorf("damage %v", s.Damaged())
	}
	return errors.Join(err, s.Close(nil))
}

// checkpointTwice overwrites, so that segments and the index file die, and arms the disk while it takes each checkpoint.
func checkpointTwice(t *testing.T, s *Store, arm func(bool)) {
	for round := range uint64(2) {
		for i := range uint64(12) { // overwritten, so that segments die
			put(t, s, dataRecord(testFile, 0, 4, 512, version(100*round+i+1)))
		}
		put(t, s, dataRecord(testFile, 10, 20, 512, version(100*round+50)))
		c, err := s.BeginCheckpoint([]byte("blob"))
		if err != nil {
			t.Fatal(err)
		}
		waitPrepared(t, s)
		arm(true)
		err = c.Finish()
		arm(false)
		if err != nil {
			t.Fatal(err)
		}
		s.ix.mu.Lock() // so that the next checkpoint begins a new index file
		s.indexBytes += 2 * indexSlackBytes
		s.ix.mu.Unlock()
	}
}

// powerLossWhileOpening is called back by the tests' goroutine and by those of the stores, which prepare segments behind them:
// what both touch is atomic or under mu.
func powerLossWhileOpening(t *testing.T, m mutant) error {
	opts := smallOptions
	opts.mutant = m
	crash := vfs.NewCrash()
	var mu sync.Mutex
	var failure error
	crashes := 0
	note := func(op, name string, check func() error) {
		mu.Lock()
		defer mu.Unlock()
		if failure != nil {
			return
		}
		crashes++
		if err := check(); err != nil {
			failure = fmt.Errorf("%s %s: %w", op, name, err)
		}
	}
	var armed atomic.Bool
	fs := &stepFS{FS: crash, before: func(op, name string) {
		if !armed.Load() || op != "Rename" && op != "SyncDir" && op != "Remove" {
			return
		}
		killed := crash.Kill()
		var opened atomic.Bool
		again := &stepFS{FS: killed, before: func(op2, name2 string) {
			for seed := range uint64(12) {
				if !opened.Load() {
					note("power lost before "+op2, name2, func() error { return opensWhole(killed.Clone(seed)) })
				}
			}
		}}
		s, err := Open(again, testDir, testID, opts, &recorder{})
		opened.Store(true)
		if err != nil {
			note("killed before "+op, name, func() error { return err })
			return
		}
		if err := s.Close(nil); err != nil {
			t.Error(err)
		}
	}}
	s, _ := openTest(t, fs, opts)
	checkpointTwice(t, s, armed.Store)
	mu.Lock()
	defer mu.Unlock()
	if failure == nil && crashes < 500 {
		t.Errorf("only %d crashes were tried", crashes)
	}
	return failure
}

// TestCheckpointBegunWhileNoSpaceIsTold begins checkpoints between the moment at which a group found no space and the one at
// which the machine was told so: what the machine says then of those records is not so, and must not become durable.
func TestCheckpointBegunWhileNoSpaceIsTold(t *testing.T) {
	for _, when := range []string{"before the cut", "while the call is told"} {
		t.Run(when, func(t *testing.T) {
			crash := vfs.NewCrash()
			fault := vfs.NewFault(crash)
			var s *Store
			begun := make(chan *Checkpoint, 1)
			begin := func() {
				c, err := s.BeginCheckpoint([]byte("it has the records"))
				if err != nil {
					t.Error(err)
				}
				begun <- c
			}
			fs := &stepFS{FS: fault, before: func(op, _ string) {
				if op == "Truncate" && when == "before the cut" && len(begun) == 0 {
					begin()
				}
			}}
			s, _ = openTest(t, fs, smallOptions)
			put(t, s, dataRecord(testFile, 0, 1, 512, version(1)))
			waitPrepared(t, s)
			fault.Inject(vfs.Injection{Op: vfs.FaultWrite, Name: segmentPrefix, Short: true, Err: syscall.ENOSPC})
			told := make(chan error, 1)
			if _, err := s.Append([]Record{dataRecord(testFile, 1, 1, 512, version(2))}, func(err error) {
				if when == "while the call is told" {
					begin()
				}
				told <- err
			}); err != nil {
				t.Fatal(err)
			}
			if err := <-told; blocktree.KindOf(err) != blocktree.NoSpace {
				t.Fatal(err)
			}
			c := <-begun
			if err := c.Finish(); blocktree.KindOf(err) != blocktree.NoSpace {
				t.Errorf("the checkpoint: %v", err)
			}
			after, r := openTest(t, crash.Clone(1), smallOptions)
			if string(r.blob) == "it has the records" || len(after.pins.pending) > 1 {
				t.Errorf("blob %q, pending %v", r.blob, after.pins.pending)
			}
		})
	}
}

// TestVoidsStayOneRange: a disk that is full for long must not make the next header grow without bound.
func TestVoidsStayOneRange(t *testing.T) {
	fs := vfs.NewFault(vfs.NewCrash())
	s, _ := openTest(t, fs, smallOptions)
	put(t, s, dataRecord(testFile, 0, 1, 512, version(1)))
	fs.Inject(vfs.Injection{Op: vfs.FaultWrite, Name: segmentPrefix, Err: syscall.ENOSPC, Times: -1})
	for v := range uint64(50) {
		if _, err := appendSync(s, dataRecord(testFile, 1, 1, 512, version(v+2))); blocktree.KindOf(err) != blocktree.NoSpace {
			t.Fatal(err)
		}
	}
	fs.Clear()
	s.logMu.Lock()
	voids := len(s.voids)
	s.logMu.Unlock()
	if voids != 1 {
		t.Errorf("%d ranges", voids)
	}
	put(t, s, dataRecord(testFile, 1, 1, 512, version(99)))
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
	s, r := openTest(t, fs, smallOptions)
	if len(s.Damaged()) > 0 || len(r.records) != 2 {
		t.Errorf("damage %v, %d records", s.Damaged(), len(r.records))
	}
}

package store

import (
	"syscall"
	"testing"

	"blocktree"
	"blocktree/internal/vfs"
)

// TestNoCheckpointAfterClose: the directory may be another process's then.
func TestNoCheckpointAfterClose(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, smallOptions)
	put(t, s, dataRecord(testFile, 0, 1, 512, version(1)))
	if err := s.Close([]byte("mine")); err != nil {
		t.Fatal(err)
	}
	if c, err := s.BeginCheckpoint([]byte("late")); blocktree.KindOf(err) != blocktree.Closed {
		t.Errorf("got %v", err)
		if err == nil {
			t.Log(c.Finish())
		}
	}
	if _, r := openTest(t, fs, smallOptions); string(r.blob) != "mine" {
		t.Errorf("blob %q", r.blob)
	}
}

// TestNoSpaceAfterRename: once a checkpoint has its name, no error is one after which to try again over the same bytes.
func TestNoSpaceAfterRename(t *testing.T) {
	for _, x := range []struct {
		name   string
		inject vfs.Injection
		kind   blocktree.Kind
	}{
		{"rename", vfs.Injection{Op: vfs.FaultRename, Name: checkpointName, Err: syscall.ENOSPC, Times: 2}, blocktree.NoSpace},
		{"sync of the directory", vfs.Injection{Op: vfs.FaultSyncDir, Skip: 1, Err: syscall.ENOSPC}, blocktree.IO},
	} {
		t.Run(x.name, func(t *testing.T) {
			crash := vfs.NewCrash()
			fs := vfs.NewFault(crash)
			s, _ := openTest(t, fs, smallOptions)
			put(t, s, dataRecord(testFile, 0, 1, 512, version(1)))
			waitPrepared(t, s)
			fs.Inject(x.inject)
			c, err := s.BeginCheckpoint([]byte("one"))
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Finish(); blocktree.KindOf(err) != x.kind {
				t.Errorf("got %v, want kind %v", err, x.kind)
			}
			fs.Clear()
			if x.kind == blocktree.NoSpace {
				if _, err := crash.Stat(indexName(testDir, 1)); blocktree.KindOf(err) != blocktree.NotFound {
					t.Errorf("the index file that nothing names: %v", err)
				}
				put(t, s, dataRecord(testFile, 1, 1, 512, version(2)))
			} else {
				<-s.Fatal()
			}
			for seed := range uint64(10) {
				after, _ := openTest(t, crash.Clone(seed), smallOptions)
				if _, err := after.Lookup(testFile, 0, 2, nil); err != nil || len(after.Damaged()) > 0 {
					t.Errorf("seed %d: %v, damage %v", seed, err, after.Damaged())
				}
			}
		})
	}
}

// TestUnreadableIndexPageIsLeft: a page that cannot be read now keeps the index file from being rewritten, and ends nothing.
func TestUnreadableIndexPageIsLeft(t *testing.T) {
	fs := vfs.NewFault(vfs.NewCrash())
	s, _ := openTest(t, fs, smallOptions)
	put(t, s, dataRecord(testFile, 0, 1, 64, version(1)))
	if err := s.Close([]byte{}); err != nil {
		t.Fatal(err)
	}
	s, _ = openTest(t, fs, smallOptions)
	put(t, s, dataRecord(testFile, 1000, 1, 64, version(2)))
	s.logMu.Lock()
	s.indexBytes += 2 * indexSlackBytes
	s.logMu.Unlock()
	fs.Inject(vfs.Injection{Op: vfs.FaultRead, Name: indexPrefix})
	c, err := s.BeginCheckpoint([]byte{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Finish(); err != nil || fs.Injected() != 1 {
		t.Fatalf("%v after %d faults", err, fs.Injected())
	}
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
	s, _ = openTest(t, fs, smallOptions)
	for _, first := range []blocktree.SectorIndex{0, 1000} {
		if x := lookup(t, s, first, 1); len(x) != 1 || checkExtent(s, testFile, x[0]) != nil {
			t.Errorf("sector %d: %v", first, x)
		}
	}
}

package meta

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"blocktree"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3"
)

// Pebble's sizes: a node with 1 GiB of sectors has to fit 150 MiB of resident memory in all. Memtables, of which there are up to three with the one that
// is kept to be used again, count as part of the cache: what is left for blocks of tables is cachedBlocksBytes.
const (
	cachedBlocksBytes = 12 << 20
	memTableBytes     = 4 << 20
	memTables         = 3
	blockCacheBytes   = cachedBlocksBytes + memTables*memTableBytes
	tablesOpenMax     = 256
)

// When tables are merged (docs/design/0081). A memory table is half a MiB to one and a half as a table, and has keys of every kind, so that what it is merged into is nearly all of
// the level below: that level is kept small, and several are merged at a time.
const (
	baseLevelBytes    = 8 << 20
	mergedLevelsTwice = 8 // twice the levels of new tables that are merged together: so Pebble counts
)

// openPebble opens or creates the store of a Group.
func openPebble(cfg *Config, fail *failure) (*pebble.DB, error) {
	fs := vfs.FS(logsAhead{FS: cfg.FS})
	if cfg.room != nil {
		fs = roomFS{fs, cfg.room}
	}
	if err := fs.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, &blocktree.Error{Op: "meta.Open", Path: cfg.Dir, Kind: blocktree.IO, Err: err}
	}
	cache := pebble.NewCache(blockCacheBytes)
	opts := &pebble.Options{
		FS: markersLast{fs}, Cache: cache, MemTableSize: memTableBytes, MemTableStopWritesThreshold: 2,
		CompactionConcurrencyRange: func() (int, int) { return 1, 1 }, MaxOpenFiles: tablesOpenMax,
		L0CompactionThreshold: mergedLevelsTwice, LBaseMaxBytes: baseLevelBytes,
		FormatMajorVersion: pebble.FormatNewest, Logger: pebbleLogger{cfg.Logger, fail}, DisableTableStats: true,
		EventListener: &pebble.EventListener{BackgroundError: func(err error) {
			if !errors.Is(err, pebble.ErrCancelledCompaction) {
				fail.set(err)
			}
		}},
	}
	for i := range opts.Levels { // most commands ask whether they were done before, and most were not
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	type opened struct {
		db  *pebble.DB
		err error
	}
	done := make(chan opened, 1)
	go func() { // ends with Open; where a goroutine stands in Fatalf, Open may wait for it and never end, and the process must
		defer cache.Unref()
		db, err := pebble.Open(cfg.Dir, opts)
		done <- opened{db, err}
	}()
	var db *pebble.DB
	var err error
	select {
	case o := <-done:
		db, err = o.db, o.err
	case <-fail.latched:
		err := fail.get()
		return nil, &blocktree.Error{Op: "meta.Open", Path: cfg.Dir, Kind: blocktree.KindOf(err), Err: err}
	}
	switch {
	case err == nil:
		return db, nil
	case strings.Contains(err.Error(), "resource temporarily unavailable") || strings.Contains(err.Error(), "already held") ||
		strings.Contains(err.Error(), "held by current process"):
		return nil, &blocktree.Error{Op: "meta.Open", Path: cfg.Dir, Kind: blocktree.Busy, Err: err,
			Hint: "another process uses this directory"}
	case pebble.IsCorruptionError(err):
		return nil, &blocktree.Error{Op: "meta.Open", Path: cfg.Dir, Kind: blocktree.Corrupt, Err: err}
	}
	return nil, &blocktree.Error{Op: "meta.Open", Path: cfg.Dir, Kind: blocktree.IO, Err: err}
}

// commit writes b, synced or not, and closes it. Every write of a Group goes through here. It returns as soon as the store has failed: a
// commit that waits for Pebble to bring what it has into tables would wait for ever for those that it cannot write.
func (g *Group) commit(b *pebble.Batch, sync bool) error {
	if err := g.fail.get(); err != nil {
		return err
	}
	if g.cfg.hooks.committed != nil {
		g.cfg.hooks.committed()
	}
	opts := pebble.NoSync
	if sync {
		opts = pebble.Sync
	}
	done := make(chan struct{})
	go func() { // ends with the commit; where that stands still, with the process
		defer close(done)
		defer func() {
			if r := recover(); r != nil { // Pebble panics when its log cannot be written
				g.fail.set(fmt.Errorf("pebble: %v", r))
			}
		}()
		if err := b.Commit(opts); err != nil {
			g.fail.set(err)
		}
	}()
	select {
	case <-done:
	case <-g.fail.latched:
	}
	if err := g.fail.get(); err != nil { // a failed sync comes by way of the logger
		return err
	}
	return b.Close()
}

// pebbleLogger passes on what Pebble thinks grave and drops its chatter.
type pebbleLogger struct {
	log  *slog.Logger
	fail *failure
}

func (l pebbleLogger) Infof(string, ...any) {}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error("metadata store", "detail", fmt.Sprintf(format, args...))
}

// Fatalf latches the failure. Pebble takes it that Fatalf does not return: it must not go on to delete what it believes
// replaced, so a goroutine of its own stands still here until the process exits. The one call on the committing
// goroutine returns, because Group.commit asks for the latch next.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.fail.set(fmt.Errorf(format, args...))
	if strings.Contains(format, "fatal commit error") {
		return
	}
	select {}
}

// raftLogger passes on what Raft thinks grave.
type raftLogger struct{ log *slog.Logger }

var _ raft.Logger = raftLogger{}

func (l raftLogger) Debug(...any)          {}
func (l raftLogger) Debugf(string, ...any) {}
func (l raftLogger) Info(v ...any)         { l.log.Debug("raft", "detail", fmt.Sprint(v...)) }
func (l raftLogger) Infof(format string, v ...any) {
	l.log.Debug("raft", "detail", fmt.Sprintf(format, v...))
}
func (l raftLogger) Warning(v ...any) { l.log.Debug("raft warns", "detail", fmt.Sprint(v...)) }
func (l raftLogger) Warningf(format string, v ...any) {
	l.log.Debug("raft warns", "detail", fmt.Sprintf(format, v...))
}
func (l raftLogger) Error(v ...any) { l.log.Error("raft", "detail", fmt.Sprint(v...)) }
func (l raftLogger) Errorf(format string, v ...any) {
	l.log.Error("raft", "detail", fmt.Sprintf(format, v...))
}
func (l raftLogger) Fatal(v ...any)                 { panic(raftPanic(fmt.Sprint(v...))) }
func (l raftLogger) Fatalf(format string, v ...any) { panic(raftPanic(fmt.Sprintf(format, v...))) }
func (l raftLogger) Panic(v ...any)                 { panic(raftPanic(fmt.Sprint(v...))) }
func (l raftLogger) Panicf(format string, v ...any) { panic(raftPanic(fmt.Sprintf(format, v...))) }

// raftPanic is why Raft refuses to go on.
type raftPanic string

// raftFailed makes an error of what Raft panicked with: its own finding, or the error of a read of its log. Whatever else
// somebody panicked with goes on.
func raftFailed(r any, err *error) {
	switch why := r.(type) {
	case nil:
	case raftPanic:
		*err = blocktree.E("meta: raft", blocktree.Corrupt, textError(why))
	case *blocktree.Error:
		*err = why
	default:
		panic(r)
	}
}

package meta

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestCacheIsLarger: blocks stay in memory beside what Pebble takes off the cache for its memory tables.
func TestCacheIsLarger(t *testing.T) {
	db, err := openPebble(&Config{Dir: "meta", FS: vfs.NewMem(), Node: 1, Logger: discard}, newFailure())
	if err != nil {
		t.Fatal(err)
	}
	value := make([]byte, 1<<10)
	const keys = 1 << 10
	for round := range 12 { // more than two memory tables
		for i := range keys {
			value[i] = byte(round)
			if err := db.Set([]byte{'x', byte(i >> 8), byte(i)}, value, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := db.Compact(t.Context(), []byte{'x'}, []byte{'y'}, false); err != nil { // now, not while it is looked
		t.Fatal(err)
	}
	look := func() {
		for i := range keys {
			if _, ok, err := get(db, []byte{'x', byte(i >> 8), byte(i)}); err != nil || !ok {
				t.Fatal(i, ok, err)
			}
		}
	}
	look()
	before := db.Metrics().BlockCache.Misses
	look()
	if misses := db.Metrics().BlockCache.Misses - before; misses > keys/16 {
		t.Errorf("%d of %d looks were not from memory", misses, keys)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

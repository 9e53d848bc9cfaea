package meta

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// F3 of docs/design/0084 of what Pebble does with its logs itself: at every sync of a store whose logs are begun, filled, used again and left, with zeros ahead in all of them, the power fails. What is left,
// with any blocks of what was not synced, zeros alone in a log or none of them, opens as often as it is opened, as no log is left behind that is not the newest and does not end as it should; and all that was synced is there.
func TestLogsOfZerosOpenAgainAndAgain(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	disk := vfs.NewCrashableMem()
	var mu sync.Mutex // Pebble syncs in several goroutines
	var synced atomic.Int32
	clones := 0
	crash := func() {
		mu.Lock()
		defer mu.Unlock()
		for range 2 {
			clone := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng})
			for n := range 3 {
				db, err := openPebble(&Config{Dir: "meta", FS: logsAhead{FS: clone, memory: true}, Logger: discard}, newFailure())
				if err != nil {
					names, _ := clone.List("meta")
					t.Fatalf("clone %d, start %d: %v; it has %q", clones, n, err, names)
				}
				for i := range byte(synced.Load()) {
					if _, there, err := get(db, []byte{i}); err != nil || !there {
						t.Fatalf("clone %d, start %d: %d of %d is not there: %v", clones, n, i, synced.Load(), err)
					}
				}
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
			}
			clones++
		}
	}
	for range 2 {
		db, err := openPebble(&Config{Dir: "meta", FS: logsAhead{FS: syncFS{disk, crash}, memory: true}, Logger: discard}, newFailure())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 6 {
			if err := db.Set([]byte{byte(synced.Load())}, make([]byte, 1+i%2*(40<<10)), pebble.Sync); err != nil {
				t.Fatal(err)
			}
			if synced.Add(1); i%2 == 0 {
				continue
			}
			if err := db.Flush(); err != nil { // the next log is one that was used, from the third on
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d crashes", clones)
}

package meta

import (
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// While the store is made, opened again and its manifest replaced, the power fails at every sync, many times over; of the names
// that no sync of the directory covers any may be lost. Whatever is left opens.
func TestPebbleOpensAfterAnyCrash(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	disk := vfs.NewCrashableMem()
	clones := 0
	crash := func() {
		for range 40 {
			clone := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng})
			db, err := openPebble(&Config{Dir: "meta", FS: clone, Logger: discard}, newFailure())
			if err != nil {
				names, _ := clone.List("meta")
				t.Fatalf("clone %d: %v; it has %q", clones, err, names)
			}
			clones++
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 3 {
		db, err := openPebble(&Config{Dir: "meta", FS: syncFS{disk, crash}, Logger: discard}, newFailure())
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if clones < 500 {
		t.Fatalf("only %d crashes", clones)
	}
	t.Logf("%d crashes", clones)
}

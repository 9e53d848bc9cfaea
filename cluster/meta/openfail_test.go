package meta

import (
	"bufio"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// openFailEnv makes the test binary the process whose store cannot be opened: what Pebble leaves standing in it ends with it.
const openFailEnv = "BT_TEST_META_OPEN_FAIL"

// A disk on which no manifest can be written, while what the log has is brought into tables: the open fails. It once waited
// for ever for a goroutine that stood in Fatalf, so that the process neither served nor ended.
func TestOpenFailsWithoutAManifest(t *testing.T) {
	if os.Getenv(openFailEnv) != "" {
		fmt.Println("opened:", openWithoutManifest(t))
		select {} // until the other process has read it
	}
	c := exec.Command(os.Args[0], "-test.run=^TestOpenFailsWithoutAManifest$")
	c.Env = append(os.Environ(), openFailEnv+"=1")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(30*time.Second, func() { _ = c.Process.Kill() })
	said := ""
	for lines := bufio.NewScanner(out); said == "" && lines.Scan(); {
		said, _ = strings.CutPrefix(lines.Text(), "opened: ")
	}
	kill.Stop()
	_ = c.Process.Kill()
	_ = c.Wait() // killed
	if !strings.Contains(said, "no space left on device") {
		t.Fatalf("it said %q", said)
	}
}

// openWithoutManifest opens a store that a crash left with a log, where manifests cannot be written.
func openWithoutManifest(t *testing.T) error {
	disk := vfs.NewCrashableMem()
	cfg := Config{Dir: "meta", FS: disk, Logger: slog.New(slog.DiscardHandler)}
	db, err := openPebble(&cfg, newFailure())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := db.Set(fmt.Append(nil, i), make([]byte, 1000), pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
	clone := disk.CrashClone(vfs.CrashCloneCfg{RNG: rand.New(rand.NewPCG(1, 2))})
	cfg.FS = errorfs.Wrap(clone, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if strings.Contains(op.Path, "MANIFEST") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return syscall.ENOSPC
		}
		return nil
	}))
	db, err = openPebble(&cfg, newFailure())
	if err == nil {
		return db.Close()
	}
	return err
}

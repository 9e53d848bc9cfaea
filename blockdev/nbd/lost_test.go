package nbd

import (
	"context"
	"sync/atomic"
	"testing"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"
)

// everything is each command with its flags.
func everything() map[string]struct{ command, flags uint16 } {
	return map[string]struct{ command, flags uint16 }{
		"READ": {cmdRead, 0}, "WRITE": {cmdWrite, 0}, "WRITE FUA": {cmdWrite, cmdFlagFUA}, "TRIM": {cmdTrim, 0}, "WRITE_ZEROES": {cmdWriteZeroes, 0},
		"FLUSH": {cmdFlush, 0}, "CACHE": {cmdCache, 0}, "BLOCK_STATUS": {cmdBlockStatus, 0},
	}
}

// demandEIO has a client ask everything that its style has.
func demandEIO(t *testing.T, c *client) {
	t.Helper()
	for name, x := range everything() {
		length, payload := uint64(4096), []byte(nil)
		if x.command == cmdBlockStatus && c.style == compact {
			continue
		}
		if x.command == cmdWrite {
			payload = make([]byte, length)
		}
		if x.command == cmdFlush {
			length = 0
		}
		if a := c.exchange(x.command, x.flags, 0, length, payload); a.errno != nbdEIO {
			t.Errorf("%v, %s: error %d", c.style, name, a.errno)
		}
	}
}

// TestLostExport: when a file has said Lost to one client, every command of every client is EIO, though the first sector is cached, and the export is
// still there for those that come; likewise one that was refused from the start.
func TestLostExport(t *testing.T) {
	var lose atomic.Bool
	b := newBed(t, setup{cacheBytes: 1 << 20, file: memfile.Options{Hook: func(_ context.Context, c memfile.Call) error {
		if c.First > 0 && lose.Load() {
			return blocktree.E("test", blocktree.Lost, nil)
		}
		return nil
	}}})
	refused, err := blockdev.Open(memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 1 << 20}}),
		blockdev.Options{Refuse: blocktree.E("test", blocktree.Lost, nil)})
	if err != nil {
		t.Fatal(err)
	}
	defer refused.Close()
	b.export(blockdev.Export{Name: "/vm/refused", Device: refused})
	first, second := b.attach(), b.attachAs(extended)
	until(t, "the first sector is cached", func() bool {
		errno, _ := first.do(cmdRead, 0, 0, 4096, nil)
		return errno == 0 && b.dev.TryReadAt(make([]byte, 4096), 0)
	})
	lose.Store(true)
	if errno, _ := first.do(cmdRead, 0, 8192, 4096, nil); errno != nbdEIO {
		t.Fatalf("error %d", errno)
	}
	for _, c := range []*client{first, second, b.attachAs(structured), b.attachAs(extended), b.dial().attach("/vm/refused"),
		b.any().agreeFor(structured, "/vm/refused").attach("/vm/refused"), b.any().agreeFor(extended, "/vm/refused").attach("/vm/refused")} {
		demandEIO(t, c)
	}
}

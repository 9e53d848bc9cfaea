package meta

import (
	"fmt"
	"testing"
)

// A member that has much to catch up with applies it in batches of a bounded size, not all that Raft hands out at once: a
// command of a hundred bytes may write a layout of a megabyte.
func TestApplyBatchesAreBounded(t *testing.T) {
	const applyBytes = 10 << 10
	w := newWorld(t)
	w.hooks.applyBytes = applyBytes
	w.found(3)
	away := node(int(w.leader())%3 + 1)
	fs := w.members[away].fs
	w.kill(away)
	for i := range 100 {
		w.must(file(fmt.Sprintf("/f%d", i)))
	}
	last := w.sync(w.leader()).Status().Applied
	w.start(away, fs, nil)
	w.sync(away)
	w.mu.Lock()
	defer w.mu.Unlock()
	files, most := 0, 0
	for _, c := range w.members[away].changes {
		files += len(c.Layouts)
		most = max(most, len(c.Layouts))
		if c.Index > last {
			t.Fatalf("applied %d of %d", c.Index, last)
		}
	}
	// A new file writes more than 256 bytes.
	if files != 100 || most > applyBytes/256 || most < 2 {
		t.Fatalf("%d files were heard of, at most %d at a time", files, most)
	}
}

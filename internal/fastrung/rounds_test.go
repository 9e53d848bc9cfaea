package fastrung

import (
	"bytes"
	"testing"
	"time"

	"blocktree"
	"blocktree/fs"
	"blocktree/internal/simnet"
)

// roundsOfReading counts, by the world's own time, in which only messages take any, how often somebody waits for an answer.
func roundsOfReading(t *testing.T, c *fs.Client, path blocktree.Path, want []byte) {
	t.Helper()
	ctx := t.Context()
	costs := func(what string, rounds int, do func() error) {
		t.Helper()
		begun := time.Now()
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > time.Duration(rounds)*2*simnet.DelayDefault {
			t.Errorf("%s takes %v, more than %d rounds", what, took, rounds)
		}
	}
	var f fs.File
	got := make([]byte, len(want))
	read := func() error {
		_, err := f.ReadAt(ctx, got, 0)
		if !bytes.Equal(got, want) {
			t.Error("other bytes are read")
		}
		return err
	}
	costs("an open: the request, and a question", 2, func() (err error) { f, err = c.Open(ctx, path, fs.OpenOptions{}); return err })
	costs("the first read: the request, what it is and its layout, the sectors", 3, read)
	costs("the next read: the request, its layout beside the sectors", 2, read)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	costs("a rename: the request, both names, the command", 3, func() error { return c.Rename(ctx, path, path.Parent().Join("renamed"), false) })
}

package main

import (
	"context"
	"testing"

	"blocktree"
	"blocktree/crypto/keys"
	"blocktree/fs"
)

var _ fs.Truncater = (*ending)(nil)

// ending is an open file whose end can be moved.
type ending struct {
	memory
	end uint64
}

func (e *ending) Truncate(_ context.Context, bytes uint64) error {
	e.end = bytes
	return nil
}

// TestEndAt: the open file gets its length, and nothing is asked for by a name, which may be another's by now.
func TestEndAt(t *testing.T) {
	d := &door{} // whoever asks a service, or the cluster, panics
	f := &ending{}
	if err := d.endAt(t.Context(), f, "/f", 7); err != nil || f.end != 7 {
		t.Errorf("ends at %d, %v", f.end, err)
	}

	d.reader = &keys.ReaderKey{}
	if err := d.endAt(t.Context(), &memory{}, "/f", 7); blocktree.KindOf(err) != blocktree.Unsupported {
		t.Errorf("of a file whose end stays: %v", err)
	}
}

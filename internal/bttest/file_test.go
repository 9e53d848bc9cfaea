package bttest_test

import (
	"fmt"
	"testing"

	"blocktree"
	"blocktree/blockdev/memfile"
	"blocktree/internal/bttest"
	"blocktree/internal/testenv"
)

func TestMemoryFile(t *testing.T) {
	bttest.File(t, func(*testing.T) blocktree.File {
		return memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 8 << 20}})
	})
	bttest.File(t, func(*testing.T) blocktree.File {
		return memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 8 << 20}, Starts: true})
	})
}

// TestClusterFile runs the suite on real files, of several codes, in one cluster of three nodes.
func TestClusterFile(t *testing.T) {
	d := testenv.New(t, 3)
	d.StartAll()
	c := d.Client()
	for i, code := range []blocktree.Code{{Data: 2, Parity: 1}, {Data: 1, Parity: 0}, {Data: 1, Parity: 2}, {Data: 3, Parity: 0}} {
		t.Run(code.String(), func(t *testing.T) {
			n := 0
			bttest.File(t, func(t *testing.T) blocktree.File {
				n++
				path := fmt.Sprintf("/suite/%d-%d", i, n)
				d.Create(c, path, 8<<20, code)
				return d.Open(c, path)
			})
		})
	}
}

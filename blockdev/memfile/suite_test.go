package memfile_test

import (
	"testing"

	"blocktree"
	"blocktree/blockdev/memfile"
	"blocktree/internal/bttest"
)

// TestSuite runs what every blocktree.File must pass.
func TestSuite(t *testing.T) {
	for _, volatile := range []bool{false, true} {
		bttest.File(t, func(*testing.T) blocktree.File {
			return memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 1000 * 512, SectorBytes: 512}, Volatile: volatile})
		})
	}
}

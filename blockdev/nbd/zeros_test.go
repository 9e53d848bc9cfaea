package nbd

import (
	"testing"

	"blocktree"
	"blocktree/blockdev/memfile"
)

// zeroWriter writes zeros as any data.
type zeroWriter struct{ *memfile.File }

func (zeroWriter) WritesZeros() bool { return true }

// TestNoFastZeros: where zeros are written as any data neither TRIM nor FAST_ZERO is offered, and WRITE_ZEROES is.
func TestNoFastZeros(t *testing.T) {
	for _, writes := range []bool{false, true} {
		var o setup
		if writes {
			o.over = func(f *memfile.File) blocktree.File { return zeroWriter{f} }
		}
		b := newBed(t, o)
		e, err := b.exports.Lookup("/vm/disk0")
		if err != nil {
			t.Fatal(err)
		}
		flags := agreed{}.flags(e)
		if got := flags&(transSendTrim|transSendFastZero) == 0; got != writes || flags&transSendZeroes == 0 {
			t.Errorf("zeros are written as data: %v; flags %x", writes, flags)
		}
	}
}

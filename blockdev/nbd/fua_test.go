package nbd

import (
	"bytes"
	"testing"

	"blocktree/blockdev/memfile"
)

// TestFUA: what was done with FUA is there after a loss of power, what was done without is not; in every style, by every command that writes,
// to a device that never waits and to one that may.
func TestFUA(t *testing.T) {
	old, fresh := bytes.Repeat([]byte{5}, 4096), bytes.Repeat([]byte{7}, 4096)
	for n := range 2 * len(styles) {
		s, prompt := styles[n/2], n%2 == 1
		b := newBed(t, setup{file: memfile.Options{Volatile: true, Prompt: prompt}})
		c := b.attachAs(s)
		for i, x := range []struct {
			command uint16
			payload []byte
			after   []byte
		}{{cmdWrite, fresh, fresh}, {cmdTrim, nil, make([]byte, 4096)}, {cmdWriteZeroes, nil, make([]byte, 4096)}} {
			for j, flags := range []uint16{0, cmdFlagFUA} {
				at := uint64(2*i+j) << 13
				must := func(command, flags uint16, length uint32, payload []byte) {
					t.Helper()
					if errno, _ := c.do(command, flags, at, length, payload); errno != 0 {
						t.Fatalf("%v: command %d: error %d", s, command, errno)
					}
				}
				must(cmdWrite, cmdFlagFUA, 4096, old)
				must(x.command, flags, 4096, x.payload)
				b.file.Crash()
				want := old
				if flags != 0 {
					want = x.after
				}
				if _, got := c.do(cmdRead, 0, at, 4096, nil); !bytes.Equal(got, want) {
					t.Errorf("%v, prompt %t: command %d with flags %d: %d after a loss of power, want %d", s, prompt, x.command, flags, got[0], want[0])
				}
			}
		}
	}
}

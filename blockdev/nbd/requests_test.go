package nbd

import (
	"bytes"
	"math"
	"testing"

	"blocktree/blockdev/memfile"
)

// requestCase is one request and what comes of it in each style.
type requestCase struct {
	name           string
	command, flags uint16
	offset         uint64
	length         uint32
	payload        []byte
	errnos         [3]uint32 // by style
}

// requestCases are single requests, good and bad. big is 32 MiB and a byte of zeros.
func requestCases(big []byte) []requestCase {
	all := func(errno uint32) [3]uint32 { return [3]uint32{errno, errno, errno} }
	return []requestCase{
		{"write", cmdWrite, 0, 123, 777, big[:777], all(0)},
		{"write with FUA", cmdWrite, 1, 0, 4096, big[:4096], all(0)},
		{"read", cmdRead, 0, 1, 5000, nil, all(0)},
		{"read with FUA", cmdRead, 1, 1, 5000, nil, all(0)},
		{"read to the end", cmdRead, 0, size - 1, 1, nil, all(0)},
		{"read nothing", cmdRead, 0, 0, 0, nil, all(0)},
		{"read nothing at the end", cmdRead, 0, size, 0, nil, all(0)},
		{"write nothing", cmdWrite, 0, 5, 0, nil, all(0)},
		{"flush", cmdFlush, 0, 0, 0, nil, all(0)},
		{"flush with FUA", cmdFlush, 1, 0, 0, nil, all(0)},
		{"trim", cmdTrim, 0, 100, 20000, nil, all(0)},
		{"trim with FUA", cmdTrim, 1, 0, size, nil, all(0)},
		{"zero", cmdWriteZeroes, 0, 100, 20000, nil, all(0)},
		{"zero with everything", cmdWriteZeroes, 1 | 2 | 16, 0, size, nil, all(0)},
		{"zero fast, one byte", cmdWriteZeroes, 16, 77, 1, nil, all(0)},
		{"zero nothing", cmdWriteZeroes, 0, 0, 0, nil, all(0)},

		{"read past the end", cmdRead, 0, size - 1, 2, nil, all(22)},
		{"read far past the end", cmdRead, 0, math.MaxUint64, 1, nil, all(22)},
		{"read around the end of numbers", cmdRead, 0, math.MaxUint64 - 3, 4, nil, all(22)},
		{"read too much", cmdRead, 0, 0, 32*mib + 1, nil, [3]uint32{22, 75, 75}},
		{"read 4 GiB", cmdRead, 0, 0, math.MaxUint32, nil, [3]uint32{22, 75, 75}},
		{"write past the end", cmdWrite, 0, size - 1, 2, big[:2], all(28)},
		{"write around the end of numbers", cmdWrite, 0, math.MaxUint64 - 3, 70000, big[:70000], all(28)},
		{"write too much", cmdWrite, 0, 0, 32*mib + 1, big, all(22)},
		{"trim past the end", cmdTrim, 0, size - 1, 2, nil, all(22)},
		{"trim 4 GiB", cmdTrim, 0, 0, math.MaxUint32, nil, all(22)},
		{"zero past the end", cmdWriteZeroes, 0, size - 1, 2, nil, all(28)},
		{"flush with an offset", cmdFlush, 0, 1, 0, nil, all(22)},
		{"flush with a length", cmdFlush, 0, 0, 1, nil, all(22)},
		{"resize", 8, 0, 0, 4096, nil, all(22)},

		{"cache", 5, 0, 0, 4096, nil, all(0)},
		{"cache with FUA", 5, 1, 1, 5000, nil, all(0)},
		{"cache everything", 5, 0, 0, size, nil, all(0)},
		{"cache nothing", 5, 0, 0, 0, nil, all(0)},
		{"cache past the end", 5, 0, size - 1, 2, nil, all(22)},
		{"cache 4 GiB", 5, 0, 0, math.MaxUint32, nil, all(22)},
		{"cache with DF", 5, 4, 0, 4096, nil, all(22)},

		{"block status", 7, 0, 0, 4096, nil, [3]uint32{22, 0, 0}},
		{"block status with FUA", 7, 1, 100, 20000, nil, [3]uint32{22, 0, 0}},
		{"block status of everything", 7, 0, 0, size, nil, [3]uint32{22, 0, 0}},
		{"block status, one extent", 7, 8, 1, 1, nil, [3]uint32{22, 0, 0}},
		{"block status of nothing", 7, 0, 0, 0, nil, all(22)},
		{"block status past the end", 7, 0, size - 1, 2, nil, all(22)},
		{"block status far past the end", 7, 0, math.MaxUint64, 1, nil, all(22)},
		{"block status of 4 GiB", 7, 0, 0, math.MaxUint32, nil, all(22)},
		{"block status with DF", 7, 4, 0, 4096, nil, all(22)},

		{"unknown", 0xffff, 0, 0, math.MaxUint32, nil, all(22)},
		{"read with DF", cmdRead, 4, 0, 4096, nil, [3]uint32{22, 0, 0}},
		{"read nothing with DF", cmdRead, 4, 0, 0, nil, [3]uint32{22, 0, 0}},
		{"read too much with DF", cmdRead, 4, 0, 32*mib + 1, nil, [3]uint32{22, 75, 75}},
		{"write with NO_HOLE", cmdWrite, 2, 0, 4096, big[:4096], all(22)},
		{"write with an unknown flag", cmdWrite, 1 << 15, 0, 100000, big[:100000], all(22)},
		{"trim with FAST_ZERO", cmdTrim, 16, 0, 4096, nil, all(22)},
		{"zero with REQ_ONE", cmdWriteZeroes, 8, 0, 4096, nil, all(22)},
	}
}

// TestRequests does single requests, good and bad, in every style. After each of them client and server are in step, which the
// next request proves.
func TestRequests(t *testing.T) {
	big := make([]byte, 32*mib+1)
	for i, s := range append(styles, styles...) {
		b := newBed(t, setup{file: memfile.Options{Prompt: i < len(styles)}, cacheBytes: 1 << 20})
		c := b.attachAs(s)
		for _, x := range requestCases(big) {
			if s == extended && len(x.payload) > 32*mib {
				continue // TestExtendedPayloads
			}
			errno, data := c.do(x.command, x.flags, x.offset, x.length, x.payload)
			if errno != x.errnos[s] {
				t.Errorf("%v, %s: error %d, want %d", s, x.name, errno, x.errnos[s])
			}
			if !bytes.Equal(data, big[:len(data)]) || errno == 0 && x.command == cmdRead && len(data) != int(x.length) {
				t.Errorf("%v, %s: other data", s, x.name)
			}
			c.inSync()
		}
	}
}

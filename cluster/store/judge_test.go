package store

import (
	"fmt"
	"testing"
)

func TestJudge(t *testing.T) {
	// In records 5 is sequence 5, good, and -5 the same, damaged.
	for _, x := range []struct {
		name    string
		after   uint64
		records []int
		control []uint64 // damaged records that are control records
		voids   []sequences
		synced  uint64
		want    string
	}{
		{"empty", 7, nil, nil, nil, 7, "good [] lost [] missing [] torn [] last 7 used 7"},
		{"all good", 0, []int{1, 2, 3}, nil, nil, 2, "good [1 2 3] lost [] missing [] torn [] last 3 used 3"},
		{"torn tail", 0, []int{1, 2, -3}, nil, nil, 2, "good [1 2] lost [] missing [] torn [{3 3}] last 2 used 3"},
		{"survivor behind the torn", 0, []int{1, -2, 4}, nil, nil, 1, "good [1 4] lost [] missing [] torn [{2 3}] last 4 used 4"},
		{"damaged middle", 0, []int{1, -2, 3}, nil, nil, 2, "good [1 -2 3] lost [] missing [] torn [] last 3 used 3"},
		{"damaged control", 0, []int{1, -2, 3}, []uint64{2}, nil, 2, "good [1 3] lost [2] missing [] torn [] last 3 used 3"},
		{"missing middle", 0, []int{1, 5, 6}, nil, nil, 4, "good [1 5 6] lost [] missing [{2 4}] torn [] last 6 used 6"},
		{"missing, then torn", 0, []int{1, 7}, nil, nil, 4, "good [1 7] lost [] missing [{2 4}] torn [{5 6}] last 7 used 7"},
		{"all gone but a header", 3, nil, nil, nil, 9, "good [] lost [] missing [{4 9}] torn [] last 3 used 9"},
		{"void", 0, []int{1, 6}, nil, []sequences{{2, 5}}, 5, "good [1 6] lost [] missing [] torn [] last 6 used 6"},
		{"void that is there", 0, []int{1, 3, 6}, nil, []sequences{{2, 5}}, 5, "good [1 6] lost [] missing [] torn [] last 6 used 6"},
		{"voids out of order", 0, []int{1, 9}, nil, []sequences{{6, 8}, {2, 3}}, 8, "good [1 9] lost [] missing [{4 5}] torn [] last 9 used 9"},
		{"void at the end", 0, []int{1}, nil, []sequences{{2, 99}}, 99, "good [1] lost [] missing [] torn [] last 1 used 99"},
		{"of before the checkpoint", 5, []int{4, 5, 6}, nil, nil, 5, "good [6] lost [] missing [] torn [] last 6 used 6"},
		{"sequence going back", 0, []int{1, 5, 2, 6}, nil, nil, 0, "good [1 5 6] lost [] missing [] torn [{2 4}] last 6 used 6"},
	} {
		log := &scan{voids: x.voids, synced: x.synced}
		for _, n := range x.records {
			log.records = append(log.records, found{sequence: uint64(max(n, -n)), bad: n < 0})
		}
		v := judge(log, x.after, func(f found) bool {
			for _, c := range x.control {
				if c == f.sequence {
					return false
				}
			}
			return true
		})
		var good []int
		var lost []uint64
		for _, f := range v.good {
			n := int(f.sequence)
			if f.bad {
				n = -n
			}
			good = append(good, n)
		}
		for _, f := range v.lost {
			lost = append(lost, f.sequence)
		}
		got := fmt.Sprintf("good %v lost %v missing %v torn %v last %d used %d", good, lost, v.missing, v.torn, v.last, v.used)
		if got != x.want {
			t.Errorf("%s:\ngot  %s\nwant %s", x.name, got, x.want)
		}
	}
}

package stripe

import (
	"testing"

	"blocktree"
)

// TestWhatIsAcceptedFitsTheStore: a member never says yes to a record that its store would refuse as too large.
func TestWhatIsAcceptedFitsTheStore(t *testing.T) {
	for _, code := range []blocktree.Code{{Data: 1}, {Data: 2, Parity: 1}, {Data: 16, Parity: 4}} {
		for sector := uint32(blocktree.SectorBytesMin); sector <= blocktree.SectorBytesMax; sector *= 2 {
			l := &Layout{Code: code, SectorBytes: sector}
			shard := code.ShardBytes(int(sector))
			record := func(count uint32) *Record {
				return &Record{Kind: RecordData, Count: count, ShardBytes: uint32(shard), Payload: make([]byte, int(count)*shard),
					Seals: make([]byte, int(count)*SealBytes)}
			}
			most := l.RunSectorsMax()
			if r := record(most); checkRecord(l, r) != blocktree.Other || len(r.Payload) > blocktree.RunBytesMax {
				t.Errorf("%v, sectors of %d: %d sectors are refused, or %d bytes too many", code, sector, most, len(r.Payload))
			}
			if checkRecord(l, record(most+1)) == blocktree.Other {
				t.Errorf("%v, sectors of %d: %d sectors are accepted", code, sector, most+1)
			}
		}
	}
	l := &Layout{Sectors: 100, RegionSectors: 1, Code: blocktree.Code{Data: 1}}
	long := Repair{Winners: make([]blocktree.Version, repairEntriesMax+2+InFlightMax)}
	for i := range long.Winners {
		long.Winners[i] = blocktree.Version{Epoch: 1, Sequence: blocktree.Sequence(i + 1)}
	}
	if validRepairs(l, &Message{Epoch: 2, Repairs: []Repair{long}}) {
		t.Error("a repair longer than a control record is accepted")
	}
	long.Winners = long.Winners[:InFlightMax]
	if !validRepairs(l, &Message{Epoch: 2, Repairs: []Repair{long}}) {
		t.Error("the longest repair that a take-over makes is refused")
	}
}

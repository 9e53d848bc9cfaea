package store

import "blocktree"

// Fault says what became of a sector that does not check.
type Fault uint8

// The faults.
const (
	FaultRot         Fault = iota + 1 // its bytes are not those that were written
	FaultLost                         // nothing is there: no file, a file cut short, or zeros
	FaultMisdirected                  // something else was written there
)

// Diagnose says why the one sector of x, Data of file as Lookup gave it, does not check. It goes by what stands in its place: whoever
// calls has read it with ReadShards before.
func (s *Store) Diagnose(file blocktree.FileID, x Extent) Fault {
	seg, err := s.segs.acquire(x.Ref.Segment)
	if err != nil {
		return FaultLost
	}
	defer s.segs.release(seg)
	size, record := int64(x.Ref.ShardBytes), int64(x.Ref.Offset)
	bytes := int64(headerBytes) + int64(x.Ref.Count)*(size+metaBytes)
	payload := record + headerBytes + int64(x.Index)*size
	meta := record + headerBytes + int64(x.Ref.Count)*size + int64(x.Index)*metaBytes
	if have, err := seg.file.Size(); err == nil && have < record+bytes && have < max(payload+size, meta+metaBytes) {
		return FaultLost
	}
	all := make([]byte, bytes)
	if readFull(seg.file, all, record) != nil { // a sector that the disk cannot read
		return FaultRot
	}
	if isZero(all[payload-record:payload-record+size]) && isZero(all[meta-record:meta-record+metaBytes]) {
		return FaultLost
	}
	h, err := decodeHeader(all, s.id)
	switch {
	case err != nil && isZero(all[:headerBytes]):
		return FaultLost
	case err == nil && (h.segment != x.Ref.Segment || h.offset != x.Ref.Offset || h.File != file || h.Version != x.Version || h.Count != x.Ref.Count):
		return strange(&h, record)
	}
	for at := int64(align); at+headerBytes <= bytes; at += align { // records start at multiples of it, in the file as here
		if other, err := decodeHeader(all[at:], s.id); err == nil && at < payload-record+size && at+other.bytes() > payload-record {
			return strange(&other, record+at)
		}
	}
	return FaultRot
}

// strange is the fault where another record was found at an offset: one that says that it belongs there is what an earlier use of
// the file left behind, so that the write never came; any other was written to the wrong place.
func strange(h *header, offset int64) Fault {
	if int64(h.offset) == offset {
		return FaultLost
	}
	return FaultMisdirected
}

func isZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

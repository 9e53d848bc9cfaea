package nbd

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"blocktree"
)

// rule is what the protocol document and docs/design/0005-nbd.md say of a command, told a second time, by numbers and without the server's
// own code, so that the two can be compared.
type rule struct {
	name    string
	command uint16
	flags   [3]uint16 // that it takes, by style
	known   bool      // else there is no such command
	writes  bool      // nothing for a read-only export
	outside uint32    // its error past the end
	long    [3]uint32 // its error over 32 MiB, by style; 0: no bound but the device's
}

// rules are all commands, and some that are none.
var rules = []rule{
	{"READ", 0, [3]uint16{1, 1 | 4, 1 | 4}, true, false, 22, [3]uint32{22, 75, 75}},
	{"WRITE", 1, [3]uint16{1, 1, 1 | 32}, true, true, 28, [3]uint32{22, 22, 22}},
	{"FLUSH", 3, [3]uint16{1, 1, 1}, true, false, 22, [3]uint32{}},
	{"TRIM", 4, [3]uint16{1, 1, 1}, true, true, 22, [3]uint32{}},
	{"CACHE", 5, [3]uint16{1, 1, 1}, true, false, 22, [3]uint32{}},
	{"WRITE_ZEROES", 6, [3]uint16{1 | 2 | 16, 1 | 2 | 16, 1 | 2 | 16}, true, true, 28, [3]uint32{}},
	{"BLOCK_STATUS", 7, [3]uint16{1 | 8, 1 | 8, 1 | 8 | 32}, true, false, 22, [3]uint32{}},
	{"RESIZE", 8, [3]uint16{}, false, false, 0, [3]uint32{}},
	{"command 9", 9, [3]uint16{}, false, false, 0, [3]uint32{}},
	{"command 65535", math.MaxUint16, [3]uint16{}, false, false, 0, [3]uint32{}},
}

// payloadLen is the flag by which extended headers tell that a payload follows.
const payloadLen = 32

// question is one request: of length bytes at offset, whatever its header says of a payload.
type question struct {
	*rule
	flags          uint16
	offset, length uint64
	handle         uint64
}

// faults are the errors that it deserves; each of them will do where there are several, and none means that it must succeed.
func (q question) faults(s style, readOnly bool, size uint64) (errnos []uint32) {
	if !q.known {
		return []uint32{22}
	}
	for _, x := range []struct {
		is    bool
		errno uint32
	}{
		{q.flags&^q.rule.flags[s] != 0, 22},
		{q.command == 1 && s == extended && q.flags&payloadLen == 0, 22},
		{q.command == 3 && (q.offset != 0 || q.length != 0), 22},
		{q.command == 7 && (s == compact || q.length == 0), 22},
		{q.writes && readOnly, 1},
		{q.long[s] != 0 && q.length > 32<<20, q.long[s]},
		{q.offset > size || q.length > size-q.offset, q.outside},
	} {
		if x.is {
			errnos = append(errnos, x.errno)
		}
	}
	return errnos
}

// payload is what follows the header. No byte of it is zero, and it differs from one handle to the next.
func (q question) payload(s style) []byte {
	switch {
	case s == extended && q.command == 7 && q.flags&payloadLen != 0:
		return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, q.length), 1)
	case s == extended && q.flags&payloadLen != 0, s != extended && q.command == 1:
		p := make([]byte, q.length)
		const period = 2048
		for i := range min(period, len(p)) {
			p[i] = byte(q.handle*37+uint64(i)>>3) | 1
		}
		for n := period; n < len(p); n *= 2 {
			copy(p[n:], p[:n])
		}
		return p
	}
	return nil
}

// wire is the request as it is sent.
func (q question) wire(s style) []byte {
	p := q.payload(s)
	if s != extended {
		return append(header(q.command, q.flags, q.handle, q.offset, uint32(q.length)), p...)
	}
	h := command{kind: q.command, flags: q.flags, handle: q.handle, offset: q.offset, length: q.length}
	if q.flags&payloadLen != 0 {
		h.length = uint64(len(p))
	}
	return append(encodeExtended(nil, h), p...)
}

// asker is a client that judges every answer by the rules, and by a flat slice of what is on the device.
type asker struct {
	*client
	readOnly bool
	model    []byte
}

// try sends a question and judges the answer. The next one proves that client and server are in step after it.
func (a *asker) try(q question) {
	a.t.Helper()
	a.nc.SetDeadline(time.Now().Add(patience)) // for each by itself: there are thousands
	a.send(q.wire(a.style))
	a.judge(q)
}

// judge takes the answer to a question, and does to the model what the device did.
func (a *asker) judge(q question) {
	a.t.Helper()
	got := a.answer(q.handle, q.command, q.flags, q.offset, q.length)
	want := q.faults(a.style, a.readOnly, uint64(len(a.model)))
	if len(want) == 0 && got.errno != 0 || len(want) > 0 && !slices.Contains(want, got.errno) {
		a.t.Fatalf("%v, read-only %v: %s, flags %x, %d bytes at %d: error %d %q, want one of %d",
			a.style, a.readOnly, q.name, q.flags, q.length, q.offset, got.errno, got.text, want)
	}
	if got.errno != 0 {
		return
	}
	part := a.model[q.offset:][:q.length]
	switch q.command {
	case 0:
		if !bytes.Equal(got.data, part) {
			a.t.Fatalf("%v: other bytes than the model's: %d at %d", a.style, q.length, q.offset)
		}
	case 1:
		copy(part, q.payload(a.style))
	case 4: // whole sectors; the parts at both ends stay as they are
		const sector = blocktree.SectorBytesDefault
		from, to := (q.offset+sector-1)/sector*sector, (q.offset+q.length)/sector*sector
		if from < to {
			clear(a.model[from:to])
		}
	case 6:
		clear(part)
	case 7:
		for _, x := range got.extents {
			if x.Zero && !allZeros(part[:x.Bytes]) {
				a.t.Fatalf("%v: a hole where there is data, in %v of %d bytes at %d", a.style, got.extents, q.length, q.offset)
			}
			part = part[x.Bytes:]
		}
	}
}

package stripe

import (
	"encoding/binary"

	"blocktree"
	"blocktree/internal/invariant"
	"blocktree/internal/wire"
)

// keptLayouts are the files whose layouts a machine has in memory, from the newest used to the oldest. What is being caught up need not be among them.
type keptLayouts struct {
	max            int // of bytes; 0: no bound
	bytes          int
	newest, oldest *memberFile
}

// keptPlace is a file's place among them; bytes is 0 where it has none.
type keptPlace struct {
	newer, older *memberFile
	bytes        int
}

// KeepLayouts bounds the layouts that the machine keeps, by about what they take in memory; those that were used last stay. Of other files it forgets what
// Raft knows, and keeps what it has promised, in as many bytes as a checkpoint has; whoever asks of such a file has the driver learn its layout
// (MemberReady.CatchUp). The default, 0, is no bound. It is said before the first Learn, and may be said again.
func (m *Member) KeepLayouts(bytes int) {
	m.kept.max = bytes
	m.trim()
}

// Layout returns the newest layout that was learnt of a file and is still kept, or nil. It must not be written to.
func (m *Member) Layout(file blocktree.FileID) *Layout {
	if f := m.files[file]; f != nil {
		return f.layout
	}
	return nil
}

// Waits reports whether messages of a file wait for what is learnt of it.
func (m *Member) Waits(file blocktree.FileID) bool {
	f := m.files[file]
	return f != nil && len(f.parked) > 0
}

// Knows reports whether the machine keeps anything of a file.
func (m *Member) Knows(file blocktree.FileID) bool {
	_, packed := m.packed[file]
	return packed || m.files[file] != nil
}

// layoutBytes is about what a layout takes in memory.
func layoutBytes(l *Layout) int {
	return 640 + len(l.Hosts)*96 + len(l.Own)*(128+l.Code.Shards()*24)
}

// use notes that a file was used last.
func (m *Member) use(f *memberFile) {
	k := &m.kept
	if k.max == 0 || f.layout == nil || k.newest == f {
		return
	}
	k.leave(f)
	f.kept = keptPlace{older: k.newest, bytes: layoutBytes(f.layout)}
	if k.newest != nil {
		k.newest.kept.newer = f
	} else {
		k.oldest = f
	}
	k.newest = f
	k.bytes += f.kept.bytes
}

// leave takes a file out, if it is there.
func (k *keptLayouts) leave(f *memberFile) {
	p := f.kept
	if p.bytes == 0 {
		return
	}
	if p.newer != nil {
		p.newer.kept.older = p.older
	} else {
		k.newest = p.older
	}
	if p.older != nil {
		p.older.kept.newer = p.newer
	} else {
		k.oldest = p.newer
	}
	k.bytes -= p.bytes
	f.kept = keptPlace{}
}

// trim forgets the layouts that were used longest ago, until the others are within the bound.
func (m *Member) trim() {
	k := &m.kept
	for k.max > 0 && k.bytes > k.max {
		f := k.oldest
		k.leave(f)
		if !f.catching && len(f.parked) == 0 { // else it is used next
			m.rest(f)
		}
	}
}

// rest forgets the layout of a file, and packs what it has promised.
func (m *Member) rest(f *memberFile) {
	packs := m.packs(f)
	f.layout, f.views = nil, nil
	if !packs {
		return
	}
	if f.promised() {
		var e wire.Encoder
		encodeFile(&e, f)
		m.packed[f.id] = string(e.Buf)
	}
	delete(m.files, f.id)
}

// promised reports whether a checkpoint has anything of a file.
func (f *memberFile) promised() bool { return f.epoch != 0 || f.seq != 0 || len(f.regions) > 0 }

// packs reports whether what a checkpoint has of a file is all there is: all that the file's records have done is durable, and no copy-up is under way.
func (m *Member) packs(f *memberFile) bool {
	if f.promiseNo > m.durable {
		return false
	}
	for i, r := range f.regions {
		if max(r.abortNo, r.installNo) > m.durable || i >= f.layout.Regions() {
			return false
		}
		for _, hs := range [][]*Held{r.pending, r.decided} {
			for _, h := range hs {
				if h.no > m.durable || h.Void || h.late {
					return false
				}
			}
		}
		if (r.unbroken || !r.missedNone.IsZero()) && m.view(f, i).state == Joining { // it may be asked again
			return false
		}
	}
	return true
}

// find returns what is known of a file, or nil.
func (m *Member) find(id blocktree.FileID) *memberFile {
	if f := m.files[id]; f != nil {
		return f
	}
	packed, ok := m.packed[id]
	if !ok {
		return nil
	}
	f := unpacked(packed)
	delete(m.packed, id)
	m.files[id] = f
	return f
}

// unpacked is what find would return of a packed file; the file stays packed.
func unpacked(packed string) *memberFile {
	b := make([]byte, len(packed))
	copy(b, packed)
	d := wire.NewDecoder(b)
	f := decodeFile(d)
	invariant.Check(d.Finish() == nil, "what was packed of a file cannot be read")
	return f
}

// encodeFile writes what a checkpoint has of a file.
func encodeFile(e *wire.Encoder, f *memberFile) {
	e.File(f.id)
	e.U64(uint64(f.epoch))
	e.U64(uint64(f.seq))
	e.U64(uint64(f.fenced))
	e.Bool(f.recovering)
	at := len(e.Buf)
	e.U32(0)
	n := uint32(0)
	for _, i := range sortedRegions(f.regions) {
		if r := f.regions[i]; !r.isEmpty() {
			encodeRegion(e, i, r)
			n++
		}
	}
	binary.BigEndian.PutUint32(e.Buf[at:], n)
}

// decodeFile reads what encodeFile wrote; the decoder says whether it is whole.
func decodeFile(d *wire.Decoder) *memberFile {
	f := &memberFile{id: d.File()}
	f.epoch = blocktree.Epoch(d.U64())
	f.seq = blocktree.ViewID(d.U64())
	f.fenced = blocktree.Epoch(d.U64())
	f.recovering = d.Bool()
	for k := d.Count(blocktree.RegionsMax); k > 0 && d.Err() == nil; k-- {
		i := blocktree.RegionIndex(d.U32())
		*f.region(i) = decodeRegion(d, f.id, i)
	}
	return f
}

// Snapshot encodes the promises and what is pending, for the store's checkpoint. Every record that was handed out must
// be located; the checkpoint must not be used before those are durable.
func (m *Member) Snapshot() []byte {
	files, bytes := m.sortedFiles(), 16
	for _, packed := range m.packed {
		bytes += len(packed)
	}
	e := wire.Encoder{Buf: make([]byte, 0, bytes)}
	e.U8(snapshotFormat)
	e.U32(0)
	n := uint32(0)
	for _, id := range files {
		if packed, ok := m.packed[id]; ok {
			e.Buf = append(e.Buf, packed...)
			n++
		} else if f := m.files[id]; f.promised() {
			encodeFile(&e, f)
			n++
		}
	}
	binary.BigEndian.PutUint32(e.Buf[1:], n)
	return e.Buf
}

// RestoreMember makes the machine of a node from its checkpoint; the records after it are then given to Apply.
func RestoreMember(node blocktree.NodeID, inc blocktree.Incarnation, snapshot []byte) (*Member, error) {
	m := NewMember(node, inc)
	d := wire.NewDecoder(snapshot)
	d.Format(snapshotFormat)
	for n := d.Count(d.Len()); n > 0 && d.Err() == nil; n-- {
		from := len(snapshot) - d.Len()
		if f := decodeFile(d); d.Err() == nil {
			m.packed[f.id] = string(snapshot[from : len(snapshot)-d.Len()])
		}
	}
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return m, nil
}

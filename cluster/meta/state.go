package meta

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/wire"

	"github.com/cockroachdb/pebble/v2"
)

// state is the applied state in one space, seen through a reader: a batch that is being applied to, or a snapshot. The
// first failed read sticks in err; callers look at it once, at the end.
type state struct {
	r     pebble.Reader
	w     *pebble.Batch // nil: read-only
	space byte
	memory
	err error

	applied uint64 // the log index that this is the state after; 0 where something is being applied

	id     CommandID // of the command that is applied
	caller *Caller   // who asks for it, nil: the cluster itself
	now    int64     // when, as it says; 0 in one of the version before
	// keeperAsks is the session that it says to come from: its own directories are open to it.
	keeperAsks SessionID
	evicted    []Lease // whose holders lost the right to them, since noteClaim looked
	counts     counters
	super      *Superblock // as it was read; nil: not yet
	changes    Changes
	buf        []byte
}

// counters are numbers that many commands need.
type counters struct {
	nextInode blocktree.Inode
	nextDone  uint64 // sequence of the next remembered command
	sessions  uint32
	runtimes  uint32
	inodes    uint64 // but the root directory's; of a store made before they were counted, only those made since
	access    uint64 // bytes of access records
	rights    uint64 // changes that can take a right away
	parents   bool   // there is a parent index
	times     bool   // changes of inodes are noted: a command was proposed that versions before do not know, so none of them is a member
	keptDirs  uint32 // directories whose names sessions keep, and, of these, wanted; where there are any the version before refuses the state, as it would let everybody change them
	wanted    uint32
	spares    uint32 // of nameless, those that never had a name
	nameless  uint32 // files that are kept without a name; where there are any the version before refuses the state, as it would keep them for ever
	moves     uint32 // moves and files that are left; where there are any the version before refuses the state, as it would let everybody hold those
}

// storesRights reports whether rights is stored: in a store made before there was a parent index it is not, until the first caller has one made.
func (c *counters) storesRights() bool { return c.parents || c.moves > 0 || c.times }

// openState reads the counters. w is the batch that r is, or nil.
func openState(r pebble.Reader, w *pebble.Batch, space byte) *state {
	s := &state{r: r, w: w, space: space}
	if v, ok := s.get(kindCounters, nil); ok {
		d := wire.NewDecoder(v)
		d.Format(formatValue)
		s.counts = counters{nextInode: blocktree.Inode(d.U64()), nextDone: d.U64(), sessions: d.U32(), runtimes: d.U32()}
		if d.Len() > 0 {
			s.counts.inodes, s.counts.access = d.U64(), d.U64()
		}
		if d.Len() > 0 {
			s.counts.rights, s.counts.parents = d.U64(), d.Bool()
		}
		if d.Len() > 0 {
			s.counts.moves = d.U32()
		}
		if d.Len() > 0 {
			s.counts.times = d.Bool()
		}
		if d.Len() > 0 {
			s.counts.nameless = d.U32()
		}
		if d.Len() > 0 {
			s.counts.keptDirs, s.counts.wanted, s.counts.spares = d.U32(), d.U32(), d.U32()
		}
		s.check(d.Finish())
	}
	return s
}

// saveCounters stores the counters as they are now.
func (s *state) saveCounters() {
	var e wire.Encoder
	e.U8(formatValue)
	e.U64(uint64(s.counts.nextInode))
	e.U64(s.counts.nextDone)
	e.U32(s.counts.sessions)
	e.U32(s.counts.runtimes)
	e.U64(s.counts.inodes)
	e.U64(s.counts.access)
	more := s.counts.moves > 0 || s.counts.times
	if s.counts.storesRights() { // else the version before reads it
		e.U64(s.counts.rights)
		e.Bool(s.counts.parents)
	}
	if more {
		e.U32(s.counts.moves)
	}
	if s.counts.times {
		e.Bool(true)
	}
	kept := s.counts.keptDirs > 0 || s.counts.spares > 0
	if s.counts.nameless > 0 || kept { // then times are noted
		e.U32(s.counts.nameless)
	}
	if kept {
		e.U32(s.counts.keptDirs)
		e.U32(s.counts.wanted)
		e.U32(s.counts.spares)
	}
	s.set(kindCounters, nil, e.Buf)
}

// check keeps the first error.
func (s *state) check(err error) {
	if err != nil && s.err == nil {
		s.err = err
	}
}

func (s *state) key(kind byte, rest []byte) []byte {
	s.buf = append(append(s.buf[:0], s.space, kind), rest...)
	return s.buf
}

// get returns a value, which is not to be written to, or false if there is none or a read failed.
func (s *state) get(kind byte, rest []byte) ([]byte, bool) {
	key := s.key(kind, rest)
	cached := s.cache != nil && inCache(kind)
	if cached {
		if v, ok := s.dirty[string(key)]; ok {
			return v.value, v.there
		}
		if v, known := s.cache.get(key, s.at); known {
			return v.value, v.there
		}
	}
	v, ok, err := get(s.r, key)
	s.check(err)
	if cached && err == nil {
		s.cache.fill(key, v, ok, s.at)
	}
	return v, ok
}

func (s *state) set(kind byte, rest, value []byte) {
	key := s.key(kind, rest)
	s.check(s.w.Set(key, value, nil))
	s.wrote(kind, key, cachedValue{value: value, there: true})
}

func (s *state) del(kind byte, rest []byte) {
	key := s.key(kind, rest)
	s.check(s.w.Delete(key, nil))
	s.wrote(kind, key, cachedValue{})
}

// wrote notes what w has of a key.
func (s *state) wrote(kind byte, key []byte, v cachedValue) {
	switch {
	case s.cache == nil:
	case inCache(kind):
		v.value = bytes.Clone(v.value)
		s.dirty[string(key)] = v
	case inTable(kind):
		s.dirtyKinds[kind] = true
	}
}

// table returns all of a kind from memory; nil where it is read from r.
func (s *state) table(kind byte) *table {
	if s.cache == nil || !inTable(kind) || s.dirtyKinds[kind] {
		return nil
	}
	t := s.cache.table(kind, s.at)
	if t == nil {
		size := 0
		t = &table{}
		ok := s.iterate(kind, nil, nil, func(rest, value []byte) bool {
			t.pairs = append(t.pairs, pair{bytes.Clone(rest), bytes.Clone(value)})
			size += len(rest) + len(value) + cacheEntryBytes
			t.large = size > cacheTableBytes
			return !t.large
		})
		if !ok {
			return nil
		}
		if t.large {
			t.pairs = nil
		}
		s.cache.fillTable(kind, t, s.at)
	}
	if t.large {
		return nil
	}
	return t
}

// scan calls f with what follows the prefix in each key that has it and is greater than prefix‖from, ascending, until f
// returns false. The slices are valid during the call. f must not write to the range.
func (s *state) scan(kind byte, prefix, from []byte, f func(rest, value []byte) bool) {
	if t := s.table(kind); t != nil {
		t.scan(prefix, from, f)
		return
	}
	s.iterate(kind, prefix, from, f)
}

// scanKept is scan of what a session keeps of one kind, in memory of where the last one found the first. Most of that is gone soon, in the order in which it came, and until it is compacted what was deleted takes as long to pass over as what is there.
func (s *state) scanKept(kind byte, id SessionID, f func(rest, value []byte) bool) {
	if s.cache == nil {
		s.scan(kind, id[:], nil, f)
		return
	}
	first := blocktree.Inode(0)
	var from []byte
	if known := s.cache.firsts[keptKey{kind, id}]; known > 0 {
		from = inodeRest(known - 1)
	}
	s.scan(kind, id[:], from, func(rest, value []byte) bool {
		if first == 0 {
			first = blocktree.Inode(binary.BigEndian.Uint64(rest))
		}
		return f(rest, value)
	})
	if len(s.cache.firsts) >= cacheFirsts {
		clear(s.cache.firsts)
	}
	s.cache.firsts[keptKey{kind, id}] = first
}

// keep notes that a session keeps something, of which an inode is the number.
func (s *state) keep(kind byte, id SessionID, i blocktree.Inode, note []byte) {
	s.set(kind, heldRest(id, i), note)
	if s.cache == nil {
		return
	}
	if k := (keptKey{kind, id}); i < s.cache.firsts[k] {
		s.cache.firsts[k] = i
	}
}

// iterate is scan in the store. It returns whether nothing went wrong.
func (s *state) iterate(kind byte, prefix, from []byte, f func(rest, value []byte) bool) bool {
	lower := append(append([]byte{s.space, kind}, prefix...), from...)
	if len(from) > 0 {
		lower = append(lower, 0)
	}
	upper := after(append([]byte{s.space, kind}, prefix...))
	it, err := s.r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		s.check(blocktree.E("meta: read", blocktree.IO, err))
		return false
	}
	for ok := it.First(); ok; ok = it.Next() {
		v, broken := it.ValueAndErr()
		if err = broken; err != nil || !f(it.Key()[2+len(prefix):], v) {
			break
		}
	}
	if err = errors.Join(err, it.Close()); err != nil {
		s.check(blocktree.E("meta: read", blocktree.IO, err))
	}
	return err == nil
}

// value reads and decodes one value; nil if there is none.
func value[T any](s *state, kind byte, rest []byte, decode func(*wire.Decoder) *T) *T {
	b, ok := s.get(kind, rest)
	if !ok {
		return nil
	}
	d := wire.NewDecoder(b)
	d.Format(formatValue)
	v := decode(d)
	if err := d.Finish(); err != nil {
		s.check(blocktree.E("meta: read", blocktree.Corrupt, err))
		return nil
	}
	return v
}

// store encodes and writes one value.
func store[T any](s *state, kind byte, rest []byte, v *T, encode func(*wire.Encoder, *T)) {
	var e wire.Encoder
	e.U8(formatValue)
	encode(&e, v)
	s.set(kind, rest, e.Buf)
}

// superblock returns a copy of what this cluster is; nil before it is founded. It is read once for each state, as every command asks for it many times.
func (s *state) superblock() *Superblock {
	if s.super == nil {
		s.super = s.readSuperblock()
	}
	if s.super == nil {
		return nil
	}
	sb := *s.super
	return &sb
}

func (s *state) readSuperblock() *Superblock {
	return value(s, kindSuper, nil, func(d *wire.Decoder) *Superblock {
		sb := &Superblock{Generation: blocktree.Generation(d.U64()), Dir: getPath(d), Created: int64(d.U64())}
		if d.Len() > 0 {
			if sb.Child, sb.Taking = true, Taking(d.U8()); sb.Taking >= takingEnd {
				bad(d, "takes over what nobody knows")
			}
		}
		return sb
	})
}

// setSuperblock stores the superblock. That of a child is refused by versions before, which know no parent.
func (s *state) setSuperblock(sb *Superblock) {
	s.super = nil
	store(s, kindSuper, nil, sb, func(e *wire.Encoder, v *Superblock) {
		e.U64(uint64(v.Generation))
		putPath(e, v.Dir)
		e.U64(uint64(v.Created))
		if v.Child {
			e.U8(uint8(v.Taking))
		}
	})
}

// inode returns the inode with the identity, or nil.
func (s *state) inode(f blocktree.FileID) *Inode {
	i := value(s, kindInode, inodeRest(f.Inode), getInode)
	if i == nil || i.ID != f {
		return nil
	}
	return i
}

func (s *state) setInode(i *Inode) { store(s, kindInode, inodeRest(i.ID.Inode), i, putInode) }

// layout returns a file's layout, or nil.
func (s *state) layout(f blocktree.FileID) *stripe.Layout {
	l := value(s, kindLayout, inodeRest(f.Inode), getLayout)
	if l == nil || l.File != f {
		return nil
	}
	return l
}

func (s *state) setLayout(l *stripe.Layout) {
	store(s, kindLayout, inodeRest(l.File.Inode), l, putLayout)
	s.changes.Layouts = append(s.changes.Layouts, l)
}

// eachLayout calls f with every layout of an inode greater than after until it returns false.
func (s *state) eachLayout(after blocktree.Inode, f func(*stripe.Layout) bool) error {
	s.scan(kindLayout, nil, inodeRest(after), func(_, v []byte) bool {
		d := wire.NewDecoder(v)
		d.Format(formatValue)
		l := getLayout(d)
		if err := d.Finish(); err != nil {
			s.check(blocktree.E("meta: read", blocktree.Corrupt, err))
			return false
		}
		return f(l)
	})
	return s.err
}

// eachFile calls f with every file that has a layout until it returns false.
func (s *state) eachFile(f func(blocktree.FileID) bool) error {
	s.scan(kindLayout, nil, nil, func(_, v []byte) bool {
		d := wire.NewDecoder(v)
		d.Format(formatValue)
		file := d.File() // a layout begins with it
		if err := d.Err(); err != nil {
			s.check(blocktree.E("meta: read", blocktree.Corrupt, err))
			return false
		}
		return f(file)
	})
	return s.err
}

// lease returns who holds a file, or nil.
func (s *state) lease(f blocktree.FileID) *Lease {
	l := value(s, kindLease, inodeRest(f.Inode), getLease)
	if l == nil || l.File != f {
		return nil
	}
	if h := s.session(l.Session); h != nil {
		l.Holder = h.Path
	}
	if c := s.claim(l); c != nil {
		if x := s.session(c.session); x != nil {
			l.Claimant = x.Path
		}
	}
	return l
}

func (s *state) session(id SessionID) *Session { return value(s, kindSession, id[:], getSession) }

func (s *state) setSession(x *Session) { store(s, kindSession, x.ID[:], x, putSession) }

func (s *state) start(n blocktree.NodeID) *NodeStart {
	return value(s, kindStart, u64(uint64(n)), getStart)
}

// starts returns every node's newest start, ascending by node.
func (s *state) starts() []NodeStart {
	var out []NodeStart
	each(s, kindStart, getStart, func(v *NodeStart) { out = append(out, *v) })
	return out
}

// runtimes returns every process record, ascending by path.
func (s *state) runtimes() []blocktree.Runtime {
	var out []blocktree.Runtime
	each(s, kindRuntime, getRuntimePtr, func(v *blocktree.Runtime) { out = append(out, *v) })
	return out
}

func getRuntimePtr(d *wire.Decoder) *blocktree.Runtime {
	r := getRuntime(d)
	return &r
}

// each decodes every value of a kind.
func each[T any](s *state, kind byte, decode func(*wire.Decoder) *T, f func(*T)) {
	s.scan(kind, nil, nil, func(_, b []byte) bool {
		d := wire.NewDecoder(b)
		d.Format(formatValue)
		v := decode(d)
		if err := d.Finish(); err != nil {
			s.check(blocktree.E("meta: read", blocktree.Corrupt, err))
			return false
		}
		f(v)
		return true
	})
}

// entry is what a directory says of a name.
type entry struct {
	file blocktree.FileID
	kind InodeKind
	away bool // a directory that is delegated
}

func (s *state) entry(dir blocktree.Inode, name string) (entry, bool) {
	v, ok := s.get(kindEntry, entryRest(dir, name))
	if !ok {
		return entry{}, false
	}
	e, err := decodeEntryValue(v)
	s.check(err)
	return e, err == nil
}

func (s *state) setEntry(dir blocktree.Inode, name string, v entry) {
	var e wire.Encoder
	e.U8(formatValue)
	e.File(v.file)
	kind := uint8(v.kind)
	if v.away {
		kind |= delegatedFlag
	}
	e.U8(kind)
	s.set(kindEntry, entryRest(dir, name), e.Buf)
	if s.counts.parents && v.file.Generation == s.superblock().Generation { // those of others have numbers of their own
		s.set(kindParent, inodeRest(v.file.Inode), inodeRest(dir))
	}
}

func decodeEntryValue(b []byte) (entry, error) {
	d := wire.NewDecoder(b)
	d.Format(formatValue)
	e := entry{file: d.File(), kind: InodeKind(d.U8())}
	if e.kind == KindDir|delegatedFlag {
		e.kind, e.away = KindDir, true
	}
	if e.kind != KindDir && e.kind != KindFile && e.kind != KindLink {
		bad(d, "neither file, directory nor symbolic link")
	}
	return e, d.Finish()
}

// doneRecord is what is remembered of a command that was done.
type doneRecord struct {
	sequence uint64
	layout   bool // the result had file's layout; a retry is given the newest
	file     blocktree.FileID
	result   Result // without layout, index, and the inode's access record
}

func (s *state) done(id CommandID) (*doneRecord, bool) {
	if s.ids != nil && !s.ids.has(id) {
		return nil, false
	}
	b, ok := s.get(kindDone, id[:])
	if !ok {
		return nil, false
	}
	d := wire.NewDecoder(b)
	d.Format(formatValue)
	v := &doneRecord{sequence: d.U64(), layout: d.Bool(), file: d.File()}
	var err error
	v.result, err = DecodeResult(d.Raw(d.Len()))
	s.check(errors.Join(d.Finish(), err))
	return v, true
}

// remember keeps the result of a command that was done, and forgets the oldest over DedupMax.
func (s *state) remember(id CommandID, r Result) {
	v := doneRecord{sequence: s.counts.nextDone, layout: r.Layout != nil, result: r}
	if r.Layout != nil {
		v.file = r.Layout.File
	}
	v.result.Layout, v.result.Index = nil, 0
	if r.Inode != nil && r.Inode.Access != nil {
		i := *r.Inode
		i.Access = nil
		v.result.Inode = &i
	}
	var e wire.Encoder
	e.U8(formatValue)
	e.U64(v.sequence)
	e.Bool(v.layout)
	e.File(v.file)
	s.set(kindDone, id[:], EncodeResult(e.Buf, v.result))
	s.set(kindDoneSeq, u64(v.sequence), id[:])
	s.counts.nextDone++
	if s.ids != nil {
		s.ids.add(v.sequence, id)
	}
	if v.sequence >= DedupMax {
		s.forgetDone(v.sequence - DedupMax)
	}
}

// forgetDone forgets the command that was remembered under a sequence number.
func (s *state) forgetDone(sequence uint64) {
	id, known := CommandID{}, false
	if s.ids != nil {
		id, known = s.ids.drop(sequence)
	}
	if !known {
		b, ok := s.get(kindDoneSeq, u64(sequence))
		if !ok {
			return
		}
		copy(id[:], b)
	}
	s.del(kindDone, id[:])
	s.del(kindDoneSeq, u64(sequence))
}

// inodeOf reads the number at the end of an index key.
func inodeOf(rest []byte) blocktree.Inode {
	return blocktree.Inode(binary.BigEndian.Uint64(rest[len(rest)-8:]))
}

// hash digests every key and value: members that applied the same commands have the same.
func (s *state) hash() (sum [32]byte) {
	h := sha256.New()
	it, err := s.r.NewIter(&pebble.IterOptions{LowerBound: []byte{s.space}, UpperBound: []byte{s.space + 1}})
	if err != nil {
		s.check(err)
		return sum
	}
	for ok := it.First(); ok; ok = it.Next() {
		var e wire.Encoder
		e.Bytes(it.Key()[1:])
		e.Bytes(it.Value())
		h.Write(e.Buf)
	}
	s.check(it.Close())
	h.Sum(sum[:0])
	return sum
}

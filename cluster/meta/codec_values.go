package meta

import (
	"errors"
	"slices"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/invariant"
	"blocktree/internal/wire"
)

// Formats, each the version byte of what it names.
const (
	formatCommand  = 1
	formatResult   = 1
	formatQuery    = 1
	formatAnswer   = 1
	formatValue    = 1 // values of the state in Pebble
	formatEnvelope = 1
	formatEntry    = 1 // log entries and Raft's own state in Pebble

	// A command or a query with a caller and a time, and an answer with an Access.
	formatCallerCommand = 2
	formatCallerQuery   = 2
	formatAccessAnswer  = 2
	// A command of a session that keeps directories, and an answer that says which of them are wanted.
	formatKeeperCommand = 3
	formatWantedResult  = 3
	// A result with a redirect or a generation, and an answer with something of delegated directories.
	formatTreeResult = 2
	formatTreeAnswer = 3
)

// textBytesMax bounds the text and the hint of a refusal.
const textBytesMax = 1024

// bad makes a decoder fail.
func bad(d *wire.Decoder, why string) {
	d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New(why)))
}

func putPath(e *wire.Encoder, p blocktree.Path) { e.String(string(p)) }

func getPath(d *wire.Decoder) blocktree.Path {
	return blocktree.Path(d.String(blocktree.PathBytesMax))
}

func putCode(e *wire.Encoder, c blocktree.Code) {
	e.U8(uint8(c.Data))
	e.U8(uint8(c.Parity))
}

func getCode(d *wire.Decoder) blocktree.Code {
	return blocktree.Code{Data: int(d.U8()), Parity: int(d.U8())}
}

// getBytes returns a copy, nil for none, so that what is decoded does not hold on to the input.
func getBytes(d *wire.Decoder, max int) []byte {
	b := d.Bytes(max)
	if len(b) == 0 {
		return nil
	}
	return slices.Clone(b)
}

func get16(d *wire.Decoder) (v [16]byte) {
	copy(v[:], d.Raw(16))
	return v
}

func putKind(e *wire.Encoder, k blocktree.Kind) { e.U8(uint8(k)) }

// getKind refuses a kind of a newer version: a refusal must stay one.
func getKind(d *wire.Decoder) blocktree.Kind {
	k := blocktree.Kind(d.U8())
	if !k.Valid() {
		bad(d, "unknown kind")
	}
	return k
}

func putInode(e *wire.Encoder, i *Inode) {
	e.File(i.ID)
	kind := uint8(i.Kind)
	if i.Integrity != IntegritySector {
		kind = uint8(kindCheckedFile)
	}
	if i.Delegation != nil {
		kind |= delegatedFlag
	}
	e.U8(kind | accessFlags(i) | lengthFlags(i) | timesFlags(i) | xattrFlags(i))
	e.U32(i.Mode)
	e.U32(i.UID)
	e.U32(i.GID)
	e.U64(uint64(i.Created))
	e.U64(uint64(i.Modified))
	if i.Changed != 0 {
		e.U64(uint64(i.Changed))
	}
	if len(i.Xattrs) > 0 {
		putXattrs(e, i.Xattrs)
	}
	if accessFlags(i) != 0 {
		putFollowing(e, i)
	}
	if i.Delegation != nil {
		putDelegation(e, i.Delegation)
	}
	if i.Kind == KindLink {
		e.String(i.Target)
	}
	if i.Kind != KindFile {
		return
	}
	e.U64(i.SizeBytes)
	e.U32(i.SectorBytes)
	putCode(e, i.Code)
	e.U8(i.Suite)
	e.Raw(i.KeyID[:])
	e.Bytes(i.Access)
	if i.Integrity != IntegritySector {
		putIntegrity(e, i)
	}
	if i.HasLength {
		e.U64(i.LengthBytes)
	}
}

func getInode(d *wire.Decoder) *Inode {
	i := &Inode{ID: d.File(), Kind: InodeKind(d.U8()), Mode: d.U32(), UID: d.U32(), GID: d.U32(),
		Created: int64(d.U64()), Modified: int64(d.U64())}
	following, length, away := i.Kind&accessFlag != 0, i.Kind&lengthFlag != 0, i.Kind&delegatedFlag != 0
	times, xattrs := i.Kind&timesFlag != 0, i.Kind&xattrFlag != 0
	kind := i.Kind &^ (accessFlag | lengthFlag | delegatedFlag | timesFlag | xattrFlag)
	if i.Kind = kind; kind == kindCheckedFile {
		i.Kind = KindFile
	}
	if times {
		getChanged(d, i)
	}
	if xattrs {
		i.Xattrs = getXattrs(d)
	}
	if following {
		getFollowing(d, i)
	}
	if away {
		if i.Delegation = getDelegation(d); i.Kind != KindDir {
			bad(d, "a file that is delegated")
		}
	}
	switch kind {
	case KindDir:
	case KindLink:
		getTarget(d, i)
	case KindFile, kindCheckedFile:
		i.SizeBytes = d.U64()
		i.SectorBytes = d.U32()
		i.Code = getCode(d)
		i.Suite = d.U8()
		i.KeyID = get16(d)
		i.Access = getBytes(d, AccessBytesMax)
		if kind == kindCheckedFile {
			getIntegrity(d, i)
		}
	default:
		bad(d, "neither file, directory nor symbolic link")
	}
	if length {
		getLength(d, i)
	}
	return i
}

// Flags of a host in an encoded layout.
const (
	hostMarked = 1 << iota
	hostOut
	hostHashed // as another: that id follows
	hostFlags  = hostMarked | hostOut | hostHashed
)

// placeMoves is added to the state of a member that an heir is to follow: who that is comes next.
const placeMoves = 1 << 7

// putLayout writes l; maps in ascending order, so that equal layouts have equal encodings.
func putLayout(e *wire.Encoder, l *stripe.Layout) {
	e.File(l.File)
	flush := l.Durability == stripe.DurabilityFlush
	at := len(e.Buf)
	putCode(e, l.Code)
	if flush {
		e.Buf[at] |= flushFlag
	}
	e.U32(l.SectorBytes)
	e.U64(l.RegionSectors)
	e.U64(l.Sectors)
	e.U64(uint64(l.Epoch))
	e.U64(uint64(l.Seq))
	e.U64(uint64(l.BaseID))
	e.U16(uint16(len(l.Hosts)))
	place := make(map[blocktree.NodeID]uint16, len(l.Hosts))
	for i, h := range l.Hosts {
		place[h] = uint16(i)
		e.U64(uint64(h))
		inc := l.Incarnations[h]
		e.Raw(inc[:])
		var flags uint8
		if l.Marked[h] {
			flags |= hostMarked
		}
		if l.BaseOut[h] {
			flags |= hostOut
		}
		as, other := l.HashedAs[h]
		if other {
			flags |= hostHashed
		}
		e.U8(flags)
		if other {
			e.U64(uint64(as))
		}
	}
	if flush {
		putFlush(e, l)
	}
	putResized(e, l, at+1)
	regions := make([]blocktree.RegionIndex, 0, len(l.Own))
	for r := range l.Own {
		regions = append(regions, r)
	}
	slices.Sort(regions)
	e.U32(uint32(len(regions)))
	for _, r := range regions {
		v := l.Own[r]
		e.U32(uint32(r))
		e.U64(uint64(v.ID))
		invariant.Check(len(v.Members) == l.Code.Shards(), "region %d of %v has %d members", r, l.File, len(v.Members))
		for i, m := range v.Members {
			at, ok := place[m.Node]
			invariant.Check(ok, "member %v of %v is not a host", m.Node, l.File)
			e.U16(at)
			if v.Heir == 0 || i != int(v.HeirPlace) {
				e.U8(uint8(m.State))
				continue
			}
			at, ok = place[v.Heir]
			invariant.Check(ok, "heir %v of %v is not a host", v.Heir, l.File)
			e.U8(uint8(m.State) | placeMoves)
			e.U16(at)
		}
	}
}

func getLayout(d *wire.Decoder) *stripe.Layout {
	l := &stripe.Layout{File: d.File(), Code: getCode(d), SectorBytes: d.U32(), RegionSectors: d.U64(), Sectors: d.U64(),
		Epoch: blocktree.Epoch(d.U64()), Seq: blocktree.ViewID(d.U64()), BaseID: blocktree.ViewID(d.U64()),
		Incarnations: map[blocktree.NodeID]blocktree.Incarnation{}, Marked: map[blocktree.NodeID]bool{},
		BaseOut: map[blocktree.NodeID]bool{}, Own: map[blocktree.RegionIndex]stripe.View{}}
	flush := l.Code.Data&flushFlag != 0
	l.Code.Data &^= flushFlag
	moved := l.Code.Parity&resizedFlag != 0
	l.Code.Parity &^= resizedFlag
	if d.Err() == nil && (l.Code.Validate() != nil || l.RegionSectors == 0) {
		bad(d, "impossible layout")
	}
	hosts := int(d.U16())
	if hosts > HostsMax {
		bad(d, "too many hosts")
	}
	for i := 0; i < hosts && d.Err() == nil; i++ {
		h := blocktree.NodeID(d.U64())
		if _, twice := l.Incarnations[h]; twice {
			bad(d, "a host twice")
		}
		l.Hosts = append(l.Hosts, h)
		l.Incarnations[h] = get16(d)
		flags := d.U8()
		if flags&^hostFlags != 0 {
			bad(d, "unknown flag of a host")
		}
		if flags&hostMarked != 0 {
			l.Marked[h] = true
		}
		if flags&hostOut != 0 {
			l.BaseOut[h] = true
		}
		if flags&hostHashed != 0 {
			if l.HashedAs == nil {
				l.HashedAs = map[blocktree.NodeID]blocktree.NodeID{}
			}
			l.HashedAs[h] = blocktree.NodeID(d.U64())
		}
	}
	spares := 0 // that the hash never chooses
	for _, as := range l.HashedAs {
		if as == 0 {
			spares++
		}
	}
	if len(l.Hosts)-spares < l.Code.Shards() {
		bad(d, "fewer hosts to place by the hash than a region has members")
	}
	if flush {
		getFlush(d, l)
	}
	if moved {
		getResized(d, l)
	}
	getRegions(d, l)
	return l
}

// getRegions reads the regions that have a view of their own.
func getRegions(d *wire.Decoder, l *stripe.Layout) {
	n := d.Count(blocktree.RegionsMax)
	last := -1
	for i := 0; i < n && d.Err() == nil; i++ {
		r := blocktree.RegionIndex(d.U32())
		if int(r) <= last {
			bad(d, "regions out of order")
		}
		last = int(r)
		v := stripe.View{ID: blocktree.ViewID(d.U64()), Members: make([]stripe.ViewMember, 0, l.Code.Shards())}
		for i := range l.Code.Shards() {
			at, flagged := int(d.U16()), d.U8()
			state := stripe.MemberState(flagged &^ placeMoves)
			if at >= len(l.Hosts) || state > stripe.Joining {
				bad(d, "impossible member")
				return
			}
			v.Members = append(v.Members, stripe.ViewMember{Node: l.Hosts[at], State: state})
			if flagged&placeMoves == 0 {
				continue
			}
			if at = int(d.U16()); at >= len(l.Hosts) || l.Hosts[at] == 0 || v.Heir != 0 || state != stripe.InSync {
				bad(d, "impossible heir")
				return
			}
			v.Heir, v.HeirPlace = l.Hosts[at], blocktree.ShardIndex(i)
		}
		if _, there := v.Shard(v.Heir); there && v.Heir != 0 {
			bad(d, "an heir that is a member")
		}
		l.Own[r] = v
	}
}

func putRuntime(e *wire.Encoder, r *blocktree.Runtime) {
	putPath(e, r.Path)
	e.Raw(r.Principal[:])
	e.U64(uint64(r.Node))
	putStrings(e, r.Endpoints)
	putStrings(e, r.Services)
}

func getRuntime(d *wire.Decoder) blocktree.Runtime {
	r := blocktree.Runtime{Path: getPath(d)}
	copy(r.Principal[:], d.Raw(len(r.Principal)))
	r.Node = blocktree.NodeID(d.U64())
	r.Endpoints = getStrings(d, EndpointsMax)
	r.Services = getStrings(d, ServicesMax)
	return r
}

func putRuntimes(e *wire.Encoder, rs []blocktree.Runtime) {
	e.U32(uint32(len(rs)))
	for i := range rs {
		putRuntime(e, &rs[i])
	}
}

func getRuntimes(d *wire.Decoder) []blocktree.Runtime {
	var rs []blocktree.Runtime
	for range d.Count(RuntimesMax) {
		rs = append(rs, getRuntime(d))
		if d.Err() != nil {
			return nil
		}
	}
	return rs
}

func putStrings(e *wire.Encoder, ss []string) {
	e.U16(uint16(len(ss)))
	for _, s := range ss {
		e.String(s)
	}
}

func getStrings(d *wire.Decoder, max int) []string {
	n := int(d.U16())
	if n > max {
		bad(d, "too many strings")
	}
	var ss []string
	for i := 0; i < n && d.Err() == nil; i++ {
		ss = append(ss, d.String(blocktree.NameBytesMax))
	}
	return ss
}

func putNodes(e *wire.Encoder, ns []blocktree.NodeID) {
	e.U16(uint16(len(ns)))
	for _, n := range ns {
		e.U64(uint64(n))
	}
}

func getNodes(d *wire.Decoder) []blocktree.NodeID {
	n := int(d.U16())
	if n > HostsMax {
		bad(d, "too many nodes")
	}
	var ns []blocktree.NodeID
	for i := 0; i < n && d.Err() == nil; i++ {
		ns = append(ns, blocktree.NodeID(d.U64()))
	}
	return ns
}

func putSession(e *wire.Encoder, s *Session) {
	e.Raw(s.ID[:])
	e.Raw(s.Principal[:])
	putPath(e, s.Path)
	e.U64(s.Renewals)
	e.U32(s.Leases)
}

func getSession(d *wire.Decoder) *Session {
	s := &Session{ID: get16(d)}
	copy(s.Principal[:], d.Raw(len(s.Principal)))
	s.Path = getPath(d)
	s.Renewals = d.U64()
	s.Leases = d.U32()
	return s
}

func putLease(e *wire.Encoder, l *Lease) {
	e.File(l.File)
	e.U64(uint64(l.Epoch))
	e.Raw(l.Session[:])
	putPath(e, l.Holder)
}

func getLease(d *wire.Decoder) *Lease {
	return &Lease{File: d.File(), Epoch: blocktree.Epoch(d.U64()), Session: get16(d), Holder: getPath(d)}
}

func putStart(e *wire.Encoder, s *NodeStart) {
	e.U64(uint64(s.Node))
	e.Raw(s.Incarnation[:])
	e.U64(s.Counter)
}

func getStart(d *wire.Decoder) *NodeStart {
	return &NodeStart{Node: blocktree.NodeID(d.U64()), Incarnation: get16(d), Counter: d.U64()}
}

// putOpt writes whether v is there, then v.
func putOpt[T any](e *wire.Encoder, v *T, put func(*wire.Encoder, *T)) {
	e.Bool(v != nil)
	if v != nil {
		put(e, v)
	}
}

// getOpt reads what putOpt wrote.
func getOpt[T any](d *wire.Decoder, get func(*wire.Decoder) *T) *T {
	if d.Bool() {
		return get(d)
	}
	return nil
}

package meta

import (
	"time"

	"blocktree"
	"blocktree/internal/wire"
)

// keptFlag is set in the duration of a result that says Kept. Who does not know that, and is refused for what somebody else keeps, reads a duration below zero, which is looked at with leases only.
const keptFlag = 1 << 63

// EncodeResult appends the encoding of r to dst.
func EncodeResult(dst []byte, r Result) []byte {
	e := wire.Encoder{Buf: dst}
	switch {
	case len(r.Wanted) > 0: // only who keeps directories is told, and so knows the format
		e.U8(formatWantedResult)
		putOpt(&e, r.Redirect, putRedirect)
		e.U64(uint64(r.Generation))
		putFileIDs(&e, r.Wanted)
	case r.Redirect == nil && r.Generation == 0:
		e.U8(formatResult)
	default:
		e.U8(formatTreeResult)
		putOpt(&e, r.Redirect, putRedirect)
		e.U64(uint64(r.Generation))
	}
	putKind(&e, r.Kind)
	e.String(short(r.Text))
	e.String(short(r.Hint))
	e.U64(r.Index)
	e.U64(uint64(r.Leader))
	putOpt(&e, r.Inode, putInode)
	putOpt(&e, r.Layout, putLayout)
	putOpt(&e, r.Session, putSession)
	putOpt(&e, r.Start, putStart)
	putOpt(&e, r.Lease, putLease)
	quiet := uint64(max(r.HolderQuiet, 0))
	if r.Kept {
		quiet |= keptFlag
	}
	e.U64(quiet)
	putClaims(&e, r)
	return e.Buf
}

// DecodeResult reads what EncodeResult wrote. Nothing of b is kept.
func DecodeResult(b []byte) (Result, error) {
	d := wire.NewDecoder(b)
	var r Result
	switch {
	case len(b) > 0 && (b[0] == formatTreeResult || b[0] == formatWantedResult):
		d.Format(b[0])
		r.Redirect, r.Generation = getOpt(d, getRedirect), blocktree.Generation(d.U64())
		if b[0] == formatWantedResult {
			if r.Wanted = getFileIDs(d, WantedMax); len(r.Wanted) == 0 {
				bad(d, "nothing is wanted")
			}
		}
	default:
		d.Format(formatResult)
	}
	r.Kind, r.Text, r.Hint, r.Index, r.Leader = getKind(d), d.String(textBytesMax), d.String(textBytesMax), d.U64(), blocktree.NodeID(d.U64())
	checkRedirect(d, r.Redirect, r.Kind)
	r.Inode = getOpt(d, getInode)
	r.Layout = getOpt(d, getLayout)
	r.Session = getOpt(d, getSession)
	r.Start = getOpt(d, getStart)
	r.Lease = getOpt(d, getLease)
	quiet := d.U64()
	r.HolderQuiet, r.Kept = time.Duration(quiet&^keptFlag), quiet&keptFlag != 0
	getClaims(d, &r)
	return r, d.Finish()
}

// putClaims writes what there is of claims, nothing where there are none: who does not know of them then decodes all other results,
// and refuses these, so that it takes no lease for confirmed.
func putClaims(e *wire.Encoder, r Result) {
	claimant := r.Lease != nil && r.Lease.Claimant != ""
	if !claimant && !r.Claimed {
		return
	}
	e.Bool(claimant)
	if claimant {
		putPath(e, r.Lease.Claimant)
	}
	e.Bool(r.Claimed)
	e.U32(uint32(len(r.Firm)))
	for _, f := range r.Firm {
		e.File(f.File)
		e.U64(uint64(f.Epoch))
	}
}

// getClaims reads what putClaims wrote.
func getClaims(d *wire.Decoder, r *Result) {
	if d.Err() != nil || d.Len() == 0 {
		return
	}
	claimant := d.Bool()
	if claimant {
		path := getPath(d)
		if r.Lease == nil || path == "" {
			bad(d, "a claim on nothing, or of nobody")
			return
		}
		r.Lease.Claimant = path
	}
	r.Claimed = d.Bool()
	n := d.Count(LeasesPerSessionMax)
	if !claimant && !r.Claimed || !r.Claimed && n > 0 {
		bad(d, "claims that say nothing")
	}
	for i := 0; i < n && d.Err() == nil; i++ {
		r.Firm = append(r.Firm, FirmLease{File: d.File(), Epoch: blocktree.Epoch(d.U64())})
	}
}

// EncodeQuery appends the encoding of q to dst.
func EncodeQuery(dst []byte, q Query) []byte {
	e := wire.Encoder{Buf: dst}
	if q.Caller == nil {
		e.U8(formatQuery)
	} else {
		e.U8(formatCallerQuery)
		putCaller(&e, q.Caller)
		e.U64(uint64(q.Time))
	}
	e.U8(uint8(q.Kind))
	putPath(&e, q.Path)
	e.File(q.File)
	e.String(q.After)
	if q.Kind == QueryAllowed || q.Kind == QueryToRead {
		e.U32(uint32(q.Want))
	} else {
		e.U32(uint32(min(max(q.Limit, 0), blocktree.ListEntriesMax)))
	}
	if q.Kind == QueryFiles {
		putNodes(&e, q.Serving)
		e.U8(uint8(q.Tell))
	}
	return e.Buf
}

// DecodeQuery reads what EncodeQuery wrote.
func DecodeQuery(b []byte) (Query, error) {
	d := wire.NewDecoder(b)
	var c *Caller
	var now int64
	if len(b) > 0 && b[0] == formatCallerQuery {
		d.Format(formatCallerQuery)
		c, now = getCaller(d), int64(d.U64())
	} else {
		d.Format(formatQuery)
	}
	q := Query{Kind: QueryKind(d.U8()), Path: getPath(d), File: d.File(), After: d.String(blocktree.NameBytesMax),
		Limit: d.Count(blocktree.ListEntriesMax), Caller: c, Time: now}
	if q.Kind == QueryAllowed || q.Kind == QueryToRead {
		if q.Limit > int(rightsAll) {
			bad(d, "unknown right")
		}
		q.Want, q.Limit = Rights(q.Limit), 0
	}
	if q.Kind == QueryFiles {
		if q.Serving, q.Tell = getNodes(d), Tell(d.U8()); q.Tell >= tellEnd {
			bad(d, "tells what nobody knows")
		}
	}
	if q.Kind == 0 || q.Kind >= queryEnd {
		bad(d, "unknown query")
	}
	return q, d.Finish()
}

// EncodeAnswer appends the encoding of a to dst.
func EncodeAnswer(dst []byte, a Answer) []byte {
	e := wire.Encoder{Buf: dst}
	if a.Redirect != nil || a.Above != nil || len(a.Taken) > 0 || a.Home != "" || len(a.Moves)+len(a.Children)+len(a.Xattrs) > 0 || a.Files != nil { // as below
		e.U8(formatTreeAnswer)
		putAnswerTree(&e, &a)
	} else if a.Allowed == nil {
		e.U8(formatAnswer)
	} else { // only who asked for it is told, and so knows the format
		e.U8(formatAccessAnswer)
		putAnswerAllowed(&e, a.Allowed)
	}
	putKind(&e, a.Kind)
	e.String(short(a.Text))
	e.String(short(a.Hint))
	putOpt(&e, a.Inode, putInode)
	e.U32(uint32(len(a.Entries)))
	for i := range a.Entries {
		e.String(a.Entries[i].Name)
		putInode(&e, &a.Entries[i].Inode)
	}
	e.Bool(a.More)
	putOpt(&e, a.Layout, putLayout)
	if a.Kept == nil {
		putOpt(&e, a.Lease, putLease)
	} else {
		putOpt(&e, a.Kept, putKeptBy)
	}
	putRuntimes(&e, a.Runtimes)
	putOpt(&e, a.Status, putStatus)
	e.U16(uint16(len(a.Starts)))
	for i := range a.Starts {
		putStart(&e, &a.Starts[i])
	}
	claimant := blocktree.Path("")
	if a.Lease != nil {
		claimant = a.Lease.Claimant
	}
	if claimant != "" || len(a.Draining) > 0 || len(a.Revoked) > 0 {
		putPath(&e, claimant)
	}
	if len(a.Draining) > 0 || len(a.Revoked) > 0 {
		putNodes(&e, a.Draining)
	}
	if len(a.Revoked) > 0 {
		putRevoked(&e, a.Revoked)
	}
	return e.Buf
}

// Epochs that no lease has: in the place of one an answer says under them that a directory is kept. Who is of a version before does not look there in answers to what he asks for then.
const (
	epochKept   blocktree.Epoch = 0
	epochWanted blocktree.Epoch = 1<<64 - 1
)

func putKeptBy(e *wire.Encoder, k *KeptBy) {
	l := Lease{File: k.Dir, Epoch: epochKept, Session: k.Session}
	if k.Wanted {
		l.Epoch = epochWanted
	}
	putLease(e, &l)
}

// keptBy reads what putKeptBy wrote.
func keptBy(d *wire.Decoder, l *Lease) *KeptBy {
	if l.Holder != "" {
		bad(d, "a directory that is kept has a holder")
	}
	return &KeptBy{Dir: l.File, Session: l.Session, Wanted: l.Epoch == epochWanted}
}

// DecodeAnswer reads what EncodeAnswer wrote. Nothing of b is kept.
func DecodeAnswer(b []byte) (Answer, error) {
	d := wire.NewDecoder(b)
	var a Answer
	switch {
	case len(b) > 0 && b[0] == formatTreeAnswer:
		d.Format(formatTreeAnswer)
		getAnswerTree(d, &a)
	case len(b) > 0 && b[0] == formatAccessAnswer:
		d.Format(formatAccessAnswer)
		a.Allowed = getAnswerAllowed(d)
	default:
		d.Format(formatAnswer)
	}
	a.Kind, a.Text, a.Hint = getKind(d), d.String(textBytesMax), d.String(textBytesMax)
	checkRedirect(d, a.Redirect, a.Kind)
	a.Inode = getOpt(d, getInode)
	for range d.Count(blocktree.ListEntriesMax) {
		entry := DirEntry{Name: d.String(blocktree.NameBytesMax), Inode: *getInode(d)}
		if d.Err() != nil {
			break
		}
		a.Entries = append(a.Entries, entry)
	}
	a.More = d.Bool()
	a.Layout = getOpt(d, getLayout)
	if a.Lease = getOpt(d, getLease); a.Lease != nil && (a.Lease.Epoch == epochKept || a.Lease.Epoch == epochWanted) {
		a.Kept, a.Lease = keptBy(d, a.Lease), nil
	}
	a.Runtimes = getRuntimes(d)
	a.Status = getOpt(d, getStatus)
	starts := int(d.U16())
	if starts > HostsMax {
		bad(d, "too many starts")
	}
	for i := 0; i < starts && d.Err() == nil; i++ {
		a.Starts = append(a.Starts, *getStart(d))
	}
	if d.Err() == nil && d.Len() > 0 {
		claimant := getPath(d)
		if d.Err() == nil && d.Len() > 0 {
			if a.Draining = getNodes(d); len(a.Draining) == 0 && d.Len() == 0 {
				bad(d, "nobody drains")
			}
			if d.Err() == nil && d.Len() > 0 {
				a.Revoked = getRevoked(d)
			}
		}
		switch {
		case claimant == "" && len(a.Draining)+len(a.Revoked) > 0:
		case a.Lease == nil || claimant == "":
			bad(d, "a claim on nothing, or of nobody")
		default:
			a.Lease.Claimant = claimant
		}
	}
	return a, d.Finish()
}

func putStatus(e *wire.Encoder, s *Status) {
	e.U64(uint64(s.Node))
	e.U64(uint64(s.Leader))
	e.U64(s.Term)
	e.U64(s.Commit)
	e.U64(s.Applied)
	e.U16(uint16(len(s.Members)))
	for _, m := range s.Members {
		e.U64(uint64(m.Node))
		e.Bool(m.Learner)
		e.Bool(m.Recent)
		e.U64(m.Match)
	}
}

func getStatus(d *wire.Decoder) *Status {
	s := &Status{Node: blocktree.NodeID(d.U64()), Leader: blocktree.NodeID(d.U64()), Term: d.U64(), Commit: d.U64(),
		Applied: d.U64()}
	n := int(d.U16())
	if n > HostsMax {
		bad(d, "too many members")
	}
	for i := 0; i < n && d.Err() == nil; i++ {
		s.Members = append(s.Members, MemberStatus{Node: blocktree.NodeID(d.U64()), Learner: d.Bool(), Recent: d.Bool(),
			Match: d.U64()})
	}
	return s
}

// short cuts a text to what its decoder accepts.
func short(s string) string { return s[:min(len(s), textBytesMax)] }

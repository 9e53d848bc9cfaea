package cluster

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/crypto/seal"
	"blocktree/internal/bttp"
	"blocktree/internal/erasure"
)

// Read is a read in flight.
type Read struct {
	op          *operation
	codec       *erasure.Codec
	sectorBytes int
}

// Piece is a run of sectors of one version as it came from the members.
type Piece struct {
	stripe.Piece
	codec       *erasure.Codec
	sectorBytes int
}

// Data reports whether the piece holds sealed sectors; else they are zeros.
func (p *Piece) Data() bool { return p.Kind == stripe.Data }

// Seal is the seal of the i-th sector, aliasing the answer.
func (p *Piece) Seal(i int) []byte {
	s := p.Shards[0].Seals
	return s[i*seal.HeaderBytes : (i+1)*seal.HeaderBytes]
}

// DataShards returns the data shards of the piece, of which Parts tells where a sector lies; those that did not come are rebuilt
// from k that did. It does not verify them: who has the key does.
func (p *Piece) DataShards() ([][]byte, error) {
	code := p.codec.Code()
	shards := make([][]byte, code.Shards())
	present := 0
	for _, s := range p.Shards {
		if present < code.Data {
			shards[s.Shard] = s.Payload
			present++
		}
	}
	if err := p.codec.ReconstructData(shards); err != nil {
		return nil, err
	}
	return shards[:code.Data], p.codec.Check(shards, int(p.Count)*p.sectorBytes, p.sectorBytes)
}

// Parts appends the places of the i-th sealed sector in the data shards to parts: one after the other they hold it, and padding.
func (p *Piece) Parts(i int, shards, parts [][]byte) [][]byte {
	return sectorParts(parts, shards, i, p.codec.Code().ShardBytes(p.sectorBytes))
}

// Read asks for count sectors of one region, at most RunSectorsMax.
func (h *Handle) Read(region blocktree.RegionIndex, first blocktree.SectorIndex, count uint32) *Read {
	return &Read{h.do(func(op uint64) { h.holder.Read(op, region, first, count) }), h.codec, int(h.inode.SectorBytes)}
}

// Zeros asks where a run within one region, of any length, is zeros for sure, without its data. The pieces of kind Zero are; those of Data may be
// anything. They may end before the run does. There is nothing to release.
func (h *Handle) Zeros(region blocktree.RegionIndex, first blocktree.SectorIndex, count uint32) *Read {
	return &Read{h.do(func(op uint64) { h.holder.Zeros(op, region, first, count) }), h.codec, int(h.inode.SectorBytes)}
}

// GiveUp ends a question for zeros that nobody waits for any more, if it has not ended: it fails with Canceled.
func (h *Handle) GiveUp(r *Read) {
	h.enterRoughly()
	if !h.over {
		h.holder.GiveUp(r.op.id)
	}
	h.leave()
}

// StartRead is Read with a function instead of Wait: done is called once when the read has ended, maybe before StartRead
// returns, and must not block. Then Pieces tells how it ended.
func (h *Handle) StartRead(region blocktree.RegionIndex, first blocktree.SectorIndex, count uint32, done func(*Read)) {
	r := &Read{&operation{}, h.codec, int(h.inode.SectorBytes)}
	r.op.then = func() { done(r) }
	h.start(r.op, func(op uint64) { h.holder.Read(op, region, first, count) })
}

// Pieces returns what a read that has ended found. The pieces cover the run in order; they are valid until Release.
func (r *Read) Pieces() ([]Piece, error) {
	if r.op.err != nil {
		return nil, r.op.err
	}
	return piecesOf(r.op.read, r.codec, r.sectorBytes), nil
}

// Wait blocks until the read has ended, and returns its pieces, or ctx ends.
func (r *Read) Wait(ctx context.Context) ([]Piece, error) {
	if err := r.op.wait(ctx); err != nil {
		return nil, err
	}
	return r.Pieces()
}

// Release says that the pieces are not needed any more, and gives their memory back. It is called at most once, after
// pieces were returned.
func (r *Read) Release() {
	for i := range r.op.read.Pieces {
		for j := range r.op.read.Pieces[i].Shards {
			releaseAnswer(r.op.read.Pieces[i].Shards[j].Answer)
		}
	}
	r.op.read = nil
}

// releaseAnswer gives an answer's memory back, the first time. A read's answers are its own: each read asks for itself.
func releaseAnswer(a *stripe.Message) {
	if a == nil || a.Memory == nil {
		return
	}
	a.Memory.(*bttp.Reply).Release()
	a.Memory = nil
}

func piecesOf(res *stripe.ReadResult, codec *erasure.Codec, sectorBytes int) []Piece {
	out := make([]Piece, len(res.Pieces))
	for i := range res.Pieces {
		out[i] = Piece{Piece: res.Pieces[i], codec: codec, sectorBytes: sectorBytes}
	}
	return out
}

// ReadCareful reads a run of which some sector did not open, from whatever shards open, fills dst, and has those that did not agree installed again, within a
// rate. Corrupt if no choice of k opens a sector and too few others say that there is another version.
func (h *Handle) ReadCareful(ctx context.Context, region blocktree.RegionIndex, first blocktree.SectorIndex, count uint32,
	dst []byte, open func(*Piece, []byte) error) error {
	c := careful{codec: h.codec, sectorBytes: int(h.inode.SectorBytes), file: h.inode.ID, open: open, suspect: h.suspect,
		all: func(care stripe.Care) (*stripe.ReadResult, error) {
			o := h.do(func(op uint64) { h.holder.ReadAll(op, region, first, count, care) })
			err := o.wait(ctx)
			return o.read, err
		},
		wrong: func(one, _ *Piece, bad *stripe.ShardRun) { h.mendWrong(region, one, bad) }}
	return c.read(first, dst)
}

// noteSuspect is suspect for the machine's Codec, which runs with mu held.
func (h *Handle) noteSuspect(x stripe.Suspect) {
	h.holder.Distrust(x.Node)
	h.suspects = append(h.suspects, x)
}

// suspect notes that a member did what it should not, and has it asked after others.
func (h *Handle) suspect(x stripe.Suspect) {
	h.enterRoughly()
	if !h.over {
		h.holder.Distrust(x.Node)
	}
	h.leave()
	h.client.suspects.seen(x, h.code.Parity)
}

// sector is the i-th sector of the piece as a piece of its own.
func (p *Piece) sector(i uint32) Piece {
	one := *p
	one.First, one.Count = p.First+blocktree.SectorIndex(i), 1
	one.Shards = nil
	for _, s := range p.Shards {
		n := len(s.Payload) / int(p.Count)
		one.Shards = append(one.Shards, stripe.ShardRun{Shard: s.Shard, Answer: s.Answer, Payload: s.Payload[int(i)*n : int(i+1)*n],
			Seals: s.Seals[int(i)*seal.HeaderBytes : int(i+1)*seal.HeaderBytes]})
	}
	return one
}

// mendWrong has a shard installed again that is not what others make of it, unless it was lately.
func (h *Handle) mendWrong(region blocktree.RegionIndex, one *Piece, bad *stripe.ShardRun) {
	h.mu.Lock()
	mend, again := h.mended.may(mendedShard{one.First, bad.Shard}, time.Now())
	h.mu.Unlock()
	kind := stripe.SuspectShard
	if again {
		kind = stripe.SuspectAgain
	}
	h.suspect(stripe.Suspect{Node: bad.Answer.Node, Kind: kind, File: h.inode.ID, First: one.First, Count: 1})
	if mend {
		h.do(func(op uint64) { h.holder.Repair(op, region, one.First, one.Count, one.Version, bad.Shard) })
	}
}

// choose calls do with every choice of k numbers below n, in ascending order, until it returns false.
func choose(n, k int, do func([]int) bool) {
	choice := make([]int, 0, k)
	var next func(from int) bool
	next = func(from int) bool {
		if len(choice) == k {
			return do(choice)
		}
		for i := from; i <= n-(k-len(choice)); i++ {
			choice = append(choice, i)
			if !next(i + 1) {
				return false
			}
			choice = choice[:len(choice)-1]
		}
		return true
	}
	next(0)
}

// rebuilder is the machine's Codec: it rebuilds shards without keys and checks them by their leaves.
type rebuilder struct {
	codec       *erasure.Codec
	file        blocktree.FileID
	sectorBytes int
	// wrong is told of members whose shards are not what the others make of them; nil: nobody wants to know.
	wrong func(stripe.Suspect)
}

// Rebuild implements stripe.Codec. A leaf needs no key, so that who lies can make one: what more members have the same seals of is believed, and where as
// many have others that fit, nothing is.
func (r *rebuilder) Rebuild(target blocktree.ShardIndex, run stripe.Piece) (payload, seals []byte, err error) {
	groups := sealGroups(run.Shards)
	most := 0
	for _, g := range groups {
		if len(g) < most {
			break
		}
		p, s, good := r.rebuildOf(target, run, g)
		switch {
		case !good:
		case most > 0:
			return nil, nil, blocktree.E("rebuild", blocktree.Corrupt, errors.New("as many members have one sealed sector as have another"))
		default:
			payload, seals, most = p, s, len(g)
		}
	}
	if most == 0 {
		return nil, nil, blocktree.E("rebuild", blocktree.Corrupt, errors.New("no k shards agree with the leaves"))
	}
	return payload, seals, nil
}

// sealGroups sorts shards by what seals they have, those that the most have first.
func sealGroups(shards []stripe.ShardRun) (groups [][]stripe.ShardRun) {
	for _, s := range shards {
		i := slices.IndexFunc(groups, func(g []stripe.ShardRun) bool { return bytes.Equal(g[0].Seals, s.Seals) })
		if i < 0 {
			groups, i = append(groups, nil), len(groups)
		}
		groups[i] = append(groups[i], s)
	}
	slices.SortStableFunc(groups, func(a, b []stripe.ShardRun) int { return len(b) - len(a) })
	return groups
}

// rebuildOf makes the target's shard of some that have the same seals.
func (r *rebuilder) rebuildOf(target blocktree.ShardIndex, run stripe.Piece, from []stripe.ShardRun) (payload, seals []byte, good bool) {
	tried := 0
	choose(len(from), r.codec.Code().Data, func(choice []int) bool {
		tried++
		p := Piece{Piece: run, codec: r.codec, sectorBytes: r.sectorBytes}
		p.Shards = nil
		for _, i := range choice {
			p.Shards = append(p.Shards, from[i])
		}
		if r.verify(&p) != nil {
			return tried < choicesMax
		}
		shards := make([][]byte, r.codec.Code().Shards())
		for _, s := range p.Shards {
			shards[s.Shard] = s.Payload
		}
		if e := r.codec.ReconstructShard(target, shards); e != nil {
			return true
		}
		payload, seals, good = shards[target], append([]byte(nil), p.Shards[0].Seals...), true
		if slices.ContainsFunc(p.Shards, func(s stripe.ShardRun) bool { return s.Shard == target }) {
			payload = append([]byte(nil), payload...) // an answer's memory
		}
		r.accuse(&run, p.Shards)
		return false
	})
	return payload, seals, good
}

// accuse tells of the members whose shards of a run are not what good ones make of them.
func (r *rebuilder) accuse(run *stripe.Piece, good []stripe.ShardRun) {
	if r.wrong == nil || len(run.Shards) == len(good) {
		return
	}
	wrongShards(r.codec, run.Shards, good, func(bad *stripe.ShardRun) {
		if bad.Answer != nil {
			r.wrong(stripe.Suspect{Node: bad.Answer.Node, Kind: stripe.SuspectShard, File: r.file, First: run.First, Count: run.Count})
		}
	})
}

// sameSeals reports whether shards agree on nonces, tags and leaves. A leaf needs no key: one member that lies could make one that matches
// the others' bytes with a tag of its own, which nobody could open.
func sameSeals(shards []stripe.ShardRun) bool {
	return !slices.ContainsFunc(shards, func(s stripe.ShardRun) bool { return !bytes.Equal(s.Seals, shards[0].Seals) })
}

// verify joins the sealed sectors and checks each against its leaf.
func (r *rebuilder) verify(p *Piece) error {
	shards, err := p.DataShards()
	if err != nil {
		return err
	}
	sealed := make([]byte, r.sectorBytes) // one after the other, so that each is at hand when it is hashed
	var room [blocktree.DataShardsMax][]byte
	for i := range int(p.Count) {
		if err := p.codec.Join(sealed, p.Parts(i, shards, room[:0]), r.sectorBytes); err != nil {
			return err
		}
		if err := seal.VerifyLeaf(sealed, r.file, p.First+blocktree.SectorIndex(i), p.Version, p.Seal(i)); err != nil {
			return err
		}
	}
	return nil
}

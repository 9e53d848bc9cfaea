package sim

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"blocktree"
	"blocktree/cluster/stripe"
)

// Counters say what a sweep went through. A zero means that something the sweep is meant to prove was never tried; the
// test Sometimes refuses that.
type Counters struct {
	Worlds uint64

	Writes, Acknowledged        uint64
	HolderReads, LeaselessReads uint64
	Flushes                     uint64
	ZeroReads, ZeroSectors      uint64 // questions where a run is zeros, and the sectors that were said to be
	Confirms                    uint64 // reads under a lease that was not known to run any more, confirmed by Raft
	Witnessed                   uint64 // confirmed by the members in place of Raft
	ReadsRetried, ReadsGivenUp  uint64
	EarlyReads                  uint64 // leaseless reads that began under the layout that was heard last (0078)
	EarlyFound, EarlyAnew       uint64 // that ended before the answer that this was the newest; that began anew, as it was not
	WithinReads                 uint64 // that needed no question but that of their request
	SecondRounds                uint64 // reads that asked every member for versions
	ReadRestarts, Hedges        uint64

	TakeOvers          uint64 // leases that were taken from an owner that had not released them
	First, FirstWrites uint64 // holders that knew that a file was made for them, and asked no member (0067); what was acknowledged under such an epoch
	Recoveries         uint64 // take-overs that came to a decision
	PendingFound       uint64 // answers to a fence that listed something in flight
	RepairsWithWinners uint64
	Winners            uint64 // versions that a take-over committed
	Voided             uint64 // versions that a take-over undid
	Fenced             uint64 // holders that learnt of a later epoch
	Releases           uint64

	ViewChanges, ChangesRefused uint64
	Removals, Joins, Promotions uint64
	Marks                       uint64
	Replaced, ReplaceRefused    uint64 // stores that took all places of another; where too few members would have remained
	ReplacedInSync              uint64 // while the other was in sync somewhere
	Placed, PlaceRefused        uint64 // spares that got a place; that were to get one of a member in sync
	Drained, DrainsEnded        uint64 // nodes that were to lose their places; that were to no more
	DrainRefused                uint64 // as too few others would have remained
	Moves, Moved, Stays         uint64 // heirs named, in their places, sent away by the holder
	MoveRefused                 uint64 // heirs of who does not drain, or who drain
	Grown, GrownBack            uint64 // files that got more sectors; that had had them before
	Born, BornWrites            uint64 // regions that were new; writes to one under the epoch under which it came to be
	Cut, CutGivenUp, CutFenced  uint64 // files that were made smaller; given up as zeros could not be written; refused, as another epoch had begun
	ResizeRefused               uint64 // for too few members in sync
	Vanished                    uint64 // nodes that were away for so long that spares might take over
	InstalledCopies             uint64 // records sent to a joiner, or to mend a shard
	IncrementalJoins            uint64 // promotions after which something was copied and something was not
	UnchangedJoins              uint64 // without a comparison
	Unreadable                  uint64 // requests that met a damaged page of an index
	Forgotten                   uint64 // joiners that had to forget what they had
	SectorsSkipped              uint64
	SectorsCopied               uint64
	WrongPlace                  uint64 // sectors that a joiner had another member's shards of

	Crashes, CrashesWithLoss, LostRecords uint64
	PowerLosses                           uint64
	Wipes, RollBacks, Holed, Misplaced    uint64
	ClientCrashes, Pauses                 uint64
	Checkpoints                           uint64
	Lost, Duplicated                      uint64 // messages

	NoSpace, Aborts, Aborted uint64 // records that did not fit; messages; writes that failed for it
	Damaged, DamageSeen      uint64
	ShardsMended             uint64
	Forged                   uint64 // second writes under one version
	Splits                   uint64 // networks cut in two, an old holder on the smaller side
	StaleRefused             uint64 // answers that refuse an old epoch, view or incarnation
	Recovering               uint64 // reads refused because a take-over was going on
	AnswersIn                uint64
	Histories, Porcupine     uint64 // checked; of these by porcupine too

	// Of worlds with files of durability flush only.
	Losses         uint64 `of:"flush"` // acknowledged writes may be gone, said Raft
	LossesMet      uint64 `of:"flush"` // by a holder
	LossesHeard    uint64 `of:"flush"` // by a leaseless reader, which opens the file anew
	VolatileLost   uint64 `of:"flush"` // acknowledged writes that a loss took
	VolatileKept   uint64 `of:"flush"` // acknowledged, not flushed, and still there after a loss
	FlushedKept    uint64 `of:"flush"` // writes that were flushed before a loss
	FlushedWrites  uint64 `of:"flush"`
	Syncs          uint64 `of:"flush"` // SYNC messages
	SyncsRefused   uint64 `of:"flush"`
	AutoSyncs      uint64 `of:"flush"` // that no FLUSH waited for
	Parked         uint64 `of:"flush"` // writes that waited for room
	Kills          uint64 `of:"flush"` // of a node's process
	KillsKept      uint64 `of:"flush"` // after which it went on under its volatile incarnation
	Unwritten      uint64 `of:"flush"` // records that a kill took
	KillsThenPower uint64 `of:"flush"` // power lost before a killed node had started again
	MassLosses     uint64 `of:"flush"` // more nodes at a time than the code bears lost what was not synced

	// Of worlds with liars only.
	Liars        uint64 `of:"liars"`         // members that lie
	Lies         uint64 `of:"liars"`         // answers that were not true
	Named        uint64 `of:"liars"`         // acts of liars that a reader, a holder or a copy-up met and told of
	CarefulReads uint64 `of:"liars"`         // reads of which some sector did not open
	Undone       uint64 `of:"liars"`         // writes that were acknowledged or read, and that a liar had a take-over undo
	Torn         uint64 `of:"liars"`         // writes in flight that only some had, and that a liar had a take-over keep
	TornStuck    uint64 `of:"liars, rarely"` // worlds that could not get whole for that
	HeldBack     uint64 `of:"liars, rarely"` // worlds that did not get whole as they could not bear their liars then
	TornReads    uint64 `of:"liars, rarely"` // reads of their sectors before they were overwritten
	Alone        uint64 `of:"liars, rarely"` // sectors that k liars alone showed, of what was not acknowledged or was undone
	Revived      uint64 `of:"liars, rarely"` // writes that were void, and that k liars had a copy-up give to an honest member
	Early        uint64 `of:"liars, rarely"` // reads of what was in flight, beside a member that could not be reached
	Stale        uint64 `of:"liars"`         // sectors that a reader without a lease was shown as they were before
	BesideLiars  uint64 `of:"liars"`         // worlds that ended in sync, and everything read, while they still lied
	AfterLiars   uint64 `of:"liars"`         // worlds that did so only then
	LiesOf       [lieEnd]uint64
	NamedAs      [stripe.SuspectKindEnd]uint64

	Failed [64]uint64 // operations that ended with an error, by kind
}

// observeRequest counts what a client sends.
func (c *Counters) observeRequest(_ *client, m *stripe.Message) {
	switch m.Kind {
	case stripe.KindAbort:
		c.Aborts++
	case stripe.KindInstall:
		c.InstalledCopies++
	case stripe.KindSync:
		c.Syncs++
	}
}

// observeAnswer counts what a node answers.
func (c *Counters) observeAnswer(m *stripe.Message) {
	switch m.Err {
	case blocktree.Fenced, blocktree.StaleView, blocktree.StaleMember:
		c.StaleRefused++
	case blocktree.Recovering:
		c.Recovering++
	}
	if m.Kind == stripe.KindSync && m.Err != blocktree.Other {
		c.SyncsRefused++
	}
	if m.Kind == stripe.KindFence {
		for _, r := range m.Regions {
			if len(r.Pending) > 0 {
				c.PendingFound++
			}
		}
	}
}

// observeStats adds what a holder or reader has counted in its life.
func (c *Counters) observeStats(s stripe.HolderStats) {
	c.SecondRounds += s.SecondRounds
	c.ReadRestarts += s.ReadRestarts
	c.Hedges += s.Hedges
	c.ShardsMended += s.ShardsMended
	c.IncrementalJoins += s.Incremental
	c.UnchangedJoins += s.Unchanged
	c.Forgotten += s.Forgotten
	c.SectorsSkipped += s.SkippedSectors
	c.SectorsCopied += s.CopiedSectors
	c.WrongPlace += s.Misplaced
	c.Witnessed += s.Witnessed
	c.AutoSyncs += s.AutoSyncs
	c.Parked += s.Parked
}

// Add adds the counts of another world.
func (c *Counters) Add(o *Counters) {
	a, b := reflect.ValueOf(c).Elem(), reflect.ValueOf(o).Elem()
	for i := range a.NumField() {
		if a.Field(i).Kind() == reflect.Uint64 {
			a.Field(i).SetUint(a.Field(i).Uint() + b.Field(i).Uint())
		}
	}
	for i := range c.Failed {
		c.Failed[i] += o.Failed[i]
	}
	for i := range c.LiesOf {
		c.LiesOf[i] += o.LiesOf[i]
	}
	for i := range c.NamedAs {
		c.NamedAs[i] += o.NamedAs[i]
	}
}

// Zeros names the counters that are zero: of those that some worlds only have, those of these worlds.
func (c *Counters) Zeros(of ...string) []string {
	var out []string
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		if v.Field(i).Kind() == reflect.Uint64 && v.Field(i).Uint() == 0 && slices.Contains(of, v.Type().Field(i).Tag.Get("of")) {
			out = append(out, v.Type().Field(i).Name)
		}
	}
	return out
}

// String prints the counters, one to a line; those that some worlds only have where there are any.
func (c *Counters) String() string {
	var b strings.Builder
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		if v.Field(i).Kind() == reflect.Uint64 && (v.Field(i).Uint() > 0 || v.Type().Field(i).Tag.Get("of") == "") {
			fmt.Fprintf(&b, "%-20s %12d\n", v.Type().Field(i).Name, v.Field(i).Uint())
		}
	}
	for k, n := range c.LiesOf {
		if n > 0 {
			fmt.Fprintf(&b, "lie: %-15s %12d\n", lie(k), n)
		}
	}
	for k, n := range c.NamedAs {
		if n > 0 {
			fmt.Fprintf(&b, "named: %-13s %12d\n", stripe.SuspectKind(k), n)
		}
	}
	for k, n := range c.Failed {
		if n > 0 {
			fmt.Fprintf(&b, "failed: %-12s %12d\n", blocktree.Kind(k), n)
		}
	}
	return b.String()
}

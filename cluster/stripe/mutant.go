package stripe

import "strings"

// mutant is a rule that a machine breaks on purpose, so that tests can show that the rule is needed.
type mutant uint8

const (
	sound mutant = iota
	mutAckAtK
	mutNoFence
	mutNoViewCheck
	mutNoViewAck
	mutReadPrepared
	mutReadCommitted
	mutNoResync
	mutNoExclude
	mutRollForwardAny
	mutDropPrepared
	mutReadStaleView
	mutNoCatchUp
	mutVolatileFence
	mutLazySync
	mutQuorumK
	mutNoMinWrite
	mutWatermarkPasses
	mutSecondDigest
	mutNoIncarnation
	mutAbortLoose
	mutJoinNoWait
	mutJoinForgets
	mutPromoteEarly
	mutPromoteBlind
	mutNoReset
	mutNoLeaseCheck
	mutTornTombstone
	mutDropNoSpace
	mutNoRepairWait
	mutReadVolatile
	mutFewerThanK
	mutKeepPending
	mutDigestBlind
	mutMatchShard
	mutPromoteDiffering
	mutKeepForeign
	mutSkipUnwhole
	mutSkipDecided
	mutListNoMark
	mutSentAnyway
	mutForgetTwice
	mutForgetBase
	mutListVolatile
	mutRepairOut
	mutSkipPaused
	mutResetAgain
	mutWholeAnywhere
	mutWitnessSome
	mutWitnessEarly
	mutReadLeaving
	mutMoveAnswers
	mutMoveLeaving
	mutCompareOne
	mutSyncNothing
	mutSyncLate
	mutMarkVolatile
	mutFlushOnly
	mutFlushSome
	mutToldUnwritten
	mutCopyVolatile
	mutPromoteVolatile
	mutReadAfterLoss
	mutHoldOn
	mutRemoveBlind
	mutStableNoJoin
	mutInstallWritten
	mutRepairWritten
	mutAbortWritten
	mutMendVolatile
	mutFlushNoJoin
	mutMoveSyncs
	mutZeroPending
	mutWriteBehind
	mutBelieveAny
	mutBelieveClaim
	mutDenyAny
	mutCopyZeros
	mutFetchFew
	mutTrustFloor
	mutListAny
	mutTrustFence
	mutBelieveCommitted
	mutMindRefusals
	mutDenyOne
	mutDecideUnsure
	mutAskAgain
	mutReleaseEarly
	mutNewerExcuses
	mutAwaitRefusal
	mutFetchRefused
	mutFewAccuse
	mutTakeTurned
	mutToldOnce
	mutFirstLater
	mutFirstLate
	mutantEnd
)

var mutantNames = [mutantEnd]string{
	mutAckAtK:           "ackatk: a write is acknowledged when k members answered (rule 1)",
	mutNoFence:          "nofence: a member takes messages of older epochs (rules 1, 4)",
	mutNoViewCheck:      "noviewcheck: a member takes messages of older views (rules 1, 2)",
	mutNoViewAck:        "noviewack: the holder acknowledges before the remaining members know the new view (rule 2, I6)",
	mutReadPrepared:     "readprepared: a read returns the newest pending version it sees (rule 6)",
	mutReadCommitted:    "readcommitted: a read ignores pending versions (rule 6)",
	mutNoResync:         "noresync: a joiner is promoted without any copy-up (rule 7)",
	mutNoExclude:        "noexclude: a take-over decides without those that do not answer and leaves them in the view (rule 4)",
	mutRollForwardAny:   "rollfwdany: a take-over commits what any member holds (rule 5)",
	mutDropPrepared:     "droprepared: a take-over voids everything above the floor (rule 5)",
	mutReadStaleView:    "readstaleview: a member answers reads of older views and epochs (rule 6)",
	mutNoCatchUp:        "nocatchup: a member does not catch up on a newer view or epoch but goes by its own (rule 2)",
	mutVolatileFence:    "volatilefence: a fence is answered before it is durable (rule 4)",
	mutLazySync:         "lazyfsync: a prepare is answered before it is durable (mode ack)",
	mutQuorumK:          "q-too-small: a read asks k members where more are needed (rule 6)",
	mutNoMinWrite:       "nominwrite: a write is acknowledged with fewer than minWrite members in sync (rule 3)",
	mutWatermarkPasses:  "watermarkpasses: the watermark passes unacknowledged versions (rule 1)",
	mutSecondDigest:     "seconddigest: a member takes a second write under one version (rule 1)",
	mutNoIncarnation:    "noincarnation: a member answers for another incarnation (rule 1)",
	mutAbortLoose:       "abortloose: an abort goes to all members at once, held or not (rule 9)",
	mutJoinNoWait:       "joinnowait: writes do not wait for a joining member (rule 7)",
	mutJoinForgets:      "joinforgets: a joiner is not sent the writes that were in flight when it joined (rule 7)",
	mutPromoteEarly:     "promoteearly: a joiner is promoted before its installs are answered (rule 7)",
	mutPromoteBlind:     "promoteblind: a joiner is promoted while versions that readers may have seen are not yet at it (rules 6, 7)",
	mutNoReset:          "noreset: a joiner is not told to begin anew (rule 7)",
	mutNoLeaseCheck:     "noleasecheck: the holder's reads complete after its lease term (rule 6)",
	mutTornTombstone:    "torntombstone: a member stores a tombstone for the first sector of its run only (rule 8)",
	mutDropNoSpace:      "dropnospace: a member without space is removed from the view, down to any number (rule 9)",
	mutNoRepairWait:     "norepairwait: writes begin before every member has the decision of the take-over (rule 5)",
	mutReadVolatile:     "readvolatile: a member tells of pending records that are not durable yet (rule 6)",
	mutFewerThanK:       "fewerthank: a read of sectors with too few shards gives zeros (rule 3)",
	mutKeepPending:      "joinkeepspending: a joiner keeps what it had pending (rule 7)",
	mutDigestBlind:      "digestblind: a digest says which versions a block has, not where (rule 7)",
	mutMatchShard:       "matchshard: a shard of another place matches (rule 7)",
	mutPromoteDiffering: "promotediffering: a joiner is promoted once digests are compared, whatever differed (rule 7)",
	mutKeepForeign:      "keepforeign: a joiner keeps what the view does not have (rule 7)",
	mutSkipUnwhole:      "skipunwhole: a region is taken for unchanged though the joiner was never in sync there as what it is (rule 7)",
	mutSkipDecided:      "skipdecided: a region is taken for unchanged though a repair decided above the watermark of the joiner (rule 7)",
	mutListNoMark:       "listnomark: members list a region without having committed what is acknowledged (rule 7)",
	mutSentAnyway:       "sentanyway: all versions of this epoch are thought to have been sent to the joiner (rule 7)",
	mutForgetTwice:      "forgettwice: a joiner forgets again when the request comes again (rule 7)",
	mutForgetBase:       "forgetbase: what a joiner committed before it forgot is thought to be still there (rule 7)",
	mutRepairOut:        "repairout: a member takes repairs of regions that it is out of (rules 5, 7)",
	mutListVolatile:     "listvolatile: a joiner tells of installs that are not durable (rule 7)",
	mutSkipPaused:       "skippaused: a joiner that is asked to begin again in the same join tells the newest that it has by then (rule 7)",
	mutWholeAnywhere:    "wholeanywhere: a region is taken for unchanged though the joiner was in sync in another place of it (rule 7)",
	mutWitnessSome:      "witnesssome: a read that Raft does not confirm completes with the word of k members (rule 6, 0013)",
	mutWitnessEarly:     "witnessearly: a read that Raft does not confirm completes with words given before it was done (rule 6, 0013)",
	mutReadLeaving:      "readleaving: a holder's read completes though all that answered it may have been removed (rule 6)",
	mutMoveAnswers:      "moveanswers: what a member answered counts for the heir that got its place (rule 2, 0016)",
	mutMoveLeaving:      "moveleaving: a holder's read completes though all that answered it may have made room for an heir (rule 6, 0016)",
	mutCompareOne:       "compareone: a joiner is compared with, and copied from, as few members as suffice if all are in sync (rule 7)",
	mutSyncNothing:      "syncnothing: a member answers a SYNC before anything is durable (0014)",
	mutSyncLate:         "synclate: a SYNC counts for writes that were answered after it was sent (0014)",
	mutMarkVolatile:     "markvolatile: the watermark of a flush file passes what is not stable (0014)",
	mutFlushOnly:        "flushonly: a FLUSH of a flush file waits for answers only, as one of an ack file (0014)",
	mutFlushSome:        "flushsome: a FLUSH ends when k members have synced (0014)",
	mutToldUnwritten:    "toldunwritten: a member of a flush file answers for records that are not written yet (0014)",
	mutCopyVolatile:     "copyvolatile: a joiner is given as committed what is not stable (0014)",
	mutPromoteVolatile:  "promotevolatile: a joiner is promoted though it may not have durably what was flushed before it joined (0014)",
	mutReadAfterLoss:    "readafterloss: members answer reads after a loss before it is decided what was lost (0014)",
	mutHoldOn:           "holdon: a holder goes on when its file has turned lossy (0014)",
	mutRemoveBlind:      "removeblind: members are removed though too few others are known to live (I7, 0014)",
	mutStableNoJoin:     "stablenojoin: the watermark of a flush file passes what is not durable at a joiner (0014)",
	mutInstallWritten:   "installwritten: a member of a flush file answers an install before it is durable (0014)",
	mutRepairWritten:    "repairwritten: a member of a flush file answers a repair before it is durable (0014)",
	mutAbortWritten:     "abortwritten: a member of a flush file refuses a version before that is durable (0014)",
	mutMendVolatile:     "mendvolatile: a damaged shard is mended in an index with what is not stable (0014)",
	mutFlushNoJoin:      "flushnojoin: a FLUSH does not wait for a joiner (0014)",
	mutMoveSyncs:        "movesyncs: what an heir answered is taken for durable by the SYNCs to the member that it follows (0014)",
	mutResetAgain:       "resetagain: a joiner is told to begin anew for every layout in which its copy-up does, not once per join (rule 7)",
	mutWriteBehind:      "writebehind: a holder writes behind the end of its file (0021)",
	mutBelieveAny:       "believeany: a read takes zeros that one member claims (rule 6, 0029)",
	mutBelieveClaim:     "believeclaim: a version that the others deny is asked for again and again (0029)",
	mutDenyAny:          "denyany: one member that denies a version is enough to call those liars that have it (0029)",
	mutCopyZeros:        "copyzeros: a joiner is given zeros that one member claims (rule 7, 0029)",
	mutFetchFew:         "fetchfew: a read of every shard fetches a version that is in flight from k members only (0029)",
	mutTrustFloor:       "trustfloor: a take-over commits all up to the highest watermark that one member tells (rule 5, 0029)",
	mutListAny:          "listany: a joiner is not given what one member lists at a version that goes to it anyway, nor one that nobody gave out (rule 7, 0029)",
	mutTrustFence:       "trustfence: a take-over goes by whatever a member answers to a fence (rule 4, 0029)",
	mutBelieveCommitted: "believecommitted: a reader takes for committed what one member says is, of what is in flight (rule 6, 0029)",
	mutMindRefusals:     "mindrefusals: a leaseless read ends whenever a member refuses it, however often it does under one layout (0029)",
	mutDenyOne:          "denyone: a read takes what is in flight for not held by all when the first member says so, though others may know that it is acknowledged (rule 6, 0029)",
	mutDecideUnsure:     "decideunsure: a take-over voids what members that have left the view meanwhile do not hold (rules 2, 5)",
	mutAskAgain:         "askagain: a read asks who has failed it again, in the order of places, before those it has not asked (rule 6, 0029)",
	mutReleaseEarly:     "releaseearly: a write is given back when it is acknowledged, and sent all the same (0014)",
	mutNewerExcuses:     "newerexcuses: who has something newer in flight is not taken to deny what it has not (rule 6, 0029)",
	mutAwaitRefusal:     "awaitrefusal: what few say is not weighed before those that refuse have answered (0029)",
	mutFetchRefused:     "fetchrefused: shards of what few say are taken of who refused to say whether all hold it (rule 6, 0029)",
	mutFewAccuse:        "fewaccuse: a member is named for lacking what no more have than may lie (0029)",
	mutTakeTurned:       "taketurned: shards of what few say are taken of who had not said that it has it (rule 6, 0029)",
	mutToldOnce:         "toldonce: a watermark that a view change overtakes is not told again (0014, 0029)",
	mutFirstLater:       "firstlater: who was told that it is the first to hold a file asks no member under any epoch, and members take that (0067)",
	mutFirstLate:        "firstlate: a member takes what is written under the first epoch though it was fenced under another (0067)",
	mutZeroPending:      "zeropending: a member calls zeros what a write in flight may have changed (rule 6, 0018)",
}

// Mutants lists the rules that Member.SetMutant, HolderConfig.Mutant and ReaderConfig.Mutant can break: a name, a colon
// and what is broken. For tests only.
func Mutants() []string { return append([]string(nil), mutantNames[sound+1:]...) }

// parseMutant returns sound for "" and for names it does not know.
func parseMutant(name string) mutant {
	for i, n := range mutantNames {
		if head, _, ok := strings.Cut(n, ":"); ok && head == name {
			return mutant(i)
		}
	}
	return sound
}

package sim

// Mutants are rules that the world itself breaks on purpose: what a driver of the machines, Raft or a store promises them.
// Each must make a sweep fail, as each of stripe.Mutants must. A name, a colon, and what is broken.
func Mutants() []string {
	return []string{
		"unsynced-answers: the driver reports records as durable that are not synced",
		"control-forgotten: a store loses its control records in a restart",
		"incarnation-kept: a node that lost its disk goes on under its old incarnation",
		"commits-by-order: the store's index takes an older version over a newer one",
		"replay-forgets-index: a restart does not index what its replay commits",
		"lease-overrun: a holder believes in its lease longer than Raft does",
		"confirm-blind: a confirmation says yes without asking Raft",
		"layout-cached: a leaseless reader goes by the layout that the node has that is most behind",
		"told-unheard: a leaseless read that began under the layout heard last is told before Raft has said that this is the newest (0078)",
		"heard-before: an answer of Raft counts for leaseless reads that were asked for after the question (0078)",
		"heard-another: a leaseless read is told though the newest layout is another than it went by (0078)",
		"within-any: a leaseless read goes by the layout that was asked for within an earlier request (0078)",
		"checkpoint-early: a checkpoint says of records that are not synced that they are there",
		"cas-dropped: Raft applies a view change of an older epoch or view",
		"replaced-counts: a store that replaces another is in sync from the start",
		"placed-counts: a spare that gets a place is in sync from the start",
		"movedearly: a member leaves when its heir begins to join (I16)",
		"moved-to-draining: Raft does not look at who drains",
		"placed-over-sync: Raft gives a spare the place of a member that is in sync",
		"cut-untrimmed: a file is made smaller with what it had behind the new end (0021)",
		"cut-open: a holder that makes its file smaller goes on writing behind the new end meanwhile (0047)",
		"cut-unfenced: Raft makes a file smaller for a holder whose epoch is over (0021)",
		"born-kept: Raft takes a region for new under a later epoch than it came to be under (0021)",
		"cut-unflushed: a file is made smaller before the zeros behind its end are durable (0014)",
		"volatile-kept: a node that lost what was not synced goes on under its old volatile incarnation (0014)",
		"loss-unsaid: Raft takes members back after a loss without raising the loss number (0014)",
		"loss-unheard: a leaseless reader goes on after a loss as if nothing were (0014)",
		"back-any-disk: Raft takes a marked member for back on its disk though it lost that (0014)",
	}
}

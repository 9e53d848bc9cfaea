package nbd

import (
	"time"

	"blocktree/internal/latency"
)

// Command is what a request asks for.
type Command uint8

// The commands. What is none of the protocol's is CommandUnknown.
const (
	CommandRead Command = iota
	CommandWrite
	CommandFlush
	CommandTrim
	CommandWriteZeroes
	CommandCache
	CommandBlockStatus
	CommandUnknown
	commandsEnd
)

// Commands is how many there are.
const Commands = int(commandsEnd)

// String is the command's name in metrics.
func (c Command) String() string {
	return [...]string{"read", "write", "flush", "trim", "write_zeroes", "cache", "block_status", "unknown"}[c]
}

// Moves reports whether the length of a request counts as bytes: those of BLOCK_STATUS are only asked about.
func (c Command) Moves() bool { return c != CommandFlush && c < CommandBlockStatus }

func commandOf(command uint16) Command {
	switch command {
	case cmdRead:
		return CommandRead
	case cmdWrite:
		return CommandWrite
	case cmdFlush:
		return CommandFlush
	case cmdTrim:
		return CommandTrim
	case cmdWriteZeroes:
		return CommandWriteZeroes
	case cmdCache:
		return CommandCache
	case cmdBlockStatus:
		return CommandBlockStatus
	}
	return CommandUnknown
}

// Outcome is how a request ended.
type Outcome uint8

// The outcomes: no error, the errors that there are reasons to tell apart, and that the client did not wait for the answer.
const (
	OutcomeOK Outcome = iota
	OutcomeEIO
	OutcomeENOSPC
	OutcomeEPERM
	OutcomeEINVAL
	OutcomeOther
	OutcomeGone
	outcomesEnd
)

// Outcomes is how many there are.
const Outcomes = int(outcomesEnd)

// String is the outcome's name in metrics.
func (o Outcome) String() string {
	return [...]string{"ok", "eio", "enospc", "eperm", "einval", "other", "gone"}[o]
}

func outcomeOf(errno uint32) Outcome {
	switch errno {
	case 0:
		return OutcomeOK
	case nbdEIO:
		return OutcomeEIO
	case nbdENOSPC:
		return OutcomeENOSPC
	case nbdEPERM:
		return OutcomeEPERM
	case nbdEINVAL:
		return OutcomeEINVAL
	}
	return OutcomeOther
}

// Counts are the requests that have ended. A connection's are guarded by the mutex of its outbox, which whoever ends a request holds anyway.
type Counts struct {
	Requests [Commands][Outcomes]uint64
	Bytes    [Commands]uint64            // of those that were answered without an error
	Latency  [Commands]latency.Histogram // of those that were answered, from their reception to the batch of replies that goes to the socket
}

// count counts a request whose reply is on its way to the socket. It is done before that, so that whoever has the answer finds it counted.
func (n *Counts) count(r *request, now time.Duration) {
	command := commandOf(r.command)
	n.Requests[command][r.outcome]++
	if r.outcome == OutcomeGone {
		return
	}
	n.Latency[command].Observe(now - r.began)
	if r.outcome == OutcomeOK && command.Moves() {
		n.Bytes[command] += r.length
	}
}

// Add adds what another connection, or export, has counted.
func (n *Counts) Add(o *Counts) {
	for c := range n.Requests {
		for i := range n.Requests[c] {
			n.Requests[c][i] += o.Requests[c][i]
		}
		n.Bytes[c] += o.Bytes[c]
		n.Latency[c].Add(&o.Latency[c])
	}
}

// Traffic counts the requests of clients that were answered without an error.
type Traffic struct {
	Reads, ReadBytes   uint64
	Writes, WriteBytes uint64
	Others             uint64 // all else: FLUSH, TRIM, WRITE_ZEROES, CACHE, BLOCK_STATUS
}

// traffic sums up.
func (n *Counts) traffic() Traffic {
	t := Traffic{Reads: n.Requests[CommandRead][OutcomeOK], ReadBytes: n.Bytes[CommandRead],
		Writes: n.Requests[CommandWrite][OutcomeOK], WriteBytes: n.Bytes[CommandWrite]}
	for c := CommandFlush; c < commandsEnd; c++ {
		t.Others += n.Requests[c][OutcomeOK]
	}
	return t
}

package nbd

import (
	"blocktree"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// The error values of the protocol; no others may go over the wire.
const (
	nbdEPERM     = protocol.TRANSMISSION_ERROR_EPERM
	nbdEIO       = uint32(5)
	nbdENOMEM    = uint32(12)
	nbdEINVAL    = protocol.TRANSMISSION_ERROR_EINVAL
	nbdENOSPC    = uint32(28)
	nbdEOVERFLOW = uint32(75)
	nbdENOTSUP   = uint32(95)
	nbdESHUTDOWN = uint32(108)
)

// errnos is the one table from kind to error value. ENOTSUP is not in it: the protocol allows it only in answer to
// FAST_ZERO, EOVERFLOW only with structured replies.
var errnos = [...]uint32{
	blocktree.Other:           nbdEIO,
	blocktree.Invalid:         nbdEINVAL,
	blocktree.NotFound:        nbdEIO,
	blocktree.Exists:          nbdEIO,
	blocktree.Permission:      nbdEPERM,
	blocktree.Unauthenticated: nbdEPERM,
	blocktree.Busy:            nbdEIO,
	blocktree.Unavailable:     nbdEIO,
	blocktree.ReadOnly:        nbdEPERM,
	blocktree.NoSpace:         nbdENOSPC,
	blocktree.OutOfRange:      nbdEINVAL, // ENOSPC for what writes
	blocktree.Fenced:          nbdEIO,
	blocktree.StaleView:       nbdEIO,
	blocktree.StaleMember:     nbdEIO,
	blocktree.Corrupt:         nbdEIO,
	blocktree.Timeout:         nbdEIO,
	blocktree.Canceled:        nbdEIO,
	blocktree.Closed:          nbdESHUTDOWN,
	blocktree.Undeliverable:   nbdEIO,
	blocktree.Unsupported:     nbdEINVAL, // ENOTSUP in answer to FAST_ZERO
	blocktree.TooLarge:        nbdEINVAL,
	blocktree.NewerFormat:     nbdEIO,
	blocktree.IO:              nbdEIO,
	blocktree.Lost:            nbdEIO,
	blocktree.Recovering:      nbdEIO,
	blocktree.NotLeader:       nbdEIO,
	blocktree.Elsewhere:       nbdEIO,
	blocktree.CrossDevice:     nbdEIO,
}

// errnoOf is what a command that failed with err is answered.
func errnoOf(err error, command, flags uint16) uint32 {
	if err == nil {
		return 0
	}
	kind := blocktree.KindOf(err)
	switch {
	case kind == blocktree.OutOfRange && (command == cmdWrite || command == cmdWriteZeroes):
		return nbdENOSPC
	case kind == blocktree.Unsupported && flags&cmdFlagFastZero != 0:
		return nbdENOTSUP
	case int(kind) < len(errnos):
		return errnos[kind]
	}
	return nbdEIO
}

package nbd

import (
	"errors"
	"fmt"

	"blocktree"
)

// Why a request is refused before the device hears of it, for people who read it in an error chunk.
var (
	errUnknownCommand = errors.New("unknown command")
	errUnknownFlag    = errors.New("a flag that this command does not take")
	errNoPayload      = errors.New("a write without a payload")
	errFlushRange     = errors.New("a flush has neither offset nor length")
	errReadOnly       = errors.New("the export is read-only")
	errTooLong        = fmt.Errorf("more than %d bytes in one request", blocktree.NBDPayloadBytesMax)
	errOutside        = errors.New("past the end of the device")
	errNoContext      = errors.New("no metadata context was chosen for this export")
	errBadContext     = errors.New("a metadata context that was not chosen")
	errEmpty          = errors.New("nothing is asked about")
)

// refuse returns the error of a request that must not reach the device, and why, else zero.
func (c *conn) refuse(r *request) (uint32, error) {
	size := c.dev.Size()
	outside := r.offset > size || r.length > size-r.offset
	writes := r.command == cmdWrite || r.command == cmdTrim || r.command == cmdWriteZeroes
	data := r.command == cmdRead || r.command == cmdWrite
	switch {
	case !writes && r.command != cmdRead && r.command != cmdFlush && r.command != cmdCache && r.command != cmdBlockStatus:
		return nbdEINVAL, errUnknownCommand
	case r.command == cmdBlockStatus && c.agreed.metaExport == "":
		return nbdEINVAL, errNoContext
	case r.flags&^c.agreed.style.knownFlags(r.command) != 0:
		return nbdEINVAL, errUnknownFlag
	case c.agreed.style == extended && r.command == cmdWrite && r.flags&cmdFlagPayloadLen == 0:
		return nbdEINVAL, errNoPayload
	case r.command == cmdFlush && (r.offset != 0 || r.length != 0):
		return nbdEINVAL, errFlushRange
	case r.command == cmdBlockStatus && r.flags&cmdFlagPayloadLen != 0 && r.context != metaContextID: // or its payload is unread
		return nbdEINVAL, errBadContext
	case r.command == cmdBlockStatus && r.length == 0:
		return nbdEINVAL, errEmpty
	case writes && c.export.ReadOnly:
		return nbdEPERM, errReadOnly
	case r.command == cmdRead && r.length > blocktree.NBDPayloadBytesMax && c.agreed.style != compact:
		return nbdEOVERFLOW, errTooLong
	case data && r.length > blocktree.NBDPayloadBytesMax:
		return nbdEINVAL, errTooLong
	case outside && (r.command == cmdWrite || r.command == cmdWriteZeroes):
		return nbdENOSPC, errOutside
	case outside:
		return nbdEINVAL, errOutside
	}
	return 0, nil
}

// knownFlags are those that a command takes. FUA is taken by every one; it means nothing where nothing is written.
func (s style) knownFlags(command uint16) uint16 {
	known := cmdFlagFUA
	switch {
	case command == cmdWriteZeroes:
		known |= cmdFlagNoHole | cmdFlagFastZero
	case command == cmdRead && s != compact:
		known |= cmdFlagDF
	case command == cmdBlockStatus:
		known |= cmdFlagReqOne
	}
	if s == extended && (command == cmdWrite || command == cmdBlockStatus) {
		known |= cmdFlagPayloadLen
	}
	return known
}

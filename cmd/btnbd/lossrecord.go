package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"blocktree"
)

// lossRecord says under which loss number an export was last offered, in which boot of this machine, and which file it was then.
type lossRecord struct {
	path blocktree.Path
	file blocktree.FileID
	boot string // or anyBoot
	loss uint64
}

// anyBoot is the boot of clients that may be on other machines: every one counts as the same.
const anyBoot = "any"

// lossRecordBytesMax is far above what a record with the longest path has.
const lossRecordBytesMax = 16 << 10

const lossRecordTitle = "blocktree loss record 1\n"

// encode writes a record for people to read, with a checksum.
func (r lossRecord) encode() []byte {
	text := fmt.Sprintf("%spath %s\nfile %v\nboot %s\nloss %d\n", lossRecordTitle, r.path, r.file, r.boot, r.loss)
	return fmt.Appendf(nil, "%ssum %x\n", text, sha256.Sum256([]byte(text)))
}

// decodeLossRecord reads what encode writes, to the byte. Kind Corrupt.
func decodeLossRecord(text []byte) (lossRecord, error) {
	bad := blocktree.E("loss record", blocktree.Corrupt, errors.New("it is damaged, or of another version"))
	lines := strings.Split(string(text), "\n")
	if len(text) > lossRecordBytesMax || len(lines) != 7 {
		return lossRecord{}, bad
	}
	var r lossRecord
	r.path = blocktree.Path(strings.TrimPrefix(lines[1], "path "))
	r.boot = strings.TrimPrefix(lines[3], "boot ")
	if _, err := fmt.Sscanf(lines[2], "file %d.%d", &r.file.Generation, &r.file.Inode); err != nil {
		return lossRecord{}, bad
	}
	if _, err := fmt.Sscanf(lines[4], "loss %d", &r.loss); err != nil {
		return lossRecord{}, bad
	}
	if string(r.encode()) != string(text) { // which checks the title, the sum, and everything that was read leniently
		return lossRecord{}, bad
	}
	return r, nil
}

// passed says why a device that was offered as r says, and not closed cleanly, must not go on as now says, or "". Where every client,
// of then and of now, is on this machine, none has outlived another boot of it.
func (r lossRecord) passed(now lossRecord, clientsHere bool) string {
	switch {
	case r.path != now.path:
		return fmt.Sprintf("the record of this export is that of %s", r.path)
	case clientsHere && r.boot != anyBoot && r.boot != now.boot:
		return ""
	case r.file != now.file:
		return fmt.Sprintf("it was another file, %v, when it was last served; now it is %v", r.file, now.file)
	case r.loss != now.loss:
		return fmt.Sprintf("writes that were acknowledged and not flushed may be gone: loss number %d, it was %d when it was last served", now.loss, r.loss)
	}
	return ""
}

package tree

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"blocktree"
)

// Root is what is remembered of a record: enough to tell whether another one came after it. The zero Root is that of no record.
type Root struct {
	Generation uint32 // of the key, from 1 on
	Number     uint64
	Line       uint64
	Random     [16]byte
	Hash       [16]byte // the beginning of the record's
}

// Root is what is to be remembered of the record.
func (r *Record) Root() Root {
	hash := r.Hash()
	return Root{r.Generation, r.Number, r.Line, r.Random, [16]byte(hash[:16])}
}

// IsZero reports whether it is that of no record.
func (r Root) IsZero() bool { return r == Root{} }

// String writes the root as ParseRoot reads it, "none" for that of no record.
func (r Root) String() string {
	if r.IsZero() {
		return "none"
	}
	text := fmt.Sprintf("%d-%d-%x-%x", r.Number, r.Line, r.Random, r.Hash)
	if r.Generation > 1 { // else it is as versions before wrote it
		text += fmt.Sprintf("-%d", r.Generation)
	}
	return text
}

// ParseRoot reads what String writes, to the letter. Kind Invalid.
func ParseRoot(text string) (Root, error) {
	r := Root{Generation: 1}
	var random, hash string
	format, into := "%d-%d-%32s-%32s", []any{&r.Number, &r.Line, &random, &hash}
	if strings.Count(text, "-") == 4 {
		format, into = format+"-%d", append(into, &r.Generation)
	}
	_, err := fmt.Sscanf(text, format, into...)
	if err == nil {
		_, err = hex.Decode(r.Random[:], []byte(random))
	}
	if err == nil {
		_, err = hex.Decode(r.Hash[:], []byte(hash))
	}
	if text == "none" {
		return Root{}, nil
	}
	if err != nil || r == (Root{Generation: 1}) || r.Generation == 0 || r.String() != text {
		return Root{}, &blocktree.Error{Op: "root", Kind: blocktree.Invalid, Err: fmt.Errorf("%.128q is no root", text),
			Hint: "write one as btnode file stat prints it: number, line, twice 32 hexadecimal digits, and the key's generation if that is not the first, with - between"}
	}
	return r, nil
}

// Follows says why now, nil for no record, is neither the record that r is of nor one that came after it, or returns nil. t has now's roots. Kind Corrupt says so; others are those of pages.
func (r Root) Follows(now *Record, t *Tree, pages Pages) error {
	stale := func(format string, args ...any) error {
		return &blocktree.Error{Op: "integrity", Kind: blocktree.Corrupt, Err: fmt.Errorf("rollback detected: "+format, args...)}
	}
	other := errors.New("rollback detected: what is there comes after another past than the one that was seen, or is demanded")
	switch {
	case r.IsZero():
		return nil
	case now == nil:
		return stale("there is no record, and record %d was seen, or is demanded", r.Number)
	case now.Generation < r.Generation:
		return stale("the newest record is of key generation %d, and one of generation %d was seen, or is demanded", now.Generation, r.Generation)
	case now.Number < r.Number:
		return stale("the newest record is %d, and record %d was seen, or is demanded", now.Number, r.Number)
	case now.Number == r.Number && now.Root() == r:
		return nil
	case now.Number == r.Number, now.Line < r.Line, now.Line == r.Line && now.Random != r.Random:
		return blocktree.E("integrity", blocktree.Corrupt, other)
	case now.Line == r.Line:
		return nil
	}
	end, err := t.LineEnd(r.Line, pages)
	if err != nil {
		return err
	}
	if end.Random != r.Random || end.Number < r.Number {
		return blocktree.E("integrity", blocktree.Corrupt, other)
	}
	return nil
}

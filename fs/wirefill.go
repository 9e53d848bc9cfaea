package fs

import (
	"errors"
	"slices"
	"time"

	"blocktree"
	"blocktree/internal/wire"
)

// Formats of what fills a directory.
const (
	formatWhole     = 1
	formatMadeWhole = 1
	formatUseOther  = 2 // of one that says that nothing was made
	formatFilling   = 1
	formatMkdirFill = 1
)

// fillTermMax is the longest term that a client believes.
const fillTermMax = time.Minute

// encodeWhole writes the request to make a whole file: that to make an empty one, and what it carries.
func encodeWhole(r *pathRequest) []byte {
	var e wire.Encoder
	e.U8(formatWhole)
	e.Bytes(r.encode())
	e.U64(uint64(r.whole.wrote))
	e.Bytes(r.whole.content)
	return e.Buf
}

// decodeWhole reads what encodeWhole wrote. What it carries is a copy.
func decodeWhole(b []byte) (pathRequest, error) {
	d := wire.NewDecoder(b)
	d.Format(formatWhole)
	request, w := d.Bytes(len(b)), &whole{wrote: int64(d.U64()), content: slices.Clone(d.Bytes(blocktree.MountHeldBytesMax))}
	if err := d.Finish(); err != nil {
		return pathRequest{}, &blocktree.Error{Op: "fs request", Err: err}
	}
	r, err := decodePath(request)
	if err != nil {
		return pathRequest{}, err
	}
	r.whole = w
	return r, nil
}

func putFilling(e *wire.Encoder, f *Filling) {
	e.U8(formatFilling)
	e.File(f.Dir)
	e.U64(uint64(f.Term))
	e.U32(uint32(len(f.Spares)))
	for _, id := range f.Spares {
		e.File(id)
	}
}

func getFilling(d *wire.Decoder) (f Filling) {
	d.Format(formatFilling)
	f.Dir = d.File()
	term := d.U64()
	if term > uint64(fillTermMax) {
		d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New("a term that is too long")))
	}
	f.Term = time.Duration(term)
	for n := d.Count(blocktree.FSFillSparesMax); n > 0 && d.Err() == nil; n-- {
		id := d.File()
		if id == (blocktree.FileID{}) {
			d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New("a spare that is none")))
		}
		f.Spares = append(f.Spares, id)
	}
	return f
}

func encodeFilling(f *Filling) []byte {
	var e wire.Encoder
	putFilling(&e, f)
	return e.Buf
}

func decodeFilling(b []byte) (Filling, error) {
	d := wire.NewDecoder(b)
	f := getFilling(d)
	if err := d.Finish(); err != nil {
		return Filling{}, &blocktree.Error{Op: "fs filling", Err: err}
	}
	return f, nil
}

// encodeMadeWhole writes what was made, and what its maker is granted anew.
func encodeMadeWhole(i *Info, f *Filling) []byte {
	var e wire.Encoder
	e.U8(formatMadeWhole)
	putInfo(&e, i)
	putFilling(&e, f)
	return e.Buf
}

// encodeUseOther writes that nothing was made, and the spares that the file may be asked for with.
func encodeUseOther(f *Filling) []byte {
	var e wire.Encoder
	e.U8(formatUseOther)
	putFilling(&e, f)
	return e.Buf
}

// decodeMadeWhole reads what encodeMadeWhole wrote, or encodeUseOther: ErrOtherSpare.
func decodeMadeWhole(b []byte) (Info, Filling, error) {
	d := wire.NewDecoder(b)
	if len(b) > 0 && b[0] == formatUseOther {
		d.Format(formatUseOther)
		f := getFilling(d)
		if d.Err() == nil && len(f.Spares) == 0 {
			d.Fail(blocktree.E("fs", blocktree.Invalid, errors.New("the service's answer makes no sense")))
		}
		if err := d.Finish(); err != nil {
			return Info{}, Filling{}, &blocktree.Error{Op: "fs made", Err: err}
		}
		return Info{}, f, ErrOtherSpare
	}
	d.Format(formatMadeWhole)
	i, f := getInfo(d), getFilling(d)
	if d.Err() == nil && (i.Dir || i.Link || i.ID == (blocktree.FileID{})) {
		d.Fail(blocktree.E("fs", blocktree.Invalid, errors.New("the service's answer makes no sense")))
	}
	if err := d.Finish(); err != nil {
		return Info{}, Filling{}, &blocktree.Error{Op: "fs made", Err: err}
	}
	return i, f, nil
}

// encodeMkdirFill writes what there is to say of a directory that was made, nil: nothing, and what its maker is granted.
func encodeMkdirFill(i *Info, f *Filling) []byte {
	var e wire.Encoder
	e.U8(formatMkdirFill)
	e.Bool(i != nil)
	if i != nil {
		putInfo(&e, i)
	}
	putFilling(&e, f)
	return e.Buf
}

// decodeMkdirFill reads what encodeMkdirFill wrote. The Info has no ID if there is none.
func decodeMkdirFill(b []byte) (i Info, f Filling, err error) {
	d := wire.NewDecoder(b)
	d.Format(formatMkdirFill)
	told := d.Bool()
	if told {
		i = getInfo(d)
	}
	f = getFilling(d)
	if d.Err() == nil && told && (!i.Dir || i.ID == (blocktree.FileID{}) || f.Term > 0 && f.Dir != i.ID) {
		d.Fail(blocktree.E("fs", blocktree.Invalid, errors.New("the service's answer makes no sense")))
	}
	if err := d.Finish(); err != nil {
		return Info{}, Filling{}, &blocktree.Error{Op: "fs made", Err: err}
	}
	return i, f, nil
}

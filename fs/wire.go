package fs

import (
	"errors"

	"blocktree"
	"blocktree/internal/wire"
)

// Formats, each the version byte of what it names.
const (
	formatPath   = 1
	formatOnly   = 2 // of one to make a file of no other identity than it names
	formatFile   = 1
	formatAgain  = 2 // of one of a write, or of a hole, that is done only as long as nobody else has come to write the file
	formatInfo   = 1
	formatLength = 2 // of an Info with another length than its size; versions before refuse it
	formatTimes  = 3 // of one with a time of change of its own, or of a symbolic link, likewise
	formatList   = 1
	formatOpened = 1
	formatUnder  = 2 // of what was opened with flagTell, if it says under which epoch
	formatRename = 1
	formatRemove = 1
	formatMade   = 1
)

// Flags of a pathRequest.
const (
	flagWrite = 1 << iota // open: to read and write
	flagPlain             // create: not encrypted; open to write: known not to be
	flagKeep              // rename: what has the name already stays
	flagAnew              // open to write: nobody of the caller's principal may have it so
	flagTell              // open to write, make: the answer says under which epoch, if nobody else writes it
	flagFlush             // create, make: of durability flush
	flagSpare             // make: the file that it is to be follows, and the directory that is meant

	flagsAll = 1<<iota - 1
)

// pathRequest asks something about a path. Which fields matter depends on the code; the others are zero.
type pathRequest struct {
	path        blocktree.Path
	after       string // list: entries after this name
	limit       uint32 // list: at most so many, and at most ListEntriesMax; 0 means that
	flags       uint8
	mode        uint32 // create, mkdir
	sizeBytes   uint64 // create, resize
	sectorBytes uint32 // create
	code        blocktree.Code
	to          blocktree.Path   // rename, which has a request of its own
	file        blocktree.FileID // remove of a file that is named, likewise; with flagSpare
	dir         blocktree.FileID // with flagSpare: of which the file is to be; zero: whatever has the path
	attr        attrRequest      // of codes about attributes, likewise
	whole       *whole           // make whole, likewise
	only        bool             // make and open, make whole: nothing is made but of the identity of flagSpare
}

func (r *pathRequest) encode() []byte {
	var e wire.Encoder
	if r.only {
		e.U8(formatOnly)
	} else {
		e.U8(formatPath)
	}
	e.String(string(r.path))
	e.String(r.after)
	e.U32(r.limit)
	e.U8(r.flags)
	e.U32(r.mode)
	e.U64(r.sizeBytes)
	e.U32(r.sectorBytes)
	putCode(&e, r.code)
	if r.flags&flagSpare != 0 {
		e.File(r.file)
		e.File(r.dir)
	}
	return e.Buf
}

// decodePath reads a pathRequest. Its path is absolute and clean.
func decodePath(b []byte) (pathRequest, error) {
	d := wire.NewDecoder(b)
	only := len(b) > 0 && b[0] == formatOnly
	if only {
		d.Format(formatOnly)
	} else {
		d.Format(formatPath)
	}
	r := pathRequest{only: only, path: blocktree.Path(d.String(blocktree.PathBytesMax)), after: d.String(blocktree.NameBytesMax), limit: d.U32(), flags: d.U8(),
		mode: d.U32(), sizeBytes: d.U64(), sectorBytes: d.U32(), code: getCode(d)}
	if r.flags&^flagsAll != 0 {
		d.Fail(blocktree.E("decode", blocktree.NewerFormat, errors.New("a flag that this software does not know")))
	}
	if r.mode&^0o777 != 0 {
		d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New("a mode has nine bits")))
	}
	if r.sectorBytes > blocktree.SectorBytesMax {
		d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New("a sector that is too large")))
	}
	if r.flags&flagSpare != 0 {
		if r.file = d.File(); r.file == (blocktree.FileID{}) {
			d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New("no spare is named")))
		}
		r.dir = d.File()
	}
	if err := d.Finish(); err != nil {
		return pathRequest{}, &blocktree.Error{Op: "fs request", Err: err}
	}
	if clean, err := blocktree.ParsePath(string(r.path), blocktree.Principal{}); err != nil || clean != r.path {
		return pathRequest{}, &blocktree.Error{Op: "fs request", Kind: blocktree.Invalid, Err: errors.New("a path that is not clean")}
	}
	return r, nil
}

// encodeRename writes the request of a rename: what it needs of a pathRequest.
func encodeRename(r *pathRequest) []byte {
	var e wire.Encoder
	e.U8(formatRename)
	e.String(string(r.path))
	e.String(string(r.to))
	e.U8(r.flags)
	return e.Buf
}

// decodeRename reads what encodeRename wrote. Its paths are absolute and clean.
func decodeRename(b []byte) (pathRequest, error) {
	d := wire.NewDecoder(b)
	d.Format(formatRename)
	r := pathRequest{path: blocktree.Path(d.String(blocktree.PathBytesMax)), to: blocktree.Path(d.String(blocktree.PathBytesMax)), flags: d.U8()}
	if r.flags&^flagKeep != 0 {
		d.Fail(blocktree.E("decode", blocktree.NewerFormat, errors.New("a flag that this software does not know")))
	}
	if err := d.Finish(); err != nil {
		return pathRequest{}, &blocktree.Error{Op: "fs request", Err: err}
	}
	for _, p := range []blocktree.Path{r.path, r.to} {
		if clean, err := blocktree.ParsePath(string(p), blocktree.Principal{}); err != nil || clean != p {
			return pathRequest{}, &blocktree.Error{Op: "fs request", Kind: blocktree.Invalid, Err: errors.New("a path that is not clean")}
		}
	}
	return r, nil
}

// encodeRemove writes the request to remove a file that is named.
func encodeRemove(r *pathRequest) []byte {
	var e wire.Encoder
	e.U8(formatRemove)
	e.String(string(r.path))
	e.File(r.file)
	return e.Buf
}

// decodeRemove reads what encodeRemove wrote. Its path is absolute and clean, and it names a file.
func decodeRemove(b []byte) (pathRequest, error) {
	d := wire.NewDecoder(b)
	d.Format(formatRemove)
	r := pathRequest{path: blocktree.Path(d.String(blocktree.PathBytesMax)), file: d.File()}
	if err := d.Finish(); err != nil {
		return pathRequest{}, &blocktree.Error{Op: "fs request", Err: err}
	}
	if r.file == (blocktree.FileID{}) {
		return pathRequest{}, &blocktree.Error{Op: "fs request", Kind: blocktree.Invalid, Err: errors.New("no file is named")}
	}
	if clean, err := blocktree.ParsePath(string(r.path), blocktree.Principal{}); err != nil || clean != r.path {
		return pathRequest{}, &blocktree.Error{Op: "fs request", Kind: blocktree.Invalid, Err: errors.New("a path that is not clean")}
	}
	return r, nil
}

// encodeMade writes which file was made.
func encodeMade(id blocktree.FileID) []byte {
	var e wire.Encoder
	e.U8(formatMade)
	e.File(id)
	return e.Buf
}

// decodeMade reads what encodeMade wrote; nothing, as a service of a version before answers, is no file.
func decodeMade(b []byte) (id blocktree.FileID, err error) {
	if len(b) == 0 {
		return id, nil
	}
	d := wire.NewDecoder(b)
	d.Format(formatMade)
	id = d.File()
	return id, d.Finish()
}

// decodeAbout reads the request of a code that is about paths.
func decodeAbout(code uint16, b []byte) (pathRequest, error) {
	switch {
	case code == codeRename:
		return decodeRename(b)
	case code == codeRemoveFile:
		return decodeRemove(b)
	case code == codeMakeWhole:
		return decodeWhole(b)
	case ofAttribute(code):
		a, err := decodeAttr(b)
		return pathRequest{path: a.path, attr: a}, err
	}
	return decodePath(b)
}

// fileRequest asks something of an open file.
type fileRequest struct {
	handle uint64
	off    uint64 // read, write, punch
	count  uint32 // read, punch: bytes
	again  bool   // write, punch: it was written before, and is again if nobody else has come to write the file since that was opened
}

func (r fileRequest) encode() []byte {
	var e wire.Encoder
	if r.again {
		e.U8(formatAgain)
	} else {
		e.U8(formatFile)
	}
	e.U64(r.handle)
	e.U64(r.off)
	e.U32(r.count)
	return e.Buf
}

// decodeFile reads a fileRequest. Its count is within the bound of reads.
func decodeFile(b []byte) (fileRequest, error) { return decodeUpTo(b, blocktree.FSTransferBytesMax) }

// decodePunch reads the fileRequest of a hole: its count carries nothing, and has a bound of its own.
func decodePunch(b []byte) (fileRequest, error) { return decodeUpTo(b, blocktree.FSPunchBytesMax) }

// decodeOfHandle reads the request of a code that is about an open file.
func decodeOfHandle(code uint16, b []byte) (fileRequest, error) {
	decode := decodeFile
	if code == codePunch {
		decode = decodePunch
	}
	r, err := decode(b)
	if err == nil && r.again && code != codePunch && code != codeWrite {
		return fileRequest{}, &blocktree.Error{Op: "fs request", Err: blocktree.E("decode", blocktree.Invalid, errors.New("it is not done again"))}
	}
	return r, err
}

func decodeUpTo(b []byte, max uint32) (fileRequest, error) {
	d := wire.NewDecoder(b)
	again := len(b) > 0 && b[0] == formatAgain
	if again {
		d.Format(formatAgain)
	} else {
		d.Format(formatFile)
	}
	r := fileRequest{handle: d.U64(), off: d.U64(), count: d.U32(), again: again}
	if r.count > max {
		d.Fail(blocktree.E("decode", blocktree.TooLarge, errors.New("more bytes than one request is about")))
	}
	if err := d.Finish(); err != nil {
		return fileRequest{}, &blocktree.Error{Op: "fs request", Err: err}
	}
	return r, nil
}

func putCode(e *wire.Encoder, c blocktree.Code) {
	e.U8(uint8(c.Data))
	e.U8(uint8(c.Parity))
}

func getCode(d *wire.Decoder) blocktree.Code {
	return blocktree.Code{Data: int(d.U8()), Parity: int(d.U8())}
}

// What an Info of formatTimes has beside the rest.
const (
	infoLength = 1 << iota
	infoChanged
	infoLink

	infoAll = 1<<iota - 1
)

func putInfo(e *wire.Encoder, i *Info) {
	mask := infoMask(i)
	switch {
	case mask&^infoLength != 0:
		e.U8(formatTimes)
		e.U8(mask)
	case mask != 0:
		e.U8(formatLength)
	default:
		e.U8(formatInfo)
	}
	if mask&infoLength != 0 {
		e.U64(i.Length)
	}
	if mask&infoChanged != 0 {
		e.U64(uint64(i.Changed))
	}
	e.File(i.ID)
	e.Bool(i.Dir)
	e.U32(i.Mode)
	e.U32(i.UID)
	e.U32(i.GID)
	e.U64(uint64(i.Created))
	e.U64(uint64(i.Modified))
	if i.Dir || i.Link {
		return
	}
	e.U64(i.SizeBytes)
	e.U32(uint32(i.SectorBytes))
	putCode(e, i.Code)
	e.Bool(i.Encrypted)
}

// infoMask says what of an Info is not what it would be by the rest.
func infoMask(i *Info) (mask uint8) {
	if i.Length != i.SizeBytes {
		mask |= infoLength
	}
	if i.Changed != i.Modified {
		mask |= infoChanged
	}
	if i.Link {
		mask |= infoLink
	}
	return mask
}

func getInfo(d *wire.Decoder) Info {
	mask := getInfoFormat(d)
	var i Info
	if mask&infoLength != 0 {
		i.Length = d.U64()
	}
	if mask&infoChanged != 0 {
		i.Changed = int64(d.U64())
	}
	i.ID, i.Dir, i.Link, i.Mode, i.UID, i.GID, i.Created, i.Modified = d.File(), d.Bool(), mask&infoLink != 0, d.U32(), d.U32(), d.U32(), int64(d.U64()), int64(d.U64())
	if mask&infoChanged == 0 {
		i.Changed = i.Modified
	}
	if !i.Dir && !i.Link {
		i.SizeBytes, i.SectorBytes, i.Code, i.Encrypted = d.U64(), int(d.U32()), getCode(d), d.Bool()
		if mask&infoLength == 0 {
			i.Length = i.SizeBytes
		}
	}
	if d.Err() == nil {
		checkInfo(d, &i, mask)
	}
	return i
}

// getInfoFormat reads the format of an Info, and which of its fields follow.
func getInfoFormat(d *wire.Decoder) (mask uint8) {
	switch format := d.U8(); {
	case format == formatTimes:
		if mask = d.U8(); mask&^infoAll != 0 {
			d.Fail(blocktree.E("decode", blocktree.NewerFormat, errors.New("a description of a newer version")))
		}
		if mask&^infoLength == 0 && d.Err() == nil {
			d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New("a description that is another format's")))
		}
	case format == formatLength:
		mask = infoLength
	case format > formatTimes:
		d.Fail(blocktree.E("decode", blocktree.NewerFormat, errors.New("a description of a newer version")))
	case format != formatInfo && d.Err() == nil:
		d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New("not a description")))
	}
	return mask
}

// checkInfo refuses what nothing is like.
func checkInfo(d *wire.Decoder, i *Info, mask uint8) {
	end := i.SizeBytes
	if i.Link {
		end = blocktree.LinkBytesMax + 1
	}
	switch {
	case i.SizeBytes > blocktree.FileBytesMax || i.SectorBytes > blocktree.SectorBytesMax:
		d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New("impossible sizes")))
	case i.Dir && i.Link:
		d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New("a directory that is a symbolic link")))
	case mask&infoLength != 0 && i.Length >= end || i.Link && i.Length == 0:
		d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New("an impossible length")))
	case mask&infoChanged != 0 && i.Changed == i.Modified:
		d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New("a time that says nothing")))
	}
}

func encodeInfo(i *Info) []byte {
	var e wire.Encoder
	putInfo(&e, i)
	return e.Buf
}

func decodeInfo(b []byte) (Info, error) {
	d := wire.NewDecoder(b)
	i := getInfo(d)
	return i, d.Finish()
}

func encodeOpened(handle uint64, i *Info) []byte {
	var e wire.Encoder
	e.U8(formatOpened)
	e.U64(handle)
	putInfo(&e, i)
	return e.Buf
}

func decodeOpened(b []byte) (handle uint64, i Info, err error) {
	handle, i, _, err = decodeUnder(b)
	return handle, i, err
}

// encodeUnder is encodeOpened of what is written under epochs that are told.
func encodeUnder(handle uint64, i *Info, u epochs) []byte {
	if u.held == 0 {
		return encodeOpened(handle, i)
	}
	var e wire.Encoder
	e.U8(formatUnder)
	e.U64(handle)
	e.U64(uint64(u.held))
	e.U64(uint64(u.written))
	putInfo(&e, i)
	return e.Buf
}

// decodeUnder reads what encodeOpened or encodeUnder wrote.
func decodeUnder(b []byte) (handle uint64, i Info, u epochs, err error) {
	d := wire.NewDecoder(b)
	format := d.U8()
	switch {
	case format > formatUnder:
		d.Fail(blocktree.E("decode", blocktree.NewerFormat, errors.New("what was opened, of a newer version")))
	case format == 0 && d.Err() == nil:
		d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New("not what was opened")))
	}
	handle = d.U64()
	if format == formatUnder {
		u = epochs{blocktree.Epoch(d.U64()), blocktree.Epoch(d.U64())}
		if d.Err() == nil && u.written >= u.held {
			d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New("epochs out of order")))
		}
	}
	i = getInfo(d)
	return handle, i, u, d.Finish()
}

// encodeEntries writes as many entries as fit a message's body, at least one, and whether there are more.
func encodeEntries(entries []Entry, more bool) []byte {
	const entryMax = 128 + blocktree.NameBytesMax
	var e wire.Encoder
	e.U8(formatList)
	at := len(e.Buf)
	e.Bool(more)
	e.U32(0)
	n := uint32(0)
	for i := range entries {
		if len(e.Buf) > blocktree.FrameBodyBytesMax-entryMax {
			e.Buf[at] = 1
			break
		}
		e.String(entries[i].Name)
		putInfo(&e, &entries[i].Info)
		n++
	}
	e.Buf[at+1], e.Buf[at+2], e.Buf[at+3], e.Buf[at+4] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
	return e.Buf
}

// decodeEntries reads a listing: names ascend.
func decodeEntries(b []byte) (entries []Entry, more bool, err error) {
	d := wire.NewDecoder(b)
	d.Format(formatList)
	more = d.Bool()
	for n := d.Count(blocktree.ListEntriesMax); n > 0 && d.Err() == nil; n-- {
		entry := Entry{Name: d.String(blocktree.NameBytesMax), Info: getInfo(d)}
		if d.Err() == nil && blocktree.CheckName(entry.Name) != nil {
			d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New("an impossible name")))
		}
		if len(entries) > 0 && entries[len(entries)-1].Name >= entry.Name {
			d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New("names out of order")))
		}
		entries = append(entries, entry)
	}
	if err := d.Finish(); err != nil {
		return nil, false, &blocktree.Error{Op: "fs listing", Err: err}
	}
	return entries, more, nil
}

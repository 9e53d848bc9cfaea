package fs

import (
	"context"
	"errors"

	"blocktree"
	"blocktree/internal/wire"
)

// Formats of what is about attributes, each the version byte of what it names.
const (
	formatAttr   = 1
	formatOfFile = 2 // of an attrRequest that says which file is meant: it ends with that
	formatTarget = 1
	formatXattr  = 1
	formatXattrs = 1
)

// attrRequest asks something about an attribute of what a path names. Which fields matter depends on the code; the others are zero.
type attrRequest struct {
	path  blocktree.Path
	name  string // of an extended attribute
	value string // of an extended attribute; the target of a symbolic link
	how   SetHow
	time  int64 // set times: nanoseconds since 1970, or TimeNow
	// file is what is meant, whatever the path names; zero: what that names.
	file blocktree.FileID
}

func (r *attrRequest) encode() []byte {
	var e wire.Encoder
	ofFile := r.file != (blocktree.FileID{})
	if ofFile {
		e.U8(formatOfFile)
	} else {
		e.U8(formatAttr)
	}
	e.String(string(r.path))
	e.String(r.name)
	e.Bytes([]byte(r.value))
	e.U8(uint8(r.how))
	e.U64(uint64(r.time))
	if ofFile {
		e.File(r.file)
	}
	return e.Buf
}

// decodeAttr reads an attrRequest. Its path is absolute and clean.
func decodeAttr(b []byte) (attrRequest, error) {
	d := wire.NewDecoder(b)
	ofFile := len(b) > 0 && b[0] == formatOfFile
	if ofFile {
		d.Format(formatOfFile)
	} else {
		d.Format(formatAttr)
	}
	r := attrRequest{path: blocktree.Path(d.String(blocktree.PathBytesMax)), name: d.String(blocktree.XattrNameBytesMax), value: string(d.Bytes(blocktree.XattrsBytesMax)), how: SetHow(d.U8()), time: int64(d.U64())}
	if ofFile {
		if r.file = d.File(); d.Err() == nil && r.file == (blocktree.FileID{}) {
			d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New("no file")))
		}
	}
	if r.how >= setEnd {
		d.Fail(blocktree.E("decode", blocktree.NewerFormat, errors.New("a way to set that this software does not know")))
	}
	if err := d.Finish(); err != nil {
		return attrRequest{}, &blocktree.Error{Op: "fs request", Err: err}
	}
	if clean, err := blocktree.ParsePath(string(r.path), blocktree.Principal{}); err != nil || clean != r.path {
		return attrRequest{}, &blocktree.Error{Op: "fs request", Kind: blocktree.Invalid, Err: errors.New("a path that is not clean")}
	}
	return r, nil
}

// attr asks something about an attribute that changes nothing, again while the answer is Unavailable.
func (c *Client) attr(ctx context.Context, code uint16, r *attrRequest) (b []byte, err error) {
	err = retry(ctx, func() error {
		b, err = c.attrOnce(ctx, code, r)
		return err
	})
	return b, err
}

// attrOnce asks for a change, once, as askOnce does.
func (c *Client) attrOnce(ctx context.Context, code uint16, r *attrRequest) ([]byte, error) {
	if r.file != (blocktree.FileID{}) {
		return c.requestOf(ctx, r.file, r.path.Parent(), code, r.encode())
	}
	return c.request(ctx, r.path.Parent(), code, r.encode())
}

func encodeTarget(target string) []byte {
	var e wire.Encoder
	e.U8(formatTarget)
	e.String(target)
	return e.Buf
}

func decodeTarget(b []byte) (string, error) {
	d := wire.NewDecoder(b)
	d.Format(formatTarget)
	target := d.String(blocktree.LinkBytesMax)
	if d.Err() == nil && target == "" {
		d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New("a link to nothing")))
	}
	return target, d.Finish()
}

func encodeXattr(value []byte) []byte {
	var e wire.Encoder
	e.U8(formatXattr)
	e.Bytes(value)
	return e.Buf
}

func decodeXattr(b []byte) ([]byte, error) {
	d := wire.NewDecoder(b)
	d.Format(formatXattr)
	v := append([]byte{}, d.Bytes(blocktree.XattrsBytesMax)...)
	return v, d.Finish()
}

func encodeXattrNames(names []string) []byte {
	var e wire.Encoder
	e.U8(formatXattrs)
	e.U32(uint32(len(names)))
	for _, n := range names {
		e.String(n)
	}
	return e.Buf
}

// decodeXattrNames reads names, which ascend.
func decodeXattrNames(b []byte) (names []string, err error) {
	d := wire.NewDecoder(b)
	d.Format(formatXattrs)
	for n := d.Count(blocktree.XattrsMax); n > 0 && d.Err() == nil; n-- {
		name := d.String(blocktree.XattrNameBytesMax)
		if d.Err() == nil && (name == "" || len(names) > 0 && names[len(names)-1] >= name) {
			d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New("names out of order")))
		}
		names = append(names, name)
	}
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return names, nil
}

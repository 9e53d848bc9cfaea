package fs

import (
	"context"
	"errors"
	"time"

	"blocktree"
	"blocktree/internal/dispatch"
)

// Directories whose names a client makes by itself for a while: docs/design/0086-filled-directories.md.

// Filling is what a service grants to who fills a directory.
type Filling struct {
	// Term is for how long, from before it was asked for, nobody else is let make a name in the directory, or told that there is none: zero, not at all, and not again.
	Term time.Duration
	// Dir is the directory that the term is of: another one at its path has none. Zero with no term.
	Dir blocktree.FileID
	// Spares are identities that this client may make files with, each once, in whatever directory of this service.
	Spares []blocktree.FileID
}

// ErrOtherSpare is in an error of MakeOpen or MakeWhole that says that nothing was made, as the service does not have the Spare for this client, or not any more: the file is to be asked for with another one.
var ErrOtherSpare error = blocktree.E("fs", blocktree.StaleView, errors.New("the file is to be asked for with another spare"))

// Whole is what a file is made of by one request.
type Whole struct {
	Spare   blocktree.FileID // the identity that it is to have, of a Filling; zero: one is asked for
	Wrote   int64            // when it was written last, in nanoseconds since 1970, not later than now; 0: now
	Content []byte           // MountHeldBytesMax at most
}

// Filler is an optional ability of who opens files.
type Filler interface {
	// Fill asks for the right to make names in a directory without asking, which this client has made, and for so many spares at most of the shape that o says. What is asked about the directory while the term runs goes to the service that granted it. Kinds: Unsupported (it is not to be had, now or ever; a service of a version before), and those of Create.
	Fill(ctx context.Context, dir blocktree.Path, o CreateOptions, spares int) (Filling, error)
	// MakeWhole makes a file exclusively, writes its content and closes it, by one request: when it returns without an error what was written is durable, and others see it. It is asked once: after Unavailable or Undeliverable it may be there, whole, also later. Who asks again says the same Spare, and no other request was asked with that: if it was done it is so answered; Exists is that it has not that identity, but maybe one that it was asked for with before. ErrOtherSpare says that nothing was made, as the Spare is not to be had, or no more (FSFillSpareFor): it is to be asked for again with one of those of the Filling (docs/design/0089). The Filling is what goes on in its directory, and spares in the place of those that were used. The Info says the identity: of a service of a version before it may be another one. Kinds: those of Create, of WriteAt and Flush; NotFound also where another directory than the one that was filled has its path; Unsupported (a service of a version before; there are no spares; more than o.SizeBytes), and nothing was done.
	MakeWhole(ctx context.Context, path blocktree.Path, o CreateOptions, w Whole) (Info, Filling, error)
}

// DirFiller is an optional ability of a Filler.
type DirFiller interface {
	// MkdirFill is Mkdir, and, by the same request, Stat and Fill of what it made, as far as nobody is asked or waited for: an Info without an ID, and a Filling without a term, say nothing. It is asked once, as Mkdir. Kinds: those of Mkdir; Unsupported (a service of a version before), and nothing was done.
	MkdirFill(ctx context.Context, dir blocktree.Path, mode uint32, o CreateOptions, spares int) (Info, Filling, error)
}

var (
	_ Filler    = (*Client)(nil)
	_ DirFiller = (*Client)(nil)
)

// requestToFill asks for a term, and for spares.
func requestToFill(dir blocktree.Path, o CreateOptions, spares int) *pathRequest {
	o.Spare = blocktree.FileID{}
	r := requestToMake(dir, o)
	r.limit = uint32(max(0, min(spares, blocktree.FSFillSparesMax)))
	return r
}

// Fill implements Filler.
func (c *Client) Fill(ctx context.Context, dir blocktree.Path, o CreateOptions, spares int) (Filling, error) {
	r := requestToFill(dir, o, spares)
	asked := time.Now()
	answer, err := c.dispatch(ctx, dir, dispatch.Message{Code: codeFill, Body: r.encode()})
	if err != nil {
		return Filling{}, failed("fill", dir, err)
	}
	defer answer.Release()
	f, err := decodeFilling(answer.Body)
	if err != nil {
		return Filling{}, failed("fill", dir, err)
	}
	c.fillings.note(dir, &f, asked, &answer)
	return f, nil
}

// MkdirFill implements DirFiller.
func (c *Client) MkdirFill(ctx context.Context, dir blocktree.Path, mode uint32, o CreateOptions, spares int) (Info, Filling, error) {
	r := requestToFill(dir, o, spares)
	r.mode = mode
	asked := time.Now()
	answer, err := c.dispatch(ctx, dir.Parent(), dispatch.Message{Code: codeMkdirFill, Body: r.encode()})
	if err != nil {
		return Info{}, Filling{}, failed("mkdir", dir, err)
	}
	defer answer.Release()
	info, f, err := decodeMkdirFill(answer.Body)
	if err != nil {
		return Info{}, Filling{}, failed("mkdir", dir, err)
	}
	c.fillings.note(dir, &f, asked, &answer)
	return info, f, nil
}

// MakeWhole implements Filler.
func (c *Client) MakeWhole(ctx context.Context, path blocktree.Path, o CreateOptions, w Whole) (Info, Filling, error) {
	o.Spare = w.Spare
	r := requestToMake(path, o)
	r.whole, r.dir, r.only = &whole{w.Wrote, w.Content}, c.fillings.meant(path, o), true
	if len(w.Content) > blocktree.MountHeldBytesMax {
		return Info{}, Filling{}, failed("create", path, blocktree.E("fs", blocktree.TooLarge, errors.New("more than one request makes")))
	}
	asked := time.Now()
	var answer dispatch.Answer
	err := r.asKnown(func() (err error) {
		if !r.only && r.flags&flagSpare == 0 { // nobody would know of what identity it is
			return blocktree.E("fs", blocktree.Unsupported, errors.New("a service of a version before names no spares"))
		}
		answer, err = c.dispatch(ctx, path.Parent(), dispatch.Message{Code: codeMakeWhole, Body: encodeWhole(r)})
		return err
	})
	if err != nil {
		return Info{}, Filling{}, failed("create", path, err)
	}
	defer answer.Release()
	info, f, err := decodeMadeWhole(answer.Body)
	if err != nil && err != ErrOtherSpare {
		return Info{}, Filling{}, failed("create", path, err)
	}
	c.fillings.note(path.Parent(), &f, asked, &answer)
	return info, f, failed("create", path, err)
}

package fs

import (
	"context"
	"time"

	"blocktree"
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

// Whole is what a file is made of by one request.
type Whole struct {
	Spare   blocktree.FileID // the identity that it is to have, of a Filling; zero: any
	Wrote   int64            // when it was written last, in nanoseconds since 1970, not later than now; 0: now
	Content []byte           // MountHeldBytesMax at most
}

// Filler is an optional ability of who opens files.
type Filler interface {
	// Fill asks for the right to make names in a directory without asking, which this client has made, and for so many spares at most of the shape that o says. Kinds: Unsupported (it is not to be had, now or ever; a service of a version before), and those of Create.
	Fill(ctx context.Context, dir blocktree.Path, o CreateOptions, spares int) (Filling, error)
	// MakeWhole makes a file exclusively, writes its content and closes it, by one request: when it returns without an error what was written is durable, and others see it. It is asked once: after Unavailable or Undeliverable it may be there, whole; then it has the identity Spare, if the directory was filled. The Filling is what goes on in its directory, and spares in the place of those that were used. Kinds: those of Create, of WriteAt and Flush; Unsupported (a service of a version before), and nothing was done.
	MakeWhole(ctx context.Context, path blocktree.Path, o CreateOptions, w Whole) (Info, Filling, error)
}

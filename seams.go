package blocktree

import (
	"context"
	"time"
)

// FileInfo describes an open file.
type FileInfo struct {
	ID          FileID
	Path        Path
	SizeBytes   uint64 // a whole number of sectors
	SectorBytes int
	Code        Code
	ReadOnly    bool
}

// Sectors is the number of sectors of the file.
func (i FileInfo) Sectors() uint64 { return i.SizeBytes / uint64(i.SectorBytes) }

// File is an open file as a run of whole sectors: what blockdev makes a device of. Every sector is atomic and
// linearizable on its own. All methods may be called by many goroutines at once; none keeps a slice it was given.
// Errors are *Error of kinds Invalid, OutOfRange, ReadOnly, NoSpace, Unavailable, Fenced, Corrupt, Canceled, Closed, Lost.
type File interface {
	// Info describes the file. It does not block. What changes is the size, if the file is a Sizer.
	Info() FileInfo
	// ReadSectors fills dst, a whole number of sectors, from sector first on. Sectors never written, trimmed or
	// zeroed read as zeros. It blocks until enough shards verify or ctx ends. On an error dst holds no promise.
	ReadSectors(ctx context.Context, first SectorIndex, dst []byte) error
	// WriteSectors stores src, a whole number of sectors. When it returns nil the sectors are on every in-sync
	// member (durably so in mode ack). After an error each sector is the old one or the new one.
	WriteSectors(ctx context.Context, first SectorIndex, src []byte) error
	// ZeroSectors makes count sectors read as zeros, at a cost that does not grow with count beyond its regions.
	ZeroSectors(ctx context.Context, first SectorIndex, count uint64) error
	// Flush returns when every write that was answered before the call would survive the loss of power everywhere.
	Flush(ctx context.Context) error
	// Close waits for what is in flight and releases the lease. Later calls fail with Closed.
	Close() error
}

// Sizer is an optional ability of a File: its size may change while it is open (docs/design/0021), and SizeBytes tells what it is as far as the file has
// heard. It does not block. What a larger size adds reads as zeros.
type Sizer interface{ SizeBytes() uint64 }

// WriteForgetter is an optional ability of a File: to leave the time of the file alone that somebody sets, as far as it was written to before (docs/design/0058).
type WriteForgetter interface {
	// ForgetWrites has none of these writes noted after it returned: a note that is on its way is waited for (Unavailable, where ctx ends before). again takes it back, for who could not set the time.
	ForgetWrites(ctx context.Context) (again func(), err error)
}

// Shrinker is an optional ability of a File: to be made smaller while it is open, as somebody else asks for (docs/design/0047). FollowShrink has do called, once at a time, with the size in
// bytes that is asked for, again while it fails and is still asked for, until stop, which ends a call and waits for it. do comes to Shrink: from then on the file ends there for whoever asks it; what lies behind is zeros, should
// it grow again. After an error it has the size of before, and maybe zeros behind the one asked for; where it is closed before the outcome is known, it ends there as long as it is open. FollowShrink returns nil where it is not possible.
type Shrinker interface {
	FollowShrink(do func(ctx context.Context, bytes uint64) error) (stop func())
	Shrink(ctx context.Context, bytes uint64) error
}

// Ender is an optional ability of a File that is open for writing: to move the byte at which reading it as bytes ends, and the size to have room for that (docs/design/0059). All are durable when they return.
type Ender interface {
	// Grow makes the file at least so large, rounded up to sectors, and returns when it goes by that. What is new reads as zeros. Kinds: TooLarge, Unavailable, Fenced, ReadOnly.
	Grow(ctx context.Context, bytes uint64) error
	// SetEnd moves the end, which is said to be at byte was, within the size, and returns where it is: also with StaleView, which says that it was elsewhere, and is there still. After Unavailable nobody knows. The next call settles that first.
	SetEnd(ctx context.Context, was, bytes uint64) (now uint64, err error)
	// End asks where the end is, and whether it was ever moved: else it is the size, whatever that is.
	End(ctx context.Context) (bytes uint64, own bool, err error)
}

// EndCloser is an optional ability of an Ender: to close it and move the end by one step (docs/design/0067).
type EndCloser interface {
	// CloseEnd is Flush, SetEnd and Close. Others see the end move only when all before it is durable. After an error they may see it where it was. Nobody uses the file from then on, whatever is returned. Kinds: those of Flush and SetEnd.
	CloseEnd(ctx context.Context, was, bytes uint64) error
}

// Epocher is an optional ability of a File that is open for writing: to say under which epoch it is held, and the newest one before that under which it may have been written: under those between nobody has changed a byte of it. Zero where nothing is known. It does not block.
type Epocher interface {
	Epochs() (held, written Epoch)
}

// Hearer is an optional ability of a File that is a Sizer: to ask for the size at once, for who knows that it has become larger.
type Hearer interface {
	Hear(ctx context.Context) error
}

// ZeroWriter is an optional ability of a File: to say whether its ZeroSectors writes zeros as any data, at the same cost and into as much room, so that trimming is not worth
// asking for. It does not block.
type ZeroWriter interface{ WritesZeros() bool }

// ReadStarter is an optional ability of a File: to read without a goroutine that waits. StartRead is ReadSectors for few
// sectors and a caller that goes on at once. It returns false, and does nothing, where it cannot serve the request so; then
// ReadSectors can, or says what is wrong. Otherwise it does not block, and r hears of the end exactly once, maybe before StartRead
// returns, on a goroutine that must not be held up.
type ReadStarter interface {
	StartRead(first SectorIndex, dst []byte, r Started) bool
}

// WriteStarter is an optional ability of a File: WriteSectors of few sectors, for a caller that goes on at once. StartWrite
// returns false, and does nothing, where it cannot serve the request so. Otherwise src is not used any more when it returns;
// it does not block, and done is called once when the write has ended, maybe before, on a goroutine that must not be held up.
type WriteStarter interface {
	StartWrite(first SectorIndex, src []byte, done func(error)) bool
}

// LossNumberer is an optional ability of a File: to say under which loss number it is open. A file of durability flush gets the next
// number when what was acknowledged and not flushed may be gone; then everything fails with Lost until it is opened again, under
// that number (docs/design/0014). Whoever keeps anything of a file beyond its opening compares. One of durability ack has 0 for ever.
type LossNumberer interface {
	// LossNumber does not block, but where the file is open for reading only and nothing was read yet: that asks the cluster.
	LossNumber(ctx context.Context) (uint64, error)
}

// Started is who hears of a request that was started. Claim is called once, before dst is touched; where it returns false
// the request was given up: dst is left alone and End is not called. End is called once after a Claim that returned true; with a
// nil error dst is filled.
type Started interface {
	Claim() bool
	End(err error)
}

// Batcher is an optional ability of a File that is a ReadStarter or WriteStarter: to do for many requests at once what each of them costs
// those beneath. None of its methods blocks for long.
type Batcher interface {
	// Cork may hold back what requests send to others until Uncork, which the same goroutine calls soon, and before it waits for anything.
	Cork()
	Uncork()
	// AfterBatch is for Started.End and the done of a write: f is called once when all those that end together have ended, on a
	// goroutine that must not be held up. It reports false, and does nothing, where that is not known.
	AfterBatch(f func()) bool
}

// Extent is a run of sectors of a file that are alike.
type Extent struct {
	Count uint64
	Zero  bool // a hole: the sectors read as zeros, and take no room. Else nothing is said of their content
}

// Extenter is an optional ability of a File: to tell, without reading sectors, where its holes are. Extents returns from 1 to most
// extents, one behind the other from sector first on and together count sectors at most: maybe fewer, and then the rest is asked
// for again. A hole is one at some moment of the call, as what a read returns is. count and most are positive. It blocks until enough
// members have answered or ctx ends; its cost does not grow with the size of a hole beyond its regions.
type Extenter interface {
	Extents(ctx context.Context, first SectorIndex, count uint64, most int) ([]Extent, error)
}

// Clock is the time as a layer sees it; tests own one that stands still.
type Clock interface {
	// Now is the wall clock, for people; its monotonic part measures intervals.
	Now() time.Time
	// Boot is the time since an arbitrary start, suspended time included (CLOCK_BOOTTIME), for leases.
	Boot() time.Duration
}

// Runtime is where a runtime can be reached and who it must prove to be.
type Runtime struct {
	Path      Path
	Principal Principal
	Node      NodeID   // its store, zero where it hosts no sectors
	Endpoints []string // "host:port", the same port for QUIC (UDP) and lanes (TCP)
	Services  []string
}

// Services that a runtime may register.
const (
	ServiceSector     = "sector"     // hosts sectors and metadata of its directory's cluster
	ServiceFilesystem = "filesystem" // files by path, decrypted for those who may read them and have no key (docs/design/0030)
)

// Resolver answers the two queries of DESIGN section 8. Answers are hints: the credentials of the runtime that is
// reached prove them. It may block until ctx ends; NotFound where nothing registers the service.
type Resolver interface {
	// InScope returns every runtime directly in directory scope that registers the service.
	InScope(ctx context.Context, scope Scope, service string) ([]Runtime, error)
	// Closest looks from scope toward the root and returns the runtimes of the first directory that has any.
	Closest(ctx context.Context, scope Scope, service string) ([]Runtime, error)
}

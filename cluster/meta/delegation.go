package meta

import (
	"fmt"

	"blocktree"
	"blocktree/internal/wire"
)

// Delegation says, on the inode of a directory, which cluster keeps its entries (docs/design/0033).
type Delegation struct {
	Generation blocktree.Generation
	Founder    blocktree.NodeID // the store that began the cluster
	// HandedOver is set once the cluster has said that it has every entry. From then on others may join it, and its founder never begins anew.
	HandedOver bool
}

// Redirect says who answers, where another cluster does: for what is at or below Dir, or, with Dir above the asked cluster's own directory, for what is not below that. With
// File set what was asked for is that file: its home is the cluster of its generation, which need not be said.
type Redirect struct {
	Dir        blocktree.Path // the directory of the cluster to be asked; none with File
	Generation blocktree.Generation
	Runtimes   []blocktree.Runtime // sector hosts of that cluster, as far as is known; at most RedirectRuntimesMax
	File       blocktree.FileID
}

// Bounds of what has to do with delegation, each with its reason.
const (
	// RedirectRuntimesMax is as many runtimes as are worth asking one after the other.
	RedirectRuntimesMax = 16
	// GenerationsMax bounds the clusters of a domain, FoundersMax the stores that have tried to found the cluster of one directory: each try costs a number for ever.
	GenerationsMax = 1 << 18
	FoundersMax    = 64
	// TakeEntriesMax and takeBytesMax bound what moves over in one command; DropEntriesMax what is dropped by one.
	TakeEntriesMax = 256
	takeBytesMax   = blocktree.RaftCommandMax / 2
	// aboveBytesMax bounds what a child is told of what is above it, which is one command there.
	aboveBytesMax  = blocktree.RaftCommandMax / 2
	DropEntriesMax = 1024
	// SpentMax bounds the stores of clusters whose directories were taken back: they are kept for ever, eight bytes each, and each taking back is said by user id 0.
	SpentMax = 4096
)

// redirect is the refusal that carries a redirect.
func redirect(r *Redirect, what string) Result {
	out := refuse(blocktree.Elsewhere, "%s", what)
	out.Redirect = r
	return out
}

// delegated is set in the kind of an inode where a Delegation follows the times, and in that of an entry whose directory has one. Versions before refuse both: there are no such kinds.
const delegatedFlag = 0x20

func putDelegation(e *wire.Encoder, d *Delegation) {
	e.U64(uint64(d.Generation))
	e.U64(uint64(d.Founder))
	e.Bool(d.HandedOver)
}

func getDelegation(d *wire.Decoder) *Delegation {
	v := &Delegation{Generation: blocktree.Generation(d.U64()), Founder: blocktree.NodeID(d.U64()), HandedOver: d.Bool()}
	if d.Err() == nil && (v.Generation == 0 || v.Founder == 0) {
		bad(d, "a delegation to nobody")
	}
	return v
}

func putRedirect(e *wire.Encoder, r *Redirect) {
	putPath(e, r.Dir)
	e.U64(uint64(r.Generation))
	putRuntimes(e, r.Runtimes[:min(len(r.Runtimes), RedirectRuntimesMax)])
	e.File(r.File)
}

func getRedirect(d *wire.Decoder) *Redirect {
	r := &Redirect{Dir: getPath(d), Generation: blocktree.Generation(d.U64()), Runtimes: getRuntimes(d), File: d.File()}
	if d.Err() == nil && (len(r.Runtimes) > RedirectRuntimesMax || (r.Dir == "") == (r.File == blocktree.FileID{})) {
		bad(d, "an impossible redirect")
	}
	return r
}

// rootward redirects to the cluster above.
func (s *state) rootward(what string) Result {
	a := s.above()
	if a == nil { // nobody has told it yet
		return refuse(blocktree.Unavailable, "the cluster has not heard of its parent yet").hinted("ask again in a moment")
	}
	return redirect(&Redirect{Dir: a.Parent, Generation: a.Generation, Runtimes: a.Runtimes}, what+" is kept by the cluster of "+a.Parent.Short())
}

// nearer redirects to the cluster of a delegated directory.
func (s *state) nearer(dir blocktree.Path, f blocktree.FileID, what string) Result {
	r := &Redirect{Dir: dir}
	if i := s.inode(f); i != nil && i.Delegation != nil {
		r.Generation = i.Delegation.Generation
	}
	for _, x := range s.below(dir) {
		if IsSectorHost(x) && len(r.Runtimes) < RedirectRuntimesMax {
			r.Runtimes = append(r.Runtimes, x)
		}
	}
	return redirect(r, what+" is kept by the cluster of "+dir.Short())
}

// outside redirects rootward what is not of this cluster: all that is not below its directory, and the inode of that.
func (s *state) outside(sb *Superblock, p blocktree.Path, inside bool) (Result, bool) {
	if !sb.Child || p.Root() != sb.Dir.Root() || len(p) > blocktree.PathBytesMax || p.Within(sb.Dir) && (inside || p != sb.Dir) {
		return Result{}, false
	}
	return s.rootward(p.Short()), true
}

// elsewhere redirects an op that is about a file of another generation, or about a sector host in another cluster's directory. Ops about paths are redirected
// where they follow them (walk).
func (s *state) elsewhere(o Op) Result {
	switch o := o.(type) {
	case PutRuntime:
		return s.hostElsewhere(o.Runtime.Path)
	case RemoveRuntime:
		return s.hostElsewhere(o.Path)
	case ReplaceHost:
		return s.hostElsewhere(o.Path)
	case RetireHost:
		return s.hostElsewhere(o.Path)
	case DrainHost:
		return s.hostElsewhere(o.Path)
	case AssignGeneration:
		return s.rootOnly()
	}
	if f, ok := fileOf(o); ok {
		if r := s.moving(f); r.Kind != blocktree.Other {
			return r
		}
		return s.fileElsewhere(f)
	}
	return Result{}
}

// moving refuses what is to be done with a directory or symbolic link, known by its id, that is on its way to a child: what the child has taken already nobody would take again. It has another id there, by which it is refused until the child has been told that
// what it has is what there is.
func (s *state) moving(f blocktree.FileID) (r Result) {
	if i := s.inode(f); i == nil || i.Kind == KindFile {
		return r
	}
	if sb := s.superblock(); sb != nil && sb.Taking != TakingNothing {
		return refuse(blocktree.Unavailable, "the cluster of %s is taking its directory over", sb.Dir.Short()).hinted("ask again in a moment")
	}
	s.upward(f.Inode, func(n blocktree.Inode) bool {
		d := s.inode(blocktree.FileID{Generation: f.Generation, Inode: n})
		if n != f.Inode && d != nil && d.Delegation != nil {
			r = refuse(blocktree.Unavailable, "the directory is on its way to a cluster of its own").hinted("ask again in a moment, by its path")
		}
		return r.Kind == blocktree.Other
	})
	return r
}

// About is the path or the file that an op is about, by which it is known which cluster is asked; neither of one that is about the cluster itself. An op about a runtime
// has that runtime's path.
func About(o Op) (blocktree.Path, blocktree.FileID) {
	if f, ok := fileOf(o); ok {
		return "", f
	}
	switch o := o.(type) {
	case MakeDir:
		return o.Path, blocktree.FileID{}
	case CreateFile:
		return o.Path, blocktree.FileID{}
	case MakeDirKept:
		return o.Path, blocktree.FileID{}
	case NameFile:
		return o.Path, blocktree.FileID{}
	case CreateHeld:
		return o.Path, blocktree.FileID{}
	case CreateFlushFile:
		return o.Path, blocktree.FileID{}
	case CreateTreeFile:
		return o.Path, blocktree.FileID{}
	case Remove:
		return o.Path, blocktree.FileID{}
	case Rename:
		return o.From, blocktree.FileID{}
	case RenameOver:
		return o.From, blocktree.FileID{}
	case Unlink:
		return o.Path, blocktree.FileID{}
	case Symlink:
		return o.Path, blocktree.FileID{}
	case DropEntry:
		return o.Path, blocktree.FileID{}
	case BeginMove:
		return o.Path, blocktree.FileID{}
	case PutBelow:
		return o.Runtime.Path.Parent(), blocktree.FileID{}
	case RemoveBelow:
		return o.Path.Parent(), blocktree.FileID{}
	case Delegate:
		return o.Dir, blocktree.FileID{}
	case HandOver:
		return o.Dir, blocktree.FileID{}
	case HandOverSum:
		return o.Dir, blocktree.FileID{}
	case DropMoved:
		return o.Dir, blocktree.FileID{}
	case TakeBack:
		return o.Dir, blocktree.FileID{}
	case AssignGeneration:
		return blocktree.RootPath(o.Dir.Root()), blocktree.FileID{}
	case ReplaceHost:
		return o.Path, blocktree.FileID{}
	case RetireHost:
		return o.Path, blocktree.FileID{}
	case DrainHost:
		return o.Path, blocktree.FileID{}
	}
	return "", blocktree.FileID{}
}

// fileOf is the file that an op is about.
func fileOf(o Op) (blocktree.FileID, bool) {
	switch o := o.(type) {
	case SetAttr:
		return o.File, true
	case PutGrant:
		return o.File, true
	case RemoveGrant:
		return o.File, true
	case SetAccess:
		return o.File, true
	case NoteAccess:
		return o.File, true
	case Resize:
		return o.File, true
	case ResizeTree:
		return o.File, true
	case AskShrink:
		return o.File, true
	case AskShrinkTree:
		return o.File, true
	case SetLength:
		return o.File, true
	case SetEnd:
		return o.File, true
	case ReleaseEnd:
		return o.File, true
	case Forget:
		return o.File, true
	case Acquire:
		return o.File, true
	case Release:
		return o.File, true
	case ClaimLease:
		return o.File, true
	case EndClaim:
		return o.File, true
	case ChangeView:
		return o.Change.File, true
	case Anchor:
		return o.File, true
	case RemoveMoved:
		return o.File, true
	case DropCopy:
		return o.File, true
	case Depart:
		return o.File, true
	case Stay:
		return o.File, true
	case Adopt:
		return o.File, true
	case RemoveLeft:
		return o.File, true
	case EndMove:
		return o.File, true
	case Touch:
		return o.File, true
	case ReleaseAt:
		return o.File, true
	case SetTimes:
		return o.File, true
	case SetXattr:
		return o.File, true
	case PutXattrs:
		return o.File, true
	case Want:
		return o.Dir, true
	}
	return blocktree.FileID{}, false
}

// hostElsewhere redirects what is about a sector host that lies in another cluster's directory.
func (s *state) hostElsewhere(p blocktree.Path) Result {
	sb, dir := s.superblock(), p.Parent()
	if sb == nil || dir == sb.Dir || p == "" {
		return Result{}
	}
	if r, away := s.outside(sb, dir, true); away {
		return r
	}
	at, r := s.walkInto(dir)
	switch {
	case r.Redirect != nil:
		return r
	case r.Kind == blocktree.Other && len(at.missing) == 0 && at.found.away:
		return s.nearer(dir, at.found.file, p.Short())
	}
	return Result{} // the op says what is wrong
}

// fileElsewhere redirects what is about a file of another generation. Of one that nobody has given the op says that there is no such file.
func (s *state) fileElsewhere(f blocktree.FileID) Result {
	sb := s.superblock()
	if sb == nil || f.Generation == sb.Generation || f.Generation == 0 {
		return Result{}
	}
	what := fmt.Sprintf("file %v", f)
	if sb.Child {
		return s.rootward(what)
	}
	g := s.generation(f.Generation)
	if g == nil {
		return Result{}
	}
	at, r := s.walkInto(g.Dir)
	switch {
	case r.Redirect != nil:
		return r
	case r.Kind == blocktree.Other && len(at.missing) == 0 && at.found.away:
		return s.nearer(g.Dir, at.found.file, what)
	}
	return Result{}
}

// rootOnly redirects what the root cluster alone says.
func (s *state) rootOnly() Result {
	if sb := s.superblock(); sb != nil && sb.Child {
		return s.rootward("that")
	}
	return Result{}
}

// queryElsewhere is elsewhere for queries.
func (s *state) queryElsewhere(q *Query) Result {
	switch q.Kind {
	case QueryStatID, QueryToRead, QueryLayout, QueryLease, QueryShrink:
		return s.fileElsewhere(q.File)
	case QueryAllowed, QueryXattrs:
		if q.Path == "" {
			return s.fileElsewhere(q.File)
		}
	case QueryGeneration:
		return s.rootOnly()
	}
	return Result{}
}

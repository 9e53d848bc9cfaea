package mount

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/fs"
)

// Source is what a mount asks; fs.Client is one. Kinds are those of fs.Client, and all methods may be called by many goroutines at once.
type Source interface {
	Stat(ctx context.Context, path blocktree.Path) (fs.Info, error)
	ReadDirAfter(ctx context.Context, path blocktree.Path, after string, limit int) ([]fs.Entry, bool, error)
	Open(ctx context.Context, path blocktree.Path, o fs.OpenOptions) (fs.File, error)
	Create(ctx context.Context, path blocktree.Path, o fs.CreateOptions) error
	Mkdir(ctx context.Context, path blocktree.Path, mode uint32) error
	Remove(ctx context.Context, path blocktree.Path) error
	Rename(ctx context.Context, from, to blocktree.Path, keep bool) error
	Resize(ctx context.Context, path blocktree.Path, bytes uint64) error
	SetLength(ctx context.Context, path blocktree.Path, bytes uint64) error
}

// What a Source may be able to do besides.
type (
	// Moder changes the nine mode bits of a file or directory that is or was at a path, whatever its name is by now.
	Moder interface {
		SetMode(ctx context.Context, path blocktree.Path, id blocktree.FileID, mode uint32) error
	}
	// Timer changes the time of the last write, in nanoseconds since 1970; fs.TimeNow is that of the change.
	Timer interface {
		SetTimes(ctx context.Context, path blocktree.Path, modified int64) error
	}
	// Maker is Create that says which file it made; zero: it does not know.
	Maker interface {
		Make(ctx context.Context, path blocktree.Path, o fs.CreateOptions) (blocktree.FileID, error)
	}
	// Linker makes symbolic links, and reads them.
	Linker interface {
		Symlink(ctx context.Context, path blocktree.Path, target string) error
		ReadLink(ctx context.Context, path blocktree.Path) (string, error)
	}
	// Spacer says how much room there is for files of a code in the cluster of a directory.
	Spacer interface {
		Space(ctx context.Context, dir blocktree.Path, code blocktree.Code) (fs.Space, error)
	}
	// Xattrer has extended attributes, whose names begin with "user.".
	Xattrer interface {
		GetXattr(ctx context.Context, path blocktree.Path, name string) ([]byte, error)
		SetXattr(ctx context.Context, path blocktree.Path, name string, value []byte, how fs.SetHow) error
		ListXattr(ctx context.Context, path blocktree.Path) ([]string, error)
		RemoveXattr(ctx context.Context, path blocktree.Path, name string) error
	}
	// Identifier sets and tells times and attributes of a file by its identity, which is what Timer and Xattrer do by a path.
	Identifier interface {
		OfFile(path blocktree.Path, id blocktree.FileID) fs.OfFile
	}
)

var _ interface {
	Source
	Maker
	Timer
	Linker
	Xattrer
	Spacer
	Identifier
} = (*fs.Client)(nil)

// Options say how a directory is mounted. Zero fields take the defaults.
type Options struct {
	ReadOnly    bool
	Code        blocktree.Code    // of new files; the service's default
	SectorBytes int               // of new files; blocktree.SectorBytesDefault
	Durability  stripe.Durability // of new files
	Anonymous   bool              // the source asks without credentials, of which services take less
	ReadAhead   int               // how many bytes the kernel is to read ahead, where the system lets us say that; negative: as it would, and for who is anonymous; blocktree.MountReadAheadBytes
	Fill        bool              // the mount makes small files by itself in directories that it made (docs/design/0086)
	CloseLater  bool              // with Fill, the close of a new small file in a directory that the mount fills returns before it is sent; else that of each when it is durable
	Logger      *slog.Logger      // says what could not be told to any program; nil: none
}

// Mount is a directory that is shown by the kernel.
type Mount struct {
	tree   *tree
	server *fuse.Server
	dir    string
	ended  chan struct{} // closed when the kernel has let go of it
}

// tree is what all nodes of a mount share.
type tree struct {
	source   Source
	root     blocktree.Path
	uid, gid uint32
	o        Options
	requests chan struct{} // a place for each
	long     chan struct{} // likewise, for long reads beside that
	open     chan struct{} // likewise

	lockWaits chan struct{} // likewise
	namings   chan struct{} // likewise, for who names files as it is time

	fills   *fills
	later   chan struct{}   // likewise, for files that are closed and not sent
	sends   chan struct{}   // likewise, for those that are being sent
	senders sync.WaitGroup  // of these
	failing atomic.Int32    // of these, how many wait after an error
	over    context.Context // when nothing is sent any more, as the mount has ended
	giveUp  context.CancelFunc

	unnamed    unnamed
	identities identities

	writersMu sync.Mutex
	writers   map[blocktree.FileID]*writer
	kept      atomic.Int64 // bytes of writes that are kept until they are flushed
	spare     sync.Pool    // *[blocktree.MountWriteBytesMax]byte, for these
	locks     lockTable
	closings  sync.Map              // whose close a Flush is: a uint64, by the channel that it has
	notices   sync.WaitGroup        // to the kernel
	unsaved   atomic.Pointer[error] // of the last file that was closed and could not be flushed
	syncEnds  syncEnds              // guesses of what will be closed
	broken    atomic.Bool           // a writer lost its file: a write may be on its way yet
	takings   atomic.Uint64         // names that were taken from nodes
	nameless  sync.Map              // files that were removed here, or replaced, until the kernel forgets them: FileID → which taking it was, a uint64
	questions atomic.Uint64         // counts when something was asked, and opened (question, belief)

	beliefsMu sync.Mutex
	beliefs   map[blocktree.FileID]weak.Pointer[belief] // of the files that the kernel knows
}

func newTree(source Source, root blocktree.Path, o Options) *tree {
	if o.ReadAhead == 0 && !o.Anonymous { // of short reads more at a time are no faster
		o.ReadAhead = blocktree.MountReadAheadBytes
	}
	if o.SectorBytes == 0 {
		o.SectorBytes = blocktree.SectorBytesDefault
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	t := &tree{source: source, later: make(chan struct{}, blocktree.MountLaterMax), sends: make(chan struct{}, blocktree.MountLaterSendsMax), root: root, o: o, writers: map[blocktree.FileID]*writer{}, beliefs: map[blocktree.FileID]weak.Pointer[belief]{}, uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()),
		requests: make(chan struct{}, blocktree.MountRequestsMax), long: make(chan struct{}, blocktree.MountLongReadsMax), open: make(chan struct{}, blocktree.MountOpenFilesMax), lockWaits: make(chan struct{}, blocktree.MountLockWaitsMax), namings: make(chan struct{}, blocktree.MountNamingsMax)}
	t.fills = newFills(t)
	t.over, t.giveUp = context.WithCancel(context.Background())
	return t
}

// pauses between two tries.
const (
	pauseMin = 50 * time.Millisecond
	pauseMax = time.Second
)

// ask asks something, again while it may help, for MountWaitMax. No signal to the program interrupts it: what changes something may have been done, and of what looks at a file few programs expect EINTR (those of Go get signals all the time).
func (t *tree) ask(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), blocktree.MountWaitMax)
	defer cancel()
	if isLong(ctx) {
		if !take(ctx, t.long) {
			return gaveUp(ctx)
		}
		defer func() { <-t.long }()
	}
	if !take(ctx, t.requests) {
		return gaveUp(ctx)
	}
	defer func() { <-t.requests }()
	for pause := pauseMin; ; pause = min(2*pause, pauseMax) {
		err := do(ctx)
		if err != nil && ctx.Err() != nil {
			return gaveUp(ctx)
		}
		if !passing(err) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return gaveUp(ctx)
		}
	}
}

// take takes one of a number of places. It is false where there was none until ctx ended.
func take(ctx context.Context, places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// longKey is in the context of a long read.
type longKey struct{}

func isLong(ctx context.Context) bool { return ctx.Value(longKey{}) != nil }

// ofBytes is the context of a read of so many bytes.
func ofBytes(ctx context.Context, bytes int) context.Context {
	if bytes <= blocktree.MountReadBytesMax {
		return ctx
	}
	return context.WithValue(ctx, longKey{}, true)
}

// change is ask for what changes something. unsure says that an earlier try may have been done.
func (t *tree) change(ctx context.Context, do func(ctx context.Context, unsure bool) error) error {
	unsure := false
	return t.ask(ctx, func(ctx context.Context) error {
		err := do(ctx, unsure)
		unsure = unsure || passing(err) && !fs.NoService(err)
		return err
	})
}

// gaveUp is the error of a request that took too long.
func gaveUp(ctx context.Context) error { return blocktree.E("mount", blocktree.Timeout, ctx.Err()) }

// Dir mounts the directory at root on the local directory dir. It blocks until the kernel answers. Kinds: those of Source; Invalid where root is no directory; IO where the system does not mount.
func Dir(ctx context.Context, source Source, root blocktree.Path, dir string, o Options) (*Mount, error) {
	t := newTree(source, root, o)
	t.fills.clock = sinceBoot
	info, err := source.Stat(ctx, root)
	if err != nil {
		return nil, err
	}
	if !info.Dir {
		return nil, &blocktree.Error{Op: "mount", Path: root.Short(), Kind: blocktree.Invalid, Err: errors.New("not a directory"), Hint: "name the directory that the file is in"}
	}
	ino, ok := number(info.ID)
	if !ok {
		return nil, &blocktree.Error{Op: "mount", Path: root.Short(), Kind: blocktree.Unsupported, Err: errors.New("its identity does not fit an inode number")}
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return nil, &blocktree.Error{Op: "mount", Path: dir, Kind: blocktree.Invalid, Err: errors.Join(errors.New("not a directory to mount on"), err),
			Hint: "make an empty directory first; if a mount of before was killed there: fusermount -u " + dir}
	}
	cache := blocktree.MountCacheFor
	var options []string
	if o.ReadOnly {
		options = []string{"ro"}
	}
	raw := gofs.NewNodeFS(&node{tree: t, id: info.ID}, &gofs.Options{EntryTimeout: &cache, NullPermissions: true, RootStableAttr: &gofs.StableAttr{Ino: ino}})
	bytes := blocktree.MountLongReadBytesMax
	if o.Anonymous {
		bytes = blocktree.MountReadBytesMax
	}
	server, err := serve(closings{paged{raw}, t}, dir, &fuse.MountOptions{Name: "blocktree", FsName: root.Short(), Options: options, DirectMount: true, EnableLocks: true,
		MaxWrite: bytes, MaxBackground: blocktree.MountRequestsMax, DisableSplice: true}) // what is read comes from no file
	if err != nil {
		return nil, &blocktree.Error{Op: "mount", Path: dir, Kind: blocktree.IO, Err: err, Hint: "/dev/fuse is needed, and fusermount (package fuse3) for who is not root"}
	}
	if t.o.ReadAhead > 0 {
		if err := readAhead(dir, t.o.ReadAhead); err != nil && !errors.Is(err, os.ErrPermission) {
			t.o.Logger.Warn("the kernel could not be told how much to read ahead", "error", err)
		}
	}
	m := &Mount{tree: t, server: server, dir: dir, ended: make(chan struct{})}
	go func() { // ends with the mount, which Unmount or anybody else ends
		server.Wait()
		t.end()
		close(m.ended)
	}()
	return m, nil
}

// serve mounts, and answers the kernel from then on.
func serve(raw fuse.RawFileSystem, dir string, o *fuse.MountOptions) (*fuse.Server, error) {
	server, err := fuse.NewServer(raw, dir, o)
	if err != nil {
		return nil, err
	}
	go server.Serve() // ends with the mount
	return server, server.WaitMount()
}

// Ended is closed when the mount is gone, whoever took it away, and what was written is flushed.
func (m *Mount) Ended() <-chan struct{} { return m.ended }

// Unsaved is the last error of a file that could not be flushed when no program was there any more to be told. Nil: there was none.
func (m *Mount) Unsaved() error {
	if err := m.tree.unsaved.Load(); err != nil {
		return *err
	}
	return nil
}

// Unmount takes the mount away if nobody uses it, and waits until it is gone. Kind: Busy, which is why the system does not do it but for rare cases; fusermount says no more than that it failed.
func (m *Mount) Unmount() error {
	select {
	case <-m.ended:
		return nil
	default:
	}
	err := m.server.Unmount()
	if err != nil {
		select {
		case <-m.ended: // somebody else was faster
			return nil
		default:
		}
		return &blocktree.Error{Op: "unmount", Path: m.dir, Kind: blocktree.Busy, Err: err, Hint: "end what uses it; `fuser -m " + m.dir + "` names it"}
	}
	<-m.ended
	return nil
}

// end does what is left to do after the mount is gone.
func (t *tree) end() {
	t.fills.end()
	timer := time.AfterFunc(blocktree.MountWaitMax, t.giveUp)
	t.senders.Wait()
	timer.Stop()
	t.giveUp()
	t.closeAll()
	t.notices.Wait()
}

// closeAll closes what the kernel has not let go of, after the mount is gone.
func (t *tree) closeAll() {
	for {
		var w *writer
		t.writersMu.Lock()
		for _, w = range t.writers {
			w.uses = 1
			break
		}
		t.writersMu.Unlock()
		if w == nil {
			return
		}
		t.untold(w, w.release(context.Background()))
	}
}

// untold keeps the error of a file that no program can be told about any more.
func (t *tree) untold(w *writer, err error) {
	if err == nil {
		return
	}
	t.unsaved.Store(&err)
	t.o.Logger.Error("a file that was written could not be flushed", "file", t.identities.there(w.id).String(), "error", err)
}

package fs

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
	"blocktree/internal/dispatch"
)

// ClientConfig says who a client is and where filesystem services can be found.
type ClientConfig struct {
	Root        blocktree.Principal
	Key         cred.Key         // zero for an anonymous caller
	Credentials cred.Credentials // of Key; empty for an anonymous caller
	Transport   bttp.Transport
	Network     bttp.Network // nil: the machine's
	// Routes find the service that is closest to a path, rootward; nil: those of Begin, if that says where to begin, else none is found.
	Routes *cluster.Routes
	Begin  *cluster.RoutesConfig // of routes of the client's own, which ask in its name
	// Resolver names services where none is found, as a configuration does; nil: nobody does.
	Resolver blocktree.Resolver
	Logger   *slog.Logger
	Clock    blocktree.Clock // nil: the system's
}

// Client speaks to filesystem services, for each path to those that are closest to it, rootward. All methods may be called by many goroutines at once. What only looks is asked again, of another runtime
// with the service if there is one, while the answer is Unavailable: for retryFor, or until ctx ends.
type Client struct {
	cfg      ClientConfig
	endpoint *bttp.Endpoint

	dispatcher *dispatch.Dispatcher
	open       openFiles
	fillings   fillings
}

const (
	// retryFor bounds how long something is asked again.
	retryFor = 10 * time.Second
	// retryPauseMin and retryPauseMax lie between two tries.
	retryPauseMin, retryPauseMax = 20 * time.Millisecond, 500 * time.Millisecond
	// closeTimeout bounds how long Close of a file waits for the service's answer.
	closeTimeout = 10 * time.Second
)

// Dial makes a client. It asks nobody and connects to nobody; the first request does. Kinds: Invalid.
func Dial(c ClientConfig) (*Client, error) {
	endpoint, err := bttp.New(bttp.Config{Key: c.Key, Credentials: c.Credentials, Root: c.Root, Transport: c.Transport, Network: c.Network,
		Log: c.Logger, Clock: c.Clock})
	if err != nil {
		return nil, err
	}
	d := &Client{cfg: c, endpoint: endpoint}
	if c.Routes == nil && c.Begin != nil {
		if d.cfg.Routes, err = cluster.NewRoutes(*c.Begin); err != nil {
			_ = endpoint.Close() // it has no connection
			return nil, err
		}
		d.cfg.Routes.Join(endpoint)
	}
	d.dispatcher = cluster.Dispatcher(endpoint, d.cfg.Routes, c.Resolver)
	return d, nil
}

// Close ends all connections; the service closes the files that were opened.
func (c *Client) Close() error {
	if r := c.cfg.Routes; r != nil && c.cfg.Begin != nil {
		r.Leave(c.endpoint)
		_ = r.Close() // it cannot fail
	}
	c.fillings.close()
	_ = c.dispatcher.Close() // likewise
	return c.endpoint.Close()
}

// Stat describes what a path names. Kinds: NotFound, Permission, Unavailable.
func (c *Client) Stat(ctx context.Context, path blocktree.Path) (Info, error) {
	b, err := c.ask(ctx, path.Parent(), codeStat, &pathRequest{path: path})
	if err != nil {
		return Info{}, failed("stat", path, err)
	}
	info, err := decodeInfo(b)
	return info, failed("stat", path, err)
}

// ReadDirAfter returns the next entries of a directory, at most limit (0: as many as one answer has), in the order of their names, those after a name;
// more says that there are others behind them.
func (c *Client) ReadDirAfter(ctx context.Context, path blocktree.Path, after string, limit int) (entries []Entry, more bool, err error) {
	b, err := c.ask(ctx, path, codeList, &pathRequest{path: path, after: after, limit: uint32(limit)})
	if err != nil {
		return nil, false, failed("list", path, err)
	}
	entries, more, err = decodeEntries(b)
	if err == nil && (len(entries) > 0 && entries[0].Name <= after || more && len(entries) == 0) {
		err = blocktree.E("fs", blocktree.Invalid, errors.New("the service's answer makes no sense"))
	}
	return entries, more, failed("list", path, err)
}

// ReadDir returns all entries of a directory.
func (c *Client) ReadDir(ctx context.Context, path blocktree.Path) (all []Entry, err error) {
	for after, more := "", true; more; {
		var entries []Entry
		if entries, more, err = c.ReadDirAfter(ctx, path, after, 0); err != nil {
			return nil, err
		}
		all = append(all, entries...)
		if len(entries) > 0 {
			after = entries[len(entries)-1].Name
		}
	}
	return all, nil
}

// Create makes a file of zeros, which is the caller's. Kinds: Exists, NotFound (its directory), Permission, Invalid, NoSpace, Unavailable (then it may be
// there all the same).
func (c *Client) Create(ctx context.Context, path blocktree.Path, o CreateOptions) error {
	_, err := c.Make(ctx, path, o)
	return err
}

// Make is Create, and returns which file it made, for who may have to remove it again; zero where the service, of a version before, does not say.
func (c *Client) Make(ctx context.Context, path blocktree.Path, o CreateOptions) (blocktree.FileID, error) {
	o.Spare = blocktree.FileID{}
	r := requestToMake(path, o)
	var b []byte
	err := r.asKnown(func() (err error) {
		b, err = c.askOnce(ctx, codeCreate, r)
		return err
	}, flagFlush)
	if err != nil {
		return blocktree.FileID{}, failed("create", path, err)
	}
	made, err := decodeMade(b)
	return made, failed("create", path, err)
}

// Mkdir makes a directory, which is the caller's. Kinds as Create.
func (c *Client) Mkdir(ctx context.Context, path blocktree.Path, mode uint32) error {
	_, err := c.askOnce(ctx, codeMkdir, &pathRequest{path: path, mode: mode})
	return failed("mkdir", path, err)
}

// Remove removes a file or an empty directory. Who has the file open at the same service goes on with it, and its room is free when the last of them has closed it; who has it open elsewhere to read gets NotFound. Kinds: NotFound, Busy (not empty; written by another service, or a block device), Permission, Unavailable.
func (c *Client) Remove(ctx context.Context, path blocktree.Path) error {
	_, err := c.askOnce(ctx, codeRemove, &pathRequest{path: path})
	return failed("remove", path, err)
}

// RemoveFile is Remove of the file that was at a path, and of no other that is there by now: NotFound. Kinds beside those of Remove: Unsupported (a service of a version before, which does nothing then), Invalid (no file).
func (c *Client) RemoveFile(ctx context.Context, path blocktree.Path, id blocktree.FileID) error {
	_, err := c.requestOf(ctx, id, path.Parent(), codeRemoveFile, encodeRemove(&pathRequest{path: path, file: id}))
	return failed("remove", path, err)
}

// Rename has the file or directory at from be at to, in the place of what is there: a file in that of a file, which goes as by Remove, a directory in that of an empty one. With keep nothing is replaced: Exists. What is open stays open.
// Kinds: NotFound, Exists, Busy, Permission, Invalid (a directory into itself, a file over a directory or the other way round), CrossDevice (another cluster keeps a part of it), TooLarge, Unavailable (then it may have happened),
// Unsupported (a service of a version before).
func (c *Client) Rename(ctx context.Context, from, to blocktree.Path, keep bool) error {
	r := &pathRequest{path: from, to: to}
	if keep {
		r.flags = flagKeep
	}
	_, err := c.request(ctx, from.Parent(), codeRename, encodeRename(r))
	return failed("rename", from, err)
}

// Resize gives a file another size, a whole number of its sectors. What is new reads as zeros; to be made smaller it must be written by nobody, or by this service. Kinds: NotFound,
// Busy, Permission, Invalid, TooLarge, Unavailable.
func (c *Client) Resize(ctx context.Context, path blocktree.Path, bytes uint64) error {
	_, err := c.askOnce(ctx, codeResize, &pathRequest{path: path, sizeBytes: bytes})
	return cutFailed("resize", path, err)
}

// SetLength gives a file a length in bytes, at most its size: where reading and writing it ends. Nothing behind it is cleared. Who has it open learns of it within FSJudgeEvery. Kinds: NotFound, Permission,
// Invalid, Unavailable, Unsupported (a service of a version before).
func (c *Client) SetLength(ctx context.Context, path blocktree.Path, bytes uint64) error {
	_, err := c.askOnce(ctx, codeLength, &pathRequest{path: path, sizeBytes: bytes})
	return failed("set the length of", path, err)
}

// Open opens a file. It is closed, and its lease released, with the connection to the service. Kinds: NotFound, Busy (somebody else writes it),
// Permission, Invalid (a directory), Unavailable.
func (c *Client) Open(ctx context.Context, path blocktree.Path, o OpenOptions) (File, error) {
	r := &pathRequest{path: path}
	if o.Write {
		r.flags |= flagWrite
	}
	if o.Plain {
		r.flags |= flagPlain
	}
	if o.Anew && o.Write {
		r.flags |= flagAnew
	}
	if o.Tell && o.Write {
		r.flags |= flagTell
	}
	var f *remote
	err := retry(ctx, func() error {
		answer, err := c.dispatch(ctx, path.Parent(), dispatch.Message{Code: codeOpen, Body: r.encode(), Late: closeLate})
		for _, flag := range []uint8{flagTell, flagAnew} { // a service of a version before: tells nothing; where a writer is alone anyway
			if blocktree.KindOf(err) != blocktree.NewerFormat || r.flags&flag == 0 {
				continue
			}
			r.flags &^= flag
			answer, err = c.dispatch(ctx, path.Parent(), dispatch.Message{Code: codeOpen, Body: r.encode(), Late: closeLate})
		}
		if err != nil {
			return err
		}
		defer answer.Release()
		handle, info, under, err := decodeUnder(answer.Body)
		if err == nil {
			f = &remote{client: c, actor: answer.Actor(), path: path, handle: handle, info: info, under: under}
		}
		return err
	})
	if err != nil {
		return nil, failed("open", path, err)
	}
	c.open.add(f)
	return f, nil
}

// failed gives an error the path it is about.
func failed(op string, path blocktree.Path, err error) error {
	if err == nil {
		return nil
	}
	return &blocktree.Error{Op: op, Path: path.Short(), Err: err}
}

// cutFailed is failed of what takes the lease of a file, unless the service has it: hints do not come over the network.
func cutFailed(op string, path blocktree.Path, err error) error {
	if blocktree.KindOf(err) == blocktree.Busy && blocktree.HintOf(err) == "" {
		err = &blocktree.Error{Err: err, Hint: "somebody else has it open for writing, by another service or as a block device, and has to close it first; btnode file resize --shrink asks who has it to make it smaller"}
	}
	return failed(op, path, err)
}

// retry does something again, after a pause, while it is Unavailable.
func retry(ctx context.Context, do func() error) error {
	deadline, pause := time.Now().Add(retryFor), retryPauseMin
	for {
		err := do()
		if blocktree.KindOf(err) != blocktree.Unavailable || time.Now().Add(pause).After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
		pause = min(2*pause, retryPauseMax)
	}
}

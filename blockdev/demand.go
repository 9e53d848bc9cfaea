package blockdev

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"blocktree"
	"blocktree/internal/invariant"
)

// DemandOptions say what is opened on demand, and how. All functions are needed; they may be called by many goroutines.
type DemandOptions struct {
	// Name brings a name to the one form that its file has. NotFound where no export may be. It does not block.
	Name func(name string) (string, error)
	// Stat returns the size in bytes of the file that a name means, and opens nothing. NotFound where there is none.
	Stat func(ctx context.Context, name string) (uint64, error)
	// Open opens the file that a name means as a device, for reading without a lease.
	Open func(ctx context.Context, name string, readOnly bool) (*Device, error)

	ReadOnly bool          // nothing is opened for writing
	OpenMax  int           // exports that are open at a time
	Linger   time.Duration // how long one stays open that nobody uses
	Patience time.Duration // how long an opening may take
	Logger   *slog.Logger  // nil for none
}

// Demand opens exports when they are asked for and closes them when nobody has used them for a while. It is safe for use by
// many goroutines.
type Demand struct {
	o    DemandOptions
	life context.Context // of openings
	end  context.CancelFunc
	wg   sync.WaitGroup // openings and closings

	mu     sync.Mutex
	all    map[demandKey]*demanded
	closed bool
	failed error // of the first closing that failed
}

// demandKey tells apart who reads without a lease from who holds it.
type demandKey struct {
	name     string
	readOnly bool
}

// demanded is one export from the beginning of its opening to the end of its closing.
type demanded struct {
	demandKey
	ready  chan struct{} // closed when the opening has ended
	gone   chan struct{} // closed when it is not in the map any more
	err    error         // of the opening; set before ready
	export Export        // likewise

	// Guarded by Demand.mu.
	open    bool // it has been opened, and is not being closed
	closing bool
	users   int
	unused  time.Time
	timer   *time.Timer
}

// NewDemand makes one that has nothing open.
func NewDemand(o DemandOptions) *Demand {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Demand{o: o, all: make(map[demandKey]*demanded)}
	d.life, d.end = context.WithCancel(context.Background())
	return d
}

// ReadOnly reports whether nothing is opened for writing.
func (d *Demand) ReadOnly() bool { return d.o.ReadOnly }

// Name brings a name to the form that the other methods take. NotFound where no export may be.
func (d *Demand) Name(name string) (string, error) { return d.o.Name(name) }

// Describe returns what Open would, without a Device: nothing is opened.
func (d *Demand) Describe(ctx context.Context, name string, readOnly bool) (Export, error) {
	size, err := d.o.Stat(ctx, name)
	if err != nil {
		return Export{}, err
	}
	return Export{Name: name, ReadOnly: readOnly || d.o.ReadOnly, SizeBytes: size}, nil
}

// Open returns the export of a name for one user more, who calls release once when he does not need it any more. It blocks until
// the export is open, or closed and opened again, or ctx ends. Kinds: those of opening a file, Busy where OpenMax are in use, Closed, Canceled.
func (d *Demand) Open(ctx context.Context, name string, readOnly bool) (e Export, release func(), err error) {
	const op = "blockdev.Demand.Open"
	key := demandKey{name, readOnly || d.o.ReadOnly}
	for {
		x, wait, err := d.join(key)
		if err != nil {
			return Export{}, nil, &blocktree.Error{Op: op, Path: name, Err: err}
		}
		if x != nil {
			wait = x.ready
		}
		select {
		case <-wait:
		case <-ctx.Done():
			if x != nil {
				d.leave(x)
			}
			return Export{}, nil, &blocktree.Error{Op: op, Path: name, Kind: blocktree.Canceled,
				Err: errors.New("it is still being opened; ask again"), Hint: "see the server's log for what it waits for"}
		}
		switch {
		case x == nil: // there may be room now
		case x.err != nil:
			return Export{}, nil, x.err
		default:
			return x.export, sync.OnceFunc(func() { d.leave(x) }), nil
		}
	}
}

// join makes the caller a user of an export, which is opened if it is not; or it returns what to wait for before trying again.
func (d *Demand) join(key demandKey) (x *demanded, wait <-chan struct{}, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x = d.all[key]
	switch {
	case d.closed:
		return nil, nil, blocktree.E("", blocktree.Closed, nil)
	case x != nil && x.closing:
		return nil, x.gone, nil
	case x == nil && len(d.all) >= d.o.OpenMax:
		victim := d.longestUnused()
		if victim == nil {
			return nil, nil, blocktree.E("", blocktree.Busy, fmt.Errorf("%d exports are open on demand, as many as may be", len(d.all)))
		}
		d.close(victim)
		return nil, victim.gone, nil
	case x == nil:
		x = &demanded{demandKey: key, ready: make(chan struct{}), gone: make(chan struct{})}
		d.all[key] = x
		d.wg.Go(func() { d.open(x) })
	}
	x.users++
	if x.timer != nil {
		x.timer.Stop()
	}
	return x, nil, nil
}

// longestUnused returns an export that nobody uses, or one that is being closed already. d.mu is held.
func (d *Demand) longestUnused() (found *demanded) {
	for _, x := range d.all {
		if x.closing {
			return x
		}
		if x.open && x.users == 0 && (found == nil || x.unused.Before(found.unused)) {
			found = x
		}
	}
	return found
}

// open is the opening: nobody's in particular, so that who asked first may leave.
func (d *Demand) open(x *demanded) {
	x.export, x.err = d.device(x.demandKey)
	d.mu.Lock()
	defer d.mu.Unlock()
	if x.err != nil {
		level := slog.LevelWarn
		if blocktree.KindOf(x.err) == blocktree.NotFound { // any client can ask for what is not there
			level = slog.LevelDebug
		}
		d.o.Logger.Log(context.Background(), level, "export on demand not opened", "path", x.name, "readOnly", x.readOnly, "error", x.err)
		delete(d.all, x.demandKey)
		close(x.gone)
		close(x.ready)
		return
	}
	d.o.Logger.Info("export open", "path", x.name, "sizeBytes", x.export.Size(), "readOnly", x.readOnly, "onDemand", true)
	x.open = true
	close(x.ready)
	switch {
	case d.closed:
		d.close(x)
	case x.users == 0:
		d.linger(x)
	}
}

func (d *Demand) device(key demandKey) (Export, error) {
	ctx, cancel := context.WithTimeout(d.life, d.o.Patience)
	defer cancel()
	device, err := d.o.Open(ctx, key.name, key.readOnly)
	if err != nil {
		return Export{}, err
	}
	return Export{Name: key.name, Device: device, ReadOnly: device.ReadOnly()}, nil
}

// leave takes one user away.
func (d *Demand) leave(x *demanded) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x.users--
	invariant.Check(x.users >= 0, "an export was given back more often than it was taken")
	if x.users == 0 && x.open {
		d.linger(x)
	}
}

// linger closes an export that nobody uses when its time has come. d.mu is held.
func (d *Demand) linger(x *demanded) {
	if _, left, held := x.export.Device.Lease(); held && left <= 0 {
		d.close(x) // whoever asks next may have the lease, and a device that works
		return
	}
	x.unused = time.Now()
	if x.timer != nil {
		x.timer.Reset(d.o.Linger)
		return
	}
	x.timer = time.AfterFunc(d.o.Linger, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if x.users == 0 && x.open && time.Since(x.unused) >= d.o.Linger { // else it was taken since, and perhaps given back
			d.close(x)
		}
	})
}

// close begins to close an export, unless that has begun. d.mu is held.
func (d *Demand) close(x *demanded) {
	if x.closing {
		return
	}
	x.open, x.closing = false, true
	if x.timer != nil {
		x.timer.Stop()
	}
	d.wg.Go(func() {
		err := x.export.Device.Close()
		d.mu.Lock()
		defer d.mu.Unlock()
		if err != nil {
			d.o.Logger.Error("export closed with an error", "path", x.name, "error", err)
			if d.failed == nil {
				d.failed = err
			}
		} else {
			d.o.Logger.Info("export closed", "path", x.name, "readOnly", x.readOnly, "onDemand", true)
		}
		delete(d.all, x.demandKey)
		close(x.gone)
	})
}

// List returns what is open, the writable one where both are, in no order.
func (d *Demand) List() []Export {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []Export
	for _, x := range d.all {
		if writable := d.all[demandKey{x.name, false}]; x.open && (!x.readOnly || writable == nil || !writable.open) {
			list = append(list, x.export)
		}
	}
	return list
}

// Close gives up openings and closes what is open, whoever uses it. It returns the first error that closing any of them had.
func (d *Demand) Close() error {
	d.mu.Lock()
	d.closed = true
	d.end()
	for _, x := range d.all {
		if x.open {
			d.close(x)
		}
	}
	d.mu.Unlock()
	d.wg.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

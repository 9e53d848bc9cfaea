package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/nbd"
	"blocktree/cluster"
	"blocktree/cmd/internal/parts"
	"blocktree/crypto/keys"
	"blocktree/internal/cli"
	"blocktree/internal/config"
	"blocktree/internal/file"
	"blocktree/internal/vfs"
)

const (
	// leaseWait is how long a start waits for the lease of a holder that is gone: two terms and a take-over.
	leaseWait = 15 * time.Second

	// startTimeout bounds the whole start: a cluster that starts at the same time, then the lease, then recovery.
	startTimeout = 90 * time.Second

	// opensMax is how many exports are opened at a time.
	opensMax = 16
)

// serveLong is the help of serve.
const serveLong = `serve opens the files that FILE exports, making those that are absent and have a create section, and offers them over
NBD until SIGINT or SIGTERM. It prints "ready" and the URI of each export. It waits, up to 15 seconds, for the lease of a
server that had a file open and is gone; of one that is not gone it says who it is and when it renewed its lease. While the
cluster has no majority it waits up to 90 seconds; from 8 seconds on its log says what for.

With --take-over it takes such a file by force. Nobody may answer for the file twice, so this takes the 5 seconds for which the other
server was promised it; stopped meanwhile, it leaves the file to the other after 3 seconds. Then the other's clients get I/O errors,
its log says who has the file, and what it had acknowledged is here. It does not come back by itself, and exits with an error when it
is stopped. This server forces once only. Do not put --take-over where it is repeated, as in a unit file: two such servers would take turns.

A file of durability flush whose nodes lost power may lack what was acknowledged and not flushed. Its device then fails with I/O errors, also
after a restart: whatever uses it, such as a mounted file system or a virtual machine, has seen what is not there any more. End that, then
start once with --accept-loss, or --accept-loss=PATH for one export; of one on demand it is accepted when a client first asks for it. Not in
a unit file: it is a decision about that loss. Where systemd owns the socket, start by hand with --listen, stop when it is ready, start the unit.

Of a file of integrity tree the server keeps the newest root that it saw, in stateDir. If all nodes together answer with what is older, it does not
start: "rollback detected". If somebody put a copy back on purpose, start once with --accept-rollback, or --accept-rollback=PATH. --root=PATH=ROOT says
which root you know a file to have, or to have had: one that does not come after it is refused, also by a server that never saw the file. Of one on demand that
is when a client asks for it; "root" of an export in FILE does the same.

Sockets that systemd passes are used instead of listen. It logs to standard error. At SIGHUP it reads the files of the tls section again, for
connections that come from then on, and its credentials, which it does by itself, too, within a minute after their file has changed: devices
in use do not notice. It finishes what clients have in flight before it stops. btnbd exports shows who uses what. With
--metrics, or metrics.listen in FILE, it answers Prometheus at /metrics.`

func newServe() *cobra.Command {
	var file string
	var takeOver bool
	var accept, acceptRollback, roots []string
	c := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Serve the exports of a configuration in the foreground",
		Long:  serveLong,
		Example: `  btnbd serve --config /etc/blocktree/btnbd.yaml
  btnbd serve --config btnbd.yaml --listen tcp:127.0.0.1:10809 --cache off
  btnbd serve --config btnbd.yaml --metrics 9740
  btnbd serve --config btnbd.yaml --take-over
  btnbd serve --config btnbd.yaml --accept-loss=/vm/disk0
  btnbd serve --config btnbd.yaml --root=/vm/disk0=5-4-bf7f916286706af8836245bba12279f3-29b87239ff8ec28e83e16a43f7de3343`,
		DisableFlagsInUseLine: true,
	}
	f := c.Flags()
	f.StringVar(&file, "config", "", "configuration of the server (btnbd.yaml)")
	flags := serveOverlays(f)
	f.BoolVar(&takeOver, "take-over", false, "take files that another server holds from it by force, once, at the start")
	addAcceptances(c, &accept, &acceptRollback)
	f.StringArrayVar(&roots, "root", nil, "`PATH=ROOT`: a root that the file of integrity tree at PATH must have, or have had, as btnode file stat prints it")
	_ = c.MarkFlagFilename("config", "yaml") // for completion only
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := cli.RequireFlags(c, "config"); err != nil {
			return err
		}
		cfg, err := config.LoadNBD(config.Source{File: file, Flags: flags})
		if err != nil {
			return err
		}
		log, err := cli.NewLogger(c.ErrOrStderr(), cfg.Log.Level)
		if err != nil {
			return err
		}
		defer cli.Profile(log, "btnbd")()
		s := &server{cfg: cfg, log: log, takeOver: takeOver}
		if s.acceptLoss, err = acceptance(cfg, acceptLossFlag, accept); err != nil {
			return err
		}
		if s.acceptRollback, err = acceptance(cfg, acceptRollbackFlag, acceptRollback); err != nil {
			return err
		}
		if s.knownRoots, err = knownRoots(cfg, roots); err != nil {
			return err
		}
		return s.serve(c.Context(), c.OutOrStdout())
	}
	return c
}

// serve opens everything that clients and monitors connect to, and runs.
func (s *server) serve(ctx context.Context, stdout io.Writer) error {
	if err := s.loadTLS(); err != nil {
		return err
	}
	defer cli.OnHangup(s.hangup)()
	stop, err := parts.ServeMetrics(&s.cfg.Metrics, s.log, serverMetrics(&s.live))
	if err != nil {
		return err
	}
	defer stop()
	if err := s.listen(); err != nil {
		return err
	}
	return s.run(ctx, func(uris []string) error { return printReady(stdout, uris) })
}

// serveOverlays defines the flags that lie over keys of the configuration, and returns them by key.
func serveOverlays(f *pflag.FlagSet) map[string]*pflag.Flag {
	f.String("listen", "", "listen here instead of where the configuration says, unix:PATH or tcp:HOST:PORT, with tls+ or plain+ before it or not")
	f.Bool("insecure", false, "allow an address that other machines reach, though clients need not prove who they are")
	f.String("cache", "", "memory for clean sectors, a size or off")
	f.String("read-ahead", "", "how much of the cache holds what is read ahead of sequential reads, a size or off")
	f.String("log-level", "", "debug, info, warn or error")
	f.String("transport", "", "auto, quic or tcp")
	f.String("metrics", "", "answer Prometheus here, a port of loopback, HOST:PORT or unix:PATH")
	return map[string]*pflag.Flag{"listen": f.Lookup("listen"), "insecure": f.Lookup("insecure"), "cache": f.Lookup("cache"),
		"readAhead": f.Lookup("read-ahead"), "log.level": f.Lookup("log-level"), "transport": f.Lookup("transport"),
		"metrics.listen": f.Lookup("metrics")}
}

func printReady(w io.Writer, uris []string) error {
	for _, u := range uris {
		if _, err := fmt.Fprintln(w, "ready "+u); err != nil {
			return blocktree.E("print", blocktree.IO, err)
		}
	}
	return nil
}

// server serves the exports of one configuration once: listen, then run.
type server struct {
	cfg      *config.NBD
	log      *slog.Logger
	tls      *nbd.TLS // nil: none
	renewal  atomic.Pointer[parts.Renewal]
	takeOver bool // files that others hold are taken by force, once, at the start

	acceptLoss func(blocktree.Path) bool // of which exports a loss is accepted; nil: of none
	losses     *losses

	acceptRollback func(blocktree.Path) bool // of which exports it is accepted that they went back in time; nil: of none
	roots          *roots
	knownRoots     map[blocktree.Path]string // of --root

	listeners []net.Listener
	addresses []string // of the listeners, as nbd.URI takes them
	opened    atomic.Int64
	answering answering            // nil: not known
	live      atomic.Pointer[live] // nil: it does not serve yet, or any more
}

// listen takes the sockets that systemd passed, else opens those of the configuration. It fails with Busy, Permission
// and the like.
func (s *server) listen() error {
	passed, err := nbd.Activated()
	if err != nil {
		return err
	}
	for _, l := range passed {
		s.take(l, l.Addr().Network()+":"+l.Addr().String(), s.cfg.PassedTLS())
	}
	if len(passed) > 0 {
		return nil
	}
	for _, x := range s.cfg.Listeners() {
		l, err := nbd.Listen(x.Address, nbd.SocketMode)
		if err != nil {
			s.close()
			return err
		}
		s.take(l, x.Address, x.TLS)
	}
	return nil
}

// take adds a listener.
func (s *server) take(l net.Listener, address string, secure bool) {
	if secure {
		l, address = s.tls.Require(l), nbd.TLSPrefix+address
	}
	s.listeners, s.addresses = append(s.listeners, l), append(s.addresses, address)
}

// close gives up the listeners of a server that does not run.
func (s *server) close() {
	for _, l := range s.listeners {
		l.Close() // nobody was accepted
	}
}

// run serves until ctx ends. It owns the listeners. ready is called once with the URI of each export.
func (s *server) run(ctx context.Context, ready func(uris []string) error) (err error) {
	defer cli.HeapFloor(heapFloorBytes)()
	defer heapCeiling(s.cfg.CacheBytes())()
	key, err := keys.LoadReaderKey(s.cfg.ReaderKey)
	if err != nil {
		s.close()
		return err
	}
	client, err := parts.Dial(ctx, &s.cfg.Base, s.log)
	if err != nil {
		s.close()
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	renewal, err := parts.Renew(&s.cfg.Base, s.log, client.SetCredentials)
	if err != nil {
		s.close()
		return err
	}
	defer renewal.Close()
	s.renewal.Store(renewal)
	s.answering = client.Answering
	cache, err := blockdev.NewCacheAhead(s.cfg.CacheBytes(), s.cfg.ReadAheadBytes())
	if err != nil {
		s.close()
		return err
	}
	defer cache.Close()
	memory := blockdev.NewMemory(blocktree.InFlightBytesMax)
	s.losses = &losses{fs: vfs.Disk{}, dir: s.cfg.StateDir, clientsHere: allHere(s.listeners), accept: s.acceptLoss, log: s.log}
	defer func() { err = errors.Join(err, s.losses.close()) }()
	s.roots = newRoots(s.losses, s.acceptRollback, s.log)
	exports := new(blockdev.Exports)
	defer func() { err = errors.Join(err, closeExports(exports)) }()
	how := file.OpenOptions{Reader: key, Pins: s.pins(), Roots: s.roots, Logger: s.log}
	demand := s.onDemand(client, how, blockdev.Options{Cache: cache, Memory: memory})
	if demand != nil {
		defer func() { err = errors.Join(err, demand.Close()) }()
	}
	if err := s.open(ctx, exports, s.opener(client, how), blockdev.Options{Cache: cache, Memory: memory}); err != nil {
		s.close()
		return err
	}
	serving := nbd.NewServer(nbd.Config{Exports: exports, Demand: demand, Rights: rights(s.cfg), Memory: memory, Logger: s.log})
	ctl, err := startControl(s.cfg, func() report { return makeReport(s.cfg, serving.Uses()) }, s.log)
	if err != nil {
		s.close()
		return err
	}
	defer ctl.close()
	s.live.Store(&live{serving: serving, cache: cache, memory: memory, client: client})
	defer s.live.Store(nil)
	uris, err := s.uris(exports)
	if err == nil {
		err = ready(uris)
	}
	if err != nil {
		s.close()
		return err
	}
	cli.NotifyReady(s.log)
	err = serving.Serve(ctx, s.listeners...)
	cli.NotifyStopping(s.log)
	s.sayEnded(cache)
	return err
}

// sayEnded logs of what use the cache was.
func (s *server) sayEnded(cache *blockdev.Cache) {
	stats := cache.Stats()
	s.log.Info("serving ended", "cacheHits", stats.Hits, "cacheMisses", stats.Misses, "cacheStale", stats.Stale,
		"aheadHits", stats.AheadHits, "aheadRead", stats.AheadRead, "aheadUnread", stats.AheadUnread, "hitRate", fmt.Sprintf("%.3f", stats.HitRate()))
}

// pins are where this server remembers which access records it has seen, nil where it has no state directory that it may use.
func (s *server) pins() file.Pins {
	p, err := parts.OpenPins(vfs.Disk{}, s.cfg.StateDir)
	if err != nil {
		s.log.Warn("without a state directory an older access record of a file is not noticed", "stateDir", s.cfg.StateDir, "err", err)
		return nil
	}
	return p
}

// opener opens the files of the exports that FILE names.
func (s *server) opener(client *cluster.Client, how file.OpenOptions) opener {
	how.OpenOptions = cluster.OpenOptions{Wait: leaseWait, TakeOver: s.takeOver}
	return func(ctx context.Context, e *config.Export) (blocktree.File, error) {
		return parts.OpenExport(ctx, client, s.cfg, e, how)
	}
}

// opener opens the file of an export.
type opener func(ctx context.Context, e *config.Export) (blocktree.File, error)

// open opens every export as a device, opensMax at a time: each take-over waits for a node that is dead as long as for one that is
// slow. It returns when all have ended. The first error stops those that have not begun or still wait; what is open by then
// is in exports.
func (s *server) open(ctx context.Context, exports *blockdev.Exports, open opener, o blockdev.Options) error {
	startCtx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	told, stop := context.WithCancel(startCtx)
	var teller sync.WaitGroup
	teller.Go(func() { s.tellWaiting(told, time.Now()) })
	defer teller.Wait()
	defer stop()
	var first error
	var once sync.Once
	var wg sync.WaitGroup
	room := make(chan struct{}, opensMax)
	for i := range s.cfg.Exports {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			if err := s.openOne(startCtx, exports, &s.cfg.Exports[i], open, o); err != nil {
				once.Do(func() { first = err })
				cancel()
			}
		})
	}
	wg.Wait()
	if first != nil && ctx.Err() != nil {
		return context.Cause(ctx) // stopped while it started
	}
	return first
}

func (s *server) openOne(ctx context.Context, exports *blockdev.Exports, e *config.Export, open opener, o blockdev.Options) error {
	device, err := s.openDevice(ctx, e, open, o)
	if err != nil {
		return err
	}
	if err := exports.Add(blockdev.Export{Name: e.Path, Description: e.Description, Device: device, ReadOnly: e.ReadOnly}); err != nil {
		return errors.Join(err, device.Close())
	}
	s.opened.Add(1)
	s.log.Info("export open", "path", e.Path, "sizeBytes", device.Size(), "readOnly", e.ReadOnly)
	return nil
}

// openDevice opens the file of an export, a configured one or one on demand, as a device.
func (s *server) openDevice(ctx context.Context, e *config.Export, open opener, o blockdev.Options) (*blockdev.Device, error) {
	f, err := open(ctx, e)
	if err != nil {
		return nil, err
	}
	o.ReadOnly = e.ReadOnly
	if err := s.losses.admit(ctx, f, &o); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	device, err := blockdev.Open(f, o)
	if err != nil {
		err = errors.Join(err, f.Close())
		if o.Closed != nil {
			o.Closed(err)
		}
		return nil, err
	}
	return device, nil
}

// uris returns how clients reach each export on each listener.
func (s *server) uris(exports *blockdev.Exports) ([]string, error) {
	var list []string
	for _, address := range s.addresses {
		if len(s.cfg.Exports) == 0 { // whatever is asked for
			u, err := nbd.URI(address, "")
			if err != nil {
				return nil, err
			}
			list = append(list, u)
		}
		for _, e := range exports.List() {
			u, err := nbd.URI(address, e.Name)
			if err != nil {
				return nil, err
			}
			list = append(list, u)
		}
	}
	return list, nil
}

// closeExports flushes and closes every device, which gives up the leases; all at once, as each may wait for nodes that do not answer, and whoever
// stops the server does not wait for ever.
func closeExports(exports *blockdev.Exports) error {
	list := exports.List()
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, e := range list {
		wg.Go(func() { errs[i] = e.Device.Close() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/cluster/stripe"
	"blocktree/internal/cli"
	"blocktree/internal/config"
	"blocktree/internal/vfs"
)

// losses keeps, for each export of a file of durability flush, under which loss number it is served, and fails the devices that would
// otherwise go on, silently, across a loss of what they had written (docs/design/0014). Exports may be admitted side by side.
type losses struct {
	fs          vfs.FS
	dir         string
	boot        string                    // this boot of the machine
	clientsHere bool                      // nobody beyond this machine can be a client
	accept      func(blocktree.Path) bool // the loss that the file of a path had; nil: none is
	log         *slog.Logger

	mu      sync.Mutex
	lock    io.Closer       // of dir; nil until there is something to keep
	earlier map[string]bool // the records of earlier servers that this one has not gone by yet
	kept    map[blocktree.Path]*keeping
}

// keeping is what this server has open of one path: on demand that may be a device that writes and one that only reads, with one record.
type keeping struct {
	mu    sync.Mutex // held while the record is looked at or changed
	users int        // devices that are not closed, and admissions under way; guarded by losses.mu
}

// acceptAll is --accept-loss without a path.
const acceptAll = "all"

// The flags that accept what must not be passed over.
const (
	acceptLossFlag     = "accept-loss"
	acceptRollbackFlag = "accept-rollback"
)

// addAcceptances adds --accept-loss and --accept-rollback to a command without arguments.
func addAcceptances(c *cobra.Command, losses, rollbacks *[]string) {
	c.Flags().StringArrayVar(losses, acceptLossFlag, nil, "serve `PATH`, or every export, though its file lost acknowledged writes since it was last served")
	c.Flags().StringArrayVar(rollbacks, acceptRollbackFlag, nil, "serve `PATH`, or every export, though its file is older than it was, or another one")
	c.Flags().Lookup(acceptLossFlag).NoOptDefVal = acceptAll
	c.Flags().Lookup(acceptRollbackFlag).NoOptDefVal = acceptAll
	c.Args = func(c *cobra.Command, args []string) error {
		for flag, values := range map[string][]string{acceptLossFlag: *losses, acceptRollbackFlag: *rollbacks} {
			if len(args) == 1 && slices.Equal(values, []string{acceptAll}) {
				return cli.Invalid("write --"+flag+"="+args[0], "--%s %s: a path is written with =", flag, args[0])
			}
		}
		return cli.Args()(c, args)
	}
}

// acceptance reads the values of --accept-loss or --accept-rollback: of which exports that is accepted.
func acceptance(cfg *config.NBD, flag string, values []string) (func(blocktree.Path) bool, error) {
	var exported, accepted []blocktree.Path
	for _, e := range cfg.Exports {
		p, err := cfg.Resolve(e.Path)
		if err != nil {
			return nil, err
		}
		exported = append(exported, p)
	}
	onDemand := func(p blocktree.Path) bool { return onDemandHas(cfg, p) }
	for _, v := range values {
		if v == acceptAll {
			return func(p blocktree.Path) bool { return slices.Contains(exported, p) || onDemand(p) }, nil
		}
		p, err := cfg.Resolve(v)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(exported, p) && !onDemand(p) {
			return nil, cli.Invalid("name an export of the configuration, or one on demand, or none for all of them", "--%s=%s: it is not exported", flag, v)
		}
		accepted = append(accepted, p)
	}
	return func(p blocktree.Path) bool { return slices.Contains(accepted, p) }, nil
}

// allHere reports whether only processes of this machine can connect. (A tunnel is a process of this machine.)
func allHere(listeners []net.Listener) bool {
	return !slices.ContainsFunc(listeners, func(l net.Listener) bool {
		switch a := l.Addr().(type) {
		case *net.UnixAddr:
			return false
		case *net.TCPAddr:
			return !a.IP.IsLoopback()
		}
		return true
	})
}

// bootIDFile is where Linux says which boot of the machine this is. A container has that of its host, whose kernel has the devices.
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// durable is a file that says when what was written to it is durable.
type durable interface{ Durability() stripe.Durability }

// admit decides whether a device of f may be served, and sees to what has to be kept while it is; in o, whose ReadOnly is set, it says what
// becomes of the device. It is called before the export is offered. Its own errors are those of the state directory and of the cluster.
func (l *losses) admit(ctx context.Context, f blocktree.File, o *blockdev.Options) (err error) {
	now := lossRecord{path: f.Info().Path, file: f.Info().ID}
	flushes := false
	if d, ok := f.(durable); ok {
		flushes = d.Durability() == stripe.DurabilityFlush
	}
	if flushes {
		now.loss, err = lossNumber(ctx, f)
	} else if found, e := l.hasRecord(now.path); !found { // else it is of another file, that was here before
		return e
	}
	if err == nil {
		err = l.open()
	}
	if err != nil {
		return err
	}
	k := l.keep(now.path)
	defer k.mu.Unlock()
	goesOn, err := l.judge(now, flushes, o)
	if err != nil || !goesOn {
		l.leave(now.path, k)
		return err
	}
	o.Lost = func(err error) {
		short := now.path.Short()
		l.log.Error("acknowledged writes may be gone: every command of this export fails from now on", "path", short, "err", err, "hint", acceptHint(short))
	}
	readOnly := o.ReadOnly || f.Info().ReadOnly
	o.Closed = func(err error) {
		k.mu.Lock()
		defer k.mu.Unlock()
		// Who had the file for writing, and flushed, knows that all that anybody has read until now is durable, too. Who only reads does not.
		if err == nil && !readOnly && l.alone(k) {
			l.remove(now.path)
		}
		l.leave(now.path, k)
	}
	return nil
}

// judge compares what is opened with the record, and writes that. Without goesOn the device is refused, or there is nothing to keep of it. The
// caller keeps the path.
func (l *losses) judge(now lossRecord, flushes bool, o *blockdev.Options) (goesOn bool, err error) {
	now.boot = l.boot
	if !l.clientsHere {
		now.boot = anyBoot
	}
	was, why, err := l.look(now)
	if err != nil {
		return false, l.fail(err)
	}
	short := now.path.Short()
	switch {
	case why != "" && !l.accepts(now.path):
		o.Refuse = &blocktree.Error{Op: "btnbd", Path: short, Kind: blocktree.Lost, Err: errors.New(why), Hint: acceptHint(short)}
		l.log.Error("every command of this export fails until the loss is accepted", "path", short, "why", why, "hint", acceptHint(short))
		return false, nil // the record stays
	case why != "":
		l.log.Warn("loss accepted", "path", short, "that", why)
	case was != nil && was.boot == anyBoot:
		now.boot = anyBoot // its clients may come back to a server that listens beyond this machine again
	case was != nil && was.loss != now.loss:
		l.log.Warn("what was acknowledged and not flushed before this boot may be gone", "path", short, "lossNumber", now.loss, "was", was.loss)
	case was == nil && now.loss > 0:
		l.log.Info("nothing is known here of how this file was served before; it has lost writes that were acknowledged and not flushed", "path", short, "lossNumber", now.loss)
	}
	switch {
	case !flushes:
		l.remove(now.path)
	case was == nil || why != "" || *was != now:
		if err := l.write(now); err != nil {
			return false, l.fail(err)
		}
	}
	l.mu.Lock()
	delete(l.earlier, l.name(now.path))
	l.mu.Unlock()
	return flushes, nil
}

func lossNumber(ctx context.Context, f blocktree.File) (uint64, error) {
	numbered, ok := f.(blocktree.LossNumberer)
	if !ok {
		return 0, &blocktree.Error{Op: "open", Path: f.Info().Path.Short(), Kind: blocktree.Unsupported, Err: errors.New("the file does not say how often it lost writes")}
	}
	return numbered.LossNumber(ctx)
}

// hasRecord reports whether there is a record of a path. Where this user may not look, no server of his has left one.
func (l *losses) hasRecord(p blocktree.Path) (bool, error) {
	_, err := l.read(l.name(p))
	switch blocktree.KindOf(err) {
	case blocktree.NotFound, blocktree.Permission:
		return false, nil
	}
	if err != nil {
		return false, l.fail(err)
	}
	return true, nil
}

// accepts reports whether the loss that the record of a path stands for is accepted. What this server has seen itself never is: --accept-loss
// came before it.
func (l *losses) accepts(p blocktree.Path) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.earlier[l.name(p)] && l.accept != nil && l.accept(p)
}

// keep makes the caller a user of a path, and the only one that looks at its record.
func (l *losses) keep(p blocktree.Path) *keeping {
	l.mu.Lock()
	k := l.kept[p]
	if k == nil {
		k = new(keeping)
		l.kept[p] = k
	}
	k.users++
	l.mu.Unlock()
	k.mu.Lock()
	return k
}

func (l *losses) alone(k *keeping) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return k.users == 1
}

// leave takes one user away.
func (l *losses) leave(p blocktree.Path, k *keeping) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k.users--
	if k.users == 0 {
		delete(l.kept, p)
	}
}

func acceptHint(path string) string {
	return "end what uses the device, since it may have seen what is not there any more; then start the server once with --accept-loss=" + path
}

// open takes the state directory, once.
func (l *losses) open() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lock != nil {
		return nil
	}
	if l.boot == "" {
		text, err := os.ReadFile(bootIDFile)
		boot := strings.TrimSpace(string(text))
		if err == nil && (boot == "" || strings.ContainsAny(boot, " \n")) {
			err = errors.New("it makes no sense")
		}
		if err != nil {
			return &blocktree.Error{Op: "boot id", Path: bootIDFile, Kind: blocktree.IO, Err: err, Hint: "mount /proc"}
		}
		l.boot = boot
	}
	if err := l.fs.MkdirAll(l.dir); err != nil {
		return l.fail(err)
	}
	lock, err := l.fs.Lock(filepath.Join(l.dir, "lock"))
	if blocktree.KindOf(err) == blocktree.Busy {
		return &blocktree.Error{Op: "state directory", Path: l.dir, Kind: blocktree.Busy, Err: errors.New("another server uses it"),
			Hint: "end that one, or give each its own stateDir"}
	}
	if err != nil {
		return l.fail(err)
	}
	names, err := l.fs.List(l.dir)
	if err != nil {
		return l.fail(errors.Join(err, lock.Close()))
	}
	l.lock, l.earlier, l.kept = lock, make(map[string]bool), make(map[blocktree.Path]*keeping)
	for _, name := range names {
		l.earlier[filepath.Join(l.dir, name)] = true
	}
	return nil
}

// fail says what the state directory is for.
func (l *losses) fail(err error) error {
	return &blocktree.Error{Op: "state directory", Path: l.dir, Err: err,
		Hint: cmp.Or(blocktree.HintOf(err), "a file of durability flush or integrity tree needs it; set stateDir to a directory that this user may write")}
}

// close gives the directory back, after the devices were closed.
func (l *losses) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lock == nil {
		return nil
	}
	defer func() { l.lock = nil }()
	return l.lock.Close()
}

// name is the file of an export's record: paths are longer than names of files may be.
func (l *losses) name(p blocktree.Path) string { return l.file(p, "loss") }

// file is the file of what is kept of a path.
func (l *losses) file(p blocktree.Path, kind string) string {
	sum := sha256.Sum256([]byte(p))
	return filepath.Join(l.dir, fmt.Sprintf("%x.%s", sum[:16], kind))
}

// look reads the record of an export, nil if there is none, and says why the device must not go on, or "".
func (l *losses) look(now lossRecord) (was *lossRecord, why string, err error) {
	text, err := l.read(l.name(now.path))
	if blocktree.KindOf(err) == blocktree.NotFound {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	r, err := decodeLossRecord(text)
	if err != nil {
		return nil, "its loss record is damaged, or of another version: nobody knows under which loss number it was served", nil
	}
	return &r, r.passed(now, l.clientsHere), nil
}

func (l *losses) read(name string) ([]byte, error) {
	return vfs.ReadSmall(l.fs, name, lossRecordBytesMax)
}

// write replaces the record of an export. When it returns nil it is on the disk; whenever the machine or this process ends, the one before or
// this one is.
func (l *losses) write(r lossRecord) error { return l.replace(l.name(r.path), r.encode()) }

// replace puts text in the place of a file of the state directory, durably.
func (l *losses) replace(name string, text []byte) error { return vfs.Replace(l.fs, name, text) }

// remove forgets an export whose device was closed cleanly. A record that stays by an error can only ask for --accept-loss in vain.
func (l *losses) remove(p blocktree.Path) {
	err := l.fs.Remove(l.name(p))
	if err == nil {
		err = l.fs.SyncDir(l.dir)
	}
	if err != nil {
		l.log.Warn("the record of an export that was closed cleanly stays", "path", p.Short(), "err", err)
	}
}

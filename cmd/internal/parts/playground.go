package parts

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"blocktree"
	"blocktree/internal/cli"
	"blocktree/internal/config"
)

// NodesMax bounds a playground: its processes share one machine.
const NodesMax = 32

// Disk is the file that a playground has from the start.
const Disk = "/vm/disk0"

// Options say what a playground is to be. The zero value of a field but Dir means: as it is, or the default.
type Options struct {
	Dir   string
	Nodes int        // default 3
	Code  cli.Code   // default 2+1
	Size  cli.Size   // of the disk, default 1GiB
	Name  string     // the command that asks, for the comments in the files
	Given GivenFlags // which of the above somebody typed

	Durability string // of the disk, default ack
	Filesystem bool   // the nodes are filesystem services, too, and have the reader key
}

// GivenFlags says which options were typed: those must agree with a playground that is there already.
type GivenFlags struct{ Nodes, Code, Size, Durability bool }

// Playground is a domain on one machine: N nodes, an NBD server, a client, and the keys of all of them.
type Playground struct {
	Dir     string   // absolute
	Nodes   []string // the configuration file of each node
	NBD     string   // the NBD server's
	Client  string   // the client's
	Created bool     // it was made just now
	lock    *os.File
}

// Validate checks the options and fills in defaults; kinds Invalid and TooLarge, with a hint.
func (o *Options) Validate() error {
	if o.Nodes == 0 && !o.Given.Nodes {
		o.Nodes = 3
	}
	if o.Code.Data == 0 {
		o.Code.Code = blocktree.Code{Data: 2, Parity: 1}
	}
	if o.Size == 0 {
		o.Size = 1 << 30
	}
	if o.Nodes < 1 || o.Nodes > NodesMax {
		return cli.Invalid(fmt.Sprintf("use 1 to %d nodes, at least as many as the code has shards", NodesMax), "--nodes %d", o.Nodes)
	}
	if o.Code.Shards() > o.Nodes {
		return cli.Invalid(fmt.Sprintf("use --nodes %d or more, or a code of fewer shards", o.Code.Shards()),
			"code %v needs %d nodes, --nodes says %d", &o.Code, o.Code.Shards(), o.Nodes)
	}
	create := config.Create{Size: o.Size, Code: o.Code, Durability: o.Durability}
	return create.Validate(o.Nodes)
}

// Prepare validates the options, locks the directory and makes the playground in it, or reads the one that is there. It
// fails with Invalid, Busy, Exists, NotFound, Permission or IO, having changed nothing.
func Prepare(o Options) (*Playground, error) {
	wanted := o
	if err := o.Validate(); err != nil && !isPlayground(o.Dir) {
		return nil, err
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fileError("playground", o.Dir, err)
	}
	made, err := makeDir(dir)
	if err != nil {
		return nil, err
	}
	p := &Playground{Dir: dir, NBD: filepath.Join(dir, "btnbd.yaml"), Client: filepath.Join(dir, "client.yaml")}
	if p.lock, err = lockDir(dir); err != nil {
		return nil, err
	}
	if isPlayground(dir) {
		err = p.read(wanted)
	} else {
		o.Dir = dir
		err = p.generate(o)
	}
	if err != nil {
		p.Close()
		if made {
			_ = os.Remove(dir) // what was generated is gone already; the first error is the one to tell
		}
		return nil, err
	}
	return p, nil
}

// Close gives the directory back. The files stay.
func (p *Playground) Close() { p.lock.Close() }

func isPlayground(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "client.yaml"))
	return err == nil
}

// makeDir makes the directory unless it is there, and says which.
func makeDir(dir string) (made bool, err error) {
	err = os.Mkdir(dir, 0o700)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrExist):
		return false, nil
	}
	return false, cli.WithHint(fileError("playground", dir, err), "make the directory above it first, or use another --dir")
}

// lockDir takes the directory for this process alone, until the file is closed.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fileError("playground", dir, err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close() // nothing was written
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, &blocktree.Error{Op: "playground", Path: dir, Kind: blocktree.Busy,
			Err:  errors.New("another process uses this directory"),
			Hint: "stop that process, or use another --dir"}
	}
	return nil, fileError("playground", dir, err)
}

// read takes the playground that is there, if it is the one that was asked for.
func (p *Playground) read(o Options) error {
	cfg, err := config.LoadNBD(config.Source{File: p.NBD})
	if err != nil {
		return err
	}
	for i := range cfg.Cluster.Members {
		p.Nodes = append(p.Nodes, p.nodeFile(i))
	}
	differs := func(flag, asked, is string) error {
		return cli.Invalid("leave the flag out to use what is there, or use another --dir",
			"%s: the playground in %s has %s", strings.TrimSpace(flag+" "+asked), p.Dir, is)
	}
	if o.Given.Nodes && o.Nodes != len(p.Nodes) {
		return differs("--nodes", fmt.Sprint(o.Nodes), fmt.Sprint(len(p.Nodes)))
	}
	if o.Filesystem && len(cfg.Filesystems()) == 0 {
		return differs("--filesystem", "", "no filesystem services")
	}
	for _, e := range cfg.Exports {
		if e.Path != Disk || e.Create == nil {
			continue
		}
		if o.Given.Code && o.Code != e.Create.Code {
			return differs("--code", o.Code.String(), e.Create.Code.String())
		}
		if o.Given.Size && o.Size != e.Create.Size {
			return differs("--size", o.Size.String(), e.Create.Size.String())
		}
		if is := cmp.Or(e.Create.Durability, "ack"); o.Given.Durability && o.Durability != is {
			return differs("--durability", o.Durability, is)
		}
	}
	return nil
}

func (p *Playground) nodeDir(i int) string { return filepath.Join(p.Dir, fmt.Sprintf("node%d", i+1)) }

func (p *Playground) nodeFile(i int) string { return filepath.Join(p.nodeDir(i), "btnode.yaml") }

// fileError gives an error of the operating system its kind.
func fileError(op, name string, err error) error {
	kind, hint := blocktree.IO, ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		kind = blocktree.NotFound
	case errors.Is(err, fs.ErrExist):
		kind = blocktree.Exists
	case errors.Is(err, fs.ErrPermission):
		kind, hint = blocktree.Permission, "use a directory that this user may write"
	case errors.Is(err, unix.ENOSPC):
		kind = blocktree.NoSpace
	case errors.Is(err, unix.ENOTDIR):
		kind, hint = blocktree.Invalid, "name a directory"
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return &blocktree.Error{Op: op, Path: name, Kind: kind, Err: err, Hint: hint}
}

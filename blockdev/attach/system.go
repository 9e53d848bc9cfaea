package attach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"blocktree"
)

// Device is what the kernel shows of one of its NBD devices.
type Device struct {
	Index      int
	Attached   bool
	Backend    string // what it was attached to; empty where the kernel does not keep it, or was not told
	Forgets    bool   // the kernel does not keep it: it is older than 5.14, or the device was attached by ioctl
	SizeBytes  uint64
	BlockBytes uint32
	Flags      uint16 // those that show in its queue
	Queues     int    // no more than it has connections
}

// Name is the device's, as in /dev.
func (d Device) Name() string { return "nbd" + strconv.Itoa(d.Index) }

// of reports whether the device may be one that was attached to server. Where the kernel does not keep to what, nothing else can be said.
func (d Device) of(server string) bool {
	return d.Attached && (d.Backend == server || d.Backend == "" && d.Forgets)
}

// Claim is the exclusive right to a device: while it lasts, nobody mounts it.
type Claim interface {
	// Flush writes what the system has of the device, and has the server make it durable. It waits for the server as long as that takes.
	Flush() error
	// Close gives the right back.
	Close() error
}

// System is the part of a Linux machine that shows block devices and keeps what one keeper tells the next one.
type System interface {
	// Device shows one device; a number without a device is one that is not attached.
	Device(index int) (Device, error)
	// Devices shows all of them.
	Devices() ([]Device, error)
	// SetRequestTimeout sets how often the kernel looks at a request that is not answered.
	SetRequestTimeout(index int, d time.Duration) error
	// Claim fails with Busy while a file system, swap, a mapping or another such program has the device or a part of it.
	Claim(index int) (Claim, error)
	// Lock makes this process the device's keeper until release is called. It fails with Busy when there is one.
	Lock(index int) (release func(), err error)
	// Keeper is the process that keeps a device, 0 when there is none.
	Keeper(index int) (pid int, err error)
	// Save keeps a state for others to read, Load returns what was kept last, nil when there is nothing, Forget forgets it.
	Save(s *State) error
	Load(index int) (*State, error)
	Forget(index int) error
}

// Machine is this one, or in tests a directory that looks like one.
type Machine struct{ Sys, Dev, Run string }

// NewMachine returns this machine. Run is a directory of the keepers' own: those of services end with them, or belong to their users.
func NewMachine() *Machine { return &Machine{Sys: "/sys", Dev: "/dev", Run: "/run/btnbd-attach"} }

// Device reads /sys/block/nbdN.
func (m *Machine) Device(index int) (Device, error) {
	d := Device{Index: index}
	dir := filepath.Join(m.Sys, "block", d.Name())
	if _, err := os.Stat(filepath.Join(dir, "pid")); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return d, nil
		}
		return d, systemError("look at "+d.Name(), err)
	}
	d.Attached = true
	d.Backend = attribute(dir, "backend")
	_, err := os.Stat(filepath.Join(dir, "backend"))
	d.Forgets = errors.Is(err, fs.ErrNotExist)
	d.SizeBytes = number(dir, "size") << 9
	d.BlockBytes = uint32(number(dir, "queue/logical_block_size"))
	for _, f := range []struct {
		is   bool
		flag uint16
	}{
		{number(dir, "ro") != 0, FlagReadOnly},
		{attribute(dir, "queue/write_cache") == "write back", FlagFlush},
		{number(dir, "queue/fua") != 0, FlagFUA},
		{number(dir, "queue/discard_max_bytes") != 0, FlagTrim},
		{number(dir, "queue/write_zeroes_max_bytes") != 0, FlagZeroes}, // 6.12 and later
	} {
		if f.is {
			d.Flags |= f.flag
		}
	}
	queues, _ := os.ReadDir(filepath.Join(dir, "mq")) // absent: not known
	d.Queues = len(queues)
	return d, nil
}

// Devices reads /sys/block.
func (m *Machine) Devices() ([]Device, error) {
	entries, err := os.ReadDir(filepath.Join(m.Sys, "block"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a machine without block devices
	}
	if err != nil {
		return nil, systemError("look for devices", err)
	}
	var all []Device
	for _, e := range entries {
		index, err := parseName(e.Name())
		if err != nil {
			continue
		}
		d, err := m.Device(index)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Index < all[j].Index })
	return all, nil
}

// attribute is the text of a file of sysfs, empty where there is none.
func attribute(dir, name string) string {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	defer f.Close()
	text, _ := io.ReadAll(io.LimitReader(f, 2*blocktree.PathBytesMax)) // a page at most
	return strings.TrimSpace(string(text))
}

func number(dir, name string) uint64 {
	n, _ := strconv.ParseUint(attribute(dir, name), 10, 64) // absent: 0
	return n
}

// SetRequestTimeout writes queue/io_timeout.
func (m *Machine) SetRequestTimeout(index int, d time.Duration) error {
	name := filepath.Join(m.Sys, "block", Device{Index: index}.Name(), "queue", "io_timeout")
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return systemError("set io_timeout", err)
	}
	_, err = io.WriteString(f, strconv.FormatInt(d.Milliseconds(), 10))
	if err = errors.Join(err, f.Close()); err != nil {
		return systemError("set io_timeout", err)
	}
	return nil
}

// claim is a device that was opened exclusively.
type claim struct{ f *os.File }

// Claim opens /dev/nbdN with O_EXCL, which for block devices means: as a mount does.
func (m *Machine) Claim(index int) (Claim, error) {
	name := filepath.Join(m.Dev, Device{Index: index}.Name())
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, &blocktree.Error{Op: "claim", Path: name, Kind: blocktree.Busy, Err: errors.New("it is in use"),
			Hint: "unmount it, and what lies on it (`lsblk " + name + "` shows that), first"}
	}
	if err != nil {
		return nil, systemError("open "+name, err)
	}
	return &claim{os.NewFile(uintptr(fd), name)}, nil
}

// Flush is fsync.
func (c *claim) Flush() error {
	if err := c.f.Sync(); err != nil {
		return systemError("flush "+c.f.Name(), err)
	}
	return nil
}

func (c *claim) Close() error { return c.f.Close() }

// systemError gives what the operating system says a kind.
func systemError(op string, err error) error {
	e := &blocktree.Error{Op: op, Kind: blocktree.IO, Err: err}
	switch {
	case errors.Is(err, fs.ErrPermission):
		e.Kind, e.Hint = blocktree.Permission, "block devices are the system's: run it as root"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		e.Kind, e.Hint = blocktree.NotFound, "modprobe nbd; nbds_max of the module says how many devices there are"
	}
	return e
}

// ParseDevice reads /dev/nbdN or nbdN, and -1 from "auto" where that is allowed.
func ParseDevice(name string, auto bool) (index int, err error) {
	if auto && name == "auto" {
		return -1, nil
	}
	index, err = parseName(strings.TrimPrefix(name, "/dev/"))
	if err != nil {
		hint := "write /dev/nbd0, for example"
		if auto {
			hint += ", or auto for the first that is free"
		}
		return 0, &blocktree.Error{Op: "device", Kind: blocktree.Invalid, Err: fmt.Errorf("%.40q is not an NBD device", name), Hint: hint}
	}
	return index, nil
}

// indexMax is above what the kernel's minor numbers allow.
const indexMax = 1 << 20

func parseName(name string) (index int, err error) {
	digits, ok := strings.CutPrefix(name, "nbd")
	n, err := strconv.ParseUint(digits, 10, 32)
	if !ok || err != nil || n >= indexMax || strconv.FormatUint(n, 10) != digits {
		return 0, errors.New("not nbdN")
	}
	return int(n), nil
}

// flushed waits for a flush for at most limit. Meanwhile, which may be nil, is called each lookInterval, with a context that ends then too.
func flushed(ctx context.Context, c Claim, limit time.Duration, meanwhile func(context.Context)) error {
	done := make(chan error, 1)
	go func() { done <- c.Flush() }() // ends when the kernel has an answer, at the latest when the device is disconnected
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	look := time.NewTicker(lookInterval)
	defer look.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return &blocktree.Error{Op: "flush", Kind: blocktree.Timeout, Err: errors.New("the server does not answer"),
				Hint: "start the server, and btnbd attach, which reconnects the device; or give up what is not flushed, with `btnbd detach --force`"}
		case <-look.C:
			if meanwhile != nil {
				meanwhile(ctx)
			}
		}
	}
}

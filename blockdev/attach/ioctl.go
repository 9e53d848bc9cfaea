package attach

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"blocktree"
)

// The ioctls of include/uapi/linux/nbd.h.
const (
	ioctlSetSocket     = 0xab00
	ioctlSetBlockSize  = 0xab01
	ioctlDoIt          = 0xab03
	ioctlClearSocket   = 0xab04
	ioctlSetSizeBlocks = 0xab07
	ioctlDisconnect    = 0xab08
	ioctlSetTimeout    = 0xab09
	ioctlSetFlags      = 0xab0a
)

// Ioctl is the kernel's old interface. The process that attached a device stays in a system call for as long as it is attached: device,
// connections and process end together, and nothing can be reconnected.
type Ioctl struct {
	Dev string // where the devices are, /dev

	mu      sync.Mutex
	devices map[int]*os.File
}

// Connect sets the device up and leaves a thread in it.
func (x *Ioctl) Connect(_ context.Context, c Config) error {
	f, err := os.OpenFile(filepath.Join(x.Dev, Device{Index: c.Index}.Name()), os.O_RDWR, 0)
	if err != nil {
		return systemError("open", err)
	}
	ready := make(chan error, 1)
	go func() { // ends with the device
		runtime.LockOSThread() // the kernel wants all of it from one thread, which ends with this goroutine
		if err := setUp(int(f.Fd()), c); err != nil {
			ready <- errors.Join(err, f.Close())
			return
		}
		x.hold(c.Index, f)
		ready <- nil
		ioctl(f, ioctlDoIt, 0) // however it ends, it has ended
		ioctl(f, ioctlClearSocket, 0)
		x.hold(c.Index, nil)
		f.Close()
	}()
	if err := <-ready; err != nil {
		return err
	}
	return x.awaitAttached(c.Index)
}

// awaitAttached waits until the thread has begun to serve the device, or has ended.
func (x *Ioctl) awaitAttached(index int) error {
	m := NewMachine()
	for deadline := time.Now().Add(goneTimeout); time.Now().Before(deadline); time.Sleep(pollInterval) {
		d, err := m.Device(index)
		if err != nil {
			return err
		}
		if d.Attached {
			return nil
		}
		if x.file(index) == nil {
			break
		}
	}
	return &blocktree.Error{Op: "attach", Kind: blocktree.IO, Err: errors.New("the kernel does not serve the device"), Hint: "the kernel's log (dmesg) may say more"}
}

func setUp(fd int, c Config) error {
	steps := []struct{ request, value uint }{
		{ioctlSetBlockSize, uint(c.BlockBytes)},
		{ioctlSetSizeBlocks, uint(c.SizeBytes / uint64(c.BlockBytes))},
		{ioctlSetFlags, uint(c.Flags)}, // without them fsync would be lost
		{ioctlSetTimeout, uint(c.Timeout / time.Second)},
	}
	for _, s := range c.Sockets {
		steps = append(steps, struct{ request, value uint }{ioctlSetSocket, uint(s)})
	}
	for _, s := range steps {
		if err := unix.IoctlSetInt(fd, s.request, int(s.value)); err != nil {
			return kernelError("attach", err)
		}
	}
	return nil
}

func ioctl(f *os.File, request, value uint) error {
	return unix.IoctlSetInt(int(f.Fd()), request, int(value))
}

func (x *Ioctl) hold(index int, f *os.File) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.devices == nil {
		x.devices = make(map[int]*os.File)
	}
	if f == nil {
		delete(x.devices, index)
	} else {
		x.devices[index] = f
	}
}

func (x *Ioctl) file(index int) *os.File {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.devices[index]
}

// Reconfigure is not there.
func (x *Ioctl) Reconfigure(context.Context, Change) error {
	return blocktree.E("reconfigure", blocktree.Unsupported, errors.New("attached by ioctl"))
}

// Disconnect works on devices of other processes too.
func (x *Ioctl) Disconnect(_ context.Context, index int) error {
	f, err := os.OpenFile(filepath.Join(x.Dev, Device{Index: index}.Name()), os.O_RDWR, 0)
	if err != nil {
		return systemError("open", err)
	}
	defer f.Close()
	if err := ioctl(f, ioctlDisconnect, 0); err != nil {
		return kernelError("detach", err)
	}
	if err := ioctl(f, ioctlClearSocket, 0); err != nil {
		return kernelError("detach", err)
	}
	return nil
}

// Open is not known here: Connect says it.
func (x *Ioctl) Open(context.Context, int) (bool, error) { return false, nil }

// Dead tells nothing.
func (x *Ioctl) Dead(context.Context) (<-chan int, error) { return nil, nil }

// Reconnects is false of ioctls.
func (x *Ioctl) Reconnects() bool { return false }

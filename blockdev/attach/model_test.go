package attach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// model is nbd.c, as far as a keeper can tell, and the sysfs, the locks and files of a machine around it. It refuses what the
// kernel refuses, in the same words.
type model struct {
	mu      sync.Mutex
	devices map[int]*modelDevice
	links   map[int]*modelLink // by descriptor
	fds     int
	locks   map[int]bool
	states  map[int]State
	saved   []State
	events  []chan int
	calls   []string
	used    bool          // somebody has every device
	flush   chan struct{} // not nil: flushes wait for it
	flushed int
	noGrow  bool
	frozen  chan struct{} // not nil: a device of which a connection is dead takes no size before it is closed, as since 6.9
	broken  int           // so many changes without sockets fail
	old     bool          // a kernel that keeps no backend
	ioctl   bool          // the old interface: nothing is reconnected, told or kept
	stays   bool          // a device that is disconnected stays, as long as somebody has it open
}

type modelDevice struct {
	c         Config
	sockets   []*modelLink
	timeout   time.Duration
	ioTimeout time.Duration
	detached  bool
}

// modelLink is a connection's descriptor: the kernel's hold, the keeper's, or both.
type modelLink struct {
	m              *model
	fd             int
	nc             net.Conn
	server         bool // still at its end
	dead           bool // for the kernel
	sendTimeout    time.Duration
	keeper, kernel bool
}

func newModel() *model {
	return &model{devices: map[int]*modelDevice{}, links: map[int]*modelLink{}, locks: map[int]bool{}, states: map[int]State{}, fds: 10}
}

func (m *model) note(format string, args ...any) {
	m.calls = append(m.calls, fmt.Sprintf(format, args...))
}

// link makes a Link of a connection, as newSocket does.
func (m *model) link(nc net.Conn) (Link, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fds++
	l := &modelLink{m: m, fd: m.fds, nc: nc, server: true, keeper: true}
	m.links[l.fd] = l
	return l, nil
}

func (l *modelLink) FD() int { return l.fd }

func (l *modelLink) Dead() bool {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	return l.dead || !l.server
}

func (l *modelLink) Settled() bool {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	return !l.server
}

func (l *modelLink) Taken() bool {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	taken := l.sendTimeout != 0
	l.sendTimeout = 0
	return taken
}

func (l *modelLink) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	l.keeper = false
	l.drop()
	return nil
}

// drop closes the connection when nobody holds it.
func (l *modelLink) drop() {
	if !l.keeper && !l.kernel {
		l.nc.Close()
		delete(l.m.links, l.fd)
	}
}

// die is what the kernel does with a connection that fails.
func (m *model) die(index int, l *modelLink) {
	if l.dead {
		return
	}
	l.dead = true
	for _, c := range m.events {
		select {
		case c <- index:
		default:
		}
	}
}

// serverGone ends the server's side of all connections of a device; the kernel notices.
func (m *model) serverGone(index int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.devices[index].sockets {
		l.server = false
		m.die(index, l)
	}
}

// cut ends connections on the kernel's side, by a timeout; the server does not know.
func (m *model) cut(index int) (links []*modelLink) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.devices[index].sockets {
		m.die(index, l)
		links = append(links, l)
	}
	return links
}

// settle is the server's noticing.
func (m *model) settle(links []*modelLink) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range links {
		l.server = false
	}
}

// live counts the connections of a device that carry requests.
func (m *model) live(index int) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := m.devices[index]; d != nil {
		for _, l := range d.sockets {
			if !l.dead && l.server {
				n++
			}
		}
	}
	return n
}

func (m *model) device(index int) modelDevice {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := m.devices[index]; d != nil {
		return *d
	}
	return modelDevice{}
}

func (m *model) state(index int) State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.states[index]
}

func (m *model) Connect(_ context.Context, c Config) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note("connect nbd%d size %d", c.Index, c.SizeBytes)
	switch {
	case m.devices[c.Index] != nil:
		return kernelError("attach", unix.EBUSY)
	case len(c.Sockets) == 0, c.SizeBytes == 0, c.BlockBytes < 512, c.BlockBytes > 4096, c.BlockBytes&(c.BlockBytes-1) != 0,
		len(c.Sockets) > 1 && c.Flags&FlagMultiConn == 0:
		return kernelError("attach", unix.EINVAL)
	}
	d := &modelDevice{c: c, timeout: c.Timeout, ioTimeout: 30 * time.Second}
	for _, fd := range c.Sockets {
		l := m.links[fd]
		if l == nil {
			return kernelError("attach", unix.EBADF)
		}
		l.kernel, l.sendTimeout = true, c.Timeout
		d.sockets = append(d.sockets, l)
	}
	m.devices[c.Index] = d
	return nil
}

func (m *model) Reconfigure(_ context.Context, c Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note("reconfigure nbd%d sockets %d size %d", c.Index, len(c.Sockets), c.SizeBytes)
	d := m.devices[c.Index]
	if d == nil || d.detached || d.c.Backend != "" && d.c.Backend != c.Backend {
		return kernelError("reconfigure", unix.EINVAL)
	}
	if len(c.Sockets) == 0 && m.broken > 0 {
		m.broken--
		return kernelError("reconfigure", unix.EINTR)
	}
	if c.SizeBytes != 0 && m.frozen != nil && slices.ContainsFunc(d.sockets, func(l *modelLink) bool { return l.dead }) {
		m.mu.Unlock()
		<-m.frozen
		m.mu.Lock()
	}
	if c.SizeBytes != 0 && !m.noGrow {
		d.c.SizeBytes = c.SizeBytes
	}
	if c.DeadTimeout != 0 {
		d.c.DeadTimeout = c.DeadTimeout
	}
	if c.Timeout != nil {
		d.timeout, d.ioTimeout = *c.Timeout, *c.Timeout
		if d.timeout == 0 {
			d.ioTimeout = 30 * time.Second
		}
	}
	for _, fd := range c.Sockets {
		l := m.links[fd]
		if l == nil {
			return kernelError("reconfigure", unix.EBADF)
		}
		for i, old := range d.sockets {
			if old.dead {
				l.kernel, l.sendTimeout = true, d.timeout
				d.sockets[i] = l
				old.kernel = false
				old.drop()
				break
			}
		}
	}
	return nil
}

func (m *model) Disconnect(_ context.Context, index int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note("disconnect nbd%d", index)
	if d := m.devices[index]; d != nil {
		for _, l := range d.sockets {
			l.dead, l.kernel = true, false
			l.drop()
		}
		d.detached = true
		if !m.stays {
			delete(m.devices, index)
		}
	}
	return nil
}

func (m *model) Open(_ context.Context, index int) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.devices[index] != nil, nil
}

func (m *model) Dead(ctx context.Context) (<-chan int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := make(chan int, deadEvents)
	m.events = append(m.events, c)
	return c, nil
}

func (m *model) Reconnects() bool { return !m.ioctl }

func (m *model) Device(index int) (Device, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.devices[index]
	if d == nil {
		return Device{Index: index}, nil
	}
	backend := d.c.Backend
	forgets := m.old || m.ioctl
	if forgets {
		backend = ""
	}
	return Device{Index: index, Attached: true, Backend: backend, Forgets: forgets, SizeBytes: d.c.SizeBytes, BlockBytes: d.c.BlockBytes,
		Flags: d.c.Flags & (FlagReadOnly | FlagFlush | FlagFUA | FlagTrim), Queues: 1}, nil
}

func (m *model) Devices() (all []Device, err error) {
	for i := range 3 {
		d, _ := m.Device(i)
		all = append(all, d)
	}
	return all, nil
}

func (m *model) SetRequestTimeout(index int, d time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.devices[index].ioTimeout = d
	return nil
}

// modelClaim is an exclusive open.
type modelClaim struct{ m *model }

func (c modelClaim) Flush() error {
	if c.m.flush != nil {
		<-c.m.flush
	}
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	c.m.flushed++
	c.m.note("flush")
	return nil
}

func (c modelClaim) Close() error { return nil }

func (m *model) Claim(int) (Claim, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.used {
		return nil, kernelError("claim", unix.EBUSY)
	}
	return modelClaim{m}, nil
}

func (m *model) Lock(index int) (func(), error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locks[index] {
		return nil, kernelError("lock", unix.EBUSY)
	}
	m.locks[index] = true
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.locks, index)
	}, nil
}

func (m *model) Keeper(index int) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locks[index] {
		return 4711, nil
	}
	return 0, nil
}

func (m *model) Save(s *State) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.states[s.Index] = *s
	m.saved = append(m.saved, *s)
	return nil
}

func (m *model) Load(index int) (*State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, ok := m.states[index]; ok {
		return &s, nil
	}
	return nil, nil
}

func (m *model) Forget(index int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.states, index)
	return nil
}

// errServerDown is what a dial meets while the model's server does not run.
var errServerDown = errors.New("connection refused")

package attach

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"go.uber.org/goleak"

	"blocktree"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lockEnv names a directory for TestHoldLock.
const lockEnv = "BLOCKTREE_TEST_LOCK"

// TestHoldLock is a keeper that only has the lock, in a process of its own, for TestOneKeeper; alone it does nothing.
func TestHoldLock(t *testing.T) {
	dir := os.Getenv(lockEnv)
	if dir == "" {
		return
	}
	if _, err := (&Machine{Run: dir}).Lock(5); err != nil {
		t.Fatal(err)
	}
	fmt.Println("locked")
	bufio.NewReader(os.Stdin).ReadByte() // until the other test is done with it
}

// patience is how long a test waits for what must happen; nothing is measured by it.
const patience = 20 * time.Second

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// TestOneKeeper: the lock is a process's, others see whose, and it ends with it, however that ends (A5).
func TestOneKeeper(t *testing.T) {
	m := &Machine{Run: t.TempDir()}
	if pid, err := m.Keeper(5); pid != 0 || err != nil {
		t.Errorf("%d, %v", pid, err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(exe, "-test.run=^TestHoldLock$")
	c.Env = append(os.Environ(), lockEnv+"="+m.Run)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if pid, err := m.Keeper(5); pid != c.Process.Pid || err != nil {
		t.Errorf("%d, %v", pid, err)
	}
	if pid, err := m.keeperOf(m.lockFile(5)); pid != c.Process.Pid || err != nil {
		t.Errorf("who may not open it sees %d, %v", pid, err)
	}
	if _, err := m.Lock(5); blocktree.KindOf(err) != blocktree.Busy || !strings.Contains(err.Error(), fmt.Sprintf("process %d keeps it", c.Process.Pid)) {
		t.Errorf("%v", err)
	}
	release, err := m.Lock(6)
	if err != nil {
		t.Fatal(err)
	}
	release()
	c.Process.Kill()
	c.Wait() // killed
	if pid, err := m.Keeper(5); pid != 0 || err != nil {
		t.Errorf("%d, %v", pid, err)
	}
	if release, err = m.Lock(5); err != nil {
		t.Fatal(err)
	}
	release()
}

// TestRunIsOurs: the directory of locks and states is believed only where nobody else may write, and nobody else may lock keepers out.
func TestRunIsOurs(t *testing.T) {
	m := &Machine{Run: filepath.Join(t.TempDir(), "run")}
	release, err := m.Lock(5)
	if err != nil {
		t.Fatal(err)
	}
	release()
	if info, err := os.Stat(m.lockFile(5)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	os.Chmod(m.Run, 0o777)
	if _, err := m.Lock(5); blocktree.KindOf(err) != blocktree.Permission || blocktree.HintOf(err) == "" {
		t.Errorf("writable by all: %v", err)
	}
	os.Chmod(m.Run, 0o755)
	other := &Machine{Run: filepath.Join(t.TempDir(), "link")}
	if err := os.Symlink(m.Run, other.Run); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Lock(5); blocktree.KindOf(err) != blocktree.Permission {
		t.Errorf("a symbolic link: %v", err)
	}
}

// TestLockHolder reads what the kernel says of locks to those who may not ask.
func TestLockHolder(t *testing.T) {
	const locks = "1: POSIX  ADVISORY  READ 7 00:1a:42 0 EOF\n1: -> POSIX  ADVISORY  WRITE 8 00:1a:42 0 EOF\n2: FLOCK  ADVISORY  WRITE 9 00:1a:42 0 EOF\n" +
		"3: POSIX  ADVISORY  WRITE 10 00:1a:421 0 EOF\n4: POSIX  ADVISORY  WRITE 4711 00:1a:42 0 EOF\n"
	if pid := lockHolder(locks, "00:1a:42"); pid != 4711 {
		t.Errorf("process %d", pid)
	}
	if pid := lockHolder(locks, "00:1a:4"); pid != 0 {
		t.Errorf("process %d", pid)
	}
}

// TestTold: the last word of a kind says which file it is; those before it are people's.
func TestTold(t *testing.T) {
	for description, want := range map[string]string{"": "[]", "a disk": "[]", "file=1": "[file=1]", "loss=2 x file=1": "[file=1 loss=2]",
		"file=a.img file=b.img file=D/1.2": "[file=D/1.2]"} {
		if got := fmt.Sprint(told(description)); got != want {
			t.Errorf("%q: %s", description, got)
		}
		if c := contradiction(told(description), told(description)); c != "" {
			t.Errorf("%q contradicts itself: %s", description, c)
		}
	}
}

// TestState is there as it was saved, and nothing where it makes no sense.
func TestState(t *testing.T) {
	m := &Machine{Run: t.TempDir()}
	if s, err := m.Load(1); s != nil || err != nil {
		t.Errorf("%+v, %v", s, err)
	}
	want := &State{Index: 1, Path: "/vm/disk0", Server: "nbd://x/vm/disk0", State: StateWaiting, Since: time.Unix(1e9, 0).UTC(), Connections: 3,
		Reconnects: 4, SizeBytes: mib, ReadOnly: true, Told: []string{"file=1"}, LastError: "no"}
	if err := m.Save(want); err != nil {
		t.Fatal(err)
	}
	got, err := m.Load(1)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v, %v", got, err)
	}
	os.Rename(m.stateFile(1), m.stateFile(2)) // of another device
	if s, err := m.Load(2); s != nil || err != nil {
		t.Errorf("%+v, %v", s, err)
	}
	if err := m.Forget(2); err != nil {
		t.Error(err)
	}
	if err := m.Forget(2); err != nil {
		t.Error(err)
	}
}

// TestDevices reads what sysfs says.
func TestDevices(t *testing.T) {
	m := &Machine{Sys: t.TempDir(), Dev: t.TempDir()}
	for name, text := range map[string]string{
		"nbd0/size": "0\n",
		"nbd9/pid":  "123\n", "nbd9/backend": "nbd://x/y\n", "nbd9/size": "2048\n", "nbd9/ro": "1\n", "nbd9/queue/write_cache": "write back\n",
		"nbd9/queue/fua": "1\n", "nbd9/queue/discard_max_bytes": "0\n", "nbd9/queue/logical_block_size": "4096\n", "nbd9/mq/0/x": "", "nbd9/mq/1/x": "",
		"nbd9/queue/io_timeout": "30000\n", "nbd10/pid": "1\n", "nbd10/queue/write_cache": "write through\n", "sda/pid": "1\n", "nbd01/pid": "1\n",
	} {
		file := filepath.Join(m.Sys, "block", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	all, err := m.Devices()
	want := []Device{{Index: 0}, {Index: 9, Attached: true, Backend: "nbd://x/y", SizeBytes: mib, BlockBytes: 4096,
		Flags: FlagReadOnly | FlagFlush | FlagFUA, Queues: 2}, {Index: 10, Attached: true, Forgets: true}}
	if err != nil || fmt.Sprint(all) != fmt.Sprint(want) {
		t.Errorf("%+v, %v", all, err)
	}
	if err := m.SetRequestTimeout(9, 5*time.Second); err != nil || attribute(filepath.Join(m.Sys, "block/nbd9/queue"), "io_timeout") != "50000" {
		t.Errorf("%v, %q", err, attribute(filepath.Join(m.Sys, "block/nbd9/queue"), "io_timeout")) // a file of sysfs is not truncated
	}
	if err := m.SetRequestTimeout(8, time.Second); blocktree.KindOf(err) != blocktree.NotFound {
		t.Error(err)
	}
	if _, err := m.Claim(9); blocktree.KindOf(err) != blocktree.NotFound || blocktree.HintOf(err) == "" {
		t.Error(err)
	}
}

func TestParseDevice(t *testing.T) {
	for name, want := range map[string]int{"/dev/nbd0": 0, "nbd15": 15, "/dev/nbd1048575": 1048575} {
		if got, err := ParseDevice(name, false); got != want || err != nil {
			t.Errorf("%q: %d, %v", name, got, err)
		}
	}
	if got, err := ParseDevice("auto", true); got != -1 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
	for _, name := range []string{"", "auto", "/dev/nbd", "/dev/nbd0p1", "/dev/nbd01", "/dev/nbd-1", "/dev/sda", "nbd1048576", "0", "/dev/../nbd0"} {
		if _, err := ParseDevice(name, false); blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestParseTarget(t *testing.T) {
	for server, want := range map[string]string{
		"tcp:192.0.2.1:10809":           "nbd://192.0.2.1:10809/vm/disk0",
		"tcp:0.0.0.0:1":                 "nbd://localhost:1/vm/disk0",
		"tcp::1":                        "nbd://localhost:1/vm/disk0",
		"tcp:[2001:db8::1]:1":           "nbd://[2001:db8::1]:1/vm/disk0",
		"nbd://example.org":             "nbd://example.org:10809/vm/disk0",
		"nbd://[::1]":                   "nbd://[::1]:10809/vm/disk0",
		"nbd://h:2/vm/disk0":            "nbd://h:2/vm/disk0",
		"unix:/run/a b":                 "nbd+unix:///vm/disk0?socket=%2Frun%2Fa+b",
		"nbd+unix:///?socket=/run/s":    "nbd+unix:///vm/disk0?socket=%2Frun%2Fs",
		"nbd+unix:///vm/disk0?socket=/": "nbd+unix:///vm/disk0?socket=%2F",
	} {
		got, err := ParseTarget(server, "/vm/disk0")
		if err != nil || got.String() != want {
			t.Errorf("%s: %s, %v", server, got, err)
			continue
		}
		if again, err := ParseTarget(got.String(), "/vm/disk0"); err != nil || again.String() != want {
			t.Errorf("%s read back: %s, %v", want, again, err)
		}
	}
	for server, kind := range map[string]blocktree.Kind{
		"": blocktree.Invalid, "/run/s": blocktree.Invalid, "tcp:": blocktree.Invalid, "tcp:h": blocktree.Invalid, "tcp:h:": blocktree.Invalid, "unix:": blocktree.Invalid,
		"unix:/" + strings.Repeat("x", 107): blocktree.Invalid, "nbd+unix:///": blocktree.Invalid, "nbd://h/vm/disk1": blocktree.Invalid, "nbd://%zz": blocktree.Invalid,
		"nbds://h": blocktree.Unsupported, "nbds+unix:///?socket=/s": blocktree.Unsupported, "http://h": blocktree.Invalid,
	} {
		if got, err := ParseTarget(server, "/vm/disk0"); blocktree.KindOf(err) != kind || blocktree.HintOf(err) == "" {
			t.Errorf("%q: %v, %v", server, got, err)
		}
	}
	if _, err := ParseTarget("tcp:h:1", "/"+strings.Repeat("x", 4080)); err != nil {
		t.Error(err)
	}
	for _, server := range []string{"tcp:h:1", "unix:/s"} { // the kernel prints it into a page
		if _, err := ParseTarget(server, "/"+strings.Repeat("é", 700)); blocktree.KindOf(err) != blocktree.TooLarge || blocktree.HintOf(err) == "" {
			t.Errorf("%s: %v", server, err)
		}
	}
	if _, err := ParseTarget("tcp:h:1", strings.Repeat("x", 4097)); blocktree.KindOf(err) != blocktree.Invalid {
		t.Error(err)
	}
}

// pair is a connection of the network and both of its ends.
func pair(t *testing.T, network string) (near, far net.Conn) {
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err = Target{Network: network, Address: l.Addr().String()}.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// TestSockets: death and settling of real sockets, as the kernel and the server bring them about.
func TestSockets(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			near, far := pair(t, network)
			l, err := newSocket(near)
			if err != nil {
				t.Fatal(err)
			}
			if l.Dead() || l.Taken() {
				t.Error("dead or taken from the beginning")
			}
			unix.SetsockoptTimeval(l.FD(), unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 35}) // as the kernel does
			if !l.Taken() || l.Taken() {
				t.Error("not taken, or twice")
			}
			if _, err := unix.Write(l.FD(), []byte("a write")); err != nil {
				t.Fatal(err)
			}
			if err := unix.Shutdown(l.FD(), unix.SHUT_RDWR); err != nil { // by which the kernel cuts a slow server off
				t.Fatal(err)
			}
			if !l.Dead() || l.Settled() {
				t.Errorf("dead %v; settled %v, with bytes that the server has not read", l.Dead(), l.Settled())
			}
			b := make([]byte, 100)
			if n, err := far.Read(b); n != 7 || err != nil {
				t.Errorf("the server reads %d bytes, %v", n, err)
			}
			if network == "tcp" && l.Settled() {
				t.Error("settled before the server has closed")
			}
			far.Close()
			until(t, "settled", l.Settled)
			l.Close()

			near, far = pair(t, network)
			if l, err = newSocket(near); err != nil {
				t.Fatal(err)
			}
			unix.Write(l.FD(), []byte("a write that nobody reads"))
			far.Close() // a server that dies
			until(t, "dead", l.Dead)
			unix.Shutdown(l.FD(), unix.SHUT_RDWR)
			until(t, "settled", l.Settled)
			l.Close()
		})
	}
	near, far := net.Pipe()
	defer far.Close()
	if _, err := newSocket(near); blocktree.KindOf(err) != blocktree.Unsupported || blocktree.HintOf(err) == "" {
		t.Errorf("of no socket: %v", err)
	}
}

// TestSilenceEndsAConnection not sooner than a server may take.
func TestSilenceEndsAConnection(t *testing.T) {
	near, far := pair(t, "tcp")
	defer far.Close()
	l, err := newSocket(near)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	user, err1 := unix.GetsockoptInt(l.FD(), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
	idle, err2 := unix.GetsockoptInt(l.FD(), unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
	each, err3 := unix.GetsockoptInt(l.FD(), unix.IPPROTO_TCP, unix.TCP_KEEPINTVL)
	count, err4 := unix.GetsockoptInt(l.FD(), unix.IPPROTO_TCP, unix.TCP_KEEPCNT)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || user != 60000 || time.Duration(idle+each*count)*time.Second != silenceMax || silenceMax < settleMax {
		t.Errorf("%d ms; %d + %d times %d s; at least %v", user, idle, count, each, settleMax)
	}
}

// nopConn is a connection that can only be closed.
type nopConn struct{ net.Conn }

func (nopConn) Close() error { return nil }

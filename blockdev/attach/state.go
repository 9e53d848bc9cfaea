package attach

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"blocktree"
)

// The states of a device, as they are printed.
const (
	StateConnected = "connected"
	StateWaiting   = "waiting" // for its server: requests wait too
)

// stateVersion is the version of the files that a keeper writes.
const stateVersion = 1

// stateBytesMax bounds such a file.
const stateBytesMax = 64 << 10

// State is what a keeper says about its device, for `btnbd list` and for the next keeper.
type State struct {
	Version     int       `json:"version"`
	Index       int       `json:"index"`
	Path        string    `json:"path"`   // of the file, as the server was asked for it
	Server      string    `json:"server"` // URI
	State       string    `json:"state"`
	Since       time.Time `json:"since"`
	Connections int       `json:"connections"`
	Reconnects  int       `json:"reconnects"`
	SizeBytes   uint64    `json:"sizeBytes"`
	ReadOnly    bool      `json:"readOnly"`
	Told        []string  `json:"told,omitempty"` // words of the description that say which file it is
	LastError   string    `json:"lastError,omitempty"`
}

func (m *Machine) stateFile(index int) string {
	return filepath.Join(m.Run, Device{Index: index}.Name()+".json")
}

func (m *Machine) lockFile(index int) string {
	return filepath.Join(m.Run, Device{Index: index}.Name()+".lock")
}

// Save replaces the state file as a whole. Who reads it needs no rights: it holds no secret.
func (m *Machine) Save(s *State) error {
	s.Version = stateVersion
	b, err := json.Marshal(s)
	if err != nil {
		return blocktree.E("save state", blocktree.Invalid, err)
	}
	name := m.stateFile(s.Index)
	err = os.WriteFile(name+".new", append(b, '\n'), 0o644)
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		return systemError("save state", err)
	}
	return nil
}

// Load reads the state file.
func (m *Machine) Load(index int) (*State, error) {
	f, err := os.Open(m.stateFile(index))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, systemError("read state", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, stateBytesMax))
	if err != nil {
		return nil, systemError("read state", err)
	}
	return decodeState(b, index)
}

// decodeState reads a state. One of another version or device is as good as none: the kernel knows the rest.
func decodeState(b []byte, index int) (*State, error) {
	s := new(State)
	if err := json.Unmarshal(b, s); err != nil || s.Version != stateVersion || s.Index != index || s.Connections < 0 ||
		s.Connections > blocktree.NBDConnectionsPerExportMax {
		return nil, nil
	}
	return s, nil
}

// Forget removes the state file. The lock's stays: another may be about to lock it.
func (m *Machine) Forget(index int) error {
	if err := os.Remove(m.stateFile(index)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return systemError("remove state", err)
	}
	return nil
}

// Lock takes a lock of the kernel's, which ends with the process. It is one of those that a process has, so Keeper can tell whose it
// is; hence no process keeps one device twice, and nothing else in it opens the file.
func (m *Machine) Lock(index int) (release func(), err error) {
	if err := m.ownRun(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(m.lockFile(index), os.O_RDWR|os.O_CREATE, 0o600) // who may read it could lock keepers out
	if err != nil {
		return nil, systemError("lock", err)
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		lock = unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
		unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock) // for the message only
		f.Close()
		name := "/dev/" + Device{Index: index}.Name()
		return nil, &blocktree.Error{Op: "lock", Path: name, Kind: blocktree.Busy, Err: fmt.Errorf("process %d keeps it", lock.Pid),
			Hint: "use another device, or auto; or end that one with `btnbd detach " + name + "`"}
	}
	if err != nil {
		f.Close()
		return nil, systemError("lock", err)
	}
	return func() { f.Close() }, nil
}

// ownRun makes the directory. What is in it is believed, and written to by name, so nobody else may write there.
func (m *Machine) ownRun() error {
	if err := os.MkdirAll(m.Run, 0o755); err != nil {
		return systemError("make "+m.Run, err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(m.Run, &st); err != nil {
		return systemError("look at "+m.Run, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return &blocktree.Error{Op: "lock", Path: m.Run, Kind: blocktree.Permission, Err: errors.New("others may write there"), Hint: "remove it: it is made anew"}
	}
	return nil
}

// Keeper asks the kernel who holds the lock.
func (m *Machine) Keeper(index int) (pid int, err error) {
	f, err := os.OpenFile(m.lockFile(index), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if errors.Is(err, fs.ErrPermission) {
		return m.keeperOf(m.lockFile(index))
	}
	if err != nil {
		return 0, systemError("look for the keeper", err)
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return 0, systemError("look for the keeper", err)
	}
	if lock.Type == unix.F_UNLCK {
		return 0, nil
	}
	return int(lock.Pid), nil
}

// keeperOf looks for the lock on a file that this user may not open in the list that the kernel has for everybody.
func (m *Machine) keeperOf(name string) (pid int, err error) {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return 0, systemError("look for the keeper", err)
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0, systemError("look for the keeper", err)
	}
	return lockHolder(string(locks), fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)), nil
}

// lockHolder reads lines such as "1: POSIX  ADVISORY  WRITE 4711 00:1a:123 0 EOF". One with "->" waits for a lock.
func lockHolder(locks, file string) (pid int) {
	for line := range strings.Lines(locks) {
		if f := strings.Fields(line); len(f) == 8 && f[1] == "POSIX" && f[3] == "WRITE" && f[5] == file {
			pid, _ = strconv.Atoi(f[4]) // a number, by the kernel's word
			return pid
		}
	}
	return 0
}

// told are the words of a description by which a server says which file an export is, and whether acknowledged data of it was lost. The
// last of a kind counts: before it is what people wrote.
func told(description string) (words []string) {
	all := strings.Fields(description)
	for _, key := range []string{"file=", "loss="} {
		for i := len(all) - 1; i >= 0; i-- {
			if strings.HasPrefix(all[i], key) {
				words = append(words, all[i])
				break
			}
		}
	}
	return words
}

// contradiction is a word that before and now say differently, or "": what only one of them says is no contradiction.
func contradiction(before, now []string) string {
	for _, b := range before {
		key, _, _ := strings.Cut(b, "=")
		for _, n := range now {
			if strings.HasPrefix(n, key+"=") && n != b {
				return b + " is now " + n
			}
		}
	}
	return ""
}

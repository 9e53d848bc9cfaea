package vfs

import (
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"blocktree"
)

// Boot is a boot of a machine, and where small files lie that outlive a process and not the boot: directories of a tmpfs, which is memory. The
// zero Boot has no place for them. What is read may still be of another boot, where somebody keeps such a directory on a disk: the
// caller writes the boot's id into its files and looks.
type Boot struct {
	id   [16]byte
	dirs []string // in the order in which they are tried
}

// BootFile is a file of a Boot. One goroutine at a time may use it.
type BootFile struct {
	f    *os.File
	name string
}

// MachineBoot is the boot of this machine. Its files lie in the runtime directory that systemd gave the service, in /run, or in /dev/shm. It is the
// zero Boot where the kernel does not say which boot it is, or where none of these is a tmpfs.
func MachineBoot() Boot {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Boot{}
	}
	id, err := parseBootID(string(b))
	if err != nil {
		return Boot{}
	}
	out := Boot{id: id}
	given, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":") // see systemd.exec(5)
	for _, dir := range []string{given, "/run", "/dev/shm"} {
		var st unix.Statfs_t
		if !filepath.IsAbs(dir) {
			continue
		}
		if err := unix.Statfs(dir, &st); err == nil && st.Type == unix.TMPFS_MAGIC {
			out.dirs = append(out.dirs, dir)
		}
	}
	if len(out.dirs) == 0 {
		return Boot{}
	}
	return out
}

// parseBootID reads a UUID.
func parseBootID(s string) (id [16]byte, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(s), "-", ""))
	if err != nil || len(b) != len(id) || [16]byte(b) == id {
		return id, blocktree.E("vfs.MachineBoot", blocktree.Invalid, errors.New("no boot id"))
	}
	return [16]byte(b), nil
}

// BootAt is a boot whose files lie in the directories dirs, whatever these are, for tests.
func BootAt(id [16]byte, dirs ...string) Boot { return Boot{id, dirs} }

// ID is the same for all processes of a boot, in containers too, and no other boot has it.
func (b Boot) ID() [16]byte { return b.id }

// Read returns what the files of a name contain, one of each directory that has one; at most bytesMax of each. Files of other users, and
// what is no plain file, are passed over: anybody may put those into /dev/shm.
func (b Boot) Read(name string, bytesMax int) (found [][]byte) {
	for _, dir := range b.dirs {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		if ownFile(f) {
			if content, err := io.ReadAll(io.LimitReader(f, int64(bytesMax))); err == nil {
				found = append(found, content)
			}
		}
		f.Close()
	}
	return found
}

// ownFile reports whether a file is a plain one of the process's user, under one name.
func ownFile(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid() && st.Nlink == 1
}

// Create makes a file in the first directory that takes it, in place of those that have the name in any. Kind Unavailable where none does.
func (b Boot) Create(name string, content []byte) (*BootFile, error) {
	err := errors.New("no tmpfs")
	b.Remove(name)
	for _, dir := range b.dirs {
		var f *BootFile
		if f, err = createBootFile(filepath.Join(dir, name), content); err == nil {
			return f, nil
		}
	}
	return nil, blocktree.E("vfs.Boot", blocktree.Unavailable, err)
}

func createBootFile(name string, content []byte) (*BootFile, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, fileMode)
	if err != nil {
		return nil, err
	}
	out := &BootFile{f, name}
	if err := out.Put(content); err != nil {
		return nil, errors.Join(err, out.Remove())
	}
	return out, nil
}

// Remove removes the files of a name, where it may.
func (b Boot) Remove(name string) {
	for _, dir := range b.dirs {
		_ = os.Remove(filepath.Join(dir, name)) // one that stays is of another user, or goes by what is in it
	}
}

// Put replaces what is in the file by content of the same length. Whoever reads it later, after a kill of this process, finds that or, if Put did
// not return, what was there before or a mixture. After an error it may be any of these.
func (f *BootFile) Put(content []byte) error {
	_, err := f.f.WriteAt(content, 0)
	return wrap("Put", f.name, err)
}

// Remove removes the file and closes it.
func (f *BootFile) Remove() error {
	err := os.Remove(f.name)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	_ = f.Close() // it has nothing left to lose
	return wrap("Remove", f.name, err)
}

// Close leaves the file where it is.
func (f *BootFile) Close() error { return wrap("Close", f.name, f.f.Close()) }

package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// args are those of a statement, whose paths are below dir.
type args struct {
	dir   string
	words []string
}

// path is that of a word, with nothing of it cleaned away.
func (a args) path(i int) string {
	if a.words[i] == "." {
		return a.dir
	}
	return a.dir + "/" + a.words[i]
}

func (a args) number(i int) int64 {
	n, err := strconv.ParseInt(a.words[i], 0, 64)
	if err != nil {
		panic(err) // a table is wrong
	}
	return n
}

func (a args) mode(i int) uint32 { return uint32(a.number(i)) }

// operation is one, with so many words at least.
type operation struct {
	words int
	do    func(args) string
}

// answer is what a call is told.
func answer(err error) string {
	if err == nil {
		return "OK"
	}
	if e, ok := err.(unix.Errno); ok {
		return unix.ErrnoName(e)
	}
	return err.Error()
}

func operations() map[string]operation {
	m := nameOperations()
	for name, o := range fileOperations() {
		m[name] = o
	}
	return m
}

// nameOperations are those that change names and attributes.
func nameOperations() map[string]operation {
	return map[string]operation{
		"mkdir":  {2, func(a args) string { return answer(unix.Mkdir(a.path(0), a.mode(1))) }},
		"rmdir":  {1, func(a args) string { return answer(unix.Rmdir(a.path(0))) }},
		"unlink": {1, func(a args) string { return answer(unix.Unlink(a.path(0))) }},
		"rename": {2, func(a args) string { return answer(unix.Rename(a.path(0), a.path(1))) }},
		"noreplace": {2, func(a args) string {
			return answer(unix.Renameat2(unix.AT_FDCWD, a.path(0), unix.AT_FDCWD, a.path(1), unix.RENAME_NOREPLACE))
		}},
		"exchange": {2, func(a args) string {
			return answer(unix.Renameat2(unix.AT_FDCWD, a.path(0), unix.AT_FDCWD, a.path(1), unix.RENAME_EXCHANGE))
		}},
		"link":    {2, func(a args) string { return answer(unix.Link(a.path(0), a.path(1))) }},
		"symlink": {2, func(a args) string { return answer(unix.Symlink(a.words[0], a.path(1))) }},
		"readlink": {1, func(a args) string {
			b := make([]byte, 8192)
			n, err := unix.Readlink(a.path(0), b)
			if err != nil {
				return answer(err)
			}
			return fmt.Sprintf("OK %d %.40s", n, b[:n])
		}},
		"chmod":   {2, func(a args) string { return answer(unix.Chmod(a.path(0), a.mode(1))) }},
		"chown":   {3, func(a args) string { return answer(unix.Chown(a.path(0), int(a.number(1)), int(a.number(2)))) }},
		"lchown":  {3, func(a args) string { return answer(unix.Lchown(a.path(0), int(a.number(1)), int(a.number(2)))) }},
		"utimens": {3, utimens},
		"mkfifo":  {2, func(a args) string { return answer(unix.Mknod(a.path(0), unix.S_IFIFO|a.mode(1), 0)) }},
		"mkchar": {2, func(a args) string {
			return answer(unix.Mknod(a.path(0), unix.S_IFCHR|a.mode(1), int(unix.Mkdev(1, 3))))
		}},
		"mkblock": {2, func(a args) string {
			return answer(unix.Mknod(a.path(0), unix.S_IFBLK|a.mode(1), int(unix.Mkdev(7, 0))))
		}},
		"mksocket": {2, func(a args) string { return answer(unix.Mknod(a.path(0), unix.S_IFSOCK|a.mode(1), 0)) }},
		"mkreg":    {2, func(a args) string { return answer(unix.Mknod(a.path(0), unix.S_IFREG|a.mode(1), 0)) }},
		"setxattr": {3, func(a args) string { return answer(unix.Setxattr(a.path(0), a.words[1], []byte(a.words[2]), 0)) }},
		"getxattr": {2, func(a args) string {
			b := make([]byte, 8192)
			n, err := unix.Getxattr(a.path(0), a.words[1], b)
			if err != nil {
				return answer(err)
			}
			return "OK " + string(b[:n])
		}},
	}
}

// utimens sets the times of access and of the last write: seconds, "now" or "omit".
func utimens(a args) string {
	var ts [2]unix.Timespec
	for i := range ts {
		switch w := a.words[1+i]; w {
		case "now":
			ts[i].Nsec = unix.UTIME_NOW
		case "omit":
			ts[i].Nsec = unix.UTIME_OMIT
		default:
			ts[i] = unix.NsecToTimespec(a.number(1+i) * int64(time.Second))
		}
	}
	flags := 0
	if len(a.words) > 3 { // of the link itself
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	return answer(unix.UtimesNanoAt(unix.AT_FDCWD, a.path(0), ts[:], flags))
}

// fileOperations are those that look, read and write.
func fileOperations() map[string]operation {
	return map[string]operation{
		"create": {2, func(a args) string { return open(a.path(0), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, a.mode(1), nil) }},
		"open": {2, func(a args) string {
			mode := uint32(0o644)
			if len(a.words) > 2 {
				mode = a.mode(2)
			}
			return open(a.path(0), flagsOf(a.words[1]), mode, nil)
		}},
		"write": {2, func(a args) string {
			return open(a.path(0), unix.O_WRONLY, 0, func(fd int) error {
				_, err := unix.Pwrite(fd, []byte(a.words[1]), 0)
				return err
			})
		}},
		"append": {2, func(a args) string {
			return open(a.path(0), unix.O_WRONLY|unix.O_APPEND, 0, func(fd int) error {
				_, err := unix.Write(fd, []byte(a.words[1]))
				return err
			})
		}},
		"read":     {1, read},
		"truncate": {2, func(a args) string { return answer(unix.Truncate(a.path(0), a.number(1))) }},
		"ftruncate": {3, func(a args) string {
			return open(a.path(0), flagsOf(a.words[1]), 0, func(fd int) error { return unix.Ftruncate(fd, a.number(2)) })
		}},
		"fchmod": {3, func(a args) string {
			return open(a.path(0), flagsOf(a.words[1]), 0, func(fd int) error { return unix.Fchmod(fd, a.mode(2)) })
		}},
		"access": {2, func(a args) string {
			mode := uint32(0)
			for i, c := range "xwr" {
				if strings.ContainsRune(a.words[1], c) {
					mode |= 1 << i
				}
			}
			return answer(unix.Access(a.path(0), mode))
		}},
		"stat":  {1, func(a args) string { var st unix.Stat_t; return told(&st, unix.Stat(a.path(0), &st)) }},
		"lstat": {1, func(a args) string { var st unix.Stat_t; return told(&st, unix.Lstat(a.path(0), &st)) }},
		"time": {1, func(a args) string {
			var st unix.Stat_t
			if err := unix.Lstat(a.path(0), &st); err != nil {
				return answer(err)
			}
			return fmt.Sprintf("OK %d.%d", st.Mtim.Sec, st.Mtim.Nsec)
		}},
		"list": {1, list},
	}
}

// told is what stat tells; directories have sizes of their file system's own.
func told(st *unix.Stat_t, err error) string {
	if err != nil {
		return answer(err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		st.Size = 0
	}
	return fmt.Sprintf("OK %o %d", st.Mode, st.Size)
}

func flagsOf(word string) (flags int) {
	known := map[string]int{"r": unix.O_RDONLY, "w": unix.O_WRONLY, "rw": unix.O_RDWR, "creat": unix.O_CREAT, "excl": unix.O_EXCL, "trunc": unix.O_TRUNC, "append": unix.O_APPEND, "dir": unix.O_DIRECTORY,
		"nofollow": unix.O_NOFOLLOW, "path": unix.O_PATH, "sync": unix.O_SYNC, "direct": unix.O_DIRECT, "tmp": unix.O_TMPFILE}
	for w := range strings.SplitSeq(word, ",") {
		f, ok := known[w]
		if !ok {
			panic("no flag " + w) // a table is wrong
		}
		flags |= f
	}
	return flags
}

// open opens a file, does something with it, and closes it; the first error is told.
func open(path string, flags int, mode uint32, do func(fd int) error) string {
	fd, err := unix.Open(path, flags, mode)
	if err != nil {
		return answer(err)
	}
	if do != nil {
		err = do(fd)
	}
	if e := unix.Close(fd); err == nil {
		err = e
	}
	return answer(err)
}

func read(a args) string {
	b, n := make([]byte, 100), 0
	got := open(a.path(0), unix.O_RDONLY, 0, func(fd int) (err error) {
		n, err = unix.Pread(fd, b, 0)
		return err
	})
	if got != "OK" {
		return got
	}
	return "OK " + string(b[:n])
}

func list(a args) string {
	var all []string
	got := open(a.path(0), unix.O_RDONLY|unix.O_DIRECTORY, 0, func(fd int) error {
		for b := make([]byte, 8192); ; {
			n, err := unix.ReadDirent(fd, b)
			if n <= 0 {
				return err
			}
			_, _, all = unix.ParseDirent(b[:n], -1, all)
		}
	})
	if got != "OK" {
		return got
	}
	slices.Sort(all)
	return "OK " + filepath.Join(all...)
}

package mount

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// readAhead has the kernel read so many bytes ahead of who reads a file of the mount at dir one piece after the other. It makes no request of the mount. The kernel takes the number at any time from who is root alone.
func readAhead(dir string, bytes int) error {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st); err != nil {
		return err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	if !isMount(string(mounts), device(&st)) { // somebody has taken it away: that would be another's device
		return errors.New("it is not there any more")
	}
	f, err := os.OpenFile("/sys/class/bdi/"+device(&st)+"/read_ahead_kb", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strconv.Itoa(bytes >> 10))
	return errors.Join(err, f.Close())
}

// device is the one that something is on, as /sys and mountinfo name it.
func device(st *unix.Statx_t) string { return fmt.Sprintf("%d:%d", st.Dev_major, st.Dev_minor) }

// isMount reports whether a device is that of a mount of this kind, by what mountinfo says.
func isMount(mounts, device string) bool {
	for line := range strings.Lines(mounts) {
		at, kind, _ := strings.Cut(line, " - ")
		if fields := strings.Fields(at); len(fields) > 2 && fields[2] == device && strings.HasPrefix(kind, "fuse.blocktree ") {
			return true
		}
	}
	return false
}

package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// maxWrite is how much the kernel sends at once.
const maxWrite = 1 << 20

func main() {
	keep := flag.Bool("keep", false, "remember nothing, and lose nothing: a drive to measure with")
	flag.Usage = func() { fmt.Fprintln(os.Stderr, "usage: lossydisk [-keep] DIR MOUNTPOINT") }
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	if err := serve(flag.Arg(0), flag.Arg(1), *keep); err != nil {
		fmt.Fprintln(os.Stderr, "lossydisk: error:", err)
		os.Exit(1)
	}
}

func serve(dir, mountpoint string, keep bool) error {
	d, err := newDisk(filepath.Join(dir, "data"), filepath.Join(dir, "removed"))
	if err != nil {
		return err
	}
	d.keeps = keep
	root, err := d.newRoot()
	if err != nil {
		return err
	}
	short := time.Second
	server, err := fs.Mount(mountpoint, root, &fs.Options{EntryTimeout: &short, AttrTimeout: &short,
		MountOptions: fuse.MountOptions{FsName: dir, Name: "lossy", DirectMount: true, MaxWrite: maxWrite}})
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() { // commits old names until the end
		defer close(ended)
		d.age(stop)
	}()
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() && lines.Text() != "end" {
		if answer, err := d.command(lines.Text()); err != nil {
			fmt.Println("error", err)
		} else {
			fmt.Println("ok", answer)
		}
	}
	close(stop)
	<-ended
	if err := server.Unmount(); err != nil {
		return unix.Unmount(mountpoint, unix.MNT_DETACH) // somebody still looks at it
	}
	return nil
}

// command does what one line says.
func (d *disk) command(line string) (answer string, err error) {
	var seed uint64
	var ms float64
	switch {
	case line == "flushes":
		return fmt.Sprintf("%d %d %d", d.flushes.Load(), d.idle.Load(), d.flushing.Load()/int64(time.Microsecond)), nil
	case d.keeps && scan(line, "cut %d", &seed):
		return "", errors.New("nothing is remembered that could be lost")
	case line == "failsync":
		d.failSync.Store(true)
	case scan(line, "slow %g", &ms):
		d.slow.Store(int64(ms * float64(time.Millisecond)))
	case scan(line, "cut %d", &seed):
		return d.cut(seed)
	default:
		return "", fmt.Errorf("unknown: %s", line)
	}
	return line, nil
}

func scan(line, format string, to any) bool {
	n, err := fmt.Sscanf(line, format, to)
	return n == 1 && err == nil
}

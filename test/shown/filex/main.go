package main

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	seed := flag.Uint64("seed", 1, "what is done, and in which order")
	duration := flag.Duration("for", time.Minute, "how long")
	sizeMax := flag.Int("size", 300_000, "bytes that the file has at most")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "filex: error: name a directory\nfilex: hint: filex -seed 7 -for 1m DIR")
		os.Exit(2)
	}
	name := filepath.Join(flag.Arg(0), fmt.Sprintf("filex-%d", *seed))
	f := &file{rng: rand.New(rand.NewPCG(*seed, 7)), name: name, sizeMax: *sizeMax}
	steps, err := f.run(time.Now().Add(*duration))
	if err != nil {
		for _, line := range f.log[max(0, len(f.log)-20):] {
			fmt.Fprintln(os.Stderr, "filex:", line)
		}
		fmt.Fprintf(os.Stderr, "filex: error: seed %d, operation %d: %v\nfilex: hint: filex -seed %d -size %d -for %v %s\n", *seed, steps, err, *seed, *sizeMax, *duration, flag.Arg(0))
		os.Exit(1)
	}
	fmt.Printf("%d operations, seed %d\n", steps, *seed)
}

// file is the file, and what it should have.
type file struct {
	rng     *rand.Rand
	name    string
	sizeMax int
	fds     []*os.File
	model   []byte
	log     []string
}

// operation does something and says what.
type operation struct {
	weight int
	do     func(f *file, fd *os.File) (string, error)
}

func operations() []operation {
	return []operation{{8, (*file).write}, {8, (*file).read}, {2, (*file).truncate}, {3, (*file).mapRead}, {3, (*file).mapWrite}, {2, (*file).add}, {1, (*file).punch}, {2, (*file).sync}, {1, (*file).reopen}, {2, (*file).whole}}
}

func (f *file) run(until time.Time) (steps int, err error) {
	fd, err := os.OpenFile(f.name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	f.fds = []*os.File{fd}
	all, total := operations(), 0
	for _, o := range all {
		total += o.weight
	}
	for ; time.Now().Before(until); steps++ {
		k := f.rng.IntN(total)
		for _, o := range all {
			if k -= o.weight; k < 0 {
				what, err := o.do(f, f.fds[f.rng.IntN(len(f.fds))])
				if f.log = append(f.log, what); len(f.log) > 1000 {
					f.log = f.log[500:]
				}
				if err != nil {
					return steps, fmt.Errorf("%s: %w", what, err)
				}
				break
			}
		}
	}
	for _, fd := range f.fds {
		if err := fd.Close(); err != nil {
			return steps, fmt.Errorf("close: %w", err)
		}
	}
	got, err := os.ReadFile(f.name)
	if err == nil {
		err = f.compare(got, 0, len(f.model))
	}
	if err == nil {
		err = os.Remove(f.name)
	}
	return steps, err
}

// span is a part of the file, and a bit behind.
func (f *file) span() (off, n int) {
	off = f.rng.IntN(min(len(f.model)+20_000, f.sizeMax))
	return off, 1 + f.rng.IntN(min(40_000, f.sizeMax-off))
}

// reach adds zeros to what it should have.
func (f *file) reach(end int) {
	if n := len(f.model); n < end {
		f.model = append(f.model, make([]byte, end-n)...)
	}
}

// compare compares what was read at a place.
func (f *file) compare(got []byte, off, n int) error {
	want := f.model[min(off, len(f.model)):min(off+n, len(f.model))]
	if bytes.Equal(got, want) {
		return nil
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Errorf("byte %d is %#x, not %#x (%d bytes were read, %d wanted, from %d; the file has %d)", off+i, got[i], want[i], len(got), len(want), off, len(f.model))
		}
	}
	return fmt.Errorf("%d bytes were read from %d, not %d; the file has %d", len(got), off, len(want), len(f.model))
}

func (f *file) bytes(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(f.rng.Uint32())
	}
	return p
}

func (f *file) write(fd *os.File) (string, error) {
	off, n := f.span()
	p := f.bytes(n)
	f.reach(off + n)
	copy(f.model[off:], p)
	_, err := fd.WriteAt(p, int64(off))
	return fmt.Sprintf("write %d at %d", n, off), err
}

func (f *file) read(fd *os.File) (string, error) {
	off, n := f.span()
	p := make([]byte, n)
	done, err := unix.Pread(int(fd.Fd()), p, int64(off))
	if err == nil {
		err = f.compare(p[:done], off, n)
	}
	return fmt.Sprintf("read %d at %d", n, off), err
}

func (f *file) whole(*os.File) (string, error) {
	got, err := os.ReadFile(f.name)
	if err == nil {
		err = f.compare(got, 0, len(f.model))
	}
	if err == nil {
		var st os.FileInfo
		if st, err = os.Stat(f.name); err == nil && st.Size() != int64(len(f.model)) {
			err = fmt.Errorf("stat says %d bytes, not %d", st.Size(), len(f.model))
		}
	}
	return "read all by another descriptor, and stat", err
}

func (f *file) truncate(fd *os.File) (string, error) {
	n := f.rng.IntN(f.sizeMax)
	f.reach(n)
	f.model = f.model[:n:n]
	if f.rng.IntN(2) == 0 {
		return fmt.Sprintf("truncate to %d by name", n), os.Truncate(f.name, int64(n))
	}
	return fmt.Sprintf("truncate to %d", n), fd.Truncate(int64(n))
}

// mapped maps the whole file.
func (f *file) mapped(fd *os.File, prot int, do func(m []byte) error) error {
	m, err := unix.Mmap(int(fd.Fd()), 0, len(f.model), prot, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	err = do(m)
	if e := unix.Munmap(m); err == nil {
		err = e
	}
	return err
}

func (f *file) mapRead(fd *os.File) (string, error) {
	off, n := f.span()
	if off >= len(f.model) {
		return "nothing to map", nil
	}
	n = min(n, len(f.model)-off)
	return fmt.Sprintf("read %d at %d by a mapping", n, off), f.mapped(fd, unix.PROT_READ, func(m []byte) error { return f.compare(m[off:off+n], off, n) })
}

func (f *file) mapWrite(fd *os.File) (string, error) {
	off, n := f.span()
	if off >= len(f.model) {
		return "nothing to map", nil
	}
	p := f.bytes(min(n, len(f.model)-off))
	synced := f.rng.IntN(2) == 0
	err := f.mapped(fd, unix.PROT_READ|unix.PROT_WRITE, func(m []byte) error {
		copy(m[off:], p)
		if synced {
			return unix.Msync(m, unix.MS_SYNC)
		}
		return nil
	})
	copy(f.model[off:], p)
	return fmt.Sprintf("write %d at %d by a mapping, msync %v", len(p), off, synced), err
}

func (f *file) add(*os.File) (string, error) {
	n := 1 + f.rng.IntN(5000)
	if len(f.model)+n > f.sizeMax {
		return "no room to append", nil
	}
	p := f.bytes(n)
	f.model = append(f.model, p...)
	fd, err := os.OpenFile(f.name, os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_, err = fd.Write(p)
		if e := fd.Close(); err == nil {
			err = e
		}
	}
	return fmt.Sprintf("append %d", n), err
}

func (f *file) punch(fd *os.File) (string, error) {
	off, n := f.span()
	if off < len(f.model) {
		clear(f.model[off:min(len(f.model), off+n)])
	}
	return fmt.Sprintf("punch %d at %d", n, off), unix.Fallocate(int(fd.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n))
}

func (f *file) sync(fd *os.File) (string, error) { return "fsync", fd.Sync() }

// reopen closes a descriptor and opens another, or one more.
func (f *file) reopen(fd *os.File) (string, error) {
	what := "open one more"
	if len(f.fds) > 2 || f.rng.IntN(2) == 0 {
		what = "open anew"
		for i, x := range f.fds {
			if x == fd {
				f.fds = append(f.fds[:i], f.fds[i+1:]...)
				break
			}
		}
		if err := fd.Close(); err != nil {
			return what, err
		}
	}
	fd, err := os.OpenFile(f.name, os.O_RDWR, 0)
	if err == nil {
		f.fds = append(f.fds, fd)
	}
	return what, err
}

package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// recordAlign is what a record takes a multiple of in a log.
const recordAlign = 4096

func main() {
	var err error
	switch args := os.Args[1:]; {
	case len(args) >= 4 && args[0] == "member":
		err = member(args[1], args[2], args[3], args[4:])
	case len(args) == 5:
		err = measure(args[0], args[1], args[2:])
	default:
		fmt.Fprintln(os.Stderr, "usage: replicated FILES BYTES DIR DIR DIR")
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "replicated: error:", err)
		os.Exit(1)
	}
}

// measure starts the three, and is their client.
func measure(files, bytes string, dirs []string) (err error) {
	count, err := strconv.Atoi(files)
	if err != nil {
		return err
	}
	size, err := strconv.Atoi(bytes)
	if err != nil {
		return err
	}
	var addrs []string
	for i, dir := range []string{dirs[1], dirs[2], dirs[0]} { // the leader is the last, and is told of the others
		args := []string{"member", dir, files, bytes}
		if i == 2 {
			args = append(args, addrs...)
		}
		end, addr, e := start(args)
		if e != nil {
			return e
		}
		defer func() { err = errors.Join(err, end()) }()
		addrs = append(addrs, addr)
	}
	leader, err := net.Dial("tcp", addrs[2])
	if err != nil {
		return err
	}
	defer leader.Close()
	record := make([]byte, size)
	began := time.Now()
	for i := range count {
		binary.BigEndian.PutUint64(record, uint64(i))
		if _, err := leader.Write(record); err != nil {
			return err
		}
		if got, err := answer(leader); err != nil || got != uint64(i) {
			return fmt.Errorf("answer %d to %d: %w", got, i, err)
		}
	}
	fmt.Println(float64(count) / time.Since(began).Seconds())
	return nil
}

// start starts a member. It ends when whoever sends it records does; end waits for that.
func start(args []string) (end func() error, addr string, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	c := exec.Command(self, args...)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		return nil, "", err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := c.Start(); err != nil {
		return nil, "", err
	}
	end = func() error { return errors.Join(in.Close(), c.Wait()) }
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, "", errors.Join(err, end())
	}
	return end, strings.TrimSpace(line), nil
}

// member is a follower, or the leader of followers.
func member(dir, files, bytes string, followers []string) error {
	count, err := strconv.Atoi(files)
	if err != nil {
		return err
	}
	size, err := strconv.Atoi(bytes)
	if err != nil || size < 8 {
		return fmt.Errorf("records of %q bytes: %w", bytes, err)
	}
	log, err := newLog(filepath.Join(dir, "replicated.log"), count, size)
	if err != nil {
		return err
	}
	var conns []net.Conn
	for _, addr := range followers {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		conns = append(conns, c)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { // ends with the input: then nobody comes any more who has not
		_, _ = io.Copy(io.Discard, os.Stdin) // its end is what is waited for
		_ = l.Close()
	}()
	fmt.Println(l.Addr())
	c, err := l.Accept()
	if err != nil {
		return err
	}
	return errors.Join(log.serve(c, conns), log.file.Close(), os.Remove(log.file.Name()))
}

// recordLog is a log of records of one size, all of whose blocks are there.
type recordLog struct {
	file *os.File
	size int
	step int64
}

func newLog(path string, count, size int) (*recordLog, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	l := &recordLog{file: f, size: size, step: int64(size+recordAlign-1) / recordAlign * recordAlign}
	if _, err := f.Write(make([]byte, l.step*int64(count))); err != nil {
		return nil, err
	}
	return l, f.Sync()
}

// serve takes records until there are none; done is told by each who has one.
func (l *recordLog) serve(c net.Conn, followers []net.Conn) error {
	record := make([]byte, l.size)
	done := make(chan uint64, 1024)
	failed := make(chan error, len(followers)+1)
	for _, f := range followers {
		go func() { // ends with the connection
			for {
				n, err := answer(f)
				if err != nil {
					failed <- err
					return
				}
				done <- n
			}
		}()
	}
	asked := 0 // answers that are not there yet
	for at := int64(0); ; at += l.step {
		if _, err := io.ReadFull(c, record); errors.Is(err, io.EOF) {
			for ; asked > 0; asked-- { // so that nobody answers who is gone
				<-done
			}
			return nil
		} else if err != nil {
			return err
		}
		asked += len(followers)
		n := binary.BigEndian.Uint64(record)
		for _, f := range followers {
			if _, err := f.Write(record); err != nil {
				return err
			}
		}
		if _, err := l.file.WriteAt(record, at); err != nil {
			return err
		}
		if err := unix.Fdatasync(int(l.file.Fd())); err != nil {
			return err
		}
		for waits := len(followers) > 0; waits; { // one of the two is enough
			select {
			case got := <-done:
				asked--
				waits = got != n
			case err := <-failed:
				return err
			}
		}
		if _, err := c.Write(record[:8]); err != nil {
			return err
		}
	}
}

// answer reads the number of a record.
func answer(r io.Reader) (uint64, error) {
	var b [8]byte
	_, err := io.ReadFull(r, b[:])
	return binary.BigEndian.Uint64(b[:]), err
}

package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// kind of a record.
type kind uint32

const (
	kindWrite kind = iota + 1
	kindZero       // WRITE_ZEROES and TRIM
	kindFlush

	fua = kind(1 << 8) // beside a kind: the answer says that it is durable
)

const (
	headerBytes = 24
	magic       = uint64(0x62742d77726c6f67) // "bt-wrlog"
)

// record is one entry. Its data, if it is a write, lie in the log at at.
type record struct {
	kind   kind
	length uint32
	offset uint64 // of a flush: how many records it covers
	at     int64
}

// logFile is a log that is written.
type logFile struct {
	mu     sync.Mutex
	f      *os.File
	name   string
	count  uint64
	points int
}

func createLog(name string, size uint64) (*logFile, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	head := binary.BigEndian.AppendUint64(nil, magic)
	head = binary.BigEndian.AppendUint64(head, size)
	_, err = f.Write(append(head, make([]byte, headerBytes-len(head))...))
	return &logFile{f: f, name: name}, err
}

// now is how many records there are: what a flush covers that is sent now.
func (l *logFile) now() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// add appends a record.
func (l *logFile) add(k kind, offset uint64, length uint32, data []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := binary.BigEndian.AppendUint32(make([]byte, 0, headerBytes+len(data)), uint32(k))
	b = binary.BigEndian.AppendUint32(b, length)
	b = binary.BigEndian.AppendUint64(b, offset)
	b = binary.BigEndian.AppendUint64(b, uint64(len(data)))
	if _, err := l.f.Write(append(b, data...)); err != nil {
		return err
	}
	l.count++
	if k != kindFlush {
		return nil
	}
	l.points++
	return os.WriteFile(l.name+".points", fmt.Appendln(nil, l.points), 0o600)
}

// readLog reads all headers of a log. A record that was cut off at the end is left out.
func readLog(name string) (size uint64, records []record, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, nil, err
	}
	defer f.Close() // read only
	r := bufio.NewReader(f)
	head := make([]byte, headerBytes)
	if _, err := io.ReadFull(r, head); err != nil || binary.BigEndian.Uint64(head) != magic {
		return 0, nil, fmt.Errorf("%s is no write log", name)
	}
	size = binary.BigEndian.Uint64(head[8:])
	for at := int64(headerBytes); ; {
		if _, err := io.ReadFull(r, head); err != nil {
			return size, records, ignoreEnd(err)
		}
		data := int64(binary.BigEndian.Uint64(head[16:]))
		at += headerBytes
		if n, err := io.CopyN(io.Discard, r, data); n < data {
			return size, records, ignoreEnd(err)
		}
		records = append(records, record{kind: kind(binary.BigEndian.Uint32(head)), length: binary.BigEndian.Uint32(head[4:]),
			offset: binary.BigEndian.Uint64(head[8:]), at: at})
		at += data
	}
}

func ignoreEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// points are the places of the flushes.
func points(records []record) (at []int) {
	for i, r := range records {
		if r.kind == kindFlush {
			at = append(at, i)
		}
	}
	return at
}

// image makes a file of what must be there at a flush point, counted from 1; 0 is the last one and all that follows.
func image(log string, point int, name string, seed uint64) error {
	size, records, err := readLog(log)
	if err != nil {
		return err
	}
	flushes := points(records)
	if point < 0 || point > len(flushes) {
		return fmt.Errorf("there are %d flush points, no %d", len(flushes), point)
	}
	covered, end := len(records), len(records)
	if point > 0 {
		covered = int(records[flushes[point-1]].offset)
		if point < len(flushes) {
			end = flushes[point]
		}
	}
	in, err := os.Open(log)
	if err != nil {
		return err
	}
	defer in.Close() // read only
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	err = out.Truncate(int64(size))
	rnd := rand.New(rand.NewPCG(seed, 3))
	if seed == 0 {
		end = covered
	} else {
		end = covered + rnd.IntN(end-covered+1) // when the power fails
	}
	for i, r := range records[:end] {
		if i >= covered && r.kind&fua == 0 && rnd.IntN(2) == 0 {
			continue
		}
		if err == nil {
			err = apply(in, out, r)
		}
	}
	return errors.Join(err, out.Close())
}

// apply does to an image what a record did to the device.
func apply(in, out *os.File, r record) error {
	if r.kind == kindFlush {
		return nil
	}
	if r.kind&^fua == kindZero { // mkfs zeroes the whole device
		return unix.Fallocate(int(out.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(r.offset), int64(r.length))
	}
	data := make([]byte, r.length)
	if _, err := in.ReadAt(data, r.at); err != nil {
		return err
	}
	_, err := out.WriteAt(data, int64(r.offset))
	return err
}

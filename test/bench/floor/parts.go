package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/crypto/seal"
	"blocktree/internal/erasure"
	"blocktree/internal/vfs"
)

const (
	partsRounds = 60
	// pieceBytes is what goes through a socket at a time: it fits the buffers of one that nobody reads meanwhile.
	pieceBytes = 64 << 10
	partsBytes = 1 << 20
	partsCount = partsBytes / sectorBytes
)

// part is a step of a request of 1 MiB, done by one thread with nothing else to do.
type part struct {
	name          string
	writes, reads float64 // how many times 1 MiB write and read need it
	do            func() error
}

// parts prints the processor time of each. It is below what the floor takes for it: nobody is woken, nobody waits, and what one step leaves in the
// processor's cache is there for the next round.
func parts(ctx context.Context, dir string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	list, end, err := allParts(ctx, dir)
	if err != nil {
		return err
	}
	defer end()
	took := make([][]float64, len(list))
	for range partsRounds {
		for i, p := range list {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			before := threadCPU()
			if err := p.do(); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			took[i] = append(took[i], float64(threadCPU()-before)/1e3)
		}
	}
	var write, read float64
	fmt.Printf("%-64s %9s %9s %9s %9s\n", "µs of CPU, least and median of 60", "least", "median", "a write", "a read")
	for i, p := range list {
		slices.Sort(took[i])
		m := took[i][partsRounds/2]
		write, read = write+p.writes*m, read+p.reads*m
		fmt.Printf("%-64s %9.0f %9.0f %9.0f %9.0f\n", p.name, took[i][0], m, p.writes*m, p.reads*m)
	}
	fmt.Printf("%-64s %9s %9s %9.0f %9.0f\n", "sum of the medians", "", "", write, read)
	return nil
}

// threadCPU is what this thread has taken of a processor.
func threadCPU() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) // cannot fail
	return time.Duration(t.Nano())
}

// allParts are the steps in the order of a write, with the memory they work on.
func allParts(ctx context.Context, dir string) ([]part, func(), error) {
	codec, err := erasure.New(blocktree.Code{Data: dataShards, Parity: allShards - dataShards})
	if err != nil {
		return nil, nil, err
	}
	src := make([]byte, partsBytes)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(src) // it never fails
	sealer := seal.New([32]byte{2}, seal.XAES256GCM, blocktree.FileID{Generation: 1, Inode: 1}, 1)
	var shards [allShards][]byte
	for i := range shards {
		shards[i] = make([]byte, partsBytes/dataShards)
	}
	seals, back := make([]byte, partsCount*seal.HeaderBytes), make([]byte, partsBytes)
	sectors := func(do func(i int, room [][]byte) error) func() error {
		return func() error {
			var room [dataShards][]byte
			for i := range partsCount {
				for s := range room {
					room[s] = shards[s][i*shardBytes : (i+1)*shardBytes]
				}
				if err := do(i, room[:]); err != nil {
					return err
				}
			}
			return nil
		}
	}
	v := blocktree.Version{Epoch: 1, Sequence: 1}
	list := []part{
		{"seals, leaves and places in shards", 1, 0, func() error {
			sealer.SealRun(&request{shards: shards, seals: seals}, src, sectorBytes, 0, v)
			return nil
		}},
		{"  leaves of that size, one by one", 0, 0, sectors(func(i int, _ [][]byte) error { _ = sha256.Sum256(src[i*sectorBytes : (i+1)*sectorBytes]); return nil })},
		{"parity", 1, 0, func() error { return codec.Encode(shards[:]) }},
		{"CRC of each sector of a shard", 3, 2, sectors(func(i int, room [][]byte) error {
			_ = shardCRC(uint64(i), seals[i*seal.HeaderBytes:(i+1)*seal.HeaderBytes], room[0])
			return nil
		})},
		{"a sector opened", 0, 1, sectors(func(i int, room [][]byte) error {
			return sealer.OpenParts(back[i*sectorBytes:(i+1)*sectorBytes], room, blocktree.SectorIndex(i), v, seals[i*seal.HeaderBytes:(i+1)*seal.HeaderBytes])
		})},
	}
	tlsList, err := tlsParts(ctx, shards[0], seals)
	if err != nil {
		return nil, nil, err
	}
	sockets, endSockets, err := socketParts(ctx, dir, src)
	if err != nil {
		return nil, nil, err
	}
	disk, endDisk, err := diskParts(dir, shards[0], seals)
	if err != nil {
		endSockets()
		return nil, nil, err
	}
	return slices.Concat(list, tlsList, sockets, disk), func() { endSockets(); endDisk() }, nil
}

// tape is a connection whose bytes stay in memory: what one end writes the other reads, after a handshake over conn.
type tape struct {
	net.Conn
	holding bool
	out     []byte
	from    *tape
	first   int
}

func (t *tape) Write(p []byte) (int, error) {
	if !t.holding {
		return t.Conn.Write(p)
	}
	t.out = append(t.out, p...)
	return len(p), nil
}

func (t *tape) Read(p []byte) (int, error) {
	if !t.holding {
		return t.Conn.Read(p)
	}
	n := copy(p, t.from.out[t.first:])
	if t.first += n; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// tlsParts are a shard sealed into records that lie one behind the other, and opened from there into other memory.
func tlsParts(ctx context.Context, shard, seals []byte) ([]part, error) {
	key, err := cred.GenerateKey()
	if err != nil {
		return nil, err
	}
	serve, err := cred.NewTLSConfig(cred.TLSOptions{Key: key, ALPN: []string{alpn}, Server: true})
	if err != nil {
		return nil, err
	}
	call, err := cred.NewTLSConfig(cred.TLSOptions{Key: key, Expect: key.Principal(), ALPN: []string{alpn}})
	if err != nil {
		return nil, err
	}
	a, b := net.Pipe()
	from, to := &tape{Conn: a}, &tape{Conn: b}
	to.from, from.from = from, to
	client, server := tls.Client(from, call), tls.Server(to, serve)
	shaken := make(chan error, 1)
	go func() { shaken <- server.HandshakeContext(ctx) }()
	if err := errors.Join(client.HandshakeContext(ctx), <-shaken); err != nil {
		return nil, err
	}
	from.holding, to.holding = true, true
	message := make([]byte, len(shard)+len(seals))
	return []part{
		{"TLS: a shard and its seals into records, side by side", 3, 2, func() error {
			from.out, to.first = from.out[:0], 0
			_, err := client.Write(shard)
			_, err2 := client.Write(seals)
			return errors.Join(err, err2)
		}},
		{"TLS: that opened, and copied to the message", 3, 2, func() error { _, err := io.ReadFull(server, message); return err }},
	}, nil
}

// socketParts send 1 MiB through a unix socket, and a shard with its seals through TCP, in pieces that the other end takes at once.
func socketParts(ctx context.Context, dir string, src []byte) ([]part, func(), error) {
	var ends []io.Closer
	end := func() {
		for _, c := range ends {
			_ = c.Close()
		}
	}
	var list []part
	for _, s := range []struct {
		network, address string
		bytes            int
		name             string
		writes, reads    float64
	}{
		{"unix", filepath.Join(dir, "parts.sock"), partsBytes, "NBD: 1 MiB into a unix socket and out of it", 1, 1},
		{"tcp", "127.0.0.1:0", partsBytes/dataShards + partsCount*seal.HeaderBytes, "TCP: a shard and its seals into a socket and out of it", 3, 2},
	} {
		l, err := net.Listen(s.network, s.address)
		if err != nil {
			end()
			return nil, nil, err
		}
		ends = append(ends, l)
		from, err := new(net.Dialer).DialContext(ctx, s.network, l.Addr().String())
		if err != nil {
			end()
			return nil, nil, err
		}
		ends = append(ends, from)
		to, err := l.Accept()
		if err != nil {
			end()
			return nil, nil, err
		}
		ends = append(ends, to)
		in := make([]byte, partsBytes)
		list = append(list, part{s.name, s.writes, s.reads, func() error {
			for sent := 0; sent < s.bytes; {
				n := min(pieceBytes, s.bytes-sent)
				if _, err := from.Write(src[sent : sent+n]); err != nil {
					return err
				}
				if _, err := io.ReadFull(to, in[sent:sent+n]); err != nil {
					return err
				}
				sent += n
			}
			return nil
		}})
	}
	return list, end, nil
}

// diskParts write a record of 512 KiB around a log that was written before, sync it, and read it.
func diskParts(dir string, shard, seals []byte) ([]part, func(), error) {
	const logBytes = 64 << 20
	name := filepath.Join(dir, "parts.log")
	f, err := vfs.Disk{}.Create(name)
	if err != nil {
		return nil, nil, err
	}
	end := func() { _ = f.Close(); _ = os.Remove(name) }
	chunk := make([]byte, 1<<20)
	for at := int64(0); at < logBytes; at += int64(len(chunk)) {
		if _, err := f.WriteAt(chunk, at); err != nil {
			end()
			return nil, nil, err
		}
	}
	if err := f.Datasync(); err != nil {
		end()
		return nil, nil, err
	}
	at, read := int64(0), make([]byte, len(shard))
	record := vfs.DirectMemory((len(shard) + len(seals) + vfs.DirectBytes - 1) &^ (vfs.DirectBytes - 1))
	copy(record[copy(record, shard):], seals)
	return []part{
		{"log: a record, past the page cache", 3, 0, func() error {
			at = (at + 1<<20) % logBytes
			_, err := f.(vfs.Direct).WriteDirectAt([][]byte{record}, at)
			return err
		}},
		{"log: fdatasync", 3, 0, f.Datasync},
		{"log: a record out of the page cache, or into it", 0, 2, func() error { _, err := f.ReadAt(read, at); return err }},
	}, end, nil
}

package nbd

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"blocktree"
	"blocktree/blockdev/memfile"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// TestChaos lets many clients break off anywhere, over a file that fails now and then and a budget that is too small, and
// stops the server in the middle of it. The bed counts what is left: slots, goroutines, bytes.
func TestChaos(t *testing.T) {
	for _, prompt := range []bool{false, true} {
		hook := func(_ context.Context, c memfile.Call) error {
			runtime.Gosched()
			if c.Op != memfile.Flush && rand.IntN(10) == 0 {
				return blocktree.E("test", blocktree.Unavailable, nil)
			}
			return nil
		}
		b := newBed(t, setup{file: memfile.Options{Prompt: prompt, Hook: hook}, memory: 300 << 10, cacheBytes: 1 << 20,
			server: func(s *Server) {
				s.stallTimeout = 5 * time.Millisecond
				s.negotiationTimeout = 200 * time.Millisecond
				s.negotiating = make(chan struct{}, 4)
			}})
		var wg sync.WaitGroup
		for g := range uint64(6) {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(g, 11))
				for i := 0; i < 60 || !prompt; i++ { // without a bound on a machine so busy that few get through
					if !rudeVisit(b.socket, r) {
						return // the server has stopped
					}
				}
			})
		}
		visited := make(chan struct{})
		go func() {
			wg.Wait()
			close(visited)
		}()
		if prompt {
			<-visited
			c := b.attach()
			if errno, _ := c.do(cmdFlush, 0, 0, 0, nil); errno != 0 {
				t.Fatalf("error %d", errno)
			}
		} else {
			until(t, "some clients came", func() bool { return b.file.Calls(memfile.Write) > 200 })
		}
		if err := b.srv.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-visited
	}
}

// rudeVisit sends a random conversation, cut at a random byte, takes some of the replies, and leaves somehow.
func rudeVisit(socket string, r *rand.Rand) bool {
	nc, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(time.Duration(r.IntN(30)+1) * time.Millisecond))
	go io.CopyN(io.Discard, nc, int64(r.IntN(1<<20))) // ends with the connection
	c := &client{style: styles[r.IntN(len(styles))]}
	script := []byte{0, 0, 0, 3}
	if c.style != compact {
		script = appendOption(script, map[style]uint32{structured: optStructuredReply, extended: optExtendedHeaders}[c.style], nil)
		script = appendOption(script, optSetMeta, metaQuery{"/vm/disk0", []string{"base:allocation"}}.encode())
	}
	goes := infoRequest{name: "/vm/disk0"}.encode()
	script = appendOption(script, protocol.NEGOTIATION_ID_OPTION_GO, goes)
	for range r.IntN(100) {
		length := r.IntN(1 << r.IntN(19))
		command := []uint16{cmdRead, cmdWrite, cmdFlush, cmdTrim, cmdWriteZeroes, cmdCache, cmdBlockStatus, 77}[r.IntN(8)]
		var payload []byte
		if command == cmdWrite {
			payload = make([]byte, length)
		}
		script = append(script, c.request(command, uint16(r.IntN(2)), r.Uint64(), r.Uint64N(1<<20), uint64(length), payload)...)
	}
	switch r.IntN(4) {
	case 0:
		script = append(script, c.request(cmdDisc, 0, 0, 0, 0, nil)...)
	case 1:
		script = append(script, "garbage that is as long as a header"...)
	case 2:
		script = script[:r.IntN(len(script))]
	}
	nc.Write(script) // as far as it goes
	if r.IntN(2) == 0 {
		nc.(*net.UnixConn).CloseWrite()
		io.Copy(io.Discard, nc)
	}
	return true
}

func appendOption(b []byte, id uint32, data []byte) []byte {
	reply := appendReplyHeader(nil, id, 0, len(data)) // its numbers are where an option has them, less the magic
	b = append(b, "IHAVEOPT"...)
	b = append(b, reply[8:12]...)
	return append(append(b, reply[16:20]...), data...)
}

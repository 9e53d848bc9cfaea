package nbd

import (
	"fmt"
	"testing"

	"blocktree/blockdev/memfile"
)

// BenchmarkRequests drives the engine over memory from one connection that keeps depth requests in flight. Both ends
// share the processors; allocations per request are the server's, because the client here makes none.
func BenchmarkRequests(b *testing.B) {
	for _, prompt := range []bool{true, false} {
		for _, command := range []uint16{cmdRead, cmdWrite} {
			for _, depth := range []int{1, 32} {
				name := fmt.Sprintf("prompt=%t/command=%d/depth=%d", prompt, command, depth)
				b.Run(name, func(b *testing.B) { benchmarkRequests(b, prompt, command, depth) })
			}
		}
	}
}

func benchmarkRequests(b *testing.B, prompt bool, command uint16, depth int) {
	const length = 4096
	bed := newBed(b, setup{file: memfile.Options{Prompt: prompt}})
	c := bed.attach()
	request := header(command, 0, 1, 8192, length)
	answer := simpleReplyBytes
	if command == cmdWrite {
		request = append(request, make([]byte, length)...)
	} else {
		answer += length
	}
	burst := make([]byte, 0, depth*len(request))
	for range depth {
		burst = append(burst, request...)
	}
	got := make([]byte, depth*answer)
	b.SetBytes(length)
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += depth {
		c.send(burst)
		for n := 0; n < len(got); {
			k, err := c.nc.Read(got[n:])
			if err != nil {
				b.Fatal(err)
			}
			n += k
		}
	}
	b.StopTimer()
}

package bttp

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"blocktree"
)

// BenchmarkCall has a peer in the same process answer calls, depth of them in flight. The comparison with bare
// connections and with processes of their own is bareexchange.
func BenchmarkCall(b *testing.B) {
	for _, transport := range []Transport{TCP, QUIC} {
		for _, x := range []struct{ out, back, depth int }{
			{2 << 10, 64, 1}, {2 << 10, 64, 32}, {64, 2 << 10, 32}, {512 << 10, 64, 8}, {64, 512 << 10, 8}} {
			b.Run(fmt.Sprintf("%s/out=%d/back=%d/depth=%d", transport, x.out, x.back, x.depth), func(b *testing.B) {
				benchmarkCall(b, transport, x.out, x.back, x.depth)
			})
		}
	}
}

func benchmarkCall(b *testing.B, transport Transport, out, back, depth int) {
	d := newDomain(b)
	answer := make([]byte, back)
	sc, cc := d.pair(transport)
	sc.Handler = HandlerFunc(func(r *Request) { r.Release(); r.Reply(nil, answer) })
	_, r := d.listen(sc)
	benchmarkOn(b, d.dial(d.client(cc), r), out, back, depth)
}

// BenchmarkSelf is what a runtime's exchange with itself costs in memory, and what it costs by TCP.
func BenchmarkSelf(b *testing.B) {
	for _, x := range []struct{ out, back, depth int }{{1, 1, 1}, {4 << 10, 4 << 10, 1}, {4 << 10, 64, 32}, {512 << 10, 64, 8}} {
		for _, transport := range []Transport{TCP, Memory} {
			b.Run(fmt.Sprintf("%s/out=%d/back=%d/depth=%d", transport, x.out, x.back, x.depth), func(b *testing.B) {
				begun := processorTime(b)
				benchmarkCall(b, transport, x.out, x.back, x.depth)
				b.ReportMetric(float64(processorTime(b)-begun)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// processorTime is what the process has used.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRelay is BenchmarkCall through a gateway in the same process.
func BenchmarkRelay(b *testing.B) {
	for _, x := range []struct{ out, back, depth int }{{2 << 10, 64, 1}, {2 << 10, 64, 32}, {512 << 10, 64, 8}, {64, 512 << 10, 8}} {
		b.Run(fmt.Sprintf("out=%d/back=%d/depth=%d", x.out, x.back, x.depth), func(b *testing.B) {
			answer := make([]byte, x.back)
			bed := newRelayBed(b, TCP, TCP, HandlerFunc(func(r *Request) { r.Release(); r.Reply(nil, answer) }))
			benchmarkOn(b, bed.mustVia(), x.out, x.back, x.depth)
		})
	}
}

// benchmarkOn makes b.N calls on the connection.
func benchmarkOn(b *testing.B, conn *Conn, out, back, depth int) {
	var mu sync.Mutex
	left, body, header := b.N, [][]byte{make([]byte, out)}, make([]byte, 40)
	var all sync.WaitGroup
	all.Add(b.N)
	var next func(Reply, error)
	start := func() {
		mu.Lock()
		left--
		more := left >= 0
		mu.Unlock()
		if !more {
			return
		}
		call := conn.Call
		if back >= bulkBytes {
			call = conn.CallBulk
		}
		if err := call(1, header, body, next); err != nil {
			b.Error(err)
			all.Done()
		}
	}
	next = func(r Reply, err error) {
		if err != nil || len(r.Body) != back {
			b.Error(blocktree.KindOf(err), len(r.Body))
		}
		r.Release()
		start()
		all.Done()
	}
	b.SetBytes(int64(out + back))
	b.ReportAllocs()
	b.ResetTimer()
	for range depth {
		start()
	}
	all.Wait()
}

// BenchmarkCallWait has callers of their own goroutines instead of callbacks.
func BenchmarkCallWait(b *testing.B) {
	for _, transport := range []Transport{TCP, QUIC} {
		for _, depth := range []int{1, 32} {
			b.Run(fmt.Sprintf("%s/depth=%d", transport, depth), func(b *testing.B) {
				d := newDomain(b)
				sc, cc := d.config("a"), d.config("b")
				sc.Handler = HandlerFunc(func(r *Request) { r.Release(); r.Reply(nil, make([]byte, 64)) })
				cc.Transport = transport
				_, r := d.listen(sc)
				conn := d.dial(d.client(cc), r)
				body := make([]byte, 2<<10)
				b.ReportAllocs()
				b.ResetTimer()
				var all sync.WaitGroup
				for worker := range depth {
					all.Go(func() {
						for n := worker; n < b.N; n += depth {
							reply, err := conn.CallWait(b.Context(), 1, nil, body)
							if err != nil {
								b.Error(err)
								return
							}
							reply.Release()
						}
					})
				}
				all.Wait()
			})
		}
	}
}

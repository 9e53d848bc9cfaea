package nbd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"blocktree"
	"blocktree/blockdev/memfile"
)

// BenchmarkRequests drives the engine over memory from one connection that keeps depth requests in flight. Both ends
// share the processors; allocations per request are the server's, because the client here makes none.
func BenchmarkRequests(b *testing.B) {
	for _, s := range styles {
		for _, prompt := range []bool{true, false} {
			for _, command := range []uint16{cmdRead, cmdWrite} {
				for _, depth := range []int{1, 32} {
					name := fmt.Sprintf("%v/prompt=%t/command=%d/depth=%d", s, prompt, command, depth)
					b.Run(name, func(b *testing.B) { benchmarkRequests(b, s, prompt, command, depth) })
				}
			}
		}
	}
}

func benchmarkRequests(b *testing.B, s style, prompt bool, command uint16, depth int) {
	const length = 4096
	bed := newBed(b, setup{file: memfile.Options{Prompt: prompt}})
	fillDevice(b, bed)
	c := bed.attachAs(s)
	var payload []byte
	answer := len(bareReply(s))
	if command == cmdWrite {
		payload = bytes.Repeat([]byte{7}, length)
	} else {
		answer = s.room() + length
	}
	request := c.request(command, 0, 1, 8192, length, payload)
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

// fillDevice writes all of a device, so that what is read is not holes.
func fillDevice(b testing.TB, bed *bed) {
	b.Helper()
	data := bytes.Repeat([]byte{7}, 1<<20)
	for at := uint64(0); at < bed.dev.Size(); at += uint64(len(data)) {
		if err := bed.dev.WriteAt(context.Background(), data, at, false); err != nil {
			b.Fatal(err)
		}
	}
}

// bareReply has the length of a reply without data.
func bareReply(s style) []byte {
	if s != extended {
		return make([]byte, simpleReplyBytes)
	}
	return make([]byte, s.chunkBytes())
}

// BenchmarkFio sets the engine over memory beside `nbdkit memory`, both driven by fio from its own process in the same
// run. Each step is a fixed second; the metrics are fio's.
func BenchmarkFio(b *testing.B) {
	for _, program := range []string{"fio", "nbdkit"} {
		if _, err := exec.LookPath(program); err != nil {
			b.Skip("needs " + program)
		}
	}
	const sizeBytes = 512 << 20
	kit := filepath.Join(b.TempDir(), "k")
	cmd := exec.Command("nbdkit", "-f", "-U", kit, "memory", strconv.Itoa(sizeBytes))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	until(b, "nbdkit listens", func() bool { _, err := os.Stat(kit); return err == nil })
	uris := map[string]string{"nbdkit": "nbd+unix:///?socket=" + kit}
	for _, prompt := range []bool{true, false} {
		bed := newBed(b, setup{file: memfile.Options{Prompt: prompt, Info: blocktree.FileInfo{SizeBytes: sizeBytes}}})
		fillDevice(b, bed)
		uris[fmt.Sprintf("prompt=%t", prompt)] = bed.uri("")
	}
	for _, x := range []struct {
		rw, bs string
		depth  int
	}{{"randread", "4k", 1}, {"randread", "4k", 32}, {"randwrite", "4k", 1}, {"randwrite", "4k", 32}, {"read", "1m", 8}, {"write", "1m", 8}} {
		for _, server := range []string{"nbdkit", "prompt=true", "prompt=false"} {
			b.Run(fmt.Sprintf("%s/%s/depth=%d/%s", x.rw, x.bs, x.depth, server), func(b *testing.B) {
				for range b.N {
					benchmarkFio(b, uris[server], x.rw, x.bs, x.depth)
				}
			})
		}
	}
}

func benchmarkFio(b *testing.B, uri, rw, bs string, depth int) {
	report := filepath.Join(b.TempDir(), "report")
	cmd := exec.Command("fio", "--name=b", "--ioengine=nbd", "--uri="+uri, "--rw="+rw, "--bs="+bs, "--size=512m",
		"--iodepth="+strconv.Itoa(depth), "--runtime=1", "--time_based", "--output-format=json", "--output="+report)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(report)
	if err != nil {
		b.Fatal(err)
	}
	type direction struct {
		IOPS float64 `json:"iops"`
	}
	var got struct {
		Jobs []struct{ Read, Write direction }
	}
	if err := json.Unmarshal(text, &got); err != nil || len(got.Jobs) != 1 {
		b.Fatalf("%v in %s", err, text)
	}
	b.ReportMetric(got.Jobs[0].Read.IOPS+got.Jobs[0].Write.IOPS, "requests/s")
}

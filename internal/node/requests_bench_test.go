package node_test

import (
	"fmt"
	"syscall"
	"testing"

	"blocktree"
	"blocktree/fs"
	"blocktree/internal/node"
	"blocktree/internal/testenv"
)

// BenchmarkRequest measures requests of a program that waits for each: one node, which is a filesystem service, and its clients, all in this process. The time that it takes of processors does not tell how busy the machine is.
func BenchmarkRequest(b *testing.B) {
	d := testenv.New(b, 1)
	d.Filesystems = map[int]*node.Filesystem{0: {Reader: d.Reader}}
	d.StartAll()
	c, door := d.Client(), d.Door("first", 0, 0)
	d.Await("a cluster that is founded and whole", func() bool {
		_, err := door.Stat(b.Context(), blocktree.RootPath(d.Root))
		return err == nil && d.AllStarted()
	})
	dir := d.Path("/a/b/c")
	if err := c.MakeDir(b.Context(), dir, 0o755, true); err != nil {
		b.Fatal(err)
	}
	run := func(name string, do func(b *testing.B, i int) error) {
		b.Run(name, func(b *testing.B) {
			begun := processorTime(b)
			for i := 0; b.Loop(); i++ {
				if err := do(b, i); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(processorTime(b)-begun)/float64(b.N), "cpu-ns/op")
		})
	}
	run("cluster-stat", func(b *testing.B, _ int) error {
		_, err := c.Stat(b.Context(), dir)
		return err
	})
	run("stat", func(b *testing.B, _ int) error {
		_, err := door.Stat(b.Context(), dir)
		return err
	})
	made := 0
	run("file", func(b *testing.B, i int) error { // 64 of a directory that is kept
		made++
		at := dir.Join(fmt.Sprint("d", made/64))
		if made%64 == 1 || i == 0 {
			made += 64
			at = dir.Join(fmt.Sprint("d", made/64))
			if err := door.Mkdir(b.Context(), at, 0o755); err != nil {
				return err
			}
		}
		f, err := door.MakeOpen(b.Context(), at.Join(fmt.Sprint(made)), fs.CreateOptions{SizeBytes: 1 << 20, SectorBytes: 4096, Code: blocktree.Code{Data: 1}})
		if err != nil {
			return err
		}
		if err := f.WriteAt(b.Context(), make([]byte, 4096), 0); err != nil {
			return err
		}
		if err := f.Flush(b.Context()); err != nil {
			return err
		}
		return f.Close()
	})
}

// processorTime is what the process has taken of processors, in nanoseconds.
func processorTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

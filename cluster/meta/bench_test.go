package meta

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"

	"blocktree"

	"golang.org/x/sys/unix"
)

// BenchmarkCreateFile makes files in a group of one on the real file system, 64 at a time.
func BenchmarkCreateFile(b *testing.B) {
	g, err := Open(b.Context(), Config{Dir: b.TempDir(), Node: 1, Founders: founders(1), Clock: &fakeClock{},
		Send: func(blocktree.NodeID, []byte) {}})
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close()
	do := func(o Op) {
		if r, err := g.Propose(b.Context(), Command{ID: NewCommandID(), Op: o}); err != nil || r.Kind != 0 {
			b.Fatal(r, err)
		}
	}
	do(Found{Dir: rootDir, Generation: 1, Runtimes: founders(1)})
	do(StartNode{1, incarnation(1), 1, 0})
	var n atomic.Int64
	b.SetParallelism(64)
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			i := n.Add(1)
			do(file(fmt.Sprintf("/d%d/f%d", i%1000, i)))
		}
	})
}

// BenchmarkSync reads linearizably at a follower of three, 64 at a time.
func BenchmarkSync(b *testing.B) {
	w := newWorld(b)
	w.found(3)
	g := w.group(w.leader()%3 + 1)
	b.SetParallelism(64)
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if err := g.Sync(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkCommands applies what a program asks for that writes a small file in a mount, and answers what is asked on the way, six directories deep, where there are files
// already; from the store alone, and with what is kept of it in memory.
func BenchmarkCommands(b *testing.B) {
	for _, kept := range []bool{false, true} {
		b.Run(fmt.Sprintf("cache=%v", kept), func(b *testing.B) { benchCommands(b, kept) })
	}
}

func benchCommands(b *testing.B, kept bool) {
	m := founded(b, 3)
	if kept {
		m.cached()
	}
	owner := somebody(7, 70)
	owner.Chain = []blocktree.Principal{owner.Principal, rootID}
	m.mustAs(somebody(0, 0), MakeDir{Path: path("/a/b/c/d/e"), Parents: true, UID: 7, GID: 70, Mode: 0o755})
	m.mustAs(owner, OpenSession{Session: session(7), Principal: owner.Principal, Path: owner.Path})
	name := func(i int) string { return fmt.Sprintf("/a/b/c/d/e/f%07d", i) }
	make1 := func(i int) {
		c := file(name(i))
		c.UID, c.GID, c.Parents, c.Access = 7, 70, false, nil
		r := m.mustAs(owner, CreateHeld{CreateFile: c, Session: session(7)})
		m.mustAs(owner, ReleaseEnd{Release{Session: session(7), File: r.Inode.ID, Epoch: 1}, 0, 100, 1})
	}
	made := 0
	for ; made < 3000; made++ {
		make1(made)
	}
	b.Run("command", func(b *testing.B) {
		begun := processorTime(b)
		for range b.N {
			make1(made)
			made++
		}
		b.ReportMetric(float64(processorTime(b)-begun)/float64(2*b.N), "cpu-ns/command")
	})
	b.Run("query", func(b *testing.B) {
		begun := processorTime(b)
		for i := range b.N {
			if a := m.ask(Query{Kind: QueryAllowed, Path: path(name(i % 100)), Caller: owner, Time: 1}); a.Kind != blocktree.Other {
				b.Fatal(a.Text)
			}
		}
		b.ReportMetric(float64(processorTime(b)-begun)/float64(b.N), "cpu-ns/query")
	})
}

// BenchmarkManyFiles makes files in one directory, and says how much of tables is written anew for each, and what they take.
func BenchmarkManyFiles(b *testing.B) {
	m := founded(b, 3).cached()
	begun := processorTime(b)
	for i := range b.N {
		c := file(fmt.Sprintf("/f%08d", i))
		c.Access = make([]byte, 400)
		binary.BigEndian.PutUint64(c.Access, uint64(i))
		m.must(c)
	}
	b.ReportMetric(float64(processorTime(b)-begun)/float64(b.N), "cpu-ns/file")
	var merged uint64
	for _, l := range m.db.Metrics().Levels {
		merged += l.TableBytesCompacted
	}
	b.ReportMetric(float64(merged)/float64(b.N), "merged-bytes/file")
}

// processorTime is what this process has had of the processors: of a machine that others use the time says nothing.
func processorTime(b *testing.B) int64 {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return r.Utime.Nano() + r.Stime.Nano()
}

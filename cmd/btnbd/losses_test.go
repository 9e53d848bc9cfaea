package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"
	"blocktree/cluster/stripe"
	"blocktree/internal/config"
	"blocktree/internal/vfs"
)

// flushFile is a file of some durability in memory, with the loss number that a test gives it.
type flushFile struct {
	*memfile.File
	durability stripe.Durability
	loss       uint64
}

func (f *flushFile) Durability() stripe.Durability              { return f.durability }
func (f *flushFile) LossNumber(context.Context) (uint64, error) { return f.loss, nil }

// start is one start of a server with one export, and what is the end of it.
type start struct {
	boot   string
	inode  blocktree.Inode // of the file
	loss   uint64
	remote bool // clients may be on other machines
	accept bool
	ack    bool // the file is of durability ack

	end    string // "clean", "killed", "lost" while it was served
	refuse bool   // what is wanted: every command fails
	log    string // and what the log has of it
}

const exportPath = blocktree.Path("/domain/vm/disk0")

// run starts a server on a state directory, uses its device, and ends it. It returns the state directory as the next start finds it.
func (x start) run(t *testing.T, disk *vfs.Crash) *vfs.Crash {
	t.Helper()
	lose := false
	f := &flushFile{File: memfile.New(memfile.Options{
		Info: blocktree.FileInfo{ID: blocktree.FileID{Generation: 1, Inode: x.inode}, Path: exportPath, SizeBytes: 1 << 20},
		Hook: func(context.Context, memfile.Call) error {
			if lose {
				return blocktree.E("test", blocktree.Lost, nil)
			}
			return nil
		}}), durability: stripe.DurabilityFlush, loss: x.loss}
	if x.ack {
		f.durability = stripe.DurabilityAck
	}
	var log bytes.Buffer
	s := serverOf(1)
	s.log = slog.New(slog.NewTextHandler(&log, nil))
	s.losses = &losses{fs: disk, dir: "/state", boot: x.boot, clientsHere: !x.remote, log: s.log,
		accept: func(p blocktree.Path) bool { return x.accept && p == exportPath }}
	exports := new(blockdev.Exports)
	err := s.openOne(t.Context(), exports, &s.cfg.Exports[0], func(context.Context, *config.Export) (blocktree.File, error) { return f, nil }, blockdev.Options{})
	if err != nil {
		t.Fatalf("%+v: %v", x, err)
	}
	list := exports.List()
	if len(list) != 1 {
		t.Fatalf("%+v: the export is not listed", x)
	}
	d := list[0].Device
	for what, err := range map[string]error{"write": d.WriteAt(t.Context(), make([]byte, 512), 0, false), "flush": d.Flush(t.Context())} {
		if (blocktree.KindOf(err) == blocktree.Lost) != x.refuse || !x.refuse && err != nil {
			t.Errorf("%+v: %s: %v", x, what, err)
		}
		if x.refuse && (!strings.Contains(blocktree.HintOf(err), "--accept-loss=/vm/disk0") || !strings.Contains(log.String(), "hint=")) {
			t.Errorf("%+v: no hint: %v\n%s", x, err, &log)
		}
	}
	if !strings.Contains(log.String(), x.log) {
		t.Errorf("%+v: the log lacks it: %s", x, &log)
	}
	switch x.end {
	case "killed":
		return disk.Kill()
	case "lost":
		lose = true
		if err := d.WriteAt(t.Context(), make([]byte, 512), 0, false); blocktree.KindOf(err) != blocktree.Lost || !strings.Contains(log.String(), "fails from now on") {
			t.Errorf("%+v: %v\n%s", x, err, &log)
		}
	}
	if err := closeExports(exports); (err != nil) != (x.end == "lost") {
		t.Errorf("%+v: close: %v", x, err)
	}
	if err := s.losses.close(); err != nil {
		t.Error(err)
	}
	return disk
}

// TestLossRecords (0014, F9): starts of a server one after the other, and which of them may serve.
func TestLossRecords(t *testing.T) {
	const again = "every command of this export fails until the loss is accepted"
	for name, starts := range map[string][]start{
		"killed, nothing lost": {{boot: "a", end: "killed"}, {boot: "a", end: "killed"}, {boot: "a", end: "clean"}},
		"killed, and a loss, until it is accepted": {{boot: "a", end: "killed"}, {boot: "a", loss: 1, refuse: true, log: again, end: "clean"},
			{boot: "a", loss: 1, refuse: true, log: again, end: "killed"}, {boot: "a", loss: 2, refuse: true, log: again, end: "clean"},
			{boot: "a", loss: 2, accept: true, log: "loss accepted", end: "killed"}, {boot: "a", loss: 2, end: "clean"}},
		"an accepted loss is not the next one": {{boot: "a", end: "killed"}, {boot: "a", loss: 1, accept: true, end: "killed"},
			{boot: "a", loss: 2, refuse: true, end: "clean"}},
		"after a clean close nothing can be lost":   {{boot: "a", end: "clean"}, {boot: "a", loss: 1, log: "it has lost writes", end: "clean"}},
		"lost while it was served":                  {{boot: "a", end: "lost"}, {boot: "a", loss: 1, refuse: true, end: "clean"}},
		"lost while it was served, and as it was":   {{boot: "a", loss: 3, end: "lost"}, {boot: "a", loss: 3, end: "clean"}},
		"another boot ended all clients":            {{boot: "a", end: "killed"}, {boot: "b", loss: 1, log: "before this boot may be gone", end: "killed"}, {boot: "b", loss: 1, end: "clean"}},
		"another boot ended the refusal":            {{boot: "a", end: "killed"}, {boot: "a", loss: 1, refuse: true, end: "killed"}, {boot: "b", loss: 1, end: "clean"}},
		"clients elsewhere have boots of their own": {{boot: "a", remote: true, end: "killed"}, {boot: "b", loss: 1, remote: true, refuse: true, end: "clean"}},
		"clients elsewhere outlive a server for clients here": {{boot: "a", remote: true, end: "killed"}, {boot: "b", end: "killed"}, {boot: "c", loss: 1, refuse: true, log: again, end: "clean"},
			{boot: "c", loss: 1, accept: true, end: "killed"}, {boot: "d", loss: 2, end: "clean"}},
		"another file of durability ack": {{boot: "a", end: "killed"}, {boot: "a", inode: 8, ack: true, refuse: true, log: "another file", end: "clean"},
			{boot: "a", inode: 8, ack: true, accept: true, log: "loss accepted", end: "killed"}, {boot: "a", inode: 8, ack: true, end: "clean"}},
		"another file of durability ack, another boot": {{boot: "a", end: "killed"}, {boot: "b", inode: 8, ack: true, end: "clean"}, {boot: "a", inode: 8, ack: true, end: "clean"}},
		"another file of the same path":                {{boot: "a", end: "killed"}, {boot: "a", inode: 8, refuse: true, log: "another file", end: "clean"}, {boot: "a", inode: 8, accept: true, end: "clean"}, {boot: "a", inode: 9, end: "clean"}},
		"a number that went back":                      {{boot: "a", loss: 4, end: "killed"}, {boot: "a", loss: 3, refuse: true, end: "clean"}},
		"accepted without need":                        {{boot: "a", accept: true, end: "killed"}, {boot: "a", accept: true, end: "clean"}},
		"of durability ack":                            {{boot: "a", ack: true, end: "killed"}, {boot: "a", ack: true, loss: 1, end: "clean"}},
	} {
		t.Run(name, func(t *testing.T) {
			disk := vfs.NewCrash()
			for _, x := range starts {
				disk = x.run(t, disk)
			}
			names, err := disk.List("/state")
			switch {
			case starts[0].ack && blocktree.KindOf(err) != blocktree.NotFound:
				t.Errorf("a state directory for a file of durability ack: %v, %v", names, err)
			case !starts[len(starts)-1].refuse && len(names) > 1:
				t.Errorf("left: %v", names)
			}
		})
	}
}

// TestLossRecordThatMakesNoSense: what is damaged, of another path or of another version fails the device until the loss is accepted.
func TestLossRecordThatMakesNoSense(t *testing.T) {
	good := lossRecord{path: exportPath, boot: "a"}
	other := lossRecord{path: "/other/vm/disk0", boot: "a"}
	for name, text := range map[string][]byte{
		"empty": nil, "torn": good.encode()[:40], "another domain's": other.encode(), "no checksum": []byte(strings.Replace(string(good.encode()), "loss 0", "loss 1", 1)),
		"newer": bytes.Replace(good.encode(), []byte("record 1"), []byte("record 2"), 1), "long": bytes.Repeat([]byte("x"), lossRecordBytesMax+1),
	} {
		disk := vfs.NewCrash()
		l := &losses{fs: disk, dir: "/state"}
		if err := disk.MkdirAll(l.dir); err != nil {
			t.Fatal(err)
		}
		f, err := disk.Create(l.name(exportPath))
		if err == nil {
			_, err = f.WriteAt(text, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		disk = start{boot: "a", refuse: true, log: "record", end: "clean"}.run(t, disk)
		disk = start{boot: "a", accept: true, end: "killed"}.run(t, disk)
		start{boot: "a", end: "clean"}.run(t, disk)
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// TestLossRecordIsWhole (0014, F11): whenever the power fails, the record is the one before, the one that is being written, or none where there
// was none; once it is written it stays, once it is removed it is gone.
func TestLossRecordIsWhole(t *testing.T) {
	disk := vfs.NewCrash()
	l := &losses{fs: disk, dir: "/state", boot: "a", log: slog.New(slog.DiscardHandler)}
	if err := l.open(); err != nil {
		t.Fatal(err)
	}
	has := func(seed uint64) uint64 { // 0: none
		clone := &losses{fs: disk.Clone(seed), dir: "/state"}
		was, why, err := clone.look(lossRecord{path: exportPath})
		if was == nil && why != "" || err != nil {
			t.Fatalf("seed %d: a record that cannot be read: %s, %v", seed, why, err)
		}
		if was == nil {
			return 0
		}
		return was.loss
	}
	var before, after uint64
	seen := map[uint64]int{}
	disk.OnSync = func(vfs.SyncPoint) {
		for seed := range uint64(20) {
			n := has(seed)
			seen[n]++
			if n != before && n != after {
				t.Fatalf("there is %d, neither %d nor %d", n, before, after)
			}
		}
	}
	for n := range uint64(3) {
		before, after = n, n+1
		if err := l.write(lossRecord{path: exportPath, boot: "a", loss: after}); err != nil {
			t.Fatal(err)
		}
		before = after
		disk.OnSync(vfs.SyncPoint{})
	}
	before, after = 3, 0
	l.remove(exportPath)
	before = 0
	disk.OnSync(vfs.SyncPoint{})
	if len(seen) != 4 {
		t.Errorf("seen: %v", seen)
	}
}

// TestStateDirectory: a server whose state directory cannot be used does not offer a file of durability flush, and says what to do.
func TestStateDirectory(t *testing.T) {
	file := func() *flushFile {
		return &flushFile{File: memfile.New(memfile.Options{Info: blocktree.FileInfo{Path: exportPath, SizeBytes: 1 << 20}}), durability: stripe.DurabilityFlush}
	}
	for _, op := range []vfs.FaultOp{vfs.FaultCreate, vfs.FaultWrite, vfs.FaultSync, vfs.FaultRename, vfs.FaultSyncDir, vfs.FaultRead} {
		disk := vfs.NewCrash()
		fault := vfs.NewFault(disk)
		l := &losses{fs: fault, dir: "/state", boot: "a", log: slog.New(slog.DiscardHandler)}
		if op == vfs.FaultRead {
			if err := l.open(); err != nil {
				t.Fatal(err)
			}
			if err := l.write(lossRecord{path: exportPath, boot: "a"}); err != nil {
				t.Fatal(err)
			}
		}
		fault.Inject(vfs.Injection{Op: op, Times: -1})
		if err := l.admit(t.Context(), file(), new(blockdev.Options)); blocktree.KindOf(err) != blocktree.IO || !strings.Contains(blocktree.HintOf(err), "stateDir") {
			t.Errorf("op %v: %v (hint %s)", op, err, blocktree.HintOf(err))
		}
	}
	disk := vfs.NewCrash()
	first, second := &losses{fs: disk, dir: "/state", boot: "a"}, &losses{fs: disk, dir: "/state", boot: "a"}
	if err := first.admit(t.Context(), file(), new(blockdev.Options)); err != nil {
		t.Fatal(err)
	}
	if err := second.admit(t.Context(), file(), new(blockdev.Options)); blocktree.KindOf(err) != blocktree.Busy || !strings.Contains(blocktree.HintOf(err), "stateDir") {
		t.Errorf("a second server: %v", err)
	}
	if err := first.close(); err != nil {
		t.Fatal(err)
	}
	if err := second.admit(t.Context(), file(), new(blockdev.Options)); err != nil {
		t.Errorf("after the first: %v", err)
	}
}

// listener is an address.
type listener struct {
	net.Listener
	address net.Addr
}

func (l listener) Addr() net.Addr { return l.address }

func TestAllHere(t *testing.T) {
	unix := listener{address: &net.UnixAddr{Name: "s", Net: "unix"}}
	tcp := func(ip string) listener { return listener{address: &net.TCPAddr{IP: net.ParseIP(ip), Port: 10809}} }
	for _, x := range []struct {
		want      bool
		listeners []net.Listener
	}{
		{true, []net.Listener{unix}}, {true, []net.Listener{tcp("127.0.0.1"), tcp("::1"), unix}}, {false, []net.Listener{unix, tcp("192.0.2.1")}},
		{false, []net.Listener{tcp("::")}}, {false, []net.Listener{tcp("0.0.0.0")}},
		{false, []net.Listener{listener{address: &net.IPAddr{}}}},
	} {
		if allHere(x.listeners) != x.want {
			t.Errorf("%v: not %v", x.listeners, x.want)
		}
	}
}

// FuzzLossRecord: what is decoded is what encode writes, to the byte.
func FuzzLossRecord(f *testing.F) {
	for _, r := range []lossRecord{{}, {path: exportPath, file: blocktree.FileID{Generation: 1, Inode: 1 << 63}, boot: "b-1", loss: 1<<64 - 1}} {
		f.Add(r.encode())
		f.Add([]byte(fmt.Sprintf("%s ", r.encode())))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := decodeLossRecord(text)
		if err == nil && !bytes.Equal(r.encode(), text) || err != nil && blocktree.KindOf(err) != blocktree.Corrupt {
			t.Errorf("%q: %+v, %v", text, r, err)
		}
	})
}

// TestAcceptance: --accept-loss is for exports that there are.
func TestAcceptance(t *testing.T) {
	cfg := serverOf(3).cfg
	cfg.Domain.Root.Principal = blocktree.PrincipalOf([]byte("root"))
	for _, x := range []struct {
		values []string
		want   string // of which of the three, "error" for none at all
	}{
		{nil, "..."}, {[]string{acceptAll}, "xxx"}, {[]string{"/vm/disk1"}, ".x."}, {[]string{"/vm/disk2", "/vm/disk0"}, "x.x"},
		{[]string{"/vm/disk9"}, "error"}, {[]string{"vm/disk0"}, "error"}, {[]string{"/vm/disk0", "/"}, "error"},
	} {
		got := ""
		accept, err := acceptance(cfg, acceptLossFlag, x.values)
		if err != nil {
			if blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
				t.Errorf("%v: %v", x.values, err)
			}
			got = "error"
		}
		for _, e := range cfg.Exports {
			p, _ := cfg.Resolve(e.Path)
			if err == nil && accept(p) {
				got += "x"
			} else if err == nil {
				got += "."
			}
		}
		if got != x.want {
			t.Errorf("%v: %s, not %s", x.values, got, x.want)
		}
	}
}

package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/nbd"
	"blocktree/cmd/internal/parts"
	"blocktree/internal/cli"
	"blocktree/internal/config"
	"blocktree/internal/metrics"
	"blocktree/internal/metrics/metricstest"
)

const metricsDocument = "../../docs/METRICS.md"

// rawClient speaks as much of NBD as it takes to count.
type rawClient struct {
	t  *testing.T
	nc net.Conn
}

// dialExport goes to an export by the oldest option that there is.
func dialExport(t *testing.T, socket, name string) *rawClient {
	t.Helper()
	nc, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	c := &rawClient{t, nc}
	c.send("\x00\x00\x00\x03IHAVEOPT\x00\x00\x00\x01" + string(binary.BigEndian.AppendUint32(nil, uint32(len(name)))) + name)
	c.take(18 + 10)
	return c
}

func (c *rawClient) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.nc, s); err != nil {
		c.t.Fatal(err)
	}
}

func (c *rawClient) take(n int) []byte {
	c.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c.nc, b); err != nil {
		c.t.Fatal(err)
	}
	return b
}

// ask makes a request, takes its answer, and returns the error.
func (c *rawClient) ask(command uint16, offset uint64, length uint32) uint32 {
	c.t.Helper()
	b := binary.BigEndian.AppendUint32(nil, 0x25609513)
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint16(b, command)
	b = binary.BigEndian.AppendUint64(b, 1)
	b = binary.BigEndian.AppendUint64(b, offset)
	b = binary.BigEndian.AppendUint32(b, length)
	if command == 1 {
		b = append(b, make([]byte, length)...)
	}
	c.send(string(b))
	errno := binary.BigEndian.Uint32(c.take(16)[4:])
	if command == 0 && errno == 0 {
		c.take(int(length))
	}
	return errno
}

// served is a process of btnbd over nodes of this process.
type served struct {
	cmd     *exec.Cmd
	socket  string // of NBD
	metrics string
}

func startServed(t *testing.T, p *parts.Playground) *served {
	t.Helper()
	cfg, err := config.LoadNBD(config.Source{File: p.NBD})
	if err != nil {
		t.Fatal(err)
	}
	s := &served{socket: strings.TrimPrefix(cfg.Listen[0], "unix:"), metrics: "unix:" + filepath.Join(p.Dir, "m")}
	s.cmd = exec.Command("btnbd", "serve", "--config", p.NBD, "--metrics", s.metrics, "--log-level", "error")
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.cmd.Process.Kill()
		s.cmd.Wait() // which says that it was killed
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(line, "ready ") {
		t.Fatalf("%q, %v", line, err)
	}
	return s
}

// await scrapes until ok.
func (s *served) await(t *testing.T, what string, ok func(*metricstest.Scrape) bool) *metricstest.Scrape {
	t.Helper()
	for range 600 {
		if x := metricstest.Take(t, s.metrics); ok(x) {
			return x
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("never: %s\n%s", what, metricstest.Take(t, s.metrics).Text)
	return nil
}

// load makes ten requests, of which one is past the end.
func (c *rawClient) load() {
	t := c.t
	t.Helper()
	for i := range 5 {
		if errno := c.ask(1, uint64(i)*8192, 8192); errno != 0 {
			t.Fatalf("write: error %d", errno)
		}
	}
	for range 3 {
		if errno := c.ask(0, 4096, 4096); errno != 0 {
			t.Fatalf("read: error %d", errno)
		}
	}
	if errno := c.ask(3, 0, 0); errno != 0 {
		t.Fatalf("flush: error %d", errno)
	}
	if errno := c.ask(0, 64<<20, 4096); errno != 22 {
		t.Fatalf("read past the end: error %d", errno)
	}
}

// afterLoad is what is told of the export then.
func afterLoad(export []string) []metricstest.Want {
	of := func(labels ...string) []string { return append(export[:4:4], labels...) }
	return []metricstest.Want{
		metricstest.Exactly("bt_nbd_requests_total", 10, export...),
		metricstest.Exactly("bt_nbd_requests_total", 5, of("command", "write", "outcome", "ok")...),
		metricstest.Exactly("bt_nbd_requests_total", 3, of("command", "read", "outcome", "ok")...),
		metricstest.Exactly("bt_nbd_requests_total", 1, of("command", "read", "outcome", "einval")...),
		metricstest.Exactly("bt_nbd_requests_total", 1, of("command", "flush", "outcome", "ok")...),
		metricstest.Exactly("bt_nbd_request_bytes_total", 5*8192, of("command", "write")...),
		metricstest.Exactly("bt_nbd_request_bytes_total", 3*4096, of("command", "read")...),
		metricstest.Exactly("bt_nbd_request_seconds_count", 5, of("command", "write")...),
		metricstest.Exactly("bt_nbd_request_seconds_count", 4, of("command", "read")...),
		metricstest.Exactly("bt_nbd_requests_in_flight", 0, export...),
		metricstest.Exactly("bt_nbd_connections", 1, export...),
		metricstest.Exactly("bt_blockdev_size_bytes", 64<<20, export...),
		metricstest.Exactly("bt_blockdev_condition", 0, export...),
		metricstest.Exactly("bt_cluster_health", 1, of("health", "ok")...),
		metricstest.Exactly("bt_cluster_health", 1, export...),
		metricstest.Exactly("bt_cluster_members", 3, export...),
		metricstest.Exactly("bt_stripe_writes_total", 5, export...),
		metricstest.Exactly("bt_cluster_node_serving", 3),
		metricstest.Exactly("bt_nbd_serving", 1),
	}
}

// TestMetricsOfAServer: a real process counts what it is asked, says how its members are, and counts the errors when a majority of them is gone. What
// it exports is what docs/METRICS.md has.
func TestMetricsOfAServer(t *testing.T) {
	t.Parallel()
	p, err := parts.Prepare(parts.Options{Dir: filepath.Join(t.TempDir(), "p"), Nodes: 3, Size: 64 << 20, Name: "a test"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	nodes, err := openNodes(t.Context(), p, slog.New(slog.DiscardHandler), "error")
	defer func() { closeNodes(nodes) }() // two of them are closed twice
	if err != nil {
		t.Fatal(err)
	}
	s := startServed(t, p)
	export := []string{"export", parts.Disk, "access", "write"}
	of := func(labels ...string) []string { return append(export[:4:4], labels...) }
	c := dialExport(t, s.socket, "vm/disk0")
	c.load()
	x := s.await(t, "all members in sync, and the last request, which is counted as open until its reply was written, is not any more", func(x *metricstest.Scrape) bool {
		return x.Sum(t, "bt_cluster_members_in_sync", export...) == 3 && x.Sum(t, "bt_nbd_requests_in_flight", export...) == 0
	})
	x.Lint(t)
	x.CheckDocument(t, metricsDocument, "Both programs", "btnbd")
	x.Expect(t, afterLoad(export)...)
	s.await(t, "a lease, and a sector that is read often comes from the cache", func(x *metricstest.Scrape) bool {
		c.ask(0, 4096, 4096)
		return x.Sum(t, "bt_blockdev_cache_lookups_total", "result", "hit") > 0 && x.Sum(t, "bt_cluster_lease_seconds", export...) > 0
	})
	closeNodes(nodes[:2])
	if errno := c.ask(1, 0, 4096); errno != 5 {
		t.Errorf("write without a quorum: error %d", errno)
	}
	x = s.await(t, "the file is unavailable", func(x *metricstest.Scrape) bool {
		return x.Sum(t, "bt_cluster_health", of("health", "unavailable")...) == 1
	})
	if x.Sum(t, "bt_nbd_requests_total", of("command", "write", "outcome", "eio")...) != 1 || x.Sum(t, "bt_nbd_requests_total", of("outcome", "eio")...) != 1 ||
		x.Sum(t, "bt_cluster_node_serving") != 1 {
		t.Error(x.Text)
	}
}

// TestMetricsAddressInUse: it is told before anything is opened, with what to do.
func TestMetricsAddressInUse(t *testing.T) {
	l, err := metrics.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // nobody came
	s := serverOf(1)
	s.cfg.Metrics.Listen = l.Addr().String()
	if err := s.serve(t.Context(), io.Discard); blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" || cli.ExitCode(err) == 0 {
		t.Errorf("%v, hint %q", err, blocktree.HintOf(err))
	}
}

// TestMetricsBeforeServing: while a start waits for its cluster, there is an answer.
func TestMetricsBeforeServing(t *testing.T) {
	l, err := metrics.Listen("unix:" + filepath.Join(t.TempDir(), "m"))
	if err != nil {
		t.Fatal(err)
	}
	m := metrics.Serve(l, slog.New(slog.DiscardHandler), serverMetrics(new(atomic.Pointer[live])))
	defer m.Close()
	x := metricstest.Take(t, "unix:"+l.Addr().String())
	if x.Sum(t, "bt_nbd_serving") != 0 || x.Has("bt_nbd_negotiating") {
		t.Error(x.Text)
	}
}

// TestExportsOfOneName: what was removed under its clients, and what has its name now, are one series.
func TestExportsOfOneName(t *testing.T) {
	device := func() *blockdev.Device {
		d, err := blockdev.Open(memoryFile(), blockdev.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		return d
	}
	now, before, readers := nbd.Use{Export: blockdev.Export{Name: "/a", Device: device()}, InFlight: 1, Clients: make([]nbd.Client, 2)},
		nbd.Use{Export: blockdev.Export{Name: "/a", Device: device()}, InFlight: 2, Clients: make([]nbd.Client, 1)},
		nbd.Use{Export: blockdev.Export{Name: "/a", Device: device(), ReadOnly: true}}
	now.Counts.Bytes[nbd.CommandRead], before.Counts.Bytes[nbd.CommandRead] = 10, 5
	merged := mergeUses([]nbd.Use{now, before, readers})
	if len(merged) != 2 || merged[0].Export.Device != now.Export.Device || merged[0].InFlight != 3 || len(merged[0].Clients) != 3 ||
		merged[0].Counts.Bytes[nbd.CommandRead] != 15 || !merged[1].Export.ReadOnly {
		t.Errorf("%+v", merged)
	}
	var sum atomic.Int64
	source := metrics.Source{Metrics: serverTable(), Collect: func(to *metrics.Sink) {
		for i := range merged {
			tellExport(to, &merged[i])
			sum.Add(1)
		}
	}}
	l, err := metrics.Listen("unix:" + filepath.Join(t.TempDir(), "m"))
	if err != nil {
		t.Fatal(err)
	}
	m := metrics.Serve(l, slog.New(slog.DiscardHandler), source)
	defer m.Close()
	x := metricstest.Take(t, "unix:"+l.Addr().String())
	if x.Sum(t, "bt_nbd_request_bytes_total", "export", "/a", "access", "write", "command", "read") != 15 || x.Sum(t, "bt_nbd_requests_in_flight") != 3 || sum.Load() != 2 {
		t.Error(x.Text)
	}
}

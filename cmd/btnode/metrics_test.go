package main

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cmd/internal/parts"
	"blocktree/internal/cli"
	"blocktree/internal/config"
	"blocktree/internal/file"
	"blocktree/internal/metrics"
	"blocktree/internal/metrics/metricstest"
	"blocktree/internal/node"
)

// TestMetricsOfANode: a real process counts what a client writes and reads, and tells how its store and its group are. What it exports is what
// docs/METRICS.md has.
func TestMetricsOfANode(t *testing.T) {
	t.Parallel()
	p, err := parts.Prepare(parts.Options{Dir: filepath.Join(t.TempDir(), "p"), Nodes: 1, Code: code(t, "1+0"), Size: 64 << 20, Name: "a test"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	at := "unix:" + filepath.Join(p.Dir, "m")
	cmd := exec.Command("btnode", "run", "--config", p.Nodes[0], "--metrics", at, "--log-level", "error")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	defer func() {
		if !ended {
			cmd.Process.Kill()
			cmd.Wait() // which says that it was killed
		}
	}()
	cfg, err := config.LoadClient(config.Source{File: p.Client})
	if err != nil {
		t.Fatal(err)
	}
	if err := parts.AwaitUp(t.Context(), &cfg.Base); err != nil {
		t.Fatal(err)
	}
	before := metricstest.Take(t, at)
	for ; before.Sum(t, "bt_cluster_node_serving") != 1; before = metricstest.Take(t, at) { // its own client hears of it with its next greeting
		time.Sleep(10 * time.Millisecond)
	}
	load(t, cfg)
	x := metricstest.Take(t, at)
	x.Lint(t)
	x.CheckDocument(t, "../../docs/METRICS.md", "Both programs", "btnode")
	x.ExpectGrown(t, before, []metricstest.Want{ // what is sent again, as the machine is busy, is stored once
		metricstest.Exactly("bt_cluster_member_written_sectors_total", 40, "kind", "write"),
		metricstest.Exactly("bt_cluster_member_written_bytes_total", 40*4096, "kind", "write"),
		metricstest.Exactly("bt_cluster_member_written_sectors_total", 100, "kind", "zero"),
		metricstest.Exactly("bt_cluster_member_written_sectors_total", 0, "kind", "copy"),
		metricstest.AtLeast("bt_cluster_member_requests_total", 3, "kind", "prepare"),
		metricstest.AtLeast("bt_cluster_member_read_sectors_total", 30),
		metricstest.AtLeast("bt_cluster_member_read_bytes_total", 30*4096),
		metricstest.Exactly("bt_cluster_member_refused_records_total", 0),
	}...)
	for name, want := range map[string]float64{"bt_node_serving": 1, "bt_meta_leader": 1, "bt_meta_leader_known": 1, "bt_meta_voters": 1, "bt_meta_learners": 0,
		"bt_store_failed": 0, "bt_meta_failed": 0, "bt_cluster_node_serving": 1} {
		if got := x.Sum(t, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	for _, name := range []string{"bt_store_sync_seconds_count", "bt_store_records_total", "bt_store_live_bytes", "bt_store_free_bytes", "bt_meta_commit_index"} {
		if x.Sum(t, name) <= 0 {
			t.Errorf("%s is %v", name, x.Sum(t, name))
		}
	}
	if free, size := x.Sum(t, "bt_store_free_bytes"), x.Sum(t, "bt_store_size_bytes"); free >= size {
		t.Errorf("%v of %v bytes are free", free, size)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended = true
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(p.Dir, "m")); err == nil {
		t.Error("the socket outlives the process")
	}
}

// load writes 40 sectors, reads 30 of them, and zeroes 100.
func load(t *testing.T, cfg *config.Client) {
	t.Helper()
	client, err := parts.Dial(t.Context(), &cfg.Base, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	path, err := cfg.Resolve("/load")
	if err != nil {
		t.Fatal(err)
	}
	create := &config.Create{Size: 16 << 20, Code: code(t, "1+0"), Encryption: "none"}
	if _, err := parts.CreateFile(t.Context(), client, path, create, nil, nil); err != nil {
		t.Fatal(err)
	}
	f, err := file.Open(t.Context(), client, path, file.OpenOptions{Plain: true, OpenOptions: cluster.OpenOptions{}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if err := f.WriteSectors(t.Context(), blocktree.SectorIndex(i*20), make([]byte, 20*4096)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.ReadSectors(t.Context(), 5, make([]byte, 30*4096)); err != nil {
		t.Fatal(err)
	}
	if err := f.ZeroSectors(t.Context(), 100, 100); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestMetricsOfNoNode: while a start waits, for space for example, there is an answer.
func TestMetricsOfNoNode(t *testing.T) {
	l, err := metrics.Listen("unix:" + filepath.Join(t.TempDir(), "m"))
	if err != nil {
		t.Fatal(err)
	}
	m := metrics.Serve(l, slog.New(slog.DiscardHandler), nodeMetrics(new(atomic.Pointer[node.Node])))
	defer m.Close()
	x := metricstest.Take(t, "unix:"+l.Addr().String())
	if x.Sum(t, "bt_node_serving") != 0 || x.Has("bt_store_segments") {
		t.Error(x.Text)
	}
}

func code(t *testing.T, text string) (c cli.Code) {
	t.Helper()
	if err := c.Set(text); err != nil {
		t.Fatal(err)
	}
	return c
}

package metrics_test

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"blocktree"
	"blocktree/internal/latency"
	"blocktree/internal/metrics"
	"blocktree/internal/metrics/metricstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source has one of each kind, and asks wait, if there is one, before it tells them.
func source(wait func()) metrics.Source {
	return metrics.Source{
		Metrics: []metrics.Metric{
			{Name: "bt_test_things_total", Kind: metrics.Counter, Labels: []string{"what"}, Help: "Things."},
			{Name: "bt_test_size_bytes", Kind: metrics.Gauge, Help: "Size."},
			{Name: "bt_test_seconds", Kind: metrics.Histogram, Labels: []string{"what"}, Help: "Times."},
		},
		Collect: func(to *metrics.Sink) {
			if wait != nil {
				wait()
			}
			var h latency.Histogram
			h.Observe(time.Millisecond)
			h.Observe(time.Minute)
			to.Count("bt_test_things_total", 7, "a\xffb")
			to.Set("bt_test_size_bytes", 1.5)
			to.Observed("bt_test_seconds", &h, "x")
		},
	}
}

// serve is a server on a unix socket that ends with the test.
func serve(t *testing.T, sources ...metrics.Source) (address string) {
	t.Helper()
	address = "unix:" + filepath.Join(t.TempDir(), "m")
	l, err := metrics.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	s := metrics.Serve(l, slog.New(slog.DiscardHandler), sources...)
	t.Cleanup(s.Close)
	return address
}

// TestLabelsDiffer: names of any bytes have a series each, and the answer has no error for want of one.
func TestLabelsDiffer(t *testing.T) {
	names := []string{"a\xff", "a\xfe", "a\xff\xff", "a\uFFFD", `a\xff`, `a\\xff`, "a\n", `a\n`, `a"`, ""}
	wants := map[string]string{"a\xff": `a\xff`, `a\xff`: `a\\xff`, "a\uFFFD": "a\uFFFD", `a"`: `a"`}
	address := serve(t, metrics.Source{
		Metrics: []metrics.Metric{{Name: "bt_test_size_bytes", Kind: metrics.Gauge, Labels: []string{"what"}, Help: "Size."}},
		Collect: func(to *metrics.Sink) {
			for i, name := range names {
				to.Set("bt_test_size_bytes", float64(i+1), name)
			}
		},
	})
	s := metricstest.Take(t, address)
	for i, name := range names {
		if want, ok := wants[name]; ok && s.Sum(t, "bt_test_size_bytes", "what", want) != float64(i+1) {
			t.Errorf("%q is not called %q:\n%s", name, want, s.Text)
		}
	}
	if n := len(names); s.Sum(t, "bt_test_size_bytes") != float64(n*(n+1)/2) {
		t.Error(s.Text)
	}
}

func TestScrape(t *testing.T) {
	address := serve(t, source(nil), metrics.Build("1.2.3"))
	s := metricstest.Take(t, address)
	s.Lint(t)
	if s.Sum(t, "bt_test_things_total", "what", `a\xffb`) != 7 || s.Sum(t, "bt_test_size_bytes") != 1.5 ||
		s.Sum(t, "bt_test_seconds_count", "what", "x") != 2 || s.Sum(t, "bt_test_seconds_bucket", "le", "0.001") != 1 || s.Sum(t, "bt_test_seconds_sum") != 60.001 ||
		s.Sum(t, "bt_build_info", "version", "1.2.3") != 1 {
		t.Error(s.Text)
	}
	for _, name := range []string{"go_goroutines", "process_open_fds", "process_resident_memory_bytes"} {
		if !s.Has(name) {
			t.Errorf("no %s", name)
		}
	}
	for path, want := range map[string]int{"/": 200, "/metrics": 200, "/debug/pprof/": 404, "/metrics/": 404, "/x": 404} {
		if status, body := metricstest.Get(t, address, path); status != want || path == "/" && !strings.Contains(body, "/metrics") {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if info, err := os.Stat(strings.TrimPrefix(address, "unix:")); err != nil || info.Mode().Perm() != 0o660 { // whatever the umask is
		t.Errorf("the socket: %v %v", info.Mode(), err)
	}
}

// raw sends one request as it is, and returns the first line of the answer.
func raw(t *testing.T, address, request string) string {
	t.Helper()
	nc, err := net.Dial("unix", strings.TrimPrefix(address, "unix:"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close() // only asked
	nc.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(nc, request); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(nc)
	if err != nil && len(answer) == 0 {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(answer), "\r\n")
	return line
}

// TestReadsOnly: other methods than GET and HEAD, and requests that are too long, are refused.
func TestReadsOnly(t *testing.T) {
	address := serve(t, source(nil))
	for request, want := range map[string]string{
		"HEAD /metrics HTTP/1.0\r\n\r\n":                                          "200",
		"POST /metrics HTTP/1.0\r\nContent-Length: 0\r\n\r\n":                     "405",
		"DELETE / HTTP/1.0\r\n\r\n":                                               "405",
		"GET /metrics HTTP/1.0\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n": "431",
	} {
		if line := raw(t, address, request); !strings.Contains(line, want) {
			t.Errorf("%.40q: %q, want %s", request, line, want)
		}
	}
}

// TestOneThatCannotBeTold costs nobody the others.
func TestOneThatCannotBeTold(t *testing.T) {
	address := serve(t, metrics.Source{
		Metrics: []metrics.Metric{
			{Name: "bt_test_things_total", Kind: metrics.Counter, Labels: []string{"what"}, Help: "Things."},
			{Name: "bt_test_size_bytes", Kind: metrics.Gauge, Help: "Size."},
		},
		Collect: func(to *metrics.Sink) {
			to.Count("bt_test_things_total", 1, "twice")
			to.Count("bt_test_things_total", 2, "twice")
			to.Set("bt_test_size_bytes", 3)
		},
	})
	if s := metricstest.Take(t, address); s.Sum(t, "bt_test_size_bytes") != 3 {
		t.Error(s.Text)
	}
}

// TestScrapesAreBounded: of those who ask at the same time, two are answered and the others told to come back; then connections are, too.
func TestScrapesAreBounded(t *testing.T) {
	asked, release := make(chan struct{}, 16), make(chan struct{})
	address := serve(t, source(func() { asked <- struct{}{}; <-release }))
	answers := make(chan int, 2)
	for range 2 {
		go func() {
			status, _ := metricstest.Get(t, address, "/metrics")
			answers <- status
		}()
	}
	<-asked
	<-asked
	if status, _ := metricstest.Get(t, address, "/metrics"); status != http.StatusServiceUnavailable {
		t.Errorf("the third: %d", status)
	}
	close(release)
	for range 2 {
		if status := <-answers; status != http.StatusOK {
			t.Errorf("one of two: %d", status)
		}
	}
	var mute []net.Conn
	for range 8 {
		nc, err := net.Dial("unix", strings.TrimPrefix(address, "unix:"))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close() // it said nothing
		mute = append(mute, nc)
	}
	late := make(chan int, 1)
	go func() {
		status, _ := metricstest.Get(t, address, "/")
		late <- status
	}()
	select {
	case status := <-late:
		t.Fatalf("the ninth, beside eight: %d", status)
	case <-time.After(300 * time.Millisecond):
	}
	mute[0].Close() // the server itself would take 5 seconds to give it up
	if status := <-late; status != http.StatusOK {
		t.Errorf("the ninth, once there is room: %d", status)
	}
}

// TestCloseEndsScrapes: Close waits a moment for who is asked, and no longer.
func TestCloseEndsScrapes(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	l, err := metrics.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := metrics.Serve(l, slog.New(slog.DiscardHandler), source(func() { close(asked); <-release }))
	ended := make(chan error, 1)
	go func() {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		answer, err := client.Get("http://" + s.Addr().String() + "/metrics")
		if err == nil {
			answer.Body.Close()
		}
		ended <- err
	}()
	<-asked
	s.Close()
	if err := <-ended; err == nil {
		t.Error("an answer came from a closed server")
	}
	close(release)
	s.Close() // again does no harm
}

func TestListenErrors(t *testing.T) {
	dir := t.TempDir()
	busy, err := metrics.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close() // nobody came
	socket, err := metrics.Listen("unix:" + filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close() // nobody came
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for address, kind := range map[string]blocktree.Kind{
		busy.Addr().String():                       blocktree.Busy,
		"unix:" + filepath.Join(dir, "s"):          blocktree.Busy,
		"unix:" + filepath.Join(dir, "file"):       blocktree.Busy,
		"unix:" + filepath.Join(dir, "no", "such"): blocktree.NotFound,
		"192.0.2.1:9740":                           blocktree.Invalid,
	} {
		l, err := metrics.Listen(address)
		if err == nil {
			l.Close() // it should not be there
		}
		if blocktree.KindOf(err) != kind || blocktree.HintOf(err) == "" || !strings.Contains(err.Error(), address) {
			t.Errorf("%s: %v (%v), hint %q", address, err, blocktree.KindOf(err), blocktree.HintOf(err))
		}
	}
}

// TestStaleSocket: the file that a process left which was killed is in nobody's way.
func TestStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := metrics.Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket's file outlives its listener")
	}
}

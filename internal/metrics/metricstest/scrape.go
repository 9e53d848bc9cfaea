package metricstest

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// patience bounds one question; nothing is measured by it.
const patience = 30 * time.Second

// Scrape is one answer to /metrics.
type Scrape struct {
	Text    string
	Kinds   map[string]string // by name: counter, gauge or histogram
	samples []sample
}

type sample struct {
	name   string
	labels map[string]string
	value  float64
}

// Get asks a path, such as /metrics, of the program that listens on unix:PATH or HOST:PORT.
func Get(t testing.TB, address, path string) (status int, body string) {
	t.Helper()
	network, at := "tcp", address
	if socket, ok := strings.CutPrefix(address, "unix:"); ok {
		network, at = "unix", socket
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, at)
	}}
	client := http.Client{Transport: transport, Timeout: patience}
	answer, err := client.Get("http://program" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close() // only read from
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// Take asks for the metrics, and fails the test unless it gets them.
func Take(t testing.TB, address string) *Scrape {
	t.Helper()
	status, text := Get(t, address, "/metrics")
	if status != http.StatusOK {
		t.Fatalf("%d: %s", status, text)
	}
	return Read(t, text)
}

// Read reads the text format, as far as this software writes it.
func Read(t testing.TB, text string) *Scrape {
	t.Helper()
	s := &Scrape{Text: text, Kinds: map[string]string{}}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			s.Kinds[name] = kind
			continue
		}
		if line == "" || line[0] == '#' {
			continue
		}
		x, ok := readSample(line)
		if !ok {
			t.Fatalf("not a sample: %s", line)
		}
		s.samples = append(s.samples, x)
	}
	return s
}

// readSample reads name{label="value",…} number.
func readSample(line string) (x sample, ok bool) {
	x.labels = map[string]string{}
	at := strings.IndexAny(line, "{ ")
	if at < 0 {
		return x, false
	}
	x.name = line[:at]
	rest := line[at:]
	if rest[0] == '{' {
		for rest = rest[1:]; rest != "" && rest[0] != '}'; rest = strings.TrimPrefix(rest, ",") {
			label, after, found := strings.Cut(rest, "=")
			quoted, err := strconv.QuotedPrefix(after)
			if !found || err != nil {
				return x, false
			}
			if x.labels[label], err = strconv.Unquote(quoted); err != nil {
				return x, false
			}
			rest = after[len(quoted):]
		}
		if rest == "" {
			return x, false
		}
		rest = rest[1:]
	}
	value, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
	x.value = value
	return x, err == nil
}

// Sum adds up the samples of a name whose labels are these: pairs of name and value. Of a histogram, name has _count, _sum or _bucket behind it.
// There must be one, at least.
func (s *Scrape) Sum(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	sum, found := 0.0, false
	for _, x := range s.samples {
		if x.name == name && x.has(labels) {
			sum, found = sum+x.value, true
		}
	}
	if !found {
		t.Errorf("no %s%q", name, labels)
	}
	return sum
}

// Want is what Sum should say.
type Want struct {
	name   string
	labels []string
	value  float64
	more   bool // is as good
}

// Exactly is a value that Sum of a name and labels must have.
func Exactly(name string, value float64, labels ...string) Want {
	return Want{name, labels, value, false}
}

// AtLeast is one that it must not be below.
func AtLeast(name string, value float64, labels ...string) Want {
	return Want{name, labels, value, true}
}

// Expect checks sums.
func (s *Scrape) Expect(t testing.TB, wants ...Want) {
	t.Helper()
	s.ExpectGrown(t, nil, wants...)
}

// ExpectGrown checks by how much sums grew since before; nil: since they were zero.
func (s *Scrape) ExpectGrown(t testing.TB, before *Scrape, wants ...Want) {
	t.Helper()
	for _, w := range wants {
		got := s.Sum(t, w.name, w.labels...)
		if before != nil {
			got -= before.Sum(t, w.name, w.labels...)
		}
		if got < w.value || got > w.value && !w.more {
			t.Errorf("%s%q: %v, want %v (or more: %t)", w.name, w.labels, got, w.value, w.more)
		}
	}
}

// Has reports whether there is a sample of a name with these labels.
func (s *Scrape) Has(name string, labels ...string) bool {
	for _, x := range s.samples {
		if x.name == name && x.has(labels) {
			return true
		}
	}
	return false
}

func (x *sample) has(labels []string) bool {
	for i := 0; i < len(labels); i += 2 {
		if x.labels[labels[i]] != labels[i+1] {
			return false
		}
	}
	return true
}

// Lint has Prometheus' own opinion of the names.
func (s *Scrape) Lint(t testing.TB) {
	t.Helper()
	problems, err := promlint.New(strings.NewReader(s.Text)).Lint()
	if err != nil {
		t.Error(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

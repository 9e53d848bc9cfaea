package metrics

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"blocktree/internal/invariant"
	"blocktree/internal/latency"
)

// Kind is what may become of a number.
type Kind int

// The kinds. A counter only grows, but for restarts.
const (
	Counter Kind = iota
	Gauge
	Histogram
)

// Metric is a line of a table: what a number is called.
type Metric struct {
	Name   string // bt_<package>_<what>_<unit>, with _total behind that of a counter
	Kind   Kind
	Labels []string
	Help   string // one sentence for people
}

// Source is a table and what tells its numbers. Collect may be called by many goroutines at once; it must not wait for a network, and
// not keep the Sink.
type Source struct {
	Metrics []Metric
	Collect func(*Sink)
}

// Sink takes the numbers of one Source for one answer.
type Sink struct {
	of *collector
	to chan<- prometheus.Metric
}

// Set tells the value of a counter or gauge, with the values of its labels in the order of the table. Each choice of labels is told once.
func (s *Sink) Set(name string, value float64, labels ...string) {
	d := s.of.find(name, labels)
	kind := prometheus.GaugeValue
	if d.kind == Counter {
		kind = prometheus.CounterValue
	}
	m, err := prometheus.NewConstMetric(d.desc, kind, value, valid(labels)...)
	s.send(d, m, err)
}

// Count is Set for whole numbers.
func (s *Sink) Count(name string, n uint64, labels ...string) { s.Set(name, float64(n), labels...) }

// Is is Set for what holds, 1, or does not, 0.
func (s *Sink) Is(name string, holds bool, labels ...string) {
	value := 0.0
	if holds {
		value = 1
	}
	s.Set(name, value, labels...)
}

// Observed tells a histogram, in seconds.
func (s *Sink) Observed(name string, h *latency.Histogram, labels ...string) {
	d := s.of.find(name, labels)
	m, err := prometheus.NewConstHistogram(d.desc, h.Count(), h.Sum().Seconds(), h.Cumulative(), valid(labels)...)
	s.send(d, m, err)
}

func (s *Sink) send(d described, m prometheus.Metric, err error) {
	if err != nil {
		m = prometheus.NewInvalidMetric(d.desc, err) // the answer says so, and has the others
	}
	s.to <- m
}

// valid makes of what a label cannot be, since names may be any bytes, something that it can be, and of two that differ two that differ: a byte
// that is no UTF-8 becomes \xHH, a backslash two.
func valid(labels []string) []string {
	for i, l := range labels {
		if utf8.ValidString(l) && !strings.Contains(l, `\`) {
			continue
		}
		var b strings.Builder
		for l != "" {
			r, n := utf8.DecodeRuneInString(l)
			switch {
			case r == utf8.RuneError && n == 1:
				fmt.Fprintf(&b, `\x%02x`, l[0])
			case r == '\\':
				b.WriteString(`\\`)
			default:
				b.WriteString(l[:n])
			}
			l = l[n:]
		}
		labels[i] = b.String()
	}
	return labels
}

// collector is a Source as Prometheus knows it.
type collector struct {
	source Source
	byName map[string]described
}

type described struct {
	desc   *prometheus.Desc
	kind   Kind
	labels int
}

func newCollector(s Source) *collector {
	c := &collector{source: s, byName: make(map[string]described, len(s.Metrics))}
	for _, m := range s.Metrics {
		_, twice := c.byName[m.Name]
		invariant.Check(!twice, "two metrics are called %s", m.Name)
		c.byName[m.Name] = described{prometheus.NewDesc(m.Name, m.Help, m.Labels, nil), m.Kind, len(m.Labels)}
	}
	return c
}

func (c *collector) find(name string, labels []string) described {
	d, ok := c.byName[name]
	invariant.Check(ok && d.labels == len(labels), "%s with %d labels is not in the table", name, len(labels))
	return d
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.byName {
		to <- d.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) { c.source.Collect(&Sink{of: c, to: to}) }

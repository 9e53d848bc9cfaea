package config

import (
	"net"
	"strings"

	"blocktree/internal/cli"
)

// Metrics says where Prometheus may ask what a runtime counts. The zero Metrics is nowhere.
type Metrics struct {
	Listen   string `yaml:"listen,omitempty" mapstructure:"listen"`     // a port of loopback, HOST:PORT, unix:PATH, or off; once validated "" or one of the last two but off
	Insecure bool   `yaml:"insecure,omitempty" mapstructure:"insecure"` // HOST may be one that other machines reach
}

const metricsHint = "write a port, HOST:PORT or unix:PATH, for example 127.0.0.1:9741; or off"

// validate checks the address and completes it.
func (m *Metrics) validate() error {
	if m.Listen == "" || m.Listen == off {
		m.Listen = ""
		return nil
	}
	if name, ok := strings.CutPrefix(m.Listen, "unix:"); ok {
		if name == "" || len(name) > socketPathBytesMax {
			return cli.Invalid("use a shorter directory", "metrics.listen: the name of the socket has %d bytes, 1 to %d are possible", len(name), socketPathBytesMax)
		}
		return nil
	}
	address := m.Listen
	if port := strings.TrimPrefix(address, ":"); port != "" && strings.Trim(port, "0123456789") == "" {
		address = net.JoinHostPort("127.0.0.1", port)
	}
	if err := checkAddress(address); err != nil {
		return cli.Invalid(metricsHint, "metrics.listen: %w", err)
	}
	host, _, _ := net.SplitHostPort(address) // checked above
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) && !m.Insecure {
		return cli.Invalid("listen on loopback or a unix socket, or accept that anyone who reaches the port can read the names of exports and nodes and the load on them, with insecure: true under metrics",
			"metrics.listen: %s is reachable from other machines", m.Listen)
	}
	m.Listen = address
	return nil
}

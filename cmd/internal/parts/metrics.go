package parts

import (
	"log/slog"
	"time"

	"blocktree/cluster"
	"blocktree/internal/bttp"
	"blocktree/internal/cli"
	"blocktree/internal/config"
	"blocktree/internal/metrics"
)

// ServeMetrics answers Prometheus where a configuration says, if it does, until stop is called. Kinds: those of metrics.Listen.
func ServeMetrics(c *config.Metrics, log *slog.Logger, sources ...metrics.Source) (stop func(), err error) {
	if c.Listen == "" {
		return func() {}, nil
	}
	l, err := metrics.Listen(c.Listen)
	if err != nil {
		return nil, err
	}
	s := metrics.Serve(l, log, append(sources, metrics.Build(cli.Version))...)
	log.Info("metrics are served", "address", s.Addr().String())
	return s.Close, nil
}

const (
	nodeServing     = "bt_cluster_node_serving"
	nodeConnections = "bt_cluster_node_connections_total"
	connections     = "bt_bttp_connections"
	relays          = "bt_bttp_relays"
	credentialsLeft = "bt_bttp_credentials_left_seconds"
)

// NetworkMetrics is the table of what both commands tell of the cluster's nodes and of connections to runtimes.
func NetworkMetrics() []metrics.Metric {
	node := []string{"node"}
	return []metrics.Metric{
		{Name: nodeServing, Kind: metrics.Gauge, Labels: node, Help: "Whether the node answers this runtime and serves sectors."},
		{Name: nodeConnections, Kind: metrics.Counter, Labels: node, Help: "Connections to the node that came about; all but the first are reconnects."},
		{Name: connections, Kind: metrics.Gauge, Labels: []string{"carrier"}, Help: "Connections with other runtimes, in either direction."},
		{Name: credentialsLeft, Kind: metrics.Gauge, Help: "How long this runtime's credentials are still valid; negative when they have ended."},
		{Name: relays, Kind: metrics.Gauge, Help: "Lanes that this runtime passes on between two others."},
	}
}

// Network tells what NetworkMetrics names.
func Network(to *metrics.Sink, links []cluster.Link, carried bttp.Stats) {
	for _, l := range links {
		to.Is(nodeServing, l.Serving, string(l.Node))
		to.Count(nodeConnections, l.Connections, string(l.Node))
	}
	to.Set(connections, float64(carried.QUIC), "quic")
	to.Set(connections, float64(carried.TCP), "tcp")
	to.Set(relays, float64(carried.Relays))
	to.Set(credentialsLeft, time.Until(carried.CredentialsEnd).Seconds())
}

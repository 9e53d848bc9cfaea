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
	routeLookups    = "bt_route_lookups_total"
	routeDropped    = "bt_route_cache_dropped_total"
	routeScopes     = "bt_route_cache_scopes"
	routeBytes      = "bt_route_cache_bytes"
	routeQuestions  = "bt_route_questions_total"
	routeAsked      = "bt_route_asked_total"
	routeRedirects  = "bt_route_redirects_total"
	routeRefused    = "bt_route_refused_total"
)

// NetworkMetrics is the table of what both commands tell of the cluster's nodes and of connections to runtimes.
func NetworkMetrics() []metrics.Metric {
	node := []string{"node"}
	return append(routeMetrics(), []metrics.Metric{
		{Name: nodeServing, Kind: metrics.Gauge, Labels: node, Help: "Whether the node answers this runtime and serves sectors."},
		{Name: nodeConnections, Kind: metrics.Counter, Labels: node, Help: "Connections to the node that came about; all but the first are reconnects."},
		{Name: connections, Kind: metrics.Gauge, Labels: []string{"carrier"}, Help: "Connections with other runtimes, in either direction."},
		{Name: credentialsLeft, Kind: metrics.Gauge, Help: "How long this runtime's credentials are still valid; negative when they have ended."},
		{Name: relays, Kind: metrics.Gauge, Help: "Lanes that this runtime passes on between two others."},
	}...)
}

// routeMetrics is the table of what both commands tell of how clusters are found.
func routeMetrics() []metrics.Metric {
	return []metrics.Metric{
		{Name: routeLookups, Kind: metrics.Counter, Labels: []string{"outcome"}, Help: "Questions to the cache of where things are."},
		{Name: routeDropped, Kind: metrics.Counter, Labels: []string{"why"}, Help: "Records that the cache dropped."},
		{Name: routeScopes, Kind: metrics.Gauge, Help: "Scopes that the cache knows something of."},
		{Name: routeBytes, Kind: metrics.Gauge, Help: "What the cache takes, as estimated."},
		{Name: routeQuestions, Kind: metrics.Counter, Labels: []string{"outcome"}, Help: "Questions that others were asked, as the cache had no answer."},
		{Name: routeAsked, Kind: metrics.Counter, Help: "Runtimes that were asked for these."},
		{Name: routeRedirects, Kind: metrics.Counter, Help: "Redirects that were followed."},
		{Name: routeRefused, Kind: metrics.Counter, Labels: []string{"why"}, Help: "Answers and redirects that were not believed."},
	}
}

// tellRoutes tells what routeMetrics names.
func tellRoutes(to *metrics.Sink, r *cluster.RouteStats) {
	c, f := &r.Cache, &r.Finder
	to.Count(routeLookups, c.Hits, "hit")
	to.Count(routeLookups, c.NegativeHits, "nobody")
	to.Count(routeLookups, c.Misses, "miss")
	to.Count(routeDropped, c.Evicted, "evicted")
	to.Count(routeDropped, c.Expired, "expired")
	to.Count(routeDropped, c.Forgotten, "forgotten")
	to.Set(routeScopes, float64(c.Scopes))
	to.Set(routeBytes, float64(c.Bytes))
	to.Count(routeQuestions, f.Found, "found")
	to.Count(routeQuestions, f.Nobody, "nobody")
	to.Count(routeQuestions, f.Failed, "failed")
	to.Count(routeAsked, f.Asked)
	to.Count(routeRedirects, f.Redirects)
	to.Count(routeRefused, f.Forged, "forged")
	to.Count(routeRefused, f.Malformed, "malformed")
	to.Count(routeRefused, f.TooDeep, "too_deep")
}

// Network tells what NetworkMetrics names.
func Network(to *metrics.Sink, links []cluster.Link, carried bttp.Stats, routes *cluster.RouteStats) {
	tellRoutes(to, routes)
	for _, l := range links {
		to.Is(nodeServing, l.Serving, string(l.Node))
		to.Count(nodeConnections, l.Connections, string(l.Node))
	}
	to.Set(connections, float64(carried.QUIC), "quic")
	to.Set(connections, float64(carried.TCP), "tcp")
	to.Set(connections, float64(carried.Memory), "memory")
	to.Set(relays, float64(carried.Relays))
	to.Set(credentialsLeft, time.Until(carried.CredentialsEnd).Seconds())
}

package main

import (
	"sync/atomic"

	"blocktree/blockdev"
	"blocktree/blockdev/nbd"
	"blocktree/cluster"
	"blocktree/cluster/stripe"
	"blocktree/cmd/internal/parts"
	"blocktree/internal/metrics"
)

// live is a server that serves.
type live struct {
	serving *nbd.Server
	cache   *blockdev.Cache
	memory  *blockdev.Memory
	client  *cluster.Client
}

// serverMetrics is what a server tells; while none serves, that it does not.
func serverMetrics(now *atomic.Pointer[live]) metrics.Source {
	collect := func(to *metrics.Sink) {
		s := now.Load()
		to.Is("bt_nbd_serving", s != nil)
		if s == nil {
			return
		}
		tellServer(to, s)
		found := s.client.Routes().Stats()
		parts.Network(to, s.client.Links(), s.client.Carried(), &found)
		for _, u := range mergeUses(s.serving.Uses()) {
			tellExport(to, &u)
		}
	}
	return metrics.Source{Metrics: append(serverTable(), parts.NetworkMetrics()...), Collect: collect}
}

// serverTable has what is told of the server, of each export, and of the members of an export's file.
func serverTable() []metrics.Metric {
	var all []metrics.Metric
	add := func(kind metrics.Kind, labels []string, namesAndHelp ...string) {
		for i := 0; i < len(namesAndHelp); i += 2 {
			all = append(all, metrics.Metric{Name: namesAndHelp[i], Kind: kind, Labels: labels, Help: namesAndHelp[i+1]})
		}
	}
	add(metrics.Gauge, nil,
		"bt_nbd_serving", "Whether the exports are open and clients are served.",
		"bt_nbd_negotiating", "Clients that have not chosen an export.",
		"bt_blockdev_memory_free_bytes", "What is free of the memory for requests in flight.",
		"bt_blockdev_memory_waiting", "Requests that wait for that memory.",
		"bt_blockdev_cache_used_bytes", "What the read cache holds, what its entries cost included.",
		"bt_blockdev_cache_size_bytes", "What the read cache may hold.",
		"bt_blockdev_ahead_used_bytes", "What is kept that was read ahead.",
		"bt_blockdev_ahead_size_bytes", "How much may be kept that was read ahead.")
	add(metrics.Counter, nil,
		"bt_nbd_clients_sent_away_total", "Clients that said nothing, or no more, and made room for others.",
		"bt_nbd_clients_refused_total", "Questions for exports by clients without a right to them.",
		"bt_nbd_tls_handshakes_failed_total", "TLS handshakes that failed.",
		"bt_blockdev_cache_evictions_total", "Sectors that made room for others in the read cache.",
		"bt_blockdev_cache_rejections_total", "Sectors that were not kept, as others are read more often.",
		"bt_blockdev_cache_stale_total", "Sectors that were in the read cache and may have been written since.",
		"bt_blockdev_ahead_sectors_total", "Sectors that were read ahead.",
		"bt_blockdev_ahead_unread_sectors_total", "Sectors that were read ahead and dropped before anybody wanted them.")
	add(metrics.Counter, []string{"result"},
		"bt_blockdev_cache_lookups_total", "Sectors that reads asked for: hit, ahead, which had been read ahead, or miss, for which the file was asked.")
	export := []string{"export", "access"}
	add(metrics.Counter, append(export[:2:2], "command", "outcome"),
		"bt_nbd_requests_total", "Requests that have ended, by how.")
	add(metrics.Counter, append(export[:2:2], "command"),
		"bt_nbd_request_bytes_total", "Bytes of requests that were answered without an error.")
	add(metrics.Histogram, append(export[:2:2], "command"),
		"bt_nbd_request_seconds", "From the reception of the request to its reply being handed to the socket.")
	add(metrics.Gauge, export,
		"bt_nbd_requests_in_flight", "Requests that are not answered yet.",
		"bt_nbd_connections", "Connections of clients.",
		"bt_blockdev_size_bytes", "Size of the device.")
	add(metrics.Gauge, append(export[:2:2], "condition"),
		"bt_blockdev_condition", "Whether every request (refused, lost) or every flush (flush_failed) fails until the export is opened again.")
	add(metrics.Gauge, export,
		"bt_cluster_lease_seconds", "How long the lease holds if it is not renewed; exports for writing only.",
		"bt_cluster_lease_epoch", "The epoch of the lease; exports for writing only.",
		"bt_cluster_members", "Members that each region of the file has; exports for writing only.",
		"bt_cluster_members_in_sync", "Members that have everything and can be reached, in the region that has the fewest.",
		"bt_cluster_members_joining", "Members that are copied up, in the region that has the most.",
		"bt_cluster_members_to_write", "How many members in sync a write takes.",
		"bt_cluster_members_to_read", "How many members in sync a read takes.")
	add(metrics.Gauge, append(export[:2:2], "health"),
		"bt_cluster_health", "Which health the file has, as btnode status says it: 1 for one of ok, degraded and unavailable.")
	for _, e := range stripeEvents() {
		add(e.kind, export, e.name, e.help)
	}
	return all
}

// stripeEvent is a number of stripe.HolderStats.
type stripeEvent struct {
	kind       metrics.Kind
	name, help string
	of         func(*stripe.HolderStats) uint64
}

func stripeEvents() []stripeEvent {
	type stats = *stripe.HolderStats
	return []stripeEvent{
		{metrics.Counter, "bt_stripe_writes_total", "Writes to the members that were acknowledged.", func(s stats) uint64 { return s.WritesDone }},
		{metrics.Counter, "bt_stripe_reads_total", "Reads from the members.", func(s stats) uint64 { return s.ReadsDone }},
		{metrics.Counter, "bt_stripe_second_rounds_total", "Reads that had to ask every member.", func(s stats) uint64 { return s.SecondRounds }},
		{metrics.Counter, "bt_stripe_read_restarts_total", "Reads that began again.", func(s stats) uint64 { return s.ReadRestarts }},
		{metrics.Counter, "bt_stripe_hedges_total", "Requests for shards that were repeated at another member.", func(s stats) uint64 { return s.Hedges }},
		{metrics.Counter, "bt_stripe_resent_total", "Messages that were sent again.", func(s stats) uint64 { return s.Resent }},
		{metrics.Counter, "bt_stripe_parked_total", "Writes that waited for room.", func(s stats) uint64 { return s.Parked }},
		{metrics.Counter, "bt_stripe_aborted_total", "Writes that were undone for want of space.", func(s stats) uint64 { return s.Aborted }},
		{metrics.Counter, "bt_stripe_syncs_total", "Members that were asked to sync.", func(s stats) uint64 { return s.Syncs }},
		{metrics.Counter, "bt_stripe_members_removed_total", "Members that were left out of a view.", func(s stats) uint64 { return s.Removed }},
		{metrics.Counter, "bt_stripe_members_joined_total", "Members that began to be copied up.", func(s stats) uint64 { return s.Joined }},
		{metrics.Counter, "bt_stripe_members_promoted_total", "Members that are in sync again.", func(s stats) uint64 { return s.Promoted }},
		{metrics.Counter, "bt_stripe_damaged_shards_total", "Shards that a member had and could not read.", func(s stats) uint64 { return s.DamagedSeen }},
		{metrics.Counter, "bt_stripe_mended_shards_total", "Shards that were written again in place of damaged ones.", func(s stats) uint64 { return s.ShardsMended }},
		{metrics.Counter, "bt_stripe_copied_bytes_total", "Bytes of shards and seals that members were copied up with.", func(s stats) uint64 { return s.CopiedBytes }},
		{metrics.Gauge, "bt_stripe_copy_left_sectors", "What a copy-up has still to look at of the region at hand.", func(s stats) uint64 { return s.LeftSectors }},
	}
}

func tellServer(to *metrics.Sink, s *live) {
	n := s.serving.Stats()
	to.Set("bt_nbd_negotiating", float64(n.Negotiating))
	to.Count("bt_nbd_clients_sent_away_total", n.SentAway)
	to.Count("bt_nbd_clients_refused_total", n.Refused)
	to.Count("bt_nbd_tls_handshakes_failed_total", n.HandshakesFailed)
	to.Set("bt_blockdev_memory_free_bytes", float64(s.memory.FreeBytes()))
	to.Set("bt_blockdev_memory_waiting", float64(s.memory.Waiting()))
	c := s.cache.Stats()
	to.Set("bt_blockdev_cache_used_bytes", float64(c.UsedBytes))
	to.Set("bt_blockdev_cache_size_bytes", float64(c.BytesMax))
	to.Count("bt_blockdev_cache_evictions_total", c.Evicted)
	to.Count("bt_blockdev_cache_rejections_total", c.Rejected)
	to.Count("bt_blockdev_cache_lookups_total", c.Hits, "hit")
	to.Count("bt_blockdev_cache_lookups_total", c.Misses, "miss")
	to.Count("bt_blockdev_cache_lookups_total", c.AheadHits, "ahead")
	to.Count("bt_blockdev_cache_stale_total", c.Stale)
	to.Set("bt_blockdev_ahead_used_bytes", float64(c.AheadUsedBytes))
	to.Set("bt_blockdev_ahead_size_bytes", float64(c.AheadBytesMax))
	to.Count("bt_blockdev_ahead_sectors_total", c.AheadRead)
	to.Count("bt_blockdev_ahead_unread_sectors_total", c.AheadUnread)
}

// mergeUses puts together what has the same labels: an export that was removed under its clients, and the one that has its name now, which
// comes first.
func mergeUses(uses []nbd.Use) []nbd.Use {
	type key struct {
		name     string
		readOnly bool
	}
	var merged []nbd.Use
	at := make(map[key]int, len(uses))
	for _, u := range uses {
		k := key{u.Export.Name, u.Export.ReadOnly}
		i, ok := at[k]
		if !ok {
			at[k] = len(merged)
			merged = append(merged, u)
			continue
		}
		m := &merged[i]
		m.Clients = append(m.Clients, u.Clients...)
		m.Counts.Add(&u.Counts)
		m.InFlight += u.InFlight
	}
	return merged
}

func tellExport(to *metrics.Sink, u *nbd.Use) {
	name, access, d := u.Export.Name, accessText(u.Export.ReadOnly), u.Export.Device
	for c := nbd.Command(0); int(c) < nbd.Commands; c++ {
		for o := nbd.Outcome(0); int(o) < nbd.Outcomes; o++ {
			to.Count("bt_nbd_requests_total", u.Counts.Requests[c][o], name, access, c.String(), o.String())
		}
		to.Observed("bt_nbd_request_seconds", &u.Counts.Latency[c], name, access, c.String())
		if c.Moves() {
			to.Count("bt_nbd_request_bytes_total", u.Counts.Bytes[c], name, access, c.String())
		}
	}
	to.Set("bt_nbd_requests_in_flight", float64(u.InFlight), name, access)
	to.Set("bt_nbd_connections", float64(len(u.Clients)), name, access)
	to.Count("bt_blockdev_size_bytes", d.Size(), name, access)
	is := d.Condition()
	to.Is("bt_blockdev_condition", is.Refused, name, access, "refused")
	to.Is("bt_blockdev_condition", is.Lost, name, access, "lost")
	to.Is("bt_blockdev_condition", is.FlushFailed, name, access, "flush_failed")
	if epoch, left, ok := d.Lease(); ok {
		to.Set("bt_cluster_lease_seconds", left.Seconds(), name, access)
		to.Count("bt_cluster_lease_epoch", uint64(epoch), name, access)
	}
	if f, ok := d.File().(interface{ Stats() stripe.HolderStats }); ok {
		s := f.Stats()
		for _, e := range stripeEvents() {
			to.Count(e.name, e.of(&s), name, access)
		}
	}
	if f, ok := d.File().(interface{ Handle() *cluster.Handle }); ok && f.Handle() != nil {
		tellMembers(to, f.Handle().Redundancy(), name, access)
	}
}

func tellMembers(to *metrics.Sink, r cluster.Redundancy, name, access string) {
	to.Set("bt_cluster_members", float64(r.Members), name, access)
	to.Set("bt_cluster_members_in_sync", float64(r.InSync), name, access)
	to.Set("bt_cluster_members_joining", float64(r.Joining), name, access)
	to.Set("bt_cluster_members_to_write", float64(r.ToWrite), name, access)
	to.Set("bt_cluster_members_to_read", float64(r.ToRead), name, access)
	for _, h := range []cluster.Health{cluster.HealthOK, cluster.HealthDegraded, cluster.HealthUnavailable} {
		to.Is("bt_cluster_health", r.Health() == h, name, access, string(h))
	}
}

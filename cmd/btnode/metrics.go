package main

import (
	"math"
	"strings"
	"sync/atomic"

	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/cmd/internal/parts"
	"blocktree/internal/metrics"
	"blocktree/internal/node"
	"blocktree/route"
)

// nodeMetrics is what a node tells; while none runs, that it does not serve.
func nodeMetrics(running *atomic.Pointer[node.Node]) metrics.Source {
	collect := func(to *metrics.Sink) {
		var s cluster.ServiceStats
		n, ok := running.Load(), false
		if n != nil {
			s, ok = n.Stats()
		}
		to.Is("bt_node_serving", s.Serving)
		if !ok {
			return
		}
		tellMember(to, &s.Member)
		tellStore(to, &s)
		tellMeta(to, &s.Meta, s.MetaFailed)
		tellRepairs(to, &s)
		parts.Network(to, s.Links, s.Carried, &s.Routes)
		tellAnswers(to, &s.Answers)
	}
	return metrics.Source{Metrics: append(nodeTable(), parts.NetworkMetrics()...), Collect: collect}
}

// nodeTable has what is told of the node's member, its store, its metadata, and what is repaired.
func nodeTable() []metrics.Metric {
	var all []metrics.Metric
	add := func(kind metrics.Kind, labels []string, namesAndHelp ...string) {
		for i := 0; i < len(namesAndHelp); i += 2 {
			all = append(all, metrics.Metric{Name: namesAndHelp[i], Kind: kind, Labels: labels, Help: namesAndHelp[i+1]})
		}
	}
	add(metrics.Gauge, nil, "bt_node_serving", "Whether the node takes part in its cluster.")
	add(metrics.Counter, []string{"kind"},
		"bt_cluster_member_requests_total", "Messages of the sector protocol that the node took.",
		"bt_cluster_member_written_sectors_total", "Sectors of which the node stored something: a client's write, a copy of what others have, or zeros.",
		"bt_cluster_member_written_bytes_total", "Bytes of the shards that were stored.")
	add(metrics.Counter, nil,
		"bt_cluster_member_read_sectors_total", "Sectors of which the node sent its shard.",
		"bt_cluster_member_read_bytes_total", "Bytes of these shards.",
		"bt_cluster_member_refused_records_total", "Records that were refused for want of space.")
	add(metrics.Gauge, nil,
		"bt_cluster_member_waiting", "Requests that wait for the disk to catch up.",
		"bt_cluster_member_queued_bytes", "Bytes of records on their way to the disk.",
		"bt_store_live_bytes", "What is in use, with its share of headers and padding.",
		"bt_store_dead_bytes", "What compaction can free, and the index.",
		"bt_store_disk_bytes", "What the store takes on its disk.",
		"bt_store_free_bytes", "What data may still take on that disk.",
		"bt_store_size_bytes", "How large that disk is.",
		"bt_store_segments", "Segments with records in them.",
		"bt_store_pending_records", "Records of writes that are not decided yet.",
		"bt_store_volatile_bytes", "Bytes of records that are written and not synced.",
		"bt_store_log_bytes", "What a start would have to replay at most.",
		"bt_store_index_bytes", "Index pages in memory.",
		"bt_store_index_dirty_bytes", "Index pages in memory that the last checkpoint has not.",
		"bt_store_making_room", "Whether data waits for space that is being freed.",
		"bt_store_failed", "Whether the disk has failed: the process is about to end.")
	add(metrics.Histogram, nil, "bt_store_sync_seconds", "How long each sync of a segment took.")
	add(metrics.Counter, nil,
		"bt_store_records_total", "Records that were stored.",
		"bt_store_record_bytes_total", "Bytes of these, with headers and padding.",
		"bt_store_checkpoints_total", "Checkpoints that were written.",
		"bt_store_compacted_bytes_total", "Bytes that compaction copied.",
		"bt_store_compacted_segments_total", "Segments that compaction emptied.",
		"bt_store_direct_bytes_total", "Bytes of long records that were written past the page cache.",
		"bt_store_recycled_segments_total", "Segments that were made of the files of dead ones.",
		"bt_store_damaged_sectors_total", "Damaged sectors that compaction met.",
		"bt_store_no_space_total", "Groups of records that found no space on the disk.")
	add(metrics.Gauge, nil,
		"bt_meta_leader", "Whether this node leads the cluster's Raft group.",
		"bt_meta_leader_known", "Whether the group has a leader that this node knows.",
		"bt_meta_term", "The term of Raft.",
		"bt_meta_commit_index", "The last entry of the log that is committed.",
		"bt_meta_applied_index", "The last entry that is applied.",
		"bt_meta_lag", "Entries that are committed and not applied.",
		"bt_meta_voters", "Members that vote.",
		"bt_meta_learners", "Members that do not vote.",
		"bt_meta_failed", "Whether the metadata's store has failed: the process is about to end.",
		"bt_cluster_copyup_files", "Files that are copied up, as their holders have told lately.",
		"bt_cluster_copyup_left_sectors", "Sectors that are still to be looked at for that, at most.",
		"bt_cluster_copyup_bytes_per_second", "How fast that copies shards.")
	add(metrics.Counter, nil,
		"bt_cluster_scrub_sectors_total", "Sectors that scrubs compared, since the store was made.",
		"bt_cluster_scrub_bytes_total", "Bytes that scrubs read or fetched for that.",
		"bt_cluster_scrub_repaired_total", "Sectors that scrubs repaired.",
		"bt_cluster_scrub_beyond_repair_total", "Sectors of which fewer good shards exist than it takes.",
		"bt_cluster_scrub_passes_total", "Walks over everything in the background that came to their end.")
	add(metrics.Counter, []string{"outcome"},
		"bt_route_answers_total", "Queries of others for where something is.")
	add(metrics.Counter, []string{"damage"},
		"bt_cluster_scrub_found_total", "Sectors that were not as they should be.")
	add(metrics.Counter, []string{"act"},
		"bt_cluster_suspected_total", "Answers of other nodes that a node which keeps its promises does not give, as this one has seen.")
	return all
}

// tellAnswers tells how queries of others ended.
func tellAnswers(to *metrics.Sink, a *route.AnswererStats) {
	const name = "bt_route_answers_total"
	to.Count(name, a.Found, "found")
	to.Count(name, a.Nobody, "nobody")
	to.Count(name, a.Redirected, "redirected")
	to.Count(name, a.Denied, "denied")
	to.Count(name, a.Limited, "limited")
	to.Count(name, a.Malformed, "malformed")
	to.Count(name, a.Failed, "failed")
}

func tellMember(to *metrics.Sink, c *cluster.MemberCounts) {
	for k := 1; k < stripe.MessageKinds; k++ {
		to.Count("bt_cluster_member_requests_total", c.Requests[k], stripe.MessageKind(k).String())
	}
	to.Count("bt_cluster_member_written_sectors_total", c.WrittenSectors, "write")
	to.Count("bt_cluster_member_written_sectors_total", c.CopiedSectors, "copy")
	to.Count("bt_cluster_member_written_sectors_total", c.ZeroedSectors, "zero")
	to.Count("bt_cluster_member_written_bytes_total", c.WrittenBytes, "write")
	to.Count("bt_cluster_member_written_bytes_total", c.CopiedBytes, "copy")
	to.Count("bt_cluster_member_read_sectors_total", c.ReadSectors)
	to.Count("bt_cluster_member_read_bytes_total", c.ReadBytes)
	to.Count("bt_cluster_member_refused_records_total", c.RefusedRecords)
	to.Set("bt_cluster_member_waiting", float64(c.Waiting))
	to.Set("bt_cluster_member_queued_bytes", float64(c.QueuedBytes))
}

func tellStore(to *metrics.Sink, s *cluster.ServiceStats) {
	x := &s.Store
	for name, n := range map[string]int64{"bt_store_live_bytes": x.LiveBytes, "bt_store_dead_bytes": max(x.DiskBytes-x.LiveBytes, 0),
		"bt_store_disk_bytes": x.DiskBytes, "bt_store_free_bytes": s.FreeBytes, "bt_store_size_bytes": s.DiskBytes, "bt_store_segments": int64(x.Segments),
		"bt_store_pending_records": int64(x.Pending), "bt_store_volatile_bytes": x.VolatileBytes, "bt_store_log_bytes": x.LogBytes,
		"bt_store_index_bytes": x.CacheBytes, "bt_store_index_dirty_bytes": x.DirtyBytes} {
		if n < math.MaxInt64 { // else nobody knows
			to.Set(name, float64(n))
		}
	}
	to.Is("bt_store_making_room", x.MakingRoom)
	to.Is("bt_store_failed", x.Failed)
	to.Observed("bt_store_sync_seconds", &x.SyncTimes)
	to.Count("bt_store_records_total", x.Records)
	to.Count("bt_store_record_bytes_total", x.Bytes)
	to.Count("bt_store_checkpoints_total", x.Checkpoints)
	to.Count("bt_store_compacted_bytes_total", x.CompactedBytes)
	to.Count("bt_store_compacted_segments_total", x.CompactedSegments)
	to.Count("bt_store_direct_bytes_total", x.DirectBytes)
	to.Count("bt_store_recycled_segments_total", x.Recycled)
	to.Count("bt_store_damaged_sectors_total", x.DamagedSectors)
	to.Count("bt_store_no_space_total", x.NoSpace)
}

func tellMeta(to *metrics.Sink, s *meta.Status, failed bool) {
	learners := 0
	for _, m := range s.Members {
		if m.Learner {
			learners++
		}
	}
	to.Is("bt_meta_leader", s.Leader != 0 && s.Leader == s.Node)
	to.Is("bt_meta_leader_known", s.Leader != 0)
	to.Count("bt_meta_term", s.Term)
	to.Count("bt_meta_commit_index", s.Commit)
	to.Count("bt_meta_applied_index", s.Applied)
	to.Count("bt_meta_lag", s.Commit-min(s.Applied, s.Commit))
	to.Set("bt_meta_voters", float64(len(s.Members)-learners))
	to.Set("bt_meta_learners", float64(learners))
	to.Is("bt_meta_failed", failed)
}

// tellRepairs tells how copying up and scrubbing go.
func tellRepairs(to *metrics.Sink, s *cluster.ServiceStats) {
	to.Set("bt_cluster_copyup_files", float64(s.CopyUps.Files))
	to.Count("bt_cluster_copyup_left_sectors", s.CopyUps.LeftSectors)
	to.Count("bt_cluster_copyup_bytes_per_second", s.CopyUps.BytesPerSecond)
	c := &s.Scrub
	to.Count("bt_cluster_scrub_sectors_total", c.Sectors)
	to.Count("bt_cluster_scrub_bytes_total", c.Bytes)
	to.Count("bt_cluster_scrub_repaired_total", c.Repaired)
	to.Count("bt_cluster_scrub_beyond_repair_total", c.Beyond)
	to.Count("bt_cluster_scrub_passes_total", s.Passes)
	to.Count("bt_cluster_scrub_found_total", c.BitRot, "bit_rot")
	to.Count("bt_cluster_scrub_found_total", c.Lost, "lost")
	to.Count("bt_cluster_scrub_found_total", c.Misdirected, "misdirected")
	to.Count("bt_cluster_scrub_found_total", c.Mixed, "mixed")
	for k := stripe.SuspectNonsense; k < stripe.SuspectKindEnd; k++ {
		to.Count("bt_cluster_suspected_total", s.Suspected[k], strings.ReplaceAll(k.String(), " ", "_"))
	}
}

package meta

import (
	pb "go.etcd.io/raft/v3/raftpb"
)

// readContextBytes is the length of what a ReadIndex carries, heartbeatContextBytes that of what Raft numbers its heartbeats with.
const (
	readContextBytes      = 16
	heartbeatContextBytes = 8
)

// impossible says why no member's Raft sends m, "" if one may. Raft believes the form of what it is given: it would panic on
// some of these, skip the check of the term on others, or store a log with a gap. snapshot is whether m ended a snapshot.
func impossible(m *pb.Message, snapshot bool) string {
	kind, entries := m.GetType(), m.GetEntries()
	if snapshot != (kind == pb.MsgSnap) || snapshot != (m.GetSnapshot() != nil) {
		return "a snapshot comes in chunks, and nothing else does"
	}
	if (m.GetTerm() == 0) != (kind == pb.MsgReadIndex) {
		return "a message of no term"
	}
	switch kind {
	case pb.MsgSnap:
		if s := m.GetSnapshot().GetMetadata(); s.GetIndex() == 0 || s.GetTerm() == 0 || s.GetTerm() > m.GetTerm() ||
			len(s.GetConfState().GetVoters()) == 0 {
			return "an empty snapshot"
		}
	case pb.MsgApp:
		return gap(m)
	case pb.MsgReadIndex, pb.MsgReadIndexResp:
		if len(entries) != 1 || len(entries[0].GetData()) != readContextBytes {
			return "a read that names none"
		}
		return ""
	case pb.MsgHeartbeat, pb.MsgHeartbeatResp:
		if n := len(m.GetContext()); n != 0 && n != heartbeatContextBytes {
			return "a heartbeat without its number"
		}
	case pb.MsgAppResp, pb.MsgVote, pb.MsgVoteResp, pb.MsgPreVote, pb.MsgPreVoteResp, pb.MsgTimeoutNow:
	default:
		return "not a message between members"
	}
	if len(entries) > 0 {
		return "entries where none belong"
	}
	return ""
}

// gap says what is wrong with the entries of a MsgApp: they follow its index, and their terms only grow.
func gap(m *pb.Message) string {
	index, term := m.GetIndex(), m.GetLogTerm()
	for _, e := range m.GetEntries() {
		index++
		if e.GetIndex() != index || e.GetTerm() < term || e.GetTerm() == 0 || e.GetTerm() > m.GetTerm() {
			return "entries out of order"
		}
		term = e.GetTerm()
	}
	return ""
}

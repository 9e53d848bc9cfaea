package cluster

import (
	"context"

	"blocktree"
	"blocktree/cluster/meta"
)

// forward has the leader do a command; notLeader is the error where there is no connection to it.
func (s *Service) forward(ctx context.Context, leader blocktree.NodeID, command meta.Command, notLeader error) (meta.Result, error) {
	conn := s.peers.conn(leader)
	if conn == nil {
		return meta.Result{}, notLeader
	}
	body, err := meta.EncodeCommand(nil, command)
	if err != nil {
		return meta.Result{}, err
	}
	reply, err := conn.CallWait(ctx, codePropose, []byte{1}, body)
	if err != nil {
		return meta.Result{}, err
	}
	defer reply.Release()
	return meta.DecodeResult(reply.Body)
}

// sendRaft carries a message of the group to another node, or drops it.
func (s *Service) sendRaft(to blocktree.NodeID, msg []byte) {
	conn := s.peers.conn(to)
	if conn == nil {
		conn = s.roster.heard(to)
	}
	if conn != nil {
		_ = conn.Send(codeRaft, s.name, msg)
	}
}

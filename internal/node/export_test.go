package node

import "blocktree/crypto/cred"

// DoorIdentity is who the node's filesystem service is to the cluster.
func (n *Node) DoorIdentity() cred.Identity { return n.given.door.client.Identity() }

package file_test

import (
	"testing"

	"blocktree/cluster/stripe"
)

// durabilities are what is gone through by tests that end a holder at each step: both, but under -short, as with the race detector, the one that most files have.
func durabilities() []stripe.Durability {
	if testing.Short() {
		return []stripe.Durability{stripe.DurabilityAck}
	}
	return []stripe.Durability{stripe.DurabilityAck, stripe.DurabilityFlush}
}

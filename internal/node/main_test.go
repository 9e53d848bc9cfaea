package node_test

import (
	"testing"

	"blocktree/internal/testenv"
)

// Tests that run a cluster wait far more than they work, so they run beside each other (t.Parallel): each has its own cluster, directory and addresses, and none
// touches what is the process's.
func TestMain(m *testing.M) { testenv.Main(m) }

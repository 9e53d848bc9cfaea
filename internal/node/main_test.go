package node_test

import (
	"testing"

	"blocktree/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

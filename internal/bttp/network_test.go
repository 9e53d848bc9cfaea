package bttp_test

import (
	"testing"

	"blocktree/internal/bttest"
	"blocktree/internal/bttp"
)

func TestMachine(t *testing.T) {
	bttest.Network(t, func(t *testing.T, run func(*testing.T, bttp.Network, string)) { run(t, bttp.Machine{}, "127.0.0.1") })
}

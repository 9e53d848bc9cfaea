package sha256x16

import "testing"

// TestWithoutLanes: as TestSum, on a processor that has none.
func TestWithoutLanes(t *testing.T) {
	had := hasLanes
	defer func() { hasLanes = had }()
	hasLanes = false
	TestSum(t)
}

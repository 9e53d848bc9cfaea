//go:build !race

package cluster

// poisonRuns: see the file for the race detector.
const poisonRuns = false

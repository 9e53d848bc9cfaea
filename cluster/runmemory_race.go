//go:build race

package cluster

// poisonRuns fills the memory of runs that have ended, so that whoever still reads it sees that, or is named by the race detector.
const poisonRuns = true

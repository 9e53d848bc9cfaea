//go:build race

package bttp

// poisonReleased fills released memory, so that whoever still reads it sees that, or is named by the race detector.
const poisonReleased = true

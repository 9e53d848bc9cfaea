//go:build !race

package bttp

// poisonReleased is for builds with the race detector.
const poisonReleased = false

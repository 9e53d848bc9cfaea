//go:build !race

package store

// amplificationMax bounds what TestCompactionBounds has written for each byte: 4.8 to 4.9 are.
const amplificationMax = 5

//go:build race

package store

// amplificationMax: the slower the writer is, the more time the compactor has beside it, and the sooner it moves what would have been overwritten. Under the race detector on one processor that is 5.1 to 5.2.
const amplificationMax = 6

// Package memfile is a blocktree.File in memory, for tests and benchmarks of the layers above a file. It keeps the whole
// contract of the seam (atomic sectors, ranges, kinds of errors, Closed), can be slow or fail on demand, and can forget
// what was written but not flushed, as a machine without power does.
//
// What it refuses to be: a store. Nothing outlives the process. It is safe for use by many goroutines at once. Tests and
// benchmarks may import it; production code may not.
package memfile

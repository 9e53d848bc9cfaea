// Command gotest runs `go test` and fails when a test fails or when a test is skipped with a message that is not on
// internal/lint/skips.txt. Its arguments are those of go test; its output is what go test prints, then what was skipped.
//
// It runs everything once: a failing test is never tried again.
package main

// Command bareexchange prints the rows of the yardstick of `make bench`, one JSON object per line.
//
//	go run ./internal/bttp/bareexchange/cmd -each 1s
package main

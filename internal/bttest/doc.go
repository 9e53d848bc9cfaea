// Package bttest has the conformance suites of the seams: what every implementation of an interface of the module root, or of bttp,
// must do, whoever implements it. A new implementation is tested by running its suite.
//
// Imported by tests only.
package bttest

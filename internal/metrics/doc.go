// Package metrics tells Prometheus what a program counts: a table of names and a function that asks for the numbers make a Source, and
// a Server answers /metrics with all of them.
//
// What it refuses to be: a place where anything is counted. Packages keep plain numbers, and this is the only one that knows Prometheus
// (docs/design/0022-metrics.md); the commands import it, and nothing else does. It offers no profiles and takes no input.
//
// 1. Somebody asks for /metrics. 2. Every Source is asked for its numbers. 3. They are told under the names of its table, and nothing else is: a
// name that is not in the table, or with other labels than it has there, is a broken invariant.
//
// A Source may be asked by several goroutines at once. docs/METRICS.md lists every name; internal/metrics/metricstest compares.
package metrics

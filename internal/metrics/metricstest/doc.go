// Package metricstest asks a program for its metrics, as Prometheus would, and compares them with docs/METRICS.md.
//
// What it refuses to be: a part of any program. Only tests import it.
package metricstest

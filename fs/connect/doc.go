// Package connect is the way from a configuration to a client: who one is, where a cluster and filesystem services are found, what time it is.
//
// What it refuses to be: a place for logic. It reads files, and fills in the configurations of cluster and fs.
//
// It keeps no state and starts nothing but what it returns. Imported by the commands, fs/files and internal/node, which takes the clock.
package connect

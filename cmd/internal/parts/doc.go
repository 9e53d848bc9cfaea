// Package parts is what btnode and btnbd both assemble: a playground on disk, and the way from a configuration to
// identities, nodes and clients.
//
// What it refuses to be: a second place for logic. It reads files, fills in the Configs of internal/node and cluster,
// and writes the files of a playground; everything it calls lives below.
//
// The order in which a playground comes to be, so that nothing is ever half there:
//
//  1. Everything that was asked for is validated.
//  2. The directory is locked; another process that has it is an error of kind Busy.
//  3. Ports are chosen, keys made and files written into a directory of a temporary name inside it.
//  4. They are moved to their places, client.yaml last: a directory that has client.yaml is a playground.
//
// The lock lives as long as the Playground; Close releases it. The commands alone import it.
package parts

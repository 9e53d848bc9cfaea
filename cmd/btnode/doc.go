// Command btnode runs a storage node, makes a playground of several, works with files by path, and checks the store of a stopped node.
//
// It joins parts and decides nothing: flags and files come from internal/cli and internal/config, a node from
// internal/node, a client from cluster. Standard output has what was asked for, standard error the log and what went
// wrong. Every command ends with its context; signals end that (internal/cli).
package main

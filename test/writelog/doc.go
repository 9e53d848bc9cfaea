// Command writelog records what an NBD client wrote and flushed, and rebuilds what the device must have been at each flush.
//
//	writelog proxy LISTEN SERVER EXPORT LOG    serves one client on the unix socket LISTEN with EXPORT of the socket SERVER
//	writelog points LOG                        prints how many flush points there are
//	writelog image LOG POINT FILE [SEED]       makes FILE the device at that flush point; with a seed, some of what was
//	                                           written until the next one is there too, as after a loss of power
//
// The rules of the log:
//
//  1. A write, zeroing or trim is in the log when the server has answered it without an error, in the order of the answers.
//  2. A flush point is an answered FLUSH. It covers what was in the log when the FLUSH was sent.
//  3. With a seed the power fails somewhere before the next flush point: what has FUA and was answered by then is there,
//     of the rest one half.
//  4. The number of flush points so far stands in LOG.points after each of them, before the client is answered. Whoever reads
//     it when an fsync has returned knows a point that has what was synced.
//
// What it refuses to be: fast, or for several connections. One that writes in two of them at once has no order to record.
package main

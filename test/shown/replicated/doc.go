// Command replicated is the least that a replicated store pays for one durable file: a client, a leader that appends to a log and syncs it, and two followers that do the same.
//
//	replicated FILES BYTES DIR DIR DIR     prints how many records of so many bytes are durable in a second, one after the other
//
// 1. The client sends a record, by TCP. 2. The leader sends it to both followers, and appends it to its own log, in the first DIR, meanwhile. 3. Each of the three syncs its log
// once. 4. When two of three have it, the leader answers. 5. The client sends the next.
//
// There is no TLS, no right, no name, no lock, no erasure code, no checksum, no election and nothing that reads a log; a log has its blocks, written with zeros, before the first record, so that
// a sync changes no metadata of its file. The three are processes of their own. No store that answers when a majority has a file durably can take less time for it, one by one.
package main

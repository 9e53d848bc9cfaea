// Package erasure is the k+m code of a file over long buffers: k data shards suffice to read, k+m are kept.
//
// Each sector is its own stripe: its bytes are cut in k pieces of ceil(sector/k), the last padded with zeros. The pieces of
// consecutive sectors lie side by side in a shard, so that one call codes a whole run and one message carries it. The code is
// linear and works byte by byte, so coding a run equals coding each of its sectors alone, and any part of a run that is a
// whole number of sectors can be cut out of the shards and decoded by itself.
//
// The matrix (klauspost/reedsolomon, Vandermonde made systematic) is part of the disk format: options that change it must
// never be set, and a golden test pins it.
//
// It refuses to check anything: a wrong shard gives wrong bytes. Who joins shards verifies the leaf or the tag (crypto/seal).
//
// A Codec may be used by many goroutines at once and keeps no slice. Every package above layer 2 may import it.
package erasure

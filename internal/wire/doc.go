// Package wire has the big-endian encoder and decoder that every codec of the wire, the disk and the Raft log is
// written with by hand, so that a format is what its code says and nothing else.
//
// Rules. 1. A format starts with a version byte, which its owner checks first (Decoder.Format). 2. A length is checked
// against its bound and against what is left before anything is allocated. 3. Decoding is total: any input gives a value
// or an error of kind Invalid, TooLarge or NewerFormat, never a panic. 4. Trailing bytes are an error (Decoder.Finish).
//
// An Encoder or Decoder belongs to one goroutine. Every package above layer 1 may import it.
package wire

// Command lossydisk mounts a directory as a disk that can lose what was not synced: lossydisk [-keep] DIR MOUNTPOINT.
//
// It is a file system in user space (FUSE) that passes everything through to DIR/data and remembers how to take back what a
// loss of power may take back:
//
//  1. Data and size of a file are safe after its fsync or fdatasync. Until then each block of 512 bytes may be old or new.
//  2. Names (create, mkdir, rename, remove) are safe after an fsync of any directory, or five seconds. Until then a loss of
//     power keeps the first so many changes, in their order, as the journal of a file system does, and takes back the rest.
//     An fsync of a file does not make its name safe.
//  3. After an fsync that was made to fail nothing unsynced of that file is ever safe, whatever a later fsync says, as in Linux.
//
// Commands come line by line on the standard input, each is answered with a line "ok …" or "error …":
//
//	cut SEED    the power fails: from now on every operation is EIO; what was not synced is lost or kept by the seed
//	failsync    the next fsync fails with EIO
//	slow MS     every fsync takes so many milliseconds longer, or a part of one
//	flushes     how many fsyncs there were, those of a drive that had nothing to write, and how many microseconds the others took together
//	end         as the end of the input
//
// With -keep it is a drive to measure with (test/shown/7-04-files-speed): nothing is remembered that could be lost, so that a write costs no more than a
// write; reads and writes go on during an fsync; and there is one fsync at a time, which takes its time only if something was written since the last one began, as the flush of a drive with a cache does.
//
// At the end of its input it unmounts and ends. "ready" is its first line. What it refuses to be: a disk for data; and strict
// about what processes that live see, which is always the newest.
package main

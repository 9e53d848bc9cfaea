// Package file makes a file of sealed sectors: it opens what a cluster keeps as a blocktree.File. It holds the file's key,
// cuts requests into runs (never across a region), takes a version for each, seals with it, and opens what comes back.
//
// Rules. 1. A sector is sealed after its version is known and never sealed twice under one. 2. Every sector that is read is
// opened with the place it was asked from; one that does not open is asked for again with every shard there is, and if no
// k of them open it is Corrupt, never zeros. 3. Absent and zero sectors read as zeros; only the coordinator says so. 4. Of a file of integrity tree (docs/design/0028) a sector is given
// out only at or above its floor; the floor of a write is known before anybody is told that it is acknowledged; a record is made of what is durable
// only, and its pages are durable before it is anchored.
//
// Keys (docs/design/0027). 5. An access record is gone by only if it is signed by who may, of this path, and not older than one that was seen. 6. A holder goes by a new record before it
// says so: writes that begin are under its key, those that had begun have ended. 7. What is re-sealed is what the newest write before gave it: writes to it wait meanwhile. 8. A key
// of an older generation is dropped only when it was durably said that no sector is sealed under it. 9. Of a file of integrity tree there is a record under the new key before its holder says that it goes by
// that, and nobody goes by one under a key before, but who made it, who knows exactly it, and who rekeys.
//
// What it refuses to be: it knows nothing of nodes, views or leases (cluster does), nor of bytes that are not whole sectors
// (blockdev does). All methods may be called by many goroutines at once; it starts none but to look further into a read that was
// started and did not open, to wait for writes that nobody waits for any more, one for each encrypted file that is held, which follows its record and re-seals, one that folds
// for each tree file that is held, which Close ends, and one that draws the next file's key, which KeyPool.Close waits for.
//
// Imported by blockdev's users and the commands.
package file

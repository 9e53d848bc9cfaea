// Package tree proves how new the sectors of a file are: a Merkle tree over the version and leaf that each sector has at least (its
// floor), and the signed records that name its root (docs/design/0028).
//
// What it refuses to be: it stores nothing and asks nobody. Who folds or looks up passes functions that fetch and keep pages; it has no goroutine, clock, socket or
// disk, and knows no key but what it is given.
//
// Rules. 1. A page is used only after its hash was compared, once, with what its parent, or the root, says. 2. A fold writes a page only to the one of its two places
// that the old root does not use, and its children before it. 3. What is decoded is checked to the last bit before anything of it is used; there is one encoding of each value.
// 4. A record is believed only if its MAC, under a key that only those have who may read the file, and its signature are right.
//
// All functions may be called by many goroutines at once. internal/file folds, looks up and keeps; cluster/meta keeps records without looking into them.
package tree

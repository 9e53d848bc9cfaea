// Package route answers the two queries by which a runtime finds others: who registers a service directly in a directory
// (in scope), and who does in the nearest directory toward the root (closest).
//
// Table is the resolver behind a static list, the one from a runtime's configuration; it is a blocktree.Resolver. Answerer is the other side of a network: it answers a Query
// out of what its cluster knows (Namespace), to whom may ask, with a signed Answer or a Redirect. Finder is the resolver that asks: it looks into a Cache, asks the nearest
// cluster that it knows through an Asker, follows redirects, and begins at seeds. docs/design/0032 has the reasons.
//
// Rules. 1. An answer is a hint: whoever is reached must prove its service and place by its credentials. 2. An answer belongs
// to the caller. 3. Where nobody registers the service, the answer is an error of kind NotFound, not an empty list.
//
// What it refuses to be: a connection. It dials nobody. A Table never changes; all types may be used by many goroutines. Only a Finder has goroutines, one for each question on its
// way, which Close waits for. Packages above layer 4 may import it.
package route

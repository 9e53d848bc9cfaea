// Command scale simulates a large domain: the finder and the cache of package route, as they are, over clusters that are made up when they are asked. It counts what questions cost, and
// writes the numbers into docs/ROUTES.md and a plot beside it. `make scale` runs it; its tests run a small domain.
//
// What is simulated: the tree, who hosts what, clients and what they want, time, and clusters that move. What is not: everything in package route, credentials and
// signatures included. The same seed gives the same numbers.
package main

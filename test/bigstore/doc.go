// Command bigstore measures what a large store costs: how long it takes to open after a crash, and how much memory its
// index has. `bigstore fill DIR GIB` makes a store of so many GiB of shards, one record for each sector of 4 KiB under code 2+1, with
// the log after its last checkpoint as long as it gets, and exits without closing it. `bigstore open DIR` opens it and says what that
// took. test/shown/3-05-restart calls both, with the page cache dropped between them.
package main

// Command memory serves a device of the Go heap over NBD, so that our engine can be measured without what lies beneath it, beside
// `nbdkit memory`. test/bench builds and starts it; it is no part of what users get.
//
//	memory -socket PATH -mib 512
//	memory -tls 127.0.0.1:0 -certificates DIR -mib 512
//
// It prints "ready" and the URI, and serves until SIGINT or SIGTERM. What is written is gone with it.
package main

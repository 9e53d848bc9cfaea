// Package socket opens the stream sockets that programs are served on: those of NBD, of the control socket and of metrics.
//
// A unix socket has its permissions from its first moment, and they do not depend on the umask. A socket file that a killed process left is
// removed; one that somebody listens on is not. The package knows no protocol and no configuration; how an address is spelled is its callers'.
// It starts no goroutine. Every package above layer 1 may import it.
package socket

// Command relay SOCKET HOST:PORT passes the connections of a unix socket on to a TCP address, for tests in a virtual machine that
// have a server only outside. When one side of a connection ends, so does the other; where nobody listens, it ends at once.
package main

// Package bttp carries messages between runtimes: requests with answers and one-way messages, in both directions, on
// either of two carriers with the same frames and the same identities: TLS 1.3 over TCP, a connection per lane, and
// QUIC, a stream per lane. What a runtime says to itself within a process takes neither (Loopback): it goes through memory, on the same lanes.
//
// An Endpoint is a runtime's place in the network; Dial gives its one Conn to a peer. A connection has a lane for
// short messages and lanes for bulk; the answer goes by the lane of its request. docs/design/0002-transport.md has the
// frames, the choices and what they measured.
//
// How a connection begins.
//  1. TLS proves one Ed25519 key to each side; the dialer refuses any but the one it expects. On TCP the records after that
//     handshake are sealed and opened here, not by crypto/tls, with the same bytes on the wire (docs/design/0064-ciphers.md).
//  2. The first frame of a lane, in both directions, is a hello; that of lane 0 carries the credential chain.
//  3. Each side verifies the other's chain from the domain's root principal and for the key that TLS proved; the
//     dialer checks path and services, the listener asks Config.Admit.
//  4. Only then is any other frame read.
//
// How a message goes.
//  1. Who sends encodes the frame into its lane's queue. Bodies of up to 8 KiB are copied; longer ones are sealed from
//     where they lie.
//  2. Who finds the lane idle, and nothing else in flight, writes at once, without ever waiting for the network. With
//     other calls in flight the lane's own goroutine writes, all that is queued by then in writes of one TCP segment; it also goes
//     on where a caller would wait, or has written much. Who answers writes more before that.
//  3. One goroutine per lane reads. It calls the handler, or the done of a call, in place; the frames that came with
//     one read are handled before what they caused is written, together.
//  4. A body arrives in pooled memory of its own, aligned for the disk, and belongs to whoever it was given to.
//
// How a connection ends. The first failure is its cause. All lanes are closed and no longer written, then every call
// that waits fails with that cause, then Done is closed. A lane is dead when DeadAfter has brought nothing, though
// every side sends something each HeartbeatInterval; or when the peer takes nothing for 10 s.
//
// How a connection runs through a gateway (docs/design/0015-gateway.md). The first frame of a lane is a relay frame instead: who reads
// it passes all further bytes on to a runtime that it has a connection to itself. These bytes are those of a lane as above, TLS
// handshake first, between the two ends.
//
// How a connection to a runtime comes about that cannot be dialled (docs/design/0034-firewalls.md). Who wants it signs an ask, which runtimes pass on along the
// connections that they have (package cluster). The runtime dials back, or the bytes of lanes are passed on by all of these. The first frame of each carrier that
// comes of it is a meet frame with the ask's token; then who asked says hello, as on a carrier that it had opened itself.
//
// How credentials are renewed (docs/design/0025-credentials.md). SetCredentials has all later hellos carry the new chain, and shows it to the
// peer of every connection that there is, by a request of a code that is the transport's own: the peer verifies it as at hello and goes by it
// from then on. SetRefused is the opposite: who is refused gets no connection and loses those that it has.
//
// What is bounded: connections, connections per principal, handshakes, lanes, frames, calls that await an answer, bytes
// that a lane holds to be written. A request over the last fails at once; a peer that does not take its answers is not read.
// What is not: memory that a handler holds. It answers at most RequestsPerConnectionMax requests per connection at a time.
//
// What the package refuses to be: a resolver (route), a retry loop, a scheduler. It knows codes of messages, not their
// meaning. Every package above layer 3 may import it.
package bttp

// Package simnet is a network in memory for tests that run in a bubble of testing/synctest: hosts with addresses, and
// between each two of them a link in each direction that delays, loses or cuts what goes over it. It carries datagrams, for
// QUIC, and streams, for TLS.
//
// Rules.
//  1. A datagram meets its link when it is sent: it is dropped if the link is cut then, or loses it, else it arrives after the
//     delay, also if the link is cut by then. Datagrams of one link do not overtake one another as long as its delay stays.
//  2. A stream loses nothing. What a link would lose comes a retransmission later, and holds up what is behind it; what a cut
//     link has not delivered comes once it is mended, as the kernel retransmits.
//  3. A closed socket is a process that is gone and a kernel that is not: datagrams to it vanish, but who awaits a refusal is told;
//     streams to it are refused. A host that is off is one whose links are all cut.
//  4. A firewall around hosts drops what comes from outside and answers nothing that they have sent, for good: its flows do not end.
//
// There are no goroutines: who reads waits for what is due. A link must have a delay, lest exchanges go on for ever without any time
// passing. The seed decides what is lost, but goroutines that send at the same time do so in any order: a seed gives a similar
// run, not the same one.
//
// What it refuses to be: a model of bandwidth, congestion or MTU. Imported by tests only.
package simnet

// Package dispatch brings a message to whom it is addressed: to a service in a directory (in scope), to the service that is closest to a directory toward the root (rootward), or to one actor, which is what a
// service said in an answer. docs/design/0048 has the reasons.
//
// Dispatcher is the one way for all of a process that goes by one endpoint. It finds runtimes through Routes (package route's finder and cache, joined by package cluster; or a static list), connects by whatever way it is given,
// and keeps the connections that nobody else keeps as long as they are used.
//
// How a message goes. 1. Routes say who has the service, from memory or by asking. 2. One of these is connected to, and proves place and service. 3. The message is given to the connection, once. 4. Its answer is
// the dispatcher's: that of the service, whatever kind of error it is, but for two. Undeliverable says that there is no such service or actor at that runtime; Unsupported, that the service does not do this for what is asked:
// a service answers so only where it has done nothing. After the first another runtime is asked, after the second the services above, of a message rootward.
//
// What comes back. A message that reached nobody is an error of kind Undeliverable, with an Undelivered in its chain that says why; never silence. Sent again, elsewhere, is only what was certainly not delivered: nobody could
// be connected to, nothing of it was queued, or the runtime has no such service. Where the connection ended while the answer was waited for, Undelivered.Maybe is set, and nothing is sent again: that is for who knows what the message does.
// Who waits is told when the connection ends, DeadAfter after the runtime was heard last.
//
// Rights are those of the endpoint's identity, judged by the service. Nothing here adds to them.
//
// Concurrency. All methods may be called by many goroutines; Dispatch blocks until the answer, or the end of ctx. Each connection that is kept has one goroutine, which ends with it and which Close waits for.
//
// What it refuses to be: a queue, a retry loop, a codec. It knows neither the codes nor the contents of messages. Whoever is above layer 4 may import it.
package dispatch

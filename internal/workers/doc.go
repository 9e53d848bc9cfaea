// Package workers runs functions in goroutines that are used again, with the stacks that they have grown: a goroutine of its own for each short request begins with a small stack, and copies it each time it has to grow.
//
// What it refuses to be: a bound. A function never waits for another; where no goroutine is idle there is one more. It is no queue, and knows no errors, priorities or contexts.
//
// 1. A function is handed to the goroutine that became idle last, or to a new one. 2. When it returns, its goroutine becomes idle, or ends where enough are. 3. An idle one that nobody has needed for a while ends.
// 4. Once it is waited for none becomes idle, and those that are end.
//
// A Pool has one owner, who ends it by Wait. It needs no lock of who uses it.
//
// It imports the root for its bounds only, and any package above layer 1 may import it.
package workers

// Command owner has files open at a filesystem service, and says when it got what another owner had. It is for scripts that show what becomes of an owner's handles, locks and lease when it dies; no command of Blocktree keeps a lock.
//
//	owner hold CONFIG PATH...      has each PATH open to write, writes to it, locks all of it, prints "ready", and reads the first until that fails; then it prints what it was told
//	owner wait CONFIG PATH         has PATH open to write, prints "ready", waits for the lock of all of it, and prints at which nanosecond since 1970 it had it
//	owner lease CONFIG PATH        opens PATH with a key of its own, again while it is busy, writes to it, and prints at which nanosecond since 1970 it had it
//	owner many CONFIG COUNT PATH   has PATH open COUNT times, each with a lock of its own byte, prints "ready", and waits to be killed
package main

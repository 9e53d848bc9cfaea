package cli

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// monitorSlack is how much later than it wants the monitor thread of the Go runtime may wake up; docs/design/0037-monitor.md says what that saves. The monitor
// itself sleeps for up to 10 ms when it finds little to do, so that nothing relies on more than that.
const monitorSlack = time.Millisecond

// monitorEnv is set for the moment between the two starts of a process: to the slack, in nanoseconds, that its other threads have. It is no setting.
const monitorEnv = "BT_MONITOR_SLACK"

// CalmMonitor makes the monitor thread of the Go runtime wake up less often, for the rest of the process, where its first argument is one of commands: those that
// serve requests for long. A thread's timer slack is that of the thread that made it and only its own to change, and the monitor is made before main: so the process
// starts itself once more (the same process for everybody else) with that slack, and then takes it from the threads that goroutines run on: most of them, as one may
// be out of reach at that moment, which costs nothing but that it is a little late where it sleeps. It is called first of all in main, before anything is open or
// running. Where the system refuses, the program's file is not what runs any more, or whoever started the process has given it a slack of that size, nothing changes.
func CalmMonitor(commands ...string) {
	was, second := os.LookupEnv(monitorEnv)
	_ = os.Unsetenv(monitorEnv) // it cannot fail for this name, and no child is to take it for its own
	switch {
	case second: // or somebody left the variable there: then the slack is another
		ns, err := strconv.ParseUint(was, 10, 32)
		if now, ok := slack(); err == nil && ns > 0 && ok && now == uintptr(monitorSlack) && ns < uint64(now) {
			spareThreads(uintptr(ns))
		}
	case len(os.Args) > 1 && slices.Contains(commands, os.Args[1]):
		startAgain()
	}
}

// startAgain replaces the process by itself, with monitorSlack in all its threads. It returns, with everything as it was, where that is not possible.
func startAgain() {
	self, err := os.Executable()
	if err != nil || !runsFrom(self) {
		return
	}
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) != nil {
		return
	}
	runtime.LockOSThread() // the thread that calls exec is the one that is left
	defer runtime.UnlockOSThread()
	was, ok := slack()
	if !ok || was >= uintptr(monitorSlack) || !setSlack(uintptr(monitorSlack)) {
		return
	}
	env := append(os.Environ(), monitorEnv+"="+strconv.FormatUint(uint64(was), 10))
	_ = syscall.Exec(self, os.Args, env)                 // what cannot be started again goes on as it is
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files) // which the runtime had raised, and took back for what it was to start
	setSlack(was)
}

// runsFrom reports whether path is the file that this process runs. An upgrade may have put another there since it was started, and a file system may have been
// mounted, or a root changed. Another program would not know what this one was about to do.
func runsFrom(path string) bool {
	there, err := os.Stat(path)
	if err != nil {
		return false
	}
	own, err := os.Stat("/proc/self/exe") // the file itself, whatever its name is by now
	return err == nil && os.SameFile(there, own)
}

// spareThreadsMin is how many threads are made and spared ahead beside one per processor, so that the monitor has some to give work to that waits behind a system call: one
// that it makes itself has its slack.
const spareThreadsMin = 16

// spareThreadsMax bounds them on machines of many processors: each is a stack and one of the tasks that its unit, container or user may have, and of many processors
// one is idle, and looks for work by itself.
const spareThreadsMax = 64

// spareThreads gives the threads that goroutines run on the slack that they would have had, and those that they make from now on.
func spareThreads(ns uintptr) {
	setSlack(ns)
	runtime.LockOSThread() // the first makes a thread that makes others, with the slack of its caller
	runtime.UnlockOSThread()
	n := runtime.GOMAXPROCS(0) + spareThreadsMin
	if threads, err := os.ReadDir("/proc/self/task"); err == nil {
		n += len(threads)
	}
	n = min(n, spareThreadsMax)
	var all, over sync.WaitGroup
	all.Add(n)
	for range n { // all at once: each has a thread to itself, those that are idle first
		over.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			setSlack(ns)
			all.Done()
			all.Wait()
		})
	}
	over.Wait()
}

// slack is the calling thread's timer slack in nanoseconds.
func slack() (ns uintptr, ok bool) {
	ns, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_GET_TIMERSLACK, 0, 0, 0, 0, 0)
	return ns, errno == 0 && ns > 0
}

// setSlack sets the calling thread's, and says whether it has it now.
func setSlack(ns uintptr) bool {
	_, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, ns, 0, 0, 0, 0)
	return errno == 0
}

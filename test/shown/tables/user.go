package main

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// user is a thread with the ids of somebody: the system keeps them by thread.
type user struct{ work chan func() }

func newUser(id int) *user {
	u := &user{make(chan func())}
	ready := make(chan error)
	go func() { // as long as the process
		runtime.LockOSThread()
		ready <- become(id)
		for f := range u.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		fmt.Fprintln(os.Stderr, "tables: error: becoming user", id, err)
		os.Exit(1)
	}
	return u
}

// become gives this thread, and no other, the ids.
func become(id int) error {
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); e != 0 {
		return e
	}
	n := uintptr(id)
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, n, n, n); e != 0 {
		return e
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, n, n, n); e != 0 {
		return e
	}
	return nil
}

// as does something as the user.
func (u *user) as(f func() string) string {
	answer := make(chan string)
	u.work <- func() { answer <- f() }
	return <-answer
}

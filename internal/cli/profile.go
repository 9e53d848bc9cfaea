package cli

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"syscall"

	"blocktree"
)

// ProfileEnv names the environment variable that turns profiling on: a directory. It is a tool of test/bench, not a
// setting.
const ProfileEnv = "BT_PROFILE"

// Profile lets SIGUSR1 begin and end CPU profiles of the process, where ProfileEnv names a directory: the n-th, from 1,
// is written to name-PID-n.pprof, under a name ending in .part until it is whole. Without the variable it does nothing.
// The function that it returns ends it all and waits for its goroutine.
func Profile(log *slog.Logger, name string) (stop func()) {
	dir := os.Getenv(ProfileEnv)
	if dir == "" {
		return func() {}
	}
	signals := make(chan os.Signal, 1)
	quit, done := make(chan struct{}), make(chan struct{})
	signal.Notify(signals, syscall.SIGUSR1)
	go func() {
		defer close(done)
		p := profiler{prefix: filepath.Join(dir, fmt.Sprintf("%s-%d", name, os.Getpid()))}
		for {
			select {
			case <-signals:
				if err := p.toggle(); err != nil {
					log.Warn("no profile", "error", err)
				}
			case <-quit:
				if p.file != nil {
					_ = p.toggle() // nobody waits for it any more
				}
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(quit)
		<-done
	}
}

// profiler writes one profile after the other.
type profiler struct {
	prefix string
	n      int
	file   *os.File // of the profile that runs
}

func (p *profiler) toggle() error {
	if p.file == nil {
		p.n++
		f, err := os.Create(fmt.Sprintf("%s-%d.pprof.part", p.prefix, p.n))
		if err != nil {
			return blocktree.E("profile", blocktree.IO, err)
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			f.Close() // nothing was written
			return blocktree.E("profile", blocktree.Busy, err)
		}
		p.file = f
		return nil
	}
	pprof.StopCPUProfile()
	part := p.file.Name()
	err := p.file.Close()
	p.file = nil
	if err == nil {
		err = os.Rename(part, part[:len(part)-len(".part")])
	}
	if err != nil {
		return blocktree.E("profile", blocktree.IO, err)
	}
	return nil
}

package cli

import (
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"

	"blocktree"
)

// LogLevels are the words that --log-level and log.level accept, from chatty to quiet.
func LogLevels() []string { return []string{"debug", "info", "warn", "error"} }

// NewLogger makes the logger of a process: text lines on w. An unknown level is refused with kind Invalid.
func NewLogger(w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	switch level {
	case "debug":
		l = slog.LevelDebug
	case "info", "":
		l = slog.LevelInfo
	case "warn":
		l = slog.LevelWarn
	case "error":
		l = slog.LevelError
	default:
		return nil, Invalid("use one of "+strings.Join(LogLevels(), ", "), "%q is not a log level", level)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})), nil
}

// IgnoreHangup makes a daemon outlive its terminal: SIGHUP does nothing, there is no configuration to re-read while it
// runs.
func IgnoreHangup() { signal.Ignore(syscall.SIGHUP) }

// OnHangup makes a daemon call do at every SIGHUP, one after the other, until stop is called, which waits for the last one; from then on
// SIGHUP does nothing.
func OnHangup(do func()) (stop func()) {
	signals, ended, over := make(chan os.Signal, 1), make(chan struct{}), make(chan struct{})
	signal.Notify(signals, syscall.SIGHUP)
	go func() { // ends with stop
		defer close(over)
		for {
			select {
			case <-signals:
				do()
			case <-ended:
				return
			}
		}
	}()
	return func() {
		IgnoreHangup()
		close(ended)
		<-over
	}
}

// NotifyReady tells systemd, where it started this process, that it serves now. A service manager that does not
// listen is logged, nothing more: the process serves all the same.
func NotifyReady(log *slog.Logger) { notify(log, daemon.SdNotifyReady) }

// NotifyStopping tells systemd that the process is stopping as asked.
func NotifyStopping(log *slog.Logger) { notify(log, daemon.SdNotifyStopping) }

func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("service manager not told", "state", state, "error", blocktree.E("sd_notify", blocktree.IO, err))
	}
}

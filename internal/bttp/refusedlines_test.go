package bttp

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
)

// Lines about refused connections are bounded, and what was held back is counted by the next.
func TestRefusedLinesAreBounded(t *testing.T) {
	var r refusedLines
	now := time.Unix(1000, 0)
	written := 0
	for range 3 * blocktree.RefusedLinesPerSecond {
		if held, ok := r.admit(now); ok {
			if written++; held != 0 {
				t.Errorf("line %d counts %d", written, held)
			}
		}
	}
	if written != blocktree.RefusedLinesPerSecond {
		t.Errorf("%d lines", written)
	}
	if held, ok := r.admit(now.Add(time.Second)); !ok || held != 2*blocktree.RefusedLinesPerSecond {
		t.Errorf("a second later: %v, counting %d", ok, held)
	}
	if held, ok := r.admit(now.Add(time.Second)); !ok || held != 0 {
		t.Errorf("the line after: %v, counting %d", ok, held)
	}
}

// Who gets no connection is a line of the log: by which key, and from where.
func TestRefusedConnectionsAreLogged(t *testing.T) {
	carriers(t, func(t *testing.T, transport Transport) {
		var log lockedLog
		d := newDomain(t)
		sc := d.config("a")
		sc.Log = slog.New(slog.NewTextHandler(&log, nil))
		_, r := d.listen(sc)
		key, err := cred.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		guest := d.client(Config{Key: key, Root: d.root, Transport: transport, Log: slog.New(slog.DiscardHandler)})
		if err := d.dialErr(guest, r); blocktree.KindOf(err) != blocktree.Unauthenticated {
			t.Fatal(err)
		}
		for _, want := range []string{`msg="connection refused"`, "principal=" + key.Principal().String(), "remote=", "heldBack=0", "anonymous callers are not admitted here"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("no %s in %s", want, log.String())
			}
		}
	})
}

// lockedLog is a log that is written to while it is read.
type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

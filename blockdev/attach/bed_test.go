package attach

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// lines is a log that may be read while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// bed is a keeper in time that stands still while anybody has something to do.
type bed struct {
	t     *testing.T
	m     *model
	s     *server
	log   *lines
	o     Options
	stop  context.CancelFunc
	ended chan error
}

func newBed(t *testing.T, change func(*Options)) *bed {
	b := &bed{t: t, m: newModel(), s: newServer(), log: new(lines)}
	b.o = Options{Target: Target{"tcp", "192.0.2.1:10809", "/vm/disk0"}, Connections: 1, DeadTimeout: DeadTimeoutDefault,
		Kernel: b.m, System: b.m, Dial: b.s.Dial, NewLink: b.m.link, Logger: slog.New(slog.NewTextHandler(b.log, nil))}
	if change != nil {
		change(&b.o)
	}
	return b
}

// start runs a keeper until it is ready, or has failed.
func (b *bed) start() (tookOver bool, err error) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	synctest.Wait() // what the keeper of before has hung up on has been noticed
	b.s.change(func() { b.s.left = false })
	b.stop = func() {
		b.s.change(func() { b.s.left = true })
		cancel()
	}
	b.ended = make(chan error, 1)
	ready := make(chan bool, 1)
	o := b.o
	o.Ready = func(_ string, took bool) { ready <- took }
	go func() { b.ended <- Keep(ctx, o) }()
	select {
	case took := <-ready:
		synctest.Wait()
		return took, nil
	case err := <-b.ended:
		cancel()
		return false, err
	}
}

func (b *bed) mustStart() {
	b.t.Helper()
	if took, err := b.start(); err != nil || took {
		b.t.Fatalf("took over %v, %v", took, err)
	}
}

// end stops the keeper, which must say want ("" is no error), and all else.
func (b *bed) end(want string) {
	b.t.Helper()
	b.stop()
	err := <-b.ended
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		b.t.Errorf("ended with %v, want %q", err, want)
	}
	b.m.Disconnect(context.Background(), 0)
	b.s.stop()
	synctest.Wait()
	if b.s.problem != nil {
		b.t.Errorf("the server objects: %v", b.s.problem)
	}
	if len(b.m.links) != 0 {
		b.t.Errorf("%d connections are left", len(b.m.links))
	}
}

// within waits for a state for at most d.
func (b *bed) within(d time.Duration, what string, ok func() bool) time.Duration {
	b.t.Helper()
	began := time.Now()
	for !ok() {
		if time.Since(began) > d {
			b.t.Fatalf("not within %v: %s\n%s", d, what, b.log)
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
	}
	return time.Since(began)
}

// stays demands that a state lasts.
func (b *bed) stays(d time.Duration, what string, ok func() bool) {
	b.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		synctest.Wait()
		if !ok() {
			b.t.Fatalf("no more: %s\n%s", what, b.log)
		}
	}
}

func (b *bed) restartServer(change func()) {
	b.s.change(func() { b.s.down = true })
	b.s.stop()
	b.m.serverGone(0)
	b.within(time.Second, "it waits", func() bool { return b.m.state(0).State == StateWaiting })
	b.s.change(func() {
		b.s.down = false
		if change != nil {
			change()
		}
	})
}

// end0 is end of a keeper that has ended.
func (b *bed) end0() {
	b.ended <- nil
	b.end("")
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"
	"blocktree/internal/config"
	"blocktree/internal/vfs"
)

func serverOf(exports int) *server {
	s := &server{cfg: new(config.NBD), log: slog.New(slog.DiscardHandler), losses: &losses{fs: vfs.NewCrash(), dir: "/state"}}
	for i := range exports {
		s.cfg.Exports = append(s.cfg.Exports, config.Export{Path: fmt.Sprintf("/vm/disk%d", i)})
	}
	return s
}

func memoryFile() blocktree.File {
	return memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 1 << 20}})
}

// TestExportsAreOpenedTogether: what one export waits for, such as a dead node, the others wait for at the same time.
func TestExportsAreOpenedTogether(t *testing.T) {
	const exports = opensMax
	s, all := serverOf(exports), new(blockdev.Exports)
	waiting, together := make(chan struct{}, exports), make(chan struct{})
	go func() {
		for range exports {
			<-waiting
		}
		close(together)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := s.open(ctx, all, func(ctx context.Context, _ *config.Export) (blocktree.File, error) {
		waiting <- struct{}{}
		select {
		case <-together:
			return memoryFile(), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}, blockdev.Options{})
	if err != nil || len(all.List()) != exports {
		t.Errorf("%v; %d exports", err, len(all.List()))
	}
	if err := closeExports(all); err != nil {
		t.Error(err)
	}
}

// TestExportsAreClosedTogether: what the flush of one waits for, the others wait for at the same time.
func TestExportsAreClosedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const exports = 100
		s, all := serverOf(exports), new(blockdev.Exports)
		slow := func(ctx context.Context, c memfile.Call) error {
			if c.Op == memfile.Flush {
				time.Sleep(time.Minute)
			}
			return nil
		}
		err := s.open(t.Context(), all, func(context.Context, *config.Export) (blocktree.File, error) {
			return memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 1 << 20}, Hook: slow}), nil
		}, blockdev.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range all.List() {
			if err := e.Device.WriteAt(t.Context(), make([]byte, 512), 0, false); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		if err := closeExports(all); err != nil || time.Since(began) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// TestFailedExportStopsTheOthers: the first error is the one that is told, not those of the exports that it stopped.
func TestFailedExportStopsTheOthers(t *testing.T) {
	s, all, broken := serverOf(3*opensMax), new(blockdev.Exports), errors.New("broken")
	err := s.open(t.Context(), all, func(ctx context.Context, e *config.Export) (blocktree.File, error) {
		switch e.Path {
		case "/vm/disk0":
			return memoryFile(), nil
		case "/vm/disk3":
			return nil, broken
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}, blockdev.Options{})
	if !errors.Is(err, broken) {
		t.Error(err)
	}
	if err := closeExports(all); err != nil {
		t.Error(err)
	}
	stopped, stop := context.WithCancelCause(t.Context())
	signal := errors.New("a signal")
	stop(signal)
	if err := s.open(stopped, new(blockdev.Exports), func(ctx context.Context, _ *config.Export) (blocktree.File, error) {
		return nil, ctx.Err()
	}, blockdev.Options{}); !errors.Is(err, signal) {
		t.Error(err)
	}
}

// lines is a log that may be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
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

// TestWaitingIsTold: a start without a majority says within ten seconds what it waits for, and gives up when it always did.
func TestWaitingIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serverOf(1)
		var out lines
		s.log = slog.New(slog.NewTextHandler(&out, nil))
		s.answering = func() (int, int) { return 1, 3 }
		began := time.Now()
		said := ""
		err := s.open(t.Context(), new(blockdev.Exports), func(ctx context.Context, _ *config.Export) (blocktree.File, error) {
			time.Sleep(10 * time.Second)
			synctest.Wait()
			said = out.String()
			<-ctx.Done()
			return nil, ctx.Err()
		}, blockdev.Options{})
		if err == nil || time.Since(began) != startTimeout {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		for _, want := range []string{"waiting to open the exports", "open=0 of=1", "1 of 3 nodes serve, and opening a file takes 2", "givesUpIn=1m22s", "hint="} {
			if !strings.Contains(said, want) {
				t.Errorf("after ten seconds the log lacks %q: %s", want, said)
			}
		}
	})
}

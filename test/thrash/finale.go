package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"blocktree/internal/history"
)

// healWithin is how long the cluster may take, when the faults are over, until everything is in sync.
const healWithin = 2 * time.Minute

// finale demands what must be true when the faults are over.
func (w *world) finale(ctx context.Context, l *loads) error {
	began := time.Now()
	l.registers.tally.rest()
	l.mirror.tally.rest()
	if err := w.awaitSync(ctx, healWithin); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.violate("%v", err)
	} else {
		w.say("in sync %.1f s after the last fault", time.Since(began).Seconds())
	}
	l.stop()
	w.scrub()
	if err := w.readAll(ctx, l, "as it is"); err != nil {
		return err
	}
	for _, n := range w.nodes {
		n.kill()
		w.writer.end()
		w.reader.end()
		if err := w.readAll(ctx, l, "without "+n.name); err != nil {
			return err
		}
		n.mustBegin()
		if err := w.awaitSync(ctx, healWithin); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			w.violate("after %s came back: %v", n.name, err)
			return nil
		}
	}
	if l.fio.work1(ctx); ctx.Err() != nil {
		return ctx.Err()
	}
	ops, undecided := l.registers.check(w)
	w.say("%d operations on %d registers checked; porcupine had no time for %d of them", ops, registerCount, undecided)
	return nil
}

// readAll reads every register through both servers and the whole mirror, and demands an answer.
func (w *world) readAll(ctx context.Context, l *loads, how string) error {
	began := time.Now()
	for _, s := range []*server{w.writer, w.reader} {
		if err := w.retry(ctx, s, registersPath, &l.registers.tally, func(c *connection) error {
			for reg := range registerCount {
				if err := l.registers.read(c, reg); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return fmt.Errorf("reading registers through %s, %s: %w", s.name, how, err)
		}
	}
	err := w.retry(ctx, w.writer, mirrorPath, &l.mirror.tally, func(c *connection) error {
		for _, p := range l.mirror.parts {
			for first := 0; first < mirrorPartSectors; first += 64 {
				if err := p.read(c, first, 64); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading the mirror %s: %w", how, err)
	}
	w.say("everything was read %s, in %.1f s", how, time.Since(began).Seconds())
	return nil
}

// retry calls f with a connection until it succeeds; the server may be starting. It fails after healWithin.
func (w *world) retry(ctx context.Context, s *server, export string, t *tally, f func(c *connection) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, healWithin)
	defer cancel()
	c := newConnection(w, s, export, t)
	defer c.close()
	for c.ready(ctx) {
		if err = f(c); err == nil {
			return nil
		}
		sleep(ctx, time.Second)
	}
	if err != nil {
		w.violate("no answer from %s within %v when all is well: %v", s.name, healWithin, err)
		return nil
	}
	return errors.Join(errors.New("no connection"), ctx.Err())
}

// work1 runs one job that must succeed.
func (f *fioLoad) work1(ctx context.Context) {
	if err := f.w.writer.await(ctx, healWithin); err != nil {
		f.w.violate("%v", err)
		return
	}
	if err := f.job(ctx, 0); err != nil && ctx.Err() == nil {
		f.w.violate("fio fails when all is well: %v", err)
	}
}

// dump writes a history that is not linearizable where people can read it.
func (w *world) dump(reg int, h history.History) {
	f, err := os.Create(filepath.Join(w.dir, fmt.Sprintf("register.%d", reg)))
	if err != nil {
		w.say("no history is written: %v", err)
		return
	}
	defer f.Close() // written for people; an error shows as a short file
	for _, o := range h {
		what, end := "read ", fmt.Sprintf("%14.6f", float64(o.Ret)/1e9)
		if o.Write {
			what = "write"
		}
		if o.Ret == history.Unknown {
			end = "          open"
		}
		fmt.Fprintf(f, "%14.6f %s %s %d\n", float64(o.Call)/1e9, end, what, o.Value)
	}
}

// report prints what was done.
func (w *world) report(l *loads) {
	w.say("registers: %v", &l.registers.tally)
	w.say("mirror:    %v", &l.mirror.tally)
	w.say("fio:       %v", l.fio)
	w.mu.Lock()
	total, text := 0, ""
	for _, k := range slices.Sorted(maps.Keys(w.faults)) {
		total += w.faults[k]
		text += fmt.Sprintf(" %s %d", k, w.faults[k])
	}
	skipped := w.skipped
	notes := maps.Clone(w.notes)
	for _, s := range []*server{w.writer, w.reader, w.heir} {
		if log, err := os.ReadFile(s.log); err == nil { // it is there once it was started
			notes["ways through a gateway"] += bytes.Count(log, []byte("node is reached through a gateway"))
		}
	}
	bad := len(w.violations)
	w.mu.Unlock()
	w.say("faults:    %d (%d skipped):%s", total, skipped, text)
	for _, k := range slices.Sorted(maps.Keys(notes)) {
		w.say("note:      %s: %d", k, notes[k])
	}
	w.say("acknowledged operations: %d; violations: %d", l.registers.tally.count()+l.mirror.tally.count(), bad)
}

func (t *tally) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.acked
}

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

const block = 4096

// A log of two flush points: 1 and 2 are written, the first flush is sent, 3 is written and zeroed before its answer is there;
// 4 with FUA, then 5, then the second flush.
func writeLog(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "log")
	l, err := createLog(name, 8*block)
	if err != nil {
		t.Fatal(err)
	}
	add := func(k kind, offset uint64, data byte) {
		t.Helper()
		var p []byte
		if k&^fua == kindWrite {
			p = bytes.Repeat([]byte{data}, block)
		}
		if err := l.add(k, offset, block, p); err != nil {
			t.Fatal(err)
		}
	}
	add(kindWrite, 1*block, 1)
	add(kindWrite, 2*block, 2)
	covers := l.now()
	add(kindWrite, 3*block, 3)
	add(kindZero, 1*block, 0)
	add(kindFlush, covers, 0)
	add(kindWrite|fua, 4*block, 4)
	add(kindWrite, 5*block, 5)
	add(kindFlush, l.now(), 0)
	if err := l.f.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := os.ReadFile(name + ".points"); err != nil || string(n) != "2\n" {
		t.Fatalf("%q %v", n, err)
	}
	return name
}

// blocks is the first byte of each block of an image.
func blocks(t *testing.T, log string, point int, seed uint64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image")
	if err := image(log, point, name, seed); err != nil {
		t.Fatal(err)
	}
	p, err := os.ReadFile(name)
	if err != nil || len(p) != 8*block {
		t.Fatalf("%d bytes, %v", len(p), err)
	}
	text := ""
	for i := 0; i < len(p); i += block {
		text += string('0' + rune(p[i]))
	}
	return text
}

// A flush covers what was answered before it was sent, and nothing else.
func TestImageAtAFlush(t *testing.T) {
	log := writeLog(t)
	for point, want := range map[int]string{1: "01200000", 2: "00234500", 0: "00234500"} {
		if got := blocks(t, log, point, 0); got != want {
			t.Errorf("point %d: %s, want %s", point, got, want)
		}
	}
}

// When the power fails later, what was covered is there, the rest in any combination, and FUA is not lost once it is answered.
func TestImageAfterLossOfPower(t *testing.T) {
	log := writeLog(t)
	seen := map[string]bool{}
	for seed := range uint64(200) {
		got := blocks(t, log, 1, seed+1)
		if got[2] != '2' || got[5] == '5' && got[4] != '4' {
			t.Fatalf("seed %d: %s", seed+1, got)
		}
		seen[got] = true
	}
	if len(seen) < 8 {
		t.Errorf("only %v", seen)
	}
}

// The end of a log that was cut off is left out.
func TestLogCutOff(t *testing.T) {
	name := writeLog(t)
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	for cut := int64(1); cut < 2*block; cut += 1000 {
		if err := os.Truncate(name, info.Size()-cut); err != nil {
			t.Fatal(err)
		}
		if _, records, err := readLog(name); err != nil || len(records) >= 8 || len(records) < 5 {
			t.Fatalf("%d records, %v", len(records), err)
		}
	}
}

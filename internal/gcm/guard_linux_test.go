package gcm

import (
	"bytes"
	"os"
	"syscall"
	"testing"
)

// guarded returns two pages, before and behind which no memory may be touched.
func guarded(t *testing.T) []byte {
	t.Helper()
	page := os.Getpagesize()
	b, err := syscall.Mmap(-1, 0, 4*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(b) })
	for _, p := range [][]byte{b[:page], b[3*page:]} {
		if err := syscall.Mprotect(p, syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	return b[page : 3*page : 3*page]
}

// TestNothingBesideIsTouched: of what lies before and behind what it is given nothing is read or written, whatever the lengths and wherever it lies.
func TestNothingBesideIsTouched(t *testing.T) {
	random := source(7)
	key, nonce := random(32), random(NonceBytes)
	ours, err := New(key)
	if err != nil {
		t.Fatal(err)
	}
	theirs := reference(t, key)
	from, to, with := guarded(t), guarded(t), guarded(t)
	beside := bytes.Repeat([]byte{0xee}, len(to))
	for n := range 600 {
		plain, additional := random(n), random(n%61)
		want := theirs.Seal(nil, nonce, plain, additional)
		for _, atEnd := range []bool{false, true} {
			place := func(b []byte, n int) []byte {
				if atEnd {
					return b[len(b)-n:]
				}
				return b[:n:n]
			}
			copy(to, beside)
			in, out, beyond := place(from, n), place(to, n+TagBytes), place(with, len(additional))
			copy(in, plain)
			copy(beyond, additional)
			ours.Seal(out[:0], nonce, in, beyond)
			if rest := len(to) - len(out); !bytes.Equal(out, want) || bytes.Count(to, beside[:1]) < rest {
				t.Fatalf("%d bytes, at the end %v: sealed otherwise, or more is written", n, atEnd)
			}
			sealed := place(from, n+TagBytes)
			copy(sealed, want)
			copy(to, beside)
			out = place(to, n)
			if _, err := ours.Open(out[:0], nonce, sealed, beyond); err != nil || !bytes.Equal(out, plain) || bytes.Count(to, beside[:1]) < len(to)-n {
				t.Fatalf("%d bytes, at the end %v: %v, opened otherwise, or more is written", n, atEnd, err)
			}
		}
	}
}

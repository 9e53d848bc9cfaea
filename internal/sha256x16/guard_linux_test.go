package sha256x16

import (
	"crypto/sha256"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNothingElseIsRead: messages may lie anywhere in memory, and not a byte before or behind them is read: here nobody may.
func TestNothingElseIsRead(t *testing.T) {
	page := os.Getpagesize()
	all, err := unix.Mmap(-1, 0, 5*page, unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Munmap(all); err != nil {
			t.Error(err)
		}
	}()
	in := all[page : 4*page]
	if err := unix.Mprotect(in, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 55, 56, 64, 119, 4096, 4207} {
		for _, from := range []int{0, 1, 61, 100, 4095, len(in) - Room(n)} {
			m := in[from : from+Room(n)]
			for i := range m[:n] {
				m[i] = byte(from + i*i)
			}
			Pad(m, n)
			messages := make([][]byte, Lanes)
			for i := range messages {
				messages[i] = m
			}
			var sums [Lanes][sha256.Size]byte
			Sum(&sums, messages, n)
			for i, sum := range sums {
				if sum != sha256.Sum256(m[:n]) {
					t.Fatalf("%d bytes at %d: sum %d", n, from, i)
				}
			}
		}
	}
}

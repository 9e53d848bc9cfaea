package sha256x16

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"testing"
)

// made makes messages of n bytes, padded.
func made(seed uint64, count, n int) [][]byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(count), byte(n)})
	out := make([][]byte, count)
	for i := range out {
		out[i] = make([]byte, Room(n))
		r.Read(out[i]) // what is behind the message is Pad's
		Pad(out[i], n)
	}
	return out
}

// TestSum: every sum is what crypto/sha256 makes of the message, for every number of messages, every length around the ends of blocks, and some long ones; and messages are left as they are.
func TestSum(t *testing.T) {
	lengths := []int{511, 512, 513, 4096, 4207, 4096 + 119, 65536 + 111}
	for n := range 200 {
		lengths = append(lengths, n)
	}
	for seed, n := range lengths {
		for count := range Lanes + 1 {
			messages := made(uint64(seed), count, n)
			before := make([][]byte, count)
			for i, m := range messages {
				before[i] = bytes.Clone(m)
			}
			var sums [Lanes][sha256.Size]byte
			Sum(&sums, messages, n)
			for i, m := range messages {
				if want := sha256.Sum256(m[:n]); sums[i] != want {
					t.Fatalf("%d messages of %d bytes: sum %d is %x, not %x", count, n, i, sums[i], want)
				}
				if !bytes.Equal(m, before[i]) {
					t.Fatalf("%d messages of %d bytes: message %d was changed", count, n, i)
				}
			}
		}
	}
}

// TestPad: what is appended is what a SHA-256 of whole blocks needs, and no message has less room than that.
func TestPad(t *testing.T) {
	for n := range 300 {
		b := bytes.Repeat([]byte{0xff}, Room(n))
		Pad(b, n)
		if len(b)%sha256.BlockSize != 0 || len(b)-n < 9 || len(b)-n > sha256.BlockSize+8 || b[n] != 0x80 || bytes.ContainsFunc(b[n+1:len(b)-2], func(r rune) bool { return r != 0 }) {
			t.Fatalf("%d: %x", n, b)
		}
		if got := int(b[len(b)-2])<<8 | int(b[len(b)-1]); got != 8*n {
			t.Fatalf("%d: a length of %d bits", n, got)
		}
	}
}

// TestNothingIsAllocated by a sum.
func TestNothingIsAllocated(t *testing.T) {
	messages := made(1, Lanes, 4207)
	var sums [Lanes][sha256.Size]byte
	if n := testing.AllocsPerRun(20, func() { Sum(&sums, messages, 4207) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzSum: as TestSum, whatever the bytes.
func FuzzSum(f *testing.F) {
	f.Add([]byte("abc"), uint8(16))
	f.Add(bytes.Repeat([]byte{0x80}, 119), uint8(9))
	f.Fuzz(func(t *testing.T, b []byte, count uint8) {
		messages := make([][]byte, int(count)%(Lanes+1))
		for i := range messages {
			messages[i] = make([]byte, Room(len(b)))
			copy(messages[i], b)
			if len(b) > 0 {
				messages[i][i%len(b)] ^= byte(i)
			}
			Pad(messages[i], len(b))
		}
		var sums [Lanes][sha256.Size]byte
		Sum(&sums, messages, len(b))
		for i, m := range messages {
			if sums[i] != sha256.Sum256(m[:len(b)]) {
				t.Fatalf("sum %d of %d", i, len(messages))
			}
		}
	})
}

// BenchmarkSum is of sixteen leaves of 4 KiB, as they are and one after the other.
func BenchmarkSum(b *testing.B) {
	const n = 4207
	messages := made(1, Lanes, n)
	var sums [Lanes][sha256.Size]byte
	b.Run("lanes", func(b *testing.B) {
		b.SetBytes(Lanes * n)
		for b.Loop() {
			Sum(&sums, messages, n)
		}
	})
	b.Run("one by one", func(b *testing.B) {
		b.SetBytes(Lanes * n)
		for b.Loop() {
			for i, m := range messages {
				sums[i] = sha256.Sum256(m[:n])
			}
		}
	})
}

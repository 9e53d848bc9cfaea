package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"blocktree"
)

// sizeHint shows how a size is typed.
const sizeHint = "a size is a whole number of bytes, or of K, M, G or T (1024-based), for example 512M or 1GiB"

// ParseSize reads a positive number of bytes: "4096", "64K", "64KB", "64KiB", and so on to T, upper or lower case,
// 1024-based. It refuses zero, signs, fractions, other words and what passes 2^63-1, with kind Invalid and a hint.
func ParseSize(s string) (uint64, error) {
	bad := func(why string) (uint64, error) {
		return 0, &blocktree.Error{Op: "size", Kind: blocktree.Invalid, Err: fmt.Errorf("%q %s", s, why), Hint: sizeHint}
	}
	digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
	if digits == 0 {
		if strings.HasPrefix(s, "-") {
			return bad("is negative")
		}
		return bad("is not a size")
	}
	var shift uint
	switch strings.ToLower(s[digits:]) {
	case "", "b":
	case "k", "kb", "kib":
		shift = 10
	case "m", "mb", "mib":
		shift = 20
	case "g", "gb", "gib":
		shift = 30
	case "t", "tb", "tib":
		shift = 40
	default:
		return bad("is not a size")
	}
	n, err := strconv.ParseUint(s[:digits], 10, 64)
	switch {
	case err != nil || n > math.MaxInt64>>shift:
		return bad("is too large to count in bytes")
	case n == 0:
		return bad("is zero")
	}
	return n << shift, nil
}

// FormatSize prints n so that ParseSize reads it back exactly: in the largest unit that divides it.
func FormatSize(n uint64) string {
	for _, u := range []struct {
		shift uint
		name  string
	}{{40, "TiB"}, {30, "GiB"}, {20, "MiB"}, {10, "KiB"}} {
		if n != 0 && n&(1<<u.shift-1) == 0 {
			return strconv.FormatUint(n>>u.shift, 10) + u.name
		}
	}
	return strconv.FormatUint(n, 10)
}

// Size is a size as flags and configuration files hold it. The zero Size is "not given".
type Size uint64

// String prints the size, the empty string for none.
func (s *Size) String() string {
	if *s == 0 {
		return ""
	}
	return FormatSize(uint64(*s))
}

// Set reads a size; it makes *Size a flag's value.
func (s *Size) Set(text string) error {
	n, err := ParseSize(text)
	if err == nil {
		*s = Size(n)
	}
	return err
}

// Type names the value in help texts.
func (s *Size) Type() string { return "size" }

// UnmarshalText reads a size from a configuration file.
func (s *Size) UnmarshalText(text []byte) error { return s.Set(string(text)) }

// MarshalText prints the size for a configuration file.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Code is an erasure code as flags and configuration files hold it. The zero Code is "not given".
type Code struct{ blocktree.Code }

// String prints the code as K+M, the empty string for none.
func (c *Code) String() string {
	if c.Data == 0 {
		return ""
	}
	return c.Code.String()
}

// Set reads a code; it makes *Code a flag's value.
func (c *Code) Set(text string) error {
	code, err := blocktree.ParseCode(text)
	if err != nil {
		return WithHint(err, fmt.Sprintf("K data shards and M parity shards, from 1+0 to %d+%d, for example 2+1",
			blocktree.DataShardsMax, blocktree.ParityShardsMax))
	}
	c.Code = code
	return nil
}

// Type names the value in help texts.
func (c *Code) Type() string { return "K+M" }

// UnmarshalText reads a code from a configuration file.
func (c *Code) UnmarshalText(text []byte) error { return c.Set(string(text)) }

// MarshalText prints the code for a configuration file.
func (c Code) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

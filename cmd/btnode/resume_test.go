package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/crypto/seal"
	"blocktree/fs"
	"blocktree/internal/config"
)

// carried counts the bytes that are carried.
type carried struct {
	memory
	read, written int
}

func (c *carried) Info() fs.Info {
	i := c.memory.Info()
	i.SectorBytes = 4096
	return i
}

func (c *carried) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	n, err := c.memory.ReadAt(ctx, p, off)
	c.read += n
	return n, err
}

func (c *carried) WriteAt(ctx context.Context, p []byte, off uint64) error {
	c.written += len(p)
	return c.memory.WriteAt(ctx, p, off)
}

// SumAt implements fs.Summer.
func (c *carried) SumAt(_ context.Context, off uint64, n int) (sum [sha256.Size]byte, got int, err error) {
	b := c.bytes[min(int(off), len(c.bytes)):]
	b = b[:min(n, len(b))]
	return sha256.Sum256(b), len(b), nil
}

// old is a service of the version before, which knows no sums.
type old struct{ carried }

func (o *old) SumAt(context.Context, uint64, int) (sum [sha256.Size]byte, n int, err error) {
	return sum, 0, blocktree.E("old", blocktree.Unsupported, nil)
}

func noise(n int) []byte {
	b, r := make([]byte, n), rand.New(rand.NewPCG(uint64(n), 7))
	for i := range b {
		b[i] = byte(1 + r.IntN(255))
	}
	return b
}

// A7: a put that goes on gives the bytes of its source, wherever the one before was cut, also within a piece; what others wrote is refused, and not written to.
func TestPutResumes(t *testing.T) {
	const size = 3*copyBytes + 5000
	text := noise(size)
	for _, cut := range []int{0, 4096, copyBytes, copyBytes + 3*4096, 2 * copyBytes, size} {
		to := &carried{memory: memory{make([]byte, size)}}
		copy(to.bytes, text[:cut])
		kept, err := resumeIn(t.Context(), to, bytes.NewReader(text), "a", size, &progress{})
		if want := min(cut, size); err != nil || !bytes.Equal(to.bytes, text) || int(kept) > want || cut%copyBytes == 0 && int(kept) != want || to.written > size-want/copyBytes*copyBytes {
			t.Errorf("cut at %d: kept %d, wrote %d, %v", cut, kept, to.written, err)
		}
	}
	for what, at := range map[string]int{"the first byte": 0, "the last": size - 1, "within": copyBytes + 4096*7 + 5} {
		to := &carried{memory: memory{make([]byte, size)}}
		to.bytes[at] = ^text[at] | 1
		if to.bytes[at] == text[at] {
			to.bytes[at] ^= 2
		}
		was := bytes.Clone(to.bytes[at/4096*4096:])
		_, err := resumeIn(t.Context(), to, bytes.NewReader(text), "a", size, &progress{})
		if blocktree.KindOf(err) != blocktree.Exists || blocktree.HintOf(err) == "" || !bytes.Equal(to.bytes[at/4096*4096:], was) {
			t.Errorf("another in %s: %v", what, err)
		}
	}
	// another version of a whole file, which has zeros where the source has none: nothing of it is written over before it is refused
	for what, last := range map[string]int{"differs at its end": size - 1, "differs in its second piece": copyBytes + 5} {
		to := &carried{memory: memory{bytes.Clone(text)}}
		clear(to.bytes[:copyBytes])
		to.bytes[last] ^= 255
		if to.bytes[last] == 0 {
			to.bytes[last] = text[last]/2 + 100
		}
		was := bytes.Clone(to.bytes)
		if _, err := resumeIn(t.Context(), to, bytes.NewReader(text), "a", size, &progress{}); blocktree.KindOf(err) != blocktree.Exists || to.written != 0 || !bytes.Equal(to.bytes, was) {
			t.Errorf("another version, which %s: %d bytes written, %v", what, to.written, err)
		}
	}
	_, err := resumeIn(t.Context(), &carried{memory: memory{make([]byte, size)}}, bytes.NewReader(text[:size-1]), "a", size, &progress{})
	if blocktree.KindOf(err) != blocktree.Invalid {
		t.Errorf("a source that became shorter: %v", err)
	}
}

// A7: a get that goes on gives the bytes of the file as it is now, whatever is there already; and carries only what differs.
func TestGetResumes(t *testing.T) {
	const size = 3*copyBytes + 5000
	text := noise(size)
	for what, had := range map[string][]byte{
		"nothing": nil, "a piece": text[:copyBytes], "a part of one": text[:copyBytes+17], "all": text, "another version": noise(size + 1)[:2*copyBytes], "more": append(bytes.Clone(text), 1, 2, 3),
	} {
		in, err := openDir(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		f, _, err := in.partial("f")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(had); err != nil {
			t.Fatal(err)
		}
		if _, _, err := in.partial("f"); blocktree.KindOf(err) != blocktree.Busy {
			t.Errorf("%s: another process: %v", what, err)
		}
		equal := 0
		for ; equal+copyBytes <= min(len(had), size) && bytes.Equal(had[equal:equal+copyBytes], text[equal:equal+copyBytes]); equal += copyBytes {
		}
		if len(had) >= size && bytes.Equal(had[:size], text) {
			equal = size
		}
		from := &carried{memory: memory{text}}
		kept, err := resumeOut(t.Context(), from, f, "f", &progress{})
		got, _ := os.ReadFile(f.Name())
		if err != nil || !bytes.Equal(got, text) || int(kept) != equal || from.read != size-equal {
			t.Errorf("%s: kept %d of %d, carried %d, %v", what, kept, equal, from.read, err)
		}
		before := &old{carried{memory: memory{text}}}
		if kept, err := resumeOut(t.Context(), before, f, "f", &progress{}); kept != size || err != nil {
			t.Errorf("%s: from a service of before: kept %d, %v", what, kept, err)
		}
		f.Close()
		in.close()
	}
}

// What somebody else may have made, or can change, is not gone on with.
func TestPartialIsOurs(t *testing.T) {
	dir := t.TempDir()
	in, err := openDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer in.close()
	make := func(name string, make func(partial string) error) {
		t.Helper()
		if err := make(filepath.Join(dir, "."+name+".partial")); err != nil {
			t.Fatal(err)
		}
		f, _, err := in.partial(name)
		if err == nil {
			f.Close()
		}
		if err == nil || blocktree.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	make("link", func(p string) error { return os.Symlink(other, p) })
	make("hard", func(p string) error { return os.Link(other, p) })
	make("open", func(p string) error {
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			return err
		}
		return os.Chmod(p, 0o666)
	})
	make("dir", func(p string) error { return os.Mkdir(p, 0o700) })
	if got, _ := os.ReadFile(other); !strings.HasPrefix(string(got), "secret") {
		t.Error("it was written to")
	}
}

// A4 of 0057: put --resume goes on with what a put of the same user, made so, can have begun, and with nothing else.
func TestResumeOwn(t *testing.T) {
	as := &config.Create{Size: 8192, SectorSize: 4096}
	made := meta.Inode{Kind: meta.KindFile, UID: 7, SizeBytes: 8192, SectorBytes: 4096, Code: blocktree.Code{Data: 2, Parity: 1}, Suite: uint8(seal.XAES256GCM)}
	for name, c := range map[string]struct {
		change func(*meta.Inode)
		code   blocktree.Code
		says   string
	}{
		"its own":           {func(*meta.Inode) {}, blocktree.Code{}, ""},
		"with its code":     {func(*meta.Inode) {}, blocktree.Code{Data: 2, Parity: 1}, ""},
		"finished":          {func(i *meta.Inode) { i.HasLength, i.LengthBytes = true, 5000 }, blocktree.Code{}, ""},
		"another length":    {func(i *meta.Inode) { i.HasLength, i.LengthBytes = true, 5001 }, blocktree.Code{}, "size"},
		"another size":      {func(i *meta.Inode) { i.SizeBytes = 4096 }, blocktree.Code{}, "size"},
		"another's":         {func(i *meta.Inode) { i.UID = 8 }, blocktree.Code{}, "user id 8"},
		"another integrity": {func(i *meta.Inode) { i.Integrity = meta.IntegrityTree }, blocktree.Code{}, "integrity tree, not sector"},
		"other sectors":     {func(i *meta.Inode) { i.SectorBytes = 512 }, blocktree.Code{}, "sectors of 512"},
		"another code":      {func(*meta.Inode) {}, blocktree.Code{Data: 1, Parity: 1}, "code 2+1, not 1+1"},
		"a directory":       {func(i *meta.Inode) { i.Kind = meta.KindDir }, blocktree.Code{}, "directory"},
		"a symbolic link":   {func(i *meta.Inode) { i.Kind, i.Target = meta.KindLink, "x" }, blocktree.Code{}, "link"},
	} {
		i := made
		c.change(&i)
		err := begun{&i, 7}.own(5000, as, c.code, false)
		if (err == nil) != (c.says == "") || err != nil && (blocktree.KindOf(err) != blocktree.Exists || !strings.Contains(err.Error(), c.says) || blocktree.HintOf(err) == "") {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	for _, d := range []stripe.Durability{stripe.DurabilityAck, stripe.DurabilityFlush} {
		if err := (begun{}).durable(d, as); (err == nil) != (d == stripe.DurabilityAck) {
			t.Errorf("durability %s: %v", d, err)
		}
	}
}

// What a put that was killed has open yet is waited for; what somebody writes, for a while only.
func TestWhenFree(t *testing.T) {
	for busy, want := range map[time.Duration]blocktree.Kind{0: blocktree.Other, blocktree.LeaseTerm: blocktree.Other, time.Hour: blocktree.Busy} {
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			f, err := whenFree(t.Context(), func() (fs.File, error) {
				if time.Since(begun) < busy {
					return nil, blocktree.E("open", blocktree.Busy, nil)
				}
				return &memory{}, nil
			})
			if took := time.Since(begun); blocktree.KindOf(err) != want || (f == nil) != (err != nil) || took < min(busy, 2*blocktree.LeaseTerm) || took > 3*blocktree.LeaseTerm {
				t.Errorf("busy for %v: %v after %v", busy, err, took)
			}
		})
	}
}

package blockdev

import (
	"bytes"
	"context"
	"testing"

	"blocktree"
	"blocktree/blockdev/memfile"
)

// TestPartialWritesReadOnce: a sector that is written in parts is read once, and what was left of it is right each time.
func TestPartialWritesReadOnce(t *testing.T) {
	b := newCacheBed(t, memfile.Options{})
	model := make([]byte, 4*4096)
	write := func(off, length uint64, value byte) {
		t.Helper()
		for i := range length {
			model[off+i] = value
		}
		if err := b.dev.WriteAt(t.Context(), model[off:off+length], off, false); err != nil {
			t.Fatal(err)
		}
		b.cache.entries.Wait()
	}
	for i := range uint64(8) {
		write(i*512, 512, byte(i)+1)
	}
	if reads, writes := b.file.Calls(memfile.Read), b.file.Calls(memfile.Write); reads != 1 || writes != 8 {
		t.Errorf("%d reads and %d writes for 8 parts of a sector", reads, writes)
	}
	write(4096+100, 2*4096, 20) // completes sectors 1 and 3, covers 2
	reads := b.file.Calls(memfile.Read)
	write(4096, 1, 21)
	write(4*4096-1, 1, 22)
	write(4096-1, 2, 23)
	if err := b.dev.Zero(t.Context(), 4096+5, 7, false); err != nil {
		t.Fatal(err)
	}
	clear(model[4096+5 : 4096+12])
	b.cache.entries.Wait()
	write(4096+6, 1, 24)
	if n := b.file.Calls(memfile.Read) - reads; n != 0 {
		t.Errorf("%d reads of sectors that earlier writes had completed", n)
	}
	got := make([]byte, len(model))
	if !b.dev.TryReadAt(got[:8192], 0) || !bytes.Equal(got[:8192], model[:8192]) {
		t.Error("what partial writes leave is cached, as they left it")
	}
	if err := b.dev.ReadAt(t.Context(), got, 0); err != nil || !bytes.Equal(got, model) {
		t.Errorf("other bytes than were written: %v", err)
	}
	if err := b.file.File.ReadSectors(t.Context(), 0, got); err != nil || !bytes.Equal(got, model) {
		t.Errorf("the file has other bytes: %v", err)
	}
}

// TestPartialWriteIsKeptUnderOneLease: without a lease before and after it, of one epoch, somebody else may have written.
func TestPartialWriteIsKeptUnderOneLease(t *testing.T) {
	epoch, valid := blocktree.Epoch(5), true
	for name, during := range map[string]func(){
		"the lease ends":        func() { valid = false },
		"another epoch begins":  func() { epoch = 6 },
		"the lease was renewed": func() {},
	} {
		epoch, valid = 5, true
		b := newCacheBed(t, memfile.Options{Lease: func() (blocktree.Epoch, bool) { return epoch, valid }})
		b.file.afterWrite = func() error { during(); return nil }
		if err := b.dev.WriteAt(context.Background(), []byte{7}, 9*4096+3, false); err != nil {
			t.Fatal(err)
		}
		b.file.afterWrite = nil
		b.cache.entries.Wait()
		valid = true
		p := make([]byte, 4096)
		if kept := b.dev.TryReadAt(p, 9*4096); kept != (name == "the lease was renewed") {
			t.Errorf("%s during a write: kept %t", name, kept)
		}
	}
	valid = false
	b := newCacheBed(t, memfile.Options{Lease: func() (blocktree.Epoch, bool) { return epoch, valid }})
	b.file.afterWrite = func() error { valid = true; return nil }
	if err := b.dev.WriteAt(context.Background(), []byte{7}, 9*4096+3, false); err != nil {
		t.Fatal(err)
	}
	b.cache.entries.Wait()
	if b.dev.TryReadAt(make([]byte, 1), 9*4096) {
		t.Error("kept though the lease began after the write")
	}
}

// TestPartialWriteThatFails leaves nothing to be believed, neither what was there nor what it meant to leave.
func TestPartialWriteThatFails(t *testing.T) {
	b := newCacheBed(t, memfile.Options{})
	b.want(7, 0, true)
	b.file.afterWrite = func() error { return blocktree.E("test", blocktree.Timeout, nil) }
	if err := b.dev.WriteAt(t.Context(), []byte{1}, 7*4096, false); blocktree.KindOf(err) != blocktree.Timeout {
		t.Fatal(err)
	}
	b.file.afterWrite = nil
	b.want(7, 1, true)
	if err := b.dev.WriteAt(t.Context(), []byte{2}, 7*4096, false); err != nil {
		t.Fatal(err)
	}
	b.cache.entries.Wait()
	b.want(7, 2, true) // the write that failed may take effect yet
	b.want(7, 2, true)
}

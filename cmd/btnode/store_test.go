package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"blocktree"
	"blocktree/cluster/store"
	"blocktree/internal/cli"
	"blocktree/internal/vfs"
)

// nothing is a machine that has forgotten all.
type nothing struct{}

func (nothing) Checkpoint(*store.Store, []byte) error { return nil }
func (nothing) Record(store.Replayed) error           { return nil }

// makeStore makes a store in dir/sectors that holds four sectors of 512 bytes, and returns the record's place.
func makeStore(t *testing.T, dir string) store.Ref {
	t.Helper()
	dir = filepath.Join(dir, "sectors")
	if err := store.Create(vfs.Disk{}, dir, 7, store.Options{}); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(vfs.Disk{}, dir, 7, store.Options{}, nothing{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(nil)
	r := store.Record{
		Kind: store.KindData, File: blocktree.FileID{Generation: 1, Inode: 9}, First: 100, Count: 4, ShardBytes: 512,
		Version: blocktree.Version{Epoch: 2, Sequence: 3}, Seals: make([]byte, 4*store.SealBytes), Payload: make([]byte, 4*512),
	}
	done := make(chan error, 1)
	refs, err := s.Append([]store.Record{r}, func(err error) { done <- err })
	if err == nil {
		err = <-done
	}
	if err == nil {
		err = s.Index(r.File, store.Extent{First: r.First, Count: r.Count, Content: store.Data, Version: r.Version, Ref: refs[0]})
	}
	if err == nil {
		err = s.Close([]byte{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return refs[0]
}

// TestStoreCheckNames: a flipped bit on the disk is named for people and for scripts, with exit code 1 and what to do.
func TestStoreCheckNames(t *testing.T) {
	dir := t.TempDir()
	ref := makeStore(t, dir)
	if code, out, stderr := command(t, "store", "check", dir); code != cli.ExitOK || !strings.Contains(out, "no damage; 4 sectors in 1 record and 1 page are good") || stderr != "" {
		t.Fatalf("exit %d: %s%s", code, out, stderr)
	}
	name := filepath.Join(dir, "sectors", segmentFile(ref.Segment))
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{1, 2} {
		b[int(ref.Offset)+160+i*512+300] ^= 16
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, stderr := command(t, "store", "check", dir)
	if code != cli.ExitFailure || !strings.Contains(out, "damaged: sectors: "+segmentFile(ref.Segment)+" at ") ||
		!strings.Contains(out, "file 1.9 sectors 101 to 102: they do not match their checksum\n") ||
		!strings.Contains(stderr, "1 problem, 2 damaged sectors\n") || !strings.Contains(stderr, "btnode: hint: start the node: with its peers it repairs") {
		t.Errorf("exit %d: %s%s", code, out, stderr)
	}
	code, out, _ = command(t, "store", "check", dir, "--json")
	var got checkLine
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != cli.ExitFailure || got.Healthy || !got.Complete || len(got.Problems) != 1 ||
		got.DamagedSectors != 2 || got.Sectors != 2 || got.Store != blocktree.NodeID(7).String() {
		t.Fatalf("exit %d, %v: %s", code, err, out)
	}
	want := problemLine{
		Kind: "sectors", Name: segmentFile(ref.Segment), Offset: int64(ref.Offset), File: "1.9", First: 101, Count: 2, Version: "2.3",
		Text: "they do not match their checksum",
	}
	if got.Problems[0] != want {
		t.Errorf("%+v, want %+v", got.Problems[0], want)
	}
	code, out, _ = command(t, "store", "info", dir, "--json")
	var info storeInfo
	if err := json.Unmarshal([]byte(out), &info); err != nil || code != cli.ExitOK || info.LiveSectors != 4 || !info.Clean || info.Starts != 1 {
		t.Errorf("exit %d, %v: %s", code, err, out)
	}
}

// TestStoreCheckRepair: what belongs to nothing goes, a damaged store is to be scrubbed, and no shard is touched.
func TestStoreCheckRepair(t *testing.T) {
	dir := t.TempDir()
	ref := makeStore(t, dir)
	sectors := filepath.Join(dir, "sectors")
	left := filepath.Join(sectors, "checkpoint.tmp")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, stderr := command(t, "store", "check", dir, "--repair")
	if _, err := os.Stat(left); code != cli.ExitOK || !os.IsNotExist(err) || !strings.Contains(out, "repair: checkpoint.tmp is removed\n") || strings.Contains(out, "checks all") {
		t.Errorf("exit %d, %v: %s%s", code, err, out, stderr)
	}
	name := filepath.Join(sectors, segmentFile(ref.Segment))
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[int(ref.Offset)+160+300] ^= 16
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(sectors, "scrub"), []byte("anything"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, _ = command(t, "store", "check", dir, "--repair", "--json")
	var got checkLine
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != cli.ExitFailure || got.Repair == nil || !got.Repair.Scrub || len(got.Repair.Removed) != 0 {
		t.Errorf("exit %d, %v: %s", code, err, out)
	}
	if is, err := os.ReadFile(filepath.Join(sectors, "scrub")); err != nil || string(is) == "anything" {
		t.Errorf("no scrub is due: %v", err)
	}
	if now, err := os.ReadFile(name); err != nil || !bytes.Equal(now, b) {
		t.Errorf("the segment is another: %v", err)
	}
}

// TestStoreCheckBeyondRepair: of a store that no node starts with nothing is removed, and nothing is promised.
func TestStoreCheckBeyondRepair(t *testing.T) {
	for _, lost := range []string{"superblock", "checkpoint", "index-00000001"} {
		t.Run(lost, func(t *testing.T) {
			dir := t.TempDir()
			makeStore(t, dir)
			sectors := filepath.Join(dir, "sectors")
			left := filepath.Join(sectors, "checkpoint.tmp")
			if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
			if name := filepath.Join(sectors, lost); strings.HasPrefix(lost, "index") {
				if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
			} else if err := os.WriteFile(name, bytes.Repeat([]byte("damaged "), 64), 0o600); err != nil {
				t.Fatal(err)
			}
			code, out, stderr := command(t, "store", "check", dir, "--repair")
			if code != cli.ExitFailure || !strings.Contains(out, "repair: nothing is done: ") || strings.Contains(out, "checks all") ||
				!strings.Contains(stderr, "btnode: hint: the node does not start with it") {
				t.Errorf("exit %d: %s%s", code, out, stderr)
			}
			if _, err := os.Stat(left); err != nil {
				t.Errorf("a file was removed: %v", err)
			}
			if _, err := os.Stat(filepath.Join(sectors, "scrub")); !os.IsNotExist(err) {
				t.Errorf("a scrub is due: %v", err)
			}
		})
	}
}

// TestStoreCheckStopped: a check that a signal ended does not pass for one that found nothing.
func TestStoreCheckStopped(t *testing.T) {
	dir := t.TempDir()
	makeStore(t, dir)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out, errs bytes.Buffer
	code := cli.RunContext(ctx, newRoot(), []string{"store", "check", dir}, &out, &errs)
	if code != cli.ExitFailure || out.Len() > 0 || !strings.Contains(errs.String(), "stopped before everything was read") {
		t.Errorf("exit %d: %s%s", code, out.String(), errs.String())
	}
}

func TestAbout(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 bytes", 1023: "1023 bytes", 1024: "1 KiB", 1536: "1.5 KiB", 64 << 20: "64 MiB", 1<<40 + 1<<39: "1.5 TiB", 1 << 61: "2048 PiB",
	} {
		if got := about(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

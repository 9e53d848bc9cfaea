package node_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"blocktree"
	"blocktree/internal/testenv"
)

// startMark reads the tokens of a node's start mark: the one that Raft is known to have, and the one proposed last.
func startMark(t *testing.T, dir string) []byte {
	b, err := os.ReadFile(filepath.Join(dir, "sectors", "start"))
	if err != nil || len(b) != 1+16+16+4 {
		t.Fatalf("start mark of %d bytes: %v", len(b), err)
	}
	return b[17:33]
}

// TestWipedNodeIsRefused starts a node under its old store id on an emptied directory, and on the directory of an earlier
// day: neither may take part in the group again.
func TestWipedNodeIsRefused(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 3)
	d.StartAll()
	c := d.Client()
	d.Create(c, "/vm/disk0", 8<<20, blocktree.Code{Data: 2, Parity: 1})
	d.Stop(2)
	yesterday := t.TempDir()
	if err := os.CopyFS(yesterday, os.DirFS(d.NodeDir(2))); err != nil {
		t.Fatal(err)
	}
	d.Start(2) // an honest restart is welcome
	d.Await("the cluster knows of the new start", func() bool {
		mark, old := startMark(t, d.NodeDir(2)), startMark(t, yesterday)
		return !bytes.Equal(mark, old) && bytes.Equal(mark[:8], mark[8:])
	})
	d.Stop(2)
	for name, put := range map[string]func() error{
		"wiped":     func() error { return os.RemoveAll(d.NodeDir(2)) },
		"yesterday": func() error { return os.CopyFS(d.NodeDir(2), os.DirFS(yesterday)) },
	} {
		today := t.TempDir() + "/today"
		if err := os.Rename(d.NodeDir(2), today); err != nil {
			t.Fatal(err)
		}
		if err := put(); err != nil {
			t.Fatal(err)
		}
		if err := d.TryStart(2); blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
			t.Errorf("%s: %v, want a refusal of kind invalid with a hint", name, err)
		}
		if err := os.RemoveAll(d.NodeDir(2)); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(today, d.NodeDir(2)); err != nil {
			t.Fatal(err)
		}
	}
	d.Start(2) // with its own directory it is welcome
	healthy(patience(t), d, c)
}

// TestStaleMetadataIsRefused puts metadata back that is older than the sectors beside it, while the node that could say so is
// away: the node's own sectors say it.
func TestStaleMetadataIsRefused(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 3)
	d.StartAll()
	c := d.Client()
	d.Create(c, "/vm/old", 8<<20, blocktree.Code{Data: 2, Parity: 1})
	d.Stop(2)
	meta := filepath.Join(d.NodeDir(2), "meta")
	yesterday := t.TempDir()
	if err := os.CopyFS(yesterday, os.DirFS(meta)); err != nil {
		t.Fatal(err)
	}
	old := startMark(t, d.NodeDir(2))
	d.Start(2)
	d.Await("the cluster knows of the new start", func() bool {
		mark := startMark(t, d.NodeDir(2))
		return !bytes.Equal(mark, old) && bytes.Equal(mark[:8], mark[8:])
	})
	d.Stop(1)
	d.Create(c, "/vm/new", 8<<20, blocktree.Code{Data: 1, Parity: 1}) // nodes 1 and 3 have it
	d.Stop(2)
	d.Stop(0)
	for name, put := range map[string]func() error{
		"emptied":   func() error { return os.Mkdir(meta, 0o700) },
		"yesterday": func() error { return os.CopyFS(meta, os.DirFS(yesterday)) },
		"damaged": func() error {
			if err := os.CopyFS(meta, os.DirFS(yesterday)); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(meta, "start"), []byte("damaged"), 0o600)
		},
	} {
		if err := os.RemoveAll(meta); err != nil {
			t.Fatal(err)
		}
		if err := put(); err != nil {
			t.Fatal(err)
		}
		err := d.TryStart(2)
		if k := blocktree.KindOf(err); k != blocktree.Invalid && k != blocktree.Corrupt || blocktree.HintOf(err) == "" {
			t.Errorf("%s: %v, want a refusal with a hint", name, err)
		}
	}
}

package node_test

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/internal/node"
)

// TestStoreDirIsDurable: a new directory is made with its parents, and each is synced into the one above it. (A directory is opened
// to be synced, and not to make one in it: the kernel tells of that.)
func TestStoreDirIsDurable(t *testing.T) {
	above := t.TempDir()
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, above, unix.IN_OPEN); err != nil {
		t.Fatal(err)
	}
	key, err := cred.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	path := blocktree.RootPath(key.Principal()).Join("node")
	n, err := node.Open(t.Context(), node.Config{Path: path, Key: key, Root: key.Principal(), Listen: "nowhere",
		StoreDir: filepath.Join(above, "var", "lib", "store"), StoreID: 1, Directory: blocktree.RootPath(key.Principal()),
		Members: []blocktree.Runtime{{Path: path, Principal: key.Principal(), Node: 1}}})
	if err == nil {
		n.Close()
		t.Fatal("it listens nowhere")
	}
	b := make([]byte, 4096)
	if n, err := unix.Read(watch, b); n <= 0 {
		t.Errorf("the directory above was not synced (%v)", err)
	}
}

package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"

	"blocktree"
)

// exampleTree stands for Connect(ctx, "client.yaml", nil), with files in memory.
func exampleTree() *Tree {
	_, tree := newMemory(nil)
	return tree
}

func ExampleTree() {
	ctx := context.Background()
	tree := exampleTree() // Connect(ctx, "client.yaml", nil)
	defer tree.Close()

	if err := tree.MkdirAll(ctx, "/docs", 0o755); err != nil {
		fmt.Println(err)
	}
	if err := tree.WriteFile(ctx, "/docs/letter", []byte("dear filesystem\n"), 0o640); err != nil {
		fmt.Println(err)
	}
	text, err := tree.ReadFile(ctx, "/docs/letter")
	fmt.Printf("%s%v\n", text, err)
	// Output:
	// dear filesystem
	// <nil>
}

func ExampleTree_OpenFile() {
	ctx := context.Background()
	tree := exampleTree()
	defer tree.Close()

	f, err := tree.OpenFile(ctx, "/log", os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprintln(f, "one line")
	fmt.Fprintln(f, "and another")
	if err := f.Sync(); err != nil { // now they outlast a loss of power
		fmt.Println(err)
	}
	_, _ = f.Seek(4, io.SeekStart) // it is inside the file
	rest, _ := io.ReadAll(f)
	fmt.Printf("%s", rest)
	if err := f.Close(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// line
	// and another
}

func ExampleTree_Open_errors() {
	tree := exampleTree()
	defer tree.Close()

	_, err := tree.Open(context.Background(), "/absent")
	fmt.Println(errors.Is(err, iofs.ErrNotExist), blocktree.KindOf(err))
	// Output: true not found
}

func ExampleTree_FS() {
	ctx := context.Background()
	tree := exampleTree()
	defer tree.Close()
	_ = tree.MkdirAll(ctx, "/site/css", 0o755)
	_ = tree.WriteFile(ctx, "/site/index.html", []byte("<p>"), 0o644)
	_ = tree.WriteFile(ctx, "/site/css/a.css", []byte("p {}"), 0o644)

	view, err := tree.FS(ctx, "/site") // as good as os.DirFS for http.FS, template.ParseFS, ...
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = iofs.WalkDir(view, ".", func(name string, d iofs.DirEntry, err error) error {
		fmt.Println(name, d.IsDir(), err)
		return err
	})
	// Output:
	// . true <nil>
	// css true <nil>
	// css/a.css false <nil>
	// index.html false <nil>
}

package tree_test

import (
	"fmt"

	"blocktree"
	"blocktree/crypto/tree"
)

// A fold gives sector 12 a floor; what is older is not believed from then on.
func Example() {
	shape := tree.NewShape(1000)
	disk := map[blocktree.SectorIndex]*tree.Page{}
	pages := tree.Pages{Fetch: func(id tree.PageID, ref tree.Ref) (*tree.Page, error) {
		return disk[shape.Address(id, ref.Place())], nil
	}}
	keep := func(id tree.PageID, ref tree.Ref, p *tree.Page) error {
		disk[shape.Address(id, ref.Place())] = p
		return nil
	}
	t := tree.Tree{File: blocktree.FileID{Generation: 1, Inode: 5}, Shape: &shape}
	written := blocktree.Version{Epoch: 2, Sequence: 9}
	root, err := t.Fold(tree.Floors, []tree.Change{tree.FloorChange(12, tree.FloorOf(written, blocktree.Leaf{1}))}, pages, keep)
	if err != nil {
		fmt.Println(err)
		return
	}
	t.Roots[tree.Floors] = root
	floor, _ := t.Floor(12, pages)
	fmt.Println(floor.Judge(written, blocktree.Leaf{1}))
	fmt.Println(floor.Judge(blocktree.Version{Epoch: 1, Sequence: 90}, blocktree.Leaf{1}))
	fmt.Println(floor.JudgeAbsent() == tree.Older)
	// Output:
	// fresh
	// older than it was
	// true
}

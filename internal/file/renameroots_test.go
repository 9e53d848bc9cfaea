package file_test

import (
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/file"
	"blocktree/internal/vfs"
)

// TestRenamedKeepsItsRoot: what is kept of a file goes with it to its new name, also over that of a file that was made later; and a file that is not the one that was seen gets no name, and no access record, by who would refuse to open it.
func TestRenamedKeepsItsRoot(t *testing.T) {
	within(t, stripe.DurabilityAck, func(b *bed) {
		ctx, roots := b.T.Context(), file.KeepRoots(vfs.Disk{}, b.T.TempDir())
		tree, later := b.Path("/vm/tree"), b.Path("/vm/later")
		rename := func(from, to blocktree.Path) error {
			return file.Rename(ctx, b.client, from, to, file.RenameOptions{Roots: roots})
		}
		write := func(p blocktree.Path, n uint64) {
			f, err := file.Open(ctx, b.client, p, file.OpenOptions{Reader: b.Reader, Roots: roots})
			b.must(err)
			b.write(f, 5, n)
			b.must(f.Close())
		}
		write(tree, 1)
		seen, err := roots.Load(tree)
		b.must(err)
		time.Sleep(2 * time.Second)
		b.must(file.Create(ctx, b.client, later, file.CreateOptions{SizeBytes: treeSize, Readers: readers(b), Tree: true}))
		write(later, 2)
		b.must(rename(tree, later))
		if got, err := roots.Load(later); err != nil || got == nil || got.File != seen.File || got.Root != seen.Root {
			b.T.Errorf("of what is %s now it is kept that it is %+v, not %+v (%v)", later.Short(), got, seen, err)
		}
		write(later, 3)
		older, err := roots.Load(later)
		b.must(err)
		older.Root.Number--
		b.must(roots.Replace(tree, *older)) // as if it had been there when somebody else moved it here
		b.must(rename(later, tree))
		if got, err := roots.Load(tree); err != nil || got == nil || got.Root.Number != older.Root.Number+1 {
			b.T.Errorf("kept: %+v, %v", got, err)
		}
		b.must(roots.Replace(later, *older))
		b.must(roots.Replace(tree, *older))
		newest, err := roots.Load(tree)
		b.must(err)
		newest.Root.Number += 7 // later than what is kept of its name by now
		b.must(roots.Replace(later, *newest))
		b.must(rename(tree, later))
		if got, err := roots.Load(later); err != nil || got == nil || *got != *newest {
			b.T.Errorf("what was newer is forgotten: %+v, %v", got, err)
		}
		other := *newest
		other.File.Inode, other.Made, other.Key[0] = other.File.Inode+9, other.Made+1000, other.Key[0]+1
		b.must(roots.Replace(later, other))
		before, err := b.client.Stat(ctx, later)
		b.must(err)
		b.detected("a file that was put back", rename(later, tree))
		if after, err := b.client.Stat(ctx, later); err != nil || string(after.Access) != string(before.Access) {
			b.T.Errorf("its record is another: %v", err)
		}
		other.File = before.ID
		b.must(roots.Replace(b.Path("/vm/plain"), other))
		b.detected("a file without a tree", rename(b.Path("/vm/plain"), b.Path("/vm/plain2")))
	})
}

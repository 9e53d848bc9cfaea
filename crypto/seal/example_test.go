package seal_test

import (
	"fmt"

	"blocktree"
	"blocktree/crypto/seal"
)

// A sector is sealed by its holder, checked by a node that has no key, and opens only in its own place.
func Example() {
	file := blocktree.FileID{Generation: 1, Inode: 7}
	version := blocktree.Version{Epoch: 2, Sequence: 5}
	sealer := seal.New([32]byte{ /* keys.FileKey.Sealing */ }, seal.XAES256GCM, file, 1)

	sector := []byte("sixteen byte sec")
	sealed, header := make([]byte, len(sector)), make([]byte, seal.HeaderBytes)
	sealer.Seal(sealed, sector, 42, version, header)
	fmt.Println("a node:", seal.VerifyLeaf(sealed, file, 42, version, header))

	opened := make([]byte, len(sealed))
	err := sealer.Open(opened, sealed, 42, version, header)
	fmt.Printf("its place: %s %v\n", opened, err)
	err = sealer.Open(opened, sealed, 43, version, header)
	fmt.Println("another:", blocktree.KindOf(err))
	// Output:
	// a node: <nil>
	// its place: sixteen byte sec <nil>
	// another: corrupt
}

package keys_test

import (
	"fmt"

	"blocktree"
	"blocktree/crypto/keys"
	"blocktree/crypto/seal"
)

// A file is created for one reader, stored with its Access, and opened again.
func Example() {
	reader := keys.NewReaderKey()
	access, key, _ := keys.Create(uint8(seal.XAES256GCM), []keys.PublicKey{reader.Public()})
	stored := access.Append(nil)

	file := blocktree.FileID{Generation: 1, Inode: 7} // known only now
	writer := seal.New(key.Sealing(access.KeyID, access.Generation), seal.XAES256GCM, file, access.Generation)
	sector, header := []byte("a sector"), make([]byte, seal.HeaderBytes)
	place, version := blocktree.SectorIndex(3), blocktree.Version{Epoch: 1, Sequence: 1}
	writer.Seal(sector, sector, place, version, header)

	access, _ = keys.DecodeAccess(stored)
	key, _ = access.Open(reader)
	opener := seal.New(key.Sealing(access.KeyID, access.Generation), seal.Suite(access.Suite), file, access.Generation)
	err := opener.Open(sector, sector, place, version, header)
	fmt.Println(string(sector), err)
	// Output: a sector <nil>
}

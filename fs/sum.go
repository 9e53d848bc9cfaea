package fs

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"

	"blocktree"
	"blocktree/internal/dispatch"
)

// Summer is a File that can be compared without carrying its bytes.
type Summer interface {
	// SumAt returns the SHA-256 of at most so many bytes from byte off on, FSTransferBytesMax at most, and of how many: fewer where the file ends. Kinds are those of ReadAt, and Unsupported (a service of a version before).
	SumAt(ctx context.Context, off uint64, bytes int) (sum [sha256.Size]byte, n int, err error)
}

var _, _ Summer = (*remote)(nil), (*local)(nil)

// sumBytes is the length of an answer to codeSum: the sum, and of how many bytes.
const sumBytes = sha256.Size + 4

// encodeSum writes the answer.
func encodeSum(b []byte) []byte {
	sum, n := sha256.Sum256(b), len(b)
	return append(sum[:], byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

// decodeSum reads it.
func decodeSum(b []byte) (sum [sha256.Size]byte, n int, err error) {
	if len(b) != sumBytes {
		return sum, 0, blocktree.E("decode", blocktree.Invalid, errors.New("no sum"))
	}
	copy(sum[:], b)
	for _, x := range b[sha256.Size:] {
		n = n<<8 | int(x)
	}
	if n > blocktree.FSTransferBytesMax {
		return sum, 0, blocktree.E("decode", blocktree.TooLarge, errors.New("the sum of more than a request may ask for"))
	}
	return sum, n, nil
}

// SumAt implements Summer.
func (f *remote) SumAt(ctx context.Context, off uint64, bytes int) (sum [sha256.Size]byte, n int, err error) {
	header := fileRequest{handle: f.handle, off: off, count: uint32(bytes)}.encode()
	var refused error
	err = f.again(ctx, dispatch.Message{Code: codeSum, Header: header}, func(body []byte) { sum, n, refused = decodeSum(body) })
	if err == nil {
		err = refused
	}
	if err == nil && n > bytes {
		err = blocktree.E("fs", blocktree.Invalid, errors.New("the service's answer makes no sense"))
	}
	return sum, n, failed("sum", f.path, err)
}

// SumAt implements Summer.
func (f *local) SumAt(ctx context.Context, off uint64, bytes int) (sum [sha256.Size]byte, n int, err error) {
	b := make([]byte, bytes)
	n, err = f.ReadAt(ctx, b, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return sha256.Sum256(b[:n]), n, err
}

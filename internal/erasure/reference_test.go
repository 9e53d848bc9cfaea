package erasure

import "blocktree"

// The slow and obvious coder: GF(2^8) modulo x^8+x^4+x^3+x^2+1, a Vandermonde matrix (row r, column c: r^c), multiplied by
// the inverse of its top square so that data shards are the data. Nothing here is shared with the library.

func gfMul(a, b byte) (p byte) {
	for ; b > 0; b >>= 1 {
		if b&1 != 0 {
			p ^= a
		}
		high := a & 0x80
		a <<= 1
		if high != 0 {
			a ^= 0x1d
		}
	}
	return p
}

func gfPow(a byte, n int) byte {
	p := byte(1)
	for range n {
		p = gfMul(p, a)
	}
	return p
}

// gfInv is a^254, because a^255 = 1.
func gfInv(a byte) byte { return gfPow(a, 254) }

// referenceShards codes data already sealed, sector by sector.
func referenceShards(code blocktree.Code, sealed []byte, sectorBytes int) [][]byte {
	k, piece := code.Data, code.ShardBytes(sectorBytes)
	shards := make([][]byte, code.Shards())
	matrix := referenceMatrix(code)
	for ; len(sealed) > 0; sealed = sealed[sectorBytes:] {
		padded := make([]byte, k*piece)
		copy(padded, sealed[:sectorBytes])
		for r := range shards {
			for at := range piece {
				var sum byte
				for c := range k {
					sum ^= gfMul(matrix[r][c], padded[c*piece+at])
				}
				shards[r] = append(shards[r], sum)
			}
		}
	}
	return shards
}

func referenceMatrix(code blocktree.Code) [][]byte {
	k := code.Data
	vandermonde := make([][]byte, code.Shards())
	for r := range vandermonde {
		vandermonde[r] = make([]byte, k)
		for c := range k {
			vandermonde[r][c] = gfPow(byte(r), c)
		}
	}
	inverse := referenceInverse(vandermonde[:k])
	product := make([][]byte, len(vandermonde))
	for r := range product {
		product[r] = make([]byte, k)
		for c := range k {
			for i := range k {
				product[r][c] ^= gfMul(vandermonde[r][i], inverse[i][c])
			}
		}
	}
	return product
}

// referenceInverse is Gauss-Jordan elimination.
func referenceInverse(square [][]byte) [][]byte {
	n := len(square)
	work := make([][]byte, n)
	for r := range work {
		work[r] = append(append([]byte(nil), square[r]...), make([]byte, n)...)
		work[r][n+r] = 1
	}
	for c := range n {
		for r := c; work[c][c] == 0; r++ {
			if work[r][c] != 0 {
				work[c], work[r] = work[r], work[c]
			}
		}
		scale := gfInv(work[c][c])
		for i := range work[c] {
			work[c][i] = gfMul(work[c][i], scale)
		}
		for r := range work {
			factor := work[r][c]
			if r == c || factor == 0 {
				continue
			}
			for i := range work[r] {
				work[r][i] ^= gfMul(factor, work[c][i])
			}
		}
	}
	for r := range work {
		work[r] = work[r][n:]
	}
	return work
}

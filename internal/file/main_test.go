package file_test

import (
	"testing"

	"blocktree/crypto/keys"
	"blocktree/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func readers(b *bed) []keys.PublicKey { return []keys.PublicKey{b.Reader.Public()} }

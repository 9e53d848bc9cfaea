//go:build !amd64

package gcm

// newWide: there is no other way here than crypto/cipher's.
func newWide([]byte) AEAD { return nil }

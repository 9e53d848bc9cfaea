// Package gcm is AES-GCM (NIST SP 800-38D) with nonces of 12 bytes and tags of 16, as crypto/cipher has it, at two to three times its speed where the processor can work on
// sixteen blocks at a time (AVX-512 with VAES and VPCLMULQDQ). Elsewhere it is crypto/cipher itself.
//
// Ciphers are a quarter of the processor time of a request of a mebibyte (docs/design/0064-ciphers.md): each byte is encrypted once for the disk, by crypto/seal, and once for each
// connection that it passes, by internal/bttp.
//
// It refuses to choose nonces, and other lengths of nonce and tag. Which branches are taken and which memory is touched depends on lengths, never on keys or contents.
// Nothing is allocated but by New, no goroutine is started. An AEAD may be used by many goroutines at once. Every package above layer 1 may import it.
package gcm

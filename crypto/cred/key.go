package cred

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"blocktree"
)

// pemKey and pemCredentials are the PEM types of the two files of a runtime's identity; pemEncryptedKey is that of a key with a
// passphrase.
const (
	pemEncryptedKey = "BLOCKTREE ENCRYPTED KEY"

	pemKey         = "PRIVATE KEY" // PKCS #8, so that openssl reads it
	pemCredentials = "BLOCKTREE CREDENTIALS"
)

// fileBytesMax bounds either file: the longest credentials in base64, and some.
const fileBytesMax = 2 * blocktree.CredentialBytesMax

// Key is an Ed25519 key pair. The zero Key is none. It prints as its principal, whatever the verb, and inside other
// values as an address at most.
type Key struct {
	// private is a function because fmt prints the bytes of an unexported field, and even those behind a pointer where
	// the verb does not fit, without asking Format.
	private func() ed25519.PrivateKey
}

// newKey makes the Key of private, which it keeps.
func newKey(private ed25519.PrivateKey) Key {
	return Key{func() ed25519.PrivateKey { return private }}
}

// Format prints the principal and a placeholder, whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.text()) }

// LogValue keeps the key out of structured logs.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.text()) }

func (k Key) text() string { return "[hidden key] of " + k.Principal().String() }

// GenerateKey makes a new key from the system's randomness.
func GenerateKey() (Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, blocktree.E("cred.GenerateKey", blocktree.IO, err)
	}
	return newKey(private), nil
}

// IsZero reports whether k is none.
func (k Key) IsZero() bool { return k.private == nil }

// Public returns the public half, which must not be changed; nil for the zero Key.
func (k Key) Public() ed25519.PublicKey {
	if k.IsZero() {
		return nil
	}
	return k.private().Public().(ed25519.PublicKey)
}

// Principal returns the principal of the key, the zero Principal for the zero Key.
func (k Key) Principal() blocktree.Principal {
	if k.IsZero() {
		return blocktree.Principal{}
	}
	return blocktree.PrincipalOf(k.Public())
}

// Save writes the key to a new file that only its owner can read and syncs it. It fails with Exists where there is
// one, and with IO.
func (k Key) Save(file string) error {
	if k.IsZero() {
		return &blocktree.Error{Op: "cred.Key.Save", Path: file, Kind: blocktree.Invalid, Err: errors.New("no key")}
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.private())
	if err != nil {
		return &blocktree.Error{Op: "cred.Key.Save", Path: file, Kind: blocktree.Invalid, Err: err}
	}
	return save("cred.Key.Save", file, pemKey, der, 0o600)
}

// LoadKey reads a file that Save wrote, as a runtime does: one with a passphrase is refused with Invalid. It fails with Permission
// when anybody but the file's owner may touch it, with NotFound, Invalid, TooLarge, NewerFormat or IO.
func LoadKey(file string) (Key, error) {
	return LoadKeyWith(file, func() ([]byte, error) {
		return nil, &blocktree.Error{Op: "cred.LoadKey", Path: file, Kind: blocktree.Invalid, Err: errors.New("the key has a passphrase"),
			Hint: "a runtime starts with nobody there to type one: issue it a key of its own (btnode credential issue)"}
	})
}

// LoadKeyWith reads a file that Save or SaveWith wrote; ask is called for the passphrase where there is one. It fails as LoadKey
// does, with what ask fails with, and with Permission where the passphrase is another.
func LoadKeyWith(file string, ask func() ([]byte, error)) (Key, error) {
	const op = "cred.LoadKey"
	block, err := loadKeyFile(op, file)
	if err != nil {
		return Key{}, err
	}
	if block.Type != pemEncryptedKey {
		return parseKey(op, file, block.Bytes)
	}
	sealed, err := decodeEncryptedKey(block.Bytes)
	if err != nil {
		return Key{}, &blocktree.Error{Op: op, Path: file, Err: err}
	}
	passphrase, err := ask()
	if err != nil {
		return Key{}, err
	}
	key, err := sealed.open(passphrase)
	if err != nil {
		return Key{}, &blocktree.Error{Op: op, Path: file, Err: err}
	}
	return key, nil
}

// LoadPublic reads the public half of a key from the file of the key, whose passphrase it does not need. It fails as LoadKey does.
func LoadPublic(file string) (ed25519.PublicKey, error) {
	const op = "cred.LoadPublic"
	block, err := loadKeyFile(op, file)
	if err != nil {
		return nil, err
	}
	if block.Type != pemEncryptedKey {
		key, err := parseKey(op, file, block.Bytes)
		return key.Public(), err
	}
	sealed, err := decodeEncryptedKey(block.Bytes)
	if err != nil {
		return nil, &blocktree.Error{Op: op, Path: file, Err: err}
	}
	return sealed.public, nil
}

// loadKeyFile reads a file that nobody but its owner may touch; that is asked of the file that was opened, not of its name.
func loadKeyFile(op, file string) (*pem.Block, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fileError(op, file, err)
	}
	defer f.Close() // only read from
	info, err := f.Stat()
	if err != nil {
		return nil, fileError(op, file, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, &blocktree.Error{Op: op, Path: file, Kind: blocktree.Permission,
			Err:  fmt.Errorf("others may read or change it (mode %04o)", info.Mode().Perm()),
			Hint: "chmod 600 " + file + "; make a new key if others may have read this one"}
	}
	return readBlock(op, file, f, pemKey, pemEncryptedKey)
}

// parseKey reads a key without a passphrase.
func parseKey(op, file string, der []byte) (Key, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return Key{}, &blocktree.Error{Op: op, Path: file, Kind: blocktree.Invalid, Err: err}
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return Key{}, &blocktree.Error{Op: op, Path: file, Kind: blocktree.Invalid,
			Err: fmt.Errorf("a key of type %T, only Ed25519 is known", parsed)}
	}
	return newKey(private), nil
}

// save writes one PEM block to a new file; a file half written is removed.
func save(op, file, kind string, der []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fileError(op, file, err)
	}
	_, err = f.Write(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = syncDirectory(filepath.Dir(file))
	}
	if err != nil {
		_ = os.Remove(file) // the first error is the one to tell
		return fileError(op, file, err)
	}
	return nil
}

// syncDirectory makes a new name in a directory durable.
func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// load reads a file of exactly one PEM block of the kind.
func load(op, file, kind string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fileError(op, file, err)
	}
	defer f.Close() // only read from
	block, err := readBlock(op, file, f, kind)
	if err != nil {
		return nil, err
	}
	return block.Bytes, nil
}

// readBlock reads exactly one PEM block of one of the kinds.
func readBlock(op, file string, f io.Reader, kinds ...string) (*pem.Block, error) {
	text, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	if err != nil {
		return nil, fileError(op, file, err)
	}
	if len(text) > fileBytesMax {
		return nil, &blocktree.Error{Op: op, Path: file, Kind: blocktree.TooLarge,
			Err: fmt.Errorf("more than %d bytes", fileBytesMax)}
	}
	block, rest := pem.Decode(text)
	if block == nil || !slices.Contains(kinds, block.Type) || len(bytes.TrimSpace(rest)) > 0 {
		return nil, &blocktree.Error{Op: op, Path: file, Kind: blocktree.Invalid,
			Err: fmt.Errorf("not a file of one PEM block %q", kinds[0])}
	}
	return block, nil
}

// fileError gives an error of package os its kind.
func fileError(op, file string, err error) error {
	kind := blocktree.IO
	switch {
	case errors.Is(err, fs.ErrNotExist):
		kind = blocktree.NotFound
	case errors.Is(err, fs.ErrExist):
		kind = blocktree.Exists
	case errors.Is(err, fs.ErrPermission):
		kind = blocktree.Permission
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return &blocktree.Error{Op: op, Path: file, Kind: kind, Err: err}
}

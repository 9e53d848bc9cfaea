package keys

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"blocktree"
)

// PublicKeyBytes is the length of a PublicKey.
const PublicKeyBytes = 32

// ReaderKeyFileBytesMax bounds a reader key's file.
const ReaderKeyFileBytesMax = 4 << 10

const (
	publicPrefix = "x25519-"
	secretPrefix = "x25519-secret-"
	fileFormat   = "blocktree reader key 1"
)

func text() *base32.Encoding {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
}

// PublicKey is whom a file key is wrapped to: an X25519 public key. The zero PublicKey is nobody's.
type PublicKey [PublicKeyBytes]byte

// String prints the key as configs spell it: "x25519-" and 52 characters of base32, lower case.
func (p PublicKey) String() string { return publicPrefix + text().EncodeToString(p[:]) }

// ParsePublicKey reads what String prints; anything else is an error of kind Invalid. It does not quote its input,
// which may be a secret key in the wrong place.
func ParsePublicKey(s string) (PublicKey, error) {
	bad := func(why string) (PublicKey, error) {
		return PublicKey{}, &blocktree.Error{Op: "reader's public key", Kind: blocktree.Invalid, Err: errors.New(why),
			Hint: "a public key is " + publicPrefix + " and 52 characters"}
	}
	if strings.HasPrefix(s, secretPrefix) {
		return bad("this is a secret key")
	}
	encoded, ok := strings.CutPrefix(s, publicPrefix)
	raw, err := text().DecodeString(encoded)
	if !ok || err != nil || len(raw) != PublicKeyBytes {
		return bad("not a public key")
	}
	p := PublicKey(raw)
	if p.String() != s { // trailing bits of the last character
		return bad("not a public key")
	}
	return p, nil
}

// ReaderKey opens what was wrapped to its public half. It may be used by many goroutines at once.
type ReaderKey struct {
	private hpke.PrivateKey
	public  PublicKey
}

func kem() hpke.KEM { return hpke.DHKEM(ecdh.X25519()) }

// NewReaderKey draws a reader key.
func NewReaderKey() *ReaderKey {
	private, err := kem().GenerateKey()
	if err != nil {
		panic(err) // X25519 takes any 32 random bytes, and crypto/rand does not fail
	}
	return readerKey(private)
}

func readerKey(private hpke.PrivateKey) *ReaderKey {
	return &ReaderKey{private: private, public: PublicKey(private.PublicKey().Bytes())}
}

// Public returns the public half.
func (r *ReaderKey) Public() PublicKey { return r.public }

// Format prints the public key and a placeholder, whatever the verb.
func (r *ReaderKey) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "%s of %s", hidden, r.public.String())
}

// LogValue keeps the key out of structured logs.
func (r *ReaderKey) LogValue() slog.Value {
	return slog.StringValue(hidden + " of " + r.public.String())
}

// Save writes the key to a new file that only its owner may read, synced with its directory. It fails with kind Exists
// when there is a file, IO when the disk fails; what it began it removes. It blocks on the disk.
func (r *ReaderKey) Save(path string) error {
	secret, err := r.private.Bytes()
	if err != nil {
		return fileError("keys.Save", path, blocktree.IO, err)
	}
	content := fileFormat + "\n" + "# public: " + r.public.String() + "\n" + secretPrefix + text().EncodeToString(secret) + "\n"
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fileError("keys.Save", path, blocktree.IO, err)
	}
	_, err = f.WriteString(content)
	err = errors.Join(err, f.Chmod(0o600), f.Sync(), f.Close(), syncDirectory(filepath.Dir(path)))
	if err != nil {
		return fileError("keys.Save", path, blocktree.IO, errors.Join(err, os.Remove(path)))
	}
	return nil
}

func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// LoadReaderKey reads a file that Save wrote. It fails with kind Permission and a hint when others than its owner may
// read or write it, NotFound, NewerFormat, or Invalid; no error has a byte of the file's content. It blocks on the disk.
func LoadReaderKey(path string) (*ReaderKey, error) {
	const op = "keys.LoadReaderKey"
	f, err := os.Open(path)
	if err != nil {
		return nil, fileError(op, path, blocktree.IO, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fileError(op, path, blocktree.IO, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fileError(op, path, blocktree.Invalid, errors.New("not a regular file"))
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, &blocktree.Error{Op: op, Path: path, Kind: blocktree.Permission,
			Err: fmt.Errorf("mode %#o lets others than the owner use a secret key", mode), Hint: "chmod 600 " + path}
	}
	content, err := io.ReadAll(io.LimitReader(f, ReaderKeyFileBytesMax+1))
	if err != nil {
		return nil, fileError(op, path, blocktree.IO, err)
	}
	key, err := decodeReaderKey(content)
	if err != nil {
		return nil, &blocktree.Error{Op: op, Path: path, Err: err}
	}
	return key, nil
}

// decodeReaderKey reads the content of a reader key's file: the format, comments, one secret.
func decodeReaderKey(content []byte) (*ReaderKey, error) {
	bad := func(kind blocktree.Kind, why string) (*ReaderKey, error) {
		return nil, blocktree.E("reader key", kind, errors.New(why))
	}
	if len(content) > ReaderKeyFileBytesMax {
		return bad(blocktree.TooLarge, "the file is too long for a key")
	}
	first, rest, _ := bytes.Cut(content, []byte("\n"))
	if string(first) != fileFormat {
		if bytes.HasPrefix(first, []byte("blocktree reader key ")) {
			return bad(blocktree.NewerFormat, "a format this software does not know")
		}
		return bad(blocktree.Invalid, "not a reader key")
	}
	var secret string
	for line := range strings.Lines(string(rest)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case secret == "" && strings.HasPrefix(line, secretPrefix):
			secret = strings.TrimPrefix(line, secretPrefix)
		default:
			return bad(blocktree.Invalid, "an unexpected line")
		}
	}
	raw, err := text().DecodeString(secret)
	if err != nil || len(raw) != 32 || text().EncodeToString(raw) != secret {
		return bad(blocktree.Invalid, "the secret is damaged")
	}
	private, err := kem().NewPrivateKey(raw)
	if err != nil {
		return bad(blocktree.Invalid, "the secret is damaged")
	}
	return readerKey(private), nil
}

// fileError gives an error of the operating system its kind, or fallback.
func fileError(op, path string, fallback blocktree.Kind, err error) error {
	kind := fallback
	switch {
	case errors.Is(err, fs.ErrNotExist):
		kind = blocktree.NotFound
	case errors.Is(err, fs.ErrExist):
		kind = blocktree.Exists
	case errors.Is(err, fs.ErrPermission):
		kind = blocktree.Permission
	}
	return &blocktree.Error{Op: op, Path: path, Kind: kind, Err: err}
}

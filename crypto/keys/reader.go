package keys

import (
	"bytes"
	"crypto/hpke"
	"crypto/rand"
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

// ReaderKeyFileBytesMax bounds a reader key's file.
const ReaderKeyFileBytesMax = 4 << 10

const fileFormat = "blocktree reader key 1"

// ReaderKey opens what was wrapped to its public half. It may be used by many goroutines at once.
type ReaderKey struct {
	private hpke.PrivateKey
	public  PublicKey
}

// NewReaderKey draws an X25519 reader key.
func NewReaderKey() *ReaderKey { return NewReaderKeyOf(X25519) }

// NewReaderKeyOf draws a reader key of a kind that there is.
func NewReaderKeyOf(kind KeyKind) *ReaderKey {
	var secret [secretBytes]byte
	rand.Read(secret[:])
	return mustReaderKey(kind, secret[:])
}

// readerKey makes the reader key of a secret.
func readerKey(kind KeyKind, secret []byte) (*ReaderKey, error) {
	a, ok := kind.algorithm()
	if !ok {
		return nil, errors.New("an unknown kind of key")
	}
	private, err := a.kem.NewPrivateKey(secret)
	if err != nil {
		return nil, errors.New("not a secret key") // the cause is not told: it might quote some of it
	}
	return &ReaderKey{private: private, public: PublicKey{kind, string(private.PublicKey().Bytes())}}, nil
}

// mustReaderKey is readerKey for 32 bytes, of which both kinds take any.
func mustReaderKey(kind KeyKind, secret []byte) *ReaderKey {
	r, err := readerKey(kind, secret)
	if err != nil {
		panic(err)
	}
	return r
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
	content := fileFormat + "\n" + "# public: " + r.public.String() + "\n" + r.public.algorithm().prefix + secretWord + text().EncodeToString(secret) + "\n"
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
	var kind KeyKind
	var secret string
	for line := range strings.Lines(string(rest)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		k, encoded := secretLine(line)
		if kind != 0 || k == 0 {
			return bad(blocktree.Invalid, "an unexpected line")
		}
		kind, secret = k, encoded
	}
	raw, err := text().DecodeString(secret)
	if err != nil || len(raw) != secretBytes || text().EncodeToString(raw) != secret {
		return bad(blocktree.Invalid, "the secret is damaged")
	}
	key, err := readerKey(kind, raw)
	if err != nil {
		return bad(blocktree.Invalid, "the secret is damaged")
	}
	return key, nil
}

// secretLine takes the text of a secret key apart; kind 0 if it is none.
func secretLine(line string) (KeyKind, string) {
	for k := X25519; k < kindEnd; k++ {
		a, _ := k.algorithm()
		if encoded, ok := strings.CutPrefix(line, a.prefix+secretWord); ok {
			return k, encoded
		}
	}
	return 0, ""
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

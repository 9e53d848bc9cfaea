package parts

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"blocktree"
	"blocktree/crypto/keys"
	"blocktree/internal/file"
	"blocktree/internal/vfs"
)

// pins keeps what was seen of access records (file.Pins), a small file for each path.
type pins struct {
	fs  vfs.FS
	dir string
	mu  sync.Mutex // one writes at a time
}

var _ file.Pins = (*pins)(nil)

// OpenPins keeps pins in a state directory. It fails where there can be no such directory.
func OpenPins(fs vfs.FS, stateDir string) (file.Pins, error) {
	p := &pins{fs: fs, dir: filepath.Join(stateDir, "access")}
	if err := fs.MkdirAll(p.dir); err != nil {
		return nil, err
	}
	return p, nil
}

const (
	pinTitle = "blocktree access pin 1\n"
	// pinBytesMax is far above what a pin with the longest path has.
	pinBytesMax = 16 << 10
)

// encodePin writes a pin for people to read, with a checksum.
func encodePin(path blocktree.Path, p keys.Pin) []byte {
	text := fmt.Sprintf("%spath %s\nnumber %d\nkey %v\nowner %d\ndigest %x\n", pinTitle, path, p.Number, p.KeyID, p.Owner, p.Digest)
	return fmt.Appendf(nil, "%ssum %x\n", text, sha256.Sum256([]byte(text)))
}

// decodePin reads what encodePin writes, to the byte. Kind Corrupt.
func decodePin(text []byte) (path blocktree.Path, p keys.Pin, err error) {
	bad := blocktree.E("access pin", blocktree.Corrupt, errors.New("it is damaged, or of another version"))
	lines := strings.Split(string(text), "\n")
	if len(text) > pinBytesMax || len(lines) != 8 {
		return "", p, bad
	}
	path = blocktree.Path(strings.TrimPrefix(lines[1], "path "))
	_, err1 := fmt.Sscanf(lines[2], "number %d", &p.Number)
	_, err2 := fmt.Sscanf(lines[4], "owner %d", &p.Owner)
	id, err3 := hex.DecodeString(strings.TrimPrefix(lines[3], "key "))
	digest, err4 := hex.DecodeString(strings.TrimPrefix(lines[5], "digest "))
	if errors.Join(err1, err2, err3, err4) != nil || len(id) != len(p.KeyID) || len(digest) != len(p.Digest) {
		return "", keys.Pin{}, bad
	}
	copy(p.KeyID[:], id)
	copy(p.Digest[:], digest)
	if string(encodePin(path, p)) != string(text) { // which checks the title, the sum, and everything that was read leniently
		return "", keys.Pin{}, bad
	}
	return path, p, nil
}

// Where implements file.Pins. Paths are longer than names of files may be.
func (p *pins) Where(path blocktree.Path) string {
	sum := sha256.Sum256([]byte(path))
	return filepath.Join(p.dir, fmt.Sprintf("%x.pin", sum[:16]))
}

// Pin implements file.Pins.
func (p *pins) Pin(path blocktree.Path) (seen keys.Pin, ok bool, err error) {
	text, err := vfs.ReadSmall(p.fs, p.Where(path), pinBytesMax)
	if blocktree.KindOf(err) == blocktree.NotFound {
		return seen, false, nil
	}
	if err != nil {
		return seen, false, err
	}
	of, seen, err := decodePin(text)
	if err == nil && of != path {
		err = blocktree.E("access pin", blocktree.Corrupt, errors.New("it is that of "+of.Short()))
	}
	if err != nil {
		return keys.Pin{}, false, &blocktree.Error{Op: "access pin", Path: p.Where(path), Err: err,
			Hint: "nobody knows which access record was seen last; remove the file to go by what the cluster says now"}
	}
	return seen, true, nil
}

// SetPin implements file.Pins. Whenever the machine or this process ends, the pin before or this one is there.
func (p *pins) SetPin(path blocktree.Path, seen keys.Pin) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if was, ok, err := p.Pin(path); err == nil && ok && was.KeyID == seen.KeyID && was.Number > seen.Number {
		return nil // somebody else was faster, with a later one
	}
	return vfs.Replace(p.fs, p.Where(path), encodePin(path, seen))
}

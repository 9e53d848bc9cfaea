package file

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"blocktree"
	"blocktree/crypto/tree"
	"blocktree/internal/vfs"
)

// SeenBytesMax is far above what is kept of the longest path.
const SeenBytesMax = 16 << 10

// EncodeSeen writes what was seen of a path for people to read, with a checksum.
func EncodeSeen(path blocktree.Path, s Seen) []byte {
	text := fmt.Sprintf("blocktree root record 1\npath %s\nfile %v\nroot %v\n", path, s.File, s.Root)
	return fmt.Appendf(nil, "%ssum %x\n", text, sha256.Sum256([]byte(text)))
}

// DecodeSeen reads what EncodeSeen writes, to the byte. Kind Corrupt.
func DecodeSeen(text []byte) (path blocktree.Path, s Seen, err error) {
	bad := blocktree.E("root record", blocktree.Corrupt, errors.New("it is damaged, or of another version"))
	lines := strings.Split(string(text), "\n")
	if len(text) > SeenBytesMax || len(lines) != 6 {
		return "", s, bad
	}
	path = blocktree.Path(strings.TrimPrefix(lines[1], "path "))
	if _, err := fmt.Sscanf(lines[2], "file %d.%d", &s.File.Generation, &s.File.Inode); err != nil {
		return "", Seen{}, bad
	}
	if s.Root, err = tree.ParseRoot(strings.TrimPrefix(lines[3], "root ")); err != nil || string(EncodeSeen(path, s)) != string(text) {
		return "", Seen{}, bad
	}
	return path, s, nil
}

// KeptRoots is a Roots in a directory, which several processes may use at once: the newest stays, as one saves at a time, with the directory's lock.
type KeptRoots struct {
	fs  vfs.FS
	dir string
	mu  sync.Mutex // one writes at a time
}

var _ Roots = (*KeptRoots)(nil)

// KeepRoots keeps roots in a directory, which is made with the first.
func KeepRoots(fs vfs.FS, dir string) *KeptRoots { return &KeptRoots{fs: fs, dir: dir} }

// Where says where what was seen of a path is kept: removed, it is begun anew. Paths are longer than names of files may be.
func (k *KeptRoots) Where(path blocktree.Path) string {
	sum := sha256.Sum256([]byte(path))
	return filepath.Join(k.dir, fmt.Sprintf("%x.root", sum[:16]))
}

// Load implements Roots.
func (k *KeptRoots) Load(path blocktree.Path) (*Seen, error) {
	text, err := vfs.ReadSmall(k.fs, k.Where(path), SeenBytesMax)
	if blocktree.KindOf(err) == blocktree.NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	of, s, err := DecodeSeen(text)
	if err == nil && of != path {
		err = blocktree.E("root record", blocktree.Corrupt, errors.New("it is that of "+of.Short()))
	}
	if err != nil {
		return nil, &blocktree.Error{Op: "kept root", Path: k.Where(path), Err: err, Hint: "nobody knows which root was seen; remove the file to go by what the cluster says now"}
	}
	return &s, nil
}

// lockPause lies between two tries to have the directory, lockPatience bounds them: saving takes two syncs of the disk.
const (
	lockPause    = 5 * time.Millisecond
	lockPatience = 10 * time.Second
)

// lock has the directory until the Closer is closed, or this process ends.
func (k *KeptRoots) lock() (io.Closer, error) {
	for began := time.Now(); ; time.Sleep(lockPause) {
		lock, err := k.fs.Lock(filepath.Join(k.dir, "lock"))
		if blocktree.KindOf(err) != blocktree.Busy {
			return lock, err
		}
		if time.Since(began) > lockPatience {
			return nil, &blocktree.Error{Op: "kept root", Path: k.dir, Err: err, Hint: "another process that keeps roots there does not get on: is its disk stuck?"}
		}
	}
}

// Save implements Roots. Whenever the machine or this process ends, what was kept before or this is there.
func (k *KeptRoots) Save(path blocktree.Path, s Seen) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.fs.MkdirAll(k.dir); err != nil {
		return err
	}
	lock, err := k.lock()
	if err != nil {
		return err
	}
	defer lock.Close() // nothing was written to it
	if was, err := k.Load(path); err == nil && was != nil && was.File == s.File && was.Root.Number > s.Root.Number {
		return nil // somebody else was faster, with a later one
	}
	return vfs.Replace(k.fs, k.Where(path), EncodeSeen(path, s))
}

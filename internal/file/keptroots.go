package file

import (
	"crypto/sha256"
	"encoding/hex"
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

// EncodeSeen writes what was seen of a path for people to read, with a checksum; of what is not known of an access record, as a version before did.
func EncodeSeen(path blocktree.Path, s Seen) []byte {
	format, access := 1, ""
	if s.Made != 0 {
		format, access = 2, fmt.Sprintf("access %v of %d at %d\n", s.Key, s.Owner, s.Made)
	}
	text := fmt.Sprintf("blocktree root record %d\npath %s\nfile %v\nroot %v\n%s", format, path, s.File, s.Root, access)
	return fmt.Appendf(nil, "%ssum %x\n", text, sha256.Sum256([]byte(text)))
}

// DecodeSeen reads what EncodeSeen writes, to the byte. Kind Corrupt.
func DecodeSeen(text []byte) (path blocktree.Path, s Seen, err error) {
	bad := blocktree.E("root record", blocktree.Corrupt, errors.New("it is damaged, or of another version"))
	lines := strings.Split(string(text), "\n")
	if len(text) > SeenBytesMax || len(lines) != 6 && len(lines) != 7 {
		return "", s, bad
	}
	path = blocktree.Path(strings.TrimPrefix(lines[1], "path "))
	if _, err := fmt.Sscanf(lines[2], "file %d.%d", &s.File.Generation, &s.File.Inode); err != nil {
		return "", Seen{}, bad
	}
	if len(lines) == 7 {
		var key string
		_, err1 := fmt.Sscanf(lines[4], "access %s of %d at %d", &key, &s.Owner, &s.Made)
		id, err2 := hex.DecodeString(key)
		if errors.Join(err1, err2) != nil || len(id) != len(s.Key) || s.Made == 0 {
			return "", Seen{}, bad
		}
		copy(s.Key[:], id)
	}
	if s.Root, err = tree.ParseRoot(strings.TrimPrefix(lines[3], "root ")); err != nil || string(EncodeSeen(path, s)) != string(text) {
		return "", Seen{}, bad
	}
	return path, s, nil
}

// KeptRoots is a Roots in a directory, which several processes may use at once: the newest stays, as one saves at a time, with the directory's lock.
type KeptRoots struct {
	fs   vfs.FS
	dir  string
	held bool // the directory's lock is somebody else's business
	most int
	mu   sync.Mutex // one writes at a time
	room int        // how many may be added before they are counted again
}

var _ Roots = (*KeptRoots)(nil)

// KeepRoots keeps roots in a directory, which is made with the first. Of more files than blocktree.KeptRootsMax some are forgotten.
func KeepRoots(fs vfs.FS, dir string) *KeptRoots {
	return &KeptRoots{fs: fs, dir: dir, most: blocktree.KeptRootsMax}
}

// KeepRootsLocked is KeepRoots in a directory that is there, and of which the caller has the lock.
func KeepRootsLocked(fs vfs.FS, dir string) *KeptRoots {
	k := KeepRoots(fs, dir)
	k.held = true
	return k
}

const (
	rootSuffix = ".root"
	newSuffix  = ".new" // vfs.Replace
)

// Where says where what was seen of a path is kept: removed, it is begun anew. Paths are longer than names of files may be.
func (k *KeptRoots) Where(path blocktree.Path) string {
	sum := sha256.Sum256([]byte(path))
	return filepath.Join(k.dir, fmt.Sprintf("%x"+rootSuffix, sum[:16]))
}

// Forgotten implements Roots.
func (k *KeptRoots) Forgotten(path blocktree.Path) string { return "remove " + k.Where(path) }

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
	if k.held {
		return io.NopCloser(nil), nil
	}
	if err := k.fs.MkdirAll(k.dir); err != nil {
		return nil, err
	}
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
	return k.save(path, s, func(was *Seen) bool {
		if was.sameFile(&s) {
			return was.Root.Number > s.Root.Number // somebody else was faster, with a later one
		}
		return was.Made > 0 && s.Made > 0 && was.laterThan(&s) // a file that was made anew since this one was opened
	})
}

// Replace is Save of whatever comes after nothing: what was kept before is not gone by.
func (k *KeptRoots) Replace(path blocktree.Path, s Seen) error {
	return k.save(path, s, func(*Seen) bool { return false })
}

func (k *KeptRoots) save(path blocktree.Path, s Seen, stays func(was *Seen) bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if was, err := k.Load(path); err == nil && was != nil && *was == s && !k.isStale(k.Where(path)) {
		return nil // nor is anything written where that is not allowed
	}
	lock, err := k.lock()
	if err != nil {
		return err
	}
	defer lock.Close() // nothing was written to it
	name := k.Where(path)
	was, err := k.Load(path)
	switch {
	case err == nil && was != nil && stays(was):
		return nil
	case err == nil && was == nil:
		if err := k.makeRoom(); err != nil {
			return err
		}
	}
	return vfs.Replace(k.fs, name, EncodeSeen(path, s))
}

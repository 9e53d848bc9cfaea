package fs

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/crypto/seal"
)

func newRandom(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func testInfo() Info {
	return Info{ID: blocktree.FileID{Generation: 3, Inode: 9}, Mode: 0o640, UID: 1, GID: 2, Created: -5, Modified: 7, Changed: 7, SizeBytes: 1 << 30, Length: 1 << 30, SectorBytes: 4096,
		Code: blocktree.Code{Data: 2, Parity: 1}, Encrypted: true}
}

func TestRequestsOutlast(t *testing.T) {
	p := pathRequest{path: testRoot.Join("a"), after: "b", limit: 7, flags: flagWrite, mode: 0o644, sizeBytes: 1 << 40, sectorBytes: 512, code: blocktree.Code{Data: 2, Parity: 1}}
	if got, err := decodePath(p.encode()); err != nil || got != p {
		t.Errorf("%+v, %v", got, err)
	}
	for _, again := range []bool{false, true} {
		f := fileRequest{handle: 1 << 60, off: 3, count: blocktree.FSTransferBytesMax, again: again}
		if got, err := decodeFile(f.encode()); err != nil || got != f {
			t.Errorf("%+v, %v", got, err)
		}
		for _, code := range []uint16{codeRead, codeWrite, codePunch, codeCut, codeClose} {
			_, err := decodeOfHandle(code, f.encode())
			if writes := code == codeWrite || code == codePunch; (err == nil) != (writes || !again) {
				t.Errorf("code %d, again %v: %v", code, again, err)
			}
		}
	}
	i := testInfo()
	for _, length := range []uint64{i.SizeBytes, i.SizeBytes - 1, 0} {
		i.Length = length
		for _, u := range []epochs{{}, {1, 0}, {9, 7}} {
			if h, got, as, err := decodeUnder(encodeUnder(8, &i, u)); err != nil || h != 8 || got != i || as != u {
				t.Errorf("opened under %v: %d, %+v, %v, %v", u, h, got, as, err)
			}
		}
		if h, got, err := decodeOpened(encodeOpened(8, &i)); err != nil || h != 8 || got != i {
			t.Errorf("%d, %+v, %v", h, got, err)
		}
	}
	x := pathRequest{path: testRoot.Join("a"), file: blocktree.FileID{Generation: 2, Inode: 1 << 40}}
	if got, err := decodeAbout(codeRemoveFile, encodeRemove(&x)); err != nil || got != x {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := decodeMade(encodeMade(x.file)); err != nil || got != x.file {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := decodeMade(nil); err != nil || got != (blocktree.FileID{}) {
		t.Errorf("what a version before answers: %+v, %v", got, err)
	}
	m := pathRequest{path: testRoot.Join("a"), to: testRoot.Join("b"), flags: flagKeep}
	if got, err := decodeRename(encodeRename(&m)); err != nil || got != m {
		t.Errorf("%+v, %v", got, err)
	}
	spared := pathRequest{path: testRoot.Join("a"), flags: flagSpare | flagTell, file: blocktree.FileID{Generation: 2, Inode: 1 << 40}, dir: blocktree.FileID{Inode: 3}, sizeBytes: 4096}
	if got, err := decodePath(spared.encode()); err != nil || got != spared {
		t.Errorf("%+v, %v", got, err)
	}
	if older := spared.encode(); older[0] != formatPath {
		t.Errorf("a request of format %d, which versions before do not read", older[0])
	}
	spared.only = true
	if got, err := decodePath(spared.encode()); err != nil || got != spared || spared.encode()[0] != formatOnly {
		t.Errorf("%+v, %v", got, err)
	}
	wholeRequestsOutlast(t, spared, x.file)
	for _, wrong := range []Info{{SizeBytes: 5, Length: 6}, {Dir: true, Length: 1}} {
		if got, err := decodeInfo(encodeInfo(&wrong)); err == nil {
			t.Errorf("%+v was taken as %+v", wrong, got)
		}
	}
	if old := encodeInfo(&Info{SizeBytes: 512, Length: 512}); old[0] != formatInfo {
		t.Errorf("a file without another length is in format %d, which versions before do not read", old[0])
	}
}

// wholeRequestsOutlast is TestRequestsOutlast of what makes whole files.
func wholeRequestsOutlast(t *testing.T, spared pathRequest, dir blocktree.FileID) {
	t.Helper()
	content := []byte("hello")
	spared.whole = &whole{-7, content}
	if got, err := decodeAbout(codeMakeWhole, encodeWhole(&spared)); err != nil || got.path != spared.path || got.file != spared.file || !got.only || got.whole.wrote != -7 || string(got.whole.content) != "hello" {
		t.Errorf("%+v, %v", got, err)
	}
	i := testInfo()
	filling := Filling{Dir: dir, Term: blocktree.FSFillFor, Spares: []blocktree.FileID{dir, i.ID}}
	i.Length = 5
	if got, f, err := decodeMadeWhole(encodeMadeWhole(&i, &filling)); err != nil || got != i || f.Term != filling.Term || f.Dir != filling.Dir || !slices.Equal(f.Spares, filling.Spares) {
		t.Errorf("%+v, %+v, %v", got, f, err)
	}
	if got, f, err := decodeMadeWhole(encodeUseOther(&filling)); err != ErrOtherSpare || got != (Info{}) || f.Term != filling.Term || f.Dir != filling.Dir || !slices.Equal(f.Spares, filling.Spares) {
		t.Errorf("%+v, %+v, %v", got, f, err)
	}
}

func TestRequestsRefused(t *testing.T) {
	path := testRoot.Join("a")
	for name, r := range map[string]pathRequest{
		"a short path":   {path: "/a"},
		"dots":           {path: path + "/../b"},
		"not clean":      {path: path + "/"},
		"none":           {},
		"a flag":         {path: path, flags: 1 << 7},
		"a mode":         {path: path, mode: 0o1000},
		"a long path":    {path: testRoot + blocktree.Path(strings.Repeat("/abcdefgh", blocktree.PathBytesMax/9+1))},
		"a long name":    {path: path, after: strings.Repeat("x", blocktree.NameBytesMax+1)},
		"a large sector": {path: path, sectorBytes: blocktree.SectorBytesMax + 1},
	} {
		if _, err := decodePath(r.encode()); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	for name, r := range map[string]pathRequest{"from nowhere": {to: path}, "to nowhere": {path: path}, "not clean": {path: path, to: path + "/"}, "a flag": {path: path, to: path, flags: flagWrite},
		"to a long path": {path: path, to: testRoot + blocktree.Path(strings.Repeat("/abcdefgh", blocktree.PathBytesMax/9+1))}} {
		if _, err := decodeRename(encodeRename(&r)); err == nil {
			t.Errorf("a rename %s was taken", name)
		}
	}
	for name, r := range map[string]pathRequest{"of nothing": {path: path}, "from nowhere": {file: blocktree.FileID{Inode: 1}}, "not clean": {path: path + "/", file: blocktree.FileID{Inode: 1}}} {
		if _, err := decodeRemove(encodeRemove(&r)); blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("a removal %s: %v", name, err)
		}
	}
	for name, r := range map[string]pathRequest{"of too much": {path: path, whole: &whole{0, make([]byte, blocktree.MountHeldBytesMax+1)}}, "of no spare": {path: path, flags: flagSpare, whole: &whole{}}, "from nowhere": {whole: &whole{}},
		"with a flag": {path: path, flags: 1 << 7, whole: &whole{}}} {
		if _, err := decodeWhole(encodeWhole(&r)); err == nil {
			t.Errorf("a whole file %s was taken", name)
		}
	}
	for name, f := range map[string]Filling{"too long": {Term: fillTermMax + 1}, "too many": {Spares: slices.Repeat([]blocktree.FileID{{Inode: 1}}, blocktree.FSFillSparesMax+1)}, "none": {Spares: make([]blocktree.FileID, 1)}} {
		if _, err := decodeFilling(encodeFilling(&f)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if _, f, err := decodeMadeWhole(encodeUseOther(&Filling{})); blocktree.KindOf(err) != blocktree.Invalid {
		t.Errorf("another spare, and none: %+v, %v", f, err)
	}
	if _, _, err := decodeMadeWhole(append(encodeUseOther(&Filling{Spares: []blocktree.FileID{{Inode: 1}}}), 0)); blocktree.KindOf(err) != blocktree.Invalid {
		t.Errorf("another spare, and more: %v", err)
	}
	if _, _, err := decodeMadeWhole(encodeMadeWhole(&Info{Dir: true}, &Filling{})); blocktree.KindOf(err) != blocktree.Invalid {
		t.Errorf("a whole directory: %v", err)
	}
	if _, err := decodeFile(fileRequest{count: blocktree.FSTransferBytesMax + 1}.encode()); blocktree.KindOf(err) != blocktree.TooLarge {
		t.Errorf("a long read: %v", err)
	}
	for _, b := range [][]byte{{4}, {3}, {2}, {0}, {}} {
		_, err := decodePath(b)
		_, errFile := decodeFile(b)
		_, errInfo := decodeInfo(b)
		_, _, errOpened := decodeOpened(b)
		_, _, errList := decodeEntries(b)
		_, errWhole := decodeWhole(b)
		_, errFilling := decodeFilling(b)
		_, _, errMade := decodeMadeWhole(b)
		_, _, errDir := decodeMkdirFill(b)
		for _, err := range []error{err, errFile, errInfo, errOpened, errList, errWhole, errFilling, errMade, errDir} {
			newer := len(b) == 1 && (b[0] == 4 || b[0] == 3 && err != errInfo || b[0] == 2 && (err == errList || err == errWhole || err == errFilling || err == errDir)) // an info has three formats, a path, what was made or opened and what is about an open file two
			if newer && blocktree.KindOf(err) != blocktree.NewerFormat || err == nil {
				t.Errorf("format %v: %v", b, err)
			}
		}
	}
}

// A listing has as many entries as fit, and says that there are more.
func TestListingFits(t *testing.T) {
	var entries []Entry
	for i := range blocktree.ListEntriesMax {
		entries = append(entries, Entry{Name: strings.Repeat(string(rune('a'+i/100)), 1+i%100) + strings.Repeat("z", 100), Info: testInfo()})
	}
	var sorted []Entry
	for _, e := range entries {
		if len(sorted) == 0 || sorted[len(sorted)-1].Name < e.Name {
			sorted = append(sorted, e)
		}
	}
	b := encodeEntries(sorted, false)
	got, more, err := decodeEntries(b)
	if err != nil || more || len(got) != len(sorted) || len(b) > blocktree.FrameBodyBytesMax {
		t.Errorf("%d of %d, more %t, %v, %d bytes", len(got), len(sorted), more, err, len(b))
	}
	if _, _, err := decodeEntries(encodeEntries([]Entry{{Name: "b"}, {Name: "a"}}, false)); err == nil {
		t.Error("out of order was taken")
	}
	if _, _, err := decodeEntries(encodeEntries([]Entry{{Name: "a/b"}}, false)); err == nil {
		t.Error("a slash was taken")
	}
}

// FuzzRequests: no bytes make a decoder panic, and what it takes has one encoding.
func FuzzRequests(f *testing.F) {
	i := testInfo()
	short := i
	short.Length = 77
	p := pathRequest{path: testRoot.Join("a"), after: "b", limit: 7, flags: flagPlain}
	for _, b := range [][]byte{p.encode(), fileRequest{handle: 1, off: 2, count: 3}.encode(), fileRequest{handle: 1, count: blocktree.FSPunchBytesMax}.encode(), fileRequest{handle: 1, again: true}.encode(), encodeInfo(&i), encodeInfo(&short), encodeOpened(7, &i), encodeUnder(7, &i, epochs{9, 7}),
		encodeEntries([]Entry{{"a", i}, {"b", Info{Dir: true}}}, true), encodeRename(&pathRequest{path: testRoot.Join("a"), to: testRoot.Join("b"), flags: flagKeep}),
		encodeRemove(&pathRequest{path: testRoot.Join("a"), file: i.ID}), encodeMade(i.ID), encodeOffset(1 << 40),
		lockRequest{handle: 1, op: lockTest, exclusive: true, owner: 2, off: 3, bytes: 4, id: 5}.encode(), encodeLock(&Lock{true, 1, 2, true, 3}),
		encodeEvents(9, []Event{{"a", EventMade, false}, {"b", EventChanged, false}}), encodeEvents(1, []Event{{Overflow: true}}), encodeEvents(0, nil),
		encodeWhole(&pathRequest{path: testRoot.Join("a"), flags: flagSpare, file: i.ID, whole: &whole{5, []byte("hello")}}), encodeMadeWhole(&short, &Filling{Term: 1, Spares: []blocktree.FileID{i.ID}}), encodeFilling(&Filling{}),
		encodeMkdirFill(nil, &Filling{}), encodeMkdirFill(&Info{ID: i.ID, Dir: true}, &Filling{Dir: i.ID, Term: 1, Spares: []blocktree.FileID{i.ID}}),
		encodeWhole(&pathRequest{path: testRoot.Join("a"), only: true, whole: &whole{}}), encodeUseOther(&Filling{Spares: []blocktree.FileID{i.ID}})} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		same := func(what string, err error, again func() []byte) {
			if err != nil {
				return
			}
			if got := again(); !bytes.Equal(got, b) {
				t.Errorf("%s: %x became %x", what, b, got)
			}
		}
		path, err := decodePath(b)
		same("path", err, path.encode)
		move, err := decodeRename(b)
		same("rename", err, func() []byte { return encodeRename(&move) })
		removal, err := decodeRemove(b)
		same("removal", err, func() []byte { return encodeRemove(&removal) })
		if made, err := decodeMade(b); len(b) > 0 {
			same("made", err, func() []byte { return encodeMade(made) })
		}
		file, err := decodeFile(b)
		same("file", err, file.encode)
		hole, err := decodePunch(b)
		same("hole", err, hole.encode)
		info, err := decodeInfo(b)
		same("info", err, func() []byte { return encodeInfo(&info) })
		handle, info, u, err := decodeUnder(b)
		same("opened", err, func() []byte { return encodeUnder(handle, &info, u) })
		lock, err := decodeLockRequest(b)
		same("lock request", err, lock.encode)
		held, err := decodeLock(b)
		same("lock", err, func() []byte { return encodeLock(&held) })
		off, err := decodeOffset(b)
		same("offset", err, func() []byte { return encodeOffset(off) })
		request, err := decodeWhole(b)
		same("whole", err, func() []byte { return encodeWhole(&request) })
		filling, err := decodeFilling(b)
		same("filling", err, func() []byte { return encodeFilling(&filling) })
		made, filling, err := decodeMadeWhole(b)
		if err == ErrOtherSpare {
			same("another spare", nil, func() []byte { return encodeUseOther(&filling) })
		}
		same("made whole", err, func() []byte { return encodeMadeWhole(&made, &filling) })
		if dir, filling, err := decodeMkdirFill(b); err == nil {
			told := &dir
			if dir == (Info{}) {
				told = nil
			}
			same("made and filled", err, func() []byte { return encodeMkdirFill(told, &filling) })
		}
		last, events, err := decodeEvents(b)
		same("events", err, func() []byte { return encodeEvents(last, events) })
		entries, more, err := decodeEntries(b)
		same("entries", err, func() []byte { return encodeEntries(entries, more) })
	})
}

// A file says that it is encrypted if it is: one that is not is read, and written by who says that it is meant so, by that.
func TestInfoSaysEncrypted(t *testing.T) {
	for suite, want := range map[seal.Suite]bool{seal.XAES256GCM: true, seal.None: false, 0: false} {
		if i := InfoOf(&meta.Inode{Kind: meta.KindFile, Suite: uint8(suite)}); i.Encrypted != want {
			t.Errorf("suite %d: encrypted %v", suite, i.Encrypted)
		}
	}
}

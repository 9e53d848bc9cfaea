package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"blocktree"
	"blocktree/internal/vfs"
)

// contents is every byte of a store's directory.
func contents(fs vfs.FS) (map[string]string, error) {
	names, err := fs.List(testDir)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, name := range names {
		b, err := readFile(fs, testDir+"/"+name, 1<<30)
		if err != nil {
			return nil, err
		}
		out[name] = string(b)
	}
	return out, nil
}

// checkUnchanged runs Check twice, with all of the index in memory and with next to nothing of it, and fails if anything in the
// directory was changed or the two disagree.
func checkUnchanged(under vfs.FS) (*CheckReport, error) {
	before, err := contents(under)
	if err != nil {
		return nil, err
	}
	var changed []string
	fs := &stepFS{FS: under, before: func(op, name string) { changed = append(changed, op+" "+name) }}
	report, err := Check(context.Background(), fs, testDir, CheckOptions{})
	if err != nil {
		return nil, err
	}
	again, err := Check(context.Background(), fs, testDir, CheckOptions{batchRuns: 1})
	if err != nil {
		return nil, err
	}
	if fmt.Sprint(again.Problems, again.Sectors, again.Notes) != fmt.Sprint(report.Problems, report.Sectors, report.Notes) {
		return nil, fmt.Errorf("in small batches other things are found: %+v and %+v", again, report)
	}
	if report.Complete {
		in, err := inspect(under, testDir)
		if err != nil {
			return nil, err
		}
		for _, l := range report.Leftovers {
			if n, ok := numberOf(l.Name, segmentPrefix); ok && in.state.live[n].sectors > 0 {
				return nil, fmt.Errorf("%s is called left over, and %d sectors of it are live", l.Name, in.state.live[n].sectors)
			}
		}
	}
	after, err := contents(under)
	if err == nil && (len(changed) > 0 || !maps.Equal(before, after)) {
		err = fmt.Errorf("the directory was changed: %v", changed)
	}
	return report, err
}

// checkOffline is for every crash of the worlds: what a crash leaves is no damage.
func (w *world) checkOffline(fs vfs.FS) error {
	if w.opts.mutant != forgetNothing {
		return nil // it is for what opens the store to notice
	}
	report, err := checkUnchanged(fs)
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	if !report.Clean() {
		return fmt.Errorf("check: %v", report.Problems)
	}
	for _, l := range report.Leftovers {
		if l.Stays {
			return fmt.Errorf("check: %+v", l)
		}
	}
	return nil
}

// TestCheckOfWorld: a store after random work, crashes and compaction checks clean, and something was looked at.
func TestCheckOfWorld(t *testing.T) {
	var sectors, records uint64
	for seed := range uint64(2) {
		w := newWorld(t, 100+seed, forgetNothing)
		for range 2 {
			w.run(1, 40)
			if len(w.failures) > 0 {
				t.Fatalf("seed %d: %s", seed, w.failures[0])
			}
			report, err := checkUnchanged(w.fs)
			if err != nil || !report.Clean() || !report.Complete {
				t.Fatalf("seed %d: %v, %+v", seed, err, report)
			}
			sectors, records = sectors+report.Sectors, records+report.LogRecords
			if int64(report.Sectors) != report.LiveSectors {
				t.Errorf("seed %d: %d sectors verified, %d are live", seed, report.Sectors, report.LiveSectors)
			}
		}
	}
	if sectors < 100 || records < 5 {
		t.Errorf("only %d sectors and %d records of the log were looked at", sectors, records)
	}
	t.Logf("%d sectors, %d records of the log", sectors, records)
}

// checked is a store with something of everything.
type checked struct {
	fs         *vfs.Crash
	a, b, p, d Ref // indexed, indexed, pending, behind the checkpoint
	tail       Ref // the last record, which nothing says was synced
	index      string
	page       tableEntry
}

func newChecked(t *testing.T) *checked {
	t.Helper()
	x := &checked{fs: vfs.NewCrash()}
	s, _ := openTest(t, x.fs, smallOptions)
	x.a = put(t, s, dataRecord(testFile, 0, 8, 1500, version(1)))
	x.b = put(t, s, dataRecord(testFile, 20, 8, 1500, version(2)))
	x.p = appendWait(t, s, dataRecord(testFile, 40, 8, 1500, version(3)))[0]
	checkpointNow(t, s)
	x.index = indexName("", s.indexNumber)
	x.page, _ = s.ix.table.Get(tableEntry{key: pageKey{testFile, 0}})
	x.d = put(t, s, dataRecord(testFile, 60, 8, 1500, version(4)))
	x.tail = put(t, s, dataRecord(testFile, 80, 8, 1500, version(5)))
	closeStore(t, s, nil)
	return x
}

// shardAt is the place of a byte of sector i of a record of newChecked, sealAt of its seal.
func shardAt(r Ref, i int64) int64 { return int64(r.Offset) + headerBytes + i*1500 + 7 }
func sealAt(r Ref, i int64) int64  { return int64(r.Offset) + headerBytes + 8*1500 + i*metaBytes + 3 }

func truncate(t *testing.T, fs vfs.FS, name string, bytes int64) {
	t.Helper()
	f, err := fs.Open(testDir + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(bytes), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func writeFile(t *testing.T, fs vfs.FS, name string, off int64, b []byte) {
	t.Helper()
	f, err := fs.Open(testDir + "/" + name)
	if blocktree.KindOf(err) == blocktree.NotFound {
		f, err = fs.Create(testDir + "/" + name)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(b, off)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// changeCheckpoint writes the checkpoint anew, as a store that counts wrongly would.
func changeCheckpoint(t *testing.T, fs vfs.FS, change func(*checkpointState)) {
	t.Helper()
	sb, err := readSuperblock(fs, testDir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := readCheckpointFile(fs, testDir, sb.identity)
	if err != nil {
		t.Fatal(err)
	}
	change(c)
	f, err := fs.Create(testDir + "/" + checkpointName)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.write(f, sb.identity), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// damageCase is damage to a store of newChecked, and what Check is to say of it; its Text is a part of what it says.
type damageCase struct {
	name   string
	damage func(vfs.FS)
	want   Problem
}

func damageCases(t *testing.T, x *checked) []damageCase {
	segment := func(r Ref) string { return strings.TrimPrefix(segmentName("", r.Segment), "/") }
	a, b, p, d := segment(x.a), segment(x.b), segment(x.p), segment(x.d)
	if a == b || b == p || p == d {
		t.Fatal("the records share segments")
	}
	flip := func(name string, off int64) func(vfs.FS) {
		return func(fs vfs.FS) { flipFile(t, fs, name, off, 4) }
	}
	remove := func(name string) func(vfs.FS) {
		return func(fs vfs.FS) {
			if err := fs.Remove(testDir + "/" + name); err != nil {
				t.Fatal(err)
			}
		}
	}
	return []damageCase{
		{"shard", flip(a, shardAt(x.a, 2)), Problem{Kind: ProblemSectors, Name: a, First: 2, Count: 1, Text: "checksum"}},
		{"seal", flip(a, sealAt(x.a, 3)), Problem{Kind: ProblemSectors, Name: a, First: 3, Count: 1, Text: "checksum"}},
		{"header", flip(b, int64(x.b.Offset)+60), Problem{Kind: ProblemHeader, Name: b, Text: "can be read"}},
		{"zeros for a record", func(fs vfs.FS) { writeFile(t, fs, b, int64(x.b.Offset), make([]byte, 13<<10)) },
			Problem{Kind: ProblemRecord, Name: b, First: 20, Count: 8, Text: "there is none"}},
		{"another record", func(fs vfs.FS) {
			all, _ := contents(fs)
			writeFile(t, fs, b, int64(x.b.Offset), []byte(all[a][x.a.Offset:x.a.Offset+12<<10]))
		}, Problem{Kind: ProblemRecord, Name: b, First: 20, Count: 8, Text: "there is none"}},
		{"pending shard", flip(p, shardAt(x.p, 0)), Problem{Kind: ProblemSectors, Name: p, First: 40, Count: 1, Text: "checksum"}},
		{"shard of the log", flip(d, shardAt(x.d, 7)), Problem{Kind: ProblemSectors, Name: d, First: 67, Count: 1, Text: "of the log"}},
		{"header in the log", flip(d, int64(x.d.Offset)+60), Problem{Kind: ProblemLog, Name: "segments", Text: "is not there"}},
		{"index page", flip(x.index, int64(x.page.offset)+50), Problem{Kind: ProblemPage, Name: x.index, Count: PageSectors, Text: "checksum"}},
		{"index cut", func(fs vfs.FS) { truncate(t, fs, x.index, int64(x.page.offset)+20) },
			Problem{Kind: ProblemPage, Name: x.index, Count: PageSectors, Text: "EOF"}},
		{"index gone", remove(x.index), Problem{Kind: ProblemIndexFile, Name: x.index, Text: "not exist"}},
		{"checkpoint", flip(checkpointName, 40), Problem{Kind: ProblemCheckpoint, Name: checkpointName, Text: "checksum"}},
		{"checkpoint gone", remove(checkpointName), Problem{Kind: ProblemCheckpoint, Name: checkpointName, Text: "not exist"}},
		{"checkpoint cut", func(fs vfs.FS) { truncate(t, fs, checkpointName, 90) },
			Problem{Kind: ProblemCheckpoint, Name: checkpointName, Text: "checksum"}},
		{"superblock", flip(superblockName, 9), Problem{Kind: ProblemSuperblock, Name: superblockName, Text: "checksum"}},
		{"superblock gone", remove(superblockName), Problem{Kind: ProblemSuperblock, Name: superblockName, Text: "not exist"}},
		{"segment gone", remove(a), Problem{Kind: ProblemSegment, Name: a, First: 0, Count: 8, Text: "missing"}},
		{"segment of the log gone", remove(d), Problem{Kind: ProblemLog, Name: "segments", Text: "is not there"}},
		{"segment cut in a record", func(fs vfs.FS) { truncate(t, fs, a, shardAt(x.a, 4)) },
			Problem{Kind: ProblemSectors, Name: a, First: 0, Count: 8, Text: "ends before"}},
		{"segment cut before a record", func(fs vfs.FS) { truncate(t, fs, a, int64(x.a.Offset)) },
			Problem{Kind: ProblemRecord, Name: a, First: 0, Count: 8, Text: "ends before"}},
		{"counts too few", func(fs vfs.FS) {
			changeCheckpoint(t, fs, func(c *checkpointState) { c.live[x.a.Segment] = liveCount{7, 10000} })
		}, Problem{Kind: ProblemCount, Name: a, Text: "counts 7 live sectors, the index and the pending records name 8"}},
		{"counts too many", func(fs vfs.FS) {
			changeCheckpoint(t, fs, func(c *checkpointState) { c.live[x.a.Segment] = liveCount{9, 10000} })
		}, Problem{Kind: ProblemCount, Name: a, Text: "counts 9 live sectors, the index and the pending records name 8"}},
	}
}

// TestCheckNamesDamage: each kind of damage is found, and named as what and where it is.
func TestCheckNamesDamage(t *testing.T) {
	x := newChecked(t)
	for _, c := range damageCases(t, x) {
		t.Run(c.name, func(t *testing.T) {
			fs := x.fs.Kill()
			c.damage(fs)
			report, err := checkUnchanged(fs)
			if err != nil {
				t.Fatal(err)
			}
			if len(report.Problems) != 1 || report.ProblemCount != 1 || report.DamagedSectors != c.want.Count {
				t.Fatalf("problems %v", report.Problems)
			}
			got := report.Problems[0]
			wantFile := blocktree.FileID{}
			if c.want.Count > 0 {
				wantFile = testFile
			}
			if got.Kind != c.want.Kind || got.Name != c.want.Name || got.First != c.want.First || got.Count != c.want.Count ||
				got.File != wantFile || !strings.Contains(got.Text, c.want.Text) || !strings.Contains(got.String(), c.want.Name) {
				t.Errorf("found %v, want %+v", got, c.want)
			}
			basics := got.Kind == ProblemSuperblock || got.Kind == ProblemCheckpoint
			if report.Complete == basics {
				t.Errorf("complete: %v", report.Complete)
			}
		})
	}
}

// TestCheckFindsEveryFlippedBit: of superblock, checkpoint, index pages and a live record there is no byte that may change unseen.
func TestCheckFindsEveryFlippedBit(t *testing.T) {
	x := newChecked(t)
	all, err := contents(x.fs)
	if err != nil {
		t.Fatal(err)
	}
	flips := 0
	find := func(name string, from, to int64) {
		t.Helper()
		for off := from; off < to; off++ {
			flipFile(t, x.fs, name, off, 1<<(off%8))
			report, err := Check(context.Background(), x.fs, testDir, CheckOptions{})
			if err != nil || report.Clean() {
				t.Fatalf("%s, byte %d: %v, nothing found", name, off, err)
			}
			flipFile(t, x.fs, name, off, 1<<(off%8))
			flips++
		}
	}
	find(superblockName, 0, int64(len(all[superblockName])))
	find(checkpointName, 0, int64(len(all[checkpointName])))
	find(strings.TrimPrefix(x.index, "/"), int64(x.page.offset), int64(x.page.offset)+int64(x.page.bytes))
	for _, r := range []Ref{x.a, x.p} {
		start, body := int64(r.Offset), int64(r.Offset)+headerBytes+8*1500
		name := strings.TrimPrefix(segmentName("", r.Segment), "/")
		find(name, start, start+headerBytes+40)
		find(name, body-100, body+8*metaBytes)
	}
	report, err := checkUnchanged(x.fs)
	if err != nil || !report.Clean() {
		t.Fatalf("put back: %v, %v", err, report.Problems)
	}
	t.Logf("%d bytes", flips)
}

// TestCheckTornTail: what a power loss may do to the last group is told, and is no damage.
func TestCheckTornTail(t *testing.T) {
	x := newChecked(t)
	flipFile(t, x.fs, strings.TrimPrefix(segmentName("", x.tail.Segment), "/"), shardAt(x.tail, 1), 1)
	report, err := checkUnchanged(x.fs)
	if err != nil || !report.Clean() || report.Torn != 1 || report.LogRecords != 1 {
		t.Errorf("%v, %+v", err, report)
	}
}

// TestCheckEndOfLogGone: the segment in which the checkpoint's log ends is missed, though nothing in it is live.
func TestCheckEndOfLogGone(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, smallOptions)
	put(t, s, Record{Kind: KindZero, File: testFile, First: 0, Count: 10, Version: version(1)})
	closeStore(t, s, []byte("blob"))
	if report, err := checkUnchanged(fs); err != nil || !report.Clean() {
		t.Fatalf("%v, %+v", err, report)
	}
	if err := fs.Remove(segmentName(testDir, s.active.number)); err != nil {
		t.Fatal(err)
	}
	report, err := checkUnchanged(fs)
	if err != nil || len(report.Problems) != 1 || report.Problems[0].Kind != ProblemSegment {
		t.Errorf("%v, %+v", err, report)
	}
}

// TestCheckReplaced: damage that the log behind the checkpoint has repaired is told as such.
func TestCheckReplaced(t *testing.T) {
	x := newChecked(t)
	flipFile(t, x.fs, strings.TrimPrefix(segmentName("", x.a.Segment), "/"), shardAt(x.a, 2), 1)
	flipFile(t, x.fs, strings.TrimPrefix(segmentName("", x.b.Segment), "/"), shardAt(x.b, 2), 1)
	s := openIndexing(t, x.fs, nil)
	put(t, s, dataRecord(testFile, 2, 1, 1500, version(1))) // as a peer's repair does
	closeStore(t, s, nil)
	report, err := checkUnchanged(x.fs)
	if err != nil || len(report.Problems) != 2 {
		t.Fatalf("%v, %+v", err, report)
	}
	for _, p := range report.Problems {
		if again := strings.Contains(p.Text, "has them again"); again != (p.First == 2) {
			t.Errorf("%v", p)
		}
	}
}

// TestCheckLeftovers: files that belong to nothing are named and are no damage; the next start removes what it said it would.
func TestCheckLeftovers(t *testing.T) {
	x := newChecked(t)
	for name, text := range map[string]string{
		"checkpoint.tmp": "half", "index-00000099": "old", "segment-00000000": "dead", "notes.txt": "mine", "segment-1": "a name that is none",
		"segment-00000fff": "", "start": "known",
	} {
		writeFile(t, x.fs, name, 0, []byte(text))
	}
	report, err := Check(context.Background(), x.fs, testDir, CheckOptions{Known: []string{"start"}})
	if err != nil || !report.Clean() {
		t.Fatalf("%v, %+v", err, report)
	}
	var goes, stays []string
	for _, l := range report.Leftovers {
		if l.Stays {
			stays = append(stays, l.Name)
		} else {
			goes = append(goes, l.Name)
		}
	}
	slices.Sort(goes)
	if want := []string{"notes.txt", "segment-1"}; !slices.Equal(stays, want) {
		t.Errorf("to stay: %v, want %v", stays, want)
	}
	s := openIndexing(t, x.fs, nil)
	after, err := contents(x.fs)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range goes {
		if _, there := after[name]; there {
			t.Errorf("%s was to be removed by a start", name)
		}
	}
	for _, want := range []string{"checkpoint.tmp", "index-00000099", "segment-00000000", "segment-00000fff"} {
		if !slices.Contains(goes, want) {
			t.Errorf("%s is no leftover: %v", want, goes)
		}
	}
	closeStore(t, s, nil)
}

// TestCheckUnreadable: what the disk refuses to read is damage, and the rest is read all the same.
func TestCheckUnreadable(t *testing.T) {
	x := newChecked(t)
	for _, c := range []struct {
		name string
		file string
		want ProblemKind
	}{
		{"segment", segmentName("", x.a.Segment), ProblemRecord},
		{"page", x.index, ProblemPage},
		{"checkpoint", checkpointName, ProblemCheckpoint},
		{"superblock", superblockName, ProblemSuperblock},
	} {
		fault := vfs.NewFault(x.fs)
		fault.Inject(vfs.Injection{Op: vfs.FaultRead, Name: c.file, Times: -1})
		report, err := Check(context.Background(), fault, testDir, CheckOptions{})
		if err != nil || len(report.Problems) != 1 || report.Problems[0].Kind != c.want || fault.Injected() == 0 {
			t.Errorf("%s: %v, %+v", c.name, err, report)
		}
	}
	// A log that cannot be read is damage wherever it lies.
	fault := vfs.NewFault(x.fs)
	fault.Inject(vfs.Injection{Op: vfs.FaultRead, Name: segmentName("", x.d.Segment), Times: -1})
	report, err := Check(context.Background(), fault, testDir, CheckOptions{})
	if err != nil || report.Clean() || report.Problems[0].Kind != ProblemLog {
		t.Errorf("log: %v, %+v", err, report)
	}
}

// TestCheckKnownDamage: a page that the store itself knows damaged, and its mark, are told.
func TestCheckKnownDamage(t *testing.T) {
	fs, _, _ := damagedStore(t, true)
	s := openIndexing(t, fs, nil)
	checkpointNow(t, s)
	closeStore(t, s, nil)
	report, err := checkUnchanged(fs)
	if err != nil || len(report.Problems) != 1 || report.Problems[0].Kind != ProblemPage || !report.Suspect || report.DamagedPages != 1 ||
		report.Stuck == 0 || len(report.Notes) == 0 || !strings.Contains(report.Problems[0].Text, "known damaged") {
		t.Errorf("%v, %+v", err, report)
	}
}

// TestCheckRefusals: what is no damage but keeps from looking.
func TestCheckRefusals(t *testing.T) {
	fs := vfs.NewCrash()
	check := func(ctx context.Context, want blocktree.Kind) {
		t.Helper()
		if _, err := Check(ctx, fs, testDir, CheckOptions{}); blocktree.KindOf(err) != want {
			t.Errorf("Check: %v, want %v", err, want)
		}
	}
	check(context.Background(), blocktree.NotFound)
	if err := fs.MkdirAll(testDir); err != nil {
		t.Fatal(err)
	}
	check(context.Background(), blocktree.NotFound)
	s, _ := openTest(t, fs, smallOptions)
	put(t, s, dataRecord(testFile, 0, 8, 1500, version(1)))
	checkpointNow(t, s)
	if f, err := fs.Create(testDir + "/" + lockName); err != nil || f.Close() != nil { // a disk has it as a file
		t.Fatal(err)
	}
	check(context.Background(), blocktree.Busy)
	if _, err := Inspect(fs, testDir); blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" {
		t.Errorf("Inspect: %v", err)
	}
	closeStore(t, s, []byte("blob"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Check(ctx, fs, testDir, CheckOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	for _, name := range []string{superblockName, checkpointName} {
		restore := newer(t, fs, name)
		check(context.Background(), blocktree.NewerFormat)
		restore()
	}
	report, err := checkUnchanged(fs)
	if err != nil || !report.Clean() || report.Sectors != 8 {
		t.Errorf("%v, %+v", err, report)
	}
	// The lock is given back.
	s, _ = openTest(t, fs, smallOptions)
	closeStore(t, s, nil)
}

// TestInspect: what it says is what the store said of itself.
func TestInspect(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, smallOptions)
	rng := rand.New(rand.NewPCG(1, 2))
	for v := range uint64(40) {
		put(t, s, dataRecord(testFile, blocktree.SectorIndex(rng.IntN(600)), 4, 500, version(v+1)))
	}
	appendWait(t, s, dataRecord(testFile, 1000, 4, 500, version(50)))
	closeStore(t, s, []byte("blob"))
	live, pending := s.pins.totals()
	before, err := contents(fs)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Inspect(fs, testDir)
	if err != nil {
		t.Fatal(err)
	}
	want := Info{
		Store: testID, Format: format, Starts: 1, Clean: true, Segment: s.active.number, Offset: s.active.end, Sequence: s.nextSequence - 1,
		CheckpointBytes: int64(len(before[checkpointName])), LiveBytes: live, Pending: pending, Pages: s.ix.table.Len(),
		IndexBytes: pageBytes(s.ix.table), IndexFileBytes: int64(len(before[strings.TrimPrefix(indexName("", s.indexNumber), "/")])),
	}
	for name, b := range before {
		if strings.HasPrefix(name, segmentPrefix) {
			want.Segments++
			want.SegmentBytes += int64(len(b))
		}
	}
	for _, l := range s.pins.live {
		want.LiveSectors += l.sectors
	}
	if pending != 1 || got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	after, err := contents(fs)
	if err != nil || !reflect.DeepEqual(before, after) {
		t.Errorf("the directory was changed: %v", err)
	}
	if !bytes.Equal([]byte(before[superblockName]), []byte(after[superblockName])) {
		t.Error("the superblock was changed")
	}
}

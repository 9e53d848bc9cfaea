package fs

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
)

// Refusals are logged, with who, from where, and why, and bounded for each principal.
func TestRefusalsAreLogged(t *testing.T) {
	var text bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		s := newTestService(t, newFake(), func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&text, nil)) })
		ann, bob := ownerFor(s, somebody("ann")), ownerFor(s, somebody("bob"))
		for range 3 * blocktree.AuditPerSecond {
			s.refused("open", ann, testRoot.Join("f"), blocktree.E("test", blocktree.Permission, nil))
		}
		s.refused("open", bob, testRoot.Join("f"), blocktree.E("test", blocktree.Permission, nil))
		s.refused("open", bob, testRoot.Join("f"), blocktree.E("test", blocktree.NotFound, nil))
		time.Sleep(3 * time.Second)
		_ = s.Close()
	})
	if n := strings.Count(text.String(), "msg=refused"); n != blocktree.AuditPerSecond+1 {
		t.Errorf("%d lines", n)
	}
	held := fmt.Sprintf("heldBack=%d", 2*blocktree.AuditPerSecond)
	for _, want := range []string{"what=open", "path=/ann", "path=/bob", "on=/f", "address=192.0.2.1:1", "why=", held} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in %s", want, text.String())
		}
	}
}

// Who is refused before anything is decoded is written of, too, under whatever code.
func TestRefusedCodesAreLogged(t *testing.T) {
	var text lockedBuffer
	b := newBed(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&text, nil)) })
	nobody, _ := b.dial("")
	conn := mustConn(t, nobody)
	for _, code := range []uint16{codeWrite, codeResize + 1} {
		_, err := conn.CallWait(t.Context(), code, nil, []byte("garbage"))
		wantKind(t, nameOf(code), err, blocktree.Permission)
		if want := "what=" + strings.Split(nameOf(code), " ")[0]; !strings.Contains(strings.ReplaceAll(text.String(), `"`, ""), want) {
			t.Errorf("no %q in %s", want, text.String())
		}
	}
}

// What an anonymous caller may ask for, but not in that way, is a refusal like any other.
func TestRefusedFlagsAreLogged(t *testing.T) {
	var text lockedBuffer
	b := newBed(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&text, nil)) })
	client, _ := b.dial("")
	_, err := client.Open(t.Context(), testRoot.Join("f"), OpenOptions{Write: true})
	wantKind(t, "open to write", err, blocktree.Permission)
	for _, want := range []string{"msg=refused", "what=open", "on=/f", "anonymous callers"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in %s", want, text.String())
		}
	}
}

// lockedBuffer is a buffer that is written to while it is read.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// A principal that takes no answers, on all the connections that it may have, leaves half of everything to others.
func TestOnePrincipalLeavesHalf(t *testing.T) {
	s := newTestService(t, newFake(), nil)
	held, paths := 0, 0
	for range blocktree.RuntimeConnectionsPerPrincipalMax {
		rude := ownerFor(s, somebody("rude"))
		for s.hold(rude, 1<<20) == nil {
			held++
		}
		for tryEnter(rude.paths, s.paths) {
			paths++
		}
	}
	if most := blocktree.FSInFlightBytesMax >> 20 / 2; held > most || held == 0 {
		t.Errorf("%d MiB are held, at most %d", held, most)
	}
	if most := blocktree.FSPathRequestsMax / 2; paths > most || paths == 0 {
		t.Errorf("%d requests about paths, at most %d", paths, most)
	}
	ann := ownerFor(s, somebody("ann"))
	if err := s.hold(ann, 1<<20); err != nil {
		t.Error(err)
	}
	guest := ownerFor(s, nobody)
	for s.hold(guest, 1<<20) == nil {
	}
	if err := s.hold(ownerFor(s, nobody), 1<<20); err != nil {
		t.Errorf("another anonymous connection: %v", err)
	}
}

// A request about a path has its place no more when it is answered: a client that has as many on their way as it may sends the next one then.
func TestAnsweredHasNoPlace(t *testing.T) {
	b := newBed(t, nil)
	ann, who := b.dial("ann")
	b.fake.file("f", Read, who)
	for range 500 {
		_, err := ann.Stat(t.Context(), testRoot.Join("f"))
		b.must(err)
		if n := len(b.service.paths); n != 0 {
			t.Fatalf("%d requests have a place", n)
		}
	}
}

// What names no open file, or is no read, costs anonymous callers nothing of what they may read.
func TestNothingReadCostsNothing(t *testing.T) {
	b := newBed(t, nil)
	client, _ := b.dial("")
	conn := mustConn(t, client)
	path := b.fake.file("f", Read, nobody)
	f, err := client.Open(t.Context(), path, OpenOptions{})
	b.must(err)
	for range blocktree.FSAnonymousRequestsPerSecondConnection - 2 {
		_, err := conn.CallWait(t.Context(), codeRead, fileRequest{handle: 99, count: blocktree.FSTransferBytesMax}.encode())
		wantKind(t, "no such handle", err, blocktree.Undeliverable)
	}
	b.service.guestBytes.mu.Lock()
	spent := b.service.guestBytes.spent
	b.service.guestBytes.mu.Unlock()
	if spent != 0 {
		t.Errorf("%.0f bytes are counted", spent)
	}
	b.calm()
	b.must(f.Close())
}

// Ten thousand openings on connections that are cut, some of them closed before, leave nothing: no open file, no sectors, no lease, no byte, no goroutine,
// no descriptor.
func TestCutConnectionsLeaveNothing(t *testing.T) {
	const connections, each = 40, 250
	b := newBed(t, nil)
	count := func() (goroutines, descriptors int) {
		entries, err := os.ReadDir("/proc/self/fd")
		b.must(err)
		return runtime.NumGoroutine(), len(entries)
	}
	round := func(n int) {
		client, who := b.dial(fmt.Sprintf("ann%d", n))
		read, write := b.fake.file(fmt.Sprintf("r%d", n), Read, who), b.fake.file(fmt.Sprintf("w%d", n), Read|Write|Lease, who)
		_, err := client.Open(t.Context(), write, OpenOptions{Write: true})
		b.must(err)
		for i := range each - 1 {
			f, err := client.Open(t.Context(), read, OpenOptions{})
			b.must(err)
			if i%3 > 0 {
				_, err = f.ReadAt(t.Context(), make([]byte, 4096), 0)
				b.must(err)
			}
			if i%3 > 1 {
				b.must(f.Close())
			}
		}
		b.must(client.Close())
	}
	settled := func() bool {
		return b.service.OpenFiles() == 0 && b.fake.opened.Load() == 0 && b.service.bytes.Load() == 0
	}
	await := func() {
		t.Helper()
		for begun := time.Now(); !settled(); time.Sleep(time.Millisecond) {
			if time.Since(begun) > 30*time.Second {
				t.Fatalf("%d files and %d bytes are left", b.service.OpenFiles(), b.service.bytes.Load())
			}
		}
	}
	round(0)
	await()
	time.Sleep(100 * time.Millisecond)
	goroutines, descriptors := count()
	for n := range connections - 1 {
		round(n + 1)
	}
	await()
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		g, d := count()
		if g <= goroutines && d <= descriptors {
			break
		}
		if time.Since(begun) > 30*time.Second {
			t.Fatalf("%d goroutines, %d before; %d descriptors, %d before", g, goroutines, d, descriptors)
		}
	}
	b.service.sharing.mu.Lock()
	defer b.service.sharing.mu.Unlock()
	if n := len(b.service.sharing.files); n != 0 {
		t.Errorf("%d files are still open for writing", n)
	}
}

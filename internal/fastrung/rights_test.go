package fastrung

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/internal/bttp"
	"blocktree/internal/file"
	"blocktree/internal/testenv"
)

// user is somebody without user id 0 and in no group of a file's.
var user = testenv.User{UID: 1001, GID: 1001}

// atOnce is how soon whoever lost a right must learn it: some round trips.
const atOnce = 500 * time.Millisecond

// grant gives the runtime at a path rights on the file, and returns how to take them away.
func (b *bed) grant(to blocktree.Path, rights meta.Rights) (revoke func() cluster.Applied) {
	b.T.Helper()
	subject := meta.Subject{Path: to}
	if _, err := b.client.Grant(b.T.Context(), b.Path("/vm/disk0"), meta.Grant{Subject: subject, Rights: rights}); err != nil {
		b.T.Fatal(err)
	}
	return func() cluster.Applied {
		b.T.Helper()
		a, err := b.client.Revoke(b.T.Context(), b.Path("/vm/disk0"), subject)
		if err != nil {
			b.T.Fatal(err)
		}
		return a
	}
}

// refused demands that an error is of kind Permission and says who has taken the right away.
func (b *bed) refused(what string, err error, words ...string) {
	b.T.Helper()
	if blocktree.KindOf(err) != blocktree.Permission {
		b.T.Errorf("%s: %v", what, err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			b.T.Errorf("%s: %q does not say %q", what, err, w)
		}
	}
}

// TestRevokedWhileReading: once a revocation is answered, no read is, and it says who did it; neither is one of a new reader or another connection. What is granted again is read
// again, by the same reader.
func TestRevokedWhileReading(t *testing.T) {
	carriers(t, func(b *bed) {
		ctx := b.T.Context()
		if err := b.file.WriteSectors(ctx, 0, numbered(0, 1)); err != nil {
			b.T.Fatal(err)
		}
		c, path := b.ClientAs(user)
		_, err := file.Open(ctx, c, b.Path("/vm/disk0"), file.OpenOptions{ReadOnly: true, Reader: b.Reader})
		if blocktree.KindOf(err) == blocktree.Other {
			b.T.Fatal("opened without a right")
		}
		revoke := b.grant(path, meta.RightRead)
		f := b.reader(c, "/vm/disk0")
		if k, err := read(ctx, b.T, f, 0); err != nil || k != 1 {
			b.T.Fatal(k, err)
		}
		first := b.readThrough(f, func() {
			if a := revoke(); len(a.Nodes) != 3 || len(a.Missing) != 0 {
				b.T.Errorf("applied by %v, not by %v", a.Nodes, a.Missing)
			}
		})
		b.refused("the read", first, "revoked read")
		again, err := file.Open(ctx, c, b.Path("/vm/disk0"), file.OpenOptions{ReadOnly: true, Reader: b.Reader})
		if err == nil { // list on its directory tells it that the file is there
			_, err = read(ctx, b.T, again, 0)
			again.Close()
		}
		if err == nil {
			b.T.Error("a new reader reads")
		}
		b.grant(path, meta.RightRead)
		if k, err := read(ctx, b.T, f, 0); err != nil || k != 1 {
			b.T.Errorf("granted again: %d, %v", k, err)
		}
	})
}

// readThrough reads sector 0 of a file without a pause while its reader loses the right to, and returns the first error, which must come at once; no read that began after
// revoke has returned may be answered.
func (b *bed) readThrough(f blocktree.File, revoke func()) (first error) {
	b.T.Helper()
	var mu sync.Mutex
	var after time.Time // when the revocation was answered
	var late, good int
	stop, cancel := context.WithCancel(b.T.Context())
	var wg sync.WaitGroup
	b.T.Cleanup(func() { cancel(); wg.Wait() })
	for range 4 {
		wg.Go(func() {
			for stop.Err() == nil {
				begun := time.Now()
				_, err := read(stop, b.T, f, 0)
				mu.Lock()
				switch {
				case err == nil && !after.IsZero() && begun.After(after):
					late++
				case err == nil:
					good++
				case first == nil:
					first = err
				}
				mu.Unlock()
				time.Sleep(time.Millisecond)
				if err != nil { // which has each node ask the others, and took most of the time of all these tests
					time.Sleep(20 * time.Millisecond)
				}
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	revoke()
	mu.Lock()
	after = time.Now()
	mu.Unlock()
	b.await("a refusal", atOnce, func() bool { mu.Lock(); defer mu.Unlock(); return first != nil })
	time.Sleep(2 * time.Second)
	cancel()
	wg.Wait()
	if late > 0 || good == 0 {
		b.T.Errorf("%d reads that began after the revocation were answered, %d before", late, good)
	}
	return first
}

// TestHolderRevoked: a holder that loses its right writes nothing any more and does not believe in its lease; the file is another's a term later, and not sooner.
func TestHolderRevoked(t *testing.T) {
	carriers(t, func(b *bed) {
		ctx := b.T.Context()
		if err := b.file.Close(); err != nil {
			b.T.Fatal(err)
		}
		c, path := b.ClientAs(user)
		b.refusedOpen(c)
		revoke := b.grant(path, meta.RightsHold)
		f := b.open(c)
		l := b.write(f, 4)
		time.Sleep(2 * time.Second)
		revoke()
		revoked := time.Now()
		b.await("the writers to be refused", atOnce, func() bool { return len(l.failed()) == 4 })
		if believes(f) {
			b.T.Error("the holder believes in its lease")
		}
		for _, err := range l.failed() {
			b.refused("a write", err, "revoked read,write,lease")
		}
		if _, err := read(ctx, b.T, f, 0); err == nil {
			b.T.Error("it reads")
		}
		heir := b.open(b.client)
		b.between("the file to be another's", time.Since(revoked), leaseTerm-raftTick, leaseTerm+2*time.Second)
		for i, acked := range l.acked {
			if k, err := read(ctx, b.T, heir, blocktree.SectorIndex(i)); err != nil || k < acked {
				b.T.Errorf("sector %d: write %d of %d, %v", i, k, acked, err)
			}
		}
		b.refusedOpen(c)
		_ = f.Close()
	})
}

// refusedOpen demands that the client may not open the file for writing.
func (b *bed) refusedOpen(c *cluster.Client) {
	b.T.Helper()
	_, err := file.Open(b.T.Context(), c, b.Path("/vm/disk0"), file.OpenOptions{Reader: b.Reader})
	b.refused("to open it", err)
	if err != nil && blocktree.HintOf(err) == "" {
		b.T.Errorf("%v has no hint", err)
	}
}

// TestRevokedWhileOneIsAway: who revokes is told which node has not applied it, and until when that may serve; reads are refused nevertheless.
func TestRevokedWhileOneIsAway(t *testing.T) {
	within(t, bttp.TCP, 1, func(b *bed) {
		c, path := b.ClientAs(user)
		revoke := b.grant(path, meta.RightRead)
		f := b.reader(c, "/vm/disk0")
		if _, err := read(b.T.Context(), b.T, f, 0); err != nil {
			b.T.Fatal(err)
		}
		b.Kill(2)
		a := revoke()
		if len(a.Nodes) != 2 || len(a.Missing) != 1 || a.Missing[0] != b.Members[2].Path {
			b.T.Errorf("%+v", a)
		}
		if left := time.Until(a.Until); left < 5*time.Second || left > 15*time.Second {
			b.T.Errorf("it may serve for %v more", left)
		}
		_, err := read(b.T.Context(), b.T, f, 0)
		b.refused("the read", err, "revoked read")
	})
}

// TestModeWhileOneIsAway: who changes rights waits for a node that has just gone, and not for one that is known to be away; one that is back is waited for again.
func TestModeWhileOneIsAway(t *testing.T) {
	within(t, bttp.TCP, 1, func(b *bed) {
		change := func(mode uint32) (a cluster.Applied, took time.Duration) {
			begun := time.Now()
			a, err := b.client.SetMode(b.T.Context(), b.Path("/vm/disk0"), mode)
			if err != nil {
				b.T.Fatal(err)
			}
			return a, time.Since(begun)
		}
		b.Kill(2)
		if a, took := change(0o640); len(a.Missing) != 1 || took < 2*time.Second { // appliedWait
			b.T.Errorf("one that has just gone is not waited for: %+v after %v", a, took)
		}
		time.Sleep(10 * time.Second) // others lead, if it did, and it has been called down
		for i := range uint32(5) {
			a, took := change(0o600 + i)
			if len(a.Missing) != 1 || a.Until.IsZero() {
				b.T.Errorf("%+v", a)
			}
			if took > 500*time.Millisecond {
				b.T.Errorf("change %d took %v", i, took)
			}
		}
		b.On(b.NodeAddr(2))
		b.Start(2)
		b.await("a change that is in force at all", time.Minute, func() bool {
			a, _ := change(0o644)
			return len(a.Missing) == 0
		})
	})
}

// TestGrantEnds: a reader reads until its grant ends, though nobody revokes it, and at most a look at the clock longer.
func TestGrantEnds(t *testing.T) {
	within(t, bttp.TCP, 1, func(b *bed) {
		c, path := b.ClientAs(user)
		const term = 7 * time.Second
		ends := time.Now().Add(term)
		if _, err := b.client.Grant(b.T.Context(), b.Path("/vm/disk0"), meta.Grant{Subject: meta.Subject{Path: path}, Rights: meta.RightRead, Until: ends.UnixNano()}); err != nil {
			b.T.Fatal(err)
		}
		f := b.reader(c, "/vm/disk0")
		b.await("the end of the grant", term+time.Second, func() bool {
			_, err := read(b.T.Context(), b.T, f, 0)
			if err == nil && time.Until(ends) < -heartbeat-10*time.Millisecond {
				b.T.Fatalf("read %v after the grant ended", -time.Until(ends))
			}
			return err != nil
		})
		if time.Now().Before(ends) {
			b.T.Error("it ended early")
		}
	})
}

// words is a log that many write to.
type words struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(p)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// audited demands a line of the log for each of what TestNoKeysInWords has refused and changed.
func (b *bed) audited(log string) {
	b.T.Helper()
	lines, dirs := strings.Split(log, "\n"), 0
	for _, want := range []string{"make file", "make directory", "remove", "set mode 0666", "set owner 1001:", "stat", "open for read,write,lease"} {
		found := false
		for _, l := range lines {
			found = found || strings.Contains(l, "msg=refused") && strings.Contains(l, "path=/client2") && strings.Contains(l, want) && strings.Contains(l, "why=") && strings.Contains(l, "address=")
		}
		if !found {
			b.T.Errorf("no line about a refusal to %q", want)
		}
	}
	for _, want := range []string{"grant read to /client2", "revoke from /client2", "set mode 0640"} {
		if !strings.Contains(log, want) {
			b.T.Errorf("no line about the change %q", want)
		}
	}
	for _, l := range lines {
		if strings.Contains(l, "msg=refused") && strings.Contains(l, "make directory") {
			dirs++
		}
	}
	if dirs > 2*blocktree.AuditPerSecond || !strings.Contains(log, "heldBack=3") && !strings.Contains(log, "heldBack=2") {
		b.T.Errorf("%d lines of 41 refusals, and none says how many were held back", dirs)
	}
}

// TestNoKeysInWords: through all refusals and changes of rights there is a line of the log for each, with who, what, on what and why, at most so many a second; and neither the log nor an
// error has a byte of what a key is wrapped in.
func TestNoKeysInWords(t *testing.T) {
	log := &words{}
	secret := bytes.Repeat([]byte("Kq7#zW9!"), 8)
	withNodes(t, bttp.TCP, 3, 1, func(s *testenv.Simulated) { s.Log = log }, func(b *bed) {
		ctx := b.T.Context()
		c, path := b.ClientAs(user)
		var said strings.Builder
		note := func(what string, err error) {
			b.T.Helper()
			b.refused(what, err)
			fmt.Fprintf(&said, "%v %s\n", err, blocktree.HintOf(err))
		}
		create := func(c *cluster.Client, at string) error {
			_, err := c.CreateFile(ctx, meta.CreateFile{Path: b.Path(at), Parents: true, SizeBytes: 1 << 20, SectorBytes: 4096, Code: blocktree.Code{Data: 1}, Suite: 1, Mode: 0o600,
				Access: secret}, stripe.DurabilityAck)
			return err
		}
		if err := create(b.client, "/secret/f"); err != nil {
			b.T.Fatal(err)
		}
		if _, err := b.client.SetMode(ctx, b.Path("/vm"), 0o755); err != nil { // so that it is not the stat that is refused
			b.T.Fatal(err)
		}
		note("create", create(c, "/vm/x"))
		note("mkdir", c.MakeDir(ctx, b.Path("/vm/d"), 0o755, false))
		note("remove", c.Remove(ctx, b.Path("/vm/disk0")))
		_, err := c.SetMode(ctx, b.Path("/vm/disk0"), 0o666)
		note("chmod", err)
		uid := uint32(1001)
		_, err = c.SetOwner(ctx, b.Path("/vm/disk0"), &uid, nil)
		note("chown", err)
		_, err = c.Grant(ctx, b.Path("/secret"), meta.Grant{Subject: meta.Subject{Path: path}, Rights: meta.RightRead})
		note("grant", err)
		_, err = c.Stat(ctx, b.Path("/secret/f"))
		note("stat", err)
		b.refusedOpen(c)
		time.Sleep(2 * time.Second)
		revoke := b.grant(path, meta.RightRead)
		revoke()
		if _, err := b.client.SetMode(ctx, b.Path("/secret/f"), 0o640); err != nil {
			b.T.Fatal(err)
		}
		for range 40 {
			_ = c.MakeDir(ctx, b.Path("/vm/d"), 0o755, false)
		}
		time.Sleep(3 * time.Second)
		b.audited(log.String())
		for form, key := range map[string]string{"bytes": string(secret[:8]), "hex": hex.EncodeToString(secret[:8]), "base64": base64.StdEncoding.EncodeToString(secret[:9]),
			"numbers": strings.Trim(fmt.Sprint(secret[:8]), "[]")} {
			if strings.Contains(log.String(), key) || strings.Contains(said.String(), key) {
				b.T.Errorf("the words have the key, as %s", form)
			}
		}
	})
}

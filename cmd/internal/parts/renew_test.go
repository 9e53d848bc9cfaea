package parts

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"blocktree/crypto/cred"
	"blocktree/internal/config"
)

// lines is a log.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), what)
}

// TestRenewal: credentials of 20 s are taken as soon as they lie there, within a tenth of what is left; who forgets to renew is told; what cannot be
// used is not, and what is in use stays.
func TestRenewal(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		root, _ := cred.GenerateKey()
		key, _ := cred.GenerateKey()
		issuer, err := NewIssuer(root, nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "c")
		issue := func(path string, valid time.Duration) cred.Credentials {
			t.Helper()
			chain, _, err := issuer.Issue(Request{Subject: key.Public(), Path: path, Valid: valid}, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if err := chain.Replace(file); err != nil {
				t.Fatal(err)
			}
			return chain
		}
		first := issue("/a", 20*time.Second)
		var taken []cred.Credentials
		refuse := false
		var log lines
		base := &config.Base{Domain: config.Domain{Root: config.Principal{Principal: root.Principal()}}, Identity: config.Identity{Credentials: file}}
		r, err := Renew(base, slog.New(slog.NewTextHandler(&log, nil)), func(c cred.Credentials) error {
			if refuse {
				return errors.New("another path")
			}
			taken = append(taken, c)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			time.Sleep(12 * time.Second)
			newer, before := issue("/a", 20*time.Second), len(taken)
			time.Sleep(time.Second)
			synctest.Wait()
			if len(taken) != before+1 || !bytes.Equal(taken[before].Encode(), newer.Encode()) {
				t.Fatalf("%d taken after %d", len(taken), before)
			}
		}
		if n := log.count("end soon"); n != 0 {
			t.Errorf("%d reminders though all was renewed in time", n)
		}
		time.Sleep(19 * time.Second)
		synctest.Wait()
		if n := log.count("end soon"); n != 1 {
			t.Errorf("%d reminders of credentials that end", n)
		}
		before := len(taken)
		refuse = true
		issue("/b", time.Hour)
		r.Look()
		synctest.Wait()
		if n := log.count("cannot be used"); n != 1 || len(taken) != before {
			t.Errorf("credentials that cannot be used are told of %d times, %d taken", n, len(taken)-before)
		}
		if err := os.WriteFile(file, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		refuse = false
		time.Sleep(2 * time.Hour) // once a day
		synctest.Wait()
		if n := log.count("cannot be used"); n != 2 || len(taken) != before {
			t.Errorf("half a file is told of %d times", n)
		}
		issue("/a", 90*24*time.Hour)
		r.Look() // as SIGHUP does
		synctest.Wait()
		if len(taken) != before+1 {
			t.Error("SIGHUP has nothing read")
		}
		_ = first
		r.Close()
		(*Renewal)(nil).Look()
	})
}

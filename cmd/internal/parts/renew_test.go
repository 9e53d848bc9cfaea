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

// renewing is a runtime whose credentials lie in a file.
type renewing struct {
	t      *testing.T
	file   string
	key    cred.Key
	issuer *Issuer
	log    lines
	taken  []cred.Credentials
	refuse bool
	*Renewal
}

func newRenewing(t *testing.T, dir string) *renewing {
	t.Helper()
	root, _ := cred.GenerateKey() // they do not fail
	key, _ := cred.GenerateKey()
	issuer, err := NewIssuer(root, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	x := &renewing{t: t, file: filepath.Join(dir, "c"), key: key, issuer: issuer}
	x.issue("/a", 20*time.Second)
	base := &config.Base{Domain: config.Domain{Root: config.Principal{Principal: root.Principal()}}, Identity: config.Identity{Credentials: x.file}}
	x.Renewal, err = Renew(base, slog.New(slog.NewTextHandler(&x.log, nil)), func(c cred.Credentials) error {
		if x.refuse {
			return errors.New("another path")
		}
		x.taken = append(x.taken, c)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// issue puts new credentials in place.
func (x *renewing) issue(path string, valid time.Duration) cred.Credentials {
	x.t.Helper()
	chain, _, err := x.issuer.Issue(Request{Subject: x.key.Public(), Path: path, Valid: valid}, time.Now())
	if err == nil {
		err = chain.Replace(x.file)
	}
	if err != nil {
		x.t.Fatal(err)
	}
	return chain
}

// TestRenewal: credentials of 20 s are taken as soon as they lie there, within a tenth of what is left; who forgets to renew is told.
func TestRenewal(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		x := newRenewing(t, dir)
		defer x.Close()
		for range 20 {
			time.Sleep(12 * time.Second)
			newer, before := x.issue("/a", 20*time.Second), len(x.taken)
			time.Sleep(time.Second)
			synctest.Wait()
			if len(x.taken) != before+1 || !bytes.Equal(x.taken[before].Encode(), newer.Encode()) {
				t.Fatalf("%d taken after %d", len(x.taken), before)
			}
		}
		if n := x.log.count("end soon"); n != 0 {
			t.Errorf("%d reminders though all was renewed in time", n)
		}
		time.Sleep(19 * time.Second)
		synctest.Wait()
		if n := x.log.count("end soon"); n != 1 {
			t.Errorf("%d reminders of credentials that end", n)
		}
	})
}

// TestRenewalRefused: what cannot be used is not, and told of; what is in use stays. SIGHUP has the file read at once.
func TestRenewalRefused(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		x := newRenewing(t, dir)
		defer x.Close()
		synctest.Wait()
		before := len(x.taken)
		x.refuse = true
		x.issue("/b", time.Hour)
		x.Look()
		synctest.Wait()
		if n := x.log.count("cannot be used"); n != 1 || len(x.taken) != before {
			t.Errorf("credentials that cannot be used are told of %d times, %d taken", n, len(x.taken)-before)
		}
		if err := os.WriteFile(x.file, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		x.refuse = false
		time.Sleep(2 * time.Hour) // once a day
		synctest.Wait()
		if n := x.log.count("cannot be used"); n != 2 || len(x.taken) != before {
			t.Errorf("half a file is told of %d times", n)
		}
		x.issue("/a", 90*24*time.Hour)
		x.Look()
		synctest.Wait()
		if len(x.taken) != before+1 {
			t.Error("SIGHUP has nothing read")
		}
		(*Renewal)(nil).Look()
	})
}

package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"blocktree"
)

// TestCertificateOfAnotherAuthority: a client that knows another authority gets no certificate that it could not use.
func TestCertificateOfAnotherAuthority(t *testing.T) {
	k := certificates{dir: t.TempDir(), client: []string{"vm1"}, days: 1, now: time.Now(), out: io.Discard}
	if err := k.run(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{caCert, caKey, filepath.Join("vm1", clientCert)} {
		if err := os.Remove(filepath.Join(k.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.run(); blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(k.dir, "vm1", clientCert)); err == nil {
		t.Error("there is a certificate that the client has no use for")
	}
	if err := os.Remove(filepath.Join(k.dir, "vm1", caCert)); err != nil {
		t.Fatal(err)
	}
	if err := k.run(); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(filepath.Join(k.dir, "vm1", clientKey)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestCertificateKeyModes: a key that others may touch signs nothing.
func TestCertificateKeyModes(t *testing.T) {
	k := certificates{dir: t.TempDir(), client: []string{"vm1"}, days: 1, now: time.Now(), out: io.Discard}
	if err := k.run(); err != nil {
		t.Fatal(err)
	}
	k.client = []string{"vm2"}
	if err := os.Chmod(filepath.Join(k.dir, caKey), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := k.run(); blocktree.KindOf(err) != blocktree.Permission || blocktree.HintOf(err) == "" {
		t.Errorf("%v", err)
	}
}

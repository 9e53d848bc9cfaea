package testenv

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/internal/node"
)

// processEnv names, for a process that a test started, the file with its nodeSpec.
const processEnv = "BT_TESTENV_NODE"

// nodeSpec is a node.Config in a file.
type nodeSpec struct {
	Path, Root, Key, Credentials, Listen, Transport, StoreDir string
	StoreID                                                   blocktree.NodeID
	Members                                                   []blocktree.Runtime
}

// Main is the TestMain of a package whose tests call StartProcess: it is a node if the process was started to be one. Else it
// runs the tests and looks for goroutines that outlive them.
func Main(m *testing.M) {
	if file := os.Getenv(processEnv); file != "" {
		if err := runProcess(file); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// runProcess is a node until its standard input ends.
func runProcess(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var s nodeSpec
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	root, err := blocktree.ParsePrincipal(s.Root)
	if err != nil {
		return err
	}
	key, err := cred.LoadKey(s.Key)
	if err != nil {
		return err
	}
	chain, err := cred.Load(s.Credentials)
	if err != nil {
		return err
	}
	liar := &Liar{file: liarFile(s.StoreDir)}
	n, err := node.Open(context.Background(), node.Config{Lie: liar.Lie, Path: blocktree.Path(s.Path), Root: root, Key: key, Credentials: chain,
		Listen: s.Listen, Transport: s.Transport, StoreDir: s.StoreDir, StoreID: s.StoreID, Directory: blocktree.RootPath(root),
		Members: s.Members, Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		ended <- err
	}()
	select {
	case err = <-n.Fatal():
		return err
	case <-ended:
		return n.Close()
	}
}

// Process is a node in a process of its own, so that it can be killed.
type Process struct {
	d     *Domain
	i     int
	cmd   *exec.Cmd
	stdin io.Closer
}

// StartProcess starts node i (from 0) in a process of its own. The package's TestMain must be Main.
func (d *Domain) StartProcess(i int) *Process {
	d.T.Helper()
	dir := filepath.Join(d.Dir, fmt.Sprintf("identity%d", i+1))
	s := nodeSpec{Path: string(d.Members[i].Path), Root: d.Root.String(), Key: filepath.Join(dir, "key"), Credentials: filepath.Join(dir, "credentials"),
		Listen: d.Members[i].Endpoints[0], Transport: string(d.Transport), StoreDir: d.NodeDir(i), StoreID: d.Members[i].Node, Members: d.Members}
	spec := filepath.Join(dir, "node.json")
	if _, err := os.Stat(spec); err != nil {
		d.must(os.MkdirAll(dir, 0o700))
		d.must(d.keys[i].Save(s.Key))
		d.must(d.chains[i].Save(s.Credentials))
		b, err := json.Marshal(s)
		d.must(err)
		d.must(os.WriteFile(spec, b, 0o600))
	}
	exe, err := os.Executable()
	d.must(err)
	p := &Process{d: d, i: i, cmd: exec.Command(exe)}
	p.cmd.Env = append(os.Environ(), processEnv+"="+spec)
	p.cmd.Stderr = testWriter{d.T}
	p.stdin, err = p.cmd.StdinPipe() // ends with the test, however that ends
	d.must(err)
	d.must(p.cmd.Start())
	d.T.Cleanup(p.Kill)
	return p
}

// Liar has the process lie.
func (p *Process) Liar() *Liar { return &Liar{file: liarFile(p.d.NodeDir(p.i))} }

// Kill ends the process without a warning, and waits until it is gone.
func (p *Process) Kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill() // it may be gone already
	_ = p.cmd.Wait()         // which says that it was killed
	p.cmd = nil
}

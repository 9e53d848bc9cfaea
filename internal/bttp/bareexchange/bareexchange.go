package bareexchange

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
)

// echoes is the number of echo processes.
const echoes = 3

// What is measured.
const (
	Bare    = "bare"    // each message is a write of its own
	Batched = "batched" // the same with as many messages in a write as are ready: what batching can gain
	BTTP    = "bttp"    // internal/bttp
)

// Shape is one kind of exchange: so many bytes out to each of so many processes, so many back from each.
type Shape struct {
	Name      string
	OutBytes  int
	BackBytes int
	Peers     int
	Depths    []int
}

// Shapes are what a code 2+1 does to a 4 KiB and to a 1 MiB request.
func Shapes() []Shape {
	return []Shape{
		{"write2KiB", 2 << 10, 64, 3, []int{1, 32}},
		{"read2KiB", 64, 2 << 10, 2, []int{1, 32}},
		{"write512KiB", 512 << 10, 64, 3, []int{1, 8}},
		{"read512KiB", 64, 512 << 10, 2, []int{1, 8}},
	}
}

// Row is one measurement. A JSON line of it is what the command prints.
type Row struct {
	Over         string  `json:"over"`    // Bare, Batched or BTTP
	Carrier      string  `json:"carrier"` // "tcp" or "quic"
	Shape        string  `json:"shape"`
	Depth        int     `json:"depth"`
	PerSecond    float64 `json:"perSecond"`    // exchanges, each awaited from all its peers
	MiBPerSecond float64 `json:"mibPerSecond"` // both directions, all peers
	P50          float64 `json:"p50"`          // microseconds
	P99          float64 `json:"p99"`          // microseconds
}

// Options choose what is measured.
type Options struct {
	Each     time.Duration // per row; a fifth of it more goes into warming up
	Carriers []string      // of "tcp", "quic"
	Overs    []string      // of Bare, Batched, BTTP
	Shapes   []Shape
	Lanes    int // of a connection of BTTP; 0 is the usual number
}

// addresses is what an echo process prints when it listens.
type addresses struct {
	TCP, QUIC string
	Runtime   blocktree.Runtime
}

// peer is an echo process.
type peer struct {
	addresses
	process *exec.Cmd
	stdin   io.Closer
}

// session is one run: the processes, and who the client is.
type session struct {
	dir    string
	client identity
	peers  []peer
}

// identity is a key with its credentials.
type identity struct {
	key   cred.Key
	chain cred.Credentials
	root  blocktree.Principal
}

// Run starts the echo processes, measures, calls row for each measurement as it is done, and stops the processes.
// command is this program and the arguments that make it call Echo. It blocks for about Each times the number of rows.
func Run(ctx context.Context, command []string, o Options, row func(Row)) (err error) {
	s := &session{}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.start(ctx, command); err != nil {
		return err
	}
	for _, carrier := range o.Carriers {
		for _, over := range o.Overs {
			if err := s.measure(ctx, carrier, over, o, row); err != nil {
				return fmt.Errorf("%s over %s: %w", over, carrier, err)
			}
		}
	}
	return nil
}

// start makes identities and processes.
func (s *session) start(ctx context.Context, command []string) error {
	var err error
	if s.dir, err = os.MkdirTemp("", "bareexchange"); err != nil {
		return err
	}
	rootKey, err := cred.GenerateKey()
	if err != nil {
		return err
	}
	for i := range echoes + 1 {
		id, err := issue(rootKey, "runtime"+strconv.Itoa(i))
		if err != nil {
			return err
		}
		if i == echoes {
			s.client = id
			break
		}
		dir := filepath.Join(s.dir, strconv.Itoa(i))
		if err := id.save(dir); err != nil {
			return err
		}
		p, err := startPeer(ctx, append(slices.Clone(command), dir))
		if err != nil {
			return err
		}
		s.peers = append(s.peers, p)
	}
	return nil
}

// issue makes credentials for a day.
func issue(root cred.Key, name string) (identity, error) {
	key, err := cred.GenerateKey()
	if err != nil {
		return identity{}, err
	}
	now := time.Now()
	chain, err := cred.Issue(root, nil, root.Principal(), cred.Grant{Subject: key.Public(),
		Path: blocktree.RootPath(root.Principal()).Join(name), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour)})
	return identity{key, chain, root.Principal()}, err
}

// save writes the identity for an echo process.
func (i identity) save(dir string) error {
	return errors.Join(os.Mkdir(dir, 0o700), i.key.Save(filepath.Join(dir, "key.pem")),
		i.chain.Save(filepath.Join(dir, "credentials.pem")),
		os.WriteFile(filepath.Join(dir, "root"), []byte(i.root.String()), 0o600))
}

// loadIdentity reads what save wrote.
func loadIdentity(dir string) (i identity, err error) {
	if i.key, err = cred.LoadKey(filepath.Join(dir, "key.pem")); err != nil {
		return i, err
	}
	if i.chain, err = cred.Load(filepath.Join(dir, "credentials.pem")); err != nil {
		return i, err
	}
	text, err := os.ReadFile(filepath.Join(dir, "root"))
	if err != nil {
		return i, err
	}
	i.root, err = blocktree.ParsePrincipal(string(text))
	return i, err
}

// startPeer starts one echo process and reads where it listens.
func startPeer(ctx context.Context, command []string) (peer, error) {
	p := peer{process: exec.CommandContext(ctx, command[0], command[1:]...)}
	p.process.Stderr = os.Stderr
	in, err := p.process.StdinPipe()
	if err != nil {
		return peer{}, err
	}
	out, err := p.process.StdoutPipe()
	if err != nil {
		return peer{}, err
	}
	if err := p.process.Start(); err != nil {
		return peer{}, err
	}
	p.stdin = in
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &p.addresses)
	}
	if err != nil {
		_ = in.Close()
		return peer{}, errors.Join(fmt.Errorf("an echo process did not start: %w", err), p.process.Wait())
	}
	return p, nil
}

// stop ends the processes and removes the identities.
func (s *session) stop() error {
	var errs []error
	for _, p := range s.peers {
		_ = p.stdin.Close()
		errs = append(errs, p.process.Wait())
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

// exchanger runs exchanges of one shape at one depth until stop, and returns their durations.
type exchanger interface {
	run(shape Shape, depth int, stop time.Time) ([]time.Duration, error)
	close()
}

// measure makes the rows of one carrier, bare or not.
func (s *session) measure(ctx context.Context, carrier, over string, o Options, row func(Row)) error {
	var x exchanger
	var err error
	switch over {
	case Bare, Batched:
		x, err = s.newBare(ctx, carrier, over == Batched)
	case BTTP:
		x, err = s.newBTTP(ctx, bttp.Transport(carrier), o.Lanes)
	default:
		return fmt.Errorf("what is measured is %s, %s or %s", Bare, Batched, BTTP)
	}
	if err != nil {
		return err
	}
	defer x.close()
	for _, shape := range o.Shapes {
		for _, depth := range shape.Depths {
			if _, err := x.run(shape, depth, time.Now().Add(o.Each/5)); err != nil {
				return err
			}
			begin := time.Now()
			took, err := x.run(shape, depth, begin.Add(o.Each))
			if err != nil {
				return err
			}
			row(newRow(over, carrier, shape, depth, time.Since(begin), took))
		}
	}
	return nil
}

// newRow sums durations up. There is at least one.
func newRow(over, carrier string, shape Shape, depth int, all time.Duration, took []time.Duration) Row {
	slices.Sort(took)
	micros := func(q float64) float64 {
		return float64(took[int(q*float64(len(took)-1))].Nanoseconds()) / 1e3
	}
	perSecond := float64(len(took)) / all.Seconds()
	return Row{Over: over, Carrier: carrier, Shape: shape.Name, Depth: depth, PerSecond: perSecond,
		MiBPerSecond: perSecond * float64(shape.Peers*(shape.OutBytes+shape.BackBytes)) / (1 << 20),
		P50:          micros(0.5), P99: micros(0.99)}
}

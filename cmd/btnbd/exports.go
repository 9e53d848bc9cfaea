package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"blocktree"
	"blocktree/internal/cli"
	"blocktree/internal/config"
)

const (
	// reportBytesMax bounds what a server may tell: a thousand exports with sixteen clients each.
	reportBytesMax = 16 << 20

	// ratesOver is how long rates are measured.
	ratesOver = time.Second
)

func newExports() *cobra.Command {
	var file string
	var asJSON bool
	c := &cobra.Command{
		Use:   "exports --config FILE [--json]",
		Short: "Show what a running server exports, and who uses it",
		Long: `exports asks the server that runs with FILE, by its control socket, for its exports, those on demand that are open among
them: size, lease (epoch, and how long it holds if it is not renewed), connections with their clients, and what they have read and
written in the last second. It changes nothing.

The socket is where control says in FILE, else beside the first unix socket of listen, and only the user that runs the server may
open it.`,
		Example: `  btnbd exports --config /etc/blocktree/btnbd.yaml
  btnbd exports --config btnbd.yaml --json`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args(),
	}
	c.Flags().StringVar(&file, "config", "", "configuration of the server (btnbd.yaml)")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	_ = c.MarkFlagFilename("config", "yaml") // for completion only
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := cli.RequireFlags(c, "config"); err != nil {
			return err
		}
		cfg, err := config.LoadNBD(config.Source{File: file})
		if err != nil {
			return err
		}
		socket := cfg.ControlSocket()
		if socket == "" {
			return cli.Invalid("write control: and the path of a socket in the file, and start the server again", "%s gives the server no control socket", file)
		}
		r, err := measure(c.Context(), socket)
		if err != nil {
			return err
		}
		if asJSON {
			return cli.PrintJSON(c.OutOrStdout(), r)
		}
		return printReport(c.OutOrStdout(), r)
	}
	return c
}

// measure asks twice, for the rates.
func measure(ctx context.Context, socket string) (*report, error) {
	first, err := ask(ctx, socket)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(ratesOver):
	}
	second, err := ask(ctx, socket)
	if err != nil {
		return nil, err
	}
	second.addRates(first, time.Since(began))
	return second, nil
}

// ask takes one report.
func ask(ctx context.Context, socket string) (*report, error) {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	nc, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, controlError(socket, err)
	}
	defer nc.Close() // only read from
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	text, err := io.ReadAll(io.LimitReader(nc, reportBytesMax+1))
	if err != nil {
		return nil, controlError(socket, err)
	}
	var r report
	if len(text) > reportBytesMax {
		err = errors.New("too much")
	} else {
		err = json.Unmarshal(text, &r)
	}
	switch {
	case err != nil:
		return nil, &blocktree.Error{Op: "control socket", Path: socket, Kind: blocktree.Corrupt, Err: err,
			Hint: "see in the server's log what stopped it, or whether another process has the socket"}
	case r.Version > reportVersion:
		return nil, &blocktree.Error{Op: "control socket", Path: socket, Kind: blocktree.NewerFormat, Hint: "use the btnbd that the server is"}
	}
	return &r, nil
}

func controlError(socket string, err error) error {
	e := &blocktree.Error{Op: "control socket", Path: socket, Kind: blocktree.IO, Err: err}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		e.Kind, e.Hint = blocktree.NotFound, "the server does not run, or has control: off; start it with btnbd serve --config FILE"
	case errors.Is(err, fs.ErrPermission):
		e.Kind, e.Hint = blocktree.Permission, "run as the user that runs the server"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, net.ErrClosed):
		e.Kind, e.Hint = blocktree.Timeout, "the server is very busy, or stopping; try again"
	}
	return e
}

// addRates adds what happened since an earlier report. Who was not there then began with nothing.
func (r *report) addRates(before *report, over time.Duration) {
	exports, clients := map[string]trafficReport{}, map[string]trafficReport{}
	client := func(e *exportReport, c *clientReport) string {
		return fmt.Sprint(e.Path, e.ReadOnly, "\x00", c.Address, "\x00", c.Since.UnixNano())
	}
	for i := range before.Exports {
		e := &before.Exports[i]
		exports[fmt.Sprint(e.Path, e.ReadOnly)] = e.trafficReport
		for j := range e.Clients {
			clients[client(e, &e.Clients[j])] = e.Clients[j].trafficReport
		}
	}
	for i := range r.Exports {
		e := &r.Exports[i]
		e.rate(exports[fmt.Sprint(e.Path, e.ReadOnly)], over)
		for j := range e.Clients {
			e.Clients[j].rate(clients[client(e, &e.Clients[j])], over)
		}
	}
}

func (t *trafficReport) rate(before trafficReport, over time.Duration) {
	per := func(now, then uint64) float64 {
		if now < then { // it was counted from the beginning since
			then = 0
		}
		return float64(now-then) / over.Seconds()
	}
	t.rates = &rates{ReadsPerSecond: per(t.Reads, before.Reads), ReadBytesPerSecond: per(t.ReadBytes, before.ReadBytes),
		WritesPerSecond: per(t.Writes, before.Writes), WrittenBytesPerSecond: per(t.WrittenBytes, before.WrittenBytes)}
}

func printReport(w io.Writer, r *report) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprint(t, "EXPORT\tSIZE\tACCESS\tLEASE\tCONNECTIONS\tREADS\tWRITES\n")
	for i := range r.Exports {
		e := &r.Exports[i]
		lease := "none"
		if e.Lease != nil {
			lease = fmt.Sprintf("epoch %d, %.1f s", e.Lease.Epoch, e.Lease.LeftSeconds)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\n", e.Path, cli.FormatSize(e.SizeBytes), accessText(e.ReadOnly), lease, e.Connections, &e.trafficReport)
	}
	for i := range r.Exports {
		e := &r.Exports[i]
		if len(e.Clients) > 0 {
			fmt.Fprintf(t, "\nCLIENT OF %s\tSINCE\tACCESS\tCERTIFICATE\tTLS\tREADS\tWRITES\n", e.Path)
		}
		for j := range e.Clients {
			c := &e.Clients[j]
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", c.Address, c.Since.Local().Format(time.DateTime), accessText(c.ReadOnly), dash(c.Certificate), dash(c.TLS), &c.trafficReport)
		}
	}
	if err := t.Flush(); err != nil {
		return blocktree.E("print", blocktree.IO, err)
	}
	return nil
}

// String is the two columns of the rates.
func (t *trafficReport) String() string {
	column := func(requests, bytes float64) string { return fmt.Sprintf("%.0f/s %.1f MiB/s", requests, bytes/(1<<20)) }
	return column(t.ReadsPerSecond, t.ReadBytesPerSecond) + "\t" + column(t.WritesPerSecond, t.WrittenBytesPerSecond)
}

func accessText(readOnly bool) string {
	if readOnly {
		return "read"
	}
	return "write"
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

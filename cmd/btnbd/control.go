package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"blocktree/blockdev/nbd"
	"blocktree/internal/config"
)

const (
	// controlsMax and controlTimeout bound those who ask what is going on.
	controlsMax    = 4
	controlTimeout = 5 * time.Second

	// controlRetry is the pause after a passing failure to accept one of them.
	controlRetry = time.Second

	// reportVersion is that of the form of a report; it changes when a field changes its meaning, not when one is added.
	reportVersion = 1
)

// report is what the control socket tells, and what `btnbd exports --json` prints.
type report struct {
	Version int            `json:"version"`
	Exports []exportReport `json:"exports"`
}

type exportReport struct {
	Path        string       `json:"path"`
	Description string       `json:"description,omitempty"`
	SizeBytes   uint64       `json:"sizeBytes"`
	ReadOnly    bool         `json:"readOnly"`
	OnDemand    bool         `json:"onDemand"`
	Lease       *leaseReport `json:"lease,omitempty"` // none is taken for reading
	Connections int          `json:"connections"`
	trafficReport
	Clients []clientReport `json:"clients,omitempty"`
}

type leaseReport struct {
	Epoch       uint64  `json:"epoch"`
	LeftSeconds float64 `json:"leftSeconds"` // until it ends, if it is not renewed
}

type clientReport struct {
	Address     string    `json:"address"`
	ReadOnly    bool      `json:"readOnly"`
	TLS         string    `json:"tls,omitempty"`
	Certificate string    `json:"certificate,omitempty"` // as the configuration names it
	Subject     string    `json:"subject,omitempty"`
	Since       time.Time `json:"since"`
	trafficReport
}

// trafficReport counts requests that were answered without an error: of a client since it connected, of an export since it was opened.
type trafficReport struct {
	Reads        uint64 `json:"reads"`
	ReadBytes    uint64 `json:"readBytes"`
	Writes       uint64 `json:"writes"`
	WrittenBytes uint64 `json:"writtenBytes"`
	Others       uint64 `json:"others"` // all else: flushes, trims, zeroes, questions and hints
	*rates              // of the last second; the command adds them
}

type rates struct {
	ReadsPerSecond        float64 `json:"readsPerSecond"`
	ReadBytesPerSecond    float64 `json:"readBytesPerSecond"`
	WritesPerSecond       float64 `json:"writesPerSecond"`
	WrittenBytesPerSecond float64 `json:"writtenBytesPerSecond"`
}

func traffic(t nbd.Traffic) trafficReport {
	return trafficReport{Reads: t.Reads, ReadBytes: t.ReadBytes, Writes: t.Writes, WrittenBytes: t.WriteBytes, Others: t.Others}
}

// makeReport describes what a server serves.
func makeReport(c *config.NBD, uses []nbd.Use) report {
	configured := make(map[string]bool, len(c.Exports))
	for _, e := range c.Exports {
		configured[e.Path] = true
	}
	r := report{Version: reportVersion, Exports: []exportReport{}}
	for _, u := range uses {
		e := exportReport{Path: u.Export.Name, Description: u.Export.Description, SizeBytes: u.Export.Size(), ReadOnly: u.Export.ReadOnly,
			OnDemand: !configured[u.Export.Name], Connections: len(u.Clients), trafficReport: traffic(u.Traffic)}
		if epoch, left, ok := u.Export.Device.Lease(); ok {
			e.Lease = &leaseReport{Epoch: uint64(epoch), LeftSeconds: left.Round(time.Millisecond).Seconds()}
		}
		for _, c := range u.Clients {
			e.Clients = append(e.Clients, clientReport{Address: c.Name, ReadOnly: c.ReadOnly, TLS: c.TLS, Certificate: c.Who.String(), Subject: c.Who.Subject,
				Since: c.Since.UTC().Truncate(time.Second), trafficReport: traffic(c.Traffic)})
		}
		r.Exports = append(r.Exports, e)
	}
	return r
}

// control answers every connection to its socket with a report. It reads nothing.
type control struct {
	report func() report
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	l      net.Listener
	wg     sync.WaitGroup
}

// startControl listens where the configuration says. A socket that nobody asked for, and that cannot be made, is logged only.
func startControl(c *config.NBD, r func() report, log *slog.Logger) (*control, error) {
	k := &control{report: r, log: log}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	path := c.ControlSocket()
	if path == "" {
		return k, nil
	}
	l, err := nbd.Listen("unix:"+path, nbd.SocketMode)
	switch {
	case err != nil && c.Control == "":
		log.Warn("no control socket: btnbd exports will not work", "socket", path, "error", err, "hint", "write control: and a path in the configuration, or control: off")
		return k, nil
	case err != nil:
		k.cancel()
		return nil, err
	}
	k.l = l
	k.wg.Go(k.accept)
	return k, nil
}

func (k *control) accept() {
	room := make(chan struct{}, controlsMax)
	for {
		nc, err := k.l.Accept()
		var passing interface{ Temporary() bool }
		switch {
		case err == nil:
		case k.ctx.Err() != nil:
			return
		case errors.As(err, &passing) && passing.Temporary(): // too many open files, for example
			k.log.Warn("the control socket did not accept", "error", err)
			select {
			case <-k.ctx.Done():
			case <-time.After(controlRetry):
			}
			continue
		default:
			k.log.Error("the control socket is lost", "error", err)
			return
		}
		room <- struct{}{} // each is free in controlTimeout
		k.wg.Go(func() {
			defer func() { <-room }()
			k.answer(nc)
		})
	}
}

func (k *control) answer(nc net.Conn) {
	defer nc.Close()
	defer context.AfterFunc(k.ctx, func() { nc.Close() })()
	if err := nc.SetDeadline(time.Now().Add(controlTimeout)); err != nil {
		return // it is gone
	}
	if err := json.NewEncoder(nc).Encode(k.report()); err != nil {
		k.log.Debug("a report was not taken", "error", err)
	}
}

// close stops it, and waits.
func (k *control) close() {
	k.cancel()
	if k.l != nil {
		k.l.Close() // its loop ends
	}
	k.wg.Wait()
}
